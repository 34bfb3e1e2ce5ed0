// What the kernel knows about a frame of physical memory, in 16 bytes.
//
// The references to a block of frames are counted in the record of its first frame: entries of page tables that point
// to it (for a page) or to the table in it, caches, and whoever allocated it. The rest belongs to the frame allocator
// while the block is free, and to its user afterwards.

#pragma once

#include <cstdint>

#include <exo/hal/atomics.hpp>

namespace exo::mm {

template <hal::Atomics Atomics>
struct basic_frame_info {
    enum class block_state : std::uint8_t {
        absent, // no memory, or never given to the allocator
        inside, // part of a block that a lower frame heads
        free,   // heads a free block
        taken,  // heads a block in use
    };
    static constexpr std::uint32_t none = ~std::uint32_t{0};

    struct free_block {
        std::uint32_t next; // free blocks of one order form a list, linked by index of the record
        std::uint32_t previous;
    };
    struct page_table {
        std::uint16_t entries; // how many are not empty
    };

    typename Atomics::template atomic<std::uint32_t> references{};
    block_state state{};
    std::uint8_t order{};
    std::uint8_t table_levels{}; // in use as a page table with so many levels of tables in its tree; 0: not a table
    typename Atomics::template atomic<bool> locked{}; // a page table that is being copied, or made somebody's own
    union {
        free_block free{none, none};
        page_table table;
    };
};

using frame_info = basic_frame_info<hal::standard_atomics>;
static_assert(sizeof(frame_info) == 16);

} // namespace exo::mm
