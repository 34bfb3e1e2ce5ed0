// What the calls beyond map, unmap and protect come to: advice, moves, locks, limits, and what is told of them.

#include <exo/mm/shared_memory.hpp>
#include <mm/space_calls.hpp>

using namespace exo;
using namespace space_test;

namespace {

using mm::access;
using mm::placement;
using mm::protection;
using mm::sharing;
using format = x86_64::paging_4_level;
using world_type = world<format>;
using space = world_type::space;


std::uint64_t value_at(space& s, virt_addr a)
{
    std::uint64_t value = ~std::uint64_t{0};
    CHECK(s.read(a, std::as_writable_bytes(std::span{&value, 1})));
    return value;
}
void put_at(space& s, virt_addr a, std::uint64_t value) { CHECK(s.write(a, std::as_bytes(std::span{&value, 1}))); }

constexpr auto wants_large = [](mm::region_advice& a) { a.large = mm::large_pages::wanted; };
constexpr auto unspecified = [](mm::region_advice& a) { a = {}; };

} // namespace

TEST_CASE("Advice belongs to the pages it was given for: regions split by it, join by it, and pass it on at fork")
{
    world_type w;
    auto s = w.make_space();
    CHECK(s->map(at(base, 10)));
    CHECK(s->advise(pages(base + 2 * page, 3), wants_large));
    auto all = regions_of(*s);
    REQUIRE(all.size() == 3);
    CHECK(all[1].range == pages(base + 2 * page, 3));
    CHECK(all[1].advice.large == mm::large_pages::wanted);
    CHECK(s->fork().value()->region_at(base + 4 * page)->advice.large == mm::large_pages::wanted);
    CHECK(s->protect(pages(base + 3 * page, 1), mm::user_read));
    CHECK(s->region_at(base + 3 * page)->advice.large == mm::large_pages::wanted);
    CHECK(s->protect(pages(base + 3 * page, 1), mm::user_data));
    CHECK(s->advise(pages(base, 10), unspecified));
    CHECK(regions_of(*s).size() == 1);

    // Where nothing is mapped it has no effect, which is said after the rest was done.
    CHECK(s->unmap(pages(base + 5 * page, 1)));
    const auto outcome = s->advise(pages(base, 12), wants_large);
    CHECK(outcome.error() == mm::not_mapped);
    CHECK(outcome.error().context() == (base + 5 * page).value());
    for (const auto& r : regions_of(*s))
        CHECK(r.advice.large == mm::large_pages::wanted);
    CHECK(s->advise({base + 1, base + page}, wants_large).error() == errors::invalid_argument);
    CHECK(s->advise(pages(world_type::layout.highest, 1), wants_large).error() == mm::not_mapped);
}

TEST_CASE("A child has neither what it does not inherit nor what it begins without")
{
    world_type w;
    file f{w.pages, 4};
    auto s = w.make_space();
    CHECK(s->map(at(base, 6)));
    for (unsigned i = 0; i < 6; ++i)
        put_at(*s, base + i * page, i + 1);
    auto of_file = at(base + 20 * page, 4);
    of_file.backing = ref<mm::pager>{f};
    CHECK(s->map(of_file));
    CHECK(s->advise(pages(base + page, 1), [](mm::region_advice& a) { a.fork = mm::at_fork::absent; }));
    constexpr auto empty = [](mm::region_advice& a) { a.fork = mm::at_fork::empty; };
    CHECK(s->advise(pages(base + 3 * page, 2), empty));
    CHECK(s->advise(pages(base + 20 * page, 1), empty).error() == errors::invalid_argument);
    CHECK(s->region_at(base + 20 * page)->advice == mm::region_advice{});
    {
        auto child = *s->fork();
        w.check_counts({s.get(), child.get()});
        CHECK(child->handle_fault(base + page, access::read).error() == mm::no_region);
        const std::uint64_t expected[] = {1, 0, 3, 0, 0, 6};
        for (const unsigned i : {0, 2, 3, 4, 5})
            CHECK(value_at(*child, base + i * page) == expected[i]);
        CHECK(child->region_at(base + 3 * page)->advice.fork == mm::at_fork::empty);
        for (unsigned i = 0; i < 6; ++i)
            CHECK(value_at(*s, base + i * page) == i + 1);
    }
    CHECK(s->unmap(pages(base, 24)));
}

