// Priority inheritance (Sha, Rajkumar and Lehoczky 1990): who holds a lock that something more urgent waits for is as
// urgent until it lets go, and so along a chain of holders that wait themselves.
//
// Who waits for what, and with which parameters each is to run; all of it under one lock of the caller's. Functions
// call changed(holder) for each holder whose effective parameters are not what they were. How much is done under that
// lock does not depend on programs: a chain is followed over longest_chain waits at most, and of the locks that each
// holds only the one is looked at for which the most urgent waits.

#pragma once

#include <cstdint>

#include <exo/base/check.hpp>
#include <exo/base/tree.hpp>
#include <exo/sched/policy.hpp>

namespace exo::sched {

template <SchedPolicy Policy>
class inheritance {
public:
    using parameters = typename Policy::parameters;
    class lock;

    // Linux: max_lock_depth, kernel.max_lock_depth in sysctl(8).
    static constexpr unsigned longest_chain = 1024;

    // What may hold locks and wait for one.
    class holder {
    public:
        // What was asked for; what it inherits or, where nothing is more urgent, the same.
        [[nodiscard]] const parameters& base() const { return base_; }
        [[nodiscard]] const parameters& effective() const { return effective_; }

    private:
        friend inheritance;
        parameters base_{};
        parameters effective_{};
        std::uint64_t rank_{rank_of(parameters{})}; // of effective_
        lock* waits_for_{};
        tree_hook waiting_;
        tree<lock, &lock::contended_, &lock::urgency_> holds_; // those that others wait for
    };

    class lock {
    public:
        [[nodiscard]] holder* owner() const { return owner_; }
        [[nodiscard]] bool contended() const { return contended_.linked(); }

    private:
        friend inheritance;
        friend holder;
        holder* owner_{}; // while it is contended
        tree<holder, &holder::waiting_, &holder::rank_> waiters_;
        std::uint64_t urgency_{}; // the rank of the first of them
        tree_hook contended_;
    };

    // Of its effective parameters, as if all began at the same time.
    [[nodiscard]] static std::uint64_t rank(const holder& h) { return h.rank_; }

    template <class Changed>
    static void set_base(holder& h, const parameters& base, Changed changed)
    {
        h.base_ = base;
        update(&h, changed);
    }

    // `h` begins to wait for a lock that `owner` holds. False when that would never end, as the owner waits for `h`, or
    // when the chain from the owner on is too long to tell.
    template <class Changed>
    [[nodiscard]] static bool wait(holder& h, lock& l, holder& owner, Changed changed)
    {
        EXO_CHECK(!h.waits_for_ && (!l.contended() || l.owner_ == &owner));
        unsigned length = 0;
        for (const holder* o = &owner; o; o = o->waits_for_ ? o->waits_for_->owner_ : nullptr)
            if (o == &h || ++length > longest_chain)
                return false;
        l.waiters_.insert(h);
        h.waits_for_ = &l;
        rank_lock(l, &owner);
        update(&owner, changed);
        return true;
    }
    // `h` gives up its wait.
    template <class Changed>
    static void give_up(holder& h, Changed changed)
    {
        lock& l = *h.waits_for_;
        holder* owner = l.owner_;
        stop_waiting(h);
        update(owner, changed);
    }
    // Of those that wait the one that is to have it next, or null.
    [[nodiscard]] static holder* first(const lock& l) { return l.waiters_.first(); }
    // The owner of a contended lock lets go. Returns the new one: of the most urgent the first that came.
    template <class Changed>
    [[nodiscard]] static holder& hand_over(lock& l, Changed changed)
    {
        holder& old = *l.owner_;
        holder& next = *l.waiters_.first();
        l.waiters_.erase(next);
        next.waits_for_ = nullptr;
        rank_lock(l, &next);
        update(&old, changed);
        return next;
    }

private:
    [[nodiscard]] static std::uint64_t rank_of(const parameters& p) { return Policy::rank_of(p, instant{}); }

    static void stop_waiting(holder& h)
    {
        lock& l = *h.waits_for_;
        l.waiters_.erase(h);
        h.waits_for_ = nullptr;
        rank_lock(l, l.owner_);
    }
    // Among the locks of `owner`, after a change of who waits for it.
    static void rank_lock(lock& l, holder* owner)
    {
        if (l.contended())
            l.owner_->holds_.erase(l);
        const holder* const first = l.waiters_.first();
        l.owner_ = first ? owner : nullptr;
        if (first) {
            l.urgency_ = first->rank_;
            owner->holds_.insert(l);
        }
    }
    // Works out what `h` is to run with, and so on along the chain for as long as anything changes. Those beyond the
    // longest chain take notice when their own waiters change.
    template <class Changed>
    static void update(holder* h, Changed changed)
    {
        for (unsigned length = 0; h && length <= longest_chain; ++length) {
            const std::uint64_t base_rank = rank_of(h->base_);
            const lock* const wanted = h->holds_.first();
            const holder* const best = wanted && wanted->urgency_ < base_rank ? wanted->waiters_.first() : nullptr;
            const parameters& effective = best ? best->effective_ : h->base_;
            if (effective == h->effective_)
                return;
            lock* const l = h->waits_for_;
            if (l)
                l->waiters_.erase(*h);
            h->effective_ = effective;
            h->rank_ = best ? best->rank_ : base_rank;
            if (l) {
                l->waiters_.insert(*h);
                rank_lock(*l, l->owner_);
            }
            changed(*h);
            h = l ? l->owner_ : nullptr;
        }
    }
};

} // namespace exo::sched
