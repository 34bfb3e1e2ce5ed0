// Page-table entries of RISC-V Sv48 with Svpbmt (RISC-V privileged architecture, 12.4 to 12.5). Layout only: exo does
// not run on RISC-V; this keeps what is generic from meaning x86.

#pragma once

#include <cstdint>

#include <exo/base/address.hpp>
#include <exo/hal/pte_format.hpp>

namespace exo::riscv64 {

struct sv48 {
    using entry = std::uint64_t;

    static constexpr unsigned levels = 4;
    static constexpr unsigned index_bits = 9;
    static constexpr unsigned baseline_leaf_level = 3;
    static constexpr unsigned largest_leaf_level = 3;
    static constexpr unsigned software_bits = 2;
    static constexpr phys_addr physical_limit{std::uint64_t{1} << 56};
    static constexpr bool hierarchical_write = false; // R, W and X of a table entry are zero: that makes it one
    static constexpr bool caches_absent = true;

    static constexpr entry valid_bit = entry{1} << 0;
    static constexpr entry read_bit = entry{1} << 1;
    static constexpr entry write_bit = entry{1} << 2;
    static constexpr entry execute_bit = entry{1} << 3;
    static constexpr entry user_bit = entry{1} << 4;
    static constexpr entry global_bit = entry{1} << 5;
    static constexpr entry accessed_bit = entry{1} << 6;
    static constexpr entry dirty_bit = entry{1} << 7;
    static constexpr unsigned software_shift = 8;
    static constexpr entry software_mask = entry{3} << software_shift;
    static constexpr unsigned frame_shift = 10;
    static constexpr entry frame_mask = ((entry{1} << 44) - 1) << frame_shift;
    static constexpr unsigned memory_type_shift = 61; // Svpbmt: 0 as the platform says, 1 non-cacheable, 2 I/O
    static constexpr entry memory_type_mask = entry{3} << memory_type_shift;
    static constexpr entry remembering_bit = entry{1} << 60; // with valid clear: a leaf that nobody may touch

    [[nodiscard]] static constexpr bool is_canonical(virt_addr v) noexcept
    {
        constexpr auto half = std::uint64_t{1} << (page_shift + levels * index_bits - 1);
        return v.value() + half < 2 * half;
    }

    [[nodiscard]] static constexpr entry leaf(phys_addr a, unsigned, const hal::page_attributes& x) noexcept
    {
        using enum hal::protection;
        entry e = a.value() >> page_shift << frame_shift | entry{x.software} << software_shift;
        e |= x.memory == hal::memory_type::write_back        ? 0
             : x.memory == hal::memory_type::write_combining ? entry{1} << memory_type_shift
                                                             : entry{2} << memory_type_shift;
        e |= x.global ? global_bit : 0;
        e |= includes(x.access, user) ? user_bit : 0;
        e |= includes(x.access, read) ? read_bit : 0;
        e |= includes(x.access, write) ? write_bit | read_bit : 0; // write without read is reserved
        e |= includes(x.access, execute) ? execute_bit : 0;
        return e | (accessible(x.access) ? valid_bit : remembering_bit);
    }
    [[nodiscard]] static constexpr entry table(phys_addr a) noexcept
    {
        return a.value() >> page_shift << frame_shift | valid_bit;
    }

    [[nodiscard]] static constexpr bool is_present(entry e) noexcept { return (e & valid_bit) != 0; }
    [[nodiscard]] static constexpr bool is_leaf(entry e, unsigned) noexcept
    {
        return (e & remembering_bit) != 0 ||
               ((e & valid_bit) != 0 && (e & (read_bit | write_bit | execute_bit)) != 0);
    }
    [[nodiscard]] static constexpr bool is_table(entry e, unsigned level) noexcept
    {
        return level > 0 && (e & (valid_bit | read_bit | write_bit | execute_bit)) == valid_bit;
    }
    [[nodiscard]] static constexpr phys_addr address(entry e, unsigned) noexcept
    {
        return phys_addr{(e & frame_mask) >> frame_shift << page_shift};
    }
    [[nodiscard]] static constexpr hal::page_attributes attributes(entry e, unsigned) noexcept
    {
        using enum hal::protection;
        hal::page_attributes x{.access = none};
        x.access = x.access | ((e & read_bit) != 0 ? read : none);
        x.access = x.access | ((e & write_bit) != 0 ? write : none);
        x.access = x.access | ((e & execute_bit) != 0 ? execute : none);
        x.access = x.access | ((e & user_bit) != 0 ? user : none);
        const auto type = (e & memory_type_mask) >> memory_type_shift;
        x.memory = type == 0   ? hal::memory_type::write_back
                   : type == 1 ? hal::memory_type::write_combining
                               : hal::memory_type::uncached;
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
static_assert(hal::PteFormat<sv48>);

} // namespace exo::riscv64
