// CpuLocal: which CPU is running this code.
//
// Laws: current_cpu() is below cpu_limit(), the same for the same CPU always, and tells where the caller is only while the
// caller cannot be moved (interrupts off, or a pin held); else, where it was a moment ago. It neither fails nor sleeps,
// and is a few instructions.

#pragma once

#include <concepts>

namespace exo::hal {

template <class T>
concept CpuLocal = requires(const T& cpu) {
    { cpu.current_cpu() } noexcept -> std::same_as<unsigned>;
    { cpu.cpu_limit() } noexcept -> std::same_as<unsigned>;
};

} // namespace exo::hal
