// What single operations of an address space come to.

#include <exo/mm/shared_memory.hpp>
#include <mm/space_calls.hpp>

using namespace exo;
using namespace space_test;

namespace {

using mm::access;
using mm::fault_kind;
using mm::placement;
using mm::protection;
using mm::sharing;
using format = x86_64::paging_4_level;
using world_type = world<format>;
using space = world_type::space;


} // namespace

TEST_CASE("Mappings without an address go from the top down, into the first gap that fits, and touch no guard gap")
{
    world_type w;
    auto s = w.make_space();
    const auto top = world_type::layout.mapping_top;
    CHECK(*s->map({.length = 3 * page}) == top - 3 * page);
    CHECK(*s->map({.length = 2 * page, .access = mm::user_read}) == top - 5 * page);
    CHECK(s->unmap(pages(top - 3 * page, 2)));
    CHECK(*s->map({.length = 4 * page}) == top - 9 * page);        // does not fit the gap
    CHECK(*s->map({.length = page + 1}) == top - 3 * page);        // does
    CHECK(*s->map({.address = base + 5, .length = page}) == base); // a wish, granted
    CHECK(*s->map({.address = base, .length = page}) == top - 10 * page);

    auto stack = at(top - 100 * page, 2);
    stack.grows = mm::growth::down;
    stack.limit = 1024 * page;
    CHECK(s->map(stack));
    CHECK(*s->map({.length = 90 * page}) == top - 100 * page - mm::stack_guard - 90 * page);
    CHECK(s->map({.length = world_type::half}).error() == errors::out_of_memory);
    CHECK(s->map({.length = ~std::uint64_t{0}}).error().kind().errno_value != posix::none);
}

TEST_CASE("Requests that make no sense are refused, each in its way")
{
    world_type w;
    auto s = w.make_space();
    CHECK(s->map({.length = 0}).error() == errors::invalid_argument);
    CHECK(s->map(at(base + 1, 1)).error() == errors::invalid_argument);
    CHECK(s->map(at(virt_addr{0}, 1)).error() == errors::not_permitted);
    CHECK(s->map(at(world_type::layout.highest, 1)).error() == errors::out_of_memory);
    CHECK(s->map({.length = page, .kind = sharing::shared}).error() == errors::invalid_argument);
    CHECK(s->unmap({base + 1, base + page}).error() == errors::invalid_argument);
    CHECK(s->unmap({base, base}).error() == errors::invalid_argument);
    CHECK(s->unmap(pages(world_type::layout.highest, 1)).error() == errors::invalid_argument);
    CHECK(s->protect(pages(base, 1), mm::user_read).error() == mm::not_mapped);
    CHECK(s->discard(pages(base, 1)).error() == mm::not_mapped);
    CHECK(s->region_at(base).error() == mm::no_region);
    CHECK(regions_of(*s).empty());
}

TEST_CASE("Regions split where their parts differ, and join where they do not")
{
    world_type w;
    file f{w.pages, 20};
    auto s = w.make_space();
    CHECK(s->map(at(base, 10)));
    CHECK(s->protect(pages(base + 3 * page, 2), mm::user_read));
    CHECK(regions_of(*s).size() == 3);
    CHECK(s->protect(pages(base + 3 * page, 2), mm::user_data));
    REQUIRE(regions_of(*s).size() == 1);
    CHECK(s->unmap(pages(base + 4 * page, 1)));
    CHECK(regions_of(*s).size() == 2);
    CHECK(s->map(at(base + 4 * page, 1)));
    REQUIRE(regions_of(*s).size() == 1);
    CHECK(regions_of(*s)[0].range == pages(base, 10));

    // Parts of a file join only if they are neighbours in the file as well.
    auto part = at(base + 20 * page, 2);
    part.backing = ref<mm::pager>{f};
    part.offset = 4 * page;
    CHECK(s->map(part));
    part.address = base + 22 * page;
    CHECK(s->map(part));
    CHECK(regions_of(*s).size() == 3);
    part.offset = 6 * page;
    CHECK(s->map(part));
    CHECK(regions_of(*s).size() == 2);
    CHECK(s->unmap(pages(base + 21 * page, 1)));
    CHECK(s->region_at(base + 22 * page)->offset == 6 * page);
    CHECK(s->region_at(base + 22 * page)->backing->name() == "/a/file");
}

