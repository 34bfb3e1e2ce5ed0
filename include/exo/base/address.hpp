// Addresses that cannot be mixed up: physical, virtual, and user-supplied, and the number of a physical frame.
//
// A user_addr came from a program and has not been checked; only the user-copy path turns it into memory.

#pragma once

#include <compare>
#include <cstdint>

#include <exo/base/page.hpp>

namespace exo {

template <class Space>
class address {
public:
    constexpr address() = default;
    constexpr explicit address(std::uint64_t value) : value_{value} {}

    [[nodiscard]] constexpr std::uint64_t value() const { return value_; }

    // `alignment` is a power of two.
    [[nodiscard]] constexpr bool is_aligned(std::uint64_t alignment) const { return (value_ & (alignment - 1)) == 0; }
    [[nodiscard]] constexpr address align_down(std::uint64_t alignment) const
    {
        return address{value_ & ~(alignment - 1)};
    }
    [[nodiscard]] constexpr address align_up(std::uint64_t alignment) const
    {
        return address{(value_ + alignment - 1) & ~(alignment - 1)};
    }

    friend constexpr auto operator<=>(address, address) = default;
    friend constexpr address operator+(address a, std::uint64_t bytes) { return address{a.value_ + bytes}; }
    friend constexpr address operator-(address a, std::uint64_t bytes) { return address{a.value_ - bytes}; }
    friend constexpr std::uint64_t operator-(address a, address b) { return a.value_ - b.value_; }
    constexpr address& operator+=(std::uint64_t bytes)
    {
        value_ += bytes;
        return *this;
    }

private:
    std::uint64_t value_{};
};

using phys_addr = address<struct physical_space>;
using virt_addr = address<struct virtual_space>;
using user_addr = address<struct user_space>;

// Which 4 KiB frame of physical memory.
class frame_number {
public:
    constexpr frame_number() = default;
    constexpr explicit frame_number(std::uint64_t value) : value_{value} {}
    constexpr explicit frame_number(phys_addr a) : value_{a.value() >> page_shift} {}

    [[nodiscard]] constexpr std::uint64_t value() const { return value_; }
    [[nodiscard]] constexpr phys_addr address() const { return phys_addr{value_ << page_shift}; }

    friend constexpr auto operator<=>(frame_number, frame_number) = default;
    friend constexpr frame_number operator+(frame_number f, std::uint64_t frames)
    {
        return frame_number{f.value_ + frames};
    }
    friend constexpr std::uint64_t operator-(frame_number a, frame_number b) { return a.value_ - b.value_; }

private:
    std::uint64_t value_{};
};

} // namespace exo
