// A CPU that polls for a while when it has nothing to run: it hears all that it would be interrupted for.

#include <doctest/doctest.h>

#include <exo/sched/policies/fair.hpp>
#include <exo/sched/run_queue.hpp>
#include <exo/sync/wait_queue.hpp>

#include "world.hpp"

using namespace exo;
using queue = sched::run_queue<sched::fair>;
using world = sched_test::world<queue>;

namespace {

std::uint64_t sum_of(world& w, auto counter)
{
    std::uint64_t sum = 0;
    for (const auto& p : w.processors)
        sum += (p.metrics().*counter).value();
    return sum;
}

} // namespace

TEST_CASE("threads on two CPUs that wake each other in turn do so without interrupts, and sooner than polling ends")
{
    constexpr unsigned rounds = 200;
    std::uint64_t saved = 0;
    duration taken{};
    for (unsigned seed = 0; seed < 10; ++seed) {
        world w{2};
        w.machine.explore(seed);
        unsigned turn = 0;
        sync::wait_queue changed;
        for (unsigned self = 0; self < 2; ++self) {
            auto& t = w.make("t", [&, self] {
                for (unsigned i = 0; i < rounds; ++i) {
                    changed.wait(w.parker, [&] { return turn % 2 == self; });
                    ++turn;
                    changed.wake_all(w.parker);
                }
            });
            t.task_.set_affinity(cpu_set::of(self));
            w.sched.start(t.task_, self);
        }
        w.run();
        REQUIRE(w.all_ended());
        saved += sum_of(w, &world::scheduler::counters::kicks_saved);
        taken = taken + (w.machine.now() - instant{});
    }
    CHECK(saved > 10 * rounds);
    CHECK(taken < microseconds(50) * 10 * 2 * rounds);
}

TEST_CASE("a CPU that is told of a change while it polls is told of the next one, too")
{
    for (unsigned seed = 0; seed < 200; ++seed) {
        CAPTURE(seed);
        world w{2};
        w.machine.explore(seed);
        bool left = false;
        auto& t = w.make("t", [&] {
            for (int i = 0; i < 4; ++i)
                w.sched.park(w.sched.now() + microseconds(100));
            while (!left && w.machine.now() < instant{} + milliseconds(50)) {
                w.machine.spend(microseconds(100));
                left = w.machine.current_cpu() == 0;
            }
        });
        t.task_.set_affinity(cpu_set::of(1));
        w.sched.start(t.task_, 1);
        auto& manager = w.make("manager", [&] {
            for (int nice = 1; nice < 6; ++nice) {
                w.machine.spend(microseconds(50));
                w.sched.set_parameters(
                    t.task_, queue::parameters::of<sched::fair>({.kind = {}, .nice = static_cast<std::int8_t>(nice)}));
            }
            w.machine.spend(milliseconds(5));
            REQUIRE(w.sched.set_affinity(t.task_, cpu_set::of(0)).has_value());
        });
        manager.task_.set_affinity(cpu_set::of(0));
        w.sched.start(manager.task_, 0);
        w.run();
        CHECK(left);
    }
}