TEST_CASE("A fault does what is needed and no more, and says what it was")
{
    world_type w;
    file f{w.pages, 4};
    auto s = w.make_space();
    auto private_file = at(base + 10 * page, 5);
    private_file.backing = ref<mm::pager>{f};
    auto shared_file = at(base + 20 * page, 5);
    shared_file.backing = ref<mm::pager>{f};
    shared_file.kind = sharing::shared;
    CHECK(s->map(at(base, 3)));
    CHECK(s->map(private_file));
    CHECK(s->map(shared_file));

    CHECK(*s->handle_fault(base + 5, access::read) == fault_kind::demand_zero);
    CHECK(*s->handle_fault(base + 5, access::write) == fault_kind::spurious);
    CHECK(s->handle_fault(base + 5, access::execute).error() == mm::access_denied);
    CHECK(s->handle_fault(base - 1, access::read).error() == mm::no_region);
    CHECK(s->handle_fault(base + 3 * page, access::read).error() == mm::no_region);
    CHECK(s->handle_fault(w.kernel_page, access::read).error() == mm::no_region);

    CHECK(*s->handle_fault(base + 10 * page, access::read) == fault_kind::paged_in);
    CHECK(*s->handle_fault(base + 10 * page, access::write) == fault_kind::copied);
    CHECK(*s->handle_fault(base + 11 * page, access::write) == fault_kind::copied);
    const auto beyond = s->handle_fault(base + 14 * page + 7, access::read);
    CHECK(beyond.error() == mm::beyond_end);
    CHECK(beyond.error().context() == (base + 14 * page + 7).value());
    CHECK_FALSE(f.dirty[0]);

    CHECK(*s->handle_fault(base + 20 * page, access::read) == fault_kind::paged_in);
    CHECK_FALSE(f.dirty[0]);
    CHECK(*s->handle_fault(base + 20 * page, access::write) == fault_kind::made_writable);
    CHECK(f.dirty[0]);
    CHECK(*s->handle_fault(base + 21 * page, access::write) == fault_kind::paged_in);
    CHECK(f.dirty[1]);

    // A page that its cache has dropped belongs to its last mapping.
    CHECK(*s->handle_fault(base + 12 * page, access::read) == fault_kind::paged_in);
    f.contents[2].reset();
    CHECK(*s->handle_fault(base + 12 * page, access::write) == fault_kind::reused);

    {
        auto child = *s->fork();
        CHECK(*s->handle_fault(base, access::write) == fault_kind::copied);
        CHECK(*child->handle_fault(base + 21 * page, access::write) == fault_kind::made_writable);
        CHECK(*child->handle_fault(base + 21 * page, access::write) == fault_kind::spurious);
        CHECK(*child->handle_fault(base, access::write) == fault_kind::reused);
    }
    CHECK(w.memory.faults(fault_kind::reused) == 2);
    CHECK(s->unmap(pages(base, 100)));
    CHECK_FALSE(f.ended);
}

TEST_CASE_TEMPLATE("One fault is enough for every CPU, whatever it had remembered", Format, EXO_EVERY_FORMAT)
{
    world<Format> w{512, 2};
    file f{w.pages, 4};
    auto s = w.make_space();
    auto of_file = at(base + 10 * page, 4);
    of_file.backing = ref<mm::pager>{f};
    auto shared = at(base + 20 * page, 4);
    shared.backing = ref<mm::pager>{f};
    shared.kind = sharing::shared;
    CHECK(s->map(at(base, 4)));
    CHECK(s->map(of_file));
    CHECK(s->map(shared));
    const auto expect = [&](virt_addr a, mm::access tried, fault_kind kind) {
        for (unsigned cpu = 0; cpu < 2; ++cpu)
            w.machine.cpus.on(cpu, [&] {
                w.activate(*s);
                CHECK_FALSE(w.machine.access(a, tried));
                w.machine.unit.speculate(cpu, a);
            });
        CHECK(*s->handle_fault(a, tried) == kind);
        for (unsigned cpu = 0; cpu < 2; ++cpu)
            w.machine.cpus.on(cpu, [&] {
                // x86 may remember that less was granted; the fault that this causes makes it forget.
                if (!Format::caches_absent && !w.machine.access(a, tried))
                    CHECK(*s->handle_fault(a, tried) == fault_kind::spurious);
                CHECK(w.machine.access(a, tried));
            });
    };
    expect(base, access::read, fault_kind::demand_zero);
    expect(base + 10 * page, access::read, fault_kind::paged_in);
    expect(base + 10 * page, access::write, fault_kind::copied);
    expect(base + 20 * page, access::read, fault_kind::paged_in);
    expect(base + 20 * page, access::write, fault_kind::made_writable);
    {
        auto child = *s->fork();
        if (Format::hierarchical_write)
            expect(base + 20 * page, access::write, fault_kind::made_writable);
        expect(base, access::write, fault_kind::copied);
        expect(base + 10 * page, access::write, fault_kind::copied);
    }
    {
        auto child = *s->fork();
    }
    expect(base, access::write, fault_kind::reused);

    // The file got another page for this place meanwhile: the write has to find that, and so do later reads.
    expect(base + 21 * page, access::read, fault_kind::paged_in);
    const auto old = f.contents[1].frame();
    f.contents[1].reset();
    expect(base + 21 * page, access::write, fault_kind::made_writable);
    CHECK(f.contents[1].frame() != old);
    for (unsigned cpu = 0; cpu < 2; ++cpu)
        w.machine.cpus.on(cpu, [&] {
            CHECK(frame_number{*w.machine.access(base + 21 * page, access::read)} == f.contents[1].frame());
            w.deactivate(*s);
        });
}

