// The scheduler, on CPUs that hand each other threads, under every schedule with few interruptions.

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <exo/hal/topology.hpp>
#include <exo/sched/inheriting_mutex.hpp>
#include <exo/sched/policies/fair.hpp>
#include <exo/sched/policies/fixed_priority.hpp>
#include <exo/sched/run_queue.hpp>
#include <exo/sched/scheduler.hpp>
#include <exo/sim/context.hpp>
#include <exo/sim/explored_atomics.hpp>

#include <exploring.hpp>

using namespace exo;

namespace {

using sim::explored_atomics;

// Stacks of which each is in use by one CPU at a time.
class watched_fibers {
public:
    class context {
        friend watched_fibers;
        sim::fibers::context registers_;
        bool in_use_{};
    };
    void prepare(context& c, std::span<std::byte> stack, hal::context_entry entry, void* argument) noexcept
    {
        fibers_.prepare(c.registers_, stack, entry, argument);
    }
    void switch_to(context& from, context& to) noexcept
    {
        sim::explorer::here()->step("switches stacks");
        require(!to.in_use_, "two CPUs on one stack");
        to.in_use_ = true;
        from.in_use_ = false;
        fibers_.switch_to(from.registers_, to.registers_);
    }

private:
    sim::fibers fibers_;
};
static_assert(hal::Context<watched_fibers>);

// hal::CpuLocal, InterruptControl, Clock, DeadlineTimer and Idle: thread n of the scenario is what CPU n runs, and one
// more lets time pass, to the next deadline, whenever all CPUs wait. Interrupts come when they are enabled, in the
// halt, and where a thread computes.
class explored_machine {
public:
    explicit explored_machine(unsigned cpus) : cpus_(cpus) {}

    std::function<void()> on_kick, on_tick, before_return;
    std::function<bool()> over; // nothing is to be run any more

    using state = bool;
    bool save_and_disable() noexcept { return std::exchange(here().enabled, false); }
    void restore(bool saved) noexcept
    {
        EXO_CHECK(!enabled());
        if (!saved)
            return;
        serve();
        here().enabled = true;
    }
    bool enabled() noexcept { return here().enabled; }

    unsigned current_cpu() const noexcept { return explorer().thread(); }
    unsigned cpu_limit() const noexcept { return static_cast<unsigned>(cpus_.size()); }
    instant now() const noexcept { return now_; }
    void arm(instant deadline) noexcept
    {
        EXO_CHECK(!enabled());
        here().deadline = deadline;
    }
    void halt_until_interrupt() noexcept
    {
        EXO_CHECK(!enabled());
        rest("halts", [this, &c = here()] { return c.interrupted() || over(); });
        serve();
    }

    void kick(unsigned cpu) noexcept
    {
        explorer().step("kicks another CPU");
        explorer().fence();
        cpus_[cpu].kicked = true;
    }
    // A thread computes until `done()`, which reads plain variables, wherever it is meanwhile.
    template <class Done>
    void compute_until(Done done)
    {
        while (!done()) {
            rest("computes", [&done, &c = here()] { return c.interrupted() || done(); });
            restore(save_and_disable());
        }
    }
    // The same, but it looks only after an interrupt, at whatever it likes.
    template <class Done>
    void serve_until(Done done)
    {
        while (!done()) {
            rest("computes", [&c = here()] { return c.interrupted(); });
            restore(save_and_disable());
        }
    }
    // Until every CPU is here, or was, and has no interrupt to come or to serve.
    void leave_together()
    {
        cpu_state& self = here();
        self.leaves = true;
        const auto all_quiet = [&] {
            return std::all_of(cpus_.begin(), cpus_.end(), [&](const cpu_state& c) {
                return c.left || (c.leaves && !c.interrupted() && (c.ready || &c == &self));
            });
        };
        while (!all_quiet()) {
            rest("leaves", [&] { return self.interrupted() || all_quiet(); });
            restore(save_and_disable());
        }
        self.left = true;
    }
    // What the last thread of the scenario does.
    void let_time_pass(instant limit)
    {
        for (;;) {
            explorer().wait("lets time pass", [this] {
                return over() || std::all_of(cpus_.begin(), cpus_.end(),
                                             [](const cpu_state& c) { return c.ready && !c.ready(); });
            });
            if (over())
                return;
            instant next = instant::never();
            for (const cpu_state& c : cpus_)
                next = std::min(next, c.deadline);
            require(next <= limit, "a thread waits for too long");
            now_ = std::max(now_, next);
            for (cpu_state& c : cpus_)
                if (c.deadline <= now_) {
                    c.deadline = instant::never();
                    c.ticked = true;
                }
        }
    }

private:
    struct cpu_state {
        bool enabled{true}, kicked{}, ticked{}, leaves{}, left{};
        instant deadline{instant::never()};
        std::function<bool()> ready; // while it rests: to go on
        [[nodiscard]] bool interrupted() const { return kicked || ticked; }
    };
    static sim::explorer& explorer() { return *sim::explorer::here(); }
    cpu_state& here() noexcept { return cpus_[current_cpu()]; }

