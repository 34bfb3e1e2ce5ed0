// The base page: 4 KiB on every translation format that exo knows. Formats assert that they agree.

#pragma once

#include <cstddef>
#include <cstdint>

namespace exo {

inline constexpr unsigned page_shift = 12;
inline constexpr std::size_t page_size = std::size_t{1} << page_shift;

[[nodiscard]] constexpr std::uint64_t pages_for(std::uint64_t bytes)
{
    return (bytes >> page_shift) + ((bytes & (page_size - 1)) != 0);
}

} // namespace exo
