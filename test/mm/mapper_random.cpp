// The mapper against a plain model, a map of pages, with every change seen through the MMU of several CPUs.

#include "mapper_world.hpp"

#include <random_runs.hpp>

#include <algorithm>
#include <map>
#include <random>

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
    [[nodiscard]] const std::map<virt_addr, page>& pages() const { return pages_; }

private:
    std::map<virt_addr, page> pages_;
};

template <class Format>
class random_run {
public:
    explicit random_run(unsigned seed) : random_{seed}
    {
        w_.m.entries.mark_at_awkward_moments(seed);
        const auto half = std::uint64_t{1} << (page_shift + Format::levels * Format::index_bits - 1);
        for (const std::uint64_t begin : {std::uint64_t{0x3e'0000}, half - window, 0 - half, 0 - 2 * window})
            windows_.push_back(virt_range::of_size(virt_addr{begin}, window));
    }

    void step()
    {
        const virt_range range = some_range();
        touch(range);
        if (random_() % 8 == 0)
            w_.m.frames.fail_nth(1 + random_() % 3);
        w_.m.cpus.on(some(cpu_count), [&] { change(range); });
        w_.m.frames.fail_nth(0);
        touch(range);
        const virt_addr anywhere = some_range().begin;
        compare(anywhere);
    }
    void compare_all()
    {
        for (const auto& [v, page] : expected_.pages())
            compare(v);
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

    void check_error(const result<>& outcome, const error_kind& kind, virt_addr context)
    {
        REQUIRE(!outcome);
        if (!out_of_memory(outcome)) {
            CHECK(outcome.error() == kind);
            CHECK(outcome.error().context() == context.value());
        }
    }
    static bool out_of_memory(const result<>& outcome) { return !outcome && outcome.error() == errors::out_of_memory; }

    void change(virt_range range)
    {
        const phys_addr a{(std::uint64_t{some(64u)} << 21) + (random_() % 2 ? 0 : some(512u) * page_size)};
        const auto x = some_attributes();
        const auto about = random_() % 2 ? mm::holes::refuse : mm::holes::skip;
        const unsigned level = random_() % 4 == 0 ? 1 : 0;
        switch (random_() % 6) {
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
            if (!check_page(range.begin, outcome))
                break;
            CHECK(outcome->address == p->address);
            CHECK(outcome->attributes == p->attributes);
            CHECK((outcome->dirty || !p->dirty));
            expected_.unmap(virt_range::of_size(range.begin, hal::bytes_at<Format>(p->level)));
            break;
        }
        case 3: {
            const auto outcome = w_.change([&](batch& b) { return w_.map.protect_page(range.begin, x.access, b); });
            if (check_page(range.begin, outcome))
                expected_.protect(virt_range::of_size(range.begin, hal::bytes_at<Format>(
                                                                       expected_.find(range.begin)->level)),
                                  x.access);
            break;
        }
        case 4:
            if (finish_change(range, about,
                              w_.change([&](batch& b) { return w_.map.unmap_range(range, b, about); })))
                expected_.unmap(range);
            break;
        case 5:
            if (finish_change(range, about, w_.change([&](batch& b) {
                    return w_.map.protect_range(range, x.access, b, about);
                })))
                expected_.protect(range, x.access);
            break;
        }
    }
    void finish_map(virt_range range, phys_addr a, const mm::page_attributes& x, unsigned level, result<> outcome)
    {
        if (const auto mapped = expected_.first(range, true))
            check_error(outcome, mm::already_mapped, *mapped);
        else if (!out_of_memory(outcome)) {
            REQUIRE(outcome);
            expected_.map(range, a, x, level);
        }
    }
    bool finish_change(virt_range range, mm::holes about, result<> outcome)
    {
        const auto hole = expected_.first(range, false);
        if (about == mm::holes::refuse && hole) {
            check_error(outcome, mm::not_mapped, *hole);
            return false;
        }
        REQUIRE((outcome || out_of_memory(outcome)));
        return outcome.has_value();
    }
    template <class T>
    bool check_page(virt_addr v, const result<T>& outcome)
    {
        const auto* p = expected_.find(v);
        if (!p || !v.is_aligned(hal::bytes_at<Format>(p->level))) {
            REQUIRE(!outcome);
            CHECK(outcome.error() == (p ? mm::misaligned : mm::not_mapped));
            CHECK(outcome.error().context() == v.value());
            return false;
        }
        REQUIRE(outcome);
        return true;
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
    void use(unsigned cpu, virt_addr v)
    {
        const auto tried = static_cast<mm::access>(random_() % 3);
        const auto by = static_cast<sim::privilege>(random_() % 3);
        const auto went = w_.m.unit.access(cpu, v, tried, by);
        REQUIRE(went.has_value() == expected_.grants(v, tried, by));
        if (!went)
            return;
        auto* p = expected_.find(v);
        CHECK(*went == p->address + 8);
        if (tried == mm::access::write)
            mark_dirty(v, *p);
        compare(v);
    }
    // The mark is the leaf's, whichever of its pages was written.
    void mark_dirty(virt_addr v, const typename model<Format>::page& written)
    {
        const auto bytes = hal::bytes_at<Format>(written.level);
        for (virt_addr w = v.align_down(bytes); w != v.align_down(bytes) + bytes; w += page_size)
            expected_.find(w)->dirty = true;
    }
    void compare(virt_addr v)
    {
        const auto is = w_.map.translate(v);
        const auto* p = std::as_const(expected_).find(v);
        REQUIRE(is.has_value() == (p != nullptr));
        if (!p) {
            CHECK((is.error() == mm::not_mapped || !Format::is_canonical(v)));
            return;
        }
        CHECK(is->address == p->address + v.value() % page_size);
        CHECK(is->attributes == p->attributes);
        CHECK(is->level == p->level);
        CHECK((is->dirty || !p->dirty));
    }

    std::minstd_rand random_;
    world_type w_{cpu_count};
    model<Format> expected_;
    std::vector<virt_range> windows_;
};

} // namespace

TEST_CASE_TEMPLATE("any sequence of changes does what a map of pages does, as seen by every CPU", Format,
                   EXO_EVERY_FORMAT)
{
    constexpr unsigned steps = 2000;
    exo_test::random_runs(8, steps, [](unsigned seed) {
        random_run<Format> run{seed};
        for (unsigned i = 0; i < steps; ++i) {
            CAPTURE(i);
            run.step();
        }
        run.compare_all();
    });
}
