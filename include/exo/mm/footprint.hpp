// How much memory an address space keeps, for whoever must choose what to end when memory runs out. What several
// spaces, caches or files refer to is divided by how many refer to it: all of a machine's footprints together are no
// more than its memory.

#pragma once

#include <cstdint>

#include <exo/base/address.hpp>
#include <exo/base/page.hpp>
#include <exo/hal/pte_format.hpp>

namespace exo::mm {

// In bytes.
struct footprint {
    std::uint64_t pages{};
    std::uint64_t tables{};
    std::uint64_t regions{}; // the kernel's records of them

    [[nodiscard]] std::uint64_t total() const { return pages + tables + regions; }
};

// Of the block that a leaf refers to; smaller leaves may refer to parts of it.
template <class Memory>
[[nodiscard]] std::uint64_t share_of_leaf(const Memory& memory, frame_number f, std::uint64_t bytes)
{
    const auto block = memory.frames.block_of(f);
    const auto share = (page_size << memory.frames.info(block).order) / memory.frames.references(block);
    return share < bytes ? share : bytes;
}

// Adds what the table at `level` and all below it keep. `users` have the way to it in common. Nobody changes the tables
// meanwhile but by sharing them further.
template <class Memory>
void add_footprint(const Memory& memory, frame_number table, unsigned level, std::uint64_t users, footprint& sum)
{
    using format = typename Memory::format;
    users *= memory.frames.references(table);
    sum.tables += page_size / users;
    const auto* entries = memory.tables.table_at(table.address());
    auto left = memory.frames.info(table).table.entries;
    for (unsigned i = 0; left != 0; ++i) {
        const auto e = memory.tables.entries().load(entries + i);
        if (e == 0)
            continue;
        --left;
        const frame_number below{format::address(e, level)};
        if (format::is_table(e, level))
            add_footprint(memory, below, level - 1, users, sum);
        else if (memory.frames.manages(below))
            sum.pages += share_of_leaf(memory, below, hal::bytes_at<format>(level)) / users;
    }
}

} // namespace exo::mm
