// A workload on simulated CPUs: the scheduler and the run queues that boot, in virtual time. The same workload, shape
// and seed give the same run.
//
// Threads begin in the first millisecond, at instants and in an order of CPUs that the seed chooses. What they compute
// takes the time that the workload says; scheduling itself takes none.

#pragma once

#include <algorithm>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <exo/base/result.hpp>
#include <exo/sched/admission.hpp>
#include <exo/sched/scheduler.hpp>
#include <exo/sim/context.hpp>
#include <exo/sim/large_pages.hpp>
#include <exo/sim/topology.hpp>
#include <exo/sim/virtual_cpus.hpp>

#include "latencies.hpp"
#include "trace.hpp"
#include "workload.hpp"

namespace sched_sim {

class simulation {
public:
    using topology_type = exo::sim::topology<cpu_set>;

    // What became of the instances of one task.
    struct outcome {
        exo::duration ran;
        exo::duration least{exo::instant::never().nanoseconds() / 2}; // of one instance
        exo::duration most;
        latencies wake_ups;
        std::uint64_t jobs{}; // what ended at a timer
        std::uint64_t misses{};
        std::uint64_t migrations{};
        std::uint64_t switches{};
    };

    struct admittance {
        bool by_bandwidth; // as admission::by_bandwidth(), of all deadline threads together
    };
    // Whether `work` can run on CPUs of this shape. Errors, with the line of the task or phase:
    // no_allowed_cpu_online; deadline_affinity; what keeps a deadline thread from being admitted.
    static exo::result<admittance> check(const workload& work, const topology_type& topology)
    {
        namespace errors = exo::sched::errors;
        const cpu_set online = cpu_set::first(topology.cpu_count());
        exo::sched::admission control{topology.cpu_count()};
        std::vector<std::unique_ptr<exo::sched::admission::reservation>> reservations;
        exo::result<> verdict;
        for (const task_group& group : work.tasks) {
            if (!verdict)
                break;
            const auto check_cpus = [&](const cpu_set& cpus, unsigned line) {
                if ((cpus & online).empty())
                    verdict = exo::fail(errors::no_allowed_cpu_online, line);
                else if (group.parameters.follows<deadline>() && (cpus & online) != online)
                    verdict = exo::fail(errors::deadline_affinity, line);
            };
            check_cpus(group.cpus, group.line);
            for (const phase& p : group.phases)
                if (p.cpus && verdict)
                    check_cpus(*p.cpus, p.line);
            for (unsigned i = 0; group.parameters.follows<deadline>() && i < group.instances && verdict; ++i) {
                auto& own = reservations.emplace_back(std::make_unique<exo::sched::admission::reservation>());
                if (const auto admitted = control.admit(*own, group.parameters.get<deadline>()); !admitted)
                    verdict = exo::fail(admitted.error().kind(), group.line);
            }
        }
        const admittance admitted{control.by_bandwidth()};
        for (auto& r : reservations)
            if (r->admitted())
                control.release(*r);
        EXO_TRY(verdict);
        return admitted;
    }

    // `work` is `admitted` by check(), and outlives it, as do the others. `record` may be null.
    simulation(const workload& work, admittance admitted, const topology_type& topology, unsigned seed, trace* record)
        : work_{work}, topology_{topology}, machine_{topology.cpu_count()}, processors_(topology.cpu_count()),
          lanes_(topology.cpu_count()), trace_{record}, outcomes_(work.tasks.size()), random_{seed}
    {
        machine_.connect([this] { scheduler_.on_tick(); }, [this] { scheduler_.preempt_if_needed(); });
        for (unsigned cpu = 0; cpu < topology.cpu_count(); ++cpu)
            machine_.boot(cpu, [this, admitted] {
                scheduler_.visit_queue(
                    [&](policies& queue) { queue.get<deadline>().keep_deadlines(admitted.by_bandwidth); });
                scheduler_.run();
            });
        machine_.run(); // until all idle
        machine_.interrupt(0, [this] { make_threads(); });
    }

