// The laws of hal/tlb.hpp and hal/translation_root.hpp, for a machine that can be asked what it remembers.

#pragma once

#include <doctest/doctest.h>

#include <cstdint>

#include <exo/base/range.hpp>
#include <exo/hal/tlb.hpp>
#include <exo/hal/translation_root.hpp>

namespace laws {

// machine.remember(v) has the current CPU fill its TLB, machine.remembers(v) tells whether it still holds that. Four
// base pages begin at `pages`, `global` is a global one, `large` lies in a page of the next size; all are readable in
// `root` and in `other`, two hierarchies.
template <class Machine, class Paging>
    requires exo::hal::Tlb<Paging> && exo::hal::TranslationRoot<Paging>
void check_tlb(Machine& machine, Paging& paging, exo::phys_addr root, exo::phys_addr other, exo::virt_addr pages,
               exo::virt_addr global, exo::virt_addr large)
{
    using namespace exo;
    const bool ids = paging.id_limit() > 2;
    const hal::translation_root one{root, hal::address_space_id{static_cast<std::uint16_t>(ids ? 1 : 0)}};
    const hal::translation_root two{other, hal::address_space_id{static_cast<std::uint16_t>(ids ? 2 : 0)}};
    const auto remember_all = [&] {
        for (std::uint64_t i = 0; i < 4; ++i)
            machine.remember(pages + i * page_size);
        machine.remember(global);
        machine.remember(large);
    };
    const auto remembered = [&](virt_addr v) { return machine.remembers(v); };
    paging.load(two, hal::remembered::forget);
    remember_all();
    paging.load(one, hal::remembered::forget);
    CHECK(paging.current() == one);

    remember_all();
    paging.invalidate_page(pages + page_size);
    CHECK(remembered(pages));
    CHECK(!remembered(pages + page_size));
    CHECK(remembered(pages + 2 * page_size));
    paging.invalidate_page(global);
    CHECK(!remembered(global));
    paging.invalidate_page(large.align_down(page_size) + 16 * page_size); // elsewhere in the same page
    CHECK(!remembered(large));

    remember_all();
    paging.invalidate_range({pages + page_size, pages + 3 * page_size}, page_size);
    CHECK(remembered(pages));
    CHECK(!remembered(pages + page_size));
    CHECK(!remembered(pages + 2 * page_size));
    CHECK(remembered(pages + 3 * page_size));

    remember_all();
    paging.invalidate_space(one.id);
    CHECK(!remembered(pages));
    CHECK(!remembered(large));
    CHECK(remembered(global));

    remember_all();
    paging.load(two, hal::remembered::keep);
    CHECK(remembered(pages) == ids); // its own, from the beginning
    paging.load(one, hal::remembered::keep);
    CHECK(remembered(pages) == ids);
    paging.load(one, hal::remembered::forget);
    CHECK(!remembered(pages));
    CHECK(remembered(global));

    // What is remembered of a space that is not loaded can be forgotten as well.
    if (ids) {
        paging.load(two, hal::remembered::keep);
        remember_all();
        paging.load(one, hal::remembered::keep);
        remember_all();
        paging.invalidate_space(two.id);
        CHECK(remembered(pages));
        paging.load(two, hal::remembered::keep);
        CHECK(!remembered(pages));
        CHECK(remembered(global));
        paging.load(one, hal::remembered::keep);
    }

    remember_all();
    paging.invalidate_all();
    CHECK(!remembered(pages));
    CHECK(!remembered(global));
    CHECK(!remembered(large));
    paging.load(two, hal::remembered::keep);
    CHECK(!remembered(pages));
}

} // namespace laws
