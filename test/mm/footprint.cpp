// What a space keeps, and giving all of it back at once.

#include <doctest/doctest.h>

#include <exo/mm/shared_memory.hpp>
#include <mm/space_world.hpp>

using namespace exo;
using namespace space_test;

namespace {

constexpr std::uint64_t touched = 40;

TEST_CASE_TEMPLATE("a footprint counts what is private whole, and what is shared in part", Format, EXO_EVERY_FORMAT)
{
    world<Format> w;
    auto s = w.make_space();
    w.activate(*s);
    const auto at = *s->map({.length = touched * page_size});
    const auto empty = s->memory_footprint();
    CHECK(empty.pages == 0);
    CHECK(empty.tables == page_size);
    for (std::uint64_t i = 0; i < touched; ++i)
        CHECK(w.store(*s, at + i * page_size, i));
    const auto alone = s->memory_footprint();
    CHECK(alone.pages == touched * page_size);
    CHECK(alone.tables == Format::levels * page_size);

    auto child = *s->fork();
    const auto parts = s->memory_footprint();
    CHECK(parts.pages == alone.pages / 2);
    CHECK(child->memory_footprint().total() == parts.total());
    // The child copies the tables on the way and a page: its own now, like those that the parent keeps.
    w.activate(*child);
    CHECK(w.store(*child, at, 7));
    CHECK(s->memory_footprint().pages == (touched + 1) * page_size / 2);
    CHECK(child->memory_footprint().pages == (touched + 1) * page_size / 2);
    w.activate(*s);
    child.reset();
    CHECK(s->memory_footprint().pages == alone.pages);

    // A page that somebody else keeps as well.
    const auto kept = s->memory_footprint().pages;
    {
        const auto backing = *mm::shared_memory::create(w.heap_, w.pages, w.parker, page_size);
        const auto shared =
            *s->map({.length = page_size, .kind = mm::sharing::shared, .backing = backing});
        CHECK(w.store(*s, shared, 1));
        CHECK(s->memory_footprint().pages == kept + page_size / 2);
    }
    w.deactivate(*s);
}

TEST_CASE_TEMPLATE("large pages count whole, and all footprints together are no more than the memory in use", Format,
                   EXO_EVERY_FORMAT)
{
    world<Format, greedy> w{8192};
    constexpr std::uint64_t large = 512 * page_size;
    auto s = w.make_space();
    w.activate(*s);
    const auto at = virt_addr{64 * large};
    CHECK(s->map({.address = at, .length = 2 * large, .where = mm::placement::fixed}));
    for (const auto where : {at, at + large})
        CHECK(w.store(*s, where, 1));
    REQUIRE(w.memory.counted(&mm::memory_counters::large_pages_filled) == 2);
    CHECK(s->memory_footprint().pages == 2 * large);
    auto child = *s->fork();
    CHECK(s->memory_footprint().pages == large);
    w.activate(*child);
    CHECK(w.store(*child, at, 2)); // which splits it there, and copies a page
    const auto used = (w.frames_at_rest - w.frames_.free_frames()) * page_size;
    const auto in_frames = [](const mm::footprint& f) { return f.pages + f.tables; };
    const auto together = in_frames(s->memory_footprint()) + in_frames(child->memory_footprint());
    CHECK(together <= used);
    CHECK(together > used - used / 100);
    s->clear();
    child->clear();
    CHECK(w.frames_at_rest - w.frames_.free_frames() == 2); // the roots
    w.deactivate(*child);
}

TEST_CASE_TEMPLATE("clear gives everything back at once, takes no memory, and leaves relatives alone", Format,
                   EXO_EVERY_FORMAT)
{
    world<Format> w;
    auto s = w.make_space();
    w.activate(*s);
    const auto at = *s->map({.length = touched * page_size});
    for (std::uint64_t i = 0; i < touched; ++i)
        CHECK(w.store(*s, at + i * page_size, i));
    auto relative = *s->fork();
    CHECK(w.store(*s, at, 100));
    s->start_brk(virt_addr{0x100000});
    CHECK(s->set_brk(virt_addr{0x103000}));

    w.failing.fail_nth(1);
    s->clear();
    w.failing.stop();
    CHECK(s->statistics().virtual_pages == 0);
    CHECK(s->statistics().resident_pages == 0);
    CHECK(s->memory_footprint().total() == page_size);
    CHECK(s->brk() == virt_addr{0x100000});
    CHECK(w.load(*s, at + page_size).error() == mm::no_region); // nothing of it is remembered either
    w.check_counts({s.get(), relative.get()});

    w.activate(*relative);
    for (std::uint64_t i = 0; i < touched; ++i)
        CHECK(*w.load(*relative, at + i * page_size) == i);
    w.activate(*s);
    const auto anew = *s->map({.length = page_size});
    CHECK(*w.load(*s, anew) == 0);
    w.deactivate(*s);
}

} // namespace