    // For `length`, once; threads stay where they are then, so the simulation is never destroyed. Calls progress() now
    // and then.
    template <class Progress>
    void run(exo::duration length, Progress progress)
    {
        const exo::instant end = machine_.now() + length;
        unsigned steps = 0;
        machine_.run_until([&] {
            if (++steps % (1U << 16) == 0)
                progress(machine_.now() - exo::instant{});
            return machine_.next_event() > end;
        });
        for (unsigned cpu = 0; cpu < lanes_.size(); ++cpu)
            turn_ends(cpu, end);
        for (const thread& t : threads_) {
            outcome& o = t.result;
            o.ran += t.ran;
            o.least = std::min(o.least, t.ran);
            o.most = std::max(o.most, t.ran);
            o.migrations += t.migrations;
            o.switches += t.self.voluntary_switches() + t.self.involuntary_switches();
            if (t.group.timers.empty())
                o.misses += t.self.misses();
        }
    }
    ~simulation() = delete;

    [[nodiscard]] const outcome& outcome_of(std::size_t task) const { return outcomes_[task]; }
    [[nodiscard]] std::uint64_t switches() const
    {
        return sum([](const auto& m) { return m.switches.value(); });
    }
    [[nodiscard]] std::uint64_t wake_ups() const
    {
        return sum([](const auto& m) { return m.wake_ups.value(); });
    }

private:
    struct hooks;
    using cpus = exo::sim::virtual_cpus;
    using scheduler =
        exo::sched::scheduler<policies, topology_type, exo::sim::fibers, cpus, cpus, cpus, cpus, cpus, hooks>;
    using task = scheduler::task;

    struct hooks {
        simulation& s;
        void switching(task&, task& next, const exo::sched::turn_start& begins) noexcept
        {
            s.turn_begins(static_cast<thread*>(next.owner), begins.at);
        }
        void ended(task&) noexcept {}
        void kick(unsigned cpu) noexcept
        {
            s.machine_.interrupt(cpu, [this] { s.scheduler_.on_kick(); });
        }
    };

    struct thread {
        thread(simulation& s, const task_group& g, outcome& o, std::string n, std::span<std::byte> stack,
               exo::duration start)
            : owner{s}, group{g}, result{o}, begins{exo::instant{} + start}, allowed{&g.cpus},
              next_period(g.timers.size(), exo::instant::never()), self{n, stack, &enter, this}, name{std::move(n)}
        {
            self.owner = this;
        }
        static void enter(void* t) noexcept
        {
            auto& self = *static_cast<thread*>(t);
            self.owner.live(self);
        }

        simulation& owner;
        const task_group& group;
        outcome& result;
        const exo::instant begins;
        const cpu_set* allowed;
        std::vector<exo::instant> next_period; // by timer; never before its first use
        static constexpr unsigned nowhere = ~0U;
        unsigned cpu{nowhere}; // where it ran last
        exo::duration ran;
        std::uint64_t migrations{};
        task self;
        const std::string name;
    };
    // What a CPU runs, and since when.
    struct lane {
        thread* running{};
        exo::instant since;
    };

    void make_threads()
    {
        std::size_t count = 0;
        for (const task_group& group : work_.tasks)
            count += group.instances;
        stacks_.resize(count * stack_stride);
        threads_ = {exo::sim::large_page_allocator<thread>{}.allocate(count), count};
        std::size_t made = 0;
        const cpu_set online = cpu_set::first(topology_.cpu_count());
        std::vector<unsigned> order(topology_.cpu_count());
        for (unsigned cpu = 0; cpu < order.size(); ++cpu)
            order[cpu] = cpu;
        for (std::size_t i = order.size() - 1; i > 0; --i)
            std::swap(order[i], order[random_() % (i + 1)]);

        for (std::size_t g = 0; g < work_.tasks.size(); ++g) {
            const task_group& group = work_.tasks[g];
            const cpu_set allowed = group.cpus & online;
            for (unsigned i = 0; i < group.instances; ++i) {
                std::string name = group.name;
                if (group.instances > 1)
                    name += "-" + std::to_string(i);
                const std::size_t index = made++;
                const exo::duration start = group.delay + exo::nanoseconds(random_() % 1'000'000);
                thread& t = *std::construct_at(&threads_[index], *this, group, outcomes_[g], std::move(name),
                                               std::span{stacks_.data() + index * stack_stride, stack_size}, start);
                scheduler_.set_parameters(t.self, group.parameters);
                t.self.set_affinity(group.cpus);
                scheduler_.start(t.self, allowed.next_around(order[index % order.size()]));
            }
        }
    }

