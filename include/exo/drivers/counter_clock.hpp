// Time from a counter that ticks at a constant rate, such as the time-stamp counter.
//
// The rate is a fixed-point number of nanoseconds per tick, so that reading takes one multiplication.

#pragma once

#include <concepts>
#include <cstdint>

#include <exo/base/time.hpp>
#include <exo/hal/clock.hpp>

namespace exo::drivers {

// Converts between ticks and nanoseconds; good for rates from 1 MHz to 1 THz and spans of centuries.
class tick_rate {
public:
    constexpr tick_rate() = default;
    // `ticks` passed in `span`: neither is zero, and both, the span in nanoseconds, are below 2^32.
    constexpr tick_rate(std::uint64_t ticks, duration span)
        : per_tick_{(static_cast<std::uint64_t>(span.nanoseconds()) << fraction) / ticks},
          per_nanosecond_{(ticks << fraction) / static_cast<std::uint64_t>(span.nanoseconds())}
    {
    }

    [[nodiscard]] constexpr std::uint64_t nanoseconds(std::uint64_t ticks) const { return scale(ticks, per_tick_); }
    [[nodiscard]] constexpr std::uint64_t ticks(std::uint64_t nanoseconds) const
    {
        return scale(nanoseconds, per_nanosecond_);
    }
    [[nodiscard]] constexpr std::uint64_t hertz() const { return ticks(1'000'000'000); }

private:
    static constexpr unsigned fraction = 32;
    static constexpr std::uint64_t scale(std::uint64_t value, std::uint64_t factor)
    {
        __extension__ using wide = unsigned __int128;
        return static_cast<std::uint64_t>(static_cast<wide>(value) * factor >> fraction);
    }

    std::uint64_t per_tick_{std::uint64_t{1} << fraction};
    std::uint64_t per_nanosecond_{std::uint64_t{1} << fraction};
};

// `Counter()` returns the count, which never goes backward.
template <std::invocable Counter>
class counter_clock {
public:
    // Reads zero when the counter stands at `zero`.
    counter_clock(Counter counter, tick_rate rate, std::uint64_t zero) : counter_{counter}, rate_{rate}, zero_{zero} {}

    // Goes on from where it stands, by another counter. Nobody reads it meanwhile.
    void go_on_by(Counter counter, tick_rate rate) noexcept
    {
        begin_ = now();
        counter_ = counter;
        rate_ = rate;
        zero_ = counter_();
    }

    [[nodiscard, gnu::hot]] instant now() const noexcept
    {
        return instant{begin_.nanoseconds() + rate_.nanoseconds(counter_() - zero_)};
    }
    [[nodiscard]] const tick_rate& rate() const { return rate_; }

private:
    [[no_unique_address]] Counter counter_;
    tick_rate rate_;
    std::uint64_t zero_;
    instant begin_{}; // its reading at zero_
};

} // namespace exo::drivers
