// Ipi: having other CPUs do something now, and knowing that they did.
//
// Laws (test/laws/ipi_laws.hpp checks every model):
//  - call(targets, f, argument) runs f(argument) once on each CPU of `targets` other than the caller's own, in a
//    handler with interrupts off, and returns when all have finished. What the caller wrote before is visible to f, and
//    what f wrote is visible to the caller afterwards.
//  - The caller cannot be moved to another CPU meanwhile (interrupts off, or a pin held).
//  - While it waits, the calling CPU serves calls that others make to it, so two CPUs may call each other with
//    interrupts off.
//  - f neither sleeps nor calls others. A CPU that is not running is not in `targets`.

#pragma once

#include <concepts>

#include <exo/base/cpu_set.hpp>

namespace exo::hal {

template <class T>
concept Ipi = requires(T& ipi, const cpu_set& targets, void (*function)(void*) noexcept, void* argument) {
    { ipi.call(targets, function, argument) } noexcept -> std::same_as<void>;
};

} // namespace exo::hal
