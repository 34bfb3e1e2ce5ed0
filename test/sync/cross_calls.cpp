#include <doctest/doctest.h>

#include <atomic>
#include <thread>
#include <vector>

#include <exo/sim/explored_atomics.hpp>
#include <exo/sim/explored_cpus.hpp>
#include <exo/sync/cross_calls.hpp>

#include <exploring.hpp>
#include <laws/ipi_laws.hpp>

using namespace exo;

namespace {

using sim::explored_atomics;

struct nobody_signalled {
    void signal(unsigned) noexcept {}
};

// CPUs that call all others at once, with interrupts off, and serve until all are done.
template <unsigned Cpus>
struct all_call : sim::scenario {
    using calls_type = sync::cross_calls<nobody_signalled, sim::explored_cpus, explored_atomics>;

    unsigned threads() const override { return Cpus; }
    void run(unsigned self) override
    {
        const auto saved = cpus.save_and_disable();
        {
            call mine{*this, self};
            calls.call(cpu_set::first(Cpus), &call::serve, &mine);
            require(mine.served.load() == Cpus - 1, "a call returns before all have served it");
            mine.valid.store(false, std::memory_order_relaxed);
        }
        done.fetch_add(1, std::memory_order_acq_rel);
        while (done.load(std::memory_order_acquire) != Cpus) {
            calls.serve();
            explored_atomics::pause();
        }
        cpus.restore(saved);
    }
    void check() override { require(served == Cpus * (Cpus - 1), "a call is served twice, or not"); }

    struct call {
        all_call& all;
        unsigned from;
        explored_atomics::atomic<bool> valid{true};
        explored_atomics::atomic<unsigned> served{};

        static void serve(void* argument) noexcept
        {
            auto& c = *static_cast<call*>(argument);
            require(c.valid.load(std::memory_order_relaxed), "a call is served after it returned");
            require(c.all.cpus.current_cpu() != c.from, "a CPU serves itself");
            c.served.fetch_add(1, std::memory_order_relaxed);
            ++c.all.served;
        }
    };
    sim::explored_cpus cpus{Cpus};
    nobody_signalled signaller;
    std::vector<calls_type::processor> processors = std::vector<calls_type::processor>(Cpus);
    calls_type calls{processors, signaller, cpus};
    explored_atomics::atomic<unsigned> done{};
    unsigned served{};
};

// CPUs that post calls to all, themselves too, and serve when they are signalled; what the first gets is posted again
// when it runs.
template <unsigned Cpus>
struct all_post : sim::scenario {
    struct signals {
        void signal(unsigned cpu) noexcept { pending[cpu].store(true, std::memory_order_release); }
        explored_atomics::atomic<bool> pending[Cpus]{};
    };
    using calls_type = sync::cross_calls<signals, sim::explored_cpus, explored_atomics>;

    struct call : calls_type::posted {
        call() : calls_type::posted{&call::run} {}
        static void run(calls_type::posted& p) noexcept
        {
            auto& c = static_cast<call&>(p);
            require(c.all->cpus.current_cpu() == c.to, "a call runs elsewhere");
            require(!c.all->cpus.enabled(), "a call runs with interrupts on");
            if (++c.runs < c.times)
                c.all->calls.post(c.to, c);
        }
        all_post* all{};
        unsigned to{}, runs{}, times{};
    };

    all_post()
    {
        for (unsigned from = 0; from < Cpus; ++from)
            for (unsigned to = 0; to < Cpus; ++to) {
                call& c = posts[from][to];
                c.all = this, c.to = to, c.times = to == 0 ? 2 : 1;
            }
    }
    unsigned threads() const override { return Cpus; }
    void run(unsigned self) override
    {
        const auto saved = cpus.save_and_disable();
        for (unsigned to = 0; to < Cpus; ++to)
            calls.post(to, posts[self][to]);
        done.fetch_add(1, std::memory_order_acq_rel);
        const auto serve = [&] {
            const bool signalled = signaller.pending[self].exchange(false, std::memory_order_acquire);
            if (signalled)
                calls.serve();
            return signalled;
        };
        while (done.load(std::memory_order_acquire) != Cpus) {
            serve();
            explored_atomics::pause();
        }
        while (serve()) {}
        cpus.restore(saved);
    }
    void check() override
    {
        for (const auto& of_one : posts)
            for (const call& c : of_one)
                require(c.runs == c.times, "a posted call runs twice, or never");
    }

    sim::explored_cpus cpus{Cpus};
    signals signaller;
    std::vector<typename calls_type::processor> processors = std::vector<typename calls_type::processor>(Cpus);
    calls_type calls{processors, signaller, cpus};
    call posts[Cpus][Cpus];
    explored_atomics::atomic<unsigned> done{};
};

// A CPU for each host thread, which takes its interrupts when it looks.
struct host_cpus {
    using state = bool;
    bool save_and_disable() noexcept { return std::exchange(on, false); }
    void restore(bool saved) noexcept { on = saved; }
    bool enabled() noexcept { return on; }
    unsigned current_cpu() const noexcept { return self; }
    unsigned cpu_limit() const noexcept { return 4; }
    void signal(unsigned cpu) noexcept { signals[cpu].fetch_add(1); }

    static inline thread_local unsigned self = 0;
    static inline thread_local bool on = true;
    std::atomic<unsigned> signals[4]{};
};

} // namespace

TEST_CASE("explored: CPUs that call each other with interrupts off are served, each once and before the call returns")
{
    CHECK_CLEAN(explore<all_call<2>>(2, 1));
}

TEST_CASE("explored: a call that nobody waits for runs once, where it was posted to, whatever else is posted meanwhile")
{
    CHECK_CLEAN(explore<all_post<2>>(2, 1));
    CHECK_CLEAN(explore<all_post<3>>(1, 1));
}

TEST_CASE("calls between CPUs keep the laws of an Ipi, and signal whom they call")
{
    using calls_type = sync::cross_calls<host_cpus, host_cpus>;
    host_cpus cpus;
    std::vector<calls_type::processor> processors(4);
    calls_type calls{processors, cpus, cpus};
    std::atomic<bool> over{};
    std::vector<std::thread> others;
    for (unsigned cpu = 1; cpu < 4; ++cpu)
        others.emplace_back([&, cpu] {
            host_cpus::self = cpu;
            for (unsigned taken = 0; !over.load();)
                if (cpus.signals[cpu].load() != taken) {
                    ++taken;
                    const bool saved = cpus.save_and_disable();
                    calls.serve();
                    cpus.restore(saved);
                }
        });
    for (int i = 0; i < 100; ++i) {
        laws::check_ipi(calls, cpus, cpus, cpu_set::first(4));
        laws::check_ipi(calls, cpus, cpus, cpu_set::of(2));
        laws::check_ipi(calls, cpus, cpus, cpu_set::of(0)); // nobody else
    }
    over = true;
    for (auto& t : others)
        t.join();
    CHECK(cpus.signals[0] == 0);
    CHECK(cpus.signals[1] == 100);
    CHECK(cpus.signals[2] == 200);
}