TEST_CASE("What is dropped or freed is dropped where it is mapped, and a hole is reported")
{
    world_type w;
    file f{w.pages, 4};
    auto s = w.make_space();
    CHECK(s->map(at(base, 3)));
    CHECK(s->map(at(base + 4 * page, 3)));
    auto of_file = at(base + 7 * page, 1);
    of_file.backing = ref<mm::pager>{f};
    CHECK(s->map(of_file));
    for (const unsigned i : {0, 1, 2, 4, 5, 6, 7})
        put_at(*s, base + i * page, 77);
    CHECK(s->free(pages(base + 6 * page, 2)).error() == errors::invalid_argument);
    CHECK(value_at(*s, base + 6 * page) == 77);
    CHECK(s->free(pages(base + 6 * page, 1)));
    CHECK(value_at(*s, base + 6 * page) == 0);
    CHECK(s->discard(pages(base + 7 * page, 1)));
    CHECK(value_at(*s, base + 7 * page) == file::initial(0));
    CHECK(s->discard(pages(base + page, 4)).error() == mm::not_mapped);
    const std::uint64_t expected[] = {77, 0, 0, 0, 0, 77};
    for (const unsigned i : {0, 1, 2, 4, 5})
        CHECK(value_at(*s, base + i * page) == expected[i]);
    CHECK(s->unmap(pages(base, 8)));
}

TEST_CASE("What will be needed of a file is there before it is accessed")
{
    world_type w;
    file f{w.pages, 3};
    auto s = w.make_space();
    CHECK(s->map(at(base, 2)));
    auto of_file = at(base + 2 * page, 4);
    of_file.backing = ref<mm::pager>{f};
    CHECK(s->map(of_file));
    CHECK(s->will_need(pages(base, 6)));
    CHECK(s->statistics().resident_pages == 3); // not of anonymous memory, nor behind the file's end
    w.activate(*s);
    CHECK(w.machine.load<std::uint64_t>(base + 3 * page).value() == file::initial(1));
    CHECK(s->will_need(pages(base, 7)).error() == mm::not_mapped);
    w.deactivate(*s);
    CHECK(s->unmap(pages(base, 8)));
}

TEST_CASE("A mapping becomes smaller, and larger where there is room")
{
    world_type w;
    auto s = w.make_space();
    CHECK(s->map(at(base, 4)));
    for (unsigned i = 0; i < 4; ++i)
        put_at(*s, base + i * page, i);
    CHECK(*s->remap({.address = base, .old_length = 4 * page, .length = 2 * page - 5}) == base);
    CHECK(s->handle_fault(base + 2 * page, access::read).error() == mm::no_region);
    CHECK(*s->remap({.address = base + page, .old_length = page, .length = 4 * page}) == base + page);
    REQUIRE(regions_of(*s).size() == 1);
    CHECK(regions_of(*s)[0].range == pages(base, 5));
    CHECK(value_at(*s, base + page) == 1);
    CHECK(value_at(*s, base + 2 * page) == 0);
    CHECK(*s->remap({.address = base, .old_length = 5 * page, .length = 5 * page}) == base);

    CHECK(s->map(at(base + 6 * page, 1, mm::user_read)));
    const auto grow = [&](std::uint64_t from, std::uint64_t old, std::uint64_t length) {
        return s->remap({.address = base + from * page, .old_length = old * page, .length = length * page});
    };
    CHECK(grow(0, 5, 7).error() == errors::out_of_memory); // something is in the way
    CHECK(grow(0, 3, 4).error() == errors::out_of_memory); // its own rest is in the way
    CHECK(grow(0, 6, 7).error() == mm::no_region);         // not all of it is there
    CHECK(grow(7, 1, 2).error() == mm::no_region);
    CHECK(grow(7, 2, 1).error() == mm::no_region);
    CHECK(grow(0, 0, 1).error() == errors::invalid_argument);
    CHECK(grow(0, 1, 0).error() == errors::invalid_argument);
    CHECK(s->remap({.address = base + 1, .old_length = page, .length = page}).error() == errors::invalid_argument);
    const auto move = [&](mm::remap_request r) {
        r.may_move = true;
        return s->remap(r).error();
    };
    CHECK(move({.address = base, .old_length = page, .length = page, .target = base + 1}) == errors::invalid_argument);
    CHECK(move({.address = base, .old_length = 2 * page, .length = 2 * page, .target = base + page}) ==
          errors::invalid_argument);
    CHECK(move({.address = base, .old_length = page, .length = page, .target = world_type::layout.highest}) ==
          errors::invalid_argument);
    CHECK(move({.address = base, .old_length = page, .length = page, .target = virt_addr{}}) == errors::not_permitted);
    CHECK(move({.address = base, .old_length = page, .length = 2 * page, .keeps_old = true}) ==
          errors::invalid_argument);
    CHECK(s->remap({.address = base, .old_length = page, .length = page, .target = base + 20 * page}).error() ==
          errors::invalid_argument); // without may_move
    CHECK(regions_of(*s)[0].range == pages(base, 5));
}