TEST_CASE("A stack grows down to its limit, but not into what lies below")
{
    world_type w;
    auto s = w.make_space();
    auto stack = at(base + 1000 * page, 2);
    stack.grows = mm::growth::down;
    stack.limit = 400 * page;
    CHECK(s->map(stack));
    const auto end = base + 1002 * page;
    CHECK(s->handle_fault(end - 50 * page, access::write));
    CHECK(s->region_at(end - 1)->range == virt_range{end - 50 * page, end});
    CHECK(s->statistics().virtual_pages == 50);
    CHECK(s->statistics().resident_pages == 1);
    CHECK(s->handle_fault(end - 400 * page, access::write));
    CHECK(s->handle_fault(end - 400 * page - 1, access::write).error() == mm::no_region);

    CHECK(s->unmap(pages(end - 400 * page, 300)));
    CHECK(s->map(at(end - 360 * page, 2)));
    CHECK(s->handle_fault(end - 358 * page + mm::stack_guard, access::read)); // 256 pages above the neighbour
    CHECK(s->handle_fault(end - 359 * page + mm::stack_guard, access::read).error() == mm::no_region);
}

TEST_CASE("The heap moves with its end, keeps what it held, and forgets what it gave up")
{
    world_type w;
    auto s = w.make_space();
    s->start_brk(base + 100);
    CHECK(s->brk() == base + 100);
    CHECK(*s->set_brk(base + 5 * page + 1, {.data = page * 64}) == base + 5 * page + 1);
    CHECK(s->region_at(base + 5 * page)->heap);
    std::uint64_t value = 42;
    CHECK(s->write(base + page, std::as_bytes(std::span{&value, 1})));
    CHECK(s->write(base + 4 * page, std::as_bytes(std::span{&value, 1})));
    CHECK(s->set_brk(base + 3 * page, {.data = page * 64}));
    CHECK(s->handle_fault(base + 4 * page, access::read).error() == mm::no_region);
    CHECK(s->set_brk(base + 6 * page, {.data = page * 64}));
    CHECK(regions_of(*s).size() == 1);
    CHECK(s->read(base + 4 * page, std::as_writable_bytes(std::span{&value, 1})));
    CHECK(value == 0);
    CHECK(s->read(base + page, std::as_writable_bytes(std::span{&value, 1})));
    CHECK(value == 42);
    CHECK(s->set_brk(base, {.data = page * 64}).error() == errors::invalid_argument);
    CHECK(s->set_brk(base + 65 * page, {.data = page * 64}).error() == errors::out_of_memory);
    CHECK(s->map(at(base + 8 * page, 1)));
    CHECK(s->set_brk(base + 9 * page, {.data = page * 64}).error() == errors::out_of_memory);
    CHECK(s->brk() == base + 6 * page);
    CHECK(s->fork().value()->brk() == base + 6 * page);

    CHECK(s->set_brk(base + 7 * page, {.data = page * 64}));
    CHECK(s->set_brk(base + 7 * page + 1).error() == errors::out_of_memory); // a page stays free before what follows
    CHECK(s->unmap(pages(base + 8 * page, 1)));
    auto stack = at(base + 600 * page, 1);
    stack.grows = mm::growth::down;
    CHECK(s->map(stack));
    const auto guard = stack.address - mm::stack_guard;
    CHECK(s->set_brk(guard).error() == errors::out_of_memory);
    CHECK(s->set_brk(guard - page));
}

