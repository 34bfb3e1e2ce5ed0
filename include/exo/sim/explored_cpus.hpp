// The CPUs of an explored scenario (sim/explorer.hpp): thread n is what CPU n runs. One object models CpuLocal,
// InterruptControl, Ipi and Parker. Other threads may run before a call is served, but it is served at once when they
// run, since nothing tells a call that comes late from one that was made late.

#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <exo/base/check.hpp>
#include <exo/base/cpu_set.hpp>
#include <exo/base/time.hpp>
#include <exo/hal/cpu_local.hpp>
#include <exo/hal/interrupt_control.hpp>
#include <exo/hal/ipi.hpp>
#include <exo/hal/parker.hpp>
#include <exo/sim/explorer.hpp>
#include <exo/sync/any_parker.hpp>

namespace exo::sim {

class explored_cpus final : public sync::any_parker {
public:
    explicit explored_cpus(unsigned count) : cpus_(count) {}
    explored_cpus(const explored_cpus&) = delete;
    explored_cpus& operator=(const explored_cpus&) = delete;

    // Runs f as CPU `cpu`, while a scenario is made or checked.
    template <class F>
    decltype(auto) on(unsigned cpu, F&& f)
    {
        EXO_CHECK(explorer::here()->thread() == explorer::nobody);
        struct back {
            unsigned& driven;
            unsigned before;
            ~back() { driven = before; }
        } const afterwards{driven_, std::exchange(driven_, cpu)};
        return std::forward<F>(f)();
    }

    // hal::CpuLocal
    [[nodiscard]] unsigned current_cpu() const noexcept
    {
        const auto running = explorer::here()->thread();
        return running == explorer::nobody ? driven_ : running;
    }
    [[nodiscard]] unsigned cpu_limit() const noexcept { return static_cast<unsigned>(cpus_.size()); }

    // hal::InterruptControl
    state save_and_disable() noexcept override { return std::exchange(here().enabled, false); }
    void restore(const state& saved) noexcept override
    {
        EXO_CHECK(!here().enabled);
        here().enabled = saved != 0;
    }
    bool enabled() noexcept override { return here().enabled; }

    // hal::Ipi
    void call(const cpu_set& targets, void (*function)(void*) noexcept, void* argument) noexcept
    {
        EXO_CHECK(!enabled());
        explorer& e = *explorer::here();
        EXO_CHECK(e.thread() != explorer::nobody);
        e.fence();
        here().calling = true;
        targets.for_each([&](unsigned target) {
            if (target == current_cpu())
                return;
            cpu_state& other = cpus_[target];
            e.step("calls another CPU");
            e.wait("waits for an answer", [&] { return other.enabled || other.calling; });
            e.as(target, [&] {
                const bool enabled_before = std::exchange(other.enabled, false);
                function(argument);
                other.enabled = enabled_before;
            });
        });
        here().calling = false;
    }

    // hal::Parker
    thread current() const noexcept override { return const_cast<cpu_state*>(&cpus_[current_cpu()]); }
    void park(instant deadline) noexcept override
    {
        EXO_CHECK(deadline == instant::never() && enabled());
        cpu_state& me = here();
        explorer::here()->wait("is parked", [&me] { return me.token; });
        me.token = false;
    }
    void unpark(const thread& t) noexcept override
    {
        explorer::here()->step("unparks a thread");
        explorer::here()->fence();
        static_cast<cpu_state*>(t)->token = true;
    }
    bool interrupted() const noexcept override { return false; }
    instant now() const noexcept override { return {}; }

private:
    struct cpu_state {
        bool enabled{true};
        bool calling{};
        bool token{}; // of the thread that runs here
    };
    [[nodiscard]] cpu_state& here() noexcept { return cpus_[current_cpu()]; }

    std::vector<cpu_state> cpus_;
    unsigned driven_{};
};
static_assert(hal::CpuLocal<explored_cpus>);
static_assert(hal::InterruptControl<explored_cpus>);
static_assert(hal::Ipi<explored_cpus>);
static_assert(hal::Parker<explored_cpus>);

} // namespace exo::sim
