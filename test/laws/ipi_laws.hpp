// The laws of hal/ipi.hpp, for any model of Ipi.

#pragma once

#include <doctest/doctest.h>

#include <atomic>

#include <exo/base/cpu_set.hpp>
#include <exo/hal/cpu_local.hpp>
#include <exo/hal/interrupt_control.hpp>
#include <exo/hal/ipi.hpp>

namespace laws {

// Called with interrupts on; the CPUs of `targets` run, and answer.
template <exo::hal::Ipi Ipi, exo::hal::CpuLocal Cpus, exo::hal::InterruptControl Interrupts>
void check_ipi(Ipi& ipi, Cpus& cpus, Interrupts& interrupts, const exo::cpu_set& targets)
{
    struct seen {
        Cpus& cpus;
        Interrupts& interrupts;
        std::atomic<unsigned> runs[exo::cpu_set::limit]{}; // on each CPU: they may run it at once
        std::atomic<bool> all_with_interrupts_off{true};
    } s{cpus, interrupts};
    const auto saved = interrupts.save_and_disable();
    const unsigned self = cpus.current_cpu();
    ipi.call(
        targets,
        [](void* argument) noexcept {
            auto& here = *static_cast<seen*>(argument);
            here.runs[here.cpus.current_cpu()].fetch_add(1, std::memory_order_relaxed);
            if (here.interrupts.enabled())
                here.all_with_interrupts_off.store(false, std::memory_order_relaxed);
        },
        &s);
    CHECK(cpus.current_cpu() == self);
    CHECK(!interrupts.enabled());
    interrupts.restore(saved);

    bool each_once = true, no_others = true;
    for (unsigned cpu = 0; cpu < exo::cpu_set::limit; ++cpu) {
        const unsigned runs = s.runs[cpu].load(std::memory_order_relaxed);
        if (targets.contains(cpu) && cpu != self)
            each_once = each_once && runs == 1;
        else
            no_others = no_others && runs == 0;
    }
    CHECK(each_once);
    CHECK(no_others);
    CHECK(s.all_with_interrupts_off.load());
}

} // namespace laws
