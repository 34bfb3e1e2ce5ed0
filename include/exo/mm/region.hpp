// What a program asked for: a range of its address space, what it may do there, and what backs it.

#pragma once

#include <cstdint>

#include <exo/base/address.hpp>
#include <exo/base/page.hpp>
#include <exo/base/range.hpp>
#include <exo/base/ref.hpp>
#include <exo/base/tree.hpp>
#include <exo/mm/pager.hpp>
#include <exo/mm/protection.hpp>

namespace exo::mm {

enum class sharing : std::uint8_t {
    private_copy, // what is written here, only this space sees
    shared,       // writes reach the pager's object, and every other shared mapping of it
};

enum class growth : std::uint8_t {
    fixed,
    down, // a stack: a fault just below extends it, up to its limit
};

enum class placement : std::uint8_t {
    anywhere,        // at the address given if it is free (0: no wish), else where there is room
    fixed,           // exactly there; what was mapped there is gone
    fixed_noreplace, // exactly there, or already_mapped
};

struct map_request {
    virt_addr address{};
    std::uint64_t length{}; // bytes, rounded up to pages
    protection access{user_data};
    placement where{placement::anywhere};
    sharing kind{sharing::private_copy};
    growth grows{growth::fixed};
    std::uint64_t limit{};  // how many bytes a growing region may reach
    ref<pager> backing{};   // null: anonymous memory, zero at first
    std::uint64_t offset{}; // into the pager's object, a multiple of the page size
    bool populate{};        // have the pages there before the call returns, as far as memory allows
};

// A region as seen at one moment.
struct region_info {
    virt_range range;
    protection access{};
    sharing kind{};
    growth grows{};
    bool heap{}; // the area that set_brk moves
    ref<pager> backing;
    std::uint64_t offset{};
};

struct region {
    virt_range range;
    protection access{};
    sharing kind{};
    growth grows{};
    bool heap{};
    std::uint64_t limit{};
    ref<pager> backing;
    std::uint64_t offset{}; // of range.begin in the pager's object

    tree_hook hook;

    [[nodiscard]] virt_addr begin() const { return range.begin; }
    [[nodiscard]] std::uint64_t page_index(virt_addr a) const
    {
        return (offset + (a.align_down(page_size) - range.begin)) >> page_shift;
    }
    // Whether `next`, which starts where this ends, could be one region with this.
    [[nodiscard]] bool continues_in(const region& next) const
    {
        return range.end == next.range.begin && access == next.access && kind == next.kind && grows == next.grows &&
               grows == growth::fixed && heap == next.heap && backing == next.backing &&
               (!backing || offset + range.size() == next.offset);
    }
    [[nodiscard]] region_info info() const { return {range, access, kind, grows, heap, backing, offset}; }
};

} // namespace exo::mm
