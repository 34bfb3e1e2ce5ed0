// The scheduler with each CPU on a thread of the host: what passes between CPUs does so truly at once, under
// ThreadSanitizer too.

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include <exo/sched/inheriting_mutex.hpp>
#include <exo/sched/policies/fixed_priority.hpp>
#include <exo/sched/policies/round_robin.hpp>
#include <exo/sched/run_queue.hpp>
#include <exo/sched/scheduler.hpp>
#include <exo/sim/context.hpp>
#include <exo/sync/any_parker.hpp>
#include <exo/sync/mutex.hpp>
#include <laws/parker_laws.hpp>

using namespace exo;

namespace {

// CPUs whose interrupts are looked for when they are enabled, and in the halt.
class threaded_cpus {
public:
    explicit threaded_cpus(unsigned count) : cpus_(count) {}

    void enter(unsigned cpu) { here = cpu; }
    void kick(unsigned cpu)
    {
        cpu_state& c = cpus_[cpu];
        const std::lock_guard lock{c.mutex};
        c.kicked = true;
        c.wake.notify_one();
    }
    void kick_all()
    {
        for (unsigned i = 0; i < cpus_.size(); ++i)
            kick(i);
    }

    using state = bool;
    bool save_and_disable() noexcept { return std::exchange(cpus_[here].enabled, false); }
    void restore(bool saved) noexcept
    {
        if (!saved)
            return;
        if (due(cpus_[here]))
            interrupt();
        cpus_[here].enabled = true;
    }
    bool enabled() const noexcept { return cpus_[here].enabled; }
    unsigned current_cpu() const noexcept { return here; }
    unsigned cpu_limit() const noexcept { return static_cast<unsigned>(cpus_.size()); }
    instant now() const noexcept
    {
        const auto since = std::chrono::steady_clock::now() - start_;
        return instant{static_cast<std::uint64_t>(std::chrono::nanoseconds{since}.count())};
    }
    void arm(instant deadline) noexcept { cpus_[here].deadline = deadline; }
    void halt_until_interrupt() noexcept
    {
        cpu_state& c = cpus_[here];
        {
            std::unique_lock lock{c.mutex};
            if (c.deadline == instant::never()) {
                c.wake.wait(lock, [&] { return c.kicked.load(); });
            } else {
                const duration left = c.deadline - now();
                c.wake.wait_for(lock, std::chrono::nanoseconds{left.nanoseconds()}, [&] { return c.kicked.load(); });
            }
        }
        interrupt();
    }

    std::function<void()> on_tick, on_kick, before_return;

private:
    struct cpu_state {
        std::mutex mutex;
        std::condition_variable wake;
        std::atomic<bool> kicked{};
        bool enabled{true};
        instant deadline{instant::never()};
    };
    bool due(cpu_state& c) const { return c.kicked || (c.deadline != instant::never() && c.deadline <= now()); }
    void interrupt()
    {
        cpu_state& c = cpus_[here];
        if (c.kicked.exchange(false))
            on_kick();
        if (c.deadline != instant::never() && c.deadline <= now()) {
            c.deadline = instant::never();
            on_tick();
        }
        before_return();
    }

    static inline thread_local unsigned here = 0;
    std::vector<cpu_state> cpus_;
    std::chrono::steady_clock::time_point start_{std::chrono::steady_clock::now()};
};

class threaded_world {
public:
    struct hooks {
        threaded_world& w;
        // Now and then it takes long, so that others meet a thread that has parked but is on its stack still.
        void switching(auto&, auto&, const sched::turn_start&) noexcept
        {
            static thread_local unsigned count = 0;
            if (++count % 8 == 0)
                std::this_thread::sleep_for(std::chrono::microseconds{50});
        }
        void ended(auto&) noexcept
        {
            if (++w.ended == w.threads.size())
                w.machine.kick_all();
        }
        void kick(unsigned cpu) noexcept { w.machine.kick(cpu); }
    };
    using queue = sched::run_queue<sched::fixed_priority, sched::round_robin>;
    using scheduler = sched::scheduler<queue, hal::flat_topology<>, sim::fibers, threaded_cpus, threaded_cpus, threaded_cpus,
                                       threaded_cpus, threaded_cpus, hooks>;
    struct thread {
        explicit thread(std::function<void()> b)
            : body{std::move(b)}, stack(128 * 1024),
              task{"t", stack, [](void* self) noexcept { static_cast<thread*>(self)->body(); }, this}
        {
        }
        std::function<void()> body;
        std::vector<std::byte> stack;
        scheduler::task task;
    };

    explicit threaded_world(unsigned cpus) : topology{cpus}, machine{cpus}, processors(cpus)
    {
        machine.on_tick = [this] { sched.on_tick(); };
        machine.on_kick = [this] { sched.on_kick(); };
        machine.before_return = [this] { sched.preempt_if_needed(); };
    }
    void add(std::function<void()> body) { threads.push_back(std::make_unique<thread>(std::move(body))); }
    // All threads, spread over the CPUs, until they have ended. The first CPU's starter sends them out.
    void run()
    {
        const unsigned cpus = machine.cpu_limit();
        threads.push_back(std::make_unique<thread>([this, cpus] {
            for (std::size_t i = 0; i + 1 < threads.size(); ++i)
                sched.start(threads[i]->task, static_cast<unsigned>(i + 1) % cpus);
        }));
        sched.start(threads.back()->task, 0);
        std::vector<std::thread> hosts;
        for (unsigned cpu = 0; cpu < cpus; ++cpu)
            hosts.emplace_back([this, cpu] {
                machine.enter(cpu);
                sched.run_until([this] { return ended == threads.size(); });
            });
        for (std::thread& h : hosts)
            h.join();
    }

