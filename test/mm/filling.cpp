// What a fault fills beside the page that was touched, and how large pages live: shared by fork, split, reused.

#include <vector>

#include <mm/space_calls.hpp>

using namespace exo;
using namespace space_test;

namespace {

using mm::access;
using mm::fault_kind;
using mm::placement;
using mm::protection;
using format = x86_64::paging_4_level;

template <class Format>
struct large_world : world<Format, greedy> {
    using space = typename world<Format, greedy>::space;

    large_world() : world<Format, greedy>{16384, 2} {}

    [[nodiscard]] std::uint64_t used() { return this->frames_.total_frames() - this->frames_.free_frames(); }
    // The level of the page that maps `a`.
    [[nodiscard]] static unsigned level_of(world<Format, greedy>& w, space& s, virt_addr a)
    {
        return w.memory.tables.find(s.root(), a).level;
    }
    ref<space> with_large_pages(std::uint64_t count)
    {
        auto s = this->make_space();
        CHECK(s->map(at(base, count * 512)));
        for (std::uint64_t i = 0; i < count; ++i)
            CHECK(*s->handle_fault(base + i * large + 5 * page, access::write) == fault_kind::demand_zero);
        CHECK(level_of(*this, *s, base) == 1);
        CHECK(s->statistics().resident_pages == count * 512);
        return s;
    }
};

} // namespace

TEST_CASE_TEMPLATE("A large page is one block, which fork shares and its only user writes", Format, EXO_EVERY_FORMAT)
{
    large_world<Format> w;
    auto s = w.with_large_pages(2);
    CHECK(w.memory.counted(&mm::memory_counters::large_pages_filled) == 2);
    w.activate(*s);
    CHECK(*w.load(*s, base + 77 * page) == 0);
    CHECK(w.store(*s, base + 77 * page, 7));
    {
        auto child = *s->fork();
        w.check_counts({s.get(), child.get()});
        const auto before = w.used();
        // A write copies one page: the large one is split for the space that writes.
        CHECK(*s->handle_fault(base + 77 * page, access::write) == fault_kind::copied);
        CHECK(large_world<Format>::level_of(w, *s, base) == 0);
        CHECK(large_world<Format>::level_of(w, *child, base) == 1);
        CHECK(w.used() - before <= Format::levels + 1);
        CHECK(w.store(*s, base + 77 * page, 8));
        CHECK(w.store(*s, base + large, 9));
        w.check_counts({s.get(), child.get()});
        w.activate(*child);
        CHECK(*w.load(*child, base + 77 * page) == 7);
        CHECK(*w.load(*child, base + large) == 0);
        w.activate(*s);
        w.deactivate(*s);
        // The child is the last user of a block of which the parent has given up one page, and takes it back whole.
        s.reset();
        w.check_counts({child.get()});
        CHECK(*child->handle_fault(base + 77 * page, access::write) == fault_kind::reused);
        CHECK(large_world<Format>::level_of(w, *child, base) == 1);
    }
}

TEST_CASE_TEMPLATE("What is left of a block goes to its last user page by page, and the rest is free", Format,
                   EXO_EVERY_FORMAT)
{
    large_world<Format> w;
    auto s = w.with_large_pages(1);
    const auto whole = w.used();
    {
        auto child = *s->fork();
        for (std::uint64_t i = 0; i < 10; ++i)
            CHECK(*s->handle_fault(base + i * page, access::write) == fault_kind::copied);
    }
    CHECK(w.used() == whole + 1 + 10); // a table, the copies, and the block still in one piece
    CHECK(*s->handle_fault(base + 10 * page, access::write) == fault_kind::reused);
    CHECK(w.used() == whole + 1);
    CHECK(*s->handle_fault(base + 11 * page, access::write) == fault_kind::reused);
    w.check_counts({s.get()});
}

TEST_CASE_TEMPLATE("The last page of a block that is left does not keep the rest of it", Format, EXO_EVERY_FORMAT)
{
    large_world<Format> w;
    auto s = w.with_large_pages(1);
    const auto whole = w.used();
    {
        auto child = *s->fork();
        CHECK(s->unmap(pages(base, 511)));
    }
    CHECK(*s->handle_fault(base + 511 * page, access::write) == fault_kind::reused);
    CHECK(w.used() == whole - 511 + 1); // and a table
    w.check_counts({s.get()});
}

