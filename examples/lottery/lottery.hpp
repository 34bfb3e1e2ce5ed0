// Lottery scheduling (Waldspurger and Weihl, OSDI 1994): who runs for the next quantum is drawn by lot. A thread wins
// in proportion to its tickets, so shares follow tickets, and none that has any starves.
//
// A thread that gives up the CPU after a fraction f of its quantum has its tickets count 1 / f until it wins again
// (compensation tickets), so that it gets its share too. One that was preempted goes on with the rest of its quantum.
// Of the laws of SchedPolicy one is left to chance: the order of equals after a turn.

#pragma once

#include <cstddef>
#include <cstdint>

#include <exo/base/check.hpp>
#include <exo/base/list.hpp>
#include <exo/sched/policy.hpp>

class lottery {
public:
    static constexpr exo::duration quantum = exo::milliseconds(10);

    struct parameters {
        std::uint32_t tickets{100};
        friend bool operator==(const parameters&, const parameters&) = default;
    };

    class entity {
    public:
        void set(const lottery::parameters& p)
        {
            EXO_CHECK(p.tickets > 0);
            parameters_ = p;
            value_ = p.tickets;
        }
        [[nodiscard]] lottery::parameters parameters() const { return parameters_; }

    private:
        friend lottery;
        exo::list_hook hook_;
        lottery::parameters parameters_;
        std::uint64_t value_{parameters_.tickets}; // what its tickets count, with compensation
        exo::duration left_{};                     // of its quantum
    };

    void enqueue(entity& e, exo::sched::arrival, exo::instant) noexcept { put(e); }
    void dequeue(entity& e) noexcept
    {
        if (e.hook_.linked())
            take(e);
        else
            compensate(e);
        if (&e == resumes_)
            resumes_ = nullptr;
    }
    entity* pick(exo::instant) noexcept
    {
        entity* winner = resumes_ ? resumes_ : draw();
        if (!winner)
            return nullptr;
        take(*winner);
        if (winner != resumes_) {
            winner->value_ = winner->parameters_.tickets;
            winner->left_ = quantum;
        }
        resumes_ = nullptr;
        return winner;
    }
    void requeue(entity& e, exo::sched::departure why, exo::instant) noexcept
    {
        if (why == exo::sched::departure::preempted)
            resumes_ = &e;
        else
            compensate(e);
        put(e);
    }

    bool tick(entity& e, exo::duration ran, exo::instant) noexcept
    {
        e.left_ = e.left_ - ran;
        return e.left_ <= exo::duration{} && size_ != 0;
    }
    [[nodiscard]] exo::instant turn_ends(const entity& e, exo::instant now) const noexcept
    {
        return size_ == 0 ? exo::instant::never() : now + (e.left_ > exo::duration{} ? e.left_ : exo::duration{});
    }
    [[nodiscard]] bool preempts(const entity&, const entity&) const noexcept { return false; }
    [[nodiscard]] exo::instant next_release() const noexcept { return exo::instant::never(); }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    template <class Visit>
    void visit_movable(Visit visit)
    {
        for (entity& e : queue_)
            if (!visit(e))
                return;
    }
    [[nodiscard]] std::uint64_t rank(const entity&) const noexcept { return 0; }
    [[nodiscard]] static std::uint64_t rank_of(const parameters&, exo::instant) noexcept { return 0; }
    [[nodiscard]] bool urgent(const entity&) const noexcept { return false; }
    [[nodiscard]] std::uint32_t weight(const entity& e) const noexcept { return e.parameters_.tickets; }

private:
    entity* draw()
    {
        if (size_ == 0)
            return nullptr;
        std::uint64_t ticket = random() % drawn_from_;
        for (entity& e : queue_) {
            if (ticket < e.value_)
                return &e;
            ticket -= e.value_;
        }
        EXO_PANIC("more tickets than threads hold");
    }
    void put(entity& e)
    {
        queue_.push_back(e);
        drawn_from_ += e.value_;
        ++size_;
    }
    void take(entity& e)
    {
        queue_.erase(e);
        drawn_from_ -= e.value_;
        --size_;
    }
    // At most hundredfold, whoever sleeps at once.
    static void compensate(entity& e)
    {
        const exo::duration least = quantum / 100;
        const exo::duration used = quantum - e.left_;
        if (e.left_ <= exo::duration{})
            return;
        const exo::duration counted = used > least ? used : least;
        e.value_ = e.parameters_.tickets * static_cast<std::uint64_t>(quantum.nanoseconds()) /
                   static_cast<std::uint64_t>(counted.nanoseconds());
    }
    // splitmix64 (Steele, Lea and Flood 2014).
    std::uint64_t random()
    {
        std::uint64_t z = seed_ += 0x9e3779b97f4a7c15;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }

    exo::list<entity, &entity::hook_> queue_;
    std::uint64_t drawn_from_{}; // the tickets of those that wait
    std::size_t size_{};
    entity* resumes_{};
    std::uint64_t seed_{1};
};
static_assert(exo::sched::SchedPolicy<lottery>);
