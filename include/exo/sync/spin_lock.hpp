// A spinning lock whose type says its rank and what it does to interrupts.
//
// lock() returns a guard; holding one, a thread keeps its CPU: the lock disables interrupts through its
// InterruptControl until the guard ends, so it may also be taken in handlers and is never held by a thread that is not
// running. Fair by ticket: waiters get the lock in the order of arrival. Holders do not sleep. There is no spinning
// lock that leaves interrupts on, so none of them has to be kept out of handlers.

#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

#include <exo/base/check.hpp>
#include <exo/hal/atomics.hpp>
#include <exo/hal/interrupt_control.hpp>
#include <exo/sync/lock_observer.hpp>
#include <exo/sync/lock_rank.hpp>

namespace exo::sync {

template <lock_rank Rank, hal::InterruptControl Interrupts, class Observer = lock_observer,
          hal::Atomics Atomics = hal::standard_atomics>
class spin_lock {
    static_assert(!sleeps(Rank));

public:
    static constexpr lock_rank rank = Rank;

    class [[nodiscard]] guard {
    public:
        guard(guard&& other) noexcept
            : lock_{std::exchange(other.lock_, nullptr)}, interrupts_{other.interrupts_}, saved_{other.saved_}
        {
        }
        guard& operator=(guard&&) = delete;
        ~guard() { unlock(); }

        [[gnu::hot]] void unlock() noexcept
        {
            if (auto* lock = std::exchange(lock_, nullptr)) {
                lock->release(*interrupts_);
                interrupts_->restore(saved_);
            }
        }

    private:
        friend class spin_lock;
        guard(spin_lock& lock, Interrupts& interrupts, typename Interrupts::state saved)
            : lock_{&lock}, interrupts_{&interrupts}, saved_{saved}
        {
        }

        spin_lock* lock_;
        Interrupts* interrupts_;
        typename Interrupts::state saved_;
    };

    spin_lock() = default;
    explicit spin_lock(Observer observer) : observer_{observer} {}
    spin_lock(const spin_lock&) = delete;
    spin_lock& operator=(const spin_lock&) = delete;
    ~spin_lock() { EXO_CHECK(!held()); }

    guard lock(Interrupts& interrupts) noexcept { return take(interrupts, false); }
    // The same, beside others of the rank, in an order that is the caller's.
    guard lock_beside(Interrupts& interrupts) noexcept { return take(interrupts, true); }

    // A snapshot, for checks.
    [[nodiscard]] bool held() const noexcept
    {
        return next_.load(std::memory_order_relaxed) != serving_.load(std::memory_order_relaxed);
    }

private:
    [[gnu::hot]] guard take(Interrupts& interrupts, bool beside) noexcept
    {
        const auto saved = interrupts.save_and_disable();
        [[maybe_unused]] auto attempt = observer_.acquiring(interrupts, Rank, beside);
        const auto ticket = next_.fetch_add(1, std::memory_order_relaxed);
        if (serving_.load(std::memory_order_acquire) != ticket) [[unlikely]] {
            observer_.contended(interrupts, Rank, attempt);
            while (serving_.load(std::memory_order_acquire) != ticket)
                Atomics::pause();
        }
        observer_.acquired(interrupts, Rank, attempt);
        return guard{*this, interrupts, saved};
    }
    void release(Interrupts& interrupts) noexcept
    {
        observer_.released(interrupts, Rank);
        serving_.store(serving_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
    }

    typename Atomics::template atomic<std::uint32_t> next_{};
    typename Atomics::template atomic<std::uint32_t> serving_{};
    [[no_unique_address]] Observer observer_{};
};

} // namespace exo::sync
