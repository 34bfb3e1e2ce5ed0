// One address space on the simulated machine: a mapper, CPUs that have the space loaded, and the way to flush them.

#pragma once

#include <doctest/doctest.h>

#include <exception>

#include <vector>

#include <exo/arch/riscv64/sv48.hpp>
#include <exo/arch/x86_64/paging.hpp>
#include <exo/mm/flush_batch.hpp>
#include <exo/mm/mapper.hpp>
#include <exo/mm/shootdown.hpp>
#include <exo/sim/machine.hpp>

namespace mapper_test {

using namespace exo;

template <class Format>
struct world {
    using machine = sim::machine<Format>;
    using shootdown =
        mm::shootdown<typename machine::paging_type, typename machine::paging_type, sim::driven_cpus, sim::driven_cpus,
                      sim::driven_cpus>;
    using flusher = mm::space_flusher<shootdown>;
    using retired = mm::retired_tables<Format, sim::physical_memory, typename machine::entries_type, sim::frame_pool>;
    using batch = mm::flush_batch<flusher, retired>;
    using mapper = mm::mapper<Format, sim::physical_memory, typename machine::entries_type, sim::frame_pool>;

    explicit world(unsigned cpus = 3, std::size_t frames = 512)
        : m{frames, cpus}, translations(cpus), tell{m.paging, m.paging,     m.cpus,     m.cpus,
                                                    m.cpus,   translations, phys_addr{}},
          space{tell.new_space()}, flush{tell, space}, root{*mm::allocate_table(m.memory, m.frames)},
          map{root, m.memory, m.entries, m.frames}
    {
        for (unsigned cpu = 0; cpu < cpus; ++cpu)
            m.cpus.on(cpu, [&] {
                const sync::pin off{m.cpus, m.cpus};
                tell.load(root, space);
            });
    }
    ~world()
    {
        if (std::uncaught_exceptions() > 0) // something failed, and says so itself
            return;
        for (const auto& violation : m.unit.violations())
            FAIL_CHECK(violation);
        change([&](batch& b) { map.clear(b); });
        CHECK(m.frames.in_use() == 1); // the root
        m.frames.free(frame_number{root}, 0);
    }

    // f(batch), and then the flush.
    template <class F>
    auto change(F f)
    {
        batch b{flush, retired{m.memory, m.entries, m.frames}};
        if constexpr (std::is_void_v<decltype(f(b))>) {
            f(b);
            b.flush();
        } else {
            auto outcome = f(b);
            b.flush();
            return outcome;
        }
    }

    machine m;
    std::vector<typename shootdown::processor> translations;
    shootdown tell;
    mm::translation_holders space;
    flusher flush;
    phys_addr root;
    mapper map;
};

#define EXO_EVERY_FORMAT exo::x86_64::paging_4_level, exo::x86_64::paging_5_level, exo::riscv64::sv48

} // namespace mapper_test
