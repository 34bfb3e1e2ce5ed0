// What threads that use memory in disjoint ranges cost each other, on sixteen CPUs: locks found taken, and writes to
// lines of which another CPU has a copy, for each fault, or for each pair of mmap and munmap. Refills of the frame
// caches, from empty ones on, and new page tables are part of it. Faults in anonymous memory are held to bounds; the
// rest is told.
//
// The table that each case prints names where these writes and the misses are, in two columns, by object and offset.

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include <exo/base/check.hpp>
#include <exo/mm/pager.hpp>
#include <exo/sync/lock_rank.hpp>
#include <exo/sync/spin_lock.hpp>

#include <contention/observed_machine.hpp>

using namespace contention;

namespace {

constexpr unsigned cpu_count = 16;
constexpr std::uint64_t pages = 1024;              // that each CPU faults in: two tables full
constexpr std::uint64_t apart = pages * page_size; // from one CPU's range to the next's
constexpr double contended_bound = 0.01;
constexpr double shared_writes_bound = 0.05;

struct cost {
    double contended{};
    double shared_writes{};
    double misses{};
};

template <class Machine>
cost report(const std::string& title, Machine& m, std::uint64_t events)
{
    const auto each = [events](std::uint64_t n) { return static_cast<double>(n) / static_cast<double>(events); };
    m.name_the_rest();
    const auto total = m.cpus.lines.total();
    const cost c{each(m.cpus.contended()), each(total.shared_writes), each(total.misses)};
    std::printf("%s: of %llu, each\n  %8.4f locks found taken\n  %8.4f writes to shared lines\n  %8.4f misses\n",
                title.c_str(), static_cast<unsigned long long>(events), c.contended, c.shared_writes, c.misses);
    std::vector<std::pair<std::string, tally>> places;
    for (const auto& place : m.cpus.lines.by_place())
        places.emplace_back(place);
    std::ranges::sort(places, [](const auto& a, const auto& b) {
        return a.second.shared_writes + a.second.misses > b.second.shared_writes + b.second.misses;
    });
    for (const auto& [name, costs] : places)
        if (each(costs.shared_writes + costs.misses) >= 0.001)
            std::printf("  %8.4f %8.4f  %s\n", each(costs.shared_writes), each(costs.misses), name.c_str());
    return c;
}

void must(const auto& outcome) { EXO_CHECK(outcome.has_value()); }

template <class Machine>
void activate(Machine& m, typename Machine::space& s)
{
    const auto saved = m.cpus.save_and_disable();
    s.activate();
    m.cpus.restore(saved);
}
template <class Machine>
void deactivate(Machine& m, typename Machine::space& s)
{
    const auto saved = m.cpus.save_and_disable();
    s.deactivate();
    m.cpus.restore(saved);
}

// On each CPU, with space_of(cpu) loaded, calls touch(space, page) for each page of the CPU's range.
template <class Machine, class SpaceOf, class Touch>
void on_all(Machine& m, SpaceOf space_of, Touch touch)
{
    m.cpus.run([&](unsigned cpu) {
        auto& s = space_of(cpu);
        activate(m, s);
        const auto first = Machine::base + cpu * apart;
        for (std::uint64_t i = 0; i < pages; ++i)
            touch(s, first + i * page_size);
    });
}
template <class Machine, class SpaceOf>
void leave(Machine& m, SpaceOf space_of)
{
    m.cpus.run([&](unsigned cpu) { deactivate(m, space_of(cpu)); });
}

// Faults since the machine started, but for those that changed nothing.
template <class Machine>
std::uint64_t faults_of(const Machine& m)
{
    std::uint64_t sum = 0;
    for (unsigned kind = 0; kind < mm::fault_kind_count; ++kind)
        if (static_cast<mm::fault_kind>(kind) != mm::fault_kind::spurious)
            sum += m.memory->faults(static_cast<mm::fault_kind>(kind));
    return sum;
}

const auto write_to = [](auto& space, virt_addr page) { must(space.handle_fault(page, mm::access::write)); };

void expect_within_bounds(const cost& c)
{
    CHECK(c.contended < contended_bound);
    CHECK(c.shared_writes < shared_writes_bound);
}

// Of what a cost is that of each.
enum class per : bool { fault, page };

// First writes to memory, by threads of one space or by processes of a space each. Regions end where ranges do, or all
// is one region.
template <class Fill>
cost first_writes(const char* title, unsigned seed, bool one_region, bool one_space, per each = per::fault)
{
    using machine = observed_machine<Fill>;
    machine m{cpu_count, 24 * 1024, seed};
    std::vector<ref<typename machine::space>> spaces;
    for (unsigned i = 0; i < (one_space ? 1 : cpu_count); ++i) {
        auto& s = *spaces.emplace_back(m.make_space());
        for (unsigned cpu = 0; cpu < cpu_count; ++cpu) // neighbours that are alike become one
            must(s.map({.address = machine::base + cpu * apart,
                        .length = apart,
                        .access = one_region || cpu % 2 == 0 ? mm::user_data : mm::user_data | mm::protection::execute,
                        .where = mm::placement::fixed}));
    }
    const auto space_of = [&](unsigned cpu) -> auto& { return *spaces[one_space ? 0 : cpu]; };
    m.cpus.forget_costs();
    on_all(m, space_of, write_to);
    const auto c = report(title, m, each == per::fault ? faults_of(m) : cpu_count * pages);
    leave(m, space_of);
    return c;
}

// Every page is one of its own, there from the start, that the object keeps.
template <class Machine>
class object final : public mm::pager {
public:
    object(Machine& m, std::uint64_t count) : m_{m}
    {
        for (std::uint64_t i = 0; i < count; ++i)
            contents_.push_back(*m.allocator.allocate(0));
    }
    result<frame_number> get_page(std::uint64_t index, bool) override
    {
        m_.allocator.acquire(contents_[index]);
        return contents_[index];
    }

private:
    void last_reference() noexcept override {}

