// The simulated machine keeps the laws of the traits that it models, and catches who breaks them.

#include <doctest/doctest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include <exo/arch/riscv64/sv48.hpp>
#include <exo/arch/x86_64/paging.hpp>
#include <exo/arch/x86_64/tlb.hpp>
#include <exo/mm/shootdown.hpp>
#include <exo/sim/machine.hpp>

#include <laws/entry_store_laws.hpp>
#include <laws/frame_source_laws.hpp>
#include <laws/interrupt_control_laws.hpp>
#include <laws/ipi_laws.hpp>
#include <laws/phys_access_laws.hpp>
#include <laws/tlb_laws.hpp>

namespace {

using namespace exo;
using try_to = mm::access;
using format = x86_64::paging_4_level;
using entry = format::entry;

constexpr hal::page_attributes user_data{.access = hal::protection::user | hal::protection::read |
                                                   hal::protection::write};

// Whether f ends the program by a failed check.
template <class F>
bool panics(F f)
{
    std::fflush(nullptr);
    const pid_t child = ::fork();
    if (child == 0) {
        (void)!std::freopen("/dev/null", "w", stderr);
        struct sigaction plain {};
        plain.sa_handler = SIG_DFL;
        ::sigaction(SIGABRT, &plain, nullptr); // the test runner has its own
        f();
        ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFSIGNALED(status);
}

// Tables written by hand: one path, so that a test decides what is told to whom.
template <class Format>
struct by_hand : sim::machine<Format> {
    explicit by_hand(unsigned cpu_count = 1, unsigned id_limit = 16) : sim::machine<Format>{64, cpu_count, id_limit} {}

    phys_addr new_table()
    {
        const auto f = *this->frames.allocate(0);
        std::memset(this->memory.to_pointer(f.address()), 0, page_size);
        return f.address();
    }
    typename Format::entry* slot(phys_addr table, virt_addr v, unsigned level)
    {
        return reinterpret_cast<typename Format::entry*>(this->memory.to_pointer(table)) +
               hal::index_at<Format>(v, level);
    }
    // Where the entry for `v` at `level` stands, with what leads there.
    typename Format::entry* path(phys_addr root, virt_addr v, unsigned level)
    {
        phys_addr table = root;
        for (unsigned at = hal::root_level<Format>; at > level; --at) {
            auto* here = slot(table, v, at);
            if (*here == 0)
                *here = Format::table(new_table());
            table = Format::address(*here, at);
        }
        return slot(table, v, level);
    }
    void activate(phys_addr root) { this->paging.load({root, hal::address_space_id{1}}, hal::remembered::forget); }

    void remember(virt_addr v) { (void)this->access(v, try_to::read); }
    bool remembers(virt_addr v) { return this->unit.remembers(this->cpus.current_cpu(), v); }
    bool allows(virt_addr v, try_to tried, sim::privilege by) { return this->access(v, tried, by).has_value(); }
};

constexpr virt_addr page{0x1234'5000};

template <class Format, class Paging>
void check_tlb_of(by_hand<Format>& m, Paging& paging)
{
    const phys_addr roots[] = {m.new_table(), m.new_table()};
    const virt_addr large{0x8000'0000};
    for (const phys_addr root : roots) {
        for (std::uint64_t i = 0; i < 4; ++i)
            *m.path(root, page + i * page_size, 0) = Format::leaf(phys_addr{i * page_size}, 0, user_data);
        auto global = user_data;
        global.global = true;
        *m.path(root, page + 8 * page_size, 0) = Format::leaf(phys_addr{0}, 0, global);
        *m.path(root, large, 1) = Format::leaf(phys_addr{0}, 1, user_data);
    }
    laws::check_tlb(m, paging, roots[0], roots[1], page, page + 8 * page_size, large + 5 * page_size);
    CHECK(m.unit.violations().empty());
}

// CR3, CR4, INVLPG and INVPCID as the SDM describes them, for CPU 0 of the simulated machine.
class x86_processor {
public:
    x86_processor(sim::mmu<format>& unit, const x86_64::cpu_features& features)
        : unit_{unit}, features_{features}, cr4_{features.global_pages ? x86_64::cr4::global_pages : 0}
    {
    }

    const x86_64::cpu_features& features() const noexcept { return features_; }
    std::uint64_t read_cr3() const noexcept { return cr3_; }
    void write_cr3(std::uint64_t value) noexcept
    {
        EXO_CHECK(ids() || (value & (x86_64::cr3::id_mask | x86_64::cr3::keep)) == 0);
        cr3_ = value & ~x86_64::cr3::keep;
        unit_.load(0, {phys_addr{value & format::address_mask}, id_in(value)},
                   (value & x86_64::cr3::keep) != 0 ? hal::remembered::keep : hal::remembered::forget);
        if ((cr4_ & x86_64::cr4::global_pages) == 0)
            unit_.invalidate_all(0);
    }
    std::uint64_t read_cr4() const noexcept { return cr4_; }
    void write_cr4(std::uint64_t value) noexcept
    {
        const std::uint64_t changed = cr4_ ^ value;
        if ((changed & value & x86_64::cr4::pcid) != 0)
            EXO_CHECK(features_.pcid && (cr3_ & x86_64::cr3::id_mask) == 0);
        if ((changed & x86_64::cr4::global_pages) != 0)
            unit_.invalidate_all(0);
        cr4_ = value;
    }
    void invlpg(std::uint64_t address) noexcept { unit_.invalidate_page(0, virt_addr{address}); }
    void invpcid(x86_64::invpcid_type type, const x86_64::invpcid_descriptor& what) noexcept
    {
        EXO_CHECK(features_.invpcid);
        EXO_CHECK(what.id <= (ids() ? x86_64::cr3::id_mask : 0));
        if (type == x86_64::invpcid_type::all)
            return unit_.invalidate_all(0);
        EXO_CHECK(type == x86_64::invpcid_type::id);
        unit_.invalidate_space(0, id_in(what.id));
    }

private:
    bool ids() const { return (cr4_ & x86_64::cr4::pcid) != 0; }
    static hal::address_space_id id_in(std::uint64_t value)
    {
        return hal::address_space_id{static_cast<std::uint16_t>(value & x86_64::cr3::id_mask)};
    }

    sim::mmu<format>& unit_;
    const x86_64::cpu_features features_;
    std::uint64_t cr3_{};
    std::uint64_t cr4_;
};

// The two models over it, as one object.
struct x86_instructions {
    x86_processor* cpu;
    const x86_64::cpu_features& features() const noexcept { return cpu->features(); }
    std::uint64_t read_cr3() const noexcept { return cpu->read_cr3(); }
    void write_cr3(std::uint64_t value) noexcept { cpu->write_cr3(value); }
    std::uint64_t read_cr4() const noexcept { return cpu->read_cr4(); }
    void write_cr4(std::uint64_t value) noexcept { cpu->write_cr4(value); }
    void invlpg(std::uint64_t address) noexcept { cpu->invlpg(address); }
    void invpcid(x86_64::invpcid_type type, const x86_64::invpcid_descriptor& what) noexcept
    {
        cpu->invpcid(type, what);
    }
};
struct x86_paging : x86_64::tlb<x86_instructions>, x86_64::page_table_root<x86_instructions> {
    explicit x86_paging(x86_processor& cpu)
        : x86_64::tlb<x86_instructions>{{&cpu}}, x86_64::page_table_root<x86_instructions>{{&cpu}}
    {
    }
};

} // namespace

TEST_CASE("memory, frames, CPUs and entries keep the laws of their traits")
{
    sim::machine<format> m{1500, 4};
    laws::check_phys_access(m.memory, frame_range::of_size(m.memory.frames().begin, 8));
    laws::check_frame_source(m.frames, 6);
    laws::check_interrupt_control(m.cpus);
    m.cpus.on(2, [&] { laws::check_ipi(m.cpus, m.cpus, m.cpus, cpu_set::first(4)); });
    laws::check_ipi(m.cpus, m.cpus, m.cpus, cpu_set::of(3));
    entry slot = 0;
    laws::check_entry_store<entry>(m.entries, &slot);
    CHECK(m.unit.violations().empty());
}

TEST_CASE_TEMPLATE("the TLB of the simulated machine keeps the laws", Format, x86_64::paging_4_level, riscv64::sv48)
{
    for (const unsigned id_limit : {1u, 16u}) {
        by_hand<Format> m{1, id_limit};
        check_tlb_of(m, m.paging);
    }
}

TEST_CASE("the TLB of x86-64 keeps the laws over the instructions that a CPU has, and uses none that it has not")
{
    using x86_64::cpu_features;
    const cpu_features cpus[] = {
        {.global_pages = true},
        {.global_pages = true, .invpcid = true},
        {.global_pages = true, .pcid = true},
        {.global_pages = true, .pcid = true, .invpcid = true},
    };
    for (const cpu_features& features : cpus) {
        by_hand<format> m;
        x86_processor cpu{m.unit, features};
        cpu.write_cr4(cpu.read_cr4() | (x86_64::uses_ids(features) ? x86_64::cr4::pcid : 0));
        x86_paging paging{cpu};
        CHECK(paging.id_limit() == (features.pcid && features.invpcid ? 4096 : 1));
        check_tlb_of(m, paging);
    }
}

TEST_CASE("a CPU without global pages forgets everything when its root is loaded again")
{
    by_hand<format> m;
    x86_processor cpu{m.unit, {}};
    x86_paging paging{cpu};
    const phys_addr root = m.new_table();
    *m.path(root, page, 0) = format::leaf(phys_addr{0}, 0, user_data);
    paging.load({root}, hal::remembered::forget);
    m.remember(page);
    REQUIRE(m.remembers(page));
    paging.invalidate_all();
    CHECK(!m.remembers(page));
}

TEST_CASE("the MMU grants what the tables grant, to the kernel and to the user")
{
    using enum hal::protection;
    by_hand<format> m;
    const phys_addr root = m.new_table();
    m.activate(root);
    entry* leaf = m.path(root, page, 0);
    const auto allowed = [&](hal::protection p) {
        *leaf = format::leaf(phys_addr{0x9000}, 0, {.access = p});
        m.paging.invalidate_page(page);
        std::string s;
        for (const auto by : {sim::privilege::user, sim::privilege::kernel, sim::privilege::kernel_user_copy})
            for (const auto tried : {try_to::read, try_to::write, try_to::execute})
                s += m.allows(page, tried, by) ? "rwx"[static_cast<int>(tried)] : '-';
        return s;
    };
    CHECK(allowed(none) == "---------");
    CHECK(allowed(read) == "---r--r--");
    CHECK(allowed(read | write) == "---rw-rw-");
    CHECK(allowed(read | execute) == "---r-xr-x");
    CHECK(allowed(user | read) == "r-----r--");            // SMAP
    CHECK(allowed(user | read | write) == "rw----rw-");
    CHECK(allowed(user | read | execute) == "r-x---r--");  // SMEP

    // W is the conjunction along the path, for the kernel too (CR0.WP).
    *leaf = format::leaf(phys_addr{0x9000}, 0, user_data);
    entry* above = m.path(root, page, 2);
    *above = format::without_write(*above);
    m.paging.invalidate_page(page);
    CHECK(!m.allows(page, try_to::write, sim::privilege::user));
    CHECK(!m.allows(page, try_to::write, sim::privilege::kernel_user_copy));
    CHECK(m.allows(page, try_to::read, sim::privilege::user));
    const auto fault = m.access(page + 3, try_to::write);
    CHECK(fault.error() == sim::page_fault{page + 3, try_to::write, sim::privilege::user, true});
    CHECK(!m.access(page + page_size, try_to::read).error().present);
    CHECK(!m.access(virt_addr{1} + (std::uint64_t{1} << 47), try_to::read));
    CHECK(m.unit.violations().empty());
}

TEST_CASE("the MMU marks what it uses, and walks again for the first write")
{
    by_hand<format> m;
    const phys_addr root = m.new_table();
    m.activate(root);
    entry* leaf = m.path(root, page, 0);
    *leaf = format::leaf(m.new_table(), 0, user_data);
    CHECK(m.load<int>(page));
    CHECK(format::accessed(*leaf));
    CHECK(!format::dirty(*leaf));
    CHECK(m.store(page, 41));
    CHECK(format::dirty(*leaf));
    CHECK(*m.load<int>(page) == 41);
    CHECK(m.unit.violations().empty());
}

TEST_CASE("whoever uses a translation that the tables no longer grant is caught, on the CPU that was not told")
{
    const auto violations_after = [](auto change, try_to tried) {
        by_hand<format> m{2};
        const phys_addr root = m.new_table();
        for (unsigned cpu : {0u, 1u})
            m.cpus.on(cpu, [&] { m.activate(root); });
        entry* leaf = m.path(root, page, 0);
        *leaf = format::leaf(phys_addr{0x9000}, 0, user_data);
        (void)m.cpus.on(1, [&] { return m.access(page, try_to::write); });
        change(m, leaf);
        m.paging.invalidate_page(page); // on CPU 0 only
        (void)m.access(page, tried);
        CHECK(m.unit.violations().empty());
        (void)m.cpus.on(1, [&] { return m.access(page, tried); });
        return m.unit.violations().size();
    };
    CHECK(violations_after([](auto&, entry*) {}, try_to::write) == 0);
    CHECK(violations_after([](auto&, entry* leaf) { *leaf = 0; }, try_to::read) == 1);
    CHECK(violations_after([](auto&, entry* leaf) { *leaf += page_size; }, try_to::read) == 1);
    CHECK(violations_after([](auto&, entry* leaf) { *leaf = format::without_write(*leaf); }, try_to::write) == 1);
    CHECK(violations_after([](auto&, entry* leaf) { *leaf = format::without_write(*leaf); }, try_to::read) == 0);
    // Higher up, and through a path that is remembered.
    CHECK(violations_after([](auto& m, entry*) { *m.path(m.paging.current().table, page, 3) = 0; }, try_to::read) == 1);
    CHECK(violations_after(
              [](auto& m, entry*) {
                  entry* above = m.path(m.paging.current().table, page, 1);
                  *above = format::without_write(*above);
              },
              try_to::write) == 1);
}

TEST_CASE("a path through tables is remembered apart from its pages")
{
    by_hand<format> m;
    const phys_addr root = m.new_table();
    m.activate(root);
    *m.path(root, page, 0) = format::leaf(phys_addr{0x9000}, 0, user_data);
    *m.path(root, page + page_size, 0) = format::leaf(phys_addr{0xa000}, 0, user_data);
    (void)m.access(page, try_to::read);
    *m.path(root, page, 1) = 0; // the table is out of use, and nobody was told
    CHECK(m.access(page + page_size, try_to::read));
    CHECK(m.unit.violations().size() == 1);
}

TEST_CASE("an entry store that is used against its law is caught")
{
    by_hand<format> m;
    const phys_addr root = m.new_table();
    m.activate(root);
    entry* leaf = m.path(root, page, 0);
    m.entries.store(leaf, format::leaf(phys_addr{0x9000}, 0, user_data));
    (void)m.access(page, try_to::read); // not published
    CHECK(m.unit.violations().size() == 1);
    m.entries.publish();
    (void)m.access(page, try_to::read);
    CHECK(m.unit.violations().size() == 1);
    m.entries.store(leaf, 0); // hardware may be marking it
    CHECK(m.unit.violations().size() == 2);
}

TEST_CASE("hardware can act after each change of an entry, however it is made, and not after what changed nothing")
{
    sim::machine<format> m{64};
    entry* slot = reinterpret_cast<entry*>(m.memory.to_pointer((*m.frames.allocate(0)).address()));
    *slot = 0;
    std::vector<entry> seen;
    m.entries.after_each_change([&] { seen.push_back(*slot); });
    const entry first = format::leaf(phys_addr{0x9000}, 0, user_data);
    const entry second = format::leaf(phys_addr{0xa000}, 0, user_data);
    const entry third = format::leaf(phys_addr{0xb000}, 0, user_data);
    m.entries.store(slot, first);
    m.entries.exchange(slot, second);
    entry expected = first;
    CHECK_FALSE(m.entries.compare_exchange(slot, expected, third));
    CHECK(m.entries.compare_exchange(slot, expected, third));
    CHECK(seen == std::vector{first, second, third});
}

TEST_CASE("the frame pool fails when told to, and knows each block that it handed out")
{
    sim::physical_memory memory{64};
    sim::frame_pool frames{memory};
    frames.fail_nth(2);
    const auto first = frames.allocate(0);
    CHECK(first);
    CHECK(!frames.allocate(0));
    const auto second = frames.allocate(2);
    CHECK(second);
    frames.set_limit(5);
    CHECK(!frames.allocate(0));
    CHECK(frames.in_use() == 5);
    CHECK(panics([&] { frames.free(*first, 1); }));
    CHECK(panics([&] { frames.free(*second + 1, 0); }));
    frames.free(*first, 0);
    CHECK(panics([&] { frames.free(*first, 0); }));
    CHECK(panics([&] { (void)memory.to_pointer(phys_addr{0x1000}); }));
    frames.free(*second, 2);
    CHECK(frames.in_use() == 0);
}

TEST_CASE("CPUs driven by hand catch a caller that could move, a handler that calls, and a CPU that cannot answer")
{
    sim::driven_cpus cpus{3};
    const auto nothing = [](void*) noexcept {};
    CHECK(panics([&] { cpus.call(cpu_set::of(1), nothing, nullptr); }));
    CHECK(panics([&] {
        (void)cpus.on(1, [&] { return cpus.save_and_disable(); });
        (void)cpus.save_and_disable();
        cpus.call(cpu_set::of(1), nothing, nullptr);
    }));
    CHECK(panics([&] {
        (void)cpus.save_and_disable();
        const auto calls_another = [](void* c) noexcept {
            static_cast<sim::driven_cpus*>(c)->call(cpu_set::of(2), [](void*) noexcept {}, c);
        };
        cpus.call(cpu_set::of(1), calls_another, &cpus);
    }));
    const auto outer = cpus.save_and_disable();
    const auto inner = cpus.save_and_disable();
    CHECK(panics([&] { cpus.restore(outer); })); // not in reverse order
    CHECK(panics([&] { cpus.on(1, [&] { cpus.restore(inner); }); }));
    cpus.restore(inner);
    cpus.restore(outer);
    const auto before = cpus.now();
    cpus.advance(microseconds(3));
    CHECK(cpus.now() - before == microseconds(3));
}
