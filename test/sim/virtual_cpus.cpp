// Who goes on when: CPUs in the order of their events, and which of those that are due together.

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include <exo/sim/agenda.hpp>
#include <exo/sim/virtual_calls.hpp>
#include <exo/sim/virtual_cpus.hpp>

#include "laws/deadline_timer_laws.hpp"
#include "laws/ipi_laws.hpp"

using namespace exo;

namespace {

instant at(unsigned ns) { return instant{ns}; }

// The order in which `count` CPUs that are all due together run.
std::vector<unsigned> order(unsigned count, const unsigned* seed)
{
    sim::virtual_cpus machine{count};
    if (seed)
        machine.explore(*seed);
    std::vector<unsigned> ran;
    for (unsigned cpu = 0; cpu < count; ++cpu)
        machine.boot(cpu, [&] { ran.push_back(machine.current_cpu()); });
    machine.run();
    return ran;
}

} // namespace

TEST_CASE("an agenda knows the least event, its first CPU, and all that are due, as a linear look does")
{
    std::mt19937 random{1};
    const auto below = [&](unsigned limit) { return static_cast<unsigned>(random() % limit); };
    for (const unsigned count : {1U, 2U, 3U, 7U, 64U, 65U}) {
        sim::agenda agenda{count};
        std::vector<instant> events(count, instant::never());
        CHECK(agenda.least() == instant::never());
        for (int step = 0; step < 2000; ++step) {
            const unsigned cpu = below(count);
            events[cpu] = below(4) ? at(below(20)) : instant::never();
            agenda.set(cpu, events[cpu]);

            const instant least = *std::ranges::min_element(events);
            REQUIRE(agenda.least() == least);
            if (least == instant::never())
                continue;
            const instant bound = std::max(least, at(below(20)));
            std::vector<unsigned> due;
            for (unsigned i = 0; i < count; ++i)
                if (events[i] <= bound)
                    due.push_back(i);
            std::vector<unsigned> visited;
            agenda.visit_until(bound, [&](unsigned i) { visited.push_back(i); });
            REQUIRE(visited == due);
            REQUIRE(agenda.first(bound) == due.front());
        }
    }
}

TEST_CASE("virtual CPUs that are due together run in the order of their numbers, and in any when exploring")
{
    CHECK(order(5, nullptr) == std::vector<unsigned>{0, 1, 2, 3, 4});
    std::set<std::vector<unsigned>> orders;
    for (unsigned seed = 0; seed < 500; ++seed) {
        orders.insert(order(3, &seed));
        REQUIRE(order(3, &seed) == order(3, &seed));
    }
    CHECK(orders.size() == 6);
}

TEST_CASE("a virtual CPU goes on when its time is over, its timer is due or an interrupt is posted")
{
    sim::virtual_cpus machine{2};
    std::vector<std::pair<char, std::uint64_t>> seen;
    const auto note = [&](char what) { seen.emplace_back(what, machine.now().nanoseconds()); };
    machine.connect([&] { note('t'); }, [] {});
    machine.boot(0, [&] {
        machine.arm(at(30));
        machine.spend(nanoseconds(50));
        note('a');
        machine.interrupt(1, [&] { note('i'); });
    });
    machine.boot(1, [&] {
        machine.spend(nanoseconds(40));
        note('b');
        const auto saved = machine.save_and_disable();
        machine.halt_until_interrupt();
        machine.restore(saved);
        note('c');
    });
    CHECK(machine.next_event() == at(0));
    machine.run();
    CHECK(machine.next_event() == instant::never());
    CHECK(seen == std::vector<std::pair<char, std::uint64_t>>{{'t', 30}, {'b', 40}, {'a', 50}, {'i', 50}, {'c', 50}});
}

TEST_CASE("virtual CPUs keep the laws of a deadline timer")
{
    sim::virtual_cpus machine{1};
    std::vector<instant> seen;
    machine.connect([&] { seen.push_back(machine.now()); }, [] {});
    bool checked = false;
    machine.boot(0, [&] {
        const auto saved = machine.save_and_disable();
        const auto pass = [&](duration time) {
            seen.clear();
            machine.restore(saved);
            machine.spend(time);
            (void)machine.save_and_disable();
            return seen;
        };
        laws::check_deadline_timer(machine, machine, pass, nanoseconds(1));
        checked = true;
    });
    machine.run();
    CHECK(checked);
}

TEST_CASE("virtual CPUs that call each other keep the laws of an Ipi, and so do those that wait for it themselves")
{
    for (unsigned seed = 0; seed < 50; ++seed) {
        sim::virtual_cpus machine{3};
        if (seed > 0)
            machine.explore(seed);
        sim::virtual_calls calls{machine};
        unsigned finished = 0;
        for (unsigned cpu = 0; cpu < 3; ++cpu)
            machine.boot(cpu, [&, cpu] {
                laws::check_ipi(calls, machine, machine, cpu_set::first(3));
                laws::check_ipi(calls, machine, machine, cpu_set::of((cpu + 1) % 3));
                laws::check_ipi(calls, machine, machine, cpu_set::of(cpu)); // nobody else
                ++finished;
                while (finished < 3) // who halts for good takes no calls
                    sim::virtual_atomics::pause();
            });
        machine.run();
        CHECK(finished == 3);
    }
}

TEST_CASE("a virtual CPU that waits for what another does, by pause(), lets it go on, interrupts off or not")
{
    for (const bool off : {false, true}) {
        sim::virtual_cpus machine{2};
        bool done = false, seen = false;
        machine.boot(0, [&] {
            const auto saved = off && machine.save_and_disable();
            while (!done)
                sim::virtual_atomics::pause();
            seen = true;
            machine.restore(saved);
        });
        machine.boot(1, [&] {
            machine.spend(nanoseconds(1000));
            done = true;
        });
        machine.run();
        CHECK(seen);
    }
}

TEST_CASE("an interrupt that is pending when a virtual CPU goes on with a computation comes upon that")
{
    sim::virtual_cpus machine{1};
    bool computed = false;
    machine.connect([&] { computed = machine.interrupted_computation(); }, [] {});
    machine.boot(0, [&] {
        machine.arm(at(10));
        CHECK(machine.spend_uninterrupted(nanoseconds(30)) == nanoseconds(20));
        CHECK(std::exchange(computed, false));
        (void)machine.save_and_disable();
        machine.arm(at(5));
        CHECK(machine.go_on_computing());
        CHECK(computed);
        (void)machine.save_and_disable();
        CHECK(!machine.go_on_computing());
        CHECK(machine.enabled());
    });
    machine.run();
    CHECK(machine.now() == at(10));
}