TEST_CASE("No length makes a move leave the space, or come round to its beginning")
{
    world_type w;
    auto s = w.make_space();
    const auto lowest = world_type::layout.lowest;
    const auto highest = world_type::layout.highest;
    CHECK(s->map(at(base, 1)));
    CHECK(s->map(at(lowest, 1)));
    CHECK(s->map(at(highest - page, 1)));
    const std::uint64_t lengths[] = {std::uint64_t{1} << 47, highest.value(), highest.value() + page,
                                     0 - lowest.value() - page, 0 - page, ~std::uint64_t{0}};
    for (const auto length : lengths)
        for (const virt_addr from : {lowest, base, highest - page})
            for (const bool to_target : {false, true}) {
                CAPTURE(length);
                mm::remap_request larger{
                    .address = from, .old_length = page, .length = length, .may_move = true};
                mm::remap_request smaller{.address = from, .old_length = length, .length = page, .may_move = true};
                if (to_target)
                    larger.target = smaller.target = base + 100 * page;
                CHECK_FALSE(s->remap(larger));
                const auto got = s->remap(smaller);
                CHECK(got.has_value() == (!to_target && length <= highest - from)); // then it only shrinks
                CHECK(regions_of(*s).size() >= 1);
                w.check_counts({s.get()});
                REQUIRE(s->unmap({lowest, highest}));
                CHECK(s->map(at(base, 1)));
                CHECK(s->map(at(lowest, 1)));
                CHECK(s->map(at(highest - page, 1)));
            }
}

TEST_CASE("A space has so many regions and no more, and what they take is part of its footprint")
{
    world_type w;
    auto s = w.make_space();
    const auto before = s->memory_footprint().total();
    std::uint64_t mapped = 0;
    for (;; ++mapped) {
        const auto got = s->map(at(base + 2 * mapped * page, 1));
        if (!got) {
            CHECK(got.error() == errors::out_of_memory);
            break;
        }
    }
    CHECK(mapped <= mm::region_limit);
    CHECK(mapped > mm::region_limit - 4);
    CHECK(s->memory_footprint().total() - before == mapped * sizeof(mm::region));
    CHECK(s->map(at(base + 1'000'000 * page, 3)).error() == errors::out_of_memory);
    CHECK(
        s->remap({.address = base, .old_length = page, .length = page, .may_move = true, .keeps_old = true}).error() ==
        errors::out_of_memory);
    CHECK(s->unmap(pages(base, 20)));
    CHECK(s->map(at(base + 1'000'000 * page, 3)));
    CHECK(s->protect(pages(base + 1'000'001 * page, 1), mm::user_read));
}

