// The mapper against a plain model, a map of pages, with every change seen through the MMU of several CPUs.

#include "mapper_world.hpp"

#include <random_runs.hpp>
#include <shrink.hpp>

#include <algorithm>
#include <cstdio>
#include <map>
#include <numeric>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace mapper_test;

template <class Format>
class model {
public:
    struct page {
        phys_addr address;
        mm::page_attributes attributes;
        unsigned level;
        bool dirty;
    };

    [[nodiscard]] const page* find(virt_addr v) const
    {
        const auto found = pages_.find(v.align_down(page_size));
        return found == pages_.end() ? nullptr : &found->second;
    }
    [[nodiscard]] page* find(virt_addr v)
    {
        return const_cast<page*>(static_cast<const model*>(this)->find(v));
    }
    [[nodiscard]] bool grants(virt_addr v, mm::access tried, sim::privilege by) const
    {
        const page* p = find(v);
        if (!p)
            return false;
        const auto access = p->attributes.access;
        const bool user = includes(access, mm::protection::user);
        if (by == sim::privilege::user ? !user : user && !(by == sim::privilege::kernel_user_copy &&
                                                           tried != mm::access::execute))
            return false;
        return includes(access, tried == mm::access::read    ? mm::protection::read
                                : tried == mm::access::write ? mm::protection::write
                                                             : mm::protection::execute);
    }

    // The first page of the range that is mapped, or is not.
    [[nodiscard]] std::optional<virt_addr> first(virt_range range, bool mapped) const
    {
        for (virt_addr v = range.begin; v != range.end; v += page_size)
            if ((find(v) != nullptr) == mapped)
                return v;
        return std::nullopt;
    }
    void map(virt_range range, phys_addr a, const mm::page_attributes& x, unsigned largest)
    {
        const auto stored = Format::attributes(Format::leaf(phys_addr{}, 0, x), 0);
        for (virt_addr v = range.begin; v != range.end; v += page_size) {
            unsigned level = largest;
            for (; level > 0; --level) {
                const auto bytes = hal::bytes_at<Format>(level);
                if (range.contains(virt_range::of_size(v.align_down(bytes), bytes)) &&
                    (a + (v.align_down(bytes) - range.begin)).is_aligned(bytes))
                    break;
            }
            pages_[v] = {a + (v - range.begin), stored, level, false};
        }
    }
    // Larger pages that stick out of the range become smaller ones.
    void cut(virt_range range)
    {
        for (const virt_addr edge : {range.begin, range.end})
            for (page* p = find(edge); p && p->level > 0 && !edge.is_aligned(hal::bytes_at<Format>(p->level));
                 p = find(edge)) {
                const unsigned level = p->level;
                const auto bytes = hal::bytes_at<Format>(level);
                for (virt_addr v = edge.align_down(bytes); v != edge.align_down(bytes) + bytes; v += page_size)
                    pages_[v].level = level - 1;
            }
    }
    void unmap(virt_range range)
    {
        cut(range);
        for (virt_addr v = range.begin; v != range.end; v += page_size)
            pages_.erase(v);
    }
    void protect(virt_range range, mm::protection access)
    {
        cut(range);
        for (virt_addr v = range.begin; v != range.end; v += page_size)
            if (page* p = find(v)) {
                auto x = p->attributes;
                x.access = access;
                p->attributes = Format::attributes(Format::leaf(phys_addr{}, 0, x), 0);
            }
    }
    void merge(virt_range range)
    {
        const auto bytes = hal::bytes_at<Format>(1);
        for (virt_addr v = range.begin.align_up(bytes); range.contains(virt_range::of_size(v, bytes)); v += bytes)
            if (is_one_page(v)) {
                bool dirty = false;
                for (std::uint64_t i = 0; i < bytes; i += page_size) {
                    find(v + i)->level = 1;
                    dirty |= find(v + i)->dirty;
                }
                if (dirty)
                    write(v);
            }
    }
    // The mark is the leaf's, whichever of its pages was written.
    void write(virt_addr v)
    {
        const auto bytes = hal::bytes_at<Format>(find(v)->level);
        for (virt_addr w = v.align_down(bytes); w != v.align_down(bytes) + bytes; w += page_size)
            find(w)->dirty = true;
    }
    [[nodiscard]] const std::map<virt_addr, page>& pages() const { return pages_; }

private:
    [[nodiscard]] bool is_one_page(virt_addr begin) const
    {
        const page* first = find(begin);
        if (!first || first->level > 0 || !first->address.is_aligned(hal::bytes_at<Format>(1)))
            return false;
        for (std::uint64_t i = 0; i < hal::bytes_at<Format>(1); i += page_size) {
            const page* p = find(begin + i);
            if (!p || p->address != first->address + i || p->attributes != first->attributes)
                return false;
        }
        return true;
    }

