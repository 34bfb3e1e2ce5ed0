// A sleeping lock whose holder inherits the urgency of who waits for it (sched/inheritance.hpp), so that a thread waits
// for what the holder does under the lock and not for others that the holder must let go first. It goes to the most
// urgent that waits. Not for interrupt handlers. The kernel's own locks, which lock() takes and a guard lets go, have a
// rank like all others (sync/lock_rank.hpp); those that programs hold have no order.

#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

#include <exo/base/check.hpp>
#include <exo/base/result.hpp>
#include <exo/base/time.hpp>
#include <exo/sched/errors.hpp>
#include <exo/sync/lock_observer.hpp>
#include <exo/sync/lock_rank.hpp>

namespace exo::sched {

// `Scheduler` is a sched::scheduler.
template <class Scheduler, sync::lock_rank Rank, class Observer = sync::lock_observer>
class inheriting_mutex {
    static_assert(sync::sleeps(Rank));

    using task = typename Scheduler::task;
    using inheritance = typename Scheduler::inheritance_type;

public:
    class [[nodiscard]] guard {
    public:
        guard(guard&& other) noexcept : mutex_{std::exchange(other.mutex_, nullptr)}, scheduler_{other.scheduler_} {}
        guard& operator=(guard&&) = delete;
        ~guard() { unlock(); }

        // By the thread that locked.
        void unlock() noexcept
        {
            if (auto* m = std::exchange(mutex_, nullptr)) {
                m->observer_.released(*scheduler_, Rank);
                m->release(*scheduler_);
            }
        }

    private:
        friend class inheriting_mutex;
        guard(inheriting_mutex& m, Scheduler& scheduler) : mutex_{&m}, scheduler_{&scheduler} {}
        inheriting_mutex* mutex_;
        Scheduler* scheduler_;
    };

    inheriting_mutex() = default;
    inheriting_mutex(const inheriting_mutex&) = delete;
    inheriting_mutex& operator=(const inheriting_mutex&) = delete;
    ~inheriting_mutex() { EXO_CHECK(!held()); }

    // Errors: would_deadlock, when the holder waits, perhaps through others, for the calling thread, or is it, or
    // through more than inheritance::longest_chain; timed_out. Threads have no numbers here, so there is no context.
    result<guard> lock(Scheduler& scheduler, instant deadline = instant::never())
    {
        return take(scheduler, deadline, false);
    }
    // The same, and interrupted.
    result<guard> lock_interruptible(Scheduler& scheduler, instant deadline = instant::never())
    {
        return take(scheduler, deadline, true);
    }

    // For locks that outlive the call which takes them, and whose first holder took them elsewhere (futexes).
    //
    // `holder` has it, unless somebody has it already.
    [[nodiscard]] bool give(task& holder) noexcept
    {
        std::uintptr_t expected = 0;
        return owner_.compare_exchange_strong(expected, word(holder), std::memory_order_acq_rel,
                                              std::memory_order_relaxed);
    }
    // Whoever has it has it no more. Nobody waits, or will.
    void take_away() noexcept
    {
        EXO_CHECK(!lock_.contended());
        owner_.store(0, std::memory_order_relaxed);
    }
    // The calling thread has it from here on. Errors: as lock and, if it may be, interrupted.
    result<void> acquire(Scheduler& scheduler, instant deadline, bool interruptible)
    {
        task& self = *scheduler.current();
        if (try_acquire(self))
            return {};
        return wait(scheduler, self, deadline, interruptible);
    }
    // By its holder.
    void release(Scheduler& scheduler) noexcept
    {
        std::uintptr_t seen = owner_.load(std::memory_order_relaxed);
        if (!(seen & contended) &&
            owner_.compare_exchange_strong(seen, 0, std::memory_order_release, std::memory_order_relaxed))
            return;
        scheduler.change_inheritance([&](auto changed) -> task* { return hand_over(changed); });
    }
    // Who would have it if its holder released it now, or null.
    [[nodiscard]] task* next(Scheduler& scheduler) noexcept
    {
        task* first = nullptr;
        scheduler.change_inheritance([&](auto) {
            first = static_cast<task*>(inheritance::first(lock_));
            return static_cast<task*>(nullptr);
        });
        return first;
    }
    // By its holder: release, if `expected` is who gets it.
    [[nodiscard]] bool release_to(Scheduler& scheduler, task* expected) noexcept
    {
        bool done = false;
        scheduler.change_inheritance([&](auto changed) -> task* {
            done = static_cast<task*>(inheritance::first(lock_)) == expected;
            return done ? hand_over(changed) : nullptr;
        });
        return done;
    }

