// Topology: which CPUs are near each other, as domains that contain each other: the CPUs that share a core, a package, a
// node of memory, the machine.
//
// Laws: domain(c, level), for a level below level_count(), which is positive, contains c; the domain of a higher level
// contains that of a lower one; that of the highest is CPUs 0 to cpu_count() - 1. CPUs of one domain have that domain
// in common. Constant while anybody uses it. Neither fails nor sleeps.

#pragma once

#include <concepts>

#include <exo/base/cpu_set.hpp>

namespace exo::hal {

template <class T>
concept Topology = requires(const T& topology, unsigned cpu, unsigned level) {
    typename T::set_type; // a basic_cpu_set
    { topology.cpu_count() } noexcept -> std::same_as<unsigned>;
    { topology.level_count() } noexcept -> std::same_as<unsigned>;
    { topology.domain(cpu, level) } noexcept -> std::same_as<const typename T::set_type&>;
};

// CPUs that are all alike.
template <class Set = cpu_set>
class flat_topology {
public:
    using set_type = Set;

    explicit flat_topology(unsigned cpu_count) : count_{cpu_count}, all_{Set::first(cpu_count)} {}

    [[nodiscard]] unsigned cpu_count() const noexcept { return count_; }
    [[nodiscard]] unsigned level_count() const noexcept { return 1; }
    [[nodiscard]] const Set& domain(unsigned, unsigned) const noexcept { return all_; }

private:
    unsigned count_;
    Set all_;
};
static_assert(Topology<flat_topology<>>);

} // namespace exo::hal