    void rest(const char* how, std::function<bool()> ready) noexcept
    {
        cpu_state& c = here();
        c.ready = std::move(ready);
        explorer().wait(how, [&c] { return c.ready(); });
        c.ready = nullptr;
    }
    // With interrupts off; perhaps on another CPU afterwards.
    void serve() noexcept
    {
        while (here().interrupted()) {
            if (std::exchange(here().kicked, false))
                on_kick();
            if (std::exchange(here().ticked, false))
                on_tick();
            before_return();
        }
    }

    std::vector<cpu_state> cpus_;
    instant now_{};
};

static_assert(hal::CpuLocal<explored_machine> && hal::InterruptControl<explored_machine>);
static_assert(hal::Clock<explored_machine> && hal::DeadlineTimer<explored_machine> && hal::Idle<explored_machine>);

// With CPUs that look for work a while before they halt.
class polling_machine : public explored_machine {
public:
    using explored_machine::explored_machine;
    template <class Done>
    void poll(Done done) noexcept
    {
        for (unsigned looks = 0; looks < 2 && !done(); ++looks)
            restore(save_and_disable());
    }
};

// CPUs and threads that each scenario starts as it likes; all have to end.
template <class Machine>
class basic_world : public sim::scenario {
public:
    struct hooks {
        basic_world& w;
        void switching(auto&, auto&, const sched::turn_start&) noexcept {}
        void ended(auto&) noexcept { ++w.ended; }
        void kick(unsigned cpu) noexcept { w.machine.kick(cpu); }
    };
    using queue = sched::run_queue<sched::fixed_priority, sched::fair>;
    using scheduler = sched::scheduler<queue, hal::flat_topology<>, watched_fibers, Machine, Machine, Machine, Machine,
                                       Machine, hooks, trace::recording, explored_atomics>;
    using task = typename scheduler::task;
    struct thread {
        static constexpr std::size_t stack_size = 64 * 1024;
        explicit thread(std::function<void()> b) : body{std::move(b)} {}
        std::function<void()> body;
        std::unique_ptr<std::byte[]> stack{new std::byte[stack_size]};
        task self{"t", {stack.get(), stack_size}, [](void* t) noexcept { static_cast<thread*>(t)->body(); }, this};
    };

    explicit basic_world(unsigned cpus) : topology{cpus}, machine{cpus}, processors(cpus)
    {
        machine.on_kick = [this] { sched.on_kick(); };
        machine.on_tick = [this] { sched.on_tick(); };
        machine.before_return = [this] { sched.preempt_if_needed(); };
        machine.over = [this] { return ended == all.size(); };
    }
    thread& make(std::function<void()> body)
    {
        all.push_back(std::make_unique<thread>(std::move(body)));
        return *all.back();
    }

    unsigned threads() const override { return machine.cpu_limit() + 1; }
    void run(unsigned cpu) override
    {
        if (cpu == machine.cpu_limit())
            return machine.let_time_pass(limit);
        begin(cpu);
        sched.run_until([this] { return machine.over(); });
        machine.leave_together();
    }
    // On each CPU, before it runs threads.
    virtual void begin(unsigned cpu) = 0;
    void check() override
    {
        for (const auto& p : processors)
            require(p.waiting() == 0, "a thread is left in a queue");
        for (unsigned cpu = 0; cpu < processors.size(); ++cpu)
            require(sched.load(cpu) == 0, "a load is left");
    }
    [[nodiscard]] std::uint64_t sum(auto counter) const
    {
        std::uint64_t total = 0;
        for (const auto& p : processors)
            total += (p.metrics().*counter).value();
        return total;
    }

