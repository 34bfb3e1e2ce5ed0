// The laws of hal/topology.hpp, for any model of Topology.

#pragma once

#include <doctest/doctest.h>

#include <exo/hal/topology.hpp>

namespace laws {

template <exo::hal::Topology Topology>
void check_topology(const Topology& t)
{
    using set = typename Topology::set_type;
    const unsigned count = t.cpu_count(), levels = t.level_count();
    REQUIRE(levels > 0);
    for (unsigned cpu = 0; cpu < count; ++cpu) {
        CAPTURE(cpu);
        set below = set::of(cpu);
        for (unsigned level = 0; level < levels; ++level) {
            CAPTURE(level);
            const set& domain = t.domain(cpu, level);
            CHECK((below & domain) == below);
            bool in_common = true;
            domain.for_each(
                [&](unsigned other) { in_common = in_common && other < count && t.domain(other, level) == domain; });
            CHECK(in_common);
            below = domain;
        }
        CHECK(below == set::first(count));
    }
}

} // namespace laws
