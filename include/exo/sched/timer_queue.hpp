// Calls that fall due: timers in the order of their deadlines, kept by the timers themselves, so a million cost no more
// than their own memory.
//
// The owner of the queue calls expire() when the hardware timer fires; handlers run in it, with interrupts off and the
// queue locked, which is why cancel() returning means that the handler is not running and will not run.

#pragma once

#include <exo/base/check.hpp>
#include <exo/base/time.hpp>
#include <exo/base/tree.hpp>
#include <exo/hal/atomics.hpp>
#include <exo/hal/interrupt_control.hpp>
#include <exo/sync/lock_observer.hpp>
#include <exo/sync/spin_lock.hpp>

namespace exo::sched {

template <hal::InterruptControl Interrupts, hal::Atomics Atomics = hal::standard_atomics>
class timer_queue {
public:
    class timer {
    public:
        // Returns when to be called again (after `now`), or never(), and then it may have ended the timer. It may take
        // locks of lower rank and unpark threads; it must not arm or cancel timers.
        using handler = instant (*)(timer& self, instant now) noexcept;

        explicit timer(handler on_expiry) : handler_{on_expiry} {}

    private:
        friend timer_queue;
        handler handler_;
        timer_queue* queue_{}; // where it was armed last
        instant deadline_{};
        tree_hook hook_;
    };

    // `t` is not armed. True when it is now the earliest. Calls of arm and cancel for one timer exclude each other.
    bool arm(Interrupts& interrupts, timer& t, instant deadline) noexcept
    {
        auto guard = lock_.lock(interrupts);
        t.queue_ = this;
        t.deadline_ = deadline;
        timers_.insert(t);
        return timers_.first() == &t;
    }

    // On whatever queue it was armed. True when it was still armed.
    static bool cancel(Interrupts& interrupts, timer& t) noexcept
    {
        if (!t.queue_)
            return false;
        auto guard = t.queue_->lock_.lock(interrupts);
        if (!t.hook_.linked())
            return false;
        t.queue_->timers_.erase(t);
        return true;
    }

    // Calls what is due at `now`; each timer once.
    void expire(Interrupts& interrupts, instant now) noexcept
    {
        auto guard = lock_.lock(interrupts);
        while (timer* t = timers_.first()) {
            if (t->deadline_ > now)
                break;
            timers_.erase(*t);
            const instant again = t->handler_(*t, now);
            if (again == instant::never())
                continue;
            EXO_CHECK(again > now);
            t->deadline_ = again;
            timers_.insert(*t);
        }
    }

    // The earliest deadline; never() when there is none.
    [[nodiscard]] instant next(Interrupts& interrupts) noexcept
    {
        auto guard = lock_.lock(interrupts);
        timer* t = timers_.first();
        return t ? t->deadline_ : instant::never();
    }

private:
    sync::spin_lock<sync::lock_rank::timers, Interrupts, sync::lock_observer, Atomics> lock_;
    tree<timer, &timer::hook_, &timer::deadline_> timers_;
};

} // namespace exo::sched
