// Where any CPU or interrupt handler leaves elements for one owner, without a lock and without memory of its own.
//
// push is one compare-exchange (Treiber 1986), repeated only when another push came in between; the owner takes all at
// once and sees them in the order of their pushes. What was written before a push is visible after the drain.

#pragma once

#include <cstddef>
#include <cstdint>

#include <exo/hal/atomics.hpp>

namespace exo::sync {

class inbox_hook {
public:
    inbox_hook() = default;
    inbox_hook(const inbox_hook&) = delete;
    inbox_hook& operator=(const inbox_hook&) = delete;

private:
    template <class T, inbox_hook T::*Hook, hal::Atomics Atomics>
    friend class inbox;

    inbox_hook* next_{};
};

template <class T, inbox_hook T::*Hook, hal::Atomics Atomics = hal::standard_atomics>
class inbox {
public:
    // `element` is in no inbox by this hook. True when the inbox was empty: the owner may not know that it has mail.
    bool push(T& element) noexcept
    {
        inbox_hook& hook = element.*Hook;
        inbox_hook* before = newest_.load(std::memory_order_relaxed);
        do
            hook.next_ = before;
        while (!newest_.compare_exchange_weak(before, &hook, std::memory_order_release, std::memory_order_relaxed));
        return before == nullptr; // not hook.next_: the element is the owner's now
    }

    // By the owner only: visit(element) for each, oldest first. An element may be pushed again, or end, in its visit.
    template <class Visitor>
    void drain(Visitor visit)
    {
        if (empty())
            return;
        inbox_hook* newest = newest_.exchange(nullptr, std::memory_order_acquire);
        inbox_hook* oldest = nullptr;
        while (newest) {
            inbox_hook* before = newest->next_;
            newest->next_ = oldest;
            oldest = newest;
            newest = before;
        }
        while (oldest) {
            inbox_hook* after = oldest->next_;
            visit(owner(*oldest));
            oldest = after;
        }
    }

    // A snapshot.
    [[nodiscard]] bool empty() const noexcept { return newest_.load(std::memory_order_relaxed) == nullptr; }

private:
    static T& owner(inbox_hook& hook)
    {
        // The offset of the hook in T, folded to a constant; any address aligned for T does to measure it from.
        constexpr std::uintptr_t anywhere = alignof(T);
        const auto offset = reinterpret_cast<std::uintptr_t>(&(reinterpret_cast<T*>(anywhere)->*Hook)) - anywhere;
        return *reinterpret_cast<T*>(reinterpret_cast<char*>(&hook) - offset);
    }

    typename Atomics::template atomic<inbox_hook*> newest_{};
};

} // namespace exo::sync