TEST_CASE_TEMPLATE("Pages move with what they hold, and no CPU finds them where they were", Format, EXO_EVERY_FORMAT)
{
    world<Format> w{512, 2};
    file f{w.pages, 8};
    auto s = w.make_space();
    CHECK(s->map(at(base, 8)));
    auto of_file = at(base + 8 * page, 8);
    of_file.backing = ref<mm::pager>{f};
    of_file.kind = sharing::shared;
    CHECK(s->map(of_file));
    for (unsigned i = 0; i < 16; ++i)
        CHECK(s->write(base + i * page, std::as_bytes(std::span{&i, 1})));
    const auto used = w.frames_.free_frames();
    const auto on_each = [&](auto look) {
        for (unsigned cpu = 0; cpu < 2; ++cpu)
            w.machine.cpus.on(cpu, [&] { look(cpu); });
    };
    on_each([&](unsigned cpu) {
        w.activate(*s);
        for (unsigned i = 0; i < 16; ++i)
            w.machine.unit.speculate(cpu, base + i * page);
        w.machine.unit.speculate(cpu, base + 1001 * page); // that nothing is there yet
    });
    const auto moved =
        *s->remap({.address = base + 2 * page, .old_length = 3 * page, .length = 5 * page, .may_move = true});
    const auto shared = base + 1000 * page;
    CHECK(*s->remap({.address = base + 8 * page,
                     .old_length = 4 * page,
                     .length = 2 * page,
                     .may_move = true,
                     .target = shared}) == shared);
    CHECK(w.frames_.free_frames() <= used);
    on_each([&](unsigned) {
        for (unsigned i = 2; i < 12; ++i)
            if (i < 5 || i >= 8)
                CHECK(w.load(*s, base + i * page).error() == mm::no_region);
        for (unsigned i = 0; i < 5; ++i)
            CHECK(*w.load(*s, moved + i * page) == (i < 3 ? i + 2 : 0));
        CHECK(w.machine.access(shared + page, access::read));
        CHECK(*w.load(*s, shared + page) % 256 == 9);
        CHECK(w.load(*s, shared + 2 * page).error() == mm::no_region);
    });
    CHECK(w.store(*s, shared, 77)); // what moved is still the file's page
    CHECK(*reinterpret_cast<std::uint64_t*>(f.contents[0].data()) == 77);

    // Once more what is shared, from the middle on.
    const auto twice = *s->remap({.address = base + 13 * page, .old_length = 0, .length = 2 * page, .may_move = true});
    CHECK(w.store(*s, twice, 99));
    CHECK(*w.load(*s, base + 13 * page) == 99);
    on_each([&](unsigned) { w.deactivate(*s); });
    CHECK(s->unmap({world<Format>::layout.lowest, world<Format>::layout.highest}));
}

TEST_CASE("What moves away and leaves its region behind leaves it empty")
{
    world_type w;
    auto s = w.make_space();
    CHECK(s->map(at(base, 6)));
    for (unsigned i = 0; i < 6; ++i)
        put_at(*s, base + i * page, i + 1);
    CHECK(s->lock_pages(pages(base, 6), mm::locking::on_fault));
    const auto to = *s->remap(
        {.address = base + page, .old_length = 3 * page, .length = 3 * page, .may_move = true, .keeps_old = true});
    const std::uint64_t left[] = {1, 0, 0, 0, 5, 6};
    for (unsigned i = 0; i < 6; ++i)
        CHECK(value_at(*s, base + i * page) == left[i]);
    for (unsigned i = 0; i < 3; ++i)
        CHECK(value_at(*s, to + i * page) == i + 2);
    CHECK(s->region_at(base)->locked == mm::locking::on_fault);
    CHECK(s->region_at(base + page)->locked == mm::locking::none);
    CHECK(s->region_at(to)->locked == mm::locking::on_fault);
}

