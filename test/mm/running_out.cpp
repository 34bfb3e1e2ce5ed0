// Memory runs out at each place in each operation of an address space: what is left, and that the same operation, tried
// again, comes to what it would have come to.

#include <array>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include <exo/mm/shared_memory.hpp>
#include <mm/space_calls.hpp>

using namespace exo;
using namespace space_test;

namespace {

using mm::access;
using mm::protection;
using mm::sharing;

constexpr virt_addr plain_at{base};
constexpr std::uint64_t plain_pages = 1600;
constexpr virt_addr large_at{base + 4 * large};
constexpr virt_addr file_at{base + 5000 * page};
constexpr virt_addr shared_at{base + 5100 * page};
constexpr virt_addr brk_at{base + 8000 * page};
constexpr virt_addr stack_at{base + 12000 * page};
constexpr virt_addr nowhere{base + 32 * large};

// Everything that the tests of this file can tell of a space.
struct picture {
    using area = std::tuple<virt_addr, virt_addr, protection, sharing, mm::growth, bool, bool, std::string_view,
                            std::uint64_t, mm::region_advice, mm::locking>;
    std::vector<area> regions;
    std::map<virt_addr, std::uint64_t> pages; // how each begins, unless with zeros
    std::uint64_t resident_pages{};
    std::uint64_t virtual_pages{};
    std::uint64_t locked_pages{};
    virt_addr brk;

    [[nodiscard]] auto but_pages() const { return std::tie(regions, virtual_pages, locked_pages, brk); }
    friend bool operator==(const picture&, const picture&) = default;
};

// Each page is as in one of two pictures.
bool lies_between(const picture& now, const picture& before, const picture& after)
{
    const auto in = [](const picture& p, virt_addr a) {
        const auto found = p.pages.find(a);
        return found == p.pages.end() ? std::optional<std::uint64_t>{} : found->second;
    };
    for (const auto* all : {&before, &now, &after})
        for (const auto& [a, value] : all->pages)
            if (in(now, a) != in(before, a) && in(now, a) != in(after, a))
                return false;
    return true;
}

// A space with something of everything, and its child if it has one.
template <class Format>
struct scene {
    using world_type = world<Format, large_if_wanted>;
    using space = typename world_type::space;

    scene(world_type& in, bool forked)
        : w{in}, of{in.pages, 3}, common{*mm::shared_memory::create(in.heap_, in.pages, in.parker, 4 * page)},
          s{in.make_space()}
    {
        CHECK(s->map(at(plain_at, plain_pages)));
        put(plain_at, {0, 3, 4, 511, 512, 1030, 1540});
        auto request = at(file_at, 3);
        request.backing = ref<mm::pager>{of};
        CHECK(s->map(request));
        CHECK(s->populate(pages(file_at, 1), access::read));
        CHECK(s->map(shared(shared_at, 3, page)));
        put(shared_at, {0});
        CHECK(s->map(at(large_at, 3 * 512)));
        CHECK(s->advise(pages(large_at, 3 * 512), [](mm::region_advice& a) { a.large = mm::large_pages::wanted; }));
        put(large_at, {0, 3, 511, 512, 1023});
        CHECK(w.memory.tables.find(s->root(), large_at).level == 1);
        s->start_brk(brk_at);
        CHECK(s->set_brk(brk_at + 3 * page));
        put(brk_at, {0, 1, 2});
        request = at(stack_at, 1);
        request.grows = mm::growth::down;
        request.limit = large;
        CHECK(s->map(request));
        put(stack_at, {0});
        for (const unsigned level : {2u, 3u}) {
            const auto far = base + hal::bytes_at<Format>(level);
            CHECK(s->map(at(far, 1)));
            put(far, {0});
        }
        CHECK(s->advise(pages(plain_at + 1540 * page, 1), [](mm::region_advice& a) { a.fork = mm::at_fork::empty; }));
        if (forked)
            child = *s->fork();
        w.activate(*s);
    }
    ~scene()
    {
        w.deactivate(*s);
        s.reset();
        child.reset();
        w.frames_.drain_caches(); // so that the next one finds large pages
    }

