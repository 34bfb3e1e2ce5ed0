// Context: a thread's registers, put aside while it does not run.
//
// Laws (test/laws/context_laws.hpp checks every model):
//  - prepare(c, stack, entry, argument) makes c ready: the first switch_to it calls entry(argument) on that stack,
//    whose contents it may use from the end down. entry never returns.
//  - switch_to(from, to) saves the caller in `from`, continues whatever `to` holds, and returns when someone switches
//    to `from` again; what the calling convention lets a function change may have changed, nothing else.
//  - Both are called with interrupts off, and leave them so: entry starts with interrupts off.
//  - A context that is not being run and never will be again may be destroyed, and its stack reused.

#pragma once

#include <concepts>
#include <cstddef>
#include <span>

namespace exo::hal {

using context_entry = void (*)(void* argument) noexcept;

template <class T>
concept Context = requires(T& machine, typename T::context& from, typename T::context& to, std::span<std::byte> stack,
                           context_entry entry, void* argument) {
    requires std::default_initializable<typename T::context>;
    { machine.prepare(to, stack, entry, argument) } noexcept -> std::same_as<void>;
    { machine.switch_to(from, to) } noexcept -> std::same_as<void>;
};

} // namespace exo::hal
