// Clock: reading time. Arming an interrupt is DeadlineTimer's, so that code that only reads cannot disturb it.
//
// Laws: now() never goes backward, on one CPU or between two that synchronize; it advances at the rate of real (or
// simulated) time; it may be read with interrupts off, and neither fails nor sleeps.

#pragma once

#include <concepts>

#include <exo/base/time.hpp>

namespace exo::hal {

template <class T>
concept Clock = requires(const T& clock) {
    { clock.now() } noexcept -> std::same_as<instant>;
};

} // namespace exo::hal
