// A sleeping lock: its holder may sleep, do I/O and copy user memory. Not for interrupt handlers.

#pragma once

#include <atomic>
#include <utility>

#include <exo/base/check.hpp>
#include <exo/hal/atomics.hpp>
#include <exo/sync/lock_rank.hpp>
#include <exo/sync/wait_queue.hpp>

namespace exo::sync {

template <lock_rank Rank, hal::Atomics Atomics = hal::standard_atomics>
class mutex {
public:
    static constexpr lock_rank rank = Rank;

    class [[nodiscard]] guard {
    public:
        guard(guard&& other) noexcept : mutex_{std::exchange(other.mutex_, nullptr)}, parker_{other.parker_} {}
        guard& operator=(guard&&) = delete;
        ~guard() { unlock(); }

        void unlock() noexcept
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
    mutex(const mutex&) = delete;
    mutex& operator=(const mutex&) = delete;
    ~mutex() { EXO_CHECK(!held()); }

    guard lock(any_parker& parker)
    {
        if (!try_acquire())
            waiters_.wait(parker, [this] { return try_acquire(); });
        return guard{*this, parker};
    }

    [[nodiscard]] bool held() const noexcept { return held_.load(std::memory_order_relaxed); }

private:
    bool try_acquire() noexcept { return !held_.exchange(true, std::memory_order_acquire); }
    void release(any_parker& parker) noexcept
    {
        held_.store(false, std::memory_order_release);
        waiters_.wake_one(parker);
    }

    typename Atomics::template atomic<bool> held_{};
    basic_wait_queue<Atomics> waiters_;
};

} // namespace exo::sync
