// Models of Topology that know no machine.

#include <doctest/doctest.h>

#include <exo/hal/topology.hpp>
#include <exo/sim/topology.hpp>

#include "laws/topology_laws.hpp"

using namespace exo;

TEST_CASE("flat and simulated topologies keep the laws of Topology")
{
    for (const unsigned count : {1u, 2u, 64u, 65u, 256u})
        laws::check_topology(hal::flat_topology<>{count});
    using shape = sim::topology<>::shape;
    for (const shape& s : {shape{}, shape{.threads = 2}, shape{.threads = 2, .cores = 4, .nodes = 2},
                           shape{.threads = 2, .cores = 3, .packages = 5, .nodes = 7}})
        laws::check_topology(sim::topology<>{s});
}
