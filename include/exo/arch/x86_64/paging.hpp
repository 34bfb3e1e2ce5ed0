// Page-table entries of x86-64: 4-level and 5-level paging (Intel SDM 3A, 4.5; AMD64 APM 2, 5.3). Layout only.
//
// Requires CR0.WP and EFER.NXE, and the PAT set to `pat_value`. Table entries carry U=1 and NX=0, so that only W limits
// what is below them.

#pragma once

#include <cstdint>

#include <exo/base/address.hpp>
#include <exo/hal/pte_format.hpp>

namespace exo::x86_64 {

// IA32_PAT (MSR 0x277) so that PWT and PCD alone choose: 0 write-back, 1 write-combining, 2 UC-, 3 uncached.
inline constexpr std::uint64_t pat_value = 0x0007'0106'0007'0106;

template <unsigned Levels>
struct paging {
    using entry = std::uint64_t;

    static constexpr unsigned levels = Levels;
    static constexpr unsigned index_bits = 9;
    static constexpr unsigned baseline_leaf_level = 1;
    static constexpr unsigned largest_leaf_level = 2; // 1 GiB; ask CPUID 80000001H:EDX[26] before using it
    static constexpr unsigned software_bits = 3;
    static constexpr phys_addr physical_limit{std::uint64_t{1} << 52};
    static constexpr bool hierarchical_write = true;
    static constexpr bool caches_absent = false;

    static constexpr entry present_bit = entry{1} << 0;
    static constexpr entry write_bit = entry{1} << 1;
    static constexpr entry user_bit = entry{1} << 2;
    static constexpr entry write_through_bit = entry{1} << 3;
    static constexpr entry cache_disable_bit = entry{1} << 4;
    static constexpr entry accessed_bit = entry{1} << 5;
    static constexpr entry dirty_bit = entry{1} << 6;
    static constexpr entry large_bit = entry{1} << 7; // in level 1 and above; selects the PAT's upper half in level 0
    static constexpr entry global_bit = entry{1} << 8;
    static constexpr unsigned software_shift = 9;
    static constexpr entry software_mask = entry{7} << software_shift;
    static constexpr entry remembering_bit = entry{1} << 52; // with present clear: a leaf that nobody may touch
    static constexpr entry no_execute_bit = entry{1} << 63;
    static constexpr entry address_mask = (physical_limit.value() - 1) & ~entry{page_size - 1};

    [[nodiscard]] static constexpr bool is_canonical(virt_addr v) noexcept
    {
        constexpr auto half = std::uint64_t{1} << (page_shift + Levels * index_bits - 1);
        return v.value() + half < 2 * half;
    }

    [[nodiscard]] static constexpr entry leaf(phys_addr a, unsigned level, const hal::page_attributes& x) noexcept
    {
        using enum hal::protection;
        entry e = a.value() | entry{x.software} << software_shift;
        e |= level > 0 ? large_bit : 0;
        e |= x.memory == hal::memory_type::write_back       ? 0
             : x.memory == hal::memory_type::write_combining ? write_through_bit
                                                             : write_through_bit | cache_disable_bit;
        e |= x.global ? global_bit : 0;
        e |= includes(x.access, user) ? user_bit : 0;
        e |= includes(x.access, write) ? write_bit : 0;
        e |= includes(x.access, execute) ? 0 : no_execute_bit;
        return e | (accessible(x.access) ? present_bit : remembering_bit);
    }
    [[nodiscard]] static constexpr entry table(phys_addr a) noexcept
    {
        return a.value() | present_bit | write_bit | user_bit;
    }

    [[nodiscard]] static constexpr bool is_present(entry e) noexcept { return (e & present_bit) != 0; }
    [[nodiscard]] static constexpr bool is_leaf(entry e, unsigned level) noexcept
    {
        return (e & (present_bit | remembering_bit)) != 0 && (level == 0 || (e & large_bit) != 0);
    }
    // Above level 0 the low byte tells, read as signed: large_bit makes it negative, and without present_bit it is 0. A
    // walk tests that in one instruction, and how much a walk overlaps with the next is a matter of instructions.
    [[nodiscard]] static constexpr bool is_table(entry e, unsigned level) noexcept
    {
        return level > 0 && static_cast<std::int8_t>(e) > 0;
    }
    [[nodiscard]] static constexpr phys_addr address(entry e, unsigned) noexcept
    {
        return phys_addr{e & address_mask};
    }
    [[nodiscard]] static constexpr hal::page_attributes attributes(entry e, unsigned) noexcept
    {
        using enum hal::protection;
        hal::page_attributes x{.access = none};
        if ((e & present_bit) != 0) {
            x.access = read;
            if ((e & write_bit) != 0)
                x.access = x.access | write;
            if ((e & no_execute_bit) == 0)
                x.access = x.access | execute;
        }
        if ((e & user_bit) != 0)
            x.access = x.access | user;
        if ((e & cache_disable_bit) != 0)
            x.memory = hal::memory_type::uncached;
        else if ((e & write_through_bit) != 0)
            x.memory = hal::memory_type::write_combining;
        x.global = is_global(e);
        x.software = static_cast<std::uint8_t>((e & software_mask) >> software_shift);
        return x;
    }

    [[nodiscard]] static constexpr bool is_global(entry e) noexcept { return (e & global_bit) != 0; }
    [[nodiscard]] static constexpr bool writable(entry e) noexcept { return (e & write_bit) != 0; }
    [[nodiscard]] static constexpr entry with_write(entry e) noexcept { return e | write_bit; }
    [[nodiscard]] static constexpr entry without_write(entry e) noexcept { return e & ~write_bit; }
    [[nodiscard]] static constexpr bool accessed(entry e) noexcept { return (e & accessed_bit) != 0; }
    [[nodiscard]] static constexpr bool dirty(entry e) noexcept { return (e & dirty_bit) != 0; }
    [[nodiscard]] static constexpr entry with_accessed(entry e) noexcept { return e | accessed_bit; }
    [[nodiscard]] static constexpr entry with_dirty(entry e) noexcept { return e | dirty_bit; }
};

using paging_4_level = paging<4>;
using paging_5_level = paging<5>;
static_assert(hal::PteFormat<paging_4_level>);
static_assert(hal::PteFormat<paging_5_level>);

} // namespace exo::x86_64
