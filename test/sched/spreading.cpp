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
