// What a fault fills beside the page that was touched: a large page for big aligned anonymous memory, neighbours for
// the rest. A policy of the memory system, which another model of the concept can replace. Called by
// faults of one space at once, each inside or under the lock of the space (mm/shootdown.hpp): it does not sleep, and
// what it answers is a wish, cut down to what the region and memory allow.

#pragma once

#include <concepts>
#include <cstdint>

#include <exo/base/address.hpp>
#include <exo/base/page.hpp>
#include <exo/base/range.hpp>
#include <exo/mm/region.hpp>

namespace exo::mm {

// Frames: those that nobody uses, and all.
struct memory_left {
    std::uint64_t free{};
    std::uint64_t total{};
};

template <class T>
concept FillPolicy = requires(const T& policy, const region& r, virt_range block, virt_addr page,
                              std::uint64_t before, memory_left left) {
    // Whether `block`, which lies in the region and has no page table yet, is to be one large page of zeros.
    { policy.wants_large(r, block, left) } noexcept -> std::same_as<bool>;
    // How many pages of zeros to have from `page` on, which was touched and is not there; the `before` pages directly
    // before it are, 16 at most, in one table. All of them are filled with interrupts off.
    { policy.zeroed_pages(r, page, before, left) } noexcept -> std::same_as<std::uint64_t>;
    // Around which pages of the region's object a page that is not there is to be looked for in memory.
    { policy.neighbours(r, page) } noexcept -> std::same_as<virt_range>;
};

struct fill_policy {
    static constexpr std::uint64_t most_pages = 16;

    // Where a program asked, as long as memory lasts; elsewhere, while much of it is free: a large page that is not
    // used up wastes what others would need.
    [[nodiscard]] bool wants_large(const region& r, virt_range block, memory_left left) const noexcept
    {
        const auto reserve = r.advice.large == large_pages::wanted ? left.total / 32 : left.total / 4;
        return r.advice.large != large_pages::refused && r.grows == growth::fixed &&
               left.free > reserve + (block.size() >> page_shift);
    }
    // A program that goes through its memory page by page gets ahead of itself, twice as far each time.
    [[nodiscard]] std::uint64_t zeroed_pages(const region&, virt_addr, std::uint64_t before,
                                             memory_left left) const noexcept
    {
        if (left.free <= left.total / 16)
            return 1;
        return before < most_pages ? before + 1 : most_pages;
    }
    [[nodiscard]] virt_range neighbours(const region& r, virt_addr page) const noexcept
    {
        if (r.advice.order == access_order::random)
            return virt_range::of_size(page, page_size);
        return virt_range::of_size(page.align_down(most_pages * page_size), most_pages * page_size);
    }
};
static_assert(FillPolicy<fill_policy>);

} // namespace exo::mm