TEST_CASE("Tables move whole, shared ones as they are, where both places are aligned alike")
{
    world_type w{8192};
    constexpr std::uint64_t table = 512;
    auto s = w.make_space();
    const virt_addr from = base + 100 * page;
    const virt_addr to = base + (std::uint64_t{1} << 39) + 100 * page;
    CHECK(s->map(at(from, 4 * table)));
    for (std::uint64_t i = 0; i < 4 * table; ++i)
        put_at(*s, from + i * page, i);
    auto child = *s->fork();
    const auto before = w.frames_.free_frames();
    const auto unshared = w.memory.counted(&mm::memory_counters::tables_unshared);
    CHECK(*s->remap({.address = from,
                     .old_length = 4 * table * page,
                     .length = 4 * table * page,
                     .may_move = true,
                     .target = to}) == to);
    // Three tables went over; the parts of two others, and three levels above, had to be its own.
    CHECK(w.memory.counted(&mm::memory_counters::tables_unshared) - unshared == 2 + 2);
    CHECK(before - w.frames_.free_frames() == 2 + 2);
    w.check_counts({s.get(), child.get()});
    for (std::uint64_t i = 0; i < 4 * table; i += 7) {
        CHECK(value_at(*s, to + i * page) == i);
        CHECK(value_at(*child, from + i * page) == i);
    }
    put_at(*s, to + 600 * page, 1);
    put_at(*child, from + 601 * page, 2);
    CHECK(value_at(*child, from + 600 * page) == 600);
    CHECK(value_at(*s, to + 601 * page) == 601);
    w.check_counts({s.get(), child.get()});

    // A place without an address is one where tables can move.
    const auto found =
        *s->remap({.address = to, .old_length = 4 * table * page, .length = 5 * table * page, .may_move = false});
    CHECK(found == to);
    CHECK(s->map(at(to + 5 * table * page, 1, mm::user_read)));
    const auto elsewhere =
        *s->remap({.address = to, .old_length = 5 * table * page, .length = 6 * table * page, .may_move = true});
    CHECK((elsewhere - to) % (table * page) == 0);
    CHECK(value_at(*s, elsewhere + 600 * page) == 1);
    w.check_counts({s.get(), child.get()});
}

TEST_CASE("What is mapped where something moves to is gone, around it nothing changes, and splits need not be twice")
{
    world_type w;
    auto s = w.make_space();
    CHECK(s->map(at(base, 100)));
    for (unsigned i = 0; i < 100; ++i)
        put_at(*s, base + i * page, i);
    CHECK(*s->remap({.address = base + 10 * page,
                     .old_length = 10 * page,
                     .length = 10 * page,
                     .may_move = true,
                     .target = base + 20 * page}) == base + 20 * page);
    CHECK(s->handle_fault(base + 10 * page, access::read).error() == mm::no_region);
    CHECK(s->handle_fault(base + 19 * page, access::read).error() == mm::no_region);
    for (const unsigned i : {9, 20, 29, 30, 99})
        CHECK(value_at(*s, base + i * page) == (i / 10 == 2 ? i - 10 : i));
    CHECK(*s->remap({.address = base + 50 * page,
                     .old_length = 10 * page,
                     .length = 10 * page,
                     .may_move = true,
                     .target = base + 40 * page}) == base + 40 * page);
    CHECK(regions_of(*s).size() == 3);
    CHECK(value_at(*s, base + 40 * page) == 50);
    CHECK(s->statistics().resident_pages == 80);
    CHECK(s->statistics().virtual_pages == 80);
}

TEST_CASE("Locked memory is counted, limited, there if it has to be, and not inherited")
{
    world_type w;
    auto s = w.make_space();
    CHECK(s->map(at(base, 10)));
    const mm::space_limits four{.locked = 4 * page};
    CHECK(s->lock_pages(pages(base, 5), mm::locking::at_once, four).error() == mm::too_much_locked);
    CHECK(s->statistics().locked_pages == 0);
    CHECK(s->lock_pages(pages(base, 3), mm::locking::at_once, four));
    CHECK(s->statistics().locked_pages == 3);
    CHECK(s->statistics().resident_pages == 3);
    CHECK(s->lock_pages(pages(base + page, 3), mm::locking::on_fault, four)); // two of them count already
    CHECK(s->statistics().locked_pages == 4);
    CHECK(s->statistics().resident_pages == 3);
    CHECK(s->lock_pages(pages(base + 4 * page, 1), mm::locking::on_fault, four).error() == mm::too_much_locked);
    CHECK(s->discard(pages(base, 10)).error() == errors::invalid_argument);
    CHECK(s->statistics().resident_pages == 3);
    CHECK(s->remap({.address = base, .old_length = page, .length = 2 * page, .may_move = true}, four).error() ==
          mm::too_much_locked);
    auto locked_map = at(base + 20 * page, 1);
    locked_map.locked = mm::locking::at_once;
    CHECK(s->map(locked_map, four).error() == mm::too_much_locked);
    CHECK(s->fork().value()->statistics().locked_pages == 0);

    CHECK(s->lock_pages(pages(base, 10), mm::locking::none));
    CHECK(s->statistics().locked_pages == 0);
    CHECK(regions_of(*s).size() == 1);
    CHECK(s->map(locked_map, four));
    CHECK(s->statistics().resident_pages == 4);
    const auto grown = *s->remap({.address = base + 20 * page, .old_length = page, .length = 3 * page}, four);
    CHECK(s->statistics().resident_pages == 6); // what is added is there as well
    CHECK(grown == base + 20 * page);

    CHECK(s->lock_pages(pages(base + 9 * page, 3), mm::locking::at_once).error() == mm::not_mapped);
    CHECK(s->region_at(base + 9 * page)->locked == mm::locking::at_once);
    CHECK(s->map(at(base + 30 * page, 1, protection::none)));
    CHECK(s->lock_pages(pages(base + 30 * page, 1), mm::locking::at_once).error() == mm::access_denied);
    CHECK(s->region_at(base + 30 * page)->locked == mm::locking::at_once);
}

