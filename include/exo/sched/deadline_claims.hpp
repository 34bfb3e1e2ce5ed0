// What admission has promised to threads that come and go. A thread that leaves, or asks for less than before, keeps
// its part until nothing of what it used counts any more, and the promises to others rest on that (admission::release).

#pragma once

#include <cstdint>
#include <utility>

#include <exo/base/allocator.hpp>
#include <exo/base/list.hpp>
#include <exo/base/result.hpp>
#include <exo/base/time.hpp>
#include <exo/hal/interrupt_control.hpp>
#include <exo/sched/admission.hpp>
#include <exo/sync/lock_rank.hpp>
#include <exo/sync/spin_lock.hpp>

namespace exo::sched {

template <hal::InterruptControl Interrupts>
class deadline_claims {
public:
    // What one thread holds.
    class claim {
        friend deadline_claims;
        admission::reservation reservation_; // covers what is wanted, and until settled_ what was before
        deadline::parameters wanted_;
        instant settled_{};
        bool left_{};
        list_hook hook_; // until it has settled; else what is reserved is what is wanted
    };

    deadline_claims(allocator& from, Interrupts& interrupts, unsigned cpus)
        : allocator_{from}, interrupts_{interrupts}, admission_{cpus}
    {
    }
    ~deadline_claims()
    {
        while (claim* c = unsettled_.pop_front()) {
            admission_.release(c->reservation_);
            delete_object(allocator_, c);
        }
    }

    // A thread is to have `p`; `held` is what it holds so far, or null. To have less, in every interval, is always
    // granted. Errors, after which nothing has changed: those of admission::admit, out_of_memory. No lock of a rank
    // below `admission` is held.
    [[nodiscard]] result<> hold(claim*& held, const deadline::parameters& p, instant now)
    {
        EXO_TRY(deadline::check(p));
        claim* const fresh = held ? nullptr : EXO_TRY(new_object<claim>(allocator_));
        claims gone;
        auto guard = lock_.lock(interrupts_);
        settle(now, gone);
        const auto verdict = held ? change(*held, p, now) : admission_.admit(fresh->reservation_, p);
        if (verdict)
            (held ? held : fresh)->wanted_ = p;
        guard.unlock();
        while (claim* c = gone.pop_front())
            delete_object(allocator_, c);
        if (verdict && fresh)
            held = fresh;
        else if (fresh)
            delete_object(allocator_, fresh);
        return verdict;
    }
    // The thread ends, or follows another policy from now on. Nothing, if it holds nothing.
    void let_go(claim*& held, instant now) noexcept
    {
        claim* const c = std::exchange(held, nullptr);
        if (!c)
            return;
        auto guard = lock_.lock(interrupts_);
        c->left_ = true;
        give_up(*c, now);
    }

    // See admission.
    [[nodiscard]] bool by_bandwidth()
    {
        auto guard = lock_.lock(interrupts_);
        return admission_.by_bandwidth();
    }
    [[nodiscard]] std::uint64_t millionths_used()
    {
        auto guard = lock_.lock(interrupts_);
        return admission_.millionths_used();
    }

private:
    using claims = list<claim, &claim::hook_>;
    __extension__ using wide = unsigned __int128;

    // What is wanted now is not wanted from now on.
    void give_up(claim& c, instant now)
    {
        // An activation of it has begun by now, and comes back a period later.
        const instant settled = now + c.wanted_.interval();
        if (settled > c.settled_)
            c.settled_ = settled;
        if (!c.hook_.linked())
            unsettled_.push_back(c);
    }
    void settle(instant now, claims& gone)
    {
        for (auto at = unsettled_.begin(); at != unsettled_.end();) {
            claim& c = *at++;
            if (c.settled_ > now || (!c.left_ && !admission_.change(c.reservation_, c.wanted_)))
                continue;
            unsettled_.erase(c);
            if (c.left_) {
                admission_.release(c.reservation_);
                gone.push_back(c);
            }
        }
    }
    result<> change(claim& c, const deadline::parameters& p, instant now)
    {
        const deadline::parameters before = c.reservation_.parameters();
        const deadline::parameters both = covers(p, before) ? p : covers(before, p) ? before : cover_of(before, p);
        if (both != before)
            EXO_TRY(admission_.change(c.reservation_, both));
        if (!covers(p, c.wanted_))
            give_up(c, now);
        return {};
    }

    // In any interval a thread of `a` asks for no less than one of `b`: `a` has jobs for each one of `b`. Where
    // utilization is what counts, only in the long run.
    [[nodiscard]] bool covers(const deadline::parameters& a, const deadline::parameters& b) const
    {
        if (admission_.cpus() > 1)
            return wide{ns(a.runtime)} * ns(b.interval()) >= wide{ns(b.runtime)} * ns(a.interval());
        if (a.deadline > b.deadline)
            return false;
        const std::uint64_t by_deadline = ns(b.deadline - a.deadline) / ns(a.interval()) + 1;
        const std::uint64_t by_period = ns(b.interval()) / ns(a.interval());
        return ns(a.runtime) * (by_deadline < by_period ? by_deadline : by_period) >= ns(b.runtime);
    }
    // Of two that do not cover each other: a flow that is as dense as the denser one, in so short periods that what is
    // lost where they do not divide a deadline is little.
    [[nodiscard]] static deadline::parameters cover_of(const deadline::parameters& a, const deadline::parameters& b)
    {
        const duration runtime = a.runtime < b.runtime ? a.runtime : b.runtime;
        const duration relative = a.deadline < b.deadline ? a.deadline : b.deadline;
        const std::uint64_t most = ns(runtime) / ns(deadline::least_runtime);
        const std::uint64_t period = ns(relative) / (most < flow_parts ? most : flow_parts);
        std::uint64_t part = ns(deadline::least_runtime);
        for (const deadline::parameters* p : {&a, &b}) {
            const std::uint64_t parts = ns(p->deadline) / period;
            const std::uint64_t needed = (ns(p->runtime) + parts - 1) / parts;
            part = part > needed ? part : needed;
        }
        part = part < period ? part : period; // more than a share lets in
        return {duration{static_cast<std::int64_t>(part)}, duration{static_cast<std::int64_t>(period)}, {}};
    }
    static constexpr std::uint64_t flow_parts = 64;
    static std::uint64_t ns(duration d) { return static_cast<std::uint64_t>(d.nanoseconds()); }

    allocator& allocator_;
    Interrupts& interrupts_;
    sync::spin_lock<sync::lock_rank::admission, Interrupts> lock_;
    admission admission_;
    claims unsettled_; // who have left, or want less than before
};

} // namespace exo::sched