    mm::map_request shared(virt_addr where, std::uint64_t count, std::uint64_t offset)
    {
        auto request = at(where, count);
        request.kind = sharing::shared;
        request.backing = common;
        request.offset = offset;
        return request;
    }
    void put(virt_addr first, std::initializer_list<std::uint64_t> numbers)
    {
        for (const auto i : numbers) {
            const auto value = (first + i * page).value();
            CHECK(s->write(first + i * page, std::as_bytes(std::span{&value, 1})));
        }
    }
    result<> overwrite(virt_addr first, std::uint64_t count)
    {
        const std::vector<std::byte> bytes(count * page, std::byte{0xee});
        return s->write(first, bytes);
    }
    result<> read(virt_addr first, std::uint64_t count)
    {
        std::vector<std::byte> bytes(count * page);
        return s->read(first, bytes);
    }

    picture take(space& of_space)
    {
        picture p;
        for (const auto& seen : regions_of(of_space)) {
            const auto& [range, rights, kind, grows, heap, executes, backing, offset, advice, locked] = seen;
            p.regions.emplace_back(range.begin, range.end, rights, kind, grows, heap, executes,
                                   backing ? backing->name() : std::string_view{}, offset, advice, locked);
        }
        bool in_regions = true;
        const auto visit = [&](const auto& below, frame_number table, unsigned level, virt_addr begin) -> void {
            const auto used = w.frames_.info(table).table.entries;
            mm::for_each_entry(w.memory, table, used, [&](unsigned i, typename Format::entry e) {
                const auto bytes = hal::bytes_at<Format>(level);
                const auto a = begin + i * bytes;
                if (Format::is_table(e, level))
                    return below(below, frame_number{Format::address(e, level)}, level - 1, a);
                const auto r = of_space.region_at(a);
                in_regions = in_regions && r && a + bytes <= r->range.end &&
                             (!Format::writable(e) || includes(r->access, protection::write));
                p.resident_pages += bytes >> page_shift;
                const std::byte* memory = w.machine.memory.to_pointer(Format::address(e, level));
                for (std::uint64_t offset = 0; offset < bytes; offset += page) {
                    std::uint64_t value = 0;
                    std::memcpy(&value, memory + offset, sizeof value);
                    if (value != 0)
                        p.pages.emplace(a + offset, value);
                }
            });
        };
        visit(visit, frame_number{of_space.root()}, hal::root_level<Format>, virt_addr{});
        CHECK(in_regions);
        const auto statistics = of_space.statistics();
        CHECK(statistics.resident_pages == p.resident_pages);
        p.virtual_pages = statistics.virtual_pages;
        p.locked_pages = statistics.locked_pages;
        p.brk = of_space.brk();
        return p;
    }
    // The space's program sees what is there.
    void look(const picture& p)
    {
        bool same = true;
        for (const auto& [a, value] : p.pages)
            if (accessible(s->region_at(a)->access))
                same = same && *w.load(*s, a) == value;
        CHECK(same);
    }
    void check_counts()
    {
        std::map<frame_number, std::uint32_t> held;
        for (mm::pager* p : {static_cast<mm::pager*>(&of), common.get()}) {
            std::array<mm::object_page, 4> there;
            const auto count = p->get_present_pages(0, there);
            for (const auto& one : std::span{there}.first(count)) {
                ++held[one.frame];
                w.frames_.release(one.frame);
            }
        }
        std::vector<space*> spaces{s.get()};
        if (child)
            spaces.push_back(child.get());
        w.check_counts(spaces, held);
    }

