// The mapper against a plain model, a map of pages of all sizes, with every change seen through the MMU of several
// CPUs.

#include "mapper_world.hpp"

#include <random_runs.hpp>
#include <shrink.hpp>

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <map>
#include <numeric>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace mapper_test;

// What is mapped, page by page of whatever size, each by where it begins.
template <class Format>
class model {
public:
    struct page {
        phys_addr address;
        mm::page_attributes attributes;
        unsigned level;
        bool dirty;

        [[nodiscard]] std::uint64_t size() const { return hal::bytes_at<Format>(level); }
    };
    using position = typename std::map<virt_addr, page>::iterator;

    // The page that `v` lies in; end() if none.
    [[nodiscard]] position find(virt_addr v)
    {
        const auto after = pages_.upper_bound(v);
        if (after == pages_.begin())
            return end();
        const auto at = std::prev(after);
        return v - at->first < at->second.size() ? at : end();
    }
    [[nodiscard]] position begin() { return pages_.begin(); }
    [[nodiscard]] position end() { return pages_.end(); }
    [[nodiscard]] bool contains(virt_addr v) { return find(v) != end(); }

    [[nodiscard]] bool grants(virt_addr v, mm::access tried, sim::privilege by)
    {
        const auto p = find(v);
        if (p == end())
            return false;
        const auto access = p->second.attributes.access;
        const bool user = includes(access, mm::protection::user);
        if (by == sim::privilege::user ? !user : user && !(by == sim::privilege::kernel_user_copy &&
                                                           tried != mm::access::execute))
            return false;
        return includes(access, tried == mm::access::read    ? mm::protection::read
                                : tried == mm::access::write ? mm::protection::write
                                                             : mm::protection::execute);
    }

    [[nodiscard]] std::optional<virt_addr> first_mapped(virt_range range)
    {
        if (contains(range.begin))
            return range.begin;
        const auto next = pages_.lower_bound(range.begin);
        return next != end() && next->first < range.end ? std::optional{next->first} : std::nullopt;
    }
    [[nodiscard]] std::optional<virt_addr> first_hole(virt_range range)
    {
        for (virt_addr v = range.begin; v < range.end;) {
            const auto p = find(v);
            if (p == end())
                return v;
            v = p->first + p->second.size();
        }
        return std::nullopt;
    }
    void map(virt_range range, phys_addr a, const mm::page_attributes& x, unsigned largest)
    {
        const auto stored = Format::attributes(Format::leaf(phys_addr{}, 0, x), 0);
        for (virt_addr v = range.begin; v < range.end;) {
            page made{a + (v - range.begin), stored, largest, false};
            while (!v.is_aligned(made.size()) || !made.address.is_aligned(made.size()) || range.end - v < made.size())
                --made.level;
            pages_[v] = made;
            v += made.size();
        }
    }
    // Larger pages that stick out of the range become smaller ones.
    void cut(virt_range range)
    {
        for (const virt_addr edge : {range.begin, range.end})
            for (auto p = find(edge); p != end() && p->first != edge; p = find(edge)) {
                const auto [begin, whole] = *p;
                split_at_2_ += whole.level == 2;
                for (page part = {whole.address, whole.attributes, whole.level - 1, whole.dirty};
                     part.address < whole.address + whole.size(); part.address += part.size())
                    pages_[begin + (part.address - whole.address)] = part;
            }
    }
    void unmap(virt_range range)
    {
        cut(range);
        pages_.erase(pages_.lower_bound(range.begin), pages_.lower_bound(range.end));
    }
    void protect(virt_range range, mm::protection access)
    {
        cut(range);
        for (auto p = pages_.lower_bound(range.begin); p != end() && p->first < range.end; ++p) {
            auto x = p->second.attributes;
            x.access = access;
            p->second.attributes = Format::attributes(Format::leaf(phys_addr{}, 0, x), 0);
        }
    }
    // How many larger pages it made.
    std::size_t merge(virt_range range, unsigned largest)
    {
        std::size_t made = 0;
        for (unsigned level = 1; level <= largest; ++level) {
            const auto bytes = hal::bytes_at<Format>(level);
            for (virt_addr v = range.begin.align_up(bytes); v + bytes <= range.end; v += bytes)
                made += become_one(v, level);
        }
        return made;
    }
    // The mark is the leaf's, whichever byte of it was written.
    void write(virt_addr v) { find(v)->second.dirty = true; }

