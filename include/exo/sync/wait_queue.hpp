// Threads that wait for something to become true.
//
// The waiter names the condition; whoever changes what it depends on calls wake_one or wake_all afterwards. No wake-up is
// lost: a waiter is on the queue before it looks at the condition, and a token (hal/parker.hpp) covers the rest.
// Wakers may be interrupt handlers.

#pragma once

#include <atomic>
#include <concepts>

#include <exo/base/list.hpp>
#include <exo/base/result.hpp>
#include <exo/base/errors.hpp>
#include <exo/sync/any_parker.hpp>
#include <exo/sync/spin_lock.hpp>

namespace exo::sync {

class wait_queue {
public:
    // A thread's place in a queue; poll puts one thread on several.
    struct waiter {
        thread_handle thread{};
        list_hook hook;
    };

    wait_queue() = default;

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

    // The same, given up when the thread is interrupted. Errors: interrupted, timed_out; none if the condition holds.
    template <std::predicate Condition>
    [[nodiscard]] result<> wait_interruptible(any_parker& parker, Condition condition,
                                              instant deadline = instant::never())
    {
        return sleep(parker, condition, deadline, true);
    }

    void wake_one(any_parker& parker) noexcept
    {
        if (!maybe_waiting())
            return;
        auto guard = lock_.lock(parker);
        if (waiter* first = waiters_.pop_front()) {
            waiters_.push_back(*first); // it leaves by itself; others get their turn first
            parker.unpark(first->thread);
        }
    }

    void wake_all(any_parker& parker) noexcept
    {
        if (!maybe_waiting())
            return;
        auto guard = lock_.lock(parker);
        for (waiter& w : waiters_)
            parker.unpark(w.thread);
    }

    void add(any_parker& parker, waiter& w) noexcept
    {
        auto guard = lock_.lock(parker);
        w.thread = parker.current();
        waiters_.push_back(w);
        count_.fetch_add(1, std::memory_order_seq_cst);
    }
    void remove(any_parker& parker, waiter& w) noexcept
    {
        auto guard = lock_.lock(parker);
        waiters_.erase(w);
        count_.fetch_sub(1, std::memory_order_relaxed);
    }

private:
    // Pairs with add: either the waker sees the waiter counted, or the waiter sees the waker's change.
    [[nodiscard]] bool maybe_waiting() const noexcept
    {
        std::atomic_thread_fence(std::memory_order_seq_cst);
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
            std::atomic_thread_fence(std::memory_order_seq_cst);
            if (condition())
                break;
            if (interruptible && parker.interrupted()) {
                outcome = fail(errors::interrupted);
                break;
            }
            if (deadline != instant::never() && parker.now() >= deadline) {
                outcome = fail(errors::timed_out);
                break;
            }
            parker.park(deadline);
        }
        remove(parker, self);
        return outcome;
    }

    spin_lock<lock_rank::wait_queue, any_parker> lock_;
    list<waiter, &waiter::hook> waiters_;
    std::atomic<unsigned> count_{};
};

} // namespace exo::sync
