// What the calls beyond map, unmap and protect come to: advice, and what it changes.

#include <mm/space_world.hpp>

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

constexpr std::uint64_t page = page_size;
constexpr virt_addr base{0x4000'0000};

virt_range pages(virt_addr begin, std::uint64_t count) { return virt_range::of_size(begin, count * page); }

mm::map_request at(virt_addr where, std::uint64_t count, protection rights = mm::user_data)
{
    return {.address = where, .length = count * page, .access = rights, .where = placement::fixed};
}

std::vector<mm::region_info> regions_of(space& s)
{
    std::vector<mm::region_info> all;
    s.for_each_region([&](const mm::region_info& r) {
        all.push_back(r);
        return true;
    });
    return all;
}

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
