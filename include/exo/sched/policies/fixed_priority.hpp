// SCHED_FIFO and SCHED_RR of POSIX.1-2017 (2.8.4, Process Scheduling): priorities 1 to 99, the highest runs.
//
// Both disciplines share the list of their priority, as the standard has it: a FIFO thread runs until it sleeps, yields
// or something higher comes; a round-robin thread also goes to the end of its list when its quantum is used up.
// Constant time whatever the number of threads: a bitmap tells which lists may have any. What a switch between lone
// threads would undo again is left alone: the running thread keeps its place at the head of its list, and a bit is
// cleared only when its list is found empty.

#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include <exo/base/check.hpp>
#include <exo/base/ring.hpp>
#include <exo/sched/policy.hpp>

namespace exo::sched {

class fixed_priority {
public:
    static constexpr unsigned lowest = 1;
    static constexpr unsigned highest = 99;
    static constexpr duration default_quantum = milliseconds(100);

    struct parameters {
        std::uint8_t priority{lowest};
        duration quantum{}; // zero: FIFO, which runs until it gives up the CPU

        [[nodiscard]] bool takes_turns() const { return quantum != duration{}; }
        friend bool operator==(const parameters&, const parameters&) = default;
    };
    [[nodiscard]] static parameters fifo(unsigned priority) { return {static_cast<std::uint8_t>(priority), {}}; }
    [[nodiscard]] static parameters round_robin(unsigned priority, duration quantum = default_quantum)
    {
        return {static_cast<std::uint8_t>(priority), quantum};
    }

    class entity {
    public:
        void set(const fixed_priority::parameters& p)
        {
            EXO_CHECK(p.priority >= lowest && p.priority <= highest && p.quantum >= duration{} && !hook_.linked());
            parameters_ = p;
            left_ = p.quantum;
        }
        [[nodiscard]] fixed_priority::parameters parameters() const { return parameters_; }

    private:
        friend fixed_priority;
        list_hook hook_;
        fixed_priority::parameters parameters_;
        duration left_{};
    };

    // Whose priority was lowered, by inheritance that ended or by a change, goes to the head, as on Linux and as rule 8
    // of 2.8.4 has it for pthread_setschedprio(); behind the one that runs.
    void enqueue(entity& e, arrival how, instant) noexcept
    {
        refill(e);
        queue& own = level(e.parameters_.priority);
        if (how != arrival::changed)
            own.push_back(e);
        else if (running_ && running_->parameters_.priority == e.parameters_.priority)
            own.insert_after(*running_, e);
        else
            own.push_front(e);
        std::uint64_t& word = occupied_[e.parameters_.priority / word_bits];
        const std::uint64_t bit = std::uint64_t{1} << (e.parameters_.priority % word_bits);
        if (!(word & bit))
            word |= bit;
        if (e.parameters_.priority > top_)
            top_ = e.parameters_.priority;
        ++count_;
    }
    void dequeue(entity& e) noexcept
    {
        level(e.parameters_.priority).erase(e);
        if (&e == running_)
            running_ = nullptr;
        --count_;
    }
    entity* pick(instant) noexcept
    {
        EXO_CHECK(!running_);
        running_ = level(top_).front();
        if (!running_ && count_ != 0)
            running_ = search();
        return running_;
    }
    void requeue(entity& e, departure why, instant) noexcept
    {
        running_ = nullptr;
        if (why == departure::preempted)
            return;
        refill(e);
        queue& own = level(e.parameters_.priority);
        if (own.back() != &e)
            own.rotate();
    }

    bool tick(entity& e, duration ran, instant) noexcept
    {
        if (!e.parameters_.takes_turns())
            return false;
        e.left_ = e.left_ - ran;
        return e.left_ <= duration{} && rivals(e);
    }
    [[nodiscard]] instant turn_ends(const entity& e, instant now) const noexcept
    {
        if (!e.parameters_.takes_turns() || !rivals(e))
            return instant::never();
        return now + (e.left_ > duration{} ? e.left_ : duration{});
    }
    [[nodiscard]] bool preempts(const entity& woken, const entity& running) const noexcept
    {
        return woken.parameters_.priority > running.parameters_.priority;
    }
    [[nodiscard]] instant next_release() const noexcept { return instant::never(); }
    [[nodiscard]] std::size_t size() const noexcept { return count_ - (running_ != nullptr); }
    // The highest first: threads are placed so that the highest of the machine run.
    template <class Visit>
    void visit_movable(Visit visitor)
    {
        visit([&](entity& e) { return &e == running_ || visitor(e); });
    }
    [[nodiscard]] std::uint64_t rank(const entity& e) const noexcept { return rank_of(e.parameters_, {}); }
    [[nodiscard]] static std::uint64_t rank_of(const parameters& p, instant) noexcept { return highest - p.priority; }
    [[nodiscard]] bool urgent(const entity&) const noexcept { return true; }
    [[nodiscard]] std::uint32_t weight(const entity&) const noexcept { return default_weight; }

private:
    using queue = ring<entity, &entity::hook_>;
    static constexpr unsigned word_bits = 64;
    static constexpr unsigned words = highest / word_bits + 1;

    static unsigned highest_bit(std::uint64_t word) { return static_cast<unsigned>(std::bit_width(word)) - 1; }
    queue& level(unsigned priority) { return queues_[priority - lowest]; }
    static void refill(entity& e)
    {
        if (e.left_ <= duration{})
            e.left_ = e.parameters_.quantum;
    }
    // Another waits at the priority of the running one, which is at the head.
    [[nodiscard]] bool rivals(const entity& e) const { return queues_[e.parameters_.priority - lowest].back() != &e; }

    // The first of the highest list that has any; what is found empty is not looked at again.
    entity* search() noexcept
    {
        for (unsigned word = words; word-- > 0;)
            while (occupied_[word] != 0) {
                const unsigned index = highest_bit(occupied_[word]);
                top_ = word * word_bits + index;
                if (entity* first = level(top_).front())
                    return first;
                occupied_[word] &= ~(std::uint64_t{1} << index);
            }
        return nullptr;
    }
    // Calls visitor(e) from the first of the highest list to the last of the lowest, until it returns false.
    template <class Visitor>
    void visit(Visitor visitor)
    {
        for (unsigned word = words; word-- > 0;) {
            for (std::uint64_t left = occupied_[word]; left != 0;) {
                const unsigned index = highest_bit(left);
                if (!level(word * word_bits + index).visit(visitor))
                    return;
                left &= ~(std::uint64_t{1} << index);
            }
        }
    }

    queue queues_[highest - lowest + 1];
    std::uint64_t occupied_[words]{};
    unsigned top_{lowest}; // above it there is none
    entity* running_{};
    std::size_t count_{}; // the running one too
};
static_assert(SchedPolicy<fixed_priority>);

} // namespace exo::sched
