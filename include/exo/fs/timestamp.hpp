// Civil time of files: since 1970-01-01 UTC, leap seconds not counted.

#pragma once

#include <compare>
#include <cstdint>

namespace exo::fs {

struct timestamp {
    std::int64_t seconds{};
    std::uint32_t nanoseconds{}; // below 1e9

    friend constexpr auto operator<=>(timestamp, timestamp) = default;
};

class wall_clock {
public:
    [[nodiscard]] virtual timestamp now() const noexcept = 0;

protected:
    ~wall_clock() = default;
};

} // namespace exo::fs
