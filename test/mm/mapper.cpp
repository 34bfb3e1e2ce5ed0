// The mapper, case by case: errors, sizes, exhaustion, who is told what to forget and when frames come back.

#include "mapper_world.hpp"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

namespace {

using namespace mapper_test;
using enum sim::privilege;
using mm::access;

constexpr virt_addr base{0x7000'0000'0000};
constexpr phys_addr target{0x40'0000'0000};
constexpr mm::page_attributes user_data{.access = mm::user_data};

template <class Format>
constexpr std::uint64_t size_of(unsigned level)
{
    return hal::bytes_at<Format>(level);
}

template <class T>
void check_error(const result<T>& outcome, const error_kind& kind, std::uint64_t context)
{
    REQUIRE(!outcome);
    CHECK(outcome.error().kind().name == kind.name);
    CHECK(outcome.error().context() == context);
}

// Every CPU uses the page, so that all remember it.
template <class World>
void warm_up(World& w, virt_addr v, access tried = access::read)
{
    for (unsigned cpu = 0; cpu < w.m.cpus.cpu_limit(); ++cpu)
        (void)w.m.unit.access(cpu, v, tried, user);
}
template <class World>
bool all_can(World& w, virt_addr v, access tried)
{
    bool all = true;
    for (unsigned cpu = 0; cpu < w.m.cpus.cpu_limit(); ++cpu)
        all = w.m.unit.access(cpu, v, tried, user).has_value() && all;
    return all;
}
template <class World>
bool none_can(World& w, virt_addr v, access tried)
{
    bool any = false;
    for (unsigned cpu = 0; cpu < w.m.cpus.cpu_limit(); ++cpu)
        any = w.m.unit.access(cpu, v, tried, user).has_value() || any;
    return !any;
}

} // namespace

TEST_CASE_TEMPLATE("a request that cannot be meant is refused by name, and nothing changes", Format, EXO_EVERY_FORMAT)
{
    world<Format> w{1};
    const auto half = std::uint64_t{1} << (page_shift + Format::levels * Format::index_bits - 1);
    const auto large = size_of<Format>(1);
    w.change([&](auto& b) {
        check_error(w.map.map_page(base + 1, target, user_data, b), mm::misaligned, base.value() + 1);
        check_error(w.map.map_page(base, target + 8, user_data, b), mm::misaligned, target.value() + 8);
        check_error(w.map.map_page(base + page_size, target, user_data, b, 1), mm::misaligned,
                    base.value() + page_size);
        check_error(w.map.map_page(base, target + page_size, user_data, b, 1), mm::misaligned,
                    target.value() + page_size);
        check_error(w.map.map_page(virt_addr{half}, target, user_data, b), mm::non_canonical, half);
        check_error(w.map.map_page(base, Format::physical_limit, user_data, b), mm::out_of_range,
                    Format::physical_limit.value());
        check_error(w.map.map_range({base, base + large}, Format::physical_limit - page_size, user_data, b),
                    mm::out_of_range, Format::physical_limit.value() - page_size);
        check_error(w.map.map_range({base, base + 12}, target, user_data, b), mm::misaligned, base.value() + 12);
        check_error(w.map.map_range({virt_addr{half - page_size}, virt_addr{half + page_size}}, target, user_data, b),
                    mm::non_canonical, half + page_size - 1);
        check_error(w.map.unmap_range({virt_addr{half - page_size}, virt_addr{0 - half + page_size}}, b),
                    mm::non_canonical, 0 - half + page_size - 1);
        check_error(w.map.protect_range({base + page_size, base}, mm::user_read, b), mm::non_canonical,
                    base.value() - 1);
        check_error(w.map.unmap_page(base, b), mm::not_mapped, base.value());
        check_error(w.map.protect_page(base + 3, mm::user_read, b), mm::misaligned, base.value() + 3);
        check_error(w.map.merge_range({base, base + 12}, b), mm::misaligned, base.value() + 12);
        check_error(w.map.merge_range({virt_addr{half - page_size}, virt_addr{half + page_size}}, b),
                    mm::non_canonical, half + page_size - 1);
        CHECK(b.empty());
        CHECK(w.map.map_range({base, base}, target, user_data, b));
        CHECK(w.map.merge_range({base, base}, b) == 0u);
        CHECK(w.map.unmap_range({base, base}, b));
        CHECK(w.map.map_range({virt_addr{0 - page_size}, virt_addr{0}}, target, user_data, b)); // the very last page
    });
    check_error(w.map.translate(base), mm::not_mapped, base.value());
    check_error(w.map.translate(virt_addr{half}), mm::non_canonical, half);
    CHECK(w.map.translate(virt_addr{~std::uint64_t{0}})->address == target + (page_size - 1));
}

