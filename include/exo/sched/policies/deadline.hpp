// SCHED_DEADLINE: earliest deadline first (Liu and Layland 1973) among servers that hold each thread to what it was
// admitted with, `runtime` in every `period`, to be had within `deadline` of when it is first asked for.
//
// A thread that has work begins an *activation*: a budget, and a deadline for it. What an activation has used comes
// back one period after the activation began, until when a thread that used up its budget waits (a hard reservation, as
// Linux's). So whatever a thread does, it asks no more of its CPU than a sporadic task of these parameters would, which
// is what admission.hpp's processor-demand test counts with: a set that it admits keeps its deadlines even where some
// threads run for longer, come more often or sleep at other times than they said. That makes it the sporadic server of
// POSIX (SCHED_SPORADIC, at most four amounts on their way back; in EDF: Ghazalie and Baker 1995) when threads sleep
// within their period, and what constant-bandwidth servers (Abeni and Buttazzo 1998) do when they don't.
//
// Those servers let a thread that wakes keep its deadline as long as the bandwidth of what is left allows. For that
// their demand must be counted by bandwidth, runtime / deadline, in intervals of any length, not by whole jobs: it is
// right for sets whose bandwidths sum to at most one, and makes others miss in sets that only the exact test admits.
// So it is a choice, keep_deadlines().

#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include <exo/base/check.hpp>
#include <exo/base/result.hpp>
#include <exo/base/time.hpp>
#include <exo/base/tree.hpp>
#include <exo/sched/errors.hpp>
#include <exo/sched/policy.hpp>
#include <exo/trace/counter.hpp>

namespace exo::sched {

struct deadline_parameters {
    duration runtime{};
    duration deadline{};    // relative
    duration period{};      // zero: the same as the deadline
    bool signals_overrun{}; // SCHED_FLAG_DL_OVERRUN

    // How far apart the beginnings of the periods are.
    [[nodiscard]] duration interval() const { return period == duration{} ? deadline : period; }
    friend bool operator==(const deadline_parameters&, const deadline_parameters&) = default;
};

template <class Recording>
class basic_deadline {
public:
    static constexpr duration least_runtime = nanoseconds(1024); // as Linux: 1 << DL_SCALE

    using parameters = deadline_parameters;

    // Whether they make sense: least_runtime <= runtime <= deadline <= period, else EINVAL (sched_setattr(2)).
    [[nodiscard]] static result<> check(const parameters& p)
    {
        if (p.runtime < least_runtime)
            return fail(errors::runtime_too_short, ns(least_runtime));
        if (p.runtime > p.deadline)
            return fail(errors::runtime_exceeds_deadline, ns(p.deadline));
        if (p.deadline > p.interval())
            return fail(errors::deadline_exceeds_period, ns(p.interval()));
        return {};
    }

    class entity {
    public:
        // `p` passes check(). What was used under the former parameters counts on.
        void set(const deadline_parameters& p)
        {
            EXO_CHECK(check(p) && where_ == place::outside);
            give_back_later();
            parameters_ = p;
            left_ = p.runtime;
            for (unsigned i = 0; i < returning_count_; ++i)
                left_ = left_ - returning_[i].amount;
            active_ = false;
        }
        [[nodiscard]] deadline_parameters parameters() const { return parameters_; }

        // Of its latest activation.
        [[nodiscard]] instant absolute_deadline() const { return deadline_; }
        // The budget; negative by as much as it ran too long.
        [[nodiscard]] duration runtime_left() const { return left_; }
        // From when on nothing of what it has used counts any more: when its reservation can be admitted again for
        // another thread, after it ended.
        [[nodiscard]] instant settled() const
        {
            const instant before = returning_count_ == 0 ? instant{} : returning_[returning_count_ - 1].when;
            const instant last = used_ > duration{} ? began_ + parameters_.interval() : instant{};
            return last > before ? last : before;
        }

        // How often it used up its budget, had more to do and had to wait; how many activations lasted beyond their
        // deadline.
        [[nodiscard]] std::uint64_t overruns() const { return overruns_.value(); }
        [[nodiscard]] std::uint64_t misses() const { return misses_.value(); }
        // True once after it overran, if its parameters ask for a signal (SIGXCPU).
        [[nodiscard]] bool take_overrun_signal()
        {
            const bool due = signal_due_;
            signal_due_ = false;
            return due;
        }

        // How the job went that the latest yield ended; told once. A job begins with a wake-up or the end of the one
        // before. Errors: runtime_overrun, deadline_missed.
        [[nodiscard]] result<> take_outcome()
        {
            const job ended = std::exchange(ended_, {});
            if (ended.overran)
                return fail(errors::runtime_overrun, ns(parameters_.runtime));
            if (ended.late > duration{})
                return fail(errors::deadline_missed, ns(ended.late));
            return {};
        }

