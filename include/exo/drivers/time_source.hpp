// Which counter a PC's clock reads.

#pragma once

#include <cstdint>

#include <exo/arch/x86_64/cpuid.hpp>

namespace exo::drivers {

enum class time_source : std::uint8_t {
    tsc,    // of each CPU: the fastest to read
    shared, // by all CPUs: HPET or PM timer
};

// The time-stamp counters are used where they tell the same everywhere and always, and where there is nothing else.
[[nodiscard]] constexpr time_source choose_time_source(const x86_64::cpu_features& cpu, bool cpus_are_in_step,
                                                       bool has_shared_counter)
{
    return (cpu.constant_tsc() && cpus_are_in_step) || !has_shared_counter ? time_source::tsc : time_source::shared;
}

} // namespace exo::drivers
