// What locks cost, counted by rank, for builds that count it: how often they were taken, how often and how long
// somebody had to wait, and how long one was held at most.
//
// Each CPU counts for itself. Whoever has counters says so: an InterruptControl or a parker by lock_counters(), those
// of this CPU, which is called with interrupts off and returns a pointer, null where nobody counts; and it has now().

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include <exo/base/time.hpp>
#include <exo/sync/lock_rank.hpp>

namespace exo::sync {

// One writer at a time; readers see recent values.
class lock_counters {
public:
    struct of_rank {
        std::atomic<std::uint64_t> acquisitions{};
        std::atomic<std::uint64_t> contended{};    // of these
        std::atomic<std::uint64_t> wait{};         // ns, of all together
        std::atomic<std::uint64_t> longest_hold{}; // ns
    };

    [[nodiscard]] const of_rank& of(lock_rank rank) const noexcept { return ranks_[static_cast<std::size_t>(rank)]; }

    void count_acquisition(lock_rank rank) noexcept { add(at(rank).acquisitions, 1); }
    void count_wait(lock_rank rank, duration waited) noexcept
    {
        add(at(rank).contended, 1);
        add(at(rank).wait, static_cast<std::uint64_t>(waited.nanoseconds()));
    }
    void count_hold(lock_rank rank, duration held) noexcept
    {
        auto& longest = at(rank).longest_hold;
        if (const auto ns = static_cast<std::uint64_t>(held.nanoseconds());
            ns > longest.load(std::memory_order_relaxed))
            longest.store(ns, std::memory_order_relaxed);
    }

private:
    static void add(std::atomic<std::uint64_t>& count, std::uint64_t n) noexcept
    {
        count.store(count.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
    }
    [[nodiscard]] of_rank& at(lock_rank rank) noexcept { return ranks_[static_cast<std::size_t>(rank)]; }

    of_rank ranks_[lock_rank_count];
};

template <class By>
[[nodiscard]] lock_counters* lock_counters_of(By& by) noexcept
{
    if constexpr (requires { by.lock_counters(); })
        return by.lock_counters();
    else
        return nullptr;
}

} // namespace exo::sync
