// PteFormat: how a page-table entry is laid out. Pure: a format is a type whose static functions compute bits from
// words and back, on any machine; loading and storing entries is EntryStore's.
//
// Level 0 entries map base pages; the root table has level `levels - 1`. A table fills one page with 2^index_bits
// entries.
//
// Laws (test/laws/pte_format_laws.hpp checks every model):
//  - Entry 0 is empty: neither table nor leaf, at every level. Every other entry that the functions here make is a
//    table or a leaf, never both. Only entries with is_present() are used by hardware.
//  - leaf(a, level, x) for level <= largest_leaf_level, `a` aligned to the page of that level and below physical_limit:
//    a leaf with address() a and attributes() x, x.software below 2^software_bits, accessed and dirty clear. What x
//    asks for is granted exactly, but that read may come with write or execute. It is present exactly if x.access is
//    accessible(); otherwise it only remembers. The leaves of frames in a row differ each from the next by the same
//    amount: leaf(a + n * d, level, x) == leaf(a, level, x) + n * (leaf(d, level, x) - leaf(0, level, x)).
//  - is_global() is attributes().global of a leaf, and of leaves or'ed together: whether one of them is global.
//  - table(a): a present table entry, writable, that limits nothing below it.
//  - writable() tells whether a write through this entry is allowed; with_write and without_write change just that.
//    hierarchical_write: clearing it in a table entry forbids writing through everything below. (Where it is false, the
//    three are meant for leaves only.)
//  - Every processor has leaves up to baseline_leaf_level; those above, up to largest_leaf_level, it may lack.
//  - software_bits is at least 2.
//  - caches_absent: hardware may remember that an entry was absent, so that a fresh mapping needs an invalidation too.
//  - is_canonical(v): v can be translated at all. The canonical addresses are the lower half [0, half) and the upper
//    half [-half, 2^64) of the address space, half being 2^(page_shift + levels * index_bits - 1).

#pragma once

#include <concepts>
#include <cstdint>

#include <exo/base/address.hpp>
#include <exo/base/page.hpp>
#include <exo/hal/page_attributes.hpp>

namespace exo::hal {

template <class F>
concept PteFormat = requires(typename F::entry e, phys_addr a, virt_addr v, unsigned level, const page_attributes& x) {
    requires std::unsigned_integral<typename F::entry>;
    requires (sizeof(typename F::entry) << F::index_bits) == page_size;
    requires F::software_bits >= 2 && F::largest_leaf_level < F::levels;
    requires F::baseline_leaf_level <= F::largest_leaf_level;
    { F::levels } -> std::convertible_to<unsigned>;
    { F::physical_limit } -> std::convertible_to<phys_addr>;
    { F::hierarchical_write } -> std::convertible_to<bool>;
    { F::caches_absent } -> std::convertible_to<bool>;
    { F::is_canonical(v) } noexcept -> std::same_as<bool>;
    { F::leaf(a, level, x) } noexcept -> std::same_as<typename F::entry>;
    { F::table(a) } noexcept -> std::same_as<typename F::entry>;
    { F::is_present(e) } noexcept -> std::same_as<bool>;
    { F::is_leaf(e, level) } noexcept -> std::same_as<bool>;
    { F::is_table(e, level) } noexcept -> std::same_as<bool>;
    { F::address(e, level) } noexcept -> std::same_as<phys_addr>;
    { F::attributes(e, level) } noexcept -> std::same_as<page_attributes>;
    { F::is_global(e) } noexcept -> std::same_as<bool>;
    { F::writable(e) } noexcept -> std::same_as<bool>;
    { F::with_write(e) } noexcept -> std::same_as<typename F::entry>;
    { F::without_write(e) } noexcept -> std::same_as<typename F::entry>;
    { F::accessed(e) } noexcept -> std::same_as<bool>;
    { F::dirty(e) } noexcept -> std::same_as<bool>;
    { F::with_accessed(e) } noexcept -> std::same_as<typename F::entry>;
    { F::with_dirty(e) } noexcept -> std::same_as<typename F::entry>;
};

template <PteFormat F>
inline constexpr unsigned entries_per_table = 1u << F::index_bits;

template <PteFormat F>
inline constexpr unsigned root_level = F::levels - 1;

// Bytes that one entry of a level covers.
template <PteFormat F>
[[nodiscard]] constexpr std::uint64_t bytes_at(unsigned level)
{
    return std::uint64_t{1} << (page_shift + F::index_bits * level);
}

// Which entry of its table at `level` translates `v`.
template <PteFormat F>
[[nodiscard]] constexpr unsigned index_at(virt_addr v, unsigned level)
{
    return static_cast<unsigned>(v.value() >> (page_shift + F::index_bits * level)) & (entries_per_table<F> - 1);
}

} // namespace exo::hal