TEST_CASE("Locked memory in place of memory that was not locked counts in full")
{
    world_type w;
    auto s = w.make_space();
    const mm::space_limits four{.locked = 4 * page};
    CHECK(s->map(at(base, 10)));
    auto request = at(base, 5);
    request.locked = mm::locking::on_fault;
    CHECK_FALSE(s->map(request, four));
    request.length = 4 * page;
    CHECK(s->map(request, four));
    CHECK(s->map(request, four)); // in place of itself
}

TEST_CASE("All memory, and all to come, can be locked")
{
    world_type w;
    auto s = w.make_space();
    CHECK(s->map(at(base, 4)));
    const mm::space_limits three{.locked = 3 * page};
    using mm::locking;
    CHECK(s->lock_everything(locking::at_once, locking::none, three).error() == errors::out_of_memory);
    CHECK(s->lock_everything({}, locking::at_once, three)); // what is there does not count yet
    CHECK(s->statistics().locked_pages == 0);
    CHECK(s->map(at(base + 4 * page, 2), three));
    CHECK(s->statistics().resident_pages == 2);
    s->start_brk(base + 20 * page);
    CHECK(s->set_brk(base + 22 * page, three).error() == mm::too_much_locked);
    CHECK(s->set_brk(base + 21 * page, three));
    CHECK(s->statistics().resident_pages == 3);
    CHECK(s->lock_everything(locking::on_fault, locking::none));
    CHECK(s->statistics().locked_pages == 7);
    CHECK(s->statistics().resident_pages == 3);
    CHECK(s->lock_everything(locking::at_once, locking::none));
    CHECK(s->statistics().resident_pages == 7);
    CHECK(s->lock_everything(locking::none, locking::none));
    CHECK(s->statistics().locked_pages == 0);
    CHECK(s->map(at(base + 30 * page, 1)));
    CHECK(s->statistics().resident_pages == 7);

    // What cannot be there keeps nothing behind it from being there.
    CHECK(s->map(at(base - 2 * page, 1, mm::protection::none)));
    CHECK(s->lock_everything(locking::at_once, locking::none));
    CHECK(s->statistics().resident_pages == 8);
}

TEST_CASE("Limits of a space hold for whatever makes it larger, and what is replaced does not count")
{
    world_type w;
    auto s = w.make_space();
    const mm::space_limits limits{.space = 6 * page, .data = 3 * page};
    CHECK(s->map(at(base, 4), limits).error() == errors::out_of_memory); // data
    CHECK(s->map(at(base, 3), limits));
    CHECK(s->map(at(base, 3), limits)); // in its place
    CHECK(s->map(at(base + 3 * page, 1), limits).error() == errors::out_of_memory);
    CHECK(s->map(at(base + 3 * page, 3, mm::user_read), limits));
    CHECK(s->map(at(base + 6 * page, 1, mm::user_read), limits).error() == errors::out_of_memory);
    CHECK(s->remap({.address = base, .old_length = page, .length = 2 * page, .may_move = true}, limits).error() ==
          errors::out_of_memory);
    CHECK(s->remap(
        {.address = base, .old_length = 2 * page, .length = page, .may_move = true, .target = base + 30 * page},
        limits)); // which is less
    s->start_brk(base + 50 * page);
    CHECK(s->set_brk(base + 51 * page, limits));
    CHECK(s->set_brk(base + 52 * page, limits).error() == errors::out_of_memory);
    CHECK(s->brk() == base + 51 * page);
}

