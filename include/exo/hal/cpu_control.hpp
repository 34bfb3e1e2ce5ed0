// CpuControl: what only the machine can do to its CPUs.
//
// Laws:
//  - halt_until_interrupt() is called with interrupts disabled; it enables them and waits for one with no gap between,
//    so that a wake-up decided before the call is not slept through. It returns with interrupts disabled again.
//  - start(cpu, entry, argument) makes a CPU that is not running call entry(argument) on a stack of its own. Errors:
//    not_supported, no_device.
//  - power_off() does not return.

#pragma once

#include <concepts>

#include <exo/base/result.hpp>

namespace exo::hal {

template <class T>
concept CpuControl = requires(T& control, unsigned cpu, void (*entry)(void*), void* argument) {
    { control.halt_until_interrupt() } noexcept -> std::same_as<void>;
    { control.start(cpu, entry, argument) } noexcept -> std::same_as<result<>>;
    { control.power_off() } noexcept -> std::same_as<void>;
};

} // namespace exo::hal