    world_type& w;
    file of;
    ref<mm::pager> common;
    ref<space> s;
    ref<space> child{};
};

// What an operation without memory may leave behind.
enum class leaves {
    nothing,
    pages,   // it may fail after some were filled or written
    regions, // and after the regions changed
    the_rest // it may do without: it succeeds all the same
};

template <class Format>
struct operation {
    std::string name;
    std::function<result<>(scene<Format>&)> run;
    leaves behind{};
    bool only_shared{}; // it takes memory for what the space shares with its child only
};

template <class Format>
std::vector<operation<Format>> operations()
{
    using stage = scene<Format>;
    using tested = typename stage::space;
    const auto drop = [](auto&& outcome) -> result<> { return outcome ? result<>{} : result<>{fail(outcome.error())}; };
    const auto fault = [=](virt_addr a, access tried) {
        return [=](stage& t) { return drop(t.s->handle_fault(a, tried)); };
    };
    const auto remap = [=](virt_addr from, std::uint64_t old_pages, std::uint64_t new_pages,
                           std::optional<virt_addr> to = {}, bool keeps_old = false) {
        return [=](stage& t) {
            return drop(t.s->remap({.address = from,
                                    .old_length = old_pages * page,
                                    .length = new_pages * page,
                                    .may_move = true,
                                    .target = to,
                                    .keeps_old = keeps_old}));
        };
    };
    const auto populated = [](mm::map_request request) {
        request.populate = true;
        return request;
    };
    const auto on = [](virt_addr first, std::uint64_t count, result<> (tested::*call)(virt_range)) {
        return [=](stage& t) { return ((*t.s).*call)(pages(first, count)); };
    };
    return {
        {"map", [=](stage& t) { return drop(t.s->map({.length = 4 * page})); }},
        {"map over", [=](stage& t) { return drop(t.s->map(at(base + 2 * page, 3, mm::user_read))); }},
        {"map populated", [=](stage& t) { return drop(t.s->map(populated(at(nowhere, 3)))); }, leaves::the_rest},
        {"map shared", [=](stage& t) { return drop(t.s->map(t.shared(base + 2 * page, 2, 2 * page))); }},
        {"map shared, populated", [=](stage& t) { return drop(t.s->map(populated(t.shared(nowhere, 3, page)))); },
         leaves::the_rest},
        {"unmap", on(base + 2 * page, 3, &tested::unmap)},
        {"unmap tables", on(base + 511 * page, 1030, &tested::unmap)},
        {"unmap parts of large pages", on(large_at + 3 * page, 1000, &tested::unmap)},
        {"protect", [](stage& t) { return t.s->protect(pages(base + page, 5), mm::user_read); }},
        {"protect tables", [](stage& t) { return t.s->protect(pages(base, 1600), protection::none); }, {}, true},
        {"protect parts of large pages",
         [](stage& t) { return t.s->protect(pages(large_at + 3 * page, 1000), mm::user_read); }},
        {"discard", on(base + page, 5, &tested::discard), {}, true},
        {"discard parts of large pages", on(large_at + 3 * page, 1000, &tested::discard)},
        {"free", on(base + page, 5, &tested::free), {}, true},
        {"read", fault(base + 1599 * page, access::read)},
        {"write", fault(base + 3 * page, access::write), {}, true},
        {"read a file", fault(file_at + page, access::read)},
        {"write to a file", fault(file_at, access::write)},
        {"write to a file first", fault(file_at + 2 * page, access::write)},
        {"read what is shared", fault(shared_at + page, access::read)},
        {"write to what is shared", fault(shared_at + 2 * page, access::write)},
        {"fill a large page", fault(large_at + 2 * large + 5 * page, access::write), leaves::the_rest},
        {"write to a large page", fault(large_at + 5 * page, access::write), {}, true},
        {"grow a stack", fault(stack_at - 3 * page, access::write), leaves::regions},
        {"populate", [](stage& t) { return t.s->populate(pages(base + 2 * page, 5), access::write); }, leaves::pages},
        {"populate a file", [](stage& t) { return t.s->populate(pages(file_at, 3)); }, leaves::pages},
        {"will need", on(file_at, 3, &tested::will_need), leaves::the_rest},
        {"read in the kernel", [](stage& t) { return t.read(base + 3 * page, 4); }, leaves::pages},
        {"write in the kernel", [](stage& t) { return t.overwrite(base + 3 * page, 4); }, leaves::pages},
        {"write in the kernel to what is shared", [](stage& t) { return t.overwrite(shared_at + page, 2); },
         leaves::pages},
        {"brk", [=](stage& t) { return drop(t.s->set_brk(brk_at + 1000 * page)); }},
        {"less brk", [=](stage& t) { return drop(t.s->set_brk(brk_at + page)); }},
        {"fork", [=](stage& t) { return drop(t.s->fork()); }},
        {"advise",
         [](stage& t) {
             return t.s->advise(pages(base + 3 * page, 2), [](mm::region_advice& a) { a.fork = mm::at_fork::empty; });
         }},
        {"grow", remap(base + 1590 * page, 10, 20)},
        {"become smaller", remap(base + 2 * page, 5, 2)},
        {"move", remap(base + 2 * page, 2, 5)},
        {"move tables", remap(base + page, 1500, 1400, nowhere + page)},
        {"move over something", remap(base + page, 600, 600, base + 900 * page)},
        {"move pages only", remap(base, 5, 5, base + 509 * page, true)},
        {"move a large page", remap(large_at, 512, 512, nowhere)},
        {"move a large page to where none fits", remap(large_at, 512, 512, nowhere + page)},
        {"move a part of a large page", remap(large_at + 3 * page, 5, 5, nowhere)},
        {"move what is shared", remap(shared_at, 2, 5)},
        {"map what is shared once more", remap(shared_at, 0, 2)},
        {"lock", [](stage& t) { return t.s->lock_pages(pages(base + 2 * page, 3), mm::locking::on_fault); }},
        {"lock at once", [](stage& t) { return t.s->lock_pages(pages(base + 2 * page, 5), mm::locking::at_once); },
         leaves::regions},
        {"lock everything",
         [](stage& t) -> result<> {
             EXO_TRY(t.s->unmap({base, large_at + 3 * large})); // that would be many pages
             return t.s->lock_everything(mm::locking::at_once, mm::locking::at_once);
         },
         leaves::the_rest},
    };
}

} // namespace

