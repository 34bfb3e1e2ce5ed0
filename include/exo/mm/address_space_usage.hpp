// How much of an address space is in memory: the definitions behind address_space.hpp.

#pragma once

#include <cstddef>
#include <iterator>
#include <span>

#include <exo/base/page.hpp>
#include <exo/mm/address_space.hpp>
#include <exo/mm/footprint.hpp>
#include <exo/mm/region_usage.hpp>

namespace exo::mm {

template <class Memory>
virt_addr address_space<Memory>::first_leaf(virt_range range)
{
    auto guard = lock();
    virt_addr first = range.end;
    auto visit = [&](virt_addr a, std::uint64_t, entry, unsigned, std::uint64_t) {
        first = a;
        return false;
    };
    visit_leaves(memory_, root_, hal::root_level<format>, range, 1, visit);
    return first;
}

template <class Memory>
region_usage address_space<Memory>::usage(const region_info& r)
{
    region_usage sum;
    const auto account = [&](std::uint64_t bytes, entry e, std::uint64_t share, bool cached) {
        const bool dirty = format::dirty(e);
        sum.resident += bytes;
        sum.proportional += share;
        sum.proportional_dirty += dirty ? share : 0;
        (share < bytes ? (dirty ? sum.shared_dirty : sum.shared_clean)
                       : (dirty ? sum.private_dirty : sum.private_clean)) += bytes;
        sum.referenced += format::accessed(e) ? bytes : 0;
        sum.anonymous += cached ? 0 : bytes;
    };
    // A pager's pages are known by asking it, a few at a time; each is referred to by the pager, and by us meanwhile.
    object_page there[32];
    constexpr std::uint64_t most = std::size(there);
    for (virt_range left = r.range; !left.empty();) {
        const auto part = r.backing ? virt_range::of_size(first_leaf(left), most * page_size).intersection(left) : left;
        const auto at = part.begin;
        left.begin = part.end;
        const auto found = r.backing ? r.backing->get_present_pages(r.page_index(at),
                                                                    std::span{there}.first(part.size() >> page_shift))
                                     : 0;
        const auto present = std::span{there}.first(found);
        {
            auto guard = lock();
            auto visit = [&](virt_addr a, std::uint64_t bytes, entry e, unsigned level, std::uint64_t users) {
                const auto f = frame_number{format::address(e, level)} +
                               ((a.value() & (hal::bytes_at<format>(level) - 1)) >> page_shift);
                bool cached = !memory_.frames.manages(f);
                for (const object_page& p : present)
                    cached = cached || (p.frame == f && p.index == r.page_index(a));
                if (!cached) {
                    account(bytes, e, share_of_leaf(memory_, f, bytes) / users, false);
                    sum.large += level != 0 ? bytes : 0;
                } else {
                    const std::uint64_t holders = memory_.frames.manages(f) ? memory_.frames.references(f) : 3;
                    account(bytes, e, bytes / (users * (holders > 2 ? holders - 2 : 1)), true);
                }
                return true;
            };
            visit_leaves(memory_, root_, hal::root_level<format>, part, 1, visit);
        }
        for (const object_page& p : present)
            release_reference(memory_, p.frame);
    }
    return sum;
}

} // namespace exo::mm
