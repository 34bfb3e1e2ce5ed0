// The ids of local APICs, as CPUID tells them (SDM volume 3, 9.9; APM volume 3, appendix E): that of the CPU that runs,
// and which of their bits name thread, core and package. Decoded from leaves that the caller reads, as in cpuid.hpp.

#pragma once

#include <bit>
#include <concepts>
#include <cstdint>

#include <exo/arch/x86_64/cpuid.hpp>

namespace exo::x86_64 {

namespace detail {
// That of the leaves of extended topology which the CPU has: 0x1F, which knows more levels, or 0xB; 0 when neither.
template <class Leaf>
[[nodiscard]] constexpr std::uint32_t topology_leaf(Leaf& leaf)
{
    const std::uint32_t last = leaf(0, 0).eax;
    for (const std::uint32_t function : {0x1fu, 0xbu}) {
        if (last < function)
            continue;
        const cpuid_leaf first = leaf(function, 0);
        if ((first.ebx & 0xffff) != 0 && (first.ecx >> 8 & 0xff) != 0)
            return function;
    }
    return 0;
}
} // namespace detail

// Of the CPU that runs `leaf(function, index)`, which returns a cpuid_leaf.
template <std::invocable<std::uint32_t, std::uint32_t> Leaf>
[[nodiscard]] constexpr std::uint32_t apic_id(Leaf leaf)
{
    const std::uint32_t function = detail::topology_leaf(leaf);
    return function != 0 ? leaf(function, 0).edx : leaf(1, 0).ebx >> 24;
}

struct apic_id_layout {
    unsigned core_shift{};    // below it: the thread within a core
    unsigned package_shift{}; // below it: the core and thread within a package; not less than core_shift

    [[nodiscard]] constexpr std::uint32_t core_of(std::uint32_t apic_id) const { return apic_id >> core_shift; }
    [[nodiscard]] constexpr std::uint32_t package_of(std::uint32_t apic_id) const { return apic_id >> package_shift; }

    // `leaf(function, index)` returns a cpuid_leaf.
    template <std::invocable<std::uint32_t, std::uint32_t> Leaf>
    [[nodiscard]] static constexpr apic_id_layout read(Leaf leaf)
    {
        if (const std::uint32_t function = detail::topology_leaf(leaf); function != 0)
            return read_levels(leaf, function);
        if (!(leaf(1, 0).edx >> 28 & 1)) // HTT
            return {};
        constexpr std::uint32_t amd = 0x6874'7541, hygon = 0x6f67'7948; // how the vendors' names begin
        const std::uint32_t vendor = leaf(0, 0).ebx;
        if ((vendor == amd || vendor == hygon) && leaf(0x8000'0000, 0).eax >= 0x8000'0008)
            return read_amd(leaf);
        return read_counts(leaf);
    }

    friend constexpr bool operator==(const apic_id_layout&, const apic_id_layout&) = default;

private:
    [[nodiscard]] static constexpr unsigned greater(unsigned a, unsigned b) { return a > b ? a : b; }
    // Bits that tell `count` ids apart.
    [[nodiscard]] static constexpr unsigned width(std::uint32_t count)
    {
        return count == 0 ? 0 : static_cast<unsigned>(std::bit_width(count - 1));
    }

    template <class Leaf>
    [[nodiscard]] static constexpr apic_id_layout read_levels(Leaf& leaf, std::uint32_t function)
    {
        constexpr std::uint32_t most_levels = 8, smt = 1; // there are six types of level
        apic_id_layout found;
        for (std::uint32_t i = 0; i < most_levels; ++i) {
            const cpuid_leaf level = leaf(function, i);
            const std::uint32_t type = level.ecx >> 8 & 0xff;
            if (type == 0)
                break;
            const unsigned shift = level.eax & 0x1f;
            if (type == smt)
                found.core_shift = shift;
            found.package_shift = greater(found.package_shift, shift);
        }
        return found;
    }

    // Where these leaves are missing: how many ids there are for what a package has.
    template <class Leaf>
    [[nodiscard]] static constexpr apic_id_layout read_counts(Leaf& leaf)
    {
        apic_id_layout found;
        found.package_shift = width(leaf(1, 0).ebx >> 16 & 0xff);
        const cpuid_leaf cache = leaf(0, 0).eax >= 4 ? leaf(4, 0) : cpuid_leaf{};
        const unsigned core_bits = width((cache.eax >> 26) + 1);
        found.core_shift = found.package_shift - (core_bits < found.package_shift ? core_bits : found.package_shift);
        return found;
    }
    template <class Leaf>
    [[nodiscard]] static constexpr apic_id_layout read_amd(Leaf& leaf)
    {
        apic_id_layout found;
        const std::uint32_t sizes = leaf(0x8000'0008, 0).ecx;
        const unsigned bits = sizes >> 12 & 0xf;
        found.package_shift = bits != 0 ? bits : width((sizes & 0xff) + 1);
        const bool has_threads = leaf(0x8000'0000, 0).eax >= 0x8000'001e && (leaf(0x8000'0001, 0).ecx >> 22 & 1) != 0;
        if (has_threads)
            found.core_shift = width((leaf(0x8000'001e, 0).ebx >> 8 & 0xff) + 1);
        found.package_shift = greater(found.package_shift, found.core_shift);
        return found;
    }
};

} // namespace exo::x86_64
