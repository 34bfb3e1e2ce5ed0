// Points and spans of time in nanoseconds, as distinct types. <chrono> does the same at half a second of compile time.

#pragma once

#include <compare>
#include <cstdint>

namespace exo {

class duration {
public:
    constexpr duration() = default;
    constexpr explicit duration(std::int64_t ns) : ns_{ns} {}

    [[nodiscard]] constexpr std::int64_t nanoseconds() const { return ns_; }

    friend constexpr auto operator<=>(duration, duration) = default;
    friend constexpr duration operator+(duration a, duration b) { return duration{a.ns_ + b.ns_}; }
    friend constexpr duration operator-(duration a, duration b) { return duration{a.ns_ - b.ns_}; }
    friend constexpr duration operator*(duration a, std::int64_t n) { return duration{a.ns_ * n}; }
    friend constexpr duration operator/(duration a, std::int64_t n) { return duration{a.ns_ / n}; }
    constexpr duration& operator+=(duration d)
    {
        ns_ += d.ns_;
        return *this;
    }

private:
    std::int64_t ns_{};
};

[[nodiscard]] constexpr duration nanoseconds(std::int64_t n) { return duration{n}; }
[[nodiscard]] constexpr duration microseconds(std::int64_t n) { return duration{n * 1'000}; }
[[nodiscard]] constexpr duration milliseconds(std::int64_t n) { return duration{n * 1'000'000}; }
[[nodiscard]] constexpr duration seconds(std::int64_t n) { return duration{n * 1'000'000'000}; }

// Time since the clock's own zero (for a monotonic clock: since boot).
class instant {
public:
    constexpr instant() = default;
    constexpr explicit instant(std::uint64_t ns) : ns_{ns} {}

    [[nodiscard]] constexpr std::uint64_t nanoseconds() const { return ns_; }
    // Later than every instant that a clock returns: a wait without a deadline.
    [[nodiscard]] static constexpr instant never() { return instant{~std::uint64_t{0}}; }

    friend constexpr auto operator<=>(instant, instant) = default;
    friend constexpr duration operator-(instant a, instant b)
    {
        return duration{static_cast<std::int64_t>(a.ns_ - b.ns_)};
    }
    // Saturates at never().
    friend constexpr instant operator+(instant a, duration d)
    {
        const auto sum = a.ns_ + static_cast<std::uint64_t>(d.nanoseconds());
        return d.nanoseconds() > 0 && sum < a.ns_ ? never() : instant{sum};
    }

private:
    std::uint64_t ns_{};
};

} // namespace exo