    // How many pages of level 2 came apart, and came together.
    [[nodiscard]] unsigned split_at_2() const { return split_at_2_; }
    [[nodiscard]] unsigned merged_to_2() const { return merged_to_2_; }

private:
    // Whether what begins at `begin` are the parts of one page of `level`, in a row and alike, which they are then.
    bool become_one(virt_addr begin, unsigned level)
    {
        const auto first = find(begin);
        if (first == end() || first->first != begin || first->second.level != level - 1 ||
            !first->second.address.is_aligned(hal::bytes_at<Format>(level)))
            return false;
        page whole = first->second;
        whole.level = level;
        auto p = first;
        for (std::uint64_t done = 0; done < whole.size(); done += first->second.size(), ++p) {
            if (p == end() || p->first != begin + done || p->second.level != level - 1 ||
                p->second.address != whole.address + done || p->second.attributes != whole.attributes)
                return false;
            whole.dirty = whole.dirty || p->second.dirty;
        }
        pages_.erase(first, p);
        pages_[begin] = whole;
        merged_to_2_ += level == 2;
        return true;
    }

    std::map<virt_addr, page> pages_;
    unsigned split_at_2_{};
    unsigned merged_to_2_{};
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
    random_run(unsigned cpus, std::string& log) : cpu_count_{cpus}, log_{log}
    {
        const auto half = std::uint64_t{1} << (page_shift + Format::levels * Format::index_bits - 1);
        for (const std::uint64_t begin : {std::uint64_t{0x3e'0000}, half - window, 0 - half, 0 - 2 * window})
            windows_.push_back(virt_range::of_size(virt_addr{begin}, window));
        // For pages of 1 GiB, across the border of two of the tables that hold them.
        windows_.push_back(virt_range::of_size(virt_addr{hal::bytes_at<Format>(3) - hal::bytes_at<Format>(2)},
                                               2 * hal::bytes_at<Format>(2)));
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
        w_.m.cpus.on(some(cpu_count_), [&] { change(range); });
        changing_ = {};
        w_.m.frames.fail_nth(0);
        for (const virt_addr v : std::exchange(written_in_between_, {}))
            if (expected_.contains(v))
                expected_.write(v);
        touch(range);
        compare(some_range().begin);
        for (const auto& violation : w_.m.unit.violations())
            throw mismatch{violation};
    }
    // Returns how many of the largest pages came apart, and came together.
    std::pair<unsigned, unsigned> finish()
    {
        for (const auto& [v, page] : expected_)
            compare(v + (page.size() - 1));
        w_.change([&](batch& b) { w_.map.clear(b); });
        expect(w_.m.frames.in_use() == 1, "tables are left");
        return {expected_.split_at_2(), expected_.merged_to_2()};
    }

private:
    using world_type = world<Format>;
    using batch = typename world_type::batch;
    static constexpr std::uint64_t window = 8 * hal::bytes_at<Format>(1);

    template <class T>
    T some(T below)
    {
        return static_cast<T>(random_() % below);
    }
    virt_range some_range()
    {
        const bool largest = random_() % 3 == 0;
        const virt_range w = largest ? windows_.back() : windows_[some(windows_.size() - 1)];
        const std::uint64_t pages = w.size() >> page_shift;
        std::uint64_t first = some(pages);
        std::uint64_t count = random_() % 4 == 0 ? 1 + some(1200u) : 1 + some(6u);
        if (random_() % 3 == 0) { // larger pages
            first -= first % pages_at(1);
            count = pages_at(1) * (1 + some(3u));
        }
        if (largest && random_() % 2 == 0) {
            first -= first % pages_at(2);
            count = pages_at(2) * (1 + some(2u));
        } else if (largest && random_() % 8 == 0) { // with smaller ones at the ends
            count = 1 + some(pages);
        }
        count = std::min(count, pages - first);
        return virt_range::of_size(w.begin + first * page_size, count * page_size);
    }
    static constexpr std::uint64_t pages_at(unsigned level) { return hal::bytes_at<Format>(level) >> page_shift; }
    [[nodiscard]] static bool has_largest(virt_range r) { return r.size() > window; }
    // Where a range may be mapped to. A long one so that few tables will do.
    phys_addr some_target(virt_range range)
    {
        const auto block = [&](unsigned level) { return some(64u) * hal::bytes_at<Format>(level); };
        const auto offset = [&](unsigned level) { return range.begin.value() % hal::bytes_at<Format>(level); };
        if (has_largest(range))
            return random_() % 4 == 0 ? phys_addr{block(1) + offset(1)} : phys_addr{block(2) + offset(2)};
        return phys_addr{block(1) + (random_() % 2 ? 0 : some(512u) * page_size)};
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
        const phys_addr a = some_target(range);
        const auto x = some_attributes();
        const auto about = random_() % (has_largest(range) ? 8 : 2) == 0 ? mm::holes::refuse : mm::holes::skip;
        const unsigned level = has_largest(range) && random_() % 2 ? 2 : random_() % 4 == 0;
        // Most of what is small only changes rights where pages are largest: they come apart, and may come together
        // again.
        const bool keeps = !has_largest(range) && windows_.back().contains(range.begin) && random_() % 8 != 0;
        const unsigned kind = keeps ? 5 : some(7u);
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
            if (!starts_page(range.begin, outcome))
                break;
            const auto page = expected_.find(range.begin)->second;
            expect(outcome->address == page.address, "another address was unmapped", range.begin);
            expect(outcome->attributes == page.attributes, "other attributes were unmapped", range.begin);
            expect(outcome->dirty || !page.dirty, "a dirty mark was lost", range.begin);
            expected_.unmap(virt_range::of_size(range.begin, page.size()));
            break;
        }
        case 3: {
            const auto outcome = w_.change([&](batch& b) { return w_.map.protect_page(range.begin, x.access, b); });
            if (starts_page(range.begin, outcome))
                expected_.protect(virt_range::of_size(range.begin, expected_.find(range.begin)->second.size()),
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
        case 6: {
            const auto made = w_.change([&](batch& b) { return w_.map.merge_range(range, b, level); });
            expect(made.has_value() && *made == expected_.merge(range, level), "merging went wrong", range.begin);
            break;
        }
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
        if (const auto mapped = expected_.first_mapped(range))
            expect_error(outcome, mm::already_mapped, *mapped);
        else if (!out_of_memory(outcome)) {
            expect(outcome.has_value(), "mapping failed", range.begin);
            expected_.map(range, a, x, level);
        }
    }
    bool succeeds(virt_range range, mm::holes about, result<> outcome)
    {
        const auto hole = expected_.first_hole(range);
        if (about == mm::holes::refuse && hole) {
            expect_error(outcome, mm::not_mapped, *hole);
            return false;
        }
        expect(outcome || out_of_memory(outcome), "a range call failed", range.begin);
        return outcome.has_value();
    }
    // Whether a page starts at `v`, so that a call about it succeeds.
    template <class T>
    bool starts_page(virt_addr v, const result<T>& outcome)
    {
        const auto p = expected_.find(v);
        const bool is_mapped = p != expected_.end();
        if (is_mapped && p->first == v) {
            expect(outcome.has_value(), "a page call failed", v);
            return true;
        }
        expect(!outcome && outcome.error() == error{is_mapped ? mm::misaligned : mm::not_mapped, v.value()},
               "another error", v);
        return false;
    }

    // Each CPU uses, guesses at, and forgets some of the pages in and around the range.
    void touch(virt_range range)
    {
        for (unsigned cpu = 0; cpu < cpu_count_; ++cpu)
            for (unsigned i = 0; i < 2 + 6 / cpu_count_; ++i) {
                const std::uint64_t pages = range.size() >> page_shift;
                const std::uint64_t near = random_() % 4 == 0 ? pages + 1 : std::min<std::uint64_t>(pages + 1, 8);
                const virt_addr v = range.begin + some(near) * page_size + 8;
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
        if (changing_.empty() || in_between_() % 8 != 0)
            return;
        const auto cpu = static_cast<unsigned>(in_between_() % cpu_count_);
        const auto around = static_cast<unsigned>(in_between_() % 8); // a larger page, or the range
        const bool in_page = around == 1 || around == 2;
        const std::uint64_t pages = in_page ? pages_at(around) : (changing_.size() >> page_shift) + 1;
        const virt_addr begin = in_page ? changing_.begin.align_down(pages * page_size) : changing_.begin;
        const virt_addr v = begin + in_between_() % pages * page_size;
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
        const auto& [begin, page] = *expected_.find(v);
        expect(*went == page.address + (v - begin), "a CPU went elsewhere", v);
        if (tried == mm::access::write)
            expected_.write(v);
        compare(v);
    }
    void compare(virt_addr v)
    {
        const auto is = w_.map.translate(v);
        expect(is.has_value() == expected_.contains(v), "mapped or not", v);
        if (!is)
            return expect(is.error() == mm::not_mapped || !Format::is_canonical(v), "another error", v);
        const auto& [begin, page] = *expected_.find(v);
        expect(is->address == page.address + (v - begin), "another address", v);
        expect(is->attributes == page.attributes, "other attributes", v);
        expect(is->level == page.level, "another size", v);
        expect(is->dirty || !page.dirty, "a dirty mark was lost", v);
    }

    const unsigned cpu_count_;
    std::minstd_rand random_;
    std::minstd_rand in_between_;
    virt_range changing_;
    std::vector<virt_addr> written_in_between_;
    world_type w_{cpu_count_};
    model<Format> expected_;
    std::vector<virt_range> windows_;
    std::string& log_;
};

// What the mapper and the model differ in after these steps, if they do, and what the steps were.
template <class Format>
std::optional<std::string> failure_of(unsigned cpus, const std::vector<unsigned>& steps, unsigned& split,
                                      unsigned& merged)
{
    std::string log;
    try {
        random_run<Format> run{cpus, log};
        for (const unsigned step : steps)
            run.step(step);
        const auto [came_apart, came_together] = run.finish();
        split += came_apart;
        merged += came_together;
    } catch (const mismatch& m) {
        return m.what + log;
    }
    return std::nullopt;
}

} // namespace

TEST_CASE_TEMPLATE("any sequence of changes does what a map of pages does, as seen by every CPU", Format,
                   EXO_EVERY_FORMAT)
{
    constexpr std::size_t length = 1000;
    unsigned split = 0;
    unsigned merged = 0;
    exo_test::random_runs(8, length, [&](unsigned seed) {
        std::minstd_rand random{seed};
        std::vector<unsigned> steps;
        while (steps.size() < length)
            steps.push_back(static_cast<unsigned>(random()));
        static constexpr unsigned cpu_counts[] = {1, 3, 5, 8};
        const unsigned cpus = cpu_counts[seed % std::size(cpu_counts)];
        const auto fails = [&](const auto& some) { return failure_of<Format>(cpus, some, split, merged); };
        if (fails(steps)) {
            const auto few = shrink(steps, [&](const auto& some) { return fails(some).has_value(); });
            FAIL(few.size() << " steps on " << cpus << " CPUs: " << *fails(few));
        }
    });
    CHECK(split > 10);
    CHECK(merged > 0);
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
