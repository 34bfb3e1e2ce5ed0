// Finding entries in a hierarchy of page tables: the step below the mapper, for code (copy-on-write, fault handling)
// that owns, shares or replaces tables itself. Reads only; changes go through the EntryStore that it hands out.

#pragma once

#include <cstdint>

#include <exo/base/address.hpp>
#include <exo/base/result.hpp>
#include <exo/hal/entry_store.hpp>
#include <exo/hal/frame_source.hpp>
#include <exo/hal/phys_access.hpp>
#include <exo/hal/pte_format.hpp>
#include <exo/mm/protection.hpp>

namespace exo::mm {

// What a page is mapped to. `address` is that of the byte asked for; `level` tells the size of the page around it.
struct translation {
    phys_addr address;
    page_attributes attributes;
    unsigned level{};
    bool accessed{};
    bool dirty{};
};

// Bytes that lie in a row in virtual and physical memory, and grant the same.
struct translated_run {
    translation first; // of the first byte; marks of its page
    std::uint64_t bytes{};
};

// An empty table, a root or any other. Errors: out_of_memory.
template <hal::PhysAccess Phys, hal::FrameSource Frames>
[[nodiscard]] result<phys_addr> allocate_table(Phys& memory, Frames& frames)
{
    const frame_number f = EXO_TRY(frames.allocate(0));
    __builtin_memset(memory.to_pointer(f.address()), 0, page_size);
    return f.address();
}

template <hal::PteFormat Format, hal::PhysAccess Phys, hal::EntryStore<typename Format::entry> Entries>
class page_tables {
public:
    using format = Format;
    using entry = typename Format::entry;

    // A place where an entry stands, what it held when it was read, and its level.
    struct place {
        entry* slot;
        entry value;
        unsigned level;
    };

    page_tables(Phys& memory, Entries& entries) : memory_{memory}, entries_{entries} {}

    // The first of the entries_per_table<Format> entries of the table at `table`.
    [[nodiscard]] entry* table_at(phys_addr table) const noexcept
    {
        return reinterpret_cast<entry*>(memory_.to_pointer(table));
    }
    [[nodiscard]] entry* slot_in(phys_addr table, virt_addr v, unsigned level) const noexcept
    {
        return table_at(table) + hal::index_at<Format>(v, level);
    }
    // The table that the table entry `value` refers to.
    [[nodiscard]] entry* table_below(entry value, unsigned level) const noexcept
    {
        return table_at(Format::address(value, level));
    }

    // The first entry on the path of `v` that is not a table: a leaf, or empty. `v` is canonical.
    [[nodiscard]] place find(phys_addr root, virt_addr v) const noexcept
    {
        return find_from<hal::root_level<Format>>(table_at(root), v);
    }

    // The leaf `value` at `level`, as seen from the address `v` within its page.
    [[nodiscard]] static translation describe(entry value, unsigned level, virt_addr v) noexcept
    {
        phys_addr a = Format::address(value, level);
        if (level > 0) [[unlikely]] // apart, so that for a base page all masks are constants
            a += v.value() & (hal::bytes_at<Format>(level) - page_size);
        return {a + (v.value() & (page_size - 1)), Format::attributes(value, level), level,
                Format::accessed(value), Format::dirty(value)};
    }

    [[nodiscard]] Phys& memory() const noexcept { return memory_; }
    [[nodiscard]] Entries& entries() const noexcept { return entries_; }

private:
    // Unrolled by recursion: constant shifts make a walk a third of the instructions.
    template <unsigned Level>
    [[nodiscard]] place find_from(entry* table, virt_addr v) const noexcept
    {
        entry* slot = table + hal::index_at<Format>(v, Level);
        const entry value = entries_.load(slot);
        if constexpr (Level > 0)
            if (Format::is_table(value, Level)) [[likely]]
                return find_from<Level - 1>(table_below(value, Level), v);
        return {slot, value, Level};
    }

    Phys& memory_;
    Entries& entries_;
};

} // namespace exo::mm
