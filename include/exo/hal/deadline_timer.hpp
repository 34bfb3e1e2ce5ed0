// DeadlineTimer: one interrupt on this CPU at a chosen time.
//
// Laws: after arm(t) one timer interrupt arrives on the calling CPU once its Clock reads t or later, soon; at once when
// t has passed. A further arm replaces the one before, and arm(instant::never()) leaves none (one that is already on
// its way may still arrive). It is called with interrupts off, and neither fails nor sleeps.

#pragma once

#include <concepts>

#include <exo/base/time.hpp>

namespace exo::hal {

template <class T>
concept DeadlineTimer = requires(T& timer, instant deadline) {
    { timer.arm(deadline) } noexcept -> std::same_as<void>;
};

} // namespace exo::hal
