// Address spaces against a plain model: for each page, what it holds and who shares it. A life that fails is shortened to
// the steps that it takes to fail.

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <iterator>
#include <optional>
#include <random>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <exo/mm/shared_memory.hpp>

#include <mm/space_world.hpp>
#include <random_runs.hpp>
#include <shrink.hpp>

using namespace exo;
using namespace space_test;

namespace {

using mm::access;
using mm::protection;
using mm::sharing;

constexpr std::size_t file_pages = 40;

struct model_page {
    protection rights{};
    sharing kind{};
    int object{-1}; // which file or shared memory; -1: anonymous
    std::uint64_t index{};
    std::optional<std::uint64_t> own{}; // what this space alone sees
    mm::at_fork fork{};
    mm::locking locked{};
    bool heap{};
    // Of a stack's region, 0 elsewhere: where it ends, and how far it may reach.
    virt_addr stack_end{};
    std::uint64_t stack_limit{};
};

template <class Format, class Fill>
class story {
public:
    using world_type = world<Format, Fill>;
    using space = typename world_type::space;

    explicit story(unsigned seed)
        : cpu_count_{cpu_counts[seed % std::size(cpu_counts)]},
          w_{large_pages ? 16384u : 2048u, cpu_count_, id_limits[seed % std::size(id_limits)]}
    {
        w_.machine.entries.mark_at_awkward_moments(seed);
        w_.machine.entries.after_each_change([this] { act_in_between(); });
        for (auto& f : files_)
            f.emplace(w_.pages, file_pages);
        for (int which = 0; which < file_count; ++which)
            set_file_size(which, file_pages);
        spaces_.push_back({w_.make_space(), {}, heap_begin});
        spaces_.front().real->start_brk(heap_begin);
    }

    ~story()
    {
        while (!spaces_.empty())
            end(0);
    }

    // What a step does is drawn from its own number, so that steps can be left out.
    void run(const std::vector<unsigned>& steps)
    {
        std::size_t done = 0;
        for (const unsigned number : steps) {
            random_.seed(number);
            in_between_.seed(number);
            step();
            if (done++ % 64 == 0)
                check();
        }
        check();
        for (auto& one : spaces_)
            for (const virt_addr page : all_pages())
                look(one, page);
        while (!spaces_.empty()) {
            end(below(spaces_.size()));
            check();
        }
        newest_shared_.reset();
        for (auto& f : files_)
            f.reset();
    }

    [[nodiscard]] std::uint64_t large_pages_split() const
    {
        return w_.memory.counted(&mm::memory_counters::large_pages_split);
    }

private:
    // By seed: machines of all sizes, without address-space ids, with fewer than spaces, and with enough.
    static constexpr unsigned cpu_counts[] = {1, 3, 5, 8};
    static constexpr unsigned id_limits[] = {16, 1, 4};
    static constexpr std::size_t space_limit = 5;
    static constexpr bool large_pages = std::is_same_v<Fill, greedy>;
    static constexpr std::uint64_t window_pages = 24;
    static constexpr std::uint64_t large_window_pages = 2 * hal::entries_per_table<Format> + 100;