    hal::flat_topology<> topology;
    sim::fibers context;
    threaded_cpus machine;
    std::vector<scheduler::processor> processors;
    hooks own{*this};
    scheduler sched{processors, topology, context, machine, machine, machine, machine, machine, own};
    sync::parker_adapter<scheduler, scheduler> parker{sched, sched};
    std::vector<std::unique_ptr<thread>> threads;
    std::atomic<std::size_t> ended{};
};

} // namespace

TEST_CASE("the scheduler keeps the laws of a parker with CPUs that run truly at once")
{
    laws::check_parker([](std::vector<std::function<void(sync::any_parker&)>> bodies) {
        threaded_world w{2};
        for (auto& body : bodies)
            w.add([&] { body(w.parker); });
        w.run();
        REQUIRE(w.ended == bodies.size() + 1);
    });
}

TEST_CASE("threads of several CPUs that run truly at once exclude each other by a mutex and hand items over")
{
    threaded_world w{3};
    sync::mutex<sync::lock_rank::inode> mutex;
    sync::wait_queue changed;
    int items = 0; // plain: under the mutex
    int taken = 0;
    constexpr int each = 100;
    for (int i = 0; i < 3; ++i) {
        w.add([&] {
            for (int n = 0; n < each; ++n) {
                auto guard = mutex.lock(w.parker);
                ++items;
                guard.unlock();
                changed.wake_one(w.parker);
            }
        });
        w.add([&] {
            for (int n = 0; n < each; ++n)
                changed.wait(w.parker, [&] {
                    auto guard = mutex.lock(w.parker);
                    if (items == 0)
                        return false;
                    --items;
                    ++taken;
                    return true;
                });
        });
    }
    w.run();
    CHECK(taken == 3 * each);
    CHECK(items == 0);
}

TEST_CASE("threads that CPUs hand each other are where they may be, whatever changes of them come at the same time")
{
    constexpr unsigned cpus = 3;
    constexpr unsigned count = 9;
    constexpr int each = 60;
    for (unsigned seed = 0; seed < 8; ++seed) {
        threaded_world w{cpus};
        std::vector<int> rounds(count); // plain: each thread's own, wherever it runs
        std::atomic<unsigned> finished{};
        sync::wait_queue bell;
        for (unsigned i = 0; i < count; ++i)
            w.add([&, i] {
                std::mt19937 random{seed * count + i};
                for (int n = 0; n < each; ++n) {
                    ++rounds[i];
                    auto& other = w.threads[random() % count]->task;
                    switch (random() % 6) {
                    case 0: w.sched.yield(); break;
                    case 1: w.sched.park(w.sched.now() + microseconds(random() % 50)); break;
                    case 2: w.sched.unpark(&other); break;
                    case 3: {
                        using fixed = sched::fixed_priority;
                        using parameters = threaded_world::queue::parameters;
                        const auto priority = 1 + static_cast<unsigned>(random() % 2);
                        w.sched.set_parameters(other, random() % 2 ? parameters::of<sched::round_robin>({})
                                                                   : parameters::of<fixed>(fixed::fifo(priority)));
                        break;
                    }
                    default: {
                        cpu_set allowed = cpu_set::of(static_cast<unsigned>(random() % cpus));
                        if (random() % 2)
                            allowed.add(static_cast<unsigned>(random() % cpus));
                        const bool self = random() % 2;
                        REQUIRE(w.sched.set_affinity(self ? *w.sched.current() : other, allowed).has_value());
                    }
                    }
                }
                ++finished;
                bell.wake_all(w.parker);
                bell.wait(w.parker, [&] { return finished == count; });
            });
        w.run();
        CHECK(finished == count);
        for (const int r : rounds)
            CHECK(r == each);
        for (unsigned cpu = 0; cpu < cpus; ++cpu)
            CHECK(w.sched.load(cpu) == 0);
    }
}

TEST_CASE("an inheriting mutex excludes threads of CPUs that run truly at once, some of which give up")
{
    threaded_world w{3};
    sched::inheriting_mutex<threaded_world::scheduler, sync::lock_rank::futexes> mutex;
    int count = 0; // plain: under the mutex
    std::atomic<int> counted{};
    std::atomic<int> gave_up{};
    for (unsigned i = 0; i < 6; ++i)
        w.add([&, i] {
            std::mt19937 random{i};
            for (int n = 0; n < 2000; ++n) {
                auto guard = mutex.lock(w.sched, random() % 2 ? instant::never()
                                                              : w.sched.now() + microseconds(random() % 20));
                if (!guard) {
                    ++gave_up;
                    continue;
                }
                ++count;
                ++counted;
                if (random() % 4 == 0)
                    w.sched.park(w.sched.now() + microseconds(random() % 20));
            }
        });
    w.run();
    CHECK(count == counted);
    CHECK(counted + gave_up == 6 * 2000);
    CHECK(gave_up > 0);
    CHECK(!mutex.held());
}
