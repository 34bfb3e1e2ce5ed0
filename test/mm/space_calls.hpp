// Where the tests of single calls map, and how they say what they ask for.

#pragma once

#include <cstdint>
#include <vector>

#include <mm/space_world.hpp>

namespace space_test {

constexpr std::uint64_t page = page_size;
constexpr std::uint64_t large = 512 * page;
constexpr virt_addr base{0x4000'0000};

inline virt_range pages(virt_addr begin, std::uint64_t count) { return virt_range::of_size(begin, count * page); }

inline mm::map_request at(virt_addr where, std::uint64_t count, mm::protection rights = mm::user_data)
{
    return {.address = where, .length = count * page, .access = rights, .where = mm::placement::fixed};
}

template <class Space>
std::vector<mm::region_info> regions_of(Space& s)
{
    std::vector<mm::region_info> all;
    s.for_each_region([&](const mm::region_info& r) {
        all.push_back(r);
        return true;
    });
    return all;
}

} // namespace space_test