    hal::flat_topology<> topology;
    watched_fibers contexts;
    Machine machine;
    std::vector<typename scheduler::processor> processors;
    hooks own{*this};
    scheduler sched{processors, topology, contexts, machine, machine, machine, machine, machine, own};
    std::vector<std::unique_ptr<thread>> all;
    std::size_t ended{};
    instant limit{}; // of a scenario's time
};
using world = basic_world<explored_machine>;
using counters = world::scheduler::counters;

// How often something happened in all runs of a scenario, and at most in one.
struct tally {
    std::uint64_t refused{}, most_won{};
};

// One CPU has two threads more than it can run, and one that is bound to it, while the others come to have nothing to
// do.
template <unsigned Cpus>
struct stealing : world {
    static inline tally seen;

    stealing() : world{Cpus}
    {
        limit = instant{} + scheduler::balance_interval;
        occupant = &make([this] { machine.compute_until([this] { return ran == 2; }); });
        bound = &make([this] { require(machine.current_cpu() == 0, "not where it is bound to"); });
        occupant->self.set(queue::parameters::of<sched::fixed_priority>(sched::fixed_priority::fifo(1)));
        for (thread* t : {occupant, bound})
            t->self.set_affinity(cpu_set::of(0));
        for (int i = 0; i < 2; ++i)
            make([this] { ++ran; });
    }
    void begin(unsigned cpu) override
    {
        if (cpu == 0)
            for (auto& t : all)
                sched.start(t->self, 0);
    }
    void check() override
    {
        world::check();
        const std::uint64_t tried = sum(&counters::steals_tried), won = sum(&counters::steals_won),
                            refused = sum(&counters::steals_refused);
        require(tried == won + refused, "a request for work without an answer");
        seen.refused += refused;
        seen.most_won = std::max(seen.most_won, won);
    }

    thread* occupant;
    thread* bound;
    unsigned ran{};
};

// A thread sleeps until there is something for it, twice, and another tells it from another CPU; a third may be idle.
template <unsigned Cpus, class Machine = explored_machine>
struct waking : basic_world<Machine> {
    using base = basic_world<Machine>;
    using base::sched, base::make, typename base::thread;
    static inline std::uint64_t kicks_saved; // in all runs

    waking() : base{Cpus}
    {
        sleeper = &make([this] {
            for (int taken = 0; taken < 2; ++taken) {
                while (left.load() == 0)
                    sched.park(instant::never());
                left.fetch_sub(1);
            }
        });
        waker = &make([this] {
            for (int i = 0; i < 2; ++i) {
                left.fetch_add(1);
                sched.unpark(&sleeper->self);
            }
        });
    }
    void begin(unsigned cpu) override
    {
        if (cpu < 2)
            sched.start((cpu == 0 ? sleeper : waker)->self, cpu);
    }
    void check() override
    {
        base::check();
        require(left.load() == 0, "taken too often");
        kicks_saved += this->sum(&base::scheduler::counters::kicks_saved);
    }

    thread* sleeper;
    thread* waker;
    explored_atomics::atomic<int> left;
};

// A thread sleeps until it is told or its time has come, which is the same, twice.
struct timing : world {
    timing() : world{2}
    {
        limit = time(2);
        sleeper = &make([this] {
            for (unsigned i = 1; i <= 2; ++i)
                while (told.load() < i && sched.now() < time(i))
                    sched.park(time(i));
        });
        teller = &make([this] {
            for (unsigned i = 1; i <= 2; ++i) {
                while (sched.now() < time(i))
                    sched.park(time(i));
                told.store(i);
                sched.unpark(&sleeper->self);
            }
        });
    }
    void begin(unsigned cpu) override { sched.start((cpu == 0 ? sleeper : teller)->self, cpu); }
    static instant time(unsigned i) { return instant{} + microseconds(10 * i); }

    thread* sleeper;
    thread* teller;
    explored_atomics::atomic<unsigned> told;
};

// A thread is sent to another CPU while it goes to sleep, is woken or runs; and back.
template <bool Back>
struct binding : world {
    binding() : world{2}
    {
        bound = &make([this] {
            while (!woken.load())
                sched.park(instant::never());
            if (Back)
                machine.compute_until([this] { return sent_back; });
            machine.serve_until([this] { return machine.current_cpu() == (Back ? 0 : 1); });
        });
        binder = &make([this] {
            send_to(1);
            woken.store(true);
            sched.unpark(&bound->self);
            if (Back) {
                send_to(0);
                sent_back = true;
            }
        });
    }
    void begin(unsigned cpu) override { sched.start((cpu == 0 ? bound : binder)->self, cpu); }
    void send_to(unsigned cpu)
    {
        require(sched.set_affinity(bound->self, cpu_set::of(cpu)).has_value(), "no CPU");
    }

