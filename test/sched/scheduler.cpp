#include <doctest/doctest.h>

#include <string>
#include <vector>

#include <exo/sched/policies/fixed_priority.hpp>
#include <exo/sched/policies/round_robin.hpp>
#include <exo/sched/run_queue.hpp>

#include "world.hpp"

using namespace exo;
using queue = sched::run_queue<sched::fixed_priority, sched::round_robin>;
using world = sched_test::world<queue>;

TEST_CASE("threads run in the order they were started, and end on the hook")
{
    world w;
    std::string log;
    auto& a = w.spawn("a", [&] { log += 'a'; w.sched.yield(); log += 'A'; });
    auto& b = w.spawn("b", [&] { log += 'b'; w.sched.yield(); log += 'B'; });
    w.run();
    CHECK(log == "abAB");
    CHECK(w.ended == std::vector<void*>{&a, &b});
}
