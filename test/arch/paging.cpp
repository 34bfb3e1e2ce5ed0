// Layouts of page-table entries: the laws, and bit for bit what the manuals say.

#include <doctest/doctest.h>

#include <exo/arch/riscv64/sv48.hpp>
#include <exo/arch/x86_64/paging.hpp>
#include <exo/arch/x86_64/paging_entries.hpp>

#include <laws/entry_store_laws.hpp>
#include <laws/pte_format_laws.hpp>

using namespace exo;

TEST_CASE_TEMPLATE("every page-table format keeps the laws", Format, x86_64::paging_4_level, x86_64::paging_5_level,
                   riscv64::sv48)
{
    laws::check_pte_format<Format>();
}

TEST_CASE("entries of x86-64 keep the law of the entry store")
{
    x86_64::paging_entries entries;
    std::uint64_t slot = 0;
    laws::check_entry_store<std::uint64_t>(entries, &slot);
}

TEST_CASE("x86-64 entries have the bits of SDM 3A tables 4-15 to 4-20")
{
    using enum hal::protection;
    using format = x86_64::paging_4_level;
    constexpr phys_addr a{0x000f'edcb'a987'6000};
    constexpr std::uint64_t NX = std::uint64_t{1} << 63;
    static_assert(format::table(a) == (a.value() | 0x7));
    static_assert(format::leaf(a, 0, {.access = read}) == (a.value() | NX | 0x1));
    static_assert(format::leaf(a, 0, {.access = read | write}) == (a.value() | NX | 0x3));
    static_assert(format::leaf(a, 0, {.access = read | execute | user}) == (a.value() | 0x5));
    static_assert(format::leaf(a, 0, {.access = read, .global = true}) == (a.value() | NX | 0x101));
    static_assert(format::leaf(a, 0, {.access = read, .software = 5}) == (a.value() | NX | 0xa01));
    static_assert(format::leaf(phys_addr{0x4000'0000}, 2, {.access = read | write}) == (0x4000'0000 | NX | 0x83));
    static_assert(format::leaf(phys_addr{0x20'0000}, 1, {.access = read | execute}) == (0x20'0000 | 0x81));
    static_assert(format::with_accessed(1) == 0x21 && format::with_dirty(1) == 0x41);
    // PWT and PCD choose the PAT's entries 1 (write-combining, 01h) and 3 (uncached, 00h); 0 is write-back (06h).
    static_assert((format::leaf(a, 0, {.access = read, .memory = hal::memory_type::write_combining}) & 0x98) == 0x08);
    static_assert((format::leaf(a, 0, {.access = read, .memory = hal::memory_type::uncached}) & 0x98) == 0x18);
    static_assert((x86_64::pat_value & 0xff) == 6 && (x86_64::pat_value >> 8 & 0xff) == 1);
    static_assert((x86_64::pat_value >> 24 & 0xff) == 0);
    static_assert((format::leaf(a, 0, {.access = user}) & 1) == 0); // present only if accessible
    static_assert(!format::is_table(format::leaf(phys_addr{0}, 1, {.access = none}), 1));
    static_assert(x86_64::paging_5_level::is_canonical(virt_addr{0x00ff'ffff'ffff'ffff}));
    static_assert(!format::is_canonical(virt_addr{0x0000'8000'0000'0000}));
}

TEST_CASE("Sv48 entries have the bits of the privileged architecture, section 12.4")
{
    using enum hal::protection;
    using format = riscv64::sv48;
    static_assert(format::table(phys_addr{0x8000'1000}) == (0x8000'1 << 10 | 0x1));
    static_assert(format::leaf(phys_addr{0x8000'1000}, 0, {.access = read}) == (0x8000'1 << 10 | 0x3));
    static_assert(format::leaf(phys_addr{0x1000}, 0, {.access = write | user}) == (1 << 10 | 0x17));
    static_assert(format::leaf(phys_addr{0x1000}, 0, {.access = execute, .global = true}) == (1 << 10 | 0x29));
    constexpr hal::page_attributes device{.access = read, .memory = hal::memory_type::uncached};
    static_assert(format::leaf(phys_addr{0x1000}, 0, device) >> 61 == 2);
    static_assert(format::with_accessed(0) == 0x40 && format::with_dirty(0) == 0x80);
}