    private:
        friend basic_deadline;
        struct job {
            duration late{}; // beyond the deadline of the activation
            bool overran{};
        };
        enum class place : std::uint8_t { outside, ready, waiting };
        struct amount_returning {
            instant when;
            duration amount;
        };
        static constexpr unsigned returning_limit = 4; // _POSIX_SS_REPL_MAX

        // When it will have a budget.
        [[nodiscard]] instant release() const
        {
            duration budget = left_;
            const amount_returning* next = returning_;
            while ((budget += next->amount) <= duration{})
                ++next;
            return next->when;
        }

        // The activation has ended: what it used is on its way back, in order. Too many amounts come together, at the
        // latest.
        void give_back_later()
        {
            if (used_ <= duration{})
                return;
            const instant when = settled();
            duration amount = used_;
            if (returning_count_ == returning_limit)
                amount += returning_[--returning_count_].amount;
            returning_[returning_count_++] = {when, amount};
            used_ = {};
        }
        bool take_back(instant now)
        {
            if (returning_count_ == 0 || returning_[0].when > now)
                return false;
            left_ += returning_[0].amount;
            --returning_count_;
            for (unsigned i = 0; i < returning_count_; ++i)
                returning_[i] = returning_[i + 1];
            return true;
        }
        void activate(instant when)
        {
            began_ = when;
            deadline_ = when + parameters_.deadline;
            active_ = true;
            misses_.end_episode();
        }

        // It has work from now on, after it had none.
        void wake(instant now, bool keeps_deadline)
        {
            busy_since_ = now;
            job_ = {};
            if (keeps_deadline)
                return;
            give_back_later();
            while (take_back(now))
                ;
            activate(now);
        }
        // It has work and no budget. False when none has come back yet. An activation begins when its budget comes
        // back, even if the former one lasted longer; unless even its deadline has passed, as after the machine slept.
        bool renew(instant now)
        {
            give_back_later();
            while (left_ <= duration{}) {
                const instant when = returning_[0].when;
                if (!take_back(now))
                    return false;
                activate(when > busy_since_ ? when : busy_since_);
            }
            if (deadline_ < now)
                activate(now);
            return true;
        }

        tree_hook hook_;
        instant deadline_{};
        place where_{place::outside};
        bool active_{};
        bool signal_due_{};
        std::uint8_t returning_count_{};
        duration left_{};
        duration used_{}; // by the activation
        instant began_{}; // the activation
        instant busy_since_{};
        instant release_{}; // while it waits
        job job_{};
        job ended_{};
        deadline_parameters parameters_{};
        amount_returning returning_[returning_limit]{}; // by time
        [[no_unique_address]] trace::counter<Recording> overruns_;
        [[no_unique_address]] trace::episode_counter<Recording> misses_;
    };

    // Whether a thread that sleeps and wakes before its deadline keeps it, if the budget left is no more than
    // runtime / deadline of the time left; otherwise it gets a later one. For CPUs whose threads have runtime /
    // deadline of at most one in sum (admission::by_bandwidth()), and for machines admitted by utilization.
    void keep_deadlines(bool keep) noexcept { keeps_deadlines_ = keep; }

    void enqueue(entity& e, arrival how, instant now) noexcept
    {
        if ((how != arrival::moved && how != arrival::changed) || !e.active_)
            e.wake(now, keeps_deadline(e, now));
        place(e, now);
    }
    void dequeue(entity& e) noexcept
    {
        if (e.where_ == entity::place::waiting)
            waiting_.erase(e);
        else
            leave_ready(e);
        e.where_ = entity::place::outside;
    }
    void release(instant now) noexcept
    {
        for (entity* e = waiting_.first(); e && e->release_ <= now; e = waiting_.first()) {
            waiting_.erase(*e);
            place(*e, now);
        }
    }
    entity* pick(instant now) noexcept
    {
        EXO_CHECK(!running_);
        release(now);
        running_ = ready_.first();
        if (running_)
            --size_;
        return running_;
    }
    void requeue(entity& e, departure why, instant now) noexcept
    {
        if (why == departure::yielded) {
            e.ended_ = std::exchange(e.job_, {});
            give_up(e);
        }
        if (e.left_ <= duration{} || why == departure::turn_over) {
            leave_ready(e);
            place(e, now);
            if (e.where_ == entity::place::waiting && why != departure::yielded)
                overrun(e);
        } else {
            running_ = nullptr;
            ++size_;
        }
    }

