// A fault fills the page that was touched, and nothing else.

#pragma once

#include <cstdint>

#include <exo/mm/fill_policy.hpp>

struct one_page_each {
    static bool wants_large(const exo::mm::region&, exo::virt_range, exo::mm::memory_left) noexcept { return false; }
    static std::uint64_t zeroed_pages(const exo::mm::region&, exo::virt_addr, std::uint64_t,
                                      exo::mm::memory_left) noexcept
    {
        return 1;
    }
    static exo::virt_range neighbours(const exo::mm::region&, exo::virt_addr page) noexcept
    {
        return exo::virt_range::of_size(page, exo::page_size);
    }
};
static_assert(exo::mm::FillPolicy<one_page_each>);
