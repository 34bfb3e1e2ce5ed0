// Holds all that follow a policy to a share of their CPU, so that what comes after it in a run queue lives: with
// run_queue<deadline, throttled<fixed_priority>, fair>, fair threads have 5 % of a CPU that a FIFO thread never gives
// up (Linux's real-time throttling: sched_rt_runtime_us in every sched_rt_period_us).
//
// Periods begin at multiples of their length on the clock. When the runtime of one is used up, no entity may run until
// the next; what was used beyond it, because the charge came late, is missing there.

#pragma once

#include <cstddef>
#include <cstdint>

#include <exo/base/check.hpp>
#include <exo/base/time.hpp>
#include <exo/sched/cpu_share.hpp>
#include <exo/sched/policy.hpp>
#include <exo/trace/counter.hpp>

namespace exo::sched {

template <SchedPolicy Policy, class Recording = trace::recording>
class throttled {
public:
    using parameters = typename Policy::parameters;
    using entity = typename Policy::entity;

    throttled() = default;
    explicit throttled(cpu_share share) { set_share(share); }

    // A runtime above zero. With a share of the whole CPU nothing is held back.
    void set_share(cpu_share share) noexcept
    {
        EXO_CHECK(share.valid() && share.runtime > duration{});
        share_ = share;
        period_ends_ = {};
        used_ = {};
    }
    [[nodiscard]] cpu_share share() const noexcept { return share_; }
    [[nodiscard]] Policy& policy() noexcept { return policy_; }
    [[nodiscard]] const Policy& policy() const noexcept { return policy_; }
    // How often the runtime of a period was used up.
    [[nodiscard]] std::uint64_t throttles() const noexcept { return throttles_.value(); }

    void enqueue(entity& e, arrival how, instant now) noexcept
    {
        if (used_up())
            advance(now, duration{});
        policy_.enqueue(e, how, now);
    }
    void dequeue(entity& e) noexcept { policy_.dequeue(e); }
    void release(instant now) noexcept
    {
        advance(now, duration{});
        sched::release(policy_, now);
    }
    entity* pick(instant now) noexcept
    {
        advance(now, duration{});
        held_back_ = false;
        return used_up() ? nullptr : policy_.pick(now);
    }
    void requeue(entity& e, departure why, instant now) noexcept
    {
        policy_.requeue(e, why == departure::turn_over && held_back_ ? departure::preempted : why, now);
    }

    bool tick(entity& e, duration ran, instant now) noexcept
    {
        const bool over = policy_.tick(e, ran, now);
        const bool before = used_up();
        used_ += ran;
        advance(now, ran);
        if (used_up() && !before)
            throttles_.add();
        held_back_ = !over && (held_back_ || used_up());
        return over || used_up();
    }
    [[nodiscard]] instant turn_ends(const entity& e, instant now) const noexcept
    {
        const instant own = policy_.turn_ends(e, now);
        const instant all = runtime_ends(now);
        return own < all ? own : all;
    }
    [[nodiscard]] instant next_release() const noexcept
    {
        const instant own = policy_.next_release();
        if (!used_up() || (policy_.size() == 0 && own == instant::never()))
            return own;
        const instant all = opens();
        return policy_.size() != 0 || own < all ? all : own;
    }
    [[nodiscard]] closure closed() const noexcept { return used_up() ? closure{0, opens()} : closure{}; }
    [[nodiscard]] bool preempts(const entity& woken, const entity& running) const noexcept
    {
        return !used_up() && policy_.preempts(woken, running);
    }
    [[nodiscard]] std::size_t size() const noexcept { return used_up() ? 0 : policy_.size(); }
    template <class Visit>
    void visit_movable(Visit visit)
    {
        policy_.visit_movable(visit);
    }
    [[nodiscard]] std::uint64_t rank(const entity& e) const noexcept { return policy_.rank(e); }
    [[nodiscard]] static std::uint64_t rank_of(const parameters& p, instant now) noexcept
    {
        return Policy::rank_of(p, now);
    }
    [[nodiscard]] std::uint32_t weight(const entity& e) const noexcept { return policy_.weight(e); }
    [[nodiscard]] bool urgent(const entity& e) const noexcept { return policy_.urgent(e); }

private:
    [[nodiscard]] bool used_up() const { return used_ >= share_.runtime && !share_.is_whole(); }

    // When the runtime that was used up beyond this period's has been given.
    [[nodiscard]] instant opens() const
    {
        return period_ends_ + share_.period * (used_.nanoseconds() / share_.runtime.nanoseconds() - 1);
    }

    // To the period that `now` is in. Each one that has begun since gave its runtime; of the last `ran`, what lies in
    // the current one was used there.
    [[gnu::hot]] void advance(instant now, duration ran)
    {
        if (now < period_ends_)
            return;
        const std::int64_t begun = (now - period_ends_).nanoseconds() / share_.period.nanoseconds() + 1;
        period_ends_ = period_ends_ + share_.period * begun;
        const duration current = share_.period - (period_ends_ - now);
        const duration least = ran < current ? ran : current;
        used_ = used_ - share_.runtime * begun;
        used_ = used_ > least ? used_ : least;
    }
    // When the runtime is used up, if entities run from now on.
    [[nodiscard]] instant runtime_ends(instant now) const
    {
        if (share_.is_whole())
            return instant::never();
        const instant end = used_up() ? now : now + (share_.runtime - used_);
        return end < period_ends_ ? end : period_ends_ + share_.runtime;
    }

    Policy policy_;
    cpu_share share_;
    instant period_ends_;
    duration used_;    // in the period
    bool held_back_{}; // the one that runs, whose turn is not over
    [[no_unique_address]] trace::counter<Recording> throttles_;
};

} // namespace exo::sched