TEST_CASE("Bytes reach a space that is not loaded, across pages, and stop where a program would be stopped")
{
    world_type w;
    auto s = w.make_space();
    CHECK(s->map(at(base, 3)));
    CHECK(s->map(at(base + 3 * page, 1, mm::user_read)));
    std::vector<unsigned char> sent(2 * page + 100);
    for (std::size_t i = 0; i < sent.size(); ++i)
        sent[i] = static_cast<unsigned char>(i * 7);
    CHECK(s->write(base + 50, std::as_bytes(std::span{sent})));
    std::vector<unsigned char> got(sent.size());
    CHECK(s->read(base + 50, std::as_writable_bytes(std::span{got})));
    CHECK(got == sent);
    CHECK(s->write(base + 2 * page, std::as_bytes(std::span{sent})).error() == mm::access_denied);
    CHECK(s->read(base + 2 * page, std::as_writable_bytes(std::span{got})).error() == mm::no_region);
    CHECK(s->populate(pages(base, 4), access::read));
    CHECK(s->statistics().resident_pages == 4);
}

TEST_CASE("Shared anonymous memory is one memory for all, and lives as long as somebody maps it")
{
    world_type w;
    auto s = w.make_space();
    {
        auto shared = *mm::shared_memory::create(w.heap_, w.pages, w.parker, 3 * page - 1);
        auto request = at(base, 4);
        request.kind = sharing::shared;
        request.backing = std::move(shared);
        CHECK(s->map(request));
    }
    auto child = *s->fork();
    std::uint64_t value = 7;
    CHECK(child->write(base, std::as_bytes(std::span{&value, 1})));
    value = 9;
    CHECK(s->write(base + 2 * page, std::as_bytes(std::span{&value, 1})));
    auto grandchild = *child->fork();
    s.reset();
    child.reset();
    CHECK(grandchild->read(base, std::as_writable_bytes(std::span{&value, 1})));
    CHECK(value == 7);
    CHECK(grandchild->read(base + 2 * page, std::as_writable_bytes(std::span{&value, 1})));
    CHECK(value == 9);
    CHECK(grandchild->handle_fault(base + 3 * page, access::read).error() == mm::beyond_end);
}

TEST_CASE("Fork copies one page, whatever is mapped; a write copies one table per level and the page")
{
    world_type w{8192};
    auto s = w.make_space();
    for (unsigned i = 0; i < 6; ++i) {
        CHECK(s->map(at(base + i * (std::uint64_t{1} << 30), 700)));
        CHECK(s->populate(pages(base + i * (std::uint64_t{1} << 30), 700), access::write));
    }
    const auto before = w.frames_.free_frames();
    auto child = *s->fork();
    CHECK(before - w.frames_.free_frames() == 1);
    CHECK(child->statistics().resident_pages == 6 * 700);
    CHECK(child->handle_fault(base, access::write));
    CHECK(before - w.frames_.free_frames() == 1 + 3 + 1);
    CHECK(w.memory.counted(&mm::memory_counters::tables_unshared) == 3);
    CHECK(child->handle_fault(base + page, access::write));
    CHECK(before - w.frames_.free_frames() == 1 + 3 + 2);
    w.check_counts({s.get(), child.get()});
    child.reset();
    CHECK(before == w.frames_.free_frames());
    // Nobody else is left: nothing is copied.
    CHECK(*s->handle_fault(base, access::write) == fault_kind::reused);
    CHECK(before == w.frames_.free_frames());
}

TEST_CASE("Tables go with the last page in them")
{
    world_type w;
    auto s = w.make_space();
    const auto empty = w.frames_.free_frames();
    CHECK(s->map(at(base + 510 * page, 4))); // in two tables
    CHECK(s->populate(pages(base + 510 * page, 4), access::write));
    CHECK(empty - w.frames_.free_frames() == 4 + 4);
    CHECK(s->unmap(pages(base + 512 * page, 2)));
    CHECK(empty - w.frames_.free_frames() == 3 + 2);
    CHECK(s->discard(pages(base + 510 * page, 2)));
    CHECK(empty == w.frames_.free_frames());
}

TEST_CASE("A path to a table that stayed empty is forgotten before the table is used again")
{
    world_type w;
    auto s = w.make_space();
    CHECK(s->map(at(base, 1)));
    w.activate(*s);
    w.failing.fail_nth(4); // the page, two tables, and then no third
    CHECK(s->handle_fault(base, access::write).error() == errors::out_of_memory);
    w.failing.stop();
    w.machine.unit.speculate(0, base); // remembers the way to the empty table
    CHECK(s->unmap(pages(base, 1)));
    // The freed tables become pages and tables again, with contents that the old way would lead into.
    CHECK(s->map(at(base, 1)));
    CHECK(s->map(at(base + (std::uint64_t{1} << 39), 8)));
    for (unsigned i = 0; i < 8; ++i)
        CHECK(w.store(*s, base + (std::uint64_t{1} << 39) + i * page, 0xffff'ffff'ffff'ffff));
    CHECK(w.store(*s, base, 1));
    CHECK(*w.load(*s, base) == 1);
    w.deactivate(*s);
}
