// Who goes on when: CPUs in the order of their events, and which of those that are due together.

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <set>
#include <vector>

#include <exo/sim/agenda.hpp>
#include <exo/sim/virtual_cpus.hpp>

#include "laws/deadline_timer_laws.hpp"

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
