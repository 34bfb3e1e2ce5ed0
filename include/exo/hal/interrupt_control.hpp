// InterruptControl: whether this CPU takes maskable interrupts.
//
// Laws (test/laws/interrupt_control_laws.hpp checks every model):
//  - save_and_disable() returns the state before the call; afterwards no handler runs on this CPU until restored.
//  - Pairs nest: restore(s) returns to exactly the state that s describes. States are restored in reverse order.
//  - enabled() tells the state now. None of them fails, sleeps or allocates.
//  - Each is a compiler barrier: memory accesses do not move out of the section.

#pragma once

#include <concepts>

namespace exo::hal {

template <class T>
concept InterruptControl = requires(T& control, const typename T::state& saved) {
    requires std::semiregular<typename T::state>;
    { control.save_and_disable() } noexcept -> std::same_as<typename T::state>;
    { control.restore(saved) } noexcept -> std::same_as<void>;
    { control.enabled() } noexcept -> std::same_as<bool>;
};

} // namespace exo::hal
