// Regions that grow down: how far, and that the limit may change.

#include <doctest/doctest.h>

#include <mm/space_world.hpp>

using namespace exo;
using namespace space_test;

TEST_CASE_TEMPLATE("a stack grows to its limit, which may change, and not into what lies below", Format,
                   EXO_EVERY_FORMAT)
{
    world<Format> w;
    auto s = w.make_space();
    w.activate(*s);
    constexpr virt_addr top{0x4000'0000};
    CHECK(s->map({.address = top - page_size,
                  .length = page_size,
                  .where = mm::placement::fixed,
                  .grows = mm::growth::down,
                  .limit = 8 * page_size}));
    CHECK(w.store(*s, top - 3 * page_size, 1));
    CHECK(w.store(*s, top - 8 * page_size, 1));
    CHECK(w.store(*s, top - 8 * page_size - 1, 1).error() == mm::no_region);

    s->limit_growth(4 * page_size); // less than it has
    CHECK(w.store(*s, top - 8 * page_size, 2));
    CHECK(w.store(*s, top - 9 * page_size, 1).error() == mm::no_region);
    s->limit_growth(~std::uint64_t{0});
    CHECK(w.store(*s, top - 20 * page_size, 1));

    // The guard below is kept free of it.
    const virt_addr below = top - 20 * page_size - mm::stack_guard - 2 * page_size;
    CHECK(s->map({.address = below, .length = page_size, .where = mm::placement::fixed}));
    CHECK(w.store(*s, top - 21 * page_size, 1));
    CHECK(w.store(*s, top - 22 * page_size, 1).error() == mm::no_region);
    w.deactivate(*s);
}

TEST_CASE("a hint into the guard of a stack is not followed, and one below it is")
{
    world<x86_64::paging_4_level> w;
    auto s = w.make_space();
    constexpr virt_addr stack{0x4000'0000};
    CHECK(s->map({.address = stack,
                  .length = page_size,
                  .where = mm::placement::fixed,
                  .grows = mm::growth::down,
                  .limit = 8 << 20}));
    const auto guard = stack - mm::stack_guard;
    for (const virt_addr wish : {stack - page_size, guard, guard - page_size + 1})
        CHECK((*s->map({.address = wish, .length = page_size}) == wish.align_down(page_size)) == (wish < guard));
}
