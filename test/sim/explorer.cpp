// The explorer itself, on programs whose behaviour is known.

#include <doctest/doctest.h>

#include <memory>
#include <string>

#include <exo/sim/explored_atomics.hpp>
#include <exo/sim/explored_cpus.hpp>
#include <laws/interrupt_control_laws.hpp>
#include <laws/ipi_laws.hpp>

using namespace exo;

namespace {

using sim::ordering;
template <class T>
using atomic = sim::explored_atomic<T>;

void require(bool holds, const char* what) { sim::explorer::here()->require(holds, what); }
void fence() { sim::explored_atomics::fence(std::memory_order_seq_cst); }

template <class Scenario, class... Args>
sim::explorer exploring(ordering memory, Args... args)
{
    return sim::explorer{[=] { return std::make_unique<Scenario>(args...); }, memory};
}
template <class Scenario, class... Args>
sim::finding explore(ordering memory, Args... args)
{
    return exploring<Scenario>(memory, args...).explore(2, 2);
}

// Both threads may read 0, if stores are delayed past loads.
struct store_buffering : sim::scenario {
    store_buffering(bool with_fence, std::memory_order o) : fenced{with_fence}, order{o} {}
    void run(unsigned thread) override
    {
        at[thread].store(1, order);
        if (fenced)
            fence();
        read[thread] = at[1 - thread].load(std::memory_order_acquire);
    }
    void check() override { require(read[0] + read[1] != 0, "both read 0"); }

    bool fenced;
    std::memory_order order;
    atomic<int> at[2];
    int read[2]{};
};

struct message_passing : sim::scenario {
    void run(unsigned thread) override
    {
        if (thread == 0) {
            message.store(1, std::memory_order_relaxed);
            ready.store(true, std::memory_order_release);
        } else if (ready.load(std::memory_order_acquire)) {
            require(message.load(std::memory_order_relaxed) == 1, "ready without its message");
        }
    }
    atomic<int> message;
    atomic<bool> ready;
};

// Store buffering seen by two more threads would order the stores differently: not on x86.
struct independent_reads : sim::scenario {
    unsigned threads() const override { return 4; }
    void run(unsigned thread) override
    {
        if (thread < 2) {
            at[thread].store(1, std::memory_order_release);
        } else {
            first[thread - 2] = at[thread - 2].load(std::memory_order_acquire);
            second[thread - 2] = at[3 - thread].load(std::memory_order_acquire);
        }
    }
    void check() override
    {
        require(!(first[0] == 1 && second[0] == 0 && first[1] == 1 && second[1] == 0), "two orders of two stores");
    }
    atomic<int> at[2];
    int first[2]{};
    int second[2]{};
};

struct peterson : sim::scenario {
    explicit peterson(bool with_fence) : fenced{with_fence} {}
    void run(unsigned thread) override
    {
        const unsigned other = 1 - thread;
        wants[thread].store(true, std::memory_order_release);
        turn.store(other, std::memory_order_release);
        if (fenced)
            fence();
        while (wants[other].load(std::memory_order_acquire) && turn.load(std::memory_order_acquire) == other)
            sim::explored_atomics::pause();
        require(!inside.exchange(true), "two are inside");
        inside.store(false, std::memory_order_release);
        wants[thread].store(false, std::memory_order_release);
    }
    bool fenced;
    atomic<bool> wants[2];
    atomic<unsigned> turn;
    atomic<bool> inside;
};

struct counting : sim::scenario {
    explicit counting(bool in_one_step) : at_once{in_one_step} {}
    void run(unsigned) override
    {
        if (at_once)
            count.fetch_add(1, std::memory_order_relaxed);
        else
            count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }
    void check() override { require(count.load() == 2, "an update is lost"); }
    bool at_once;
    atomic<int> count;
};

struct two_locks : sim::scenario {
    explicit two_locks(bool in_order) : ordered{in_order} {}
    void run(unsigned thread) override
    {
        auto& first = held[ordered ? 0 : thread];
        auto& second = held[ordered ? 1 : 1 - thread];
        for (auto* lock : {&first, &second})
            while (lock->exchange(true, std::memory_order_acquire))
                sim::explored_atomics::pause();
        for (auto* lock : {&second, &first})
            lock->store(false, std::memory_order_release);
    }
    bool ordered;
    atomic<bool> held[2];
};

} // namespace

TEST_CASE("Stores that are delayed past loads are found, and fences and locked stores keep them from it")
{
    constexpr auto release = std::memory_order_release;
    const auto seen = explore<store_buffering>(ordering::x86_tso, false, release);
    INFO(seen.report());
    CHECK(seen.failure == "both read 0");
    for (const bool fenced : {false, true}) {
        const auto clean = explore<store_buffering>(ordering::x86_tso, fenced,
                                                    fenced ? release : std::memory_order_seq_cst);
        INFO(clean.report());
        CHECK((!clean.failed() && clean.complete));
    }
    CHECK(!explore<store_buffering>(ordering::sequential, false, release).failed());
}

TEST_CASE("Stores of one thread are seen in order, and by all in the same order")
{
    for (const auto memory : {ordering::sequential, ordering::x86_tso}) {
        CHECK(explore<message_passing>(memory).complete);
        CHECK(explore<independent_reads>(memory).complete);
    }
}

