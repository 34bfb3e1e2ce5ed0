// Locks, wait queues and what works without locks, under every schedule with few interruptions.

#include <doctest/doctest.h>

#include <exo/sim/explored_atomics.hpp>
#include <exo/sim/explored_cpus.hpp>
#include <exo/sync/inbox.hpp>
#include <exo/sync/mutex.hpp>
#include <exo/sync/seqlock.hpp>
#include <exo/sync/spin_lock.hpp>
#include <exo/sync/wait_queue.hpp>

#include <exploring.hpp>

using namespace exo;

namespace {

using sim::explored_atomics;

// What must not go unnoticed.
struct without_fences : explored_atomics {
    static void fence(std::memory_order) noexcept {}
};

template <unsigned Threads>
struct on_cpus : sim::scenario {
    unsigned threads() const override { return Threads; }
    sim::explored_cpus cpus{Threads};
};

// Holders come one after the other, and each sees what the one before did.
template <unsigned Threads>
struct exclusion : on_cpus<Threads> {
    template <class Lock>
    void enter(Lock& lock)
    {
        auto guard = lock.lock(this->cpus);
        require(!inside.load(std::memory_order_relaxed), "two hold the lock");
        inside.store(true, std::memory_order_relaxed);
        inside.store(false, std::memory_order_relaxed);
        count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }
    void check() override { require(count.load() == Threads, "an update is lost"); }
    explored_atomics::atomic<bool> inside;
    explored_atomics::atomic<unsigned> count;
};

template <unsigned Threads>
struct spinning : exclusion<Threads> {
    void run(unsigned) override { this->enter(lock); }
    sync::spin_lock<sync::lock_rank::device, sim::explored_cpus, sync::unobserved, explored_atomics> lock;
};

template <unsigned Threads, class Atomics>
struct sleeping : exclusion<Threads> {
    void run(unsigned) override { this->enter(lock); }
    sync::mutex<sync::lock_rank::inode, Atomics> lock;
};

template <class Atomics>
struct waiting : on_cpus<2> {
    void run(unsigned thread) override
    {
        if (thread == 0) {
            queue.wait(cpus, [&] { return happened.load(std::memory_order_relaxed); });
        } else {
            happened.store(true, std::memory_order_relaxed);
            queue.wake_one(cpus);
        }
    }
    sync::basic_wait_queue<Atomics> queue;
    explored_atomics::atomic<bool> happened;
};

// A wake-up of one goes to one that needs it, even if it meets one that leaves.
struct two_waiting : on_cpus<3> {
    void run(unsigned thread) override
    {
        if (thread == 2) {
            for (int i = 0; i < 2; ++i) {
                tickets.fetch_add(1);
                queue.wake_one(cpus);
            }
            return;
        }
        queue.wait(cpus, [&] {
            auto left = tickets.load();
            while (left > 0 && !tickets.compare_exchange_weak(left, left - 1)) {}
            return left > 0;
        });
    }
    sync::basic_wait_queue<explored_atomics> queue;
    explored_atomics::atomic<int> tickets;
};

struct consistent_reads : sim::scenario {
    struct pair {
        std::uint64_t a{};
        std::uint64_t b{};
    };
    void run(unsigned thread) override
    {
        if (thread == 0) {
            for (std::uint64_t i = 1; i <= 2; ++i)
                value.store({i, i});
        } else {
            const auto first = value.load();
            const auto second = value.load();
            require(first.a == first.b && second.a == second.b, "half of a value");
            require(first.a <= second.a, "an older value than before");
        }
    }
    sync::seqlock<pair, explored_atomics> value;
};

// The owner sleeps when its inbox is empty; who finds it empty wakes the owner. The second sender sends all that it has
// at once, or one by one as the first does.
template <unsigned Attempts, bool AtOnce>
struct mail : on_cpus<3> {
    struct letter {
        unsigned from{};
        unsigned number{};
        sync::basic_inbox_hook<explored_atomics> hook;
    };
    void run(unsigned thread) override
    {
        if (thread == 0) {
            owner = cpus.current();
            unsigned next[3]{};
            unsigned got = 0;
            while (got < 4) {
                box.drain([&](letter& l) {
                    require(l.number == next[l.from]++, "letters out of order");
                    ++got;
                });
                if (got < 4)
                    cpus.park(instant::never());
            }
            return;
        }
        letter(&own)[2] = letters[thread - 1];
        for (unsigned i = 0; i < 2; ++i) {
            own[i].from = thread;
            own[i].number = i;
        }
        if (AtOnce && thread == 2) {
            letter* const all[] = {&own[0], &own[1]};
            if (box.push(all).was_empty)
                cpus.unpark(owner);
            return;
        }
        for (letter& l : own)
            if (box.push(l).was_empty)
                cpus.unpark(owner);
    }
    void check() override { require(box.empty(), "a letter too many"); }
    letter letters[2][2];
    sync::inbox<letter, &letter::hook, explored_atomics, Attempts> box;
    sync::thread_handle owner{cpus.current()}; // made as CPU 0
};

} // namespace

TEST_CASE("One thread at a time holds a lock, and all get it")
{
    CHECK_CLEAN(explore<spinning<2>>(3, 2));
    CHECK_CLEAN(explore<spinning<3>>(2, 2));
    CHECK_CLEAN(explore<sleeping<2, explored_atomics>>(3, 2));
    CHECK_CLEAN(explore<sleeping<3, explored_atomics>>(1, 2));
}

TEST_CASE("No wake-up is lost, and the fences of a wait queue are what it takes")
{
    CHECK_CLEAN(explore<waiting<explored_atomics>>(3, 2));
    CHECK_CLEAN(explore<two_waiting>(1, 2));
    CHECK(explore<waiting<without_fences>>(3, 2).failure.starts_with("nobody can go on"));
    CHECK(explore<sleeping<2, without_fences>>(3, 2).failure.starts_with("nobody can go on"));
}

TEST_CASE("A sequence lock's readers see whole values, in the order of the writes")
{
    CHECK_CLEAN(explore<consistent_reads>(3, 2));
}

TEST_CASE("An inbox loses no letter and no wake-up")
{
    CHECK_CLEAN(explore<mail<8, false>>(2, 2));
    CHECK_CLEAN(explore<mail<1, false>>(3, 2)); // most take the exchange
    CHECK_CLEAN(explore<mail<8, true>>(2, 2));
    CHECK_CLEAN(explore<mail<1, true>>(3, 2));
}
