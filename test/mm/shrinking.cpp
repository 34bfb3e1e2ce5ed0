// A mapped object that becomes smaller: nobody reaches what is behind its end, wherever and however it was mapped.

#include <mm/space_calls.hpp>

using namespace exo;
using namespace space_test;

namespace {

using mm::access;
using mm::sharing;
using format = x86_64::paging_4_level;

constexpr virt_addr elsewhere{0x5000'0000};
constexpr std::uint64_t file_pages = 8;

mm::map_request mapping(file& of, virt_addr where, sharing kind, std::uint64_t first = 0)
{
    return {.address = where,
            .length = (file_pages - first) * page,
            .where = mm::placement::fixed,
            .kind = kind,
            .backing = ref<mm::pager>{of},
            .offset = first * page};
}

// Each page of the file at `at` answers as it should, where pages from `end` on are gone; what was written there is
// `written` more than what the file began with.
template <class World>
void check_reach(World& w, typename World::space& s, virt_addr at, std::uint64_t first, std::uint64_t end,
                 std::uint64_t written = 0)
{
    for (auto i = first; i < file_pages; ++i) {
        CAPTURE(i);
        const auto got = w.load(s, at + (i - first) * page);
        if (i < end)
            CHECK(*got == file::initial(i) + written);
        else
            CHECK((!got && got.error() == mm::beyond_end));
    }
}

// A whole file in a space, at `base`, and all of it touched.
struct shared_mapping {
    world<format> w;
    file of{w.pages, file_pages};
    ref<world<format>::space> s = w.make_space();

    shared_mapping()
    {
        REQUIRE(s->map(mapping(of, base, sharing::shared)));
        w.activate(*s);
        check_reach(w, *s, base, 0, file_pages);
    }
    ~shared_mapping()
    {
        w.deactivate(*s);
        s.reset();
        CHECK(of.reference_count() == 1);
        of.contents.clear();
    }
};

} // namespace

TEST_CASE_TEMPLATE("What is behind the new end is gone from all spaces, CPUs and tables, private copies too", Format,
                   EXO_EVERY_FORMAT)
{
    world<Format> w{4096, 2};
    file of{w.pages, file_pages};
    {
        auto s = w.make_space();
        REQUIRE(s->map(mapping(of, base, sharing::shared)));
        REQUIRE(s->map(mapping(of, elsewhere, sharing::private_copy, 2)));
        w.activate(*s);
        check_reach(w, *s, base, 0, file_pages);
        for (std::uint64_t i = 2; i < file_pages; ++i)
            CHECK(w.store(*s, elsewhere + (i - 2) * page, file::initial(i) + 50));
        auto child = *s->fork(); // shares the tables
        w.machine.cpus.on(1, [&] {
            w.activate(*child);
            check_reach(w, *child, base, 0, file_pages);
            check_reach(w, *child, elsewhere, 2, file_pages, 50);
        });

        REQUIRE(of.shrink(w.parker, 5));
        check_reach(w, *s, base, 0, 5);
        check_reach(w, *s, elsewhere, 2, 5, 50);
        w.machine.cpus.on(1, [&] {
            check_reach(w, *child, base, 0, 5);
            check_reach(w, *child, elsewhere, 2, 5, 50);
        });
        w.check_counts({s.get(), child.get()}, [&] {
            std::map<frame_number, std::uint32_t> held;
            for (std::uint64_t i = 0; i < 5; ++i)
                ++held[w.pages.frame_of(of.contents[i].data())];
            return held;
        }());
        REQUIRE(of.shrink(w.parker, 0));
        check_reach(w, *s, base, 0, 0);
        w.machine.cpus.on(1, [&] {
            check_reach(w, *child, elsewhere, 2, 0);
            w.deactivate(*child);
        });
        w.deactivate(*s);
    }
    CHECK(of.reference_count() == 1);
    REQUIRE(of.shrink(w.parker, 0)); // nobody is left to be asked
}

TEST_CASE("Mappings that were split, merged, moved and taken in part are found all the same")
{
    shared_mapping m;
    auto& [w, of, s] = m;
    REQUIRE(s->protect(pages(base + 2 * page, 2), mm::protection::read)); // three regions
    REQUIRE(s->remap({.address = base + 6 * page,
                      .old_length = 2 * page,
                      .length = 2 * page,
                      .may_move = true,
                      .target = elsewhere + 6 * page}));
    REQUIRE(of.shrink(w.parker, 7));
    for (std::uint64_t i = 0; i < 6; ++i)
        CHECK(*w.load(*s, base + i * page) == file::initial(i));
    CHECK(*w.load(*s, elsewhere + 6 * page) == file::initial(6));
    CHECK(w.load(*s, elsewhere + 7 * page).error() == mm::beyond_end);

    for (const auto rights : {mm::user_data, mm::user_read, mm::user_data})
        REQUIRE(s->protect(pages(base + 2 * page, 2), rights));
    CHECK(s->region_at(base)->range == pages(base, 6)); // one again
    REQUIRE(s->unmap(pages(base + page, 1)));
    REQUIRE(of.shrink(w.parker, 2));
    CHECK(*w.load(*s, base) == file::initial(0));
    CHECK(w.load(*s, base + page).error() == mm::no_region);
    for (std::uint64_t i = 2; i < 6; ++i)
        CHECK(w.load(*s, base + i * page).error() == mm::beyond_end);
    CHECK(w.load(*s, elsewhere + 6 * page).error() == mm::beyond_end);

    of.size = file_pages; // and grows again
    CHECK(*w.load(*s, base + 5 * page) == file::initial(5));
    s->clear();
    REQUIRE(of.shrink(w.parker, 1));
}

TEST_CASE("Mappings that come while pages are forgotten are asked if they took over pages, and not otherwise")
{
    struct user final : mm::object_user {
        bool try_pin() noexcept override
        {
            pins += !ending;
            return !ending;
        }
        void unpin() noexcept override { --pins; }
        result<> forget_pages(mm::object_mappings& object, std::uint64_t first) noexcept override
        {
            CHECK(pins == 1);
            ++asked;
            if (meanwhile)
                std::exchange(meanwhile, {})();
            if (fails)
                return fail(errors::out_of_memory);
            CHECK(first == 3);
            object.seen(*parker, mapping);
            return {};
        }
        sync::any_parker* parker{};
        mm::object_mapping mapping;
        std::function<void()> meanwhile;
        bool ending{}, fails{};
        int pins{}, asked{};
    };
    no_waiting parker;
    mm::object_mappings object;
    user old, fresh, heir, dying;
    for (auto* u : {&old, &fresh, &heir, &dying})
        u->parker = &parker;
    dying.ending = true;
    object.enter(parker, dying.mapping, dying);
    object.enter(parker, old.mapping, old);
    old.meanwhile = [&] {
        fresh.mapping.generation = object.generation();
        object.enter(parker, fresh.mapping, fresh);
        heir.mapping.generation = old.mapping.generation;
        object.enter(parker, heir.mapping, heir);
    };
    CHECK(object.forget_from(parker, 3));
    CHECK((old.asked == 1 && fresh.asked == 0 && heir.asked == 1 && dying.asked == 0));

    fresh.fails = true;
    CHECK(object.forget_from(parker, 3).error() == errors::out_of_memory);
    fresh.fails = false;
    CHECK(object.forget_from(parker, 3));
    for (auto* u : {&old, &fresh, &heir}) {
        CHECK((u->asked >= 1 && u->pins == 0 && u->mapping.generation == object.generation()));
        object.leave(parker, u->mapping);
    }
    object.leave(parker, dying.mapping);
}

TEST_CASE("A fault that has got its page, when the end moves before that, does not map it")
{
    world<format> w;
    file of{w.pages, file_pages};
    {
        auto s = w.make_space();
        REQUIRE(s->map(mapping(of, base, sharing::shared)));
        REQUIRE(s->map(mapping(of, elsewhere, sharing::private_copy)));
        for (const auto how : {access::read, access::write})
            for (const auto at : {base, elsewhere}) {
                of.size = file_pages;
                of.meanwhile = [&] { REQUIRE(of.shrink(w.parker, 3)); };
                const auto outcome = s->handle_fault(at + 3 * page, how);
                CHECK((!outcome && outcome.error() == mm::beyond_end));
                of.meanwhile = [&] { REQUIRE(of.shrink(w.parker, 3)); };
                CHECK(s->handle_fault(at + 2 * page, how)); // it asks again, and gets it
                CHECK(s->discard(pages(at, file_pages)));
            }
        CHECK(s->memory_footprint().pages == 0);
    }
    of.contents.clear();
}

TEST_CASE("Without memory to part from shared tables the object stays as it was")
{
    shared_mapping m;
    auto& [w, of, s] = m;
    std::size_t failed = 0;
    for (;; ++failed) {
        auto child = *s->fork();
        w.failing.fail_nth(failed + 1);
        const auto outcome = of.shrink(w.parker, 5);
        w.failing.stop();
        if (outcome)
            break;
        CHECK(outcome.error() == errors::out_of_memory);
        check_reach(w, *s, base, 0, file_pages);
    }
    CHECK(failed > 2);
    check_reach(w, *s, base, 0, 5);
}
