// Which CPUs are told what to forget, by whom, and what a CPU may still use of a space that it loads again.

#include "mapper_world.hpp"

#include <cstring>
#include <functional>
#include <optional>

#include <exo/mm/kernel_half_flusher.hpp>

namespace {

using namespace mapper_test;
using format = x86_64::paging_4_level;
using hal::remembered;

constexpr virt_addr page{0x40'0000}, next_page = page + page_size;

// Calls reach their targets after something else has happened.
class late_ipi {
public:
    explicit late_ipi(sim::driven_cpus& cpus) : cpus_{cpus} {}
    void call(const cpu_set& targets, void (*function)(void*) noexcept, void* argument) noexcept
    {
        if (const auto before = std::exchange(meanwhile, {}))
            before();
        cpus_.call(targets, function, argument);
    }
    std::function<void()> meanwhile;

private:
    sim::driven_cpus& cpus_;
};
static_assert(hal::Ipi<late_ipi>);

// Address spaces of a few pages each, which the test maps, changes and has CPUs use.
struct spaces {
    static constexpr unsigned cpu_count = 4;
    using paging = sim::machine<format>::paging_type;
    using shootdown = mm::shootdown<paging, paging, late_ipi, sim::driven_cpus, sim::driven_cpus>;

    struct one {
        one(spaces& all, std::optional<std::uint64_t> space = {})
            : holders{space.value_or(all.tell.new_space())}, root{*mm::allocate_table(all.m.memory, all.m.frames)}
        {
        }
        mm::translation_holders holders;
        phys_addr root;
    };

    explicit spaces(unsigned id_limit = 16)
        : m{256, cpu_count, id_limit}, kernel_root{*mm::allocate_table(m.memory, m.frames)},
          translations(cpu_count), tell{m.paging,         m.paging, late, m.cpus, m.cpus, translations,
                                        kernel_root}
    {
        for (unsigned cpu = 0; cpu < cpu_count; ++cpu)
            m.cpus.on(cpu, [&] { m.paging.load({kernel_root}, remembered::forget); });
    }
    ~spaces()
    {
        for (const auto& violation : m.unit.violations())
            FAIL_CHECK(violation);
    }

    // Puts `frame` there, and tells.
    void map(one& s, phys_addr frame, unsigned by = 0, virt_addr at = page)
    {
        phys_addr table = s.root;
        for (unsigned level = format::levels - 1; level > 0; --level) {
            auto* slot = slot_in(table, at, level);
            if (*slot == 0)
                m.entries.store(slot, format::table(*mm::allocate_table(m.memory, m.frames)));
            table = format::address(*slot, level);
        }
        m.entries.exchange(slot_in(table, at, 0), format::leaf(frame, 0, {.access = mm::user_data}));
        m.entries.publish();
        mm::invalidation what;
        what.add(at, page_size, 1, false);
        m.cpus.on(by, [&] { tell.flush(what, s.holders); });
    }
    // Runs f as CPU `cpu`, with interrupts off.
    template <class F>
    void pinned_to(unsigned cpu, F f)
    {
        m.cpus.on(cpu, [&] {
            const sync::pin off{m.cpus, m.cpus};
            f();
        });
    }
    void load(unsigned cpu, one& s)
    {
        pinned_to(cpu, [&] { tell.load(s.root, s.holders); });
    }
    void idle(unsigned cpu, one& s)
    {
        pinned_to(cpu, [&] { tell.unload(s.holders); });
    }
    void linger(unsigned cpu)
    {
        pinned_to(cpu, [&] { tell.linger(); });
    }
    // Where an access of that CPU goes; the MMU finds out if that is not what the tables say.
    std::optional<phys_addr> use(unsigned cpu, virt_addr at = page)
    {
        const auto went = m.unit.access(cpu, at, mm::access::read, sim::privilege::user);
        return went ? std::optional{*went} : std::nullopt;
    }
    [[nodiscard]] bool remembers(unsigned cpu) { return m.unit.remembers(cpu, page); }
    [[nodiscard]] std::vector<std::size_t> calls() const
    {
        std::vector<std::size_t> all;
        for (unsigned cpu = 0; cpu < cpu_count; ++cpu)
            all.push_back(m.cpus.calls_served(cpu));
        return all;
    }
    [[nodiscard]] std::uint64_t count(std::string_view name)
    {
        auto source = tell.make_metrics_source();
        for (std::size_t i = 0; i < source.size(); ++i)
            if (source.describe(i).name == name)
                return source.read(i);
        FAIL("nobody counts that");
        return 0;
    }

    sim::machine<format> m;
    phys_addr kernel_root;
    std::vector<shootdown::processor> translations;
    late_ipi late{m.cpus};
    shootdown tell;

private:
    format::entry* slot_in(phys_addr table, virt_addr at, unsigned level)
    {
        return reinterpret_cast<format::entry*>(m.memory.to_pointer(table)) + hal::index_at<format>(at, level);
    }
};

using calls = std::vector<std::size_t>;
constexpr phys_addr here{0x9000}, there{0xa000};

} // namespace

TEST_CASE("exactly the CPUs that run the space are told, in one round, whoever asks; idle ones never are")
{
    for (const unsigned id_limit : {1u, 16u}) {
        spaces w{id_limit};
        spaces::one s{w};
        for (const unsigned cpu : {0u, 1u, 3u})
            w.load(cpu, s);
        w.map(s, here);
        CHECK(w.calls() == calls{0, 1, 0, 1});
        w.map(s, there, 2); // from outside of the space
        CHECK(w.calls() == calls{1, 2, 0, 2});
        w.idle(3, s);
        const auto off = w.m.cpus.save_and_disable(); // interrupts may be off
        w.map(s, here);
        w.m.cpus.restore(off);
        CHECK(w.calls() == calls{1, 3, 0, 2});
        w.pinned_to(1, [&] {
            w.tell.unload(); // whatever it is
            w.tell.unload();
        });
        w.map(s, there);
        CHECK(w.calls() == calls{1, 3, 0, 2});
        CHECK(w.m.cpus.enabled());
        CHECK(w.count("exo_mm_flushes_page_total") == 4);
        CHECK(w.count("exo_mm_shootdowns_total") == 3);
        CHECK(w.count("exo_mm_shootdown_cpus_total") == 2 + 3 + 1);
        CHECK(w.m.unit.current(3).table == w.kernel_root);
    }
}

TEST_CASE(
    "a CPU enters the space that it has loaded, unless somebody is alone with it, and is told which of the two it was")
{
    spaces w;
    spaces::one s{w};
    w.load(1, s);
    const auto enters = [&](unsigned cpu) {
        std::pair<bool, bool> found;
        w.m.cpus.on(cpu, [&] {
            const auto inside = w.tell.enter(s.holders);
            found = {bool{inside}, inside.kept_out()};
        });
        return found;
    };
    const std::pair in{true, false}, not_loaded{false, false}, kept_out{false, true};
    CHECK(enters(1) == in);
    CHECK(enters(0) == not_loaded);
    w.tell.close(s.holders);
    CHECK(enters(1) == kept_out);
    CHECK(enters(0) == not_loaded);
    w.tell.open(s.holders);
    CHECK(enters(1) == in);
    CHECK(w.m.cpus.enabled());
}

TEST_CASE("a CPU that lingers in a space is called once and leaves it; one that came back meanwhile stays")
{
    for (const unsigned id_limit : {1u, 16u}) {
        spaces w{id_limit};
        spaces::one s{w};
        w.map(s, here);
        for (const unsigned cpu : {1u, 2u}) {
            w.load(cpu, s);
            w.linger(cpu);
        }
        w.load(2, s);
        CHECK(w.use(2) == here);
        w.map(s, there);
        CHECK(w.calls() == calls{0, 1, 1, 0});
        CHECK(w.m.unit.current(1).table == w.kernel_root);
        CHECK(w.m.unit.current(2).table == s.root);
        CHECK(w.use(2) == there);
        w.map(s, here);
        CHECK(w.calls() == calls{0, 1, 2, 0});
        w.linger(1); // in the kernel's own root
        w.load(1, s);
        CHECK(w.use(1) == here);
        w.map(s, there);
        CHECK(w.use(1) == there);
        CHECK(w.calls() == calls{0, 2, 3, 0});
    }
}

TEST_CASE("a space that ends is loaded nowhere, and no CPU is called that had not loaded it")
{
    spaces w;
    spaces::one s{w};
    spaces::one other{w};
    for (const unsigned cpu : {0u, 1u, 2u}) {
        w.load(cpu, s);
        w.linger(cpu);
    }
    w.load(2, other);
    w.m.cpus.on(0, [&] { w.tell.evict(s.holders); });
    CHECK(s.holders.running.members().empty());
    CHECK(other.holders.running.members().contains(2));
    CHECK(w.calls() == calls{0, 1, 0, 0});
    w.linger(2);
    w.m.cpus.on(1, [&] { w.tell.evict(other.holders); });
    CHECK(other.holders.running.members().empty());
    CHECK(w.calls() == calls{0, 1, 1, 0});
}

TEST_CASE("a CPU that comes back to a space uses what it remembers, unless something had to be forgotten meanwhile")
{
    spaces w;
    spaces::one s{w}, other{w};
    w.map(s, here);
    w.map(other, there);
    w.load(1, s);
    CHECK(w.use(1) == here);
    w.load(1, other);
    CHECK(w.use(1) == there);
    w.load(1, s);
    CHECK(w.remembers(1));
    CHECK(w.use(1) == here);
    w.idle(1, s);
    w.load(1, s);
    CHECK(w.remembers(1));

    // Told while it ran the space, it need not forget the rest when it comes back.
    w.load(0, s);
    CHECK(w.use(0) == here);
    w.map(s, there);
    CHECK(w.use(0) == there);
    CHECK(w.use(1) == there);
    w.idle(1, s);
    w.load(1, s);
    CHECK(w.remembers(1));

    // Not told: it was elsewhere.
    w.load(1, other);
    w.map(s, here);
    CHECK(w.calls() == calls{0, 1, 0, 0});
    w.load(1, s);
    CHECK(!w.remembers(1));
    CHECK(w.use(1) == here);
    CHECK(w.count("exo_mm_space_loads_keeping_total") == 4);
    CHECK(w.count("exo_mm_space_loads_forgetting_total") == 4);
}

TEST_CASE("flushes are counted by how much they forget")
{
    spaces w;
    spaces::one s{w};
    const auto flush = [&](std::uint64_t pages, bool everything, bool global) {
        mm::invalidation what;
        what.add(page, page_size, pages, global);
        if (everything)
            what.add_everything(global);
        w.tell.flush(what, s.holders);
    };
    flush(1, false, true);
    flush(2, false, false);
    flush(mm::invalidation::page_limit, false, false);
    flush(mm::invalidation::page_limit + 1, false, false);
    flush(1, true, false);
    flush(1, true, true);
    CHECK(w.count("exo_mm_flushes_page_total") == 1);
    CHECK(w.count("exo_mm_flushes_range_total") == 2);
    CHECK(w.count("exo_mm_flushes_space_total") == 2);
    CHECK(w.count("exo_mm_flushes_all_total") == 1);
    CHECK(w.count("exo_mm_shootdowns_total") == 0); // no CPU runs the space
}

TEST_CASE("without ids every load forgets")
{
    spaces w{1};
    spaces::one s{w}, other{w};
    w.map(s, here);
    w.map(other, there);
    w.load(1, s);
    CHECK(w.use(1) == here);
    w.load(1, other);
    CHECK(w.use(1) == there);
    w.map(s, there);
    w.load(1, s);
    CHECK(w.use(1) == there);
    CHECK(w.count("exo_mm_space_loads_keeping_total") == 0);
}

TEST_CASE("a call that arrives when the CPU has left the space counts neither for it nor for the one loaded")
{
    spaces w;
    spaces::one s{w}, other{w};
    w.map(s, here);
    w.map(other, here);
    w.load(1, s);
    CHECK(w.use(1) == here);
    w.late.meanwhile = [&] { w.load(1, other); };
    w.map(s, there);
    CHECK(w.calls() == calls{0, 1, 0, 0});
    CHECK(w.use(1) == here);
    w.idle(1, other);
    w.map(other, there); // as often as s
    w.load(1, other);
    CHECK(w.use(1) == there);
    w.load(1, s);
    CHECK(w.use(1) == there);
}

TEST_CASE("calls of two flushes that arrive in the other order leave nothing behind")
{
    spaces w;
    spaces::one s{w};
    w.map(s, here);
    w.load(1, s);
    CHECK(w.use(1) == here);
    w.late.meanwhile = [&] { w.map(s, here, 2); };
    w.map(s, there);
    CHECK(w.calls() == calls{0, 2, 0, 0});
    CHECK(w.use(1) == here);
    w.idle(1, s);
    w.load(1, s);
    CHECK(w.use(1) == here);
    w.idle(1, s);
    w.load(1, s); // and now it is known
    CHECK(w.remembers(1));
}

TEST_CASE("a call that a later one overtakes, and that comes too late then, is missed")
{
    spaces w;
    spaces::one s{w}, other{w};
    w.map(s, here);
    w.map(s, here, 0, next_page);
    w.load(1, s);
    CHECK(w.use(1) == here);
    CHECK(w.use(1, next_page) == here);
    w.late.meanwhile = [&] {
        w.map(s, there, 2, next_page);
        w.load(1, other);
    };
    w.map(s, there);
    w.load(1, s);
    CHECK(w.use(1) == there);
    CHECK(w.use(1, next_page) == there);
}

TEST_CASE("a space is not taken for one that is gone, though it stands in the same place")
{
    spaces w;
    std::optional<spaces::one> s{std::in_place, w};
    w.map(*s, here);
    w.load(1, *s);
    CHECK(w.use(1) == here);
    w.idle(1, *s);
    s.emplace(w);
    w.map(*s, there);
    w.load(1, *s);
    CHECK(w.use(1) == there);
}

TEST_CASE("a table of the half that all spaces share is forgotten under every id before it is used again")
{
    using machine = sim::machine<format>;
    using retired = mm::retired_tables<format, sim::physical_memory, machine::entries_type, sim::frame_pool>;
    constexpr virt_addr shared{0xffff'8000'0000'0000};
    machine m{256};
    const phys_addr one = *mm::allocate_table(m.memory, m.frames), other = *mm::allocate_table(m.memory, m.frames);
    mm::mapper<format, sim::physical_memory, machine::entries_type, sim::frame_pool> map{one, m.memory, m.entries,
                                                                                         m.frames};
    mm::shared_half_flusher flusher{m.paging};
    mm::flush_batch<decltype(flusher), retired> batch{flusher, retired{m.memory, m.entries, m.frames}};
    const mm::page_attributes kernel_data{.access = mm::kernel_data, .global = true};
    REQUIRE(map.map_page(shared, here, kernel_data, batch));
    const auto top = hal::index_at<format>(shared, format::levels - 1) * sizeof(format::entry);
    std::memcpy(m.memory.to_pointer(other + top), m.memory.to_pointer(one + top), sizeof(format::entry));

    m.paging.load({other, hal::address_space_id{2}}, remembered::forget);
    CHECK(m.access(shared, mm::access::read, sim::privilege::kernel));
    m.paging.load({one, hal::address_space_id{1}}, remembered::forget);
    REQUIRE(map.unmap_page(shared, batch));
    batch.flush();
    CHECK(!m.access(shared, mm::access::read, sim::privilege::kernel)); // the page, under its own id
    REQUIRE(map.map_page(shared, phys_addr{}, kernel_data, batch, 1)); // in place of the empty table
    batch.flush();
    m.paging.load({other, hal::address_space_id{2}}, remembered::keep);
    CHECK(m.access(shared, mm::access::read, sim::privilege::kernel) == phys_addr{});
    CHECK(m.unit.violations().empty());
}

TEST_CASE("what the kernel's half loses, every CPU has forgotten before its memory is used again")
{
    using machine = sim::machine<format>;
    using retired = mm::retired_tables<format, sim::physical_memory, machine::entries_type, sim::frame_pool>;
    constexpr virt_addr shared{0xffff'8000'0000'0000};
    constexpr unsigned cpu_count = 3;
    machine m{256, cpu_count};
    const phys_addr root = *mm::allocate_table(m.memory, m.frames);
    mm::mapper<format, sim::physical_memory, machine::entries_type, sim::frame_pool> map{root, m.memory, m.entries,
                                                                                         m.frames};
    mm::kernel_half_flusher<machine::paging_type, sim::driven_cpus, sim::driven_cpus, sim::driven_cpus> flusher{
        m.paging, m.cpus, m.cpus};
    mm::flush_batch<decltype(flusher), retired> batch{flusher, retired{m.memory, m.entries, m.frames}};
    const auto reaches = [&](unsigned cpu) {
        return m.unit.access(cpu, shared, mm::access::read, sim::privilege::kernel).has_value();
    };
    for (unsigned cpu = 0; cpu < cpu_count; ++cpu)
        m.cpus.on(cpu, [&] { m.paging.load({root, hal::address_space_id{1}}, remembered::forget); });
    const auto map_and_unmap = [&](unsigned by, unsigned users) {
        REQUIRE(map.map_page(shared, here, {.access = mm::kernel_data, .global = true}, batch));
        batch.flush();
        for (unsigned cpu = 0; cpu < users; ++cpu)
            CHECK(reaches(cpu));
        m.cpus.on(by, [&] {
            REQUIRE(map.unmap_page(shared, batch));
            batch.flush();
        });
        for (unsigned cpu = 0; cpu < users; ++cpu)
            CHECK(!reaches(cpu));
    };
    map_and_unmap(0, 1); // while the others have not started
    CHECK(m.cpus.calls_served(1) == 0);
    flusher.call_others(m.cpus);
    map_and_unmap(1, cpu_count);
    CHECK(m.unit.violations().empty());
}

TEST_CASE("a CPU gives each of the spaces that it ran last an id, and takes back the one given out first")
{
    constexpr unsigned ids = mm::remembered_spaces::capacity;
    const auto is = [](mm::remembered_spaces::choice c, unsigned id, remembered what) {
        return c.id == hal::address_space_id{static_cast<std::uint16_t>(id)} && c.what == what;
    };
    mm::remembered_spaces known;
    for (unsigned space = 1; space <= ids; ++space)
        CHECK(is(known.choose(space, 0, 4096), space, remembered::forget));
    for (unsigned space = 1; space <= ids; ++space)
        CHECK(is(known.choose(space, 0, 4096), space, remembered::keep));
    CHECK(is(known.choose(ids + 1, 0, 4096), 1, remembered::forget));
    CHECK(is(known.choose(1, 0, 4096), 2, remembered::forget));
    CHECK(is(known.choose(ids + 1, 0, 4096), 1, remembered::keep));
    CHECK(is(known.choose(ids + 1, 3, 4096), 1, remembered::forget));
    known.forgot(4);
    CHECK(is(known.choose(ids + 1, 4, 4096), 1, remembered::keep));
    known.forgot(6); // the fifth may still be to come
    CHECK(is(known.choose(ids + 1, 6, 4096), 1, remembered::forget));
    known.forgot(8);
    known.forgot(7);
    CHECK(is(known.choose(ids + 1, 8, 4096), 1, remembered::forget));

    mm::remembered_spaces few;
    CHECK(is(few.choose(1, 0, 3), 1, remembered::forget));
    CHECK(is(few.choose(2, 0, 3), 2, remembered::forget));
    CHECK(is(few.choose(3, 0, 3), 1, remembered::forget));
    mm::remembered_spaces none;
    CHECK(is(none.choose(1, 0, 1), 0, remembered::forget));
    CHECK(is(none.choose(1, 0, 1), 0, remembered::forget));
}
