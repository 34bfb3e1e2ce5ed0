// Memory management of a machine whose CPUs' accesses are seen, and what its parts are called in reports.

#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include <exo/arch/x86_64/paging.hpp>
#include <exo/arch/x86_64/paging_entries.hpp>
#include <exo/mm/address_space.hpp>
#include <exo/mm/frame_allocator.hpp>
#include <exo/mm/heap.hpp>
#include <exo/mm/memory_system.hpp>
#include <exo/mm/shootdown.hpp>
#include <exo/sim/memory.hpp>
#include <exo/sync/cross_calls.hpp>

#include <contention/observed_cpus.hpp>
#include <one_page_each.hpp>

namespace contention {

using namespace exo;

// What translations cost is hardware's.
struct no_tlb {
    void invalidate_page(virt_addr) noexcept {}
    void invalidate_range(const virt_range&, std::uint64_t) noexcept {}
    void invalidate_space(hal::address_space_id) noexcept {}
    void invalidate_all() noexcept {}
    void load(const hal::translation_root&, hal::remembered) noexcept {}
    [[nodiscard]] hal::translation_root current() const noexcept { return {}; }
    [[nodiscard]] unsigned id_limit() const noexcept { return 1; }
};

template <class Fill>
class observed_machine {
public:
    using format = x86_64::paging_4_level;
    using frames = mm::frame_allocator<observed_cpus, observed_cpus>;
    using heap = mm::heap<sim::physical_memory, frames, observed_cpus, observed_cpus>;
    using calls = sync::cross_calls<observed_cpus, observed_cpus>;
    using shootdown = mm::shootdown<no_tlb, no_tlb, calls, observed_cpus, observed_cpus>;
    using memory_system =
        mm::memory_system<format, sim::physical_memory, x86_64::paging_entries, frames, shootdown, Fill>;
    using space = mm::address_space<memory_system>;

    static constexpr virt_addr base{0x4000'0000};
    // Of 1 GiB, for which the allocator sizes its caches. What lies behind `ram` is a hole.
    static constexpr std::size_t record_count = (std::size_t{1} << 30) / page_size;

    observed_machine(unsigned cpu_count, std::size_t frame_count, unsigned seed)
        : cpus{cpu_count, seed}, ram{frame_count}, records(record_count),
          frame_caches(cpu_count), allocator{cpus, cpus, ram.frames().begin, records, frame_caches},
          heap_caches(cpu_count), objects{ram, allocator, cpus, cpus, heap_caches},
          call_records(cpu_count), cross_calls{call_records, cpus, cpus}, processors(cpu_count), counters(cpu_count)
    {
        cpus.connect([this] { cross_calls.serve(); });
        allocator.add({ram.frames().begin.address(), ram.frames().end.address()});
        kernel_root = *allocator.allocate(0);
        std::memset(ram.to_pointer(kernel_root.address()), 0, page_size);
        tell.emplace(none, none, cross_calls, cpus, cpus, processors, kernel_root.address());
        memory.emplace(typename memory_system::parts{.phys = ram,
                                                     .entries = entries,
                                                     .frames = allocator,
                                                     .shootdown = *tell,
                                                     .heap = objects,
                                                     .parker = cpus,
                                                     .counters = counters,
                                                     .kernel_root = kernel_root.address()});
        name("frame records", records);
        name("frame cache of a CPU", frame_caches);
        name("heap cache of a CPU", heap_caches);
        name("cross calls", call_records);
        name("shoot-down of a CPU", processors);
        name("memory counters of a CPU", counters);
        cpus.lines.name(&allocator, sizeof allocator, "frame allocator");
        cpus.lines.name(&objects, sizeof objects, "heap");
        cpus.lines.name(&*tell, sizeof *tell, "shoot-down");
        cpus.lines.name(&*memory, sizeof *memory, "memory system");
    }

    [[nodiscard]] ref<space> make_space()
    {
        auto made = *space::create(
            *memory, {virt_addr{0x10000}, base + (std::uint64_t{1} << 40), base + (std::uint64_t{1} << 40)});
        cpus.lines.name(&*made, sizeof *made, "address space");
        return made;
    }
    // Regions and other objects, tables and pages lie in frames: named after what is known by name itself.
    void name_the_rest()
    {
        for (std::size_t i = 0; i < ram.frames().size(); ++i) {
            const auto f = ram.frames().begin + i;
            const auto levels = records[i].table_levels;
            cpus.lines.name(ram.to_pointer(f.address()), page_size,
                            levels != 0 ? "page table of level " + std::to_string(levels - 1) : "pages, heap objects",
                            1);
        }
    }

    observed_cpus cpus;
    sim::physical_memory ram;
    std::vector<mm::frame_info> records;
    std::vector<mm::frame_cache> frame_caches;
    frames allocator;
    std::vector<mm::heap_cache> heap_caches;
    heap objects;
    std::vector<typename calls::processor> call_records;
    calls cross_calls;
    std::vector<typename shootdown::processor> processors;
    std::vector<mm::memory_counters> counters;
    no_tlb none;
    x86_64::paging_entries entries;
    frame_number kernel_root;
    std::optional<shootdown> tell;
    std::optional<memory_system> memory;

private:
    template <class T>
    void name(const char* as, std::vector<T>& elements)
    {
        cpus.lines.name(elements.data(), elements.size() * sizeof(T), as, sizeof(T));
    }
};

} // namespace contention
