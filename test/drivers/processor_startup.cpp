#include <doctest/doctest.h>

#include <array>
#include <map>
#include <vector>

#include <exo/drivers/processor_startup.hpp>
#include <exo/sim/explored_atomics.hpp>

#include <exploring.hpp>

using namespace exo;

namespace {

using processor = drivers::starting_processor<>;
using command = x86_64::interprocessor_interrupt;

// CPUs of which each comes some time after so many start-up interrupts, or never; time passes by looking at the clock.
struct machine {
    struct behaviour {
        unsigned startups{1};
        duration takes{microseconds(50)};
        bool dead{};
        std::int64_t ahead{}; // its counter
    };
    struct sent {
        instant at;
        std::uint32_t to;
        command what;
    };

    instant now() const noexcept
    {
        time = time + microseconds(1);
        for (auto& [id, when] : coming)
            if (when <= time) {
                when = instant::never();
                for (auto& p : *processors)
                    if (p.apic_id() == id)
                        taken[id] = p.come(reference, [&] { return count() + cpus.at(id).ahead; });
            }
        return time;
    }
    std::uint64_t count() const { return 1'000'000 + time.nanoseconds(); }
    void send(command what, std::uint32_t to) noexcept
    {
        log.push_back({time, to, what});
        if (what.how == command::delivery::init)
            startups[to] = 0;
        const behaviour b = cpus[to];
        if (what.how == command::delivery::startup && ++startups[to] == b.startups && !b.dead)
            coming[to] = time + b.takes;
    }

    mutable instant time;
    std::map<std::uint32_t, behaviour> cpus;
    std::vector<processor>* processors{};
    std::vector<sent> log;
    std::map<std::uint32_t, unsigned> startups;
    mutable std::map<std::uint32_t, instant> coming;
    mutable std::map<std::uint32_t, bool> taken;
    mutable drivers::shown_count<> reference{};
};

std::vector<processor> start(machine& m)
{
    std::vector<processor> all;
    for (const auto& [id, how] : m.cpus)
        all.emplace_back(id);
    m.processors = &all;
    drivers::start_processors<>(m, m, [&m] { return m.count(); }, phys_addr{0x8000}, std::span{all}, m.reference);
    m.processors = nullptr;
    return all;
}

// Two CPUs come while the boot CPU starts them, as late as a schedule has it. Counters are in step: they count looks.
struct coming : sim::scenario {
    using atomics = sim::explored_atomics;
    static constexpr unsigned others = 2;

    unsigned threads() const override { return 1 + others; }
    void run(unsigned thread) override
    {
        if (thread == 0) {
            drivers::start_processors<atomics>(*this, *this, [this] { return ++looks; }, phys_addr{0x8000},
                                               std::span{processors}, reference);
            for (unsigned i = 0; i < others; ++i)
                settled[i] = processors[i].state();
            over.store(true, std::memory_order_relaxed);
            return;
        }
        const unsigned i = thread - 1;
        while (!started[i].load(std::memory_order_relaxed))
            if (over.load(std::memory_order_relaxed)) // nothing starts it any more
                return;
            else
                atomics::pause();
        taken[i] = processors[i].come<2>(reference, [this] { return ++looks; });
    }
    void check() override
    {
        for (unsigned i = 0; i < others; ++i) {
            const auto& p = processors[i];
            const bool runs = settled[i] == drivers::starting_processor<atomics>::phase::has_come;
            require(p.state() == settled[i], "a CPU changes after it was counted");
            require(taken[i] == runs, "a CPU is given up and runs, or counts and has halted");
            require(p.in_step(), "a CPU in step is found out of step");
        }
    }

    // The APIC and the clock, which is in a hurry.
    void send(command what, std::uint32_t to) noexcept
    {
        if (what.how == command::delivery::startup)
            started[to].store(true, std::memory_order_relaxed);
    }
    instant now() const noexcept
    {
        time = time + milliseconds(900);
        return time;
    }

