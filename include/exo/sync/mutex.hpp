// A sleeping lock: its holder may sleep, do I/O and copy user memory. Not for interrupt handlers.

#pragma once

#include <atomic>
#include <utility>

#include <exo/base/check.hpp>
#include <exo/hal/atomics.hpp>
#include <exo/sync/lock_observer.hpp>
#include <exo/sync/lock_rank.hpp>
#include <exo/sync/wait_queue.hpp>

namespace exo::sync {

template <lock_rank Rank, hal::Atomics Atomics = hal::standard_atomics, class Observer = lock_observer>
class mutex {
    static_assert(sleeps(Rank));

public:
    static constexpr lock_rank rank = Rank;

    class [[nodiscard]] guard {
    public:
        guard(guard&& other) noexcept : mutex_{std::exchange(other.mutex_, nullptr)}, parker_{other.parker_} {}
        guard& operator=(guard&&) = delete;
        ~guard() { unlock(); }

        [[gnu::hot]] void unlock() noexcept
        {
            if (auto* m = std::exchange(mutex_, nullptr))
                m->release(*parker_);
        }

    private:
        friend class mutex;
        guard(mutex& m, any_parker& parker) : mutex_{&m}, parker_{&parker} {}
        mutex* mutex_;
        any_parker* parker_;
    };

    mutex() = default;
    explicit mutex(Observer observer) : observer_{observer} {}
    mutex(const mutex&) = delete;
    mutex& operator=(const mutex&) = delete;
    ~mutex() { EXO_CHECK(!held()); }

    guard lock(any_parker& parker) { return take(parker, false); }
    // The same, beside others of the rank, in an order that is the caller's.
    guard lock_beside(any_parker& parker) { return take(parker, true); }

    [[nodiscard]] bool held() const noexcept { return held_.load(std::memory_order_relaxed); }

private:
    [[gnu::hot]] guard take(any_parker& parker, bool beside)
    {
        [[maybe_unused]] auto attempt = observer_.acquiring(parker, Rank, beside);
        if (!try_acquire()) {
            observer_.contended(parker, Rank, attempt);
            waiters_.wait(parker, [this] { return try_acquire(); });
        }
        observer_.acquired(parker, Rank, attempt);
        return guard{*this, parker};
    }
    bool try_acquire() noexcept { return !held_.exchange(true, std::memory_order_acquire); }
    void release(any_parker& parker) noexcept
    {
        observer_.released(parker, Rank);
        held_.store(false, std::memory_order_release);
        waiters_.wake_one(parker);
    }

    typename Atomics::template atomic<bool> held_{};
    basic_wait_queue<Atomics> waiters_;
    [[no_unique_address]] Observer observer_{};
};

} // namespace exo::sync