    Machine& m_;
    std::vector<frame_number> contents_;
};

} // namespace

TEST_CASE("Faults of threads of one space in disjoint ranges of anonymous memory leave each other alone")
{
    for (const unsigned seed : {1, 2, 3})
        expect_within_bounds(first_writes<one_page_each>("threads, a region for each", seed, false, true));
    expect_within_bounds(first_writes<one_page_each>("threads, one region", 1, true, true));
}

TEST_CASE("Faults of processes in anonymous memory leave each other alone")
{
    expect_within_bounds(first_writes<one_page_each>("processes", 1, true, false));
}

TEST_CASE("Faults that fill pages ahead, and large pages, leave each other alone as much for each page")
{
    expect_within_bounds(first_writes<mm::fill_policy>("threads, filled ahead, by page", 1, true, true, per::page));
}

TEST_CASE("Faults that were kept out once, by who is alone with the space, do not keep each other out from then on")
{
    using machine = observed_machine<one_page_each>;
    for (const unsigned seed : {1, 2, 3}) {
        machine m{cpu_count, 24 * 1024, seed};
        auto s = m.make_space();
        must(s->map({.address = machine::base, .length = cpu_count * apart, .where = mm::placement::fixed}));
        m.cpus.forget_costs();
        const auto same = [&](unsigned) -> auto& { return *s; };
        on_all(m, same, [&](auto& space, virt_addr page) {
            if (page == machine::base + pages / 8 * page_size)
                must(space.protect(virt_range::of_size(page, page_size), mm::user_data));
            write_to(space, page);
        });
        CHECK(report("threads, beside one that changed a region once", m, faults_of(m)).contended < contended_bound);
        leave(m, same);
    }
}

TEST_CASE("What faults cost that copy pages after a fork")
{
    using machine = observed_machine<one_page_each>;
    for (const bool threads : {false, true}) {
        machine m{cpu_count, 40 * 1024, 1};
        auto parent = m.make_space();
        must(parent->map({.address = machine::base, .length = cpu_count * apart, .where = mm::placement::fixed}));
        const auto of_parent = [&](unsigned) -> auto& { return *parent; };
        on_all(m, of_parent, write_to);
        leave(m, of_parent);
        std::vector<ref<machine::space>> children;
        for (unsigned i = 0; i < (threads ? 1 : cpu_count); ++i)
            children.push_back(*parent->fork());
        const auto space_of = [&](unsigned cpu) -> auto& { return threads ? *parent : *children[cpu]; };
        m.cpus.run([&](unsigned cpu) { activate(m, space_of(cpu)); });
        const auto before = faults_of(m);
        m.cpus.forget_costs();
        on_all(m, space_of, write_to);
        const auto c = report(threads ? "copies by threads" : "copies by processes", m, faults_of(m) - before);
        CHECK(c.contended < contended_bound);
        leave(m, space_of);
    }
}

TEST_CASE("What faults cost in a file that is shared")
{
    using machine = observed_machine<one_page_each>;
    machine m{cpu_count, 40 * 1024, 1};
    object<machine> file{m, cpu_count * pages};
    auto s = m.make_space();
    must(s->map({.address = machine::base,
                 .length = cpu_count * apart,
                 .where = mm::placement::fixed,
                 .kind = mm::sharing::shared,
                 .backing = ref<mm::pager>{file}}));
    const auto same = [&](unsigned) -> auto& { return *s; };
    m.cpus.lines.name(&file, sizeof file, "object");
    m.cpus.forget_costs();
    on_all(m, same, write_to);
    CHECK(report("pages of a shared file, threads", m, faults_of(m)).contended < contended_bound);
    leave(m, same);
}

TEST_CASE("What mmap and munmap cost that use memory in disjoint ranges")
{
    using machine = observed_machine<one_page_each>;
    machine m{cpu_count, 24 * 1024, 1};
    auto s = m.make_space();
    constexpr std::uint64_t rounds = 256;
    constexpr std::uint64_t length = 16 * page_size;
    m.cpus.forget_costs();
    m.cpus.run([&](unsigned cpu) {
        activate(m, *s);
        const auto place = machine::base + cpu * apart;
        for (std::uint64_t i = 0; i < rounds; ++i) {
            must(s->map({.address = place, .length = length, .where = mm::placement::fixed}));
            must(s->unmap(virt_range::of_size(place, length)));
        }
    });
    (void)report("mmap and munmap", m, cpu_count * rounds);
    leave(
        m, [&](unsigned) -> auto& { return *s; });
}

TEST_CASE("A lock that all take, and a word that all write, are seen")
{
    observed_cpus cpus{cpu_count, 1};
    sync::spin_lock<sync::lock_rank::frames, observed_cpus> lock;
    std::uint64_t plain = 0;
    constexpr std::uint64_t rounds = 100;
    cpus.run([&](unsigned) {
        for (std::uint64_t i = 0; i < rounds; ++i) {
            auto guard = lock.lock(cpus);
            ++plain;
        }
    });
    CHECK(plain == cpu_count * rounds);
    CHECK(cpus.contended() > cpu_count * rounds / 2);
    CHECK(cpus.lines.total().shared_writes > cpu_count * rounds);
}
