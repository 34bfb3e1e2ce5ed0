// SCHED_FIFO and SCHED_RR of POSIX.1-2017 (2.8.4, Process Scheduling): priorities 1 to 99, the highest runs.
//
// Both disciplines share the list of their priority, as the standard has it: a FIFO thread runs until it sleeps, yields or
// something higher comes; a round-robin thread also goes to the end of its list when its quantum is used up. Constant
// time whatever the number of threads: a bitmap tells which lists have any.

#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include <exo/base/check.hpp>
#include <exo/base/list.hpp>
#include <exo/sched/policy.hpp>

namespace exo::sched {

class fixed_priority {
public:
    static constexpr unsigned lowest = 1;
    static constexpr unsigned highest = 99;
    static constexpr duration default_quantum = milliseconds(100);

    class entity {
    public:
        // Runs until it gives up the CPU.
        void set_fifo(unsigned priority) { set(priority, duration{}); }
        // `quantum` is positive.
        void set_round_robin(unsigned priority, duration quantum = default_quantum) { set(priority, quantum); }

        [[nodiscard]] unsigned priority() const { return priority_; }
        [[nodiscard]] bool takes_turns() const { return quantum_ != duration{}; }
        [[nodiscard]] duration quantum() const { return quantum_; }

    private:
        friend fixed_priority;
        void set(unsigned priority, duration quantum)
        {
            EXO_CHECK(priority >= lowest && priority <= highest && !hook_.linked());
            priority_ = static_cast<std::uint8_t>(priority);
            left_ = quantum_ = quantum;
        }

        list_hook hook_;
        duration quantum_{};
        duration left_{};
        std::uint8_t priority_{lowest};
    };

    void enqueue(entity& e, arrival) noexcept { put_last(e); }
    void dequeue(entity& e) noexcept
    {
        if (e.hook_.linked())
            take(e);
    }
    entity* pick() noexcept
    {
        if (size_ == 0)
            return nullptr;
        entity* next = level(top()).front();
        take(*next);
        return next;
    }
    void requeue(entity& e, departure why) noexcept
    {
        if (why == departure::preempted) {
            level(e.priority_).push_front(e);
            mark(e.priority_);
        } else {
            put_last(e);
        }
    }

    bool tick(entity& e, duration ran) noexcept
    {
        if (!e.takes_turns())
            return false;
        e.left_ = e.left_ - ran;
        return e.left_ <= duration{} && rivals(e);
    }
    [[nodiscard]] instant turn_ends(const entity& e, instant now) const noexcept
    {
        if (!e.takes_turns() || !rivals(e))
            return instant::never();
        return now + (e.left_ > duration{} ? e.left_ : duration{});
    }
    [[nodiscard]] bool preempts(const entity& woken, const entity& running) const noexcept
    {
        return woken.priority_ > running.priority_;
    }
    // The highest that waits: real-time threads are placed so that the highest of the machine run.
    [[nodiscard]] entity* steal_candidate() noexcept { return size_ == 0 ? nullptr : level(top()).front(); }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }

private:
    using queue = list<entity, &entity::hook_>;
    static constexpr unsigned word_bits = 64;

    queue& level(unsigned priority) { return queues_[priority - lowest]; }
    [[nodiscard]] bool rivals(const entity& e) const
    {
        return (occupied_[e.priority_ / word_bits] >> (e.priority_ % word_bits) & 1) != 0;
    }
    // Some list is not empty.
    [[nodiscard]] unsigned top() const
    {
        const unsigned word = occupied_[1] != 0;
        return word * word_bits + static_cast<unsigned>(std::bit_width(occupied_[word])) - 1;
    }

    void mark(unsigned priority)
    {
        occupied_[priority / word_bits] |= std::uint64_t{1} << (priority % word_bits);
        ++size_;
    }
    void put_last(entity& e)
    {
        if (e.left_ <= duration{})
            e.left_ = e.quantum_;
        level(e.priority_).push_back(e);
        mark(e.priority_);
    }
    void take(entity& e)
    {
        queue& from = level(e.priority_);
        from.erase(e);
        if (from.empty())
            occupied_[e.priority_ / word_bits] &= ~(std::uint64_t{1} << (e.priority_ % word_bits));
        --size_;
    }

    queue queues_[highest - lowest + 1];
    std::uint64_t occupied_[highest / word_bits + 1]{};
    std::size_t size_{};
};
static_assert(SchedPolicy<fixed_priority>);

} // namespace exo::sched