TEST_CASE("A private page of memory that no record describes is copied when written")
{
    class device final : public mm::pager {
    public:
        explicit device(frame_number f) : frame_{f} {}
        result<frame_number> get_page(std::uint64_t, bool) override { return frame_; }
        void last_reference() noexcept override {}

    private:
        frame_number frame_;
    };
    world<format> w{4096};
    device registers{frames::device(w.machine.memory)};
    auto s = w.make_space();
    auto request = at(base, 1);
    request.backing = ref<mm::pager>{registers};
    CHECK(s->map(request));
    CHECK(*s->handle_fault(base, access::read) == fault_kind::paged_in);
    CHECK(*s->handle_fault(base, access::write) == fault_kind::copied);
}

TEST_CASE_TEMPLATE("Parts of a large page are unmapped and protected on their own", Format, EXO_EVERY_FORMAT)
{
    large_world<Format> w;
    auto s = w.with_large_pages(3);
    w.activate(*s);
    for (std::uint64_t i = 0; i < 3 * 512; i += 8)
        CHECK(w.store(*s, base + i * page, i));
    const auto before = w.used();
    CHECK(s->unmap(pages(base + 100 * page, 200)));
    CHECK(before - w.used() == 200 - 1);
    CHECK(s->protect(pages(base + 512 * page, 512), mm::user_read));
    CHECK(large_world<Format>::level_of(w, *s, base + large) == 1);
    CHECK_FALSE(w.machine.store(base + 600 * page, 1));
    CHECK(s->protect(pages(base + 1024 * page + 3 * page, 5), protection::none));
    CHECK(large_world<Format>::level_of(w, *s, base + 2 * large) == 0);
    w.check_counts({s.get()});
    for (std::uint64_t i = 0; i < 1024; i += 8)
        if (i < 100 || i >= 300)
            CHECK(*w.load(*s, base + i * page) == i);
    CHECK(w.load(*s, base + 1030 * page).error() == mm::access_denied);
    CHECK(s->discard(pages(base + 512 * page, 512)));
    CHECK(before - w.used() >= 200 - 1 + 512 - 1);
    w.deactivate(*s);
}

TEST_CASE_TEMPLATE("A large page that is split is forgotten by all before its parts appear, and its absence after that",
                   Format, EXO_EVERY_FORMAT)
{
    large_world<Format> w;
    auto s = w.with_large_pages(1);
    const auto everywhere = [&](auto act) {
        for (unsigned cpu = 0; cpu < 2; ++cpu)
            w.machine.cpus.on(cpu, act);
    };
    everywhere([&] {
        w.activate(*s);
        CHECK(w.store(*s, base + 7 * page, 7));
    });
    w.machine.entries.after_each_change([&] {
        for (unsigned cpu = 0; cpu < 2; ++cpu)
            w.machine.unit.speculate(cpu, base + 9 * page);
    });
    CHECK(s->unmap(pages(base + 100 * page, 1)));
    w.machine.entries.after_each_change({});
    CHECK(large_world<Format>::level_of(w, *s, base) == 0);
    everywhere([&] {
        CHECK(*w.load(*s, base + 7 * page) == 7);
        CHECK(*w.load(*s, base + 9 * page) == 0);
        w.deactivate(*s);
    });
}

TEST_CASE("Large pages are for big memory while much is free, or for who asks, and never for who declines")
{
    const mm::fill_policy policy;
    mm::region r;
    const auto block = virt_range::of_size(base, large);
    const mm::memory_left half{8192, 16384};
    const mm::memory_left little{1200, 16384};
    CHECK(policy.wants_large(r, block, half));
    CHECK_FALSE(policy.wants_large(r, block, little));
    r.advice.large = mm::large_pages::wanted;
    CHECK(policy.wants_large(r, block, little));
    CHECK_FALSE(policy.wants_large(r, block, {600, 16384}));
    r.advice.large = mm::large_pages::refused;
    CHECK_FALSE(policy.wants_large(r, block, half));
    r.advice.large = mm::large_pages::wanted;
    r.grows = mm::growth::down;
    CHECK_FALSE(policy.wants_large(r, block, half));

    // Where the block does not fit the region, or a table stands there, or no block is left: small pages.
    world<format, mm::fill_policy> w{8192};
    auto s = w.make_space();
    CHECK(s->map(at(base, 700)));
    CHECK(s->handle_fault(base + 600 * page, access::write));
    CHECK(s->statistics().resident_pages == 1);
    CHECK(s->handle_fault(base, access::write));
    CHECK(s->statistics().resident_pages == 1 + 512);
}

