// Counting what happens, at the cost of an addition, or at none.
//
// `Recording` says which: a component takes recording or not_recording as a template argument and hands it to its
// counters; those that do not record are empty and every call on them vanishes. Readers see recent values, never torn
// ones; nothing is ordered by them.

#pragma once

#include <atomic>
#include <cstdint>

namespace exo::trace {

struct recording {
    static constexpr bool on = true;
};
struct not_recording {
    static constexpr bool on = false;
};

// Counts for one writer at a time: one CPU with interrupts off, or under a lock. A component keeps one for each CPU,
// and readers sum them.
template <class Recording>
class counter {
public:
    // g++ makes it a call here and there, which is longer than it.
    [[gnu::always_inline]] void add(std::uint64_t n = 1) noexcept
    {
        value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
    }
    [[nodiscard]] std::uint64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

private:
    std::atomic<std::uint64_t> value_{};
};

template <>
class counter<not_recording> {
public:
    void add(std::uint64_t = 1) noexcept {}
    [[nodiscard]] std::uint64_t value() const noexcept { return 0; }
};

// Counts, for one writer at a time, episodes in which something was seen, however often.
template <class Recording>
class episode_counter {
public:
    // What the count grew by: one, or nothing when the episode is counted already.
    std::uint64_t add() noexcept
    {
        const std::uint64_t before = twice_.load(std::memory_order_relaxed);
        if (before % 2 != 0)
            return 0;
        twice_.store(before + 3, std::memory_order_relaxed);
        return 1;
    }
    void end_episode() noexcept
    {
        twice_.store(twice_.load(std::memory_order_relaxed) & ~std::uint64_t{1}, std::memory_order_relaxed);
    }
    [[nodiscard]] std::uint64_t value() const noexcept { return twice_.load(std::memory_order_relaxed) / 2; }

private:
    std::atomic<std::uint64_t> twice_{}; // and one more when the episode is counted
};

template <>
class episode_counter<not_recording> {
public:
    std::uint64_t add() noexcept { return 0; }
    void end_episode() noexcept {}
    [[nodiscard]] std::uint64_t value() const noexcept { return 0; }
};

// Counts for any number of writers, where events are rare or no CPU owns them; with subtract(), what there is now.
template <class Recording>
class shared_counter {
public:
    void add(std::uint64_t n = 1) noexcept { value_.fetch_add(n, std::memory_order_relaxed); }
    void subtract(std::uint64_t n = 1) noexcept { value_.fetch_sub(n, std::memory_order_relaxed); }
    [[nodiscard]] std::uint64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

private:
    std::atomic<std::uint64_t> value_{};
};

template <>
class shared_counter<not_recording> {
public:
    void add(std::uint64_t = 1) noexcept {}
    void subtract(std::uint64_t = 1) noexcept {}
    [[nodiscard]] std::uint64_t value() const noexcept { return 0; }
};

} // namespace exo::trace
