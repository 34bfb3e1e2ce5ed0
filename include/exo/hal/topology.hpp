// Topology: which CPUs share what, from near to far.
//
// Laws: distance(a, a) is same_cpu; distance is symmetric; a nearer level is transitive (what shares a core with b
// shares with a whatever b does). Constant once the machine is up. Neither fails nor sleeps.

#pragma once

#include <concepts>
#include <cstdint>

namespace exo::hal {

enum class cpu_distance : std::uint8_t { same_cpu, same_core, same_package, same_node, far };

template <class T>
concept Topology = requires(const T& topology, unsigned cpu) {
    { topology.cpu_count() } noexcept -> std::same_as<unsigned>;
    { topology.distance(cpu, cpu) } noexcept -> std::same_as<cpu_distance>;
};

} // namespace exo::hal
