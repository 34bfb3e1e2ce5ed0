// CPUs that a test drives by hand: it says which one runs the next lines. One object models CpuLocal, InterruptControl,
// Ipi and Clock, and checks their laws. (sim/virtual_cpus.hpp has CPUs that run by themselves.)

#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include <exo/base/check.hpp>
#include <exo/base/cpu_set.hpp>
#include <exo/base/time.hpp>
#include <exo/hal/clock.hpp>
#include <exo/hal/cpu_local.hpp>
#include <exo/hal/interrupt_control.hpp>
#include <exo/hal/ipi.hpp>

namespace exo::sim {

class driven_cpus {
public:
    explicit driven_cpus(unsigned count) : cpus_(count) {}
    driven_cpus(const driven_cpus&) = delete;
    driven_cpus& operator=(const driven_cpus&) = delete;

    // Runs f as CPU `cpu`.
    template <class F>
    decltype(auto) on(unsigned cpu, F&& f)
    {
        EXO_CHECK(cpu < cpus_.size());
        const switched back{current_, std::exchange(current_, cpu)};
        return std::forward<F>(f)();
    }
    void advance(duration time) { now_ = now_ + time; }
    [[nodiscard]] std::size_t calls_served(unsigned cpu) const { return cpus_[cpu].served; }

    // hal::CpuLocal
    [[nodiscard]] unsigned current_cpu() const noexcept { return current_; }
    [[nodiscard]] unsigned cpu_limit() const noexcept { return static_cast<unsigned>(cpus_.size()); }

    // hal::InterruptControl
    struct state {
        bool enabled{};
        unsigned cpu{};
        unsigned depth{};
    };
    [[nodiscard]] state save_and_disable() noexcept
    {
        cpu_state& here = cpus_[current_];
        return {std::exchange(here.enabled, false), current_, here.depth++};
    }
    void restore(const state& saved) noexcept
    {
        cpu_state& here = cpus_[current_];
        EXO_CHECK(saved.cpu == current_);       // states belong to the CPU that saved them
        EXO_CHECK(here.depth == saved.depth + 1); // in reverse order
        here.depth = saved.depth;
        here.enabled = saved.enabled;
    }
    [[nodiscard]] bool enabled() const noexcept { return cpus_[current_].enabled; }

    // hal::Ipi. The handlers run before call() goes on: a CPU driven by hand is always between two instructions.
    void call(const cpu_set& targets, void (*function)(void*) noexcept, void* argument) noexcept
    {
        EXO_CHECK(!enabled());               // or the caller might be moved
        EXO_CHECK(!cpus_[current_].handling); // handlers do not call others
        const unsigned caller = current_;
        cpus_[caller].calling = true;
        targets.for_each([&](unsigned target) {
            if (target == caller)
                return;
            EXO_CHECK(target < cpus_.size());
            // With interrupts off for good it would never answer; one that waits in call() itself serves.
            EXO_CHECK(cpus_[target].enabled || cpus_[target].calling);
            on(target, [&] {
                cpu_state& here = cpus_[target];
                const auto saved = save_and_disable();
                here.handling = true;
                function(argument);
                here.handling = false;
                ++here.served;
                restore(saved);
            });
        });
        cpus_[caller].calling = false;
    }

    // hal::Clock
    [[nodiscard]] instant now() const noexcept { return now_; }

private:
    struct cpu_state {
        bool enabled{true};
        bool handling{};
        bool calling{};
        unsigned depth{};
        std::size_t served{};
    };
    struct switched {
        unsigned& current;
        unsigned before;
        switched(unsigned& c, unsigned b) : current{c}, before{b} {}
        switched(const switched&) = delete;
        switched& operator=(const switched&) = delete;
        ~switched() { current = before; }
    };

    std::vector<cpu_state> cpus_;
    unsigned current_{};
    instant now_;
};
static_assert(hal::CpuLocal<driven_cpus>);
static_assert(hal::InterruptControl<driven_cpus>);
static_assert(hal::Ipi<driven_cpus>);
static_assert(hal::Clock<driven_cpus>);

} // namespace exo::sim