TEST_CASE_TEMPLATE("a range takes the largest pages that alignment allows", Format, EXO_EVERY_FORMAT)
{
    world<Format> w{1};
    const auto middle = size_of<Format>(1);
    const auto large = size_of<Format>(2);
    const virt_addr begin = base + large - middle - page_size;
    const virt_addr end = base + 2 * large + middle + page_size;
    const auto used = w.m.frames.in_use();

    REQUIRE(w.change([&](auto& b) {
        return w.map.map_range({begin, end}, target + (begin - base), user_data, b, Format::largest_leaf_level);
    }));

    const auto level_at = [&](virt_addr v) { return w.map.translate(v)->level; };
    CHECK(level_at(begin) == 0);
    CHECK(level_at(begin + page_size) == 1);
    CHECK(level_at(base + large) == 2);
    CHECK(level_at(base + 2 * large) == 1);
    CHECK(level_at(end - page_size) == 0);
    for (const virt_addr v : {begin, base + large - 1, base + large + 12'345, end - 1})
        CHECK(w.map.translate(v)->address == target + (v - base));
    // Two paths down to base pages, with what is above them in common.
    CHECK(w.m.frames.in_use() - used == (hal::root_level<Format> - 2) + 2 * 2);
}

TEST_CASE_TEMPLATE("what lies in a row and grants the same is one run, whatever the sizes of its pages", Format,
                   EXO_EVERY_FORMAT)
{
    world<Format> w{1};
    const auto large = size_of<Format>(1);
    const virt_addr begin = base + large - 3 * page_size, end = base + 2 * large + 3 * page_size;
    const auto run = [&](virt_addr from, virt_addr to) {
        const auto found = w.map.translate_run({from, to});
        REQUIRE(found);
        CHECK(found->first.address == w.map.translate(from)->address);
        CHECK(found->first.attributes == w.map.translate(from)->attributes);
        return found->bytes;
    };
    w.change([&](auto& b) { CHECK(w.map.map_range({begin, end}, target + (begin - base), user_data, b)); });
    REQUIRE(w.map.translate(base + large)->level == 1);
    REQUIRE(w.map.translate(end - 1)->level == 0);

    CHECK(run(begin, end) == end - begin);
    CHECK(run(begin, end + large) == end - begin); // nothing is behind it
    CHECK(run(begin + 12, end - 5) == end - begin - 17);
    CHECK(run(begin + 12, end + large) == end - begin - 12);
    CHECK(run(base + large + 12'345, base + large + 12'346) == 1);
    CHECK(run(begin + 12, begin + 12) == 0);
    CHECK(w.map.translate_run({begin, end})->first.level == 0);
    CHECK(w.map.translate_run({base + large + 7, end})->first.level == 1);
    check_error(w.map.translate_run({begin - 1, end}), mm::not_mapped, begin.value() - 1);
    check_error(w.map.translate_run({end, end}), mm::not_mapped, end.value());

    // Other rights, other memory, and none at all.
    w.change([&](auto& b) {
        const auto at = [&](unsigned page) { return begin + page * page_size; };
        CHECK(w.map.protect_page(at(1), mm::user_read, b));
        CHECK(w.map.unmap_page(end - page_size, b));
        CHECK(w.map.unmap_page(end - 2 * page_size, b));
        CHECK(w.map.map_page(end - page_size, target + (end - base) - page_size, user_data, b));
        CHECK(w.map.unmap_page(end - 3 * page_size, b));
        CHECK(w.map.map_page(end - 3 * page_size, target, user_data, b));
    });
    std::vector<std::pair<virt_addr, std::uint64_t>> runs;
    for (virt_addr v = begin; v < end;) {
        const auto found = w.map.translate_run({v, end});
        if (found)
            runs.emplace_back(v, found->bytes);
        v += found ? found->bytes : page_size;
    }
    CHECK(runs == std::vector<std::pair<virt_addr, std::uint64_t>>{{begin, page_size},
                                                                   {begin + page_size, page_size},
                                                                   {begin + 2 * page_size, page_size + large},
                                                                   {base + 2 * large, page_size},
                                                                   {end - page_size, page_size}});

    // Not over the end of a half, nor of everything.
    const auto half = std::uint64_t{1} << (page_shift + Format::levels * Format::index_bits - 1);
    w.change([&](auto& b) {
        CHECK(w.map.map_page(virt_addr{half} - page_size, target, user_data, b));
        CHECK(w.map.map_page(virt_addr{0 - half}, target + page_size, user_data, b));
        CHECK(w.map.map_page(virt_addr{0 - page_size}, target, user_data, b));
    });
    CHECK(run(virt_addr{half - 8}, virt_addr{half}) == 8);
    CHECK(run(virt_addr{0 - page_size}, virt_addr{0}) == page_size);
    check_error(w.map.translate_run({virt_addr{half - 8}, virt_addr{half + 8}}), mm::non_canonical, half + 7);
    check_error(w.map.translate_run({virt_addr{half}, virt_addr{half + 8}}), mm::non_canonical, half);
    check_error(w.map.translate_run({base + 8, base}), mm::non_canonical, base.value() - 1);
}

TEST_CASE_TEMPLATE("unless told otherwise, a range takes the largest pages that every processor has", Format,
                   EXO_EVERY_FORMAT)
{
    world<Format> w{1};
    const auto range = virt_range::of_size(base, 2 * size_of<Format>(Format::largest_leaf_level));
    REQUIRE(w.change([&](auto& b) { return w.map.map_range(range, phys_addr{}, user_data, b); }));
    CHECK(w.map.translate(base)->level == Format::baseline_leaf_level);
    CHECK(w.map.translate(range.end - 1)->level == Format::baseline_leaf_level);
    CHECK(w.map.translate(range.end - 1)->address == phys_addr{range.size() - 1});
}

TEST_CASE_TEMPLATE("cutting one page out of the largest splits it level by level, and leaves the rest", Format,
                   EXO_EVERY_FORMAT)
{
    world<Format> w;
    const unsigned top = Format::largest_leaf_level;
    REQUIRE(w.change([&](auto& b) { return w.map.map_page(base, phys_addr{0}, user_data, b, top); }));
    warm_up(w, base, access::write);
    const virt_addr out = base + size_of<Format>(1) + 3 * page_size;
    const auto used = w.m.frames.in_use();

    REQUIRE(w.change([&](auto& b) { return w.map.unmap_range({out, out + page_size}, b); }));

    CHECK(w.m.frames.in_use() == used + top);
    CHECK(none_can(w, out, access::read));
    CHECK(w.map.translate(out - 1)->level == 0);
    CHECK(w.map.translate(base)->level == 1);
    CHECK(w.map.translate(base + size_of<Format>(top) - 1)->level == top - 1);
    CHECK(w.map.translate(base)->dirty); // as the page that it was part of
    for (const virt_addr v : {base, out - page_size, out + page_size, base + size_of<Format>(top) - page_size})
        CHECK(*w.m.access(v, access::write) == phys_addr{v - base});
}

TEST_CASE_TEMPLATE("a larger page takes the place of empty tables, and tables that a range covers are freed", Format,
                   EXO_EVERY_FORMAT)
{
    world<Format> w{1};
    const auto used = w.m.frames.in_use();
    REQUIRE(w.change([&](auto& b) { return w.map.map_page(base, target, user_data, b); }));
    check_error(w.change([&](auto& b) { return w.map.map_page(base, target, user_data, b, 2); }), mm::already_mapped,
                base.value());
    REQUIRE(w.change([&](auto& b) { return w.map.unmap_page(base, b); }));
    CHECK(w.m.frames.in_use() == used + hal::root_level<Format>); // single pages leave their tables
    REQUIRE(w.change([&](auto& b) { return w.map.map_page(base, target, user_data, b, 2); }));
    CHECK(w.m.frames.in_use() == used + hal::root_level<Format> - 2);
    REQUIRE(w.change([&](auto& b) { return w.map.unmap_range(virt_range::of_size(base, size_of<Format>(2)), b); }));

    const auto range = virt_range::of_size(base, 3 * size_of<Format>(1));
    REQUIRE(w.change([&](auto& b) { return w.map.map_range(range, target, user_data, b, 0); }));
    const auto full = w.m.frames.in_use();
    REQUIRE(w.change([&](auto& b) { return w.map.unmap_range({base + page_size, range.end}, b); }));
    CHECK(w.m.frames.in_use() == full - 2);
}

TEST_CASE_TEMPLATE("every allocation failed in turn: the call fails, nothing is leaked and nothing half done", Format,
                   EXO_EVERY_FORMAT)
{
    const auto all = virt_range::of_size(base, 4 * size_of<Format>(2));
    const virt_range across{base + size_of<Format>(2) - 2 * page_size, base + size_of<Format>(2) + size_of<Format>(1)};
    const auto inside = virt_range::of_size(base + 3 * size_of<Format>(2) + 5 * page_size, 4 * page_size);
    using w_t = world<Format>;
    using call = result<> (*)(w_t&, typename w_t::batch&, const virt_range&, const virt_range&);
    const call calls[] = {
        [](w_t& w, auto& b, auto& r, auto&) { return w.map.map_page(r.begin, target, user_data, b); },
        [](w_t& w, auto& b, auto& r, auto&) { return w.map.map_range(r, target, user_data, b, 1); },
        [](w_t& w, auto& b, auto&, auto& r) { return w.map.unmap_range(r, b); },
        [](w_t& w, auto& b, auto&, auto& r) { return w.map.protect_range(r, mm::user_read, b); },
    };
    for (const call c : calls) {
        w_t w{1};
        REQUIRE(w.change([&](auto& b) {
            return w.map.map_range({inside.begin.align_down(size_of<Format>(2)), all.end}, target, user_data, b, 2);
        }));
        std::size_t failures = 0;
        for (;; ++failures) {
            const auto used = w.m.frames.in_use();
            w.m.frames.fail_nth(failures + 1);
            const auto outcome = w.change([&](auto& b) { return c(w, b, across, inside); });
            if (outcome)
                break;
            REQUIRE(outcome.error() == errors::out_of_memory);
            REQUIRE(failures < 10);
            CHECK(w.m.frames.in_use() == used);
            for (virt_addr v = across.begin; v != across.end; v += page_size)
                REQUIRE(!w.map.translate(v));
            const auto kept = w.map.translate(inside.begin);
            CHECK(kept->level == 2);
            CHECK(kept->attributes.access == mm::user_data);
        }
        CHECK(failures > 0);
    }
}

TEST_CASE_TEMPLATE("frames of tables come back when every CPU has forgotten them, not before", Format, EXO_EVERY_FORMAT)
{
    using world_type = world<Format>;
    world_type w;
    struct counting_flusher {
        world_type& w;
        std::size_t in_use_meanwhile{};
        void flush(const mm::invalidation& what) noexcept
        {
            w.flush.flush(what);
            in_use_meanwhile = w.m.frames.in_use();
        }
    } flusher{w};
    mm::flush_batch<counting_flusher, typename world_type::retired> b{flusher, {w.m.memory, w.m.entries, w.m.frames}};
    const auto range = virt_range::of_size(base, size_of<Format>(1));
    REQUIRE(w.map.map_range(range, target, user_data, b, 0));
    b.flush();
    const auto used = w.m.frames.in_use();

    REQUIRE(w.map.unmap_range(range, b));
    CHECK(!b.empty());
    CHECK(w.m.frames.in_use() == used);
    b.flush();
    CHECK(b.empty());
    CHECK(flusher.in_use_meanwhile == used);
    CHECK(w.m.frames.in_use() == used - 1);
}

TEST_CASE_TEMPLATE("what was split and is alike again is merged, level by level", Format, EXO_EVERY_FORMAT)
{
    world<Format> w;
    const unsigned top = Format::largest_leaf_level;
    const auto page = virt_range::of_size(base, size_of<Format>(top));
    const auto one = virt_range::of_size(base + size_of<Format>(1) + 3 * page_size, page_size);
    for (const auto access : {mm::user_data, mm::protection::none}) {
        const mm::page_attributes x{
            .access = access, .memory = mm::memory_type::write_combining, .global = true, .software = 2};
        REQUIRE(w.change([&](auto& b) { return w.map.map_page(base, phys_addr{0}, x, b, top); }));
        const auto used = w.m.frames.in_use();
        REQUIRE(w.change([&](auto& b) { return w.map.protect_range(one, mm::user_read, b); }));
        CHECK(w.change([&](auto& b) { return w.map.merge_range(page, b, top); }) == 0u);
        REQUIRE(w.change([&](auto& b) { return w.map.protect_range(one, access, b); }));
        warm_up(w, one.begin, access::write);
        warm_up(w, page.end - 1);

        CHECK(w.change([&](auto& b) { return w.map.merge_range(page, b, top); }) == top);

        CHECK(w.m.frames.in_use() == used);
        CHECK(w.map.translate(page.end - 1)->level == top);
        CHECK(w.map.translate(page.end - 1)->address == phys_addr{page.size() - 1});
        CHECK(w.map.translate(base)->attributes == x);
        CHECK(w.map.translate(base)->dirty == accessible(access)); // as one of the pages was
        CHECK(all_can(w, base, access::write) == accessible(access));
        REQUIRE(w.change([&](auto& b) { return w.map.unmap_page(base, b); }));
    }
}

TEST_CASE_TEMPLATE("only what one larger page could map is merged, and only where asked", Format, EXO_EVERY_FORMAT)
{
    world<Format> w{1};
    const auto all = virt_range::of_size(base, size_of<Format>(1));
    const auto merged = [&](virt_range range, unsigned largest_level) {
        return w.change([&](auto& b) {
            const auto made = w.map.merge_range(range, b, largest_level);
            CHECK(b.empty() == (made == 0u));
            return made.value();
        });
    };
    const auto map_all = [&](phys_addr a) {
        REQUIRE(w.change([&](auto& b) { return w.map.map_range(all, a, user_data, b, 0); }));
    };
    const auto unmap_all = [&] {
        REQUIRE(w.change([&](auto& b) { return w.map.unmap_range(all, b, mm::holes::skip); }));
    };
    struct page {
        std::uint64_t distance; // its frame is right if the same
        mm::page_attributes attributes;
    };
    constexpr page odd_pages[] = {
        {2 * page_size, user_data},
        {0, {.access = mm::user_read}},
        {0, {.access = mm::protection::none}},
        {0, {.access = mm::user_data, .memory = mm::memory_type::uncached}},
        {0, {.access = mm::user_data, .global = true}},
        {0, {.access = mm::user_data, .software = 1}},
    };
    for (const virt_addr at : {base, base + 5 * page_size, all.end - page_size}) {
        map_all(target);
        REQUIRE(w.change([&](auto& b) { return w.map.unmap_page(at, b); }));
        CHECK(merged(all, 1) == 0);
        for (const page& p : odd_pages) {
            REQUIRE(w.change([&](auto& b) {
                return w.map.map_page(at, target + (at - base) + p.distance, p.attributes, b);
            }));
            CHECK(merged(all, 1) == 0);
            REQUIRE(w.change([&](auto& b) { return w.map.unmap_page(at, b); }));
        }
        unmap_all();
    }
    map_all(target + page_size);
    CHECK(merged(all, 1) == 0);
    unmap_all();

    map_all(target);
    CHECK(merged({base, all.end - page_size}, 1) == 0);
    CHECK(merged({base + page_size, all.end}, 1) == 0);
    CHECK(merged(all, 0) == 0);
    CHECK(w.map.translate(base)->level == 0);
    CHECK(merged({base - page_size, all.end + page_size}, 2) == 1);
    CHECK(w.map.translate(base)->level == 1);
    CHECK(merged(all, 1) == 0);
}

// Of each place in the mapper that records what to forget: what goes wrong without it.

TEST_CASE_TEMPLATE("a fresh page is seen by CPUs that remember its absence", Format, EXO_EVERY_FORMAT)
{
    world<Format> w;
    const auto large = size_of<Format>(1);
    warm_up(w, base); // remembered as absent where the format allows that
    REQUIRE(w.change([&](auto& b) { return w.map.map_page(base, target, user_data, b); })); // with its tables
    CHECK(all_can(w, base, access::read));
    warm_up(w, base + page_size);
    REQUIRE(w.change([&](auto& b) { return w.map.map_page(base + page_size, target, user_data, b); }));
    CHECK(all_can(w, base + page_size, access::read));
    warm_up(w, base + large + 17 * page_size);
    REQUIRE(w.change([&](auto& b) { return w.map.map_page(base + large, target, user_data, b, 1); }));
    CHECK(all_can(w, base + large + 17 * page_size, access::read));
    for (const std::uint64_t pages : {2, 200}) {
        const auto range = virt_range::of_size(base + pages * page_size, pages * page_size);
        warm_up(w, range.end - 1);
        REQUIRE(w.change([&](auto& b) { return w.map.map_range(range, target, user_data, b); }));
        CHECK(all_can(w, range.end - 1, access::read));
    }
}

TEST_CASE_TEMPLATE("a page that is gone is gone for every CPU", Format, EXO_EVERY_FORMAT)
{
    world<Format> w;
    for (const unsigned level : {0u, 1u, 2u}) {
        for (const bool global : {false, true}) {
            CAPTURE(level);
            REQUIRE(w.change([&](auto& b) {
                return w.map.map_page(base, target, {.access = mm::user_data, .global = global}, b, level);
            }));
            warm_up(w, base + 123);
            REQUIRE(w.change([&](auto& b) { return w.map.unmap_page(base, b); }));
            CHECK(none_can(w, base + 123, access::read));
        }
    }
}

TEST_CASE_TEMPLATE("a range that is gone is gone for every CPU, tables and global pages included", Format,
                   EXO_EVERY_FORMAT)
{
    world<Format> w;
    const auto table = size_of<Format>(1);
    for (const bool global : {false, true})
        for (const std::uint64_t bytes : {3 * page_size, 100 * page_size, table, table + page_size, 3 * table}) {
            CAPTURE(bytes);
            const auto range = virt_range::of_size(base, bytes);
            REQUIRE(w.change([&](auto& b) {
                return w.map.map_range(range, target, {.access = mm::user_data, .global = global}, b, 0);
            }));
            warm_up(w, base);
            warm_up(w, range.end - 1);
            REQUIRE(w.change([&](auto& b) { return w.map.unmap_range(range, b); }));
            CHECK(none_can(w, base, access::read));
            CHECK(none_can(w, range.end - 1, access::read));
            // Nor is anything left of the path: the same place serves again.
            REQUIRE(w.change([&](auto& b) { return w.map.map_range(range, target + page_size, user_data, b, 0); }));
            CHECK(*w.m.access(base, access::read) == target + page_size);
            REQUIRE(w.change([&](auto& b) { return w.map.unmap_range(range, b); }));
        }
}

TEST_CASE_TEMPLATE("a right that is taken away, or given, is so for every CPU", Format, EXO_EVERY_FORMAT)
{
    world<Format> w;
    for (const unsigned level : {0u, 1u}) {
        const auto range = virt_range::of_size(base, 2 * size_of<Format>(level));
        REQUIRE(w.change([&](auto& b) { return w.map.map_range(range, target, user_data, b, level); }));
        warm_up(w, base, access::write);
        warm_up(w, range.end - 1, access::write);
        REQUIRE(w.change([&](auto& b) { return w.map.protect_page(base, mm::user_read, b); }));
        CHECK(none_can(w, base, access::write));
        CHECK(all_can(w, base, access::read));
        REQUIRE(w.change([&](auto& b) { return w.map.protect_page(base, mm::user_data, b); }));
        CHECK(all_can(w, base, access::write));
        REQUIRE(w.change([&](auto& b) { return w.map.protect_range(range, mm::protection::user, b); }));
        CHECK(none_can(w, range.end - 1, access::read));
        REQUIRE(w.change([&](auto& b) { return w.map.protect_range(range, mm::user_code, b); }));
        CHECK(all_can(w, range.end - 1, access::execute));
        CHECK(w.map.translate(base)->dirty); // through all of that
        REQUIRE(w.change([&](auto& b) { return w.map.unmap_range(range, b); }));
    }
}

TEST_CASE_TEMPLATE("no CPU goes through an empty table that a larger page has replaced", Format, EXO_EVERY_FORMAT)
{
    world<Format> w;
    REQUIRE(w.change([&](auto& b) { return w.map.map_page(base, target, user_data, b); }));
    warm_up(w, base); // remembers the path
    REQUIRE(w.change([&](auto& b) { return w.map.unmap_page(base, b); }));
    warm_up(w, base + 5 * page_size);
    REQUIRE(w.change([&](auto& b) { return w.map.map_page(base, target, user_data, b, 1); }));
    CHECK(all_can(w, base + 5 * page_size, access::read));
}

TEST_CASE_TEMPLATE("after clear no CPU reaches anything", Format, EXO_EVERY_FORMAT)
{
    world<Format> w;
    for (const bool global : {false, true}) {
        REQUIRE(w.change([&](auto& b) {
            return w.map.map_page(base, target, {.access = mm::user_data, .global = global}, b);
        }));
        warm_up(w, base);
        w.change([&](auto& b) { w.map.clear(b); });
        CHECK(none_can(w, base, access::read));
        CHECK(w.m.frames.in_use() == 1);
    }
}

TEST_CASE_TEMPLATE("a fresh mapping invalidates nothing, unless absence may be remembered", Format, EXO_EVERY_FORMAT)
{
    world<Format> w;
    const auto large = size_of<Format>(1);
    const auto fresh = [&](auto map) {
        return w.change([&](auto& b) {
            REQUIRE(map(b));
            return b.empty() == !Format::caches_absent;
        });
    };
    CHECK(fresh([&](auto& b) { return w.map.map_page(base, target, user_data, b); })); // with its tables
    CHECK(fresh([&](auto& b) { return w.map.map_page(base + page_size, target, user_data, b); }));
    CHECK(fresh([&](auto& b) { return w.map.map_page(base + large, target, user_data, b, 1); }));
    CHECK(fresh([&](auto& b) {
        return w.map.map_range({base + 2 * page_size, base + large}, target, user_data, b);
    }));
    CHECK(fresh([&](auto& b) {
        return w.map.map_range(virt_range::of_size(base + 2 * large, 3 * large), target, user_data, b);
    }));
}

namespace {

// Flushes as the world does, looks at what is being split or merged when it is asked to, and has every CPU guess at it
// again. Just before, a CPU that still remembers the way to `written` marks it.
template <class World>
struct watching_flusher {
    using format = typename World::mapper::format;

    World& w;
    virt_addr watched;
    typename format::entry* written{};
    int flushes{};
    bool was_absent{};

    void flush(const mm::invalidation& what) noexcept
    {
        if (written)
            *written = format::with_dirty(format::with_accessed(*written));
        w.flush.flush(what);
        ++flushes;
        was_absent = was_absent || !w.map.translate(watched);
        for (unsigned cpu = 0; cpu < w.m.cpus.cpu_limit(); ++cpu)
            w.m.unit.speculate(cpu, watched);
    }
};

} // namespace

TEST_CASE_TEMPLATE("a split page is absent, and forgotten by all, before its parts appear", Format, EXO_EVERY_FORMAT)
{
    using world_type = world<Format>;
    world_type w;
    REQUIRE(w.change([&](auto& b) { return w.map.map_page(base, target, user_data, b, 1); }));
    warm_up(w, base);
    watching_flusher<world_type> watcher{w, base + 7 * page_size};
    mm::flush_batch<watching_flusher<world_type>, typename world_type::retired> b{
        watcher, {w.m.memory, w.m.entries, w.m.frames}};
    REQUIRE(w.map.protect_range(virt_range::of_size(base, page_size), mm::user_read, b));
    CHECK(watcher.flushes == 1);
    CHECK(watcher.was_absent);
    b.flush();
    CHECK(all_can(w, base + 7 * page_size, access::write));
    CHECK(none_can(w, base, access::write));
}

TEST_CASE_TEMPLATE("what is merged is absent, and forgotten by all, before the larger page appears", Format,
                   EXO_EVERY_FORMAT)
{
    using world_type = world<Format>;
    world_type w;
    const auto all = virt_range::of_size(base, size_of<Format>(1));
    for (const bool global : {false, true}) {
        REQUIRE(w.change([&](auto& b) {
            return w.map.map_range(all, target, {.access = mm::user_data, .global = global}, b, 0);
        }));
        warm_up(w, base + 7 * page_size);
        watching_flusher<world_type> watcher{w, base + 7 * page_size,
                                             w.map.walker().find(w.root, base + 7 * page_size).slot};
        mm::flush_batch<watching_flusher<world_type>, typename world_type::retired> b{
            watcher, {w.m.memory, w.m.entries, w.m.frames}};
        const auto used = w.m.frames.in_use();
        REQUIRE(w.map.merge_range(all, b) == 1u);
        CHECK(watcher.flushes == 1);
        CHECK(watcher.was_absent);
        CHECK(w.map.translate(base)->dirty);
        b.flush();
        CHECK(w.m.frames.in_use() == used - 1);
        CHECK(all_can(w, base + 7 * page_size, access::write));
        REQUIRE(w.change([&](auto& c) { return w.map.unmap_page(base, c); }));
        CHECK(none_can(w, base + 7 * page_size, access::read));
    }
}
