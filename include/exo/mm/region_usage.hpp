// How much of a range is in memory, and how: what smaps (proc(5)) tells.

#pragma once

#include <cstdint>

#include <exo/base/address.hpp>
#include <exo/base/page.hpp>
#include <exo/base/range.hpp>
#include <exo/hal/pte_format.hpp>

namespace exo::mm {

// In bytes. Shared is what more than one place in page tables leads to; the right share of it is proportional.
struct region_usage {
    std::uint64_t resident{};
    std::uint64_t proportional{};
    std::uint64_t proportional_dirty{};
    std::uint64_t shared_clean{};
    std::uint64_t shared_dirty{};
    std::uint64_t private_clean{};
    std::uint64_t private_dirty{};
    std::uint64_t referenced{};
    std::uint64_t anonymous{};
    std::uint64_t large{}; // in large pages

    region_usage& operator+=(const region_usage& other)
    {
        resident += other.resident;
        proportional += other.proportional;
        proportional_dirty += other.proportional_dirty;
        shared_clean += other.shared_clean;
        shared_dirty += other.shared_dirty;
        private_clean += other.private_clean;
        private_dirty += other.private_dirty;
        referenced += other.referenced;
        anonymous += other.anonymous;
        large += other.large;
        return *this;
    }
};

// Calls visit(address, bytes, entry, level, users) for each leaf below `table` that translates something of the range:
// how much of the range it translates, and how many ways lead to the table that holds it, as many as `users` to this.
// Ends, and returns false, when a visit does.
template <class Memory, class Visit>
bool visit_leaves(const Memory& memory, frame_number table, unsigned level, virt_range range, std::uint64_t users,
                  Visit& visit)
{
    using format = typename Memory::format;
    const auto step = hal::bytes_at<format>(level);
    users *= memory.frames.references(table);
    for (virt_addr at = range.begin; at < range.end;) {
        const auto part = virt_range::of_size(at.align_down(step), step).intersection(range);
        const auto e = memory.tables.entries().load(memory.tables.slot_in(table.address(), at, level));
        bool goes_on = true;
        if (e != 0 && format::is_table(e, level))
            goes_on = visit_leaves(memory, frame_number{format::address(e, level)}, level - 1, part, users, visit);
        else if (e != 0)
            goes_on = visit(at, part.size(), e, level, users);
        if (!goes_on)
            return false;
        at = part.end;
    }
    return true;
}

} // namespace exo::mm
