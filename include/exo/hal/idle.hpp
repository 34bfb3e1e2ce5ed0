// Idle: what a CPU does when no thread wants it: the part of CpuControl that a scheduler needs.
//
// Laws: halt_until_interrupt() is called with interrupts off. It enables them and waits for one with no gap between, so
// that a wake-up decided before the call is not slept through; the handler may run other threads before it returns. It
// returns with interrupts off, after a handler has run or for no reason at all.
//
// Where a CPU that halts takes long to come back, a model may be a PollingIdle too: poll(done), called with interrupts
// on, calls done() over and over, with handlers in between, until that is true; or returns when it has had enough.

#pragma once

#include <concepts>

namespace exo::hal {

template <class T>
concept Idle = requires(T& cpu) {
    { cpu.halt_until_interrupt() } noexcept -> std::same_as<void>;
};

template <class T>
concept PollingIdle = Idle<T> && requires(T& cpu, bool (&done)()) {
    { cpu.poll(done) } noexcept -> std::same_as<void>;
};

} // namespace exo::hal