TEST_CASE("Peterson's lock needs its fence")
{
    CHECK(explore<peterson>(ordering::x86_tso, false).failure == "two are inside");
    CHECK(explore<peterson>(ordering::x86_tso, true).complete);
    CHECK(explore<peterson>(ordering::sequential, false).complete);
}

TEST_CASE("An update that is lost between a load and a store is found")
{
    for (const auto memory : {ordering::sequential, ordering::x86_tso, ordering::late_locked}) {
        CHECK(explore<counting>(memory, false).failure == "an update is lost");
        CHECK(explore<counting>(memory, true).complete);
    }
}

TEST_CASE("A deadlock is found, and locks taken in order have none")
{
    const auto found = explore<two_locks>(ordering::x86_tso, false);
    INFO(found.report());
    CHECK(found.failure.starts_with("nobody can go on"));
    CHECK(explore<two_locks>(ordering::x86_tso, true).complete);
}

TEST_CASE("A failing schedule can be had again, however it was found")
{
    auto peterson_explored = exploring<peterson>(ordering::x86_tso, false);
    const auto sampled = peterson_explored.sample(1, 10'000);
    INFO(sampled.report());
    REQUIRE(sampled.failed());
    for (const auto& found : {sampled, peterson_explored.explore(2, 2)}) {
        INFO(found.report());
        auto another = exploring<peterson>(ordering::x86_tso, false);
        const auto again = another.replay(found.schedule);
        CHECK(again.failure == found.failure);
        CHECK(again.schedule == found.schedule);
    }
    CHECK(!peterson_explored.replay("").failed());
    CHECK(exploring<peterson>(ordering::x86_tso, false).sample(1, 10'000).schedule == sampled.schedule);
}

TEST_CASE("The fewest interruptions that it takes are found")
{
    struct handshake : sim::scenario {
        void run(unsigned thread) override
        {
            if (thread == 0) {
                if (x.load() == 1)
                    y.store(1);
                if (x.load() == 2)
                    z.store(1);
            } else {
                x.store(1);
                x.store(y.load() == 1 ? 2 : 3);
                require(z.load() == 0, "all the way");
            }
        }
        atomic<int> x, y, z;
    };
    auto explored = exploring<handshake>(ordering::x86_tso);
    CHECK(explored.explore(2, 2).complete);
    CHECK(explored.explore(3, 3).failure == "all the way");
}

TEST_CASE("Read-modify-writes that pass through the store buffer are atomic, but no fences")
{
    struct announced : sim::scenario {
        void run(unsigned thread) override
        {
            at[thread].fetch_add(1);
            read[thread] = at[1 - thread].load();
        }
        void check() override { require(read[0] + read[1] != 0, "both read 0"); }
        atomic<int> at[2];
        int read[2]{};
    };
    CHECK(explore<announced>(ordering::x86_tso).complete);
    CHECK(explore<announced>(ordering::late_locked).failed());
}

TEST_CASE("A check that fails in a run fails the run; a run that does not end fails as well")
{
    struct broken : sim::scenario {
        void run(unsigned) override { EXO_CHECK(count.fetch_add(1) == 0); }
        atomic<int> count;
    };
    CHECK(explore<broken>(ordering::x86_tso).failure.ends_with("check failed: count.fetch_add(1) == 0"));
    struct endless : sim::scenario {
        void run(unsigned thread) override
        {
            while (turn.load() == thread || turn.load() != 2)
                turn.store(thread);
        }
        atomic<unsigned> turn;
    };
    CHECK(explore<endless>(ordering::x86_tso).failure == "the run does not end");
}

TEST_CASE("The CPUs of a scenario keep the laws of calls and of interrupts")
{
    struct lawful : sim::scenario {
        unsigned threads() const override { return 3; }
        void run(unsigned thread) override
        {
            if (thread == 0) {
                laws::check_interrupt_control(cpus);
                laws::check_ipi(cpus, cpus, cpus, cpu_set::first(3));
            }
        }
        sim::explored_cpus cpus{3};
    };
    CHECK(explore<lawful>(ordering::x86_tso).complete);
}

TEST_CASE("CPUs may call each other with interrupts off, but one that never looks up keeps its caller for good")
{
    struct calling : sim::scenario {
        explicit calling(bool answering) : answers{answering} {}
        void run(unsigned thread) override
        {
            const auto saved = cpus.save_and_disable();
            while (!answers && thread == 1 && served[0].load() == 0)
                sim::explored_atomics::pause();
            cpus.call(
                cpu_set::of(1 - thread), [](void* count) noexcept { static_cast<atomic<int>*>(count)->fetch_add(1); },
                &served[thread]);
            cpus.restore(saved);
            require(served[thread].load() == 1, "a call returned before it was served");
        }
        bool answers;
        sim::explored_cpus cpus{2};
        atomic<int> served[2];
    };
    CHECK(explore<calling>(ordering::x86_tso, true).complete);
    const auto found = explore<calling>(ordering::x86_tso, false);
    CHECK(found.failure == "nobody can go on: thread 0 waits for an answer; thread 1 spins;");
}