TEST_CASE("What becomes writable counts as data, all of the range or none")
{
    world_type w;
    file f{w.pages, 1};
    auto s = w.make_space();
    const mm::space_limits limits{.data = 3 * page};
    CHECK(s->map(at(base, 2), limits));
    CHECK(s->map(at(base + 2 * page, 2, mm::user_read), limits));
    auto shared = at(base + 4 * page, 1, mm::user_read);
    shared.kind = sharing::shared;
    shared.backing = ref<mm::pager>{f};
    CHECK(s->map(shared, limits));
    CHECK(s->protect(pages(base, 5), mm::user_data, limits).error() == errors::out_of_memory);
    CHECK(s->region_at(base + 2 * page)->access == mm::user_read);
    CHECK(s->protect(pages(base + 3 * page, 2), mm::user_data, limits)); // what is shared is nobody's data
    CHECK(s->protect(pages(base + 2 * page, 1), mm::user_data, limits).error() == errors::out_of_memory);
    CHECK(s->protect(pages(base, 1), mm::user_read, limits));
    CHECK(s->protect(pages(base + 2 * page, 1), mm::user_data, limits));
    CHECK(s->protect(pages(base + 1 * page, 3), mm::user_data, mm::space_limits{.data = 0})); // nothing new
}

TEST_CASE("What may not be executed stays so: shared or private, in part, moved, and after a fork")
{
    world_type w;
    file data{w.pages, 8}, program{w.pages, 1};
    const auto refuses = [](space& in, virt_addr at, std::uint64_t count) {
        return in.protect(pages(at, count), mm::user_code).error() == mm::access_denied;
    };
    for (const auto kind : {sharing::private_copy, sharing::shared}) {
        CAPTURE(kind == sharing::shared);
        auto s = w.make_space();
        CHECK(s->map(at(base, 1)));
        auto request = at(base + page, 8, mm::user_read);
        request.kind = kind;
        request.backing = ref<mm::pager>{data};
        request.may_execute = false;
        CHECK(s->map(request));
        CHECK(refuses(*s, base, 2));
        CHECK(s->region_at(base)->access == mm::user_data); // all of the range or none
        CHECK(s->protect(pages(base, 1), mm::user_code));

        CHECK(s->protect(pages(base + 3 * page, 2), mm::user_data));
        for (const std::uint64_t part : {2, 4, 5})
            CHECK(refuses(*s, base + part * page, 1));
        const auto moved = *s->remap({.address = base + 5 * page,
                                      .old_length = page,
                                      .length = page,
                                      .may_move = true,
                                      .target = base + 30 * page});
        CHECK(refuses(*s, moved, 1));
        CHECK(refuses(**s->fork(), base + 4 * page, 1));

        request = at(base + page, 1, mm::user_read);
        request.kind = kind;
        request.backing = ref<mm::pager>{program};
        CHECK(s->map(request)); // in the place of the other
        CHECK(s->protect(pages(base, 2), mm::user_code));
    }

    auto s = w.make_space();
    CHECK(s->map(at(base, 1)));
    auto request = at(base + page, 1); // alike but for this
    request.may_execute = false;
    CHECK(s->map(request));
    CHECK(refuses(*s, base + page, 1));
    CHECK(s->protect(pages(base, 1), mm::user_code));
}

TEST_CASE("A mapping that is to be populated has its pages when map returns, as far as there are any")
{
    world_type w{64};
    file f{w.pages, 3};
    {
        auto s = w.make_space();
        const auto adds = [&](mm::map_request request) {
            const auto before = s->statistics().resident_pages;
            CHECK(s->map(std::move(request)));
            return s->statistics().resident_pages - before;
        };
        auto request = at(base, 5);
        CHECK(adds(request) == 0);
        request.populate = true;
        CHECK(adds(request) == 5);
        for (std::uint64_t i = 0; i < 5; ++i)
            CHECK(*s->handle_fault(base + i * page, access::write) == mm::fault_kind::spurious);

        request = at(base + 10 * page, 5);
        request.populate = true;
        request.kind = sharing::shared;
        request.backing = ref<mm::pager>{f};
        CHECK(adds(request) == 3);              // where the file ends
        CHECK(f.dirty == std::vector<bool>(3)); // nobody has written yet
        request = at(base + 20 * page, 5, protection::none);
        request.populate = true;
        CHECK(adds(request) == 0);
        request = at(base + 30 * page, 100);
        request.populate = true;
        CHECK(adds(request) > 20);
        CHECK(w.frames_.free_frames() == 0);
    }
    f.contents.clear();
}

