// Deadline and throttled real-time threads under the scheduler itself, which has to come back when they may run again.

#include <doctest/doctest.h>

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include <exo/sched/policies/deadline.hpp>
#include <exo/sched/policies/fair.hpp>
#include <exo/sched/policies/fixed_priority.hpp>
#include <exo/sched/policies/throttled.hpp>
#include <exo/sched/run_queue.hpp>

#include "world.hpp"

using namespace exo;
using real_time = sched::throttled<sched::fixed_priority>;
using queues = sched::run_queue<sched::deadline, real_time, sched::fair>;
using world = sched_test::world<queues>;

namespace {

const auto fifo = queues::parameters::of<real_time>(sched::fixed_priority::fifo(99));
queues::parameters due(duration runtime, duration relative, duration period)
{
    return queues::parameters::of<sched::deadline>({runtime, relative, period});
}

world::thread& start(world& w, const char* name, const queues::parameters& parameters, std::function<void()> body)
{
    auto& t = w.make(name, std::move(body));
    t.task_.set(parameters);
    w.sched.start(t.task_, 0);
    return t;
}

} // namespace

TEST_CASE("under the scheduler, a FIFO thread that never sleeps leaves 5 % to normal ones")
{
    world w;
    duration at_end{};
    auto& normal = w.spawn("normal", [&] { w.machine.spend(milliseconds(500)); });
    start(w, "hog", fifo, [&] {
        w.machine.spend(milliseconds(9'499));
        at_end = normal.task_.run_time();
    });
    w.run();
    CHECK(w.all_ended());
    CHECK(w.sched.now() == instant{} + milliseconds(9'999));
    CHECK(at_end == milliseconds(450)); // nine periods, and the tenth after it
}

TEST_CASE("under the scheduler, deadline threads get their runtime in each period, before everybody else and no more")
{
    world w;
    instant a_done{}, b_done{};
    auto& a = start(w, "a", due(milliseconds(3), milliseconds(10), milliseconds(10)), [&] {
        w.machine.spend(milliseconds(299));
        a_done = w.sched.now();
    });
    auto& b = start(w, "b", due(milliseconds(2), milliseconds(4), milliseconds(8)), [&] {
        w.machine.spend(milliseconds(199));
        b_done = w.sched.now();
    });
    auto& hog = start(w, "hog", fifo, [&] { w.machine.spend(milliseconds(450)); });
    w.run();
    CHECK(w.all_ended());
    CHECK(a_done > instant{} + milliseconds(990));
    CHECK(a_done <= instant{} + milliseconds(1000));
    CHECK(b_done > instant{} + milliseconds(792));
    CHECK(b_done <= instant{} + milliseconds(796));
    CHECK(hog.task_.run_time() == milliseconds(450)); // 45 % are left
    for (auto* t : {&a, &b}) {
        const sched::deadline::entity& part = t->task_;
        CHECK(part.misses() == 0);
        CHECK(part.overruns() == 99);
    }
}

TEST_CASE("under the scheduler, a deadline thread that yields sleeps until its next period")
{
    world w;
    std::vector<std::uint64_t> began;
    start(w, "periodic", due(milliseconds(3), milliseconds(5), milliseconds(10)), [&] {
        for (int i = 0; i < 4; ++i) {
            began.push_back(w.sched.now().nanoseconds() / 1'000'000);
            w.machine.spend(milliseconds(1));
            w.sched.yield();
        }
    });
    start(w, "hog", fifo, [&] { w.machine.spend(milliseconds(100)); });
    w.run();
    CHECK(began == std::vector<std::uint64_t>{0, 10, 20, 30});
}

TEST_CASE("under the scheduler, a deadline thread runs on when real-time threads may run again, and they do after it")
{
    world w;
    instant until{}, hog_done{};
    start(w, "hog", fifo, [&] {
        w.machine.spend(milliseconds(1'200));
        hog_done = w.sched.now();
    });
    start(w, "urgent", due(milliseconds(40), milliseconds(100), milliseconds(100)), [&] {
        w.sched.park(instant{} + milliseconds(980));
        w.machine.spend(milliseconds(39)); // beyond the end of their period
        until = w.sched.now();
    });
    w.run();
    CHECK(w.all_ended());
    CHECK(until == instant{} + milliseconds(1'019));
    CHECK(hog_done == instant{} + milliseconds(1'269)); // 950 until 950, and 250 from 1019
}

namespace {

void start(world& w, unsigned priority, cpu_set allowed, unsigned cpu, std::function<void()> body)
{
    auto& t = w.make("real-time", std::move(body));
    t.task_.set(queues::parameters::of<real_time>(sched::fixed_priority::fifo(priority)));
    t.task_.set_affinity(allowed);
    w.sched.start(t.task_, cpu);
}
instant at(std::int64_t ms) { return instant{} + milliseconds(ms); }
std::uint64_t microseconds_at(instant when) { return when.nanoseconds() / 1'000; }
// When, in microseconds, and on which CPU.
using moments = std::vector<std::pair<std::uint64_t, unsigned>>;
const auto anywhere = cpu_set::first(2);

} // namespace

TEST_CASE("a real-time thread whose CPU's share is used up goes on where that is not so, before normal threads")
{
    for (const bool busy : {false, true}) {
        world w{2};
        instant done{};
        start(w, 99, anywhere, 0, [&] {
            w.machine.spend(milliseconds(1'200));
            done = w.sched.now();
        });
        for (unsigned i = 0; busy && i < 3; ++i)
            w.spawn(
                "normal", [&] { w.machine.spend(milliseconds(3'000)); }, 1);
        w.run();
        CHECK(w.all_ended());
        CHECK(microseconds_at(done) == 1'200'000);
    }
}

TEST_CASE("a real-time thread that wakes goes to a CPU whose share is not used up, even if that has more to do")
{
    world w{2};
    moments woke;
    for (const auto& [priority, home] : {std::pair{60u, 0u}, {50u, 1u}})
        start(w, priority, anywhere, home, [&] {
            w.sched.park(at(960));
            woke.emplace_back(microseconds_at(w.sched.now()), w.machine.current_cpu());
            w.machine.spend(milliseconds(10));
        });
    w.spawn(
        "normal", [&] { w.machine.spend(milliseconds(3'000)); }, 1);
    start(w, 99, cpu_set::of(0), 0, [&] { w.machine.spend(milliseconds(960)); });
    w.run();
    CHECK(w.all_ended());
    CHECK(woke == moments{{960'000, 1}, {970'000, 1}});
}

TEST_CASE(
    "a CPU whose share is used up takes normal threads, and real-time ones again as soon as its next period begins")
{
    world w{2};
    moments began;
    start(w, 99, cpu_set::of(0), 0, [&] {
        (void)w.sched.save_and_disable(); // so that it ends with more than the share, and leaves nobody waiting
        w.machine.spend(milliseconds(955));
    });
    start(w, 80, cpu_set::of(1), 1, [&] {
        w.sched.park(at(965));
        w.machine.spend(milliseconds(100));
    });
    start(w, 70, anywhere, 1, [&] {
        w.sched.park(at(970));
        began.emplace_back(microseconds_at(w.sched.now()), w.machine.current_cpu());
    });
    auto& normal = w.make("normal", [&] {
        w.sched.park(at(966));
        began.emplace_back(microseconds_at(w.sched.now()), w.machine.current_cpu());
    });
    w.sched.start(normal.task_, 1);
    w.run();
    CHECK(w.all_ended());
    CHECK(began == moments{{966'000, 0}, {1'000'000, 0}});
}

TEST_CASE("a CPU that runs out of work takes a real-time thread at once that waits for the share of another")
{
    world w{2};
    instant done{};
    start(w, 99, anywhere, 0, [&] {
        w.machine.spend(milliseconds(1'000));
        done = w.sched.now();
    });
    start(w, 99, cpu_set::of(1), 1, [&] {
        w.sched.park(at(500));
        w.machine.spend(milliseconds(469));
    });
    w.run();
    CHECK(w.all_ended());
    CHECK(microseconds_at(done) == 1'019'000);
}
