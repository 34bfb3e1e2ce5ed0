// Parker: putting the calling thread to sleep, and waking one that sleeps. Wait queues and sleeping locks need no more
// of a scheduler than this, so they stand below it.
//
// Laws (test/laws/parker_laws.hpp checks every model):
//  - Each thread has one token. unpark(t) sets t's token and wakes t if it is parked; park() returns at once, consuming
//    the token, if it is set, and otherwise sleeps until it is set or the deadline has passed. So an unpark that comes
//    before its park is not lost, and several count as one.
//  - park may return without a token (spuriously): callers re-check what they wait for.
//  - What a thread wrote before unpark(t) is visible to t after the park that consumes the token.
//  - park is called from a thread, with interrupts as the thread had them and no spin lock held; unpark from anywhere,
//    an interrupt handler included. Neither allocates or fails.
//  - interrupted() tells whether something (a signal) wants the calling thread to give up a wait that may be given up;
//    whoever makes it true unparks the thread afterwards.
//  - A default-constructed handle denotes no thread. A handle stays valid as long as its thread exists.

#pragma once

#include <concepts>

#include <exo/base/time.hpp>

namespace exo::hal {

template <class T>
concept Parker = requires(T& parker, const T& view, const typename T::thread& thread, instant deadline) {
    requires std::regular<typename T::thread>;
    { view.current() } noexcept -> std::same_as<typename T::thread>;
    { parker.park(deadline) } noexcept -> std::same_as<void>;
    { parker.unpark(thread) } noexcept -> std::same_as<void>;
    { view.interrupted() } noexcept -> std::same_as<bool>;
    { view.now() } noexcept -> std::same_as<instant>;
};

} // namespace exo::hal
