// The laws of hal/block_device.hpp, to be run over every model.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <doctest/doctest.h>

#include <exo/base/errors.hpp>
#include <exo/hal/block_device.hpp>

namespace exo::laws {

// `device` is writable, has at least 16 sectors, and works. Its contents are lost.
inline void check_block_device(hal::block_device& device)
{
    const std::size_t size = device.sector_size();
    const std::uint64_t count = device.sector_count();
    CHECK(size >= 512);
    CHECK((size & (size - 1)) == 0);
    REQUIRE(count >= 16);
    REQUIRE_FALSE(device.read_only());

    const auto pattern = [size](std::uint64_t sector, std::size_t sectors, unsigned salt) {
        std::vector<std::byte> bytes(sectors * size);
        for (std::size_t i = 0; i < bytes.size(); ++i)
            bytes[i] = static_cast<std::byte>((sector * size + i) * 31 / 7 + salt);
        return bytes;
    };

    SUBCASE("a read returns what was written, in whatever pieces")
    {
        REQUIRE(device.write(3, pattern(3, 8, 1)));
        REQUIRE(device.write(5, pattern(5, 1, 2)));
        std::vector<std::byte> back(8 * size);
        REQUIRE(device.read(3, back));
        auto expected = pattern(3, 8, 1);
        const auto fresh = pattern(5, 1, 2);
        std::copy(fresh.begin(), fresh.end(), expected.begin() + static_cast<std::ptrdiff_t>(2 * size));
        CHECK(back == expected);
        std::vector<std::byte> one(size);
        REQUIRE(device.read(5, one));
        CHECK(one == fresh);
    }
    SUBCASE("the last sector is one, what lies behind is not")
    {
        std::vector<std::byte> one(size);
        CHECK(device.write(count - 1, pattern(count - 1, 1, 3)));
        CHECK(device.read(count - 1, one));
        CHECK(one == pattern(count - 1, 1, 3));
        std::vector<std::byte> two(2 * size);
        for (const std::uint64_t sector : {count - 1, count, count + 1, ~std::uint64_t{0}}) {
            CHECK(device.read(sector, two).error() == errors::invalid_argument);
            CHECK(device.write(sector, two).error() == errors::invalid_argument);
        }
        CHECK(device.read(count, one).error() == errors::invalid_argument);
    }
    SUBCASE("lengths are whole sectors")
    {
        std::vector<std::byte> odd(size + 1);
        CHECK(device.read(0, odd).error() == errors::invalid_argument);
        CHECK(device.write(0, odd).error() == errors::invalid_argument);
        CHECK(device.read(0, {odd.data(), size / 2}).error() == errors::invalid_argument);
    }
    SUBCASE("flush succeeds on a device that works") { CHECK(device.flush()); }
}

} // namespace exo::laws
