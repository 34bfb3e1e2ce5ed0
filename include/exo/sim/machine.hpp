// The simulated machine for memory tests: RAM, frames, CPUs driven by hand, and an MMU for each, which collects what
// the code under test violated.

#pragma once

#include <cstddef>
#include <cstring>
#include <expected>
#include <type_traits>

#include <exo/base/address.hpp>
#include <exo/hal/entry_store.hpp>
#include <exo/hal/pte_format.hpp>
#include <exo/hal/tlb.hpp>
#include <exo/hal/translation_root.hpp>
#include <exo/sim/cpus.hpp>
#include <exo/sim/memory.hpp>
#include <exo/sim/mmu.hpp>

namespace exo::sim {

template <hal::PteFormat Format>
struct machine {
    using format_type = Format;
    using entries_type = sim::entries<Format>;
    using paging_type = cpu_paging<mmu<Format>, driven_cpus>;
    static_assert(hal::EntryStore<entries_type, typename Format::entry>);
    static_assert(hal::Tlb<paging_type>);
    static_assert(hal::TranslationRoot<paging_type>);

    explicit machine(std::size_t frame_count, unsigned cpu_count = 1, unsigned id_limit = 16)
        : memory{frame_count}, frames{memory}, cpus{cpu_count}, unit{memory, cpu_count, id_limit}, entries{unit},
          paging{unit, cpus}
    {
    }

    // What the current CPU does: the byte's physical address, or the fault.
    std::expected<phys_addr, page_fault> access(virt_addr v, mm::access tried, privilege by = privilege::user)
    {
        return unit.access(cpus.current_cpu(), v, tried, by);
    }
    // `v` and the Ts around it are aligned, so that a T lies in one page.
    template <class T>
    std::expected<T, page_fault> load(virt_addr v, privilege by = privilege::user)
    {
        static_assert(std::is_trivially_copyable_v<T>);
        const auto a = access(v, mm::access::read, by);
        if (!a)
            return std::unexpected{a.error()};
        T value;
        std::memcpy(&value, memory.to_pointer(*a), sizeof value);
        return value;
    }
    template <class T>
    std::expected<void, page_fault> store(virt_addr v, const T& value, privilege by = privilege::user)
    {
        static_assert(std::is_trivially_copyable_v<T>);
        const auto a = access(v, mm::access::write, by);
        if (!a)
            return std::unexpected{a.error()};
        std::memcpy(memory.to_pointer(*a), &value, sizeof value);
        return {};
    }

    physical_memory memory;
    frame_pool frames;
    driven_cpus cpus;
    mmu<Format> unit;
    entries_type entries;
    paging_type paging;
};

} // namespace exo::sim
