// How fast CPU-bound threads that begin on one CPU come to be spread evenly over all.

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <utility>
#include <vector>

#include <exo/sched/policies/fair.hpp>
#include <exo/sched/policies/fixed_priority.hpp>
#include <exo/sched/run_queue.hpp>
#include <exo/sim/topology.hpp>

#include "world.hpp"

using namespace exo;
using queue = sched::run_queue<sched::fixed_priority, sched::fair>;
using world = sched_test::world<queue, sim::topology<>>;
using shape = sim::topology<>::shape;

namespace {

constexpr unsigned cpus = 16, tasks = 64;

enum class beginning {
    forked,   // by a thread that may run anywhere
    released, // bound to the CPU of the one that forks, then let go
};

// How many there are on the CPU that has least, and on the one that has most, 100 ms after the first may go elsewhere.
std::pair<unsigned, unsigned> spread(const shape& s, unsigned seed, beginning how)
{
    world w{sim::topology<>{s}};
    REQUIRE(w.topology.cpu_count() == cpus);
    w.machine.explore(seed);
    std::mt19937 random{seed};
    const auto first = static_cast<unsigned>(random() % cpus);
    instant began = instant::never();
    bool done = false;
    std::vector<world::thread*> children;
    w.spawn(
        "parent",
        [&] {
            const unsigned here = how == beginning::forked ? first : (first + 1) % cpus;
            REQUIRE(w.sched.set_affinity(*w.sched.current(), cpu_set::of(here)).has_value());
            for (unsigned i = 0; i < tasks; ++i) {
                auto& child = w.make("child", [&] {
                    while (!done)
                        w.machine.spend(milliseconds(50));
                });
                if (how == beginning::released)
                    child.task_.set_affinity(cpu_set::of(first));
                children.push_back(&child);
                if (how == beginning::forked && i == 0)
                    began = w.machine.now();
                w.sched.start(child.task_);
                w.machine.spend(microseconds(random() % 200)); // what a fork takes
            }
            if (how == beginning::released) {
                began = w.machine.now();
                for (auto* child : children)
                    REQUIRE(w.sched.set_affinity(child->task_, cpu_set::first(cpu_set::limit)).has_value());
            }
        },
        first);
    (void)w.machine.run_until(
        [&] { return began != instant::never() && w.machine.now() >= began + milliseconds(100); });
    REQUIRE(children.size() == tasks);
    unsigned on[cpus]{};
    for (const auto* child : children)
        ++on[child->task_.cpu()];
    done = true;
    w.run();
    CHECK(w.all_ended());
    return {*std::min_element(on, on + cpus), *std::max_element(on, on + cpus)};
}

} // namespace

TEST_CASE("within 100 ms each of 16 CPUs has as many of 64 threads that began on one as the others, give or take one")
{
    for (const shape& s : {shape{.cores = 16}, shape{.threads = 2, .cores = 4, .packages = 2}})
        for (const auto how : {beginning::forked, beginning::released})
            for (unsigned seed = 0; seed < 20; ++seed) {
                CAPTURE(s.threads);
                CAPTURE(seed);
                const auto [least, most] = spread(s, seed, how);
                CHECK(least + 1 >= tasks / cpus);
                CHECK(most <= tasks / cpus + 1);
            }
}

namespace {

sched::fair::parameters of_nice(int value)
{
    return {sched::fair::thread_kind::normal, static_cast<std::int8_t>(value)};
}
queue::parameters any_nice(std::mt19937& random)
{
    return queue::parameters::of<sched::fair>(of_nice(static_cast<int>(random() % 40) - 20));
}
std::uint32_t weight(const world::task& t) { return sched::fair::weight_of(t.parameters().get<sched::fair>()); }

// Of any two CPUs, the one that has more has it by no more than the weight of the heaviest thread that might move.
bool is_even(world& w)
{
    for (unsigned from = 0; from < w.topology.cpu_count(); ++from)
        for (unsigned to = 0; to < w.topology.cpu_count(); ++to) {
            std::uint32_t heaviest = 0;
            for (const auto& t : w.threads)
                if (t->task_.cpu() == from && w.sched.affinity(t->task_).contains(to))
                    heaviest = std::max(heaviest, weight(t->task_));
            if (heaviest != 0 && w.sched.load(from) > w.sched.load(to) + heaviest)
                return false;
        }
    return true;
}

} // namespace

TEST_CASE("loads of threads of all nice values become even, and stay so, beside some that are bound")
{
    for (unsigned seed = 0; seed < 30; ++seed) {
        CAPTURE(seed);
        std::mt19937 random{seed};
        world w{sim::topology<>{seed % 2 ? shape{.threads = 2, .cores = 2, .nodes = 2} : shape{.cores = 2 + seed % 5}}};
        const unsigned count = w.topology.cpu_count();
        bool done = false;
        for (unsigned i = 0, all = 1 + static_cast<unsigned>(random() % (8 * count)); i < all; ++i) {
            auto& t = w.make("t", [&] {
                while (!done)
                    w.machine.spend(milliseconds(50));
            });
            t.task_.set(any_nice(random));
            if (seed % 3 == 0 && i % 4 == 0)
                t.task_.set_affinity(cpu_set::of(static_cast<unsigned>(random() % count)));
            w.sched.start(t.task_, static_cast<unsigned>(random() % count));
        }
        const auto run_for = [&](duration time) {
            const instant end = w.machine.now() + time;
            (void)w.machine.run_until([&] { return w.machine.now() >= end; });
        };
        for (int change = 0; change < 3; ++change) {
            run_for(milliseconds(500));
            for (int look = 0; look < 50; ++look) {
                CHECK(is_even(w));
                run_for(milliseconds(10));
            }
            std::vector<unsigned> at;
            for (const auto& t : w.threads)
                at.push_back(t->task_.cpu());
            run_for(milliseconds(500));
            for (std::size_t i = 0; i < at.size(); ++i)
                CHECK(w.threads[i]->task_.cpu() == at[i]);
            for (const auto& t : w.threads)
                if (random() % 2)
                    w.sched.set_parameters(t->task_, any_nice(random));
        }
        done = true;
        w.run();
        CHECK(w.all_ended());
    }
}

TEST_CASE("threads that may move are found among many that are bound, if not in the first pass")
{
    for (const auto& [bound_nice, others_idle] : {std::pair{-5, false}, {0, false}, {5, false}, {-5, true}}) {
        CAPTURE(bound_nice);
        world w{sim::topology<>{shape{.cores = 4}}};
        bool done = false;
        const auto start = [&](const cpu_set& allowed, int value) {
            auto& t = w.make("t", [&] {
                while (!done)
                    w.machine.spend(milliseconds(50));
            });
            t.task_.set(queue::parameters::of<sched::fair>(of_nice(value)));
            t.task_.set_affinity(allowed);
            w.sched.start(t.task_, 0);
        };
        for (unsigned i = 0; i < 120; ++i)
            start(cpu_set::of(0), bound_nice);
        for (unsigned i = 0; i < 6; ++i)
            start(cpu_set::first(4), 0);
        for (unsigned cpu = 1; cpu < 4 && !others_idle; ++cpu)
            start(cpu_set::of(cpu), 0);
        (void)w.machine.run_until([&] { return w.machine.now() >= instant{} + milliseconds(200); });
        for (unsigned i = 120; i < 126; ++i)
            CHECK(w.threads[i]->task_.cpu() != 0);
        CHECK(is_even(w));
        done = true;
        w.run();
        CHECK(w.all_ended());
    }
}
