// A scheduler on virtual CPUs, with threads made of lambdas: what the tests of this room run on.

#pragma once

#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include <exo/sched/scheduler.hpp>
#include <exo/sim/context.hpp>
#include <exo/sim/virtual_cpus.hpp>
#include <exo/sync/any_parker.hpp>

namespace sched_test {

template <class Policy, class Topology = exo::hal::flat_topology<>,
          exo::hal::Atomics Atomics = exo::hal::standard_atomics>
class world {
public:
    struct hooks;
    using cpus = exo::sim::virtual_cpus;
    using scheduler = exo::sched::scheduler<Policy, Topology, exo::sim::fibers, cpus, cpus, cpus, cpus, cpus, hooks,
                                            exo::trace::recording, Atomics>;
    using task = typename scheduler::task;
    using entity = typename Policy::entity;

    struct hooks {
        world& w;
        void switching(task& previous, task& next, const exo::sched::turn_start&) noexcept
        {
            CHECK(!w.machine.enabled());
            CHECK(&previous != &next);
            if (w.on_switch)
                w.on_switch(previous, next);
        }
        void ended(task& t) noexcept
        {
            CHECK(t.state() == exo::sched::task_state::ended);
            w.ended.push_back(t.owner);
        }
        void kick(unsigned cpu) noexcept
        {
            w.machine.interrupt(cpu, [this] { w.sched.on_kick(); });
        }
    };

    struct thread {
        thread(std::string_view name, std::function<void()> body)
            : body_{std::move(body)}, stack_(64 * 1024), task_{name, stack_, &enter, this}
        {
            task_.owner = this;
        }
        static void enter(void* self) noexcept { static_cast<thread*>(self)->body_(); }

        std::function<void()> body_;
        std::vector<std::byte> stack_;
        task task_;
    };

    explicit world(unsigned count = 1) : world{Topology{count}} {}
    explicit world(const Topology& t)
        : topology{t}, machine{t.cpu_count()}, processors(t.cpu_count()), sched{processors, topology, context, machine, machine, machine, machine, machine, own}
    {
        machine.connect([this] { sched.on_tick(); }, [this] { sched.preempt_if_needed(); });
        for (unsigned i = 0; i < topology.cpu_count(); ++i)
            machine.boot(i, [this] { sched.run(); });
    }

    // Not started yet.
    thread& make(std::string_view name, std::function<void()> body)
    {
        threads.push_back(std::make_unique<thread>(name, std::move(body)));
        return *threads.back();
    }
    thread& spawn(std::string_view name, std::function<void()> body, unsigned cpu = 0)
    {
        thread& t = make(name, std::move(body));
        sched.start(t.task_, cpu);
        return t;
    }
    void run() { machine.run(); }
    [[nodiscard]] bool all_ended() const { return ended.size() == threads.size(); }

    Topology topology;
    exo::sim::fibers context;
    cpus machine;
    std::vector<typename scheduler::processor> processors;
    hooks own{*this};
    scheduler sched;
    exo::sync::parker_adapter<scheduler, scheduler> parker{sched, sched};
    std::vector<std::unique_ptr<thread>> threads;
    std::vector<void*> ended;
    std::function<void(task&, task&)> on_switch;
};

} // namespace sched_test
