// Tlb: forgetting translations on the CPU that runs the call. Other CPUs are mm/shootdown.hpp's business.
//
// Laws (test/laws/tlb_laws.hpp checks every model):
//  - After invalidate_page(a) no access by this CPU in the loaded address space uses a translation of a's page,
//    whatever its size, or a paging-structure entry on its path, that was read from the tables before the call. Global
//    pages included.
//    A path through tables that is remembered for another address space stays so.
//  - invalidate_range(r, step) does so for r.begin, r.begin + step, ... below r.end.
//  - invalidate_space(id) forgets everything tagged `id`, paging-structure entries included, global pages excepted.
//  - invalidate_all() forgets everything, of every id, global pages included.
//  - Each orders earlier changes of the tables before later accesses through them.
//  - None fails, allocates or sleeps; all may run with interrupts off.

#pragma once

#include <concepts>
#include <cstdint>

#include <exo/base/address.hpp>
#include <exo/base/range.hpp>
#include <exo/hal/translation_root.hpp>

namespace exo::hal {

template <class T>
concept Tlb = requires(T& tlb, virt_addr a, const virt_range& r, std::uint64_t step, address_space_id id) {
    { tlb.invalidate_page(a) } noexcept -> std::same_as<void>;
    { tlb.invalidate_range(r, step) } noexcept -> std::same_as<void>;
    { tlb.invalidate_space(id) } noexcept -> std::same_as<void>;
    { tlb.invalidate_all() } noexcept -> std::same_as<void>;
};

} // namespace exo::hal