TEST_CASE_TEMPLATE("Wherever memory runs out in an operation, it leaves things as it found them, or as it says", Format,
                   EXO_EVERY_FORMAT)
{
    world<Format, large_if_wanted> w{4096};
    for (const auto& op : operations<Format>())
        for (const bool forked : {false, true}) {
            CAPTURE(op.name);
            CAPTURE(forked);
            picture after;
            std::size_t allocations = 0;
            {
                scene<Format> t{w, forked};
                const auto asked = w.failing.asked;
                REQUIRE(op.run(t));
                allocations = w.failing.asked - asked;
                after = t.take(*t.s);
                t.check_counts();
            }
            CHECK((allocations != 0) == (forked || !op.only_shared));
            std::size_t failed = 0;
            for (std::size_t n = 1; n <= allocations; ++n) {
                CAPTURE(n);
                scene<Format> t{w, forked};
                const auto before = t.take(*t.s);
                t.look(before);
                const auto child = forked ? t.take(*t.child) : picture{};
                w.failing.fail_nth(n);
                const auto outcome = op.run(t);
                w.failing.stop();
                const auto now = t.take(*t.s);
                t.look(now);
                if (outcome) {
                    CHECK(op.behind != leaves::nothing);
                    CHECK(now.but_pages() == after.but_pages());
                } else {
                    ++failed;
                    CHECK(outcome.error() == errors::out_of_memory);
                    CHECK((now.but_pages() == before.but_pages() ||
                           (op.behind == leaves::regions && now.but_pages() == after.but_pages())));
                    CHECK(((now.pages == before.pages && now.resident_pages == before.resident_pages) ||
                           op.behind != leaves::nothing));
                    REQUIRE(op.run(t));
                    CHECK(t.take(*t.s) == after);
                }
                CHECK(lies_between(now, before, after));
                if (forked)
                    CHECK(t.take(*t.child) == child);
                t.check_counts();
            }
            CHECK((op.behind == leaves::the_rest ? failed < allocations : (failed != 0) == (allocations != 0)));
        }
}
