// What admission has promised to threads that come and go. A thread that leaves keeps its part until nothing of what it
// used counts any more, and the promises to others rest on that (admission::release).

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
        admission::reservation reservation_;
        instant settled_{};
        list_hook hook_;
    };

    deadline_claims(allocator& from, Interrupts& interrupts, unsigned cpus)
        : allocator_{from}, interrupts_{interrupts}, admission_{cpus}
    {
    }
    ~deadline_claims()
    {
        while (claim* c = left_.pop_front()) {
            admission_.release(c->reservation_);
            delete_object(allocator_, c);
        }
    }

    // A thread is to have `p`; `held` is what it holds so far, or null. Errors, after which nothing has changed: those
    // of admission::admit, out_of_memory. No lock of a rank below `admission` is held.
    [[nodiscard]] result<> hold(claim*& held, const deadline::parameters& p, instant now)
    {
        claim* const fresh = held ? nullptr : EXO_TRY(new_object<claim>(allocator_));
        list<claim, &claim::hook_> settled;
        auto guard = lock_.lock(interrupts_);
        for (auto at = left_.begin(); at != left_.end();) {
            claim& c = *at++;
            if (c.settled_ > now)
                continue;
            left_.erase(c);
            admission_.release(c.reservation_);
            settled.push_back(c);
        }
        const auto verdict = held ? admission_.change(held->reservation_, p) : admission_.admit(fresh->reservation_, p);
        guard.unlock();
        while (claim* c = settled.pop_front())
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
        // An activation of it has begun by now, and comes back a period later.
        c->settled_ = now + c->reservation_.parameters().interval();
        left_.push_back(*c);
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
    allocator& allocator_;
    Interrupts& interrupts_;
    sync::spin_lock<sync::lock_rank::admission, Interrupts> lock_;
    admission admission_;
    list<claim, &claim::hook_> left_; // who have left
};

} // namespace exo::sched