    // A thread's life, on its own stack.
    void live(thread& t)
    {
        if (t.begins > machine_.now())
            sleep_until(t, t.begins);
        repeat(t.group.loops, [&] {
            for (const phase& p : t.group.phases)
                repeat(p.loops, [&] {
                    allow(t, p.cpus ? *p.cpus : t.group.cpus);
                    for (const event& e : p.events)
                        perform(t, e);
                });
        });
    }
    void allow(thread& t, const cpu_set& cpus)
    {
        if (std::exchange(t.allowed, &cpus) != &cpus)
            EXO_CHECK(scheduler_.set_affinity(t.self, cpus));
    }
    template <class Body>
    static void repeat(std::int64_t loops, Body body)
    {
        for (std::int64_t i = 0; loops == task_group::endless || i < loops; ++i)
            body();
    }
    void perform(thread& t, const event& e)
    {
        switch (e.what) {
        case event::kind::run: machine_.spend(e.time); break;
        case event::kind::runtime:
            for (const exo::instant until = machine_.now() + e.time; machine_.now() < until;)
                machine_.spend(std::min(until - machine_.now(), clock_look));
            break;
        case event::kind::sleep:
            if (e.time > exo::duration{})
                sleep_until(t, machine_.now() + e.time);
            break;
        case event::kind::timer: wait_for_timer(t, e); break;
        }
    }
    // Ends a job: the periods of its timer begin when the thread first runs, as in rt-app.
    void wait_for_timer(thread& t, const event& e)
    {
        exo::instant& next = t.next_period[e.timer];
        if (next == exo::instant::never())
            next = t.begins;
        exo::instant due = next + e.time;
        if (t.group.parameters.follows<deadline>())
            due = next + t.group.parameters.get<deadline>().deadline;
        next = next + e.time;
        const exo::instant now = machine_.now();
        ++t.result.jobs;
        t.result.misses += now > due;
        if (next > now)
            sleep_until(t, next);
        else if (!e.absolute)
            next = now;
    }
    void sleep_until(thread& t, exo::instant when)
    {
        while (machine_.now() < when)
            scheduler_.park(when);
        t.result.wake_ups.record(machine_.now() - when);
        if (trace_)
            trace_->wake_up(machine_.current_cpu(), t.name, when);
    }

    void turn_begins(thread* next, exo::instant now)
    {
        const unsigned cpu = machine_.current_cpu();
        if (next)
            fetch_frames(next->self);
        turn_ends(cpu, now);
        lanes_[cpu].running = next;
        if (next && next->cpu != cpu) {
            next->migrations += next->cpu != thread::nowhere;
            next->cpu = cpu;
        }
    }
    void turn_ends(unsigned cpu, exo::instant now)
    {
        lane& l = lanes_[cpu];
        if (l.running) {
            l.running->ran += now - l.since;
            if (trace_ && now > l.since)
                trace_->slice(cpu, l.running->name, l.since, now);
        }
        l.since = now;
    }

    // With many threads the stack of the next one is in no cache; so all of its frames come at once.
    static void fetch_frames(const task& t)
    {
        constexpr std::size_t line = 64;
        constexpr std::size_t depth = 640; // of a thread that sleeps
        const std::span<std::byte> stack = t.stack();
        for (std::size_t i = line; i <= depth; i += line)
            __builtin_prefetch(stack.data() + stack.size() - i, 1);
    }

    template <class Count>
    [[nodiscard]] std::uint64_t sum(Count count) const
    {
        std::uint64_t total = 0;
        for (const auto& p : processors_)
            total += count(p.metrics());
        return total;
    }

    static constexpr exo::duration clock_look = exo::microseconds(10);
    static constexpr std::size_t stack_size = 16 * 1024;
    // The tops of stacks fall into different sets of the host's caches.
    static constexpr std::size_t stack_stride = stack_size + 576;

    const workload& work_;
    const topology_type& topology_;
    exo::sim::fibers context_;
    cpus machine_;
    exo::sim::large_page_vector<scheduler::processor> processors_;
    std::vector<lane> lanes_;
    trace* trace_;
    std::vector<outcome> outcomes_;
    std::mt19937 random_;
    hooks hooks_{*this};
    scheduler scheduler_{processors_, topology_, context_, machine_, machine_, machine_, machine_, machine_, hooks_};
    exo::sim::large_page_vector<std::byte> stacks_;
    std::span<thread> threads_;
};

} // namespace sched_sim