    thread* bound;
    thread* binder;
    explored_atomics::atomic<bool> woken;
    bool sent_back{};
};

// A thread that something wants to leave its sleep hears of it wherever it is.
struct interrupting : world {
    interrupting() : world{2}
    {
        wanted = &make([this] {
            sched.park(instant::never());
            sched.yield();
            machine.serve_until([this] { return wanted->self.interrupt_pending.load(); });
        });
        waker = &make([this] { sched.unpark(&wanted->self); });
        other = &make([this] {
            wanted->self.interrupt_pending.store(true);
            sched.unpark(&wanted->self);
        });
        beside = &make([this] { sched.yield(); });
        for (thread* t : {wanted, beside})
            t->self.set_affinity(cpu_set::of(0));
        for (thread* t : {waker, other})
            t->self.set_affinity(cpu_set::of(1));
    }
    void begin(unsigned cpu) override
    {
        for (thread* t : cpu == 0 ? std::array{wanted, beside} : std::array{waker, other})
            sched.start(t->self, cpu);
    }

    thread* wanted;
    thread* waker;
    thread* other;
    thread* beside;
};

// Threads of two CPUs hold a lock one after the other, and each sees what the one before did; who holds it inherits.
struct locking : world {
    static inline std::uint64_t inherited;
    using mutex_type = sched::inheriting_mutex<scheduler, sync::lock_rank::futexes, sync::unobserved>;

    locking() : world{2}
    {
        for (unsigned priority : {0, 0, 1}) {
            auto& t = make([this] {
                auto guard = mutex.lock(sched);
                require(guard.has_value(), "no lock");
                require(!inside.load(std::memory_order_relaxed), "two hold the lock");
                inside.store(true, std::memory_order_relaxed);
                inside.store(false, std::memory_order_relaxed);
                count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
            });
            if (priority != 0)
                t.self.set(queue::parameters::of<sched::fixed_priority>(sched::fixed_priority::fifo(priority)));
        }
    }
    void begin(unsigned cpu) override
    {
        sched.start(all[cpu]->self, cpu);
        if (cpu == 0)
            sched.start(all[2]->self, 0);
    }
    void check() override
    {
        world::check();
        require(count.load() == 3, "an update is lost");
        inherited += sum(&counters::inheritances);
    }

    mutex_type mutex;
    explored_atomics::atomic<bool> inside;
    explored_atomics::atomic<unsigned> count;
};

} // namespace

TEST_CASE("explored: no thread waits for longer than a balance interval for a CPU that idles, whoever asks meanwhile")
{
    CHECK_CLEAN(explore<stealing<2>>(2, 1));
    CHECK(stealing<2>::seen.refused != 0);
    CHECK(stealing<2>::seen.most_won == 2); // one after the other
    CHECK_CLEAN(explore<stealing<3>>(0, 1));
    CHECK(stealing<3>::seen.refused != 0);
    CHECK(stealing<3>::seen.most_won == 2);
}

TEST_CASE("explored: no thread sleeps through a wake-up")
{
    CHECK_CLEAN(explore<waking<2>>(2, 1));
    CHECK_CLEAN(explore<waking<3>>(1, 1));
    CHECK_CLEAN(explore<waking<2, polling_machine>>(2, 1));
    CHECK(waking<2, polling_machine>::kicks_saved != 0);
}

TEST_CASE("explored: no thread sleeps for longer than it wanted")
{
    CHECK_CLEAN(explore<timing>(1, 1));
}

TEST_CASE("explored: a thread goes where it is bound to, whatever it does at the time")
{
    CHECK_CLEAN(explore<binding<false>>(1, 1));
    CHECK_CLEAN(explore<binding<true>>(2, 0));
}

TEST_CASE("explored: a thread that is wanted out of its sleep hears of it")
{
    CHECK_CLEAN(explore<interrupting>(1, 1));
}

TEST_CASE("explored: one thread at a time holds a lock, inherits for it, and all get it")
{
    CHECK_CLEAN(explore<locking>(2, 0));
    CHECK(locking::inherited != 0);
}