TEST_CASE("What of a region is in memory is told by who shares it, who wrote it, and whose it is")
{
    world_type w;
    file f{w.pages, 4};
    auto s = w.make_space();
    CHECK(s->map(at(base, 4)));
    auto private_file = at(base + 4 * page, 4);
    private_file.backing = ref<mm::pager>{f};
    CHECK(s->map(private_file));
    const auto of = [&](space& one, virt_addr a) { return one.usage(*one.region_at(a)); };
    CHECK(of(*s, base).resident == 0);

    w.activate(*s);
    CHECK(w.store(*s, base, 1));
    CHECK(w.store(*s, base + 2 * page, 1));
    CHECK(w.load(*s, base + 3 * page));
    w.deactivate(*s);
    auto u = of(*s, base);
    CHECK(u.resident == 3 * page);
    CHECK(u.proportional == 3 * page);
    CHECK(u.private_dirty == 2 * page);
    CHECK(u.private_clean == page);
    CHECK(u.shared_clean + u.shared_dirty == 0);
    CHECK(u.anonymous == 3 * page);
    CHECK(u.referenced == 3 * page);

    CHECK(s->handle_fault(base + 4 * page, access::read));
    CHECK(s->handle_fault(base + 5 * page, access::write));
    u = of(*s, base + 4 * page);
    CHECK(u.resident == 2 * page);
    CHECK(u.anonymous == page);        // the one that was written
    CHECK(u.proportional == 2 * page); // its cache takes no part of the other
    {
        auto child = *s->fork();
        for (space* one : {s.get(), child.get()}) {
            u = of(*one, base);
            CHECK(u.resident == 3 * page);
            CHECK(u.proportional == 3 * page / 2);
            CHECK(u.shared_dirty == 2 * page);
            CHECK(u.private_dirty == 0);
        }
        CHECK(child->handle_fault(base, access::write)); // un-shares the tables; two pages stay shared
        u = of(*child, base);
        CHECK(u.proportional == page + 2 * page / 2);
        CHECK(of(*s, base).proportional <= page + 2 * page / 2);
    }
    CHECK(of(*s, base).proportional == 3 * page);
    CHECK(s->unmap(pages(base, 8)));
}

TEST_CASE("To tell what of a huge mapping is in memory takes as long as what is")
{
    world_type w;
    file f{w.pages, 1};
    auto s = w.make_space();
    auto huge = at(base, std::uint64_t{1} << 26); // 256 GiB
    huge.kind = sharing::shared;
    huge.backing = ref<mm::pager>{f};
    CHECK(s->map(huge));
    CHECK(s->usage(*s->region_at(base)).resident == 0);
    CHECK(s->handle_fault(base, access::read));
    const auto asked = f.asked_what_is_present;
    CHECK(s->usage(*s->region_at(base)).resident == page);
    CHECK(f.asked_what_is_present - asked <= 2);
}

TEST_CASE("What can be had without I/O is what is in the tables, and what pagers hold")
{
    world_type w;
    file f{w.pages, 4};
    auto s = w.make_space();
    CHECK(s->map(at(base, 2)));
    auto shared = *mm::shared_memory::create(w.heap_, w.pages, w.parker, 2 * page);
    auto request = at(base + 2 * page, 2);
    request.kind = sharing::shared;
    request.backing = shared;
    CHECK(s->map(request));
    put_at(*s, base + page, 1);
    {
        auto other = w.make_space(); // another mapping of the same
        CHECK(other->map(request));
        put_at(*other, base + 3 * page, 1);
    }
    request.backing = {};
    shared.reset();
    bool present[5]{};
    CHECK(s->residency(pages(base, 4), std::span{present}.first(4)));
    CHECK(!present[0]);
    CHECK(present[1]);
    CHECK(!present[2]);
    CHECK(present[3]);
    CHECK(s->residency(pages(base, 5), present).error() == mm::not_mapped);
}
