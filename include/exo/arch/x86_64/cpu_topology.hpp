// The CPUs of a PC as a Topology: those that share a core, a package, a node of memory, the machine. A domain that
// contains no more than the one below it is left out, and so are CPUs alone.
//
// Nodes are of packages, or packages of nodes, as the machine has it. Where ids contradict that, which firmware may do,
// a domain is widened until it contains whole ones of the level below.
//
// For 256 CPUs an object has 19 KiB: none for a small stack.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include <exo/arch/x86_64/apic_id.hpp>
#include <exo/base/check.hpp>
#include <exo/base/cpu_set.hpp>
#include <exo/base/static_vector.hpp>
#include <exo/hal/topology.hpp>

namespace exo::x86_64 {

struct cpu_place {
    std::uint32_t apic_id{};
    std::uint32_t node{}; // a proximity domain, of the same machine
};

template <class Set = cpu_set>
class cpu_topology {
public:
    using set_type = Set;

    // CPU i is at places[i]; at least one, at most Set::limit.
    cpu_topology(const apic_id_layout& ids, std::span<const cpu_place> places)
        : count_{static_cast<unsigned>(places.size())}
    {
        EXO_CHECK(count_ > 0 && count_ <= Set::limit);
        partition parts{}; // of CPUs, each by its least member
        for (unsigned cpu = 0; cpu < count_; ++cpu)
            parts[cpu] = static_cast<std::uint16_t>(cpu);
        const auto add = [&](auto together) {
            if (join(parts, [&](unsigned a, unsigned b) { return together(places[a], places[b]); }))
                add_level(parts);
        };
        const auto same_core = [&](auto& a, auto& b) { return ids.core_of(a.apic_id) == ids.core_of(b.apic_id); };
        const auto same_package = [&](auto& a, auto& b) {
            return ids.package_of(a.apic_id) == ids.package_of(b.apic_id);
        };
        const auto same_node = [](auto& a, auto& b) { return a.node == b.node; };
        add(same_core);
        add([&](auto& a, auto& b) { return same_package(a, b) && same_node(a, b); });
        add(same_package);
        add(same_node);
        add([](auto&, auto&) { return true; });
        if (levels_.empty())
            add_level(parts);
    }

    [[nodiscard]] unsigned cpu_count() const noexcept { return count_; }
    [[nodiscard]] unsigned level_count() const noexcept { return static_cast<unsigned>(levels_.size()); }
    [[nodiscard]] const Set& domain(unsigned cpu, unsigned level) const noexcept { return sets_[levels_[level][cpu]]; }

private:
    using partition = std::array<std::uint16_t, Set::limit>;
    static constexpr std::size_t most_levels = 5;
    static constexpr std::size_t most_sets = 2 * Set::limit; // of sets that are disjoint or contain each other

    // Unites the parts of CPUs that are together; whether there were any.
    template <class Together>
    bool join(partition& parts, Together together) const
    {
        bool changed = false;
        for (unsigned b = 1; b < count_; ++b)
            for (unsigned a = 0; a < b; ++a) {
                if (parts[a] == parts[b] || !together(a, b))
                    continue;
                unite(parts, parts[a], parts[b]);
                changed = true;
            }
        return changed;
    }

    void unite(partition& parts, std::uint16_t kept, std::uint16_t other) const
    {
        if (other < kept)
            std::swap(kept, other);
        for (unsigned cpu = 0; cpu < count_; ++cpu)
            if (parts[cpu] == other)
                parts[cpu] = kept;
    }

    void add_level(const partition& parts)
    {
        const partition* below = levels_.empty() ? nullptr : &levels_.back();
        auto& level = levels_.emplace_back();
        for (unsigned least = 0; least < count_; ++least) {
            if (parts[least] != least)
                continue;
            Set members;
            for (unsigned cpu = least; cpu < count_; ++cpu)
                if (parts[cpu] == least)
                    members.add(cpu);
            std::size_t at = below ? (*below)[least] : sets_.size();
            if (!below || sets_[at] != members) {
                at = sets_.size();
                sets_.push_back(members);
            }
            members.for_each([&](unsigned cpu) { level[cpu] = static_cast<std::uint16_t>(at); });
        }
    }

    unsigned count_;
    static_vector<Set, most_sets> sets_;
    static_vector<partition, most_levels> levels_; // the place in sets_ of each CPU's domain
};
static_assert(hal::Topology<cpu_topology<>>);

} // namespace exo::x86_64
