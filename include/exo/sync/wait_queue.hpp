// Threads that wait for something to become true.
//
// The waiter names the condition; whoever changes what it depends on calls wake_one or wake_all afterwards. No wake-up
// is lost: a waiter is on the queue before it looks at the condition, a token (hal/parker.hpp) covers the time until it
// sleeps, and one that was woken but leaves for another reason passes the wake-up on. Wakers may be interrupt handlers.

#pragma once

#include <atomic>
#include <concepts>

#include <exo/base/errors.hpp>
#include <exo/base/list.hpp>
#include <exo/base/result.hpp>
#include <exo/hal/atomics.hpp>
#include <exo/sync/any_parker.hpp>
#include <exo/sync/lock_observer.hpp>
#include <exo/sync/spin_lock.hpp>

namespace exo::sync {

template <hal::Atomics Atomics>
class basic_wait_queue {
public:
    // A thread's place in a queue; poll puts one thread on several.
    struct waiter {
        thread_handle thread{};
        typename Atomics::template atomic<bool> woken{}; // and has not looked at the condition since; changed under the queue's lock
        list_hook hook;
    };

    basic_wait_queue() = default;

    // Returns once `condition()` is true. It is evaluated with no lock of the queue held.
    template <std::predicate Condition>
    void wait(any_parker& parker, Condition condition)
    {
        (void)sleep(parker, condition, instant::never(), false);
    }

    // The same, given up at the deadline. Errors: timed_out.
    template <std::predicate Condition>
    [[nodiscard]] result<> wait_until(any_parker& parker, Condition condition, instant deadline)
    {
        return sleep(parker, condition, deadline, false);
    }

    // The same, given up when the thread is interrupted and the condition still does not hold. Errors: interrupted,
    // timed_out.
    template <std::predicate Condition>
    [[nodiscard]] result<> wait_interruptible(any_parker& parker, Condition condition,
                                              instant deadline = instant::never())
    {
        return sleep(parker, condition, deadline, true);
    }

    [[gnu::hot]] void wake_one(any_parker& parker) noexcept
    {
        if (!maybe_waiting())
            return;
        auto guard = lock_.lock(parker);
        wake_next(parker);
    }

    [[gnu::hot]] void wake_all(any_parker& parker) noexcept
    {
        if (!maybe_waiting())
            return;
        auto guard = lock_.lock(parker);
        for (waiter& w : waiters_)
            wake(parker, w);
    }

    [[gnu::hot]] void add(any_parker& parker, waiter& w) noexcept
    {
        auto guard = lock_.lock(parker);
        w.thread = parker.current();
        w.woken.store(false, std::memory_order_relaxed);
        waiters_.push_back(w);
        count_.fetch_add(1, std::memory_order_seq_cst);
    }
    [[gnu::hot]] void remove(any_parker& parker, waiter& w) noexcept
    {
        auto guard = lock_.lock(parker);
        waiters_.erase(w);
        count_.fetch_sub(1, std::memory_order_relaxed);
        if (w.woken.load(std::memory_order_relaxed))
            wake_next(parker);
    }

private:
    // The lock is held.
    static void wake(any_parker& parker, waiter& w) noexcept
    {
        w.woken.store(true, std::memory_order_relaxed);
        parker.unpark(w.thread);
    }
    // The first that no wake-up is on its way to. The lock is held.
    void wake_next(any_parker& parker) noexcept
    {
        for (waiter& w : waiters_) {
            if (!w.woken.load(std::memory_order_relaxed)) {
                wake(parker, w);
                return;
            }
        }
    }
    // `w` is about to look at the condition: a wake-up from now on is a new one.
    [[gnu::hot]] void look_again(any_parker& parker, waiter& w) noexcept
    {
        if (!w.woken.load(std::memory_order_relaxed))
            return;
        auto guard = lock_.lock(parker);
        w.woken.store(false, std::memory_order_relaxed);
    }

    // Pairs with add: either the waker sees the waiter counted, or the waiter sees the waker's change.
    [[nodiscard]] bool maybe_waiting() const noexcept
    {
        Atomics::fence(std::memory_order_seq_cst);
        return count_.load(std::memory_order_relaxed) != 0;
    }

    template <class Condition>
    result<> sleep(any_parker& parker, Condition& condition, instant deadline, bool interruptible)
    {
        if (condition())
            return {};
        waiter self;
        add(parker, self);
        result<> outcome{};
        for (;;) {
            Atomics::fence(std::memory_order_seq_cst);
            if (condition())
                break;
            if (interruptible && parker.interrupted()) {
                // Who interrupts may have made it true first, as a child does that ends and then signals.
                if (!condition())
                    outcome = fail(errors::interrupted);
                break;
            }
            if (deadline != instant::never() && parker.now() >= deadline) {
                outcome = fail(errors::timed_out);
                break;
            }
            // A condition that sleeps itself may have used up the token, but not the mark.
            if (!self.woken.load(std::memory_order_relaxed))
                parker.park(deadline);
            look_again(parker, self);
        }
        remove(parker, self);
        return outcome;
    }

    spin_lock<lock_rank::wait_queue, any_parker, lock_observer, Atomics> lock_;
    list<waiter, &waiter::hook> waiters_;
    typename Atomics::template atomic<unsigned> count_{};
};

using wait_queue = basic_wait_queue<hal::standard_atomics>;

} // namespace exo::sync
