// Atomics: the atomic type, and what goes with it, that lock-free code is written over, so that a test can put an
// instrumented one in its place and explore interleavings (sim/explorer.hpp).
//
// Laws:
//  - Atomics::atomic<T> has the operations and the ordering of std::atomic<T>, fence(order) those of
//    std::atomic_thread_fence.
//  - pause() changes nothing. A loop that waits for what another CPU does calls it once a round: whoever runs the CPUs
//    may let the others go first.
//  - back_off(n) changes nothing either: it lets about n times the time of a cache miss pass, so that others finish what
//    the caller would disturb. It waits for nobody.
//  - Code written over one Atomics reads and writes what several CPUs use at once through it alone; but for counts that
//    order nothing (trace/counter.hpp), and snapshots of them.

#pragma once

#include <atomic>
#include <concepts>
#include <cstdint>

namespace exo::hal {

template <class T>
concept Atomics = requires(typename T::template atomic<void*>& a, void*& expected,
                           typename T::template atomic<std::uint64_t>& n, std::memory_order order) {
    { a.load(order) } noexcept -> std::same_as<void*>;
    { a.store(expected, order) } noexcept -> std::same_as<void>;
    { a.exchange(expected, order) } noexcept -> std::same_as<void*>;
    { a.compare_exchange_weak(expected, expected, order, order) } noexcept -> std::same_as<bool>;
    { a.compare_exchange_strong(expected, expected, order, order) } noexcept -> std::same_as<bool>;
    { n.fetch_add(1, order) } noexcept -> std::same_as<std::uint64_t>;
    { n.fetch_sub(1, order) } noexcept -> std::same_as<std::uint64_t>;
    { n.fetch_or(1, order) } noexcept -> std::same_as<std::uint64_t>;
    { n.fetch_and(1, order) } noexcept -> std::same_as<std::uint64_t>;
    { T::fence(order) } noexcept -> std::same_as<void>;
    { T::pause() } noexcept -> std::same_as<void>;
    { T::back_off(1u) } noexcept -> std::same_as<void>;
};

struct standard_atomics {
    template <class T>
    using atomic = std::atomic<T>;

    static void fence(std::memory_order order) noexcept { std::atomic_thread_fence(order); }
    static void pause() noexcept
    {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }
    static void back_off(unsigned times) noexcept
    {
        for (unsigned i = 0; i < times; ++i)
            pause();
    }
};
static_assert(Atomics<standard_atomics>);

} // namespace exo::hal
