// The battery-backed clock of a PC (MC146818A): seconds since 1970, read once at boot.

#pragma once

#include <cstdint>

#include <exo/hal/register_access.hpp>

namespace exo::drivers {

// Days from 1970-01-01 to the given day of the Gregorian calendar, from March-based years of 365.2425 days.
[[nodiscard]] constexpr std::int64_t days_since_1970(std::int64_t year, unsigned month, unsigned day)
{
    const std::int64_t y = month <= 2 ? year - 1 : year;
    const std::int64_t era = (y >= 0 ? y : y - 399) / 400;
    const std::int64_t year_of_era = y - era * 400;
    const std::int64_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    const std::int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}
static_assert(days_since_1970(1970, 1, 1) == 0);
static_assert(days_since_1970(2000, 3, 1) == 11017);

// Reads until two readings agree, so that none falls into an update; gives up after a bounded number and takes the
// last. The century is that of 2000. `ports` starts at port 0x70.
template <hal::RegisterAccess Ports>
[[nodiscard]] std::int64_t read_rtc(Ports ports) noexcept
{
    struct reading {
        std::uint8_t second, minute, hour, day, month, year;
        bool operator==(const reading&) const = default;
    };
    const auto cmos = [&](std::uint8_t index) {
        ports.write8(0, index);
        return ports.read8(1);
    };
    const auto read = [&] { return reading{cmos(0), cmos(2), cmos(4), cmos(7), cmos(8), cmos(9)}; };
    constexpr std::uint8_t status_b = 0x0b, binary = 0x04, hours_24 = 0x02, afternoon = 0x80;
    constexpr unsigned patience = 16;

    reading now = read();
    for (unsigned i = 0; i < patience; ++i) {
        const reading again = read();
        if (again == now)
            break;
        now = again;
    }
    const std::uint8_t format = cmos(status_b);
    const auto decode = [&](unsigned v) { return format & binary ? v : (v >> 4) * 10 + (v & 0xf); };
    unsigned hour = decode(now.hour & ~unsigned{afternoon});
    if (!(format & hours_24))
        hour = hour % 12 + (now.hour & afternoon ? 12 : 0);
    const std::int64_t days = days_since_1970(2000 + decode(now.year), decode(now.month), decode(now.day));
    return ((days * 24 + hour) * 60 + decode(now.minute)) * 60 + decode(now.second);
}

} // namespace exo::drivers