    std::map<virt_addr, page> pages_;
};

struct mismatch {
    std::string what;
};

void expect(bool holds, const char* what, virt_addr v = {})
{
    if (holds)
        return;
    char text[128];
    std::snprintf(text, sizeof text, "%s at %#llx", what, static_cast<unsigned long long>(v.value()));
    throw mismatch{text};
}

template <class Format>
class random_run {
public:
    // Notes in `log` what it does.
    explicit random_run(std::string& log) : log_{log}
    {
        const auto half = std::uint64_t{1} << (page_shift + Format::levels * Format::index_bits - 1);
        for (const std::uint64_t begin : {std::uint64_t{0x3e'0000}, half - window, 0 - half, 0 - 2 * window})
            windows_.push_back(virt_range::of_size(virt_addr{begin}, window));
        w_.m.entries.after_each_change([this] { act_in_between(); });
    }

    // A step is all in its seed: it asks for the same whatever came before.
    void step(unsigned seed)
    {
        random_.seed(seed);
        w_.m.entries.mark_at_awkward_moments(seed);
        const virt_range range = some_range();
        touch(range);
        if (random_() % 8 == 0)
            w_.m.frames.fail_nth(1 + random_() % 3);
        in_between_.seed(seed);
        changing_ = range;
        w_.m.cpus.on(some(cpu_count), [&] { change(range); });
        changing_ = {};
        w_.m.frames.fail_nth(0);
        for (const virt_addr v : std::exchange(written_in_between_, {}))
            if (expected_.find(v))
                expected_.write(v);
        touch(range);
        compare(some_range().begin);
        for (const auto& violation : w_.m.unit.violations())
            throw mismatch{violation};
    }
    void finish()
    {
        for (const auto& [v, page] : expected_.pages())
            compare(v);
        w_.change([&](batch& b) { w_.map.clear(b); });
        expect(w_.m.frames.in_use() == 1, "tables are left");
    }

private:
    using world_type = world<Format>;
    using batch = typename world_type::batch;
    static constexpr unsigned cpu_count = 3;
    static constexpr std::uint64_t window = 8 * hal::bytes_at<Format>(1);

    template <class T>
    T some(T below)
    {
        return static_cast<T>(random_() % below);
    }
    virt_range some_range()
    {
        const virt_range w = windows_[some(windows_.size())];
        const std::uint64_t pages = w.size() >> page_shift;
        std::uint64_t first = some(pages);
        std::uint64_t count = random_() % 4 == 0 ? 1 + some(1200u) : 1 + some(6u);
        if (random_() % 3 == 0) { // larger pages
            first &= ~std::uint64_t{511};
            count = 512 * (1 + some(3u));
        }
        count = std::min(count, pages - first);
        return virt_range::of_size(w.begin + first * page_size, count * page_size);
    }
    mm::page_attributes some_attributes()
    {
        return {.access = static_cast<mm::protection>(random_() % 16),
                .memory = static_cast<mm::memory_type>(random_() % 3),
                .global = random_() % 4 == 0,
                .software = static_cast<std::uint8_t>(random_() % 4)};
    }

    static void expect_error(const result<>& outcome, const error_kind& kind, virt_addr context)
    {
        expect(!outcome, "no error", context);
        if (!out_of_memory(outcome))
            expect(outcome.error() == error{kind, context.value()}, "another error", context);
    }
    static bool out_of_memory(const result<>& outcome) { return !outcome && outcome.error() == errors::out_of_memory; }

    void change(virt_range range)
    {
        const phys_addr a{(std::uint64_t{some(64u)} << 21) + (random_() % 2 ? 0 : some(512u) * page_size)};
        const auto x = some_attributes();
        const auto about = random_() % 2 ? mm::holes::refuse : mm::holes::skip;
        const unsigned level = random_() % 4 == 0 ? 1 : 0;
        const unsigned kind = some(7u);
        note(kind, range, a, x, about, level);
        switch (kind) {
        case 0: {
            const auto bytes = hal::bytes_at<Format>(level);
            const auto page = virt_range::of_size(range.begin.align_down(bytes), bytes);
            const auto target = a.align_down(bytes);
            finish_map(page, target, x, level,
                       w_.change([&](batch& b) { return w_.map.map_page(page.begin, target, x, b, level); }));
            break;
        }
        case 1:
            finish_map(range, a, x, level,
                       w_.change([&](batch& b) { return w_.map.map_range(range, a, x, b, level); }));
            break;
        case 2: {
            const auto outcome = w_.change([&](batch& b) { return w_.map.unmap_page(range.begin, b); });
            const auto* p = expected_.find(range.begin);
            if (!starts_page(range.begin, outcome))
                break;
            expect(outcome->address == p->address, "another address was unmapped", range.begin);
            expect(outcome->attributes == p->attributes, "other attributes were unmapped", range.begin);
            expect(outcome->dirty || !p->dirty, "a dirty mark was lost", range.begin);
            expected_.unmap(virt_range::of_size(range.begin, hal::bytes_at<Format>(p->level)));
            break;
        }
        case 3: {
            const auto outcome = w_.change([&](batch& b) { return w_.map.protect_page(range.begin, x.access, b); });
            if (starts_page(range.begin, outcome))
                expected_.protect(virt_range::of_size(range.begin, hal::bytes_at<Format>(
                                                                       expected_.find(range.begin)->level)),
                                  x.access);
            break;
        }
        case 4:
            if (succeeds(range, about, w_.change([&](batch& b) { return w_.map.unmap_range(range, b, about); })))
                expected_.unmap(range);
            break;
        case 5:
            if (succeeds(range, about, w_.change([&](batch& b) {
                    return w_.map.protect_range(range, x.access, b, about);
                })))
                expected_.protect(range, x.access);
            break;
        case 6:
            expect(w_.change([&](batch& b) { return w_.map.merge_range(range, b, 1); }).has_value(),
                   "merging failed", range.begin);
            expected_.merge(range);
            break;
        }
    }
    void note(unsigned kind, virt_range range, phys_addr a, const mm::page_attributes& x, mm::holes about,
              unsigned level)
    {
        static constexpr const char* names[] = {"map_page",    "map_range",     "unmap_page", "protect_page",
                                                "unmap_range", "protect_range", "merge_range"};
        char text[256];
        std::snprintf(text, sizeof text,
                      "\n%s [%#llx, %#llx) to %#llx, access %u memory %u global %u software %u, %s, level %u", names[kind],
                      static_cast<unsigned long long>(range.begin.value()),
                      static_cast<unsigned long long>(range.end.value()), static_cast<unsigned long long>(a.value()),
                      static_cast<unsigned>(x.access), static_cast<unsigned>(x.memory), unsigned{x.global},
                      unsigned{x.software}, about == mm::holes::skip ? "skip holes" : "refuse holes", level);
        log_ += text;
    }
    void finish_map(virt_range range, phys_addr a, const mm::page_attributes& x, unsigned level, result<> outcome)
    {
        if (const auto mapped = expected_.first(range, true))
            expect_error(outcome, mm::already_mapped, *mapped);
        else if (!out_of_memory(outcome)) {
            expect(outcome.has_value(), "mapping failed", range.begin);
            expected_.map(range, a, x, level);
        }
    }
    bool succeeds(virt_range range, mm::holes about, result<> outcome) const
    {
        const auto hole = expected_.first(range, false);
        if (about == mm::holes::refuse && hole) {
            expect_error(outcome, mm::not_mapped, *hole);
            return false;
        }
        expect(outcome || out_of_memory(outcome), "a range call failed", range.begin);
        return outcome.has_value();
    }
    // Whether a page starts at `v`, so that a call about it succeeds.
    template <class T>
    bool starts_page(virt_addr v, const result<T>& outcome) const
    {
        const auto* p = expected_.find(v);
        if (p && v.is_aligned(hal::bytes_at<Format>(p->level))) {
            expect(outcome.has_value(), "a page call failed", v);
            return true;
        }
        expect(!outcome && outcome.error() == error{p ? mm::misaligned : mm::not_mapped, v.value()}, "another error", v);
        return false;
    }

    // Each CPU uses, guesses at, and forgets some of the pages in and around the range.
    void touch(virt_range range)
    {
        for (unsigned cpu = 0; cpu < cpu_count; ++cpu)
            for (int i = 0; i < 6; ++i) {
                const std::uint64_t pages = range.size() >> page_shift;
                const virt_addr v = range.begin + some(std::min<std::uint64_t>(pages + 1, 8)) * page_size + 8;
                if (random_() % 8 == 0)
                    w_.m.unit.evict_something(cpu, random_);
                else if (random_() % 4 == 0)
                    w_.m.unit.speculate(cpu, v);
                else
                    use(cpu, v);
            }
    }
    // What happens on any CPU between the change of an entry and what is done about it. A write that got through has
    // marked its page, and what is mapped there after the change keeps the mark.
    void act_in_between()
    {
        if (changing_.empty() || in_between_() % 4 != 0)
            return;
        const unsigned cpu = in_between_() % cpu_count;
        const bool in_large_page = in_between_() % 4 == 0;
        const std::uint64_t pages = in_large_page ? 512 : (changing_.size() >> page_shift) + 1;
        const virt_addr v = (in_large_page ? changing_.begin.align_down(pages * page_size) : changing_.begin) +
                            in_between_() % pages * page_size;
        switch (in_between_() % 4) {
        case 0:
            w_.m.unit.evict_something(cpu, in_between_);
            break;
        case 1:
            if (w_.m.unit.access_unjudged(cpu, v, mm::access::write, sim::privilege::user))
                written_in_between_.push_back(v);
            break;
        default:
            w_.m.unit.speculate(cpu, v);
        }
    }
    void use(unsigned cpu, virt_addr v)
    {
        const auto tried = static_cast<mm::access>(random_() % 3);
        const auto by = static_cast<sim::privilege>(random_() % 3);
        const auto went = w_.m.unit.access(cpu, v, tried, by);
        expect(went.has_value() == expected_.grants(v, tried, by), "a CPU may do what it should not, or may not", v);
        if (!went)
            return;
        expect(*went == expected_.find(v)->address + 8, "a CPU went elsewhere", v);
        if (tried == mm::access::write)
            expected_.write(v);
        compare(v);
    }
    void compare(virt_addr v) const
    {
        const auto is = w_.map.translate(v);
        const auto* p = expected_.find(v);
        expect(is.has_value() == (p != nullptr), "mapped or not", v);
        if (!p)
            return expect(is.error() == mm::not_mapped || !Format::is_canonical(v), "another error", v);
        expect(is->address == p->address + v.value() % page_size, "another address", v);
        expect(is->attributes == p->attributes, "other attributes", v);
        expect(is->level == p->level, "another size", v);
        expect(is->dirty || !p->dirty, "a dirty mark was lost", v);
    }

    std::minstd_rand random_;
    std::minstd_rand in_between_;
    virt_range changing_;
    std::vector<virt_addr> written_in_between_;
    world_type w_{cpu_count};
    model<Format> expected_;
    std::vector<virt_range> windows_;
    std::string& log_;
};

// What the mapper and the model differ in after these steps, if they do, and what the steps were.
template <class Format>
std::optional<std::string> failure_of(const std::vector<unsigned>& steps)
{
    std::string log;
    try {
        random_run<Format> run{log};
        for (const unsigned step : steps)
            run.step(step);
        run.finish();
    } catch (const mismatch& m) {
        return m.what + log;
    }
    return std::nullopt;
}

} // namespace

TEST_CASE_TEMPLATE("any sequence of changes does what a map of pages does, as seen by every CPU", Format,
                   EXO_EVERY_FORMAT)
{
    constexpr std::size_t length = 2000;
    exo_test::random_runs(8, length, [](unsigned seed) {
        std::minstd_rand random{seed};
        std::vector<unsigned> steps;
        while (steps.size() < length)
            steps.push_back(static_cast<unsigned>(random()));
        if (failure_of<Format>(steps)) {
            const auto few = shrink(steps, [](const auto& some) { return failure_of<Format>(some).has_value(); });
            FAIL(few.size() << " steps: " << *failure_of<Format>(few));
        }
    });
}

TEST_CASE("a failing sequence shrinks to what it takes to fail")
{
    std::vector<int> all(1000);
    std::iota(all.begin(), all.end(), 0);
    const auto has = [](const std::vector<int>& some, int x) { return std::ranges::find(some, x) != some.end(); };
    CHECK(shrink(all, [&](const auto& some) { return has(some, 3) && (has(some, 500) || has(some, 998)); }) ==
          std::vector{3, 998});
    CHECK(shrink(all, [](const auto& some) { return some.size() >= 7; }).size() == 7);
    CHECK(shrink(all, [](const auto&) { return true; }).empty());
}
