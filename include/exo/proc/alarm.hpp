// The real-time interval timer of a process (alarm, setitimer): it marks SIGALRM as due and wakes a thread, which posts
// the signal to the process on its way to user mode. One that repeats starts again when its signal is taken: so a
// short interval costs nobody but the program itself. Functions are called with the process's lock held.

#pragma once

#include <atomic>

#include <exo/base/time.hpp>

namespace exo::proc {

template <class System>
class alarm_timer : public System::scheduler_type::timer {
    using base = typename System::scheduler_type::timer;

public:
    explicit alarm_timer(std::atomic<bool>& expired) : base{&expire}, expired_{expired} {}

    struct setting {
        duration remaining{}; // zero: not armed
        duration interval{};  // zero: once
    };

    [[nodiscard]] setting read(instant now) const
    {
        const instant due = deadline_.load(std::memory_order_relaxed);
        if (due == instant::never())
            return {};
        return {due > now ? due - now : nanoseconds(1), interval_};
    }

    // `task` is that of a living thread of the process, which is the one to be woken.
    void set(typename System::scheduler_type& scheduler, typename System::task_type& task, const setting& next)
    {
        scheduler.cancel(*this);
        waits_.store(false, std::memory_order_relaxed);
        task_ = &task;
        interval_ = next.interval;
        const instant due = next.remaining == duration{} ? instant::never() : scheduler.now() + next.remaining;
        deadline_.store(due, std::memory_order_relaxed);
        if (due != instant::never()) {
            scheduler_ = &scheduler;
            scheduler.arm(*this, due);
        }
    }

    // SIGALRM was taken.
    void rearm(typename System::scheduler_type& scheduler)
    {
        if (!waits_.exchange(false, std::memory_order_relaxed))
            return;
        const instant now = scheduler.now();
        instant due = deadline_.load(std::memory_order_relaxed);
        if (due <= now) {
            const auto missed = (now - due).nanoseconds() / interval_.nanoseconds() + 1;
            due = due + nanoseconds(missed * interval_.nanoseconds());
        }
        deadline_.store(due, std::memory_order_relaxed);
        scheduler.arm(*this, due);
    }

    // The thread of `from` ends: that of `to` is woken instead.
    void move(typename System::scheduler_type& scheduler, const typename System::task_type& from,
              typename System::task_type& to)
    {
        if (task_ != &from)
            return;
        const bool armed = scheduler.cancel(*this);
        task_ = &to;
        if (armed)
            scheduler.arm(*this, deadline_.load(std::memory_order_relaxed));
    }

private:
    static instant expire(base& self, instant now) noexcept
    {
        auto& alarm = static_cast<alarm_timer&>(self);
        alarm.expired_.store(true);
        alarm.task_->interrupt_pending.store(true);
        alarm.scheduler_->unpark(alarm.task_);
        const bool repeats = alarm.interval_ != duration{};
        alarm.waits_.store(repeats, std::memory_order_relaxed);
        alarm.deadline_.store(repeats ? now + alarm.interval_ : instant::never(), std::memory_order_relaxed);
        return instant::never();
    }

    std::atomic<bool>& expired_;
    std::atomic<instant> deadline_{instant::never()};
    std::atomic<bool> waits_{}; // for its signal to be taken
    duration interval_{};
    typename System::scheduler_type* scheduler_{};
    typename System::task_type* task_{};
};

} // namespace exo::proc
