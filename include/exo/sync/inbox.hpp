// Where any CPU or interrupt handler leaves elements for one owner, without a lock and without memory of its own.
//
// push is one compare-exchange (Treiber 1986), tried again after a growing pause when another push came in between, a
// bounded number of times; then it takes the one exchange that cannot fail, after which the owner may have to wait for
// the link that is stored next. The owner takes all at once and sees them in the order of their pushes. What was written
// before a push is visible after the drain. A push is not interrupted by what drains the same inbox: where the owner
// drains in an interrupt handler, its own pushes are made with interrupts off.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <exo/hal/atomics.hpp>

namespace exo::sync {

template <hal::Atomics Atomics>
class basic_inbox_hook {
public:
    basic_inbox_hook() = default;
    basic_inbox_hook(const basic_inbox_hook&) = delete;
    basic_inbox_hook& operator=(const basic_inbox_hook&) = delete;

private:
    template <class T, auto Hook, hal::Atomics A, unsigned Attempts>
    friend class inbox;

    typename Atomics::template atomic<basic_inbox_hook*> next_{};
};
using inbox_hook = basic_inbox_hook<hal::standard_atomics>;

// `Hook` is a pointer to the basic_inbox_hook<Atomics> of T; a push tries Attempts times, at least once.
template <class T, auto Hook, hal::Atomics Atomics = hal::standard_atomics, unsigned Attempts = 8>
class inbox {
    using hook = basic_inbox_hook<Atomics>;

public:
    struct pushed {
        bool was_empty;    // the owner may not know that it has mail
        unsigned attempts; // of a compare-exchange
        bool contended;    // all of them failed
    };

    // `element` is in no inbox by this hook.
    pushed push(T& element) noexcept { return push(element.*Hook, element.*Hook); }
    // The same for all of `elements`, at least one, the first as the oldest: as much work as for one.
    pushed push(std::span<T* const> elements) noexcept
    {
        hook* newest = &(elements.front()->*Hook);
        for (T* const element : elements.subspan(1)) {
            hook& own = element->*Hook;
            own.next_.store(newest, std::memory_order_relaxed);
            newest = &own;
        }
        return push(elements.front()->*Hook, *newest);
    }

    // By the owner only: visit(element) for each, oldest first. An element may be pushed again, or end, in its visit.
    template <class Visitor>
    void drain(Visitor visit)
    {
        if (empty())
            return;
        hook* newest = newest_.exchange(nullptr, std::memory_order_acquire);
        hook* oldest = nullptr;
        while (newest) {
            hook* before = newest->next_.load(std::memory_order_acquire);
            while (before == newest) {
                Atomics::pause();
                before = newest->next_.load(std::memory_order_acquire);
            }
            newest->next_.store(oldest, std::memory_order_relaxed);
            oldest = newest;
            newest = before;
        }
        while (oldest) {
            hook* after = oldest->next_.load(std::memory_order_relaxed);
            visit(owner(*oldest));
            oldest = after;
        }
    }

    // A snapshot.
    [[nodiscard]] bool empty() const noexcept { return newest_.load(std::memory_order_relaxed) == nullptr; }

private:
    // What is linked from `newest` to `oldest`.
    pushed push(hook& oldest, hook& newest) noexcept
    {
        hook* before = newest_.load(std::memory_order_relaxed);
        for (unsigned attempt = 1; attempt <= Attempts; ++attempt) {
            oldest.next_.store(before, std::memory_order_relaxed);
            if (newest_.compare_exchange_weak(before, &newest, std::memory_order_release, std::memory_order_relaxed))
                return {before == nullptr, attempt, false}; // not oldest.next_: the element is the owner's now
            Atomics::back_off(attempt);
        }
        oldest.next_.store(&oldest, std::memory_order_relaxed); // the link is to come
        before = newest_.exchange(&newest, std::memory_order_acq_rel);
        oldest.next_.store(before, std::memory_order_release);
        return {before == nullptr, Attempts, true};
    }
    static T& owner(hook& h)
    {
        // The offset of the hook in T, folded to a constant; any address aligned for T does to measure it from.
        constexpr std::uintptr_t anywhere = alignof(T);
        const auto offset = reinterpret_cast<std::uintptr_t>(&(reinterpret_cast<T*>(anywhere)->*Hook)) - anywhere;
        return *reinterpret_cast<T*>(reinterpret_cast<char*>(&h) - offset);
    }

    typename Atomics::template atomic<hook*> newest_{};
};

} // namespace exo::sync