    [[nodiscard]] bool held() const noexcept { return owner_.load(std::memory_order_relaxed) != 0; }

private:
    static constexpr std::uintptr_t contended = 1; // the owner lets go under the scheduler's lock

    static std::uintptr_t word(task& t) { return reinterpret_cast<std::uintptr_t>(&t); }
    static task& owner_of(std::uintptr_t w) { return *reinterpret_cast<task*>(w & ~contended); }
    [[nodiscard]] bool owned_by(task& t) const noexcept
    {
        return (owner_.load(std::memory_order_acquire) & ~contended) == word(t);
    }

    [[nodiscard]] bool try_acquire(task& self) noexcept
    {
        std::uintptr_t expected = 0;
        return owner_.compare_exchange_strong(expected, word(self), std::memory_order_acquire,
                                              std::memory_order_relaxed);
    }
    result<guard> take(Scheduler& scheduler, instant deadline, bool interruptible)
    {
        [[maybe_unused]] auto attempt = observer_.acquiring(scheduler, Rank, false);
        task& self = *scheduler.current();
        if (!try_acquire(self)) {
            observer_.contended(scheduler, Rank, attempt);
            EXO_TRY(wait(scheduler, self, deadline, interruptible));
        }
        observer_.acquired(scheduler, Rank, attempt);
        return guard{*this, scheduler};
    }
    result<void> wait(Scheduler& scheduler, task& self, instant deadline, bool interruptible)
    {
        bool acquired = false;
        bool waits = false;
        scheduler.change_inheritance([&](auto changed) {
            std::uintptr_t seen = owner_.load(std::memory_order_relaxed);
            // While it is contended, the word changes only under the lock that is held here.
            while (seen == 0 || !(seen & contended)) {
                const std::uintptr_t wanted = seen == 0 ? word(self) : seen | contended;
                if (!owner_.compare_exchange_weak(seen, wanted, std::memory_order_acquire, std::memory_order_relaxed))
                    continue;
                acquired = seen == 0;
                break;
            }
            if (!acquired)
                waits = wait_for(scheduler, self, owner_of(seen), changed);
            return static_cast<task*>(nullptr);
        });
        if (acquired)
            return {};
        if (!waits)
            return fail(counted(scheduler, errors::would_deadlock));
        for (;;) {
            if (owned_by(self))
                return {};
            // Before it parks: it may have been interrupted long ago.
            const bool interrupted = interruptible && scheduler.interrupted();
            if (!interrupted && (deadline == instant::never() || scheduler.now() < deadline)) {
                scheduler.park(deadline);
                continue;
            }
            scheduler.change_inheritance([&](auto changed) {
                acquired = owned_by(self);
                if (!acquired)
                    inheritance::give_up(self, changed);
                return static_cast<task*>(nullptr);
            });
            if (acquired)
                return {};
            return fail(counted(scheduler, interrupted ? errors::interrupted : errors::timed_out));
        }
    }
    // Under the scheduler's lock: who has it now, if anybody, and is to be woken.
    template <class Changed>
    task* hand_over(Changed changed) noexcept
    {
        if (!lock_.contended()) { // all have given up
            owner_.store(0, std::memory_order_release);
            return nullptr;
        }
        auto& next = static_cast<task&>(inheritance::hand_over(lock_, changed));
        owner_.store(word(next) | (lock_.contended() ? contended : 0), std::memory_order_release);
        return &next;
    }
    template <class Changed>
    bool wait_for(Scheduler& scheduler, task& self, task& owner, Changed changed)
    {
        if (inheritance::rank(self) < inheritance::rank(owner))
            scheduler.count_inversion();
        return inheritance::wait(self, lock_, owner, changed);
    }
    static error counted(Scheduler& scheduler, error e)
    {
        scheduler.count(e);
        return e;
    }

    typename Scheduler::atomics::template atomic<std::uintptr_t> owner_{};
    typename inheritance::lock lock_;
    [[no_unique_address]] Observer observer_{};
};

} // namespace exo::sched
