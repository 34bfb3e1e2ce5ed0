// The least and the greatest of what was recorded. One writer at a time, as for a counter; one that does not record is
// empty.

#pragma once

#include <atomic>
#include <cstdint>

#include <exo/trace/counter.hpp>

namespace exo::trace {

template <class Recording>
class greatest {
public:
    void record(std::uint64_t value) noexcept
    {
        if (value > this->value())
            value_.store(value, std::memory_order_relaxed);
    }
    // 0 when there was none.
    [[nodiscard]] std::uint64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

private:
    std::atomic<std::uint64_t> value_{};
};

template <class Recording>
class least {
public:
    static constexpr std::uint64_t none = ~std::uint64_t{0};

    void record(std::uint64_t value) noexcept
    {
        if (value < this->value())
            value_.store(value, std::memory_order_relaxed);
    }
    [[nodiscard]] std::uint64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

private:
    std::atomic<std::uint64_t> value_{none};
};

template <>
class greatest<not_recording> {
public:
    void record(std::uint64_t) noexcept {}
    [[nodiscard]] std::uint64_t value() const noexcept { return 0; }
};

template <>
class least<not_recording> {
public:
    static constexpr std::uint64_t none = ~std::uint64_t{0};

    void record(std::uint64_t) noexcept {}
    [[nodiscard]] std::uint64_t value() const noexcept { return none; }
};

} // namespace exo::trace
