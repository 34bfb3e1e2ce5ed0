// The laws of hal/ipi.hpp, for any model of Ipi.

#pragma once

#include <doctest/doctest.h>

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
        exo::cpu_set ran;
        int runs{};
        bool all_with_interrupts_off{true};
    } s{cpus, interrupts, {}};
    const auto saved = interrupts.save_and_disable();
    const unsigned self = cpus.current_cpu();
    ipi.call(
        targets,
        [](void* argument) noexcept {
            auto& here = *static_cast<seen*>(argument);
            here.ran.add(here.cpus.current_cpu());
            here.all_with_interrupts_off = here.all_with_interrupts_off && !here.interrupts.enabled();
            ++here.runs;
        },
        &s);
    CHECK(cpus.current_cpu() == self);
    CHECK(!interrupts.enabled());
    interrupts.restore(saved);

    exo::cpu_set expected = targets;
    expected.remove(self);
    int count = 0;
    expected.for_each([&](unsigned) { ++count; });
    CHECK(s.ran == expected);
    CHECK(s.runs == count);
    CHECK(s.all_with_interrupts_off);
}

} // namespace laws
