// What address spaces stand on, in one object: the frames and their records, the way into physical memory and page
// tables, shoot-down, the heap for regions, and the kernel's own root. One per machine.

#pragma once

#include <cstdint>
#include <span>

#include <exo/base/address.hpp>
#include <exo/base/allocator.hpp>
#include <exo/hal/entry_store.hpp>
#include <exo/hal/phys_access.hpp>
#include <exo/hal/pte_format.hpp>
#include <exo/mm/fault.hpp>
#include <exo/mm/fill_policy.hpp>
#include <exo/mm/frame_allocator.hpp>
#include <exo/mm/page_table.hpp>
#include <exo/mm/reclaim.hpp>
#include <exo/sync/any_parker.hpp>
#include <exo/trace/counter.hpp>

namespace exo::mm {

// What one CPU did since the machine started; only the sums over all CPUs mean something.
struct alignas(64) memory_counters {
    using counter = trace::shared_counter<trace::recording>;

    counter tables;          // page tables of address spaces, root tables included: now, not ever
    counter tables_unshared; // tables copied because one of several users wanted to change something below
    counter faults[fault_kind_count];
    counter pages_filled_ahead; // beside those that were touched
    counter large_pages_filled;
    counter large_pages_split;
    counter forks;
    counter out_of_memory_kills;

    [[nodiscard]] counter& of(fault_kind kind) { return faults[static_cast<unsigned>(kind)]; }
};

// Frames is a frame_allocator, Shootdown a shootdown.
template <hal::PteFormat Format, hal::PhysAccess Phys, hal::EntryStore<typename Format::entry> Entries, class Frames,
          class Shootdown, FillPolicy Fill = fill_policy>
class memory_system {
public:
    using format = Format;
    using frames_type = Frames;
    using shootdown_type = Shootdown;
    using atomics = typename Shootdown::atomics;
    using holders = typename Shootdown::holders;

    // What a memory system is made of. All of it outlives the memory system.
    struct parts {
        Phys& phys;
        Entries& entries;
        Frames& frames;
        Shootdown& shootdown;
        allocator& heap;
        sync::any_parker& parker;
        std::span<memory_counters> counters; // one for each CPU
        // The table whose upper half every address space gets a copy of: from now on its upper entries do not change.
        phys_addr kernel_root;
    };

    explicit memory_system(const parts& p)
        : tables{p.phys, p.entries}, frames{p.frames}, shootdown{p.shootdown}, heap{p.heap}, parker{p.parker},
          kernel_root{p.kernel_root}, counters_{p.counters}
    {
    }
    memory_system(const memory_system&) = delete;
    memory_system& operator=(const memory_system&) = delete;

    page_tables<Format, Phys, Entries> tables;
    Frames& frames;
    Shootdown& shootdown;
    allocator& heap;
    sync::any_parker& parker;
    const phys_addr kernel_root;
    mm::reclaimer reclaimer;
    [[no_unique_address]] Fill fill;

    // Those of a CPU near by, for a caller who may be interrupted.
    [[nodiscard]] memory_counters& counters() noexcept { return counters_[frames.cpu_nearby()]; }
    // The sum over all CPUs.
    [[nodiscard]] std::uint64_t counted(memory_counters::counter memory_counters::*which) const noexcept
    {
        return sum([which](const memory_counters& c) { return (c.*which).value(); });
    }
    [[nodiscard]] std::uint64_t faults(fault_kind kind) const noexcept
    {
        return sum([kind](const memory_counters& c) { return c.faults[static_cast<unsigned>(kind)].value(); });
    }

    [[nodiscard]] std::byte* memory_of(frame_number f) const noexcept
    {
        return tables.memory().to_pointer(f.address());
    }

    // A frame, if need be one that a cache gives up. From threads, with no spinning lock held. Errors: out_of_memory.
    [[nodiscard]] result<frame_number> allocate_frame() noexcept
    {
        return reclaimer.retry(parker, [this] { return frames.allocate(0); });
    }

    void zero(frame_number first, std::uint64_t count = 1) const noexcept
    {
        __builtin_memset(memory_of(first), 0, count << page_shift);
    }
    void copy_page(frame_number to, frame_number from) const noexcept
    {
        __builtin_memcpy(memory_of(to), memory_of(from), page_size);
    }
    // Caches of CPUs left out: asked at every fault, and good enough for a policy.
    [[nodiscard]] memory_left left() const noexcept
    {
        return {frames.free_frames(frame_zone::below_4gib) + frames.free_frames(frame_zone::above),
                frames.total_frames()};
    }

private:
    template <class Read>
    [[nodiscard]] std::uint64_t sum(Read read) const noexcept
    {
        std::uint64_t all = 0;
        for (const memory_counters& c : counters_)
            all += read(c);
        return all;
    }

    std::span<memory_counters> counters_;
};

} // namespace exo::mm