TEST_CASE("A program that goes through fresh memory meets a fault ever more rarely, up to every 16 pages")
{
    world<format, mm::fill_policy> w{4096};
    auto s = w.make_space();
    CHECK(s->map(at(base + page, 400)));
    const auto faults = [&](std::uint64_t first, std::uint64_t count) {
        std::uint64_t n = 0;
        for (std::uint64_t i = first; i < first + count; ++i)
            n += *s->handle_fault(base + i * page, access::write) == fault_kind::demand_zero;
        return n;
    };
    CHECK(faults(1, 1 + 2 + 4 + 8 + 16 + 16) == 6);
    CHECK(s->statistics().resident_pages == 47);
    CHECK(s->handle_fault(base + 200 * page, access::write)); // elsewhere: one page
    CHECK(s->statistics().resident_pages == 48);
    CHECK(s->handle_fault(base + 100 * page, access::write));
    CHECK(s->statistics().resident_pages == 49);
    CHECK(faults(190, 10) == 1 + 1 + 1 + 1); // 190, 191, 193, 197 as far as what is there
    CHECK(faults(399, 2) == 2); // no further than the region
    CHECK(w.memory.counted(&mm::memory_counters::pages_filled_ahead) == 47 - 6 + 10 - 4);
    w.check_counts({s.get()});

    // None of it where memory is short.
    CHECK(mm::fill_policy{}.zeroed_pages({}, base + page, 7, {100, 4096}) == 1);
    CHECK(mm::fill_policy{}.zeroed_pages({}, base + page, 7, {4096, 4096}) == 8);
}

TEST_CASE("A fault on a file maps its neighbours that are in memory, for reading, within the region")
{
    world<format, mm::fill_policy> w{4096};
    file f{w.pages, 40};
    {
        auto s = w.make_space();
        for (const std::uint64_t i : {3, 4, 5, 9, 15, 16, 30})
            (void)w.frames_.release(*f.get_page(i, false));
        auto request = at(base + 2 * page, 10); // pages 2 to 11 of the file
        request.backing = ref<mm::pager>{f};
        request.offset = 2 * page;
        CHECK(s->map(std::move(request)));
        CHECK(*s->handle_fault(base + 4 * page, access::read) == fault_kind::paged_in);
        CHECK(s->statistics().resident_pages == 4);
        CHECK(w.memory.counted(&mm::memory_counters::pages_filled_ahead) == 3);
        CHECK(*s->handle_fault(base + 3 * page, access::read) == fault_kind::spurious);
        CHECK(*s->handle_fault(base + 9 * page, access::write) == fault_kind::copied);
        CHECK(*s->handle_fault(base + 8 * page, access::write) == fault_kind::copied);
        CHECK(s->statistics().resident_pages == 5);
        std::map<frame_number, std::uint32_t> held;
        for (auto& p : f.contents)
            if (p)
                ++held[p.frame()];
        w.check_counts({s.get()}, held);

        // What populate finds there it maps in one go.
        const auto faults = w.memory.faults(fault_kind::paged_in);
        CHECK(s->populate(pages(base + 2 * page, 10), access::read));
        CHECK(s->statistics().resident_pages == 10);
        CHECK(w.memory.faults(fault_kind::paged_in) - faults <= 5);
    }
    f.contents.clear();
}

TEST_CASE("Populating fills whole tables at a time, and large pages where they fit")
{
    world<format, mm::fill_policy> w{16384};
    auto s = w.make_space();
    CHECK(s->map(at(base + 500 * page, 1100)));
    CHECK(s->populate(pages(base + 500 * page, 1100), access::write));
    CHECK(s->statistics().resident_pages == 1100);
    CHECK(w.memory.counted(&mm::memory_counters::large_pages_filled) == 2);
    CHECK(w.memory.faults(fault_kind::demand_zero) == 1 + 2 + 1);
    w.check_counts({s.get()});
}