    static constexpr int file_count = 2;
    static constexpr virt_addr heap_begin{0x5000'0123};

    struct one_space {
        ref<space> real;
        std::map<virt_addr, model_page> pages;
        virt_addr brk;
    };

    // Windows that lie across the borders of tables, at every level; one in the middle of one; the heap's; and one for
    // large pages.
    static std::vector<virt_range> windows()
    {
        std::vector<virt_range> w;
        const auto add = [&](virt_addr begin, std::uint64_t pages) {
            w.push_back(virt_range::of_size(begin, pages * page_size));
        };
        for (unsigned level = 1; level < Format::levels; ++level)
            add(virt_addr{3 * hal::bytes_at<Format>(level)} - window_pages / 2 * page_size, window_pages);
        add(virt_addr{0x1234'5000}, window_pages);
        add(heap_begin.align_down(page_size), window_pages);
        if (large_pages)
            w.push_back(large_window());
        std::sort(w.begin(), w.end(), [](virt_range a, virt_range b) { return a.begin < b.begin; });
        return w;
    }
    static virt_range large_window()
    {
        return virt_range::of_size(virt_addr{0x2000'0000}, large_window_pages * page_size);
    }
    static std::vector<virt_addr> all_pages()
    {
        std::vector<virt_addr> pages;
        for (const auto window : windows())
            for (auto page = window.begin; page < window.end; page += page_size)
                pages.push_back(page);
        return pages;
    }

    std::uint64_t below(std::uint64_t n) { return random_() % n; }
    bool chance(unsigned in) { return below(in) == 0; }

    virt_range some_range()
    {
        const auto w = windows();
        if (chance(40)) // over all windows, whole tables in between
            return {w.front().begin + below(window_pages) * page_size,
                    w.back().begin + (1 + below(window_pages)) * page_size};
        const auto window = large_pages && chance(2) ? large_window() : w[below(w.size())];
        const auto pages = window.size() >> page_shift;
        if (pages == large_window_pages && chance(3))
            return window;
        const auto first = below(pages);
        const auto count = 1 + below(pages - first);
        return virt_range::of_size(window.begin + first * page_size, count * page_size);
    }
    static bool is_long(virt_range r) { return r.size() > large_window_pages * page_size; }
    virt_addr page_in(virt_range r)
    {
        return is_long(r) ? r.begin : r.begin + below(r.size() >> page_shift) * page_size;
    }
    protection some_rights()
    {
        using enum protection;
        switch (below(6)) {
        case 0:
            return read;
        case 1:
            return read | execute;
        case 2:
            return none;
        default:
            return read | write;
        }
    }
    unsigned some_cpu() { return static_cast<unsigned>(below(cpu_count_)); }
    void on_some_cpu(auto f) { w_.machine.cpus.on(some_cpu(), f); }

    // CPUs that have the space loaded remember what they can, one of them changes something, and then all look.
    void step()
    {
        one_space& one = spaces_[below(spaces_.size())];
        const auto range = some_range();
        for (unsigned cpu = 0; cpu < cpu_count_; ++cpu) {
            if (chance(2))
                w_.machine.cpus.on(cpu, [&] { w_.activate(*one.real); });
            else if (chance(4))
                go_idle(cpu);
            for (int i = 0; i < 4; ++i)
                w_.machine.unit.speculate(cpu, page_in(range));
            if (chance(4))
                w_.machine.unit.evict_something(cpu, random_);
        }
        const auto idle = calls_of_idle_cpus();
        changing_ = range;
        on_some_cpu([&] { act(one, range); });
        changing_ = {};
        for (const auto& [cpu, calls] : idle)
            REQUIRE(w_.machine.cpus.calls_served(cpu) == calls);
        for (unsigned cpu = 0; cpu < cpu_count_; ++cpu)
            for (one_space& other : spaces_)
                if (w_.machine.unit.current(cpu).table == other.real->root())
                    w_.machine.cpus.on(cpu, [&] { look(other, page_in(range)); });
    }

    // What happens on any CPU between the change of an entry and what is done about it. A program's write marks what it
    // can, and leaves the contents as they are.
    void act_in_between()
    {
        if (changing_.empty() || in_between_() % 4 != 0)
            return;
        const auto cpu = static_cast<unsigned>(in_between_() % cpu_count_);
        const bool in_large_page = in_between_() % 4 == 0;
        const auto begin = in_large_page ? changing_.begin.align_down(hal::bytes_at<Format>(1)) : changing_.begin;
        const auto pages = in_large_page ? hal::entries_per_table<Format> : (changing_.size() >> page_shift) + 1;
        const auto page = begin + in_between_() % pages * page_size;
        switch (in_between_() % 4) {
        case 0:
            w_.machine.unit.evict_something(cpu, in_between_);
            break;
        case 1:
            write_in_between(cpu, page);
            break;
        default:
            w_.machine.unit.speculate(cpu, page);
        }
    }
    // Who may write a page and who may read it at one moment, in one space, are at the same page: what is read must not
    // be older than what the program knows to be written.
    void write_in_between(unsigned cpu, virt_addr page)
    {
        auto& unit = w_.machine.unit;
        const auto written = unit.access_unjudged(cpu, page, access::write, sim::privilege::user);
        for (unsigned other = 0; written && other < cpu_count_; ++other) {
            if (unit.current(other).table != unit.current(cpu).table)
                continue;
            const auto seen = unit.access_unjudged(other, page, access::read, sim::privilege::user);
            if (seen && *seen != *written)
                unit.report("a page is written while another is read", page);
        }
    }

    void go_idle(unsigned cpu)
    {
        for (one_space& one : spaces_)
            w_.machine.cpus.on(cpu, [&] { w_.deactivate(*one.real); });
    }
    std::map<unsigned, std::size_t> calls_of_idle_cpus()
    {
        std::map<unsigned, std::size_t> calls;
        for (unsigned cpu = 0; cpu < cpu_count_; ++cpu)
            if (w_.machine.unit.current(cpu).table == w_.kernel_root.address())
                calls[cpu] = w_.machine.cpus.calls_served(cpu);
        return calls;
    }

    void act(one_space& one, virt_range range)
    {
        const auto page = page_in(range);
        const auto dice = below(100);
        if (dice < 34)
            write(one, page);
        else if (dice < 38)
            execute(one, page);
        else if (dice < 44)
            copy_in_kernel(one, page);
        else if (dice < 47)
            populate(one, range);
        else if (dice < 58)
            map(one, range);
        else if (dice < 61)
            map_stack(one, range);
        else if (dice < 62)
            limit_stacks(one);
        else if (dice < 66)
            unmap(one, range);
        else if (dice < 73)
            protect(one, range, some_rights());
        else if (dice < 76)
            discard(one, range);
        else if (dice < 78)
            advise(one, range);
        else if (dice < 83)
            remap(one, range);
        else if (dice < 86)
            set_brk(one);
        else if (dice < 88)
            resize_file();
        else if (dice < 94 && spaces_.size() < space_limit)
            fork(one);
        else if (dice < 98 && spaces_.size() > 1)
            end(below(spaces_.size()));
        else
            lock(one, range);
    }

    // An access just below a stack makes it reach there, whatever comes of the access: not too far, and not too near to
    // what lies below.
    void grow_stack(one_space& one, virt_addr page)
    {
        const auto above = one.pages.upper_bound(page);
        if (one.pages.contains(page) || above == one.pages.end() || above->second.stack_end == virt_addr{})
            return;
        const auto floor = above == one.pages.begin() ? world_type::layout.lowest
                                                      : std::prev(above)->first + page_size + mm::stack_guard;
        auto grown = above->second;
        if (page < floor || grown.stack_end - page > grown.stack_limit)
            return;
        grown.own.reset();
        for (auto at = page; at < above->first; at += page_size)
            one.pages[at] = grown;
    }
    // A stack that is no longer one region: its parts never become one again.
    void cut_stacks(one_space& one, virt_range range)
    {
        for (const auto edge : {range.begin, range.end})
            for (auto at = one.pages.lower_bound(edge); at != one.pages.begin();) {
                --at;
                if (at->second.stack_end <= edge)
                    break;
                at->second.stack_end = edge;
            }
    }

    // What an access has to come to: nothing, or this error.
    const error_kind* expected_error(one_space& one, virt_addr page, access tried)
    {
        grow_stack(one, page);
        const auto at = one.pages.find(page);
        if (at == one.pages.end())
            return &mm::no_region;
        const model_page& p = at->second;
        const bool allowed = tried == access::read    ? accessible(p.rights)
                             : tried == access::write ? includes(p.rights, protection::write)
                                                      : includes(p.rights, protection::execute);
        if (!allowed)
            return &mm::access_denied;
        if (p.object >= 0 && !p.own && p.index >= values_[p.object].size())
            return &mm::beyond_end;
        return nullptr;
    }
    std::uint64_t expected_value(const model_page& p)
    {
        return p.own ? *p.own : p.object < 0 ? 0 : values_[p.object][p.index];
    }
    void wrote(model_page& p, std::uint64_t value)
    {
        if (p.kind == sharing::shared)
            values_[p.object][p.index] = value;
        else
            p.own = value;
    }
    template <class T>
    static bool agrees(const result<T>& got, const error_kind* expected)
    {
        if (!expected)
            REQUIRE_MESSAGE(got, "an access failed: ", got.error().kind().name);
        else
            REQUIRE((!got && got.error() == *expected));
        return got.has_value();
    }

    void look(one_space& one, virt_addr page)
    {
        w_.activate(*one.real);
        const auto got = w_.load(*one.real, page);
        if (agrees(got, expected_error(one, page, access::read)))
            REQUIRE(*got == expected_value(one.pages[page]));
    }
    void write(one_space& one, virt_addr page)
    {
        const auto value = random_();
        w_.activate(*one.real);
        if (agrees(w_.store(*one.real, page, value), expected_error(one, page, access::write)))
            wrote(one.pages[page], value);
    }
    void execute(one_space& one, virt_addr page)
    {
        w_.activate(*one.real);
        (void)agrees(w_.execute(*one.real, page), expected_error(one, page, access::execute));
    }
    void copy_in_kernel(one_space& one, virt_addr page)
    {
        std::uint64_t value = random_();
        if (chance(2)) {
            if (agrees(one.real->write(page, std::as_bytes(std::span{&value, 1})),
                       expected_error(one, page, access::write)))
                wrote(one.pages[page], value);
        } else if (agrees(one.real->read(page, std::as_writable_bytes(std::span{&value, 1})),
                          expected_error(one, page, access::read))) {
            REQUIRE(value == expected_value(one.pages[page]));
        }
    }

    void map(one_space& one, virt_range range)
    {
        if (is_long(range))
            return;
        mm::map_request wanted{.address = range.begin, .length = range.size(), .access = some_rights()};
        int object = -1;
        if (chance(2)) {
            std::tie(object, wanted.backing) = some_object();
            wanted.offset = below(file_pages) * page_size;
            wanted.kind = chance(2) ? sharing::shared : sharing::private_copy;
        }
        const auto first = one.pages.lower_bound(range.begin);
        const bool taken = first != one.pages.end() && first->first < range.end;
        wanted.where = chance(3) ? mm::placement::fixed_noreplace : mm::placement::fixed;
        const auto offset = wanted.offset;
        const auto kind = wanted.kind;
        const auto rights = wanted.access;
        const bool refused = taken && wanted.where == mm::placement::fixed_noreplace;
        const auto got = one.real->map(std::move(wanted));
        if (refused) {
            REQUIRE(got.error() == mm::already_mapped);
            return;
        }
        REQUIRE(got);
        REQUIRE(*got == range.begin);
        for (auto page = range.begin; page < range.end; page += page_size)
            one.pages[page] = {
                .rights = rights, .kind = kind, .object = object, .index = (offset + (page - range.begin)) / page_size};
        cut_stacks(one, range);
    }
    // A file, or memory that is shared without one: some of that is known to the spaces that map it alone.
    std::pair<int, ref<mm::pager>> some_object()
    {
        if (!chance(3)) {
            const auto which = below(file_count);
            return {static_cast<int>(which), ref<mm::pager>{*files_[which]}};
        }
        if (!newest_shared_ || chance(4)) {
            ++newest_object_;
            values_[newest_object_].resize(1 + below(file_pages));
            newest_shared_ =
                *mm::shared_memory::create(w_.heap_, w_.pages, w_.parker, values_[newest_object_].size() * page_size);
        }
        return {newest_object_, newest_shared_};
    }
    void map_stack(one_space& one, virt_range range)
    {
        if (is_long(range))
            return;
        const auto rights = some_rights();
        const auto limit = range.size() + below(window_pages) * page_size;
        REQUIRE(one.real->map({.address = range.begin,
                               .length = range.size(),
                               .access = rights,
                               .where = mm::placement::fixed,
                               .grows = mm::growth::down,
                               .limit = limit}));
        cut_stacks(one, range);
        for (auto page = range.begin; page < range.end; page += page_size)
            one.pages[page] = {.rights = rights, .stack_end = range.end, .stack_limit = limit};
    }
    void limit_stacks(one_space& one)
    {
        const auto limit = below(2 * window_pages) * page_size;
        one.real->limit_growth(limit);
        for (auto& [at, page] : one.pages)
            if (page.stack_end != virt_addr{})
                page.stack_limit = limit;
    }
    // As if each page were accessed, in this way or as its rights suggest; ends with the first that cannot be.
    void populate(one_space& one, virt_range range)
    {
        const error_kind* expected = nullptr;
        std::vector<std::pair<virt_addr, access>> accesses;
        const auto touch = [&](virt_addr page, access tried) {
            expected = expected ? expected : expected_error(one, page, tried);
            accesses.emplace_back(page, tried);
            if (expected || tried != access::write)
                return;
            model_page& p = one.pages[page];
            if (p.kind == sharing::private_copy)
                p.own = expected_value(p);
        };
        if (chance(2)) {
            const auto tried = chance(2) ? access::read : access::write;
            const auto got = one.real->populate(range, tried);
            for (auto page = range.begin; page < range.end && !expected; page += page_size)
                touch(page, tried);
            agrees(got, expected);
        } else {
            const auto got = one.real->populate(range);
            for (auto at = one.pages.lower_bound(range.begin); at != one.pages.end() && at->first < range.end; ++at)
                touch(at->first,
                      at->second.kind == sharing::private_copy && includes(at->second.rights, protection::write)
                          ? access::write
                          : access::read);
            agrees(got, expected);
        }
        if (expected || accesses.empty())
            return;
        const auto [page, tried] = accesses[below(accesses.size())];
        REQUIRE(*one.real->handle_fault(page, tried) == mm::fault_kind::spurious); // nothing is left to be done
    }
    void set_brk(one_space& one)
    {
        const auto end = heap_begin - page_size + below((window_pages + 1) * page_size);
        const auto old_top = one.brk.align_up(page_size);
        const auto new_top = end.align_up(page_size);
        const auto next = one.pages.lower_bound(old_top);
        const bool blocked =
            old_top < new_top && next != one.pages.end() &&
            next->first < new_top + page_size + (next->second.stack_end == virt_addr{} ? 0 : mm::stack_guard);
        if (!agrees(one.real->set_brk(end), end < heap_begin ? &errors::invalid_argument
                                            : blocked        ? &errors::out_of_memory
                                                             : nullptr))
            return;
        for (auto page = old_top; page < new_top; page += page_size)
            one.pages[page] = {.rights = protection::read | protection::write, .heap = true};
        if (new_top < old_top) {
            cut_stacks(one, {new_top, old_top});
            one.pages.erase(one.pages.lower_bound(new_top), one.pages.lower_bound(old_top));
        }
        one.brk = end;
    }
    void set_file_size(int which, std::uint64_t pages)
    {
        auto& values = values_[which];
        while (values.size() < pages)
            values.push_back(file::initial(values.size()));
        values.resize(pages);
    }
    // One that becomes smaller takes its pages out of all spaces, private copies too.
    void resize_file()
    {
        const auto which = static_cast<int>(below(file_count));
        file& f = *files_[static_cast<unsigned>(which)];
        const auto size = chance(3) ? file_pages : below(file_pages + 1);
        if (size >= f.size)
            f.size = size;
        else
            REQUIRE(f.shrink(w_.parker, size));
        set_file_size(which, size);
        for (one_space& one : spaces_)
            for (auto& [at, page] : one.pages)
                if (page.object == which && page.index >= size)
                    page.own.reset();
    }
    void unmap(one_space& one, virt_range range)
    {
        REQUIRE(one.real->unmap(range));
        cut_stacks(one, range);
        one.pages.erase(one.pages.lower_bound(range.begin), one.pages.lower_bound(range.end));
    }
    // The first page of the range without a region.
    std::optional<virt_addr> hole_in(one_space& one, virt_range range)
    {
        for (auto page = range.begin; page < range.end; page += page_size)
            if (!one.pages.contains(page))
                return page;
        return {};
    }
    void lock(one_space& one, virt_range range)
    {
        const auto how = chance(2) ? mm::locking::on_fault : mm::locking::none;
        agrees(one.real->lock_pages(range, how), hole_in(one, range) ? &mm::not_mapped : nullptr);
        cut_stacks(one, range);
        for_each_in(one, range, [how](model_page& p) { p.locked = how; });
    }
    // Whether what follows a page in memory is what follows it in its region.
    static bool continues(const model_page& p, const model_page& next)
    {
        return p.rights == next.rights && p.kind == next.kind && p.object == next.object &&
               (p.object < 0 || p.index + 1 == next.index) && p.fork == next.fork && p.locked == next.locked &&
               p.heap == next.heap && p.stack_end == next.stack_end;
    }
    void remap(one_space& one, virt_range range)
    {
        if (is_long(range))
            return;
        const auto w = windows();
        const auto window = w[below(w.size())];
        const auto table = hal::bytes_at<Format>(1);
        auto target = window.begin + below(window.size() >> page_shift) * page_size;
        if (chance(2)) // where whole tables can go
            target = target.align_down(table) + (range.begin.value() & (table - 1));
        mm::remap_request wanted{
            .address = range.begin,
            .old_length = chance(20) ? 0 : range.size(),
            .length = chance(2) ? range.size() : (1 + below(window_pages)) * page_size,
            .may_move = true,
            .target = target,
            .keeps_old = chance(4),
        };
        if (wanted.keeps_old)
            wanted.length = wanted.old_length;
        const auto old = virt_range::of_size(wanted.address, wanted.old_length);
        const auto to = virt_range::of_size(*wanted.target, wanted.length);
        const auto got = one.real->remap(wanted);
        if (wanted.length == 0 || old.overlaps(to) ||
            (old.empty() && to.contains(old.begin) && to.begin != old.begin)) {
            REQUIRE(got.error() == errors::invalid_argument);
            return;
        }
        const virt_range kept{old.begin, old.begin + std::min(old.size(), to.size())};
        const auto first = one.pages.find(old.begin);
        bool in_one = first != one.pages.end();
        for (auto at = kept.begin; in_one && at + page_size < kept.end; at += page_size)
            in_one = one.pages.contains(at + page_size) && continues(one.pages[at], one.pages[at + page_size]);
        if (!in_one) {
            REQUIRE(got.error() == mm::no_region);
            return;
        }
        if (old.empty() && first->second.kind != sharing::shared) {
            REQUIRE(got.error() == errors::invalid_argument);
            return;
        }
        REQUIRE(got);
        REQUIRE(*got == to.begin);
        cut_stacks(one, to);
        if (!old.empty())
            cut_stacks(one, old);
        auto model = first->second;
        model.heap = false;
        if (model.stack_end != virt_addr{})
            model.stack_end = to.end;
        std::vector<std::optional<std::uint64_t>> contents(to.size() / page_size);
        for (auto at = kept.begin; at < kept.end; at += page_size)
            contents[(at - kept.begin) / page_size] = std::exchange(one.pages[at].own, {});
        if (wanted.keeps_old)
            for_each_in(one, old, [](model_page& p) { p.locked = mm::locking::none; });
        else
            one.pages.erase(one.pages.lower_bound(old.begin), one.pages.lower_bound(old.end));
        for (std::size_t i = 0; i < contents.size(); ++i) {
            auto moved = model;
            moved.index += i;
            moved.own = contents[i];
            one.pages[to.begin + i * page_size] = moved;
        }
    }
    void for_each_in(one_space& one, virt_range range, auto f)
    {
        for (auto at = one.pages.lower_bound(range.begin); at != one.pages.end() && at->first < range.end; ++at)
            f(at->second);
    }
    bool all_in(one_space& one, virt_range range, auto f)
    {
        bool all = true;
        for_each_in(one, range, [&](const model_page& p) { all = all && f(p); });
        return all;
    }
    void protect(one_space& one, virt_range range, protection rights)
    {
        const auto got = one.real->protect(range, rights);
        if (const auto hole = hole_in(one, range)) {
            REQUIRE(got.error() == mm::not_mapped);
            REQUIRE(got.error().context() == hole->value());
            return;
        }
        REQUIRE(got);
        cut_stacks(one, range);
        for (auto page = range.begin; page < range.end; page += page_size)
            one.pages[page].rights = rights;
    }
    void discard(one_space& one, virt_range range)
    {
        const bool frees = chance(2);
        const bool may = all_in(one, range, [frees](const model_page& p) {
            return p.locked == mm::locking::none && (!frees || p.object < 0);
        });
        agrees(frees ? one.real->free(range) : one.real->discard(range), !may ? &errors::invalid_argument
                                                                         : hole_in(one, range) ? &mm::not_mapped
                                                                                               : nullptr);
        if (!may)
            return;
        for_each_in(one, range, [](model_page& p) { p.own.reset(); });
    }
    void advise(one_space& one, virt_range range)
    {
        constexpr void (*notes[])(mm::region_advice&) = {
            [](mm::region_advice& a) { a.fork = mm::at_fork::inherited; },
            [](mm::region_advice& a) { a.fork = mm::at_fork::absent; },
            [](mm::region_advice& a) { a.fork = mm::at_fork::empty; },
        };
        const auto which = below(std::size(notes));
        const auto what = static_cast<mm::at_fork>(which);
        const bool makes_sense =
            what != mm::at_fork::empty || all_in(one, range, [](const model_page& p) { return p.object < 0; });
        agrees(one.real->advise(range, notes[which]), !makes_sense          ? &errors::invalid_argument
                                                      : hole_in(one, range) ? &mm::not_mapped
                                                                            : nullptr);
        if (!makes_sense)
            return;
        cut_stacks(one, range);
        for_each_in(one, range, [what](model_page& p) { p.fork = what; });
    }
    void fork(one_space& one)
    {
        auto child = one.real->fork();
        REQUIRE(child);
        one_space copy{std::move(*child), one.pages, one.brk};
        std::erase_if(copy.pages, [](const auto& at) { return at.second.fork == mm::at_fork::absent; });
        for (auto& [at, page] : copy.pages) {
            page.locked = {};
            if (page.fork == mm::at_fork::empty)
                page.own.reset();
        }
        spaces_.push_back(std::move(copy));
    }
    void end(std::size_t which)
    {
        for (unsigned cpu = 0; cpu < cpu_count_; ++cpu)
            w_.machine.cpus.on(cpu, [&] { w_.deactivate(*spaces_[which].real); });
        spaces_.erase(spaces_.begin() + static_cast<std::ptrdiff_t>(which));
    }

    void check()
    {
        std::map<frame_number, std::uint32_t> held;
        for (auto& f : files_)
            for (auto& page : f->contents)
                if (page)
                    ++held[page.frame()];
        std::vector<space*> all;
        std::map<int, ref<mm::pager>> shared;
        if (newest_shared_)
            shared[newest_object_] = newest_shared_;
        for (auto& one : spaces_) {
            all.push_back(one.real.get());
            REQUIRE(one.real->brk() == one.brk);
            auto page = one.pages.begin();
            one.real->for_each_region([&](const mm::region_info& r) {
                for (auto at = r.range.begin; at < r.range.end; at += page_size, ++page) {
                    REQUIRE(page != one.pages.end());
                    REQUIRE(page->first == at);
                    REQUIRE(page->second.rights == without(r.access, protection::user));
                    REQUIRE(page->second.kind == r.kind);
                    REQUIRE(page->second.fork == r.advice.fork);
                    REQUIRE(page->second.locked == r.locked);
                    REQUIRE((page->second.object >= 0) == static_cast<bool>(r.backing));
                    REQUIRE(page->second.heap == r.heap);
                    REQUIRE(page->second.stack_end == (r.grows == mm::growth::down ? r.range.end : virt_addr{}));
                    if (page->second.object >= file_count)
                        shared[page->second.object] = r.backing;
                    if (r.backing)
                        REQUIRE(page->second.index == (r.offset + (at - r.range.begin)) / page_size);
                }
                return true;
            });
            REQUIRE(page == one.pages.end());
            REQUIRE(one.real->statistics().virtual_pages == one.pages.size());
        }
        for (auto& [object, memory] : shared) {
            mm::object_page there[file_pages];
            const auto count = memory->get_present_pages(0, there);
            for (const auto& [index, frame] : std::span{there}.first(count)) {
                REQUIRE(index < values_[object].size());
                w_.frames_.release(frame);
                ++held[frame];
            }
        }
        w_.check_counts(all, std::move(held));
    }

    const unsigned cpu_count_;
    std::mt19937 random_;
    std::minstd_rand in_between_;
    virt_range changing_;
    world_type w_;
    std::array<std::optional<file>, file_count> files_;
    ref<mm::pager> newest_shared_; // and its number
    int newest_object_{file_count - 1};
    std::map<int, std::vector<std::uint64_t>> values_; // of what is in an object, by page
    std::vector<one_space> spaces_;
};

// Whether such a life fails; tried by a process of its own, which ends with the first failure.
template <class Story>
bool fails(unsigned seed, const std::vector<unsigned>& steps)
{
    const pid_t child = ::fork();
    if (child == 0) {
        const bool silent = std::freopen("/dev/null", "w", stdout) && std::freopen("/dev/null", "w", stderr);
        try {
            Story{seed}.run(steps);
        } catch (...) {
            ::_exit(1);
        }
        ::_exit(silent ? 0 : 1);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    return status != 0;
}

// How many large pages were split in it.
template <class Story>
std::uint64_t live(unsigned seed, unsigned step_count)
{
    std::minstd_rand numbers{seed};
    std::vector<unsigned> steps;
    while (steps.size() < step_count)
        steps.push_back(static_cast<unsigned>(numbers()));
    try {
        Story story{seed};
        story.run(steps);
        return story.large_pages_split();
    } catch (...) {
        const auto few = shrink(steps, [&](const auto& some) { return fails<Story>(seed, some); });
        std::string numbers_left;
        for (const unsigned number : few)
            numbers_left += ' ' + std::to_string(number);
        MESSAGE("fails with seed ", seed, " and these ", few.size(), " steps:", numbers_left);
        throw;
    }
}

} // namespace

TEST_CASE_TEMPLATE("Random lives of spaces that fork agree with the model, on every format", Format, EXO_EVERY_FORMAT)
{
    constexpr unsigned steps = 4000;
    exo_test::random_runs(12, steps, [](unsigned seed) { live<story<Format, one_page_each>>(seed, steps); });
}

TEST_CASE_TEMPLATE("Random lives of spaces with large pages agree with the model, on every format", Format,
                   EXO_EVERY_FORMAT)
{
    std::uint64_t split = 0;
    constexpr unsigned steps = 1000;
    exo_test::random_runs(4, steps, [&](unsigned seed) { split += live<story<Format, greedy>>(seed, steps); });
    CHECK(split > 10);
}
