// Integers of fixed byte order, for structures that stand on a disk, in a file or in a device's memory.

#pragma once

#include <bit>
#include <concepts>
#include <cstdint>

namespace exo {

template <std::unsigned_integral T, std::endian Order>
class ordered_integer {
public:
    constexpr ordered_integer() = default;
    constexpr ordered_integer(T value) : stored_{swap(value)} {}

    constexpr operator T() const { return swap(stored_); }
    [[nodiscard]] constexpr T value() const { return swap(stored_); }

private:
    static constexpr T swap(T v)
    {
        if constexpr (Order == std::endian::native || sizeof(T) == 1)
            return v;
        else if constexpr (sizeof(T) == 2)
            return __builtin_bswap16(v);
        else if constexpr (sizeof(T) == 4)
            return __builtin_bswap32(v);
        else
            return __builtin_bswap64(v);
    }

    T stored_{};
};

using le16 = ordered_integer<std::uint16_t, std::endian::little>;
using le32 = ordered_integer<std::uint32_t, std::endian::little>;
using le64 = ordered_integer<std::uint64_t, std::endian::little>;
using be16 = ordered_integer<std::uint16_t, std::endian::big>;
using be32 = ordered_integer<std::uint32_t, std::endian::big>;
using be64 = ordered_integer<std::uint64_t, std::endian::big>;

} // namespace exo
