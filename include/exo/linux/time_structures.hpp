// How Linux passes times: timespec and timeval with 64-bit members.

#pragma once

#include <cstdint>

#include <exo/base/errors.hpp>
#include <exo/base/result.hpp>
#include <exo/base/time.hpp>

namespace exo::linux_abi {

struct time_record { // struct timespec
    std::int64_t seconds;
    std::int64_t nanoseconds;
};

struct microsecond_record { // struct timeval
    std::int64_t seconds;
    std::int64_t microseconds;
};

inline constexpr std::int64_t second_in_ns = 1'000'000'000;
// Longer spans are as good as forever: 292 years.
inline constexpr std::int64_t longest_seconds = INT64_MAX / second_in_ns - 1;

// Errors: invalid_argument, for a negative or malformed one.
[[nodiscard]] constexpr result<duration> to_duration(const time_record& t)
{
    if (t.seconds < 0 || t.nanoseconds < 0 || t.nanoseconds >= second_in_ns)
        return fail(errors::invalid_argument, static_cast<std::uint64_t>(t.nanoseconds));
    const auto whole = t.seconds < longest_seconds ? t.seconds : longest_seconds;
    return duration{whole * second_in_ns + t.nanoseconds};
}

[[nodiscard]] constexpr result<duration> to_duration(const microsecond_record& t)
{
    if (t.seconds < 0 || t.microseconds < 0 || t.microseconds >= 1'000'000)
        return fail(errors::invalid_argument, static_cast<std::uint64_t>(t.microseconds));
    const auto whole = t.seconds < longest_seconds ? t.seconds : longest_seconds;
    return duration{whole * second_in_ns + t.microseconds * 1000};
}

[[nodiscard]] constexpr time_record to_time_record(duration d)
{
    return {d.nanoseconds() / second_in_ns, d.nanoseconds() % second_in_ns};
}

[[nodiscard]] constexpr microsecond_record to_microseconds(duration d)
{
    return {d.nanoseconds() / second_in_ns, d.nanoseconds() % second_in_ns / 1000};
}

} // namespace exo::linux_abi
