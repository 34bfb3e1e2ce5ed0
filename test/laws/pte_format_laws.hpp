// The laws of hal/pte_format.hpp, for any model of PteFormat.

#pragma once

#include <doctest/doctest.h>

#include <initializer_list>
#include <random>

#include <exo/hal/pte_format.hpp>

namespace laws {

template <exo::hal::PteFormat F>
void check_pte_format()
{
    using namespace exo;
    using enum hal::protection;
    using entry = typename F::entry;

    for (unsigned level = 0; level < F::levels; ++level) {
        CHECK(!F::is_present(0));
        CHECK(!F::is_leaf(0, level));
        CHECK(!F::is_table(0, level));
    }

    std::minstd_rand random{7};
    const auto some_address = [&](unsigned level) {
        const std::uint64_t any = (std::uint64_t{random()} << 32 ^ random()) % F::physical_limit.value();
        return phys_addr{any}.align_down(hal::bytes_at<F>(level));
    };
    for (unsigned bits = 0; bits < 16; ++bits)
        for (unsigned software = 0; software < 1u << F::software_bits; ++software)
            for (const auto memory :
                 {hal::memory_type::write_back, hal::memory_type::write_combining, hal::memory_type::uncached})
                for (const bool global : {false, true})
                    for (unsigned level = 0; level <= F::largest_leaf_level; ++level) {
                        const hal::page_attributes asked{.access = static_cast<hal::protection>(bits),
                                                         .memory = memory,
                                                         .global = global,
                                                         .software = static_cast<std::uint8_t>(software)};
                        const phys_addr a = some_address(level);
                        const entry e = F::leaf(a, level, asked);
                        REQUIRE(e != 0);
                        REQUIRE(F::is_leaf(e, level));
                        REQUIRE(!F::is_table(e, level));
                        REQUIRE(F::is_present(e) == accessible(asked.access));
                        REQUIRE(F::address(e, level) == a);
                        auto got = F::attributes(e, level);
                        if (!includes(asked.access, read) && F::is_present(e))
                            got.access = without(got.access, read);
                        auto expected = asked;
                        if (F::is_present(e))
                            expected.access = without(asked.access, includes(asked.access, read) ? none : read);
                        REQUIRE(got == expected);
                        REQUIRE(F::is_global(e) == global);
                        REQUIRE(!F::accessed(e));
                        REQUIRE(!F::dirty(e));
                        REQUIRE(F::accessed(F::with_accessed(e)));
                        REQUIRE(F::dirty(F::with_dirty(e)));
                        REQUIRE(!F::dirty(F::with_accessed(e)));
                        REQUIRE(F::attributes(F::with_accessed(F::with_dirty(e)), level) == F::attributes(e, level));
                        REQUIRE(F::address(F::with_accessed(F::with_dirty(e)), level) == a);
                        if (F::is_present(e))
                            REQUIRE(F::writable(e) == includes(asked.access, write));
                        if (includes(asked.access, read)) {
                            auto more = asked;
                            more.access = asked.access | write;
                            auto less = asked;
                            less.access = without(asked.access, write);
                            REQUIRE(F::with_write(e) == F::leaf(a, level, more));
                            REQUIRE(F::without_write(e) == F::leaf(a, level, less));
                        }
                        const phys_addr one{hal::bytes_at<F>(level)};
                        const entry step = F::leaf(one, level, asked) - F::leaf(phys_addr{}, level, asked);
                        const std::uint64_t n = random() % 511;
                        if (a + n * one.value() < F::physical_limit)
                            REQUIRE(F::leaf(a + n * one.value(), level, asked) == e + n * step);
                        const entry other = F::leaf(some_address(level), level, {.access = read});
                        REQUIRE(F::is_global(e | other) == global);
                    }
    for (unsigned level = 1; level < F::levels; ++level) {
        const phys_addr a = some_address(0);
        const entry e = F::table(a);
        CHECK(F::is_present(e));
        CHECK(F::is_table(e, level));
        CHECK(!F::is_leaf(e, level));
        CHECK(F::address(e, level) == a);
        if (F::hierarchical_write) {
            CHECK(F::writable(e));
            CHECK(!F::writable(F::without_write(e)));
            CHECK(F::with_write(F::without_write(e)) == e);
            CHECK(F::is_table(F::without_write(e), level));
        }
    }

    const auto half = std::uint64_t{1} << (page_shift + F::levels * F::index_bits - 1);
    for (const std::uint64_t v : {std::uint64_t{0}, half - 1, 0 - half, ~std::uint64_t{0}})
        CHECK(F::is_canonical(virt_addr{v}));
    for (const std::uint64_t v : {half, half + 12'345, 0 - half - 1})
        CHECK(!F::is_canonical(virt_addr{v}));
    for (unsigned level = 0; level < F::levels; ++level) {
        CHECK(hal::index_at<F>(virt_addr{hal::bytes_at<F>(level) * 3 + 5}, level) == 3);
        CHECK(hal::index_at<F>(virt_addr{~std::uint64_t{0}}, level) == hal::entries_per_table<F> - 1);
    }
}

} // namespace laws
