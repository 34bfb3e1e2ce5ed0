// Atomics: the atomic type that lock-free code is written over, so that a test can put an instrumented one in its place
// and explore interleavings.
//
// Laws: Atomics::atomic<T> has the operations and the ordering of std::atomic<T>.

#pragma once

#include <atomic>
#include <concepts>

namespace exo::hal {

template <class T>
concept Atomics = requires(typename T::template atomic<void*>& a, void*& expected) {
    { a.load(std::memory_order_acquire) } -> std::same_as<void*>;
    a.store(expected, std::memory_order_release);
    { a.exchange(expected, std::memory_order_acq_rel) } -> std::same_as<void*>;
    {
        a.compare_exchange_weak(expected, expected, std::memory_order_release, std::memory_order_relaxed)
    } -> std::same_as<bool>;
};

struct standard_atomics {
    template <class T>
    using atomic = std::atomic<T>;
};
static_assert(Atomics<standard_atomics>);

} // namespace exo::hal
