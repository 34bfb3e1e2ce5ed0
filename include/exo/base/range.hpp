// A half-open range [begin, end) of addresses, frame numbers or plain integers.

#pragma once

#include <cstdint>

#include <exo/base/address.hpp>

namespace exo {

template <class T>
struct range {
    T begin{};
    T end{};

    [[nodiscard]] static constexpr range of_size(T begin, std::uint64_t size) { return {begin, begin + size}; }

    [[nodiscard]] constexpr std::uint64_t size() const { return end - begin; }
    [[nodiscard]] constexpr bool empty() const { return begin == end; }
    [[nodiscard]] constexpr bool contains(T point) const { return begin <= point && point < end; }
    [[nodiscard]] constexpr bool contains(range other) const { return begin <= other.begin && other.end <= end; }
    [[nodiscard]] constexpr bool overlaps(range other) const { return begin < other.end && other.begin < end; }
    [[nodiscard]] constexpr range intersection(range other) const
    {
        const T from = begin < other.begin ? other.begin : begin;
        const T to = end < other.end ? end : other.end;
        return from < to ? range{from, to} : range{from, from};
    }

    friend constexpr bool operator==(range, range) = default;
};

using virt_range = range<virt_addr>;
using phys_range = range<phys_addr>;
using frame_range = range<frame_number>;

} // namespace exo