    // The turn of a thread lasts as long as its budget.
    bool tick(entity& e, duration ran, instant now) noexcept
    {
        e.left_ = e.left_ - ran;
        e.used_ += ran;
        if (now > e.deadline_) {
            misses_.add(e.misses_.add());
            e.job_.late = now - e.deadline_;
        }
        return e.left_ <= duration{};
    }
    [[nodiscard]] instant turn_ends(const entity& e, instant now) const noexcept
    {
        return e.left_ > duration{} ? now + e.left_ : now;
    }
    [[nodiscard]] instant next_release() const noexcept
    {
        const entity* first = waiting_.first();
        return first ? first->release_ : instant::never();
    }
    [[nodiscard]] bool preempts(const entity& woken, const entity& running) const noexcept
    {
        return woken.where_ == entity::place::ready && woken.deadline_ < running.deadline_;
    }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    // The earliest deadline first: threads are placed so that the earliest of the machine run.
    template <class Visit>
    void visit_movable(Visit visit)
    {
        for (entity& e : ready_)
            if (&e != running_ && !visit(e))
                return;
    }
    [[nodiscard]] std::uint64_t rank(const entity& e) const noexcept { return capped(e.deadline_.nanoseconds()); }
    [[nodiscard]] static std::uint64_t rank_of(const parameters& p, instant now) noexcept
    {
        return capped((now + p.deadline).nanoseconds());
    }
    [[nodiscard]] bool urgent(const entity&) const noexcept { return true; }
    [[nodiscard]] std::uint32_t weight(const entity&) const noexcept { return default_weight; }

    // What happened to entities while they were here. To wait for the next budget is to be throttled, for any reason.
    [[nodiscard]] std::uint64_t overruns() const noexcept { return overruns_.value(); }
    [[nodiscard]] std::uint64_t throttles() const noexcept { return throttles_.value(); }
    [[nodiscard]] std::uint64_t misses() const noexcept { return misses_.value(); }

private:
    static std::uint64_t ns(duration d) { return static_cast<std::uint64_t>(d.nanoseconds()); }
    static std::uint64_t capped(std::uint64_t rank) { return rank < rank_limit ? rank : rank_limit - 1; }

    [[nodiscard]] bool keeps_deadline(const entity& e, instant now) const
    {
        if (!keeps_deadlines_ || !e.active_ || e.left_ <= duration{} || now >= e.deadline_)
            return false;
        __extension__ using wide = unsigned __int128;
        return wide{ns(e.left_)} * ns(e.parameters_.deadline) <=
               wide{ns(e.parameters_.runtime)} * ns(e.deadline_ - now);
    }
    // Where it belongs by its budget; it is in neither tree.
    void place(entity& e, instant now)
    {
        if (e.left_ > duration{} || e.renew(now)) {
            e.where_ = entity::place::ready;
            ready_.insert(e);
            ++size_;
        } else {
            e.where_ = entity::place::waiting;
            e.release_ = e.release();
            waiting_.insert(e);
            throttles_.add();
        }
    }
    void leave_ready(entity& e)
    {
        ready_.erase(e);
        if (&e == running_)
            running_ = nullptr;
        else
            --size_;
    }
    static void give_up(entity& e)
    {
        if (e.left_ > duration{}) {
            e.used_ += e.left_;
            e.left_ = {};
        }
    }
    void overrun(entity& e)
    {
        e.signal_due_ = e.signal_due_ || e.parameters_.signals_overrun;
        e.job_.overran = true;
        e.overruns_.add();
        overruns_.add();
    }

    // The running one keeps its place: it was the first when it was picked.
    tree<entity, &entity::hook_, &entity::deadline_> ready_;
    tree<entity, &entity::hook_, &entity::release_> waiting_;
    entity* running_{};
    std::size_t size_{};
    bool keeps_deadlines_{};
    [[no_unique_address]] trace::counter<Recording> overruns_;
    [[no_unique_address]] trace::counter<Recording> throttles_;
    [[no_unique_address]] trace::counter<Recording> misses_;
};

class deadline : public basic_deadline<trace::recording> {};
static_assert(SchedPolicy<deadline>);

// The calling thread, `self`, has done its job, gives up what is left of its budget and goes on with its next period,
// as by Xenomai's rt_task_wait_period. A thread of another policy yields. Errors, which tell of the job that is done:
// deadline_missed, runtime_overrun.
template <class Scheduler>
[[nodiscard]] result<> wait_period(Scheduler& scheduler, typename Scheduler::task& self)
{
    deadline::entity& e = self;
    static_cast<void>(e.take_outcome()); // of a job that yield() ended
    scheduler.yield();
    return e.take_outcome();
}

} // namespace exo::sched