    mutable instant time;
    std::uint64_t looks{};
    drivers::shown_count<atomics> reference{};
    std::array<drivers::starting_processor<atomics>, others> processors{drivers::starting_processor<atomics>{0},
                                                                        drivers::starting_processor<atomics>{1}};
    std::array<drivers::starting_processor<atomics>::phase, others> settled{};
    std::array<atomics::atomic<bool>, others> started;
    atomics::atomic<bool> over;
    std::array<bool, others> taken{};
};

} // namespace

TEST_CASE("all CPUs are started at once, with no delay beyond the specification's")
{
    machine m;
    for (std::uint32_t id = 1; id < 64; ++id)
        m.cpus[id] = {};
    const auto all = start(m);
    for (const auto& p : all)
        CHECK(p.state() == processor::phase::has_come);
    CHECK(m.log.size() == 2 * 63);
    CHECK(m.log[62].at < instant{} + microseconds(5));
    CHECK(m.log[63].at >= instant{} + milliseconds(10));
    CHECK(m.log[63].what.vector == 8);
    CHECK(m.time < instant{} + milliseconds(10) + microseconds(200));
}

TEST_CASE("a CPU that missed the first start-up gets a second one after 200 us, and the others none")
{
    machine m;
    m.cpus[3] = {};
    m.cpus[5] = {.startups = 2};
    const auto all = start(m);
    CHECK(all[0].state() == processor::phase::has_come);
    CHECK(all[1].state() == processor::phase::has_come);
    REQUIRE(m.log.size() == 5);
    CHECK(m.log[4].to == 5);
    CHECK(m.log[4].at - m.log[3].at >= microseconds(200));
    CHECK(m.time < instant{} + milliseconds(11));
}

TEST_CASE("a dead CPU is given up, and one that comes too late must halt")
{
    machine m;
    m.cpus[1] = {.dead = true};
    m.cpus[2] = {};
    m.cpus[3] = {.takes = drivers::startup_patience + seconds(1)};
    auto all = start(m);
    CHECK(all[0].state() == processor::phase::given_up);
    CHECK(all[1].state() == processor::phase::has_come);
    CHECK(all[2].state() == processor::phase::given_up);
    const auto count = [&m] { return m.count(); };
    CHECK(!all[2].come(m.reference, count));
    CHECK(!all[1].come(m.reference, count)); // nor twice
    CHECK(m.time < instant{} + drivers::startup_patience + milliseconds(11));
}

TEST_CASE("a CPU whose counter is behind or ahead of the boot CPU's is found out of step, and comes all the same")
{
    machine m;
    m.cpus[1] = {.ahead = -10'000};
    m.cpus[2] = {};
    m.cpus[3] = {.ahead = 10'000};
    const auto all = start(m);
    for (const auto& p : all) {
        CHECK(p.state() == processor::phase::has_come);
        CHECK(m.taken[p.apic_id()]);
        CHECK(p.in_step() == (p.apic_id() == 2));
    }
}

TEST_CASE("where there is no other CPU, nothing is sent and nobody waited for")
{
    machine m;
    CHECK(start(m).empty());
    CHECK(m.log.empty());
    CHECK(m.time == instant{});
}

TEST_CASE("the page to start in is whole, below 640 KiB, and not the first")
{
    const auto find = [](std::vector<phys_range> memory) { return drivers::find_startup_page(memory); };
    const auto range = [](std::uint64_t begin, std::uint64_t end) {
        return phys_range{phys_addr{begin}, phys_addr{end}};
    };
    CHECK(find({range(0, 0x9fc00), range(0x100000, 0x8000000)}) == phys_addr{0x1000});
    CHECK(find({range(0, 0x1fff), range(0x5800, 0x7000)}) == phys_addr{0x6000});
    CHECK(!find({range(0x9f400, 0x9fc00), range(0x100000, 0x8000000)}));
    CHECK(!find({range(0x9f800, 0xa8000)}));
    CHECK(!find({}));
}

TEST_CASE("explored: a CPU that comes as it is given up either runs or halts, and both sides know which")
{
    CHECK_CLEAN(explore<coming>(2, 2));
}
