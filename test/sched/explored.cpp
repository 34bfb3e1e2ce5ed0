// What CPUs do to each other at once in this room, under every schedule with few interruptions.

#include <doctest/doctest.h>

#include <vector>

#include <exo/sched/balancer.hpp>
#include <exo/sched/change_notice.hpp>
#include <exo/sched/doorbell.hpp>
#include <exo/sim/explored_atomics.hpp>

#include <exploring.hpp>

using namespace exo;

namespace {

using sim::explored_atomics;

// Two make changes while the task ends: whoever sends a notice holds it until it is put away. Each change is seen by the
// holder, or comes after the end; the task is given up once, and looked at by no holder after that.
struct notices : sim::scenario {
    unsigned threads() const override { return 3; }
    void run(unsigned thread) override
    {
        if (thread == 0) {
            if (notice.end())
                give_it_up();
            return;
        }
        version.fetch_add(1);
        if (!notice.announce())
            return;
        using enum sched::after_notice;
        for (;;) {
            require(!given_up.load(), "looked at after it was given up");
            taken_over.store(version.load());
            switch (notice.put_away()) {
            case done: return;
            case look_again: continue;
            case give_up: give_it_up(); return;
            }
        }
    }
    void give_it_up() { require(!given_up.exchange(true), "given up twice"); }
    void check() override { require(given_up.load(), "never given up"); }

    sched::change_notice<explored_atomics> notice;
    explored_atomics::atomic<unsigned> version;
    explored_atomics::atomic<unsigned> taken_over;
    explored_atomics::atomic<bool> given_up;
};

// Without an end, what was taken over last is the newest.
struct lasting_notices : notices {
    void run(unsigned thread) override
    {
        if (thread != 0)
            notices::run(thread);
    }
    void check() override { require(taken_over.load() == version.load(), "a change was missed"); }
};

// Two leave something each and ring while the owner listens, twice: what was left is seen, or an interrupt is sent.
struct bells : sim::scenario {
    unsigned threads() const override { return 3; }
    void run(unsigned thread) override
    {
        if (thread != 0) {
            left[thread - 1].store(true, std::memory_order_relaxed);
            if (!bell.ring())
                interrupted[thread - 1] = true;
            return;
        }
        for (unsigned round = 0; round < 2; ++round) {
            bell.listen();
            if (bell.stop_listening())
                for (unsigned i = 0; i < 2; ++i)
                    seen[i] = seen[i] || left[i].load(std::memory_order_relaxed);
        }
    }
    void check() override
    {
        for (unsigned i = 0; i < 2; ++i)
            require(seen[i] || interrupted[i], "neither seen nor interrupted");
    }

    sched::doorbell<explored_atomics> bell;
    explored_atomics::atomic<bool> left[2];
    bool seen[2]{}, interrupted[2]{};
};

struct claims : sim::scenario {
    using topology = hal::flat_topology<>;
    using balancer = sched::balancer<topology, explored_atomics>;

    claims()
    {
        for (unsigned cpu = 0; cpu < 3; ++cpu)
            board.publish(cpu, cpu == 1 ? balancer::idle_rank : 5, false, balancer::idle_rank);
    }
    unsigned threads() const override { return 2; }
    void run(unsigned thread) override
    {
        if (const auto cpu = board.claim_idle(2 * thread, all)) {
            require(*cpu == 1, "not idle");
            require(!claimed.exchange(true), "claimed twice");
        }
    }
    void check() override { require(claimed.load(), "not claimed"); }

    topology three{3};
    cpu_set all{cpu_set::first(3)};
    balancer::notice notices[3];
    balancer board{three, notices[0], sizeof(notices[0])};
    explored_atomics::atomic<bool> claimed;
};

} // namespace

TEST_CASE("explored: what a CPU is rung for it sees, or is interrupted for")
{
    CHECK_CLEAN(explore<bells>(3, 2));
}

TEST_CASE("explored: no change is missed, and what ended is given up once")
{
    CHECK_CLEAN(explore<notices>(3, 2));
    CHECK_CLEAN(explore<lasting_notices>(3, 2));
}

TEST_CASE("explored: an idle CPU is claimed by one")
{
    CHECK_CLEAN(explore<claims>(3, 2));
}
