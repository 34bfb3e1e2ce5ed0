// Several CPUs: where threads go, and that what is wanted of them holds wherever they are.

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include <exo/sched/balancer.hpp>
#include <exo/sched/policies/fixed_priority.hpp>
#include <exo/sched/policies/round_robin.hpp>
#include <exo/sched/run_queue.hpp>
#include <exo/sim/topology.hpp>
#include <exo/sync/wait_queue.hpp>
#include <exo/trace/registry.hpp>

#include "world.hpp"

using namespace exo;
using queue = sched::run_queue<sched::fixed_priority, sched::round_robin>;
using sched::task_state;
using shape = sim::topology<>::shape;
using world = sched_test::world<queue, sim::topology<>>;

namespace {

queue::parameters fifo(unsigned priority)
{
    return queue::parameters::of<sched::fixed_priority>(sched::fixed_priority::fifo(priority));
}
const auto normal = queue::parameters::of<sched::round_robin>({});

cpu_set cpus(std::initializer_list<unsigned> list)
{
    cpu_set set;
    for (const unsigned cpu : list)
        set.add(cpu);
    return set;
}

world make_world(const shape& s)
{
    return world{sim::topology<>{s}};
}

std::uint64_t metric(world& w, const char* name)
{
    trace::registry metrics;
    auto source = w.sched.make_metrics_source();
    metrics.add(source);
    return metrics.value(name).value();
}

constexpr auto none = sched::balancer<sim::topology<>>::idle_rank;

// The board alone, with a notice for each CPU.
struct board {
    explicit board(const shape& s)
        : topology{s}, notices(topology.cpu_count()), balancer{topology, notices[0], sizeof(notices[0])}
    {
        for (unsigned cpu = 0; cpu < topology.cpu_count(); ++cpu)
            balancer.publish(cpu, 1000, false, none);
    }
    sim::topology<> topology;
    std::vector<sched::balancer<sim::topology<>>::notice> notices;
    sched::balancer<sim::topology<>> balancer;
};
const auto everywhere = cpu_set::first(cpu_set::limit);

} // namespace

TEST_CASE("a simulated topology has nested domains, and leaves out those of one CPU")
{
    const sim::topology<> t{{.threads = 2, .cores = 4, .packages = 1, .nodes = 2}};
    CHECK(t.cpu_count() == 16);
    CHECK(t.level_count() == 3);
    CHECK(t.domain(5, 0) == cpus({4, 5}));
    CHECK(t.domain(5, 1) == cpu_set::first(8));
    CHECK(t.domain(9, 1) == cpus({8, 9, 10, 11, 12, 13, 14, 15}));
    CHECK(t.domain(9, 2) == cpu_set::first(16));
    const sim::topology<> one{{}};
    CHECK(one.cpu_count() == 1);
    CHECK(one.level_count() == 1);
    CHECK(one.domain(0, 0) == cpus({0}));
}

TEST_CASE("the nearest idle CPU is claimed once")
{
    board b{{.threads = 2, .cores = 2, .nodes = 2}};
    for (const unsigned idle : {0u, 3u, 6u})
        b.balancer.publish(idle, none, false, none);
    CHECK(b.balancer.claim_idle(2, cpus({0, 1, 2})) == 0);
    CHECK(b.balancer.claim_idle(2, everywhere) == 3); // of its core
    CHECK(b.balancer.claim_idle(2, everywhere) == 6);
    CHECK(!b.balancer.claim_idle(2, everywhere));
    b.balancer.publish(2, none, false, none);
    b.balancer.publish(3, none, false, none);
    CHECK(b.balancer.claim_idle(2, everywhere) == 2); // itself before others
    CHECK(!b.balancer.claim_idle(2, cpus({0, 1})));
}

TEST_CASE("an urgent thread displaces what is least urgent, the nearest of equals")
{
    board b{{.cores = 4, .nodes = 2}};
    CHECK(!b.balancer.least_urgent(1, everywhere, 1000));
    CHECK(b.balancer.least_urgent(1, everywhere, 999) == 2);
    b.balancer.publish(0, 2000, false, none);
    b.balancer.publish(6, 2000, false, none);
    CHECK(b.balancer.least_urgent(1, everywhere, 999) == 0);
    CHECK(b.balancer.least_urgent(5, everywhere, 999) == 6);
    CHECK(b.balancer.least_urgent(1, cpus({3, 5}), 999) == 3);
    b.balancer.publish(5, none, false, none);
    CHECK(b.balancer.least_urgent(1, everywhere, 999) == 5);
    b.balancer.sent(5, 1024, 10); // taken, as everyone sees
    CHECK(b.balancer.least_urgent(1, everywhere, 999) == 0);
    CHECK(!b.balancer.idle(5));
}

TEST_CASE("a lighter CPU is one that stays lighter with what moves there")
{
    board b{{.cores = 4}};
    b.balancer.add_load(0, 3000);
    b.balancer.add_load(1, 2000);
    b.balancer.add_load(2, 1000);
    b.balancer.add_load(3, 1500);
    CHECK(b.balancer.lighter(0, 0, everywhere, 1999, 0, 32) == 2);
    CHECK(!b.balancer.lighter(0, 0, everywhere, 2000, 0, 32));
    CHECK(b.balancer.lighter(0, 0, cpus({0, 1, 3}), 999, 0, 32) == 3);
    CHECK(b.balancer.lighter(0, 0, everywhere, 900, 0, 1) == 1); // it looked no further
    b.balancer.sent(2, 600, 1000);
    CHECK(b.balancer.load(2) == 1600);
    CHECK(b.balancer.lighter(0, 0, everywhere, 1000, 0, 32) == 3);
    b.balancer.received(2, 600);
    b.balancer.remove_load(2, 1000);
    CHECK(b.balancer.load(2) == 0);
}

TEST_CASE("who looks for work finds the nearest that has too much")
{
    board b{{.cores = 2, .nodes = 3}};
    CHECK(!b.balancer.crowded(0, {}));
    b.balancer.publish(3, 1000, true, none);
    b.balancer.publish(1, 1000, true, 70);
    CHECK(b.balancer.crowded(0, {}) == 1);
    CHECK(b.balancer.crowded(0, cpus({1})) == 3);
    CHECK(!b.balancer.crowded(0, cpus({1, 3})));
    b.balancer.publish(5, 60, true, 65);
    CHECK(b.balancer.urgently_crowded(2, {}, 71) == 5);
    CHECK(b.balancer.urgently_crowded(2, cpus({5}), 71) == 1);
    CHECK(!b.balancer.urgently_crowded(2, cpus({5}), 70));
    b.balancer.publish(5, 1000, false, none);
    CHECK(b.balancer.urgently_crowded(2, {}, 71) == 1);
}

TEST_CASE("a thread that wakes goes to an idle CPU, its own before a near one before a far one")
{
    auto w = make_world({.cores = 2, .nodes = 2});
    std::vector<unsigned> woke_on;
    const auto sleeper = [&] {
        w.sched.park(w.sched.now() + milliseconds(10));
        woke_on.push_back(w.machine.current_cpu());
        w.machine.spend(milliseconds(50));
    };
    const auto pinned = [&](unsigned cpu) {
        auto& t = w.make("busy", [&] { w.machine.spend(milliseconds(100)); });
        t.task_.set_affinity(cpus({cpu}));
        w.sched.start(t.task_, cpu);
    };
    w.spawn("a", sleeper, 2);
    SUBCASE("its own") {}
    SUBCASE("a near one")
    {
        w.spawn("pinner", [&] { pinned(2); }, 0);
    }
    SUBCASE("a far one")
    {
        w.spawn("pinner", [&] { pinned(2); pinned(3); pinned(0); }, 0);
    }
    w.run();
    REQUIRE(woke_on.size() == 1);
    const auto pins = w.threads.size();
    CHECK(woke_on[0] == (pins == 1 ? 2u : pins == 3 ? 3u : 1u));
}

TEST_CASE("a CPU that runs out of work takes some from the nearest that has too much, and cold threads first")
{
    auto w = make_world({.cores = 2, .nodes = 2});
    std::map<std::string, unsigned> ended_on;
    const auto work = [&](std::string name, unsigned cpu, duration time) {
        w.spawn(name, [&, name, time] {
            w.machine.spend(time);
            ended_on[name] = w.machine.current_cpu();
        }, cpu);
    };
    work("a", 2, milliseconds(200));
    work("b", 2, milliseconds(200));
    work("c", 3, milliseconds(5)); // ends first: CPU 3 takes b, which waits on CPU 2
    work("d", 0, milliseconds(400));
    work("e", 1, milliseconds(150));
    work("f", 0, milliseconds(400));
    w.run();
    CHECK(ended_on["a"] != ended_on["b"]);
    CHECK(ended_on["a"] + ended_on["b"] == 5);
    CHECK(ended_on["d"] + ended_on["f"] == 1);
    CHECK(w.machine.now() < instant{} + milliseconds(420 + 150));
    CHECK(metric(w, "exo_sched_steals_won_total") >= 2);
}

TEST_CASE("a CPU that runs out of work takes with one request as many as make loads even, but one that is hot at most")
{
    const auto taken = [](duration ran_before, duration when) {
        auto w = make_world({.cores = 2});
        const auto in_two_parts = [&] {
            w.machine.spend(ran_before);
            w.sched.yield();
            w.machine.spend(milliseconds(3));
        };
        for (int i = 0; i < 9; ++i)
            w.spawn("movable", in_two_parts, 0);
        w.spawn(
            "ends first", [&] { w.machine.spend(when); }, 1);
        (void)w.machine.run_until([&] { return w.machine.now() >= instant{} + milliseconds(3); });
        CHECK(metric(w, "exo_sched_steals_won_total") == 1);
        const auto moved = metric(w, "exo_sched_migrations_total");
        w.run();
        CHECK(w.all_ended());
        return moved;
    };
    CHECK(taken(milliseconds(3), milliseconds(2)) == 4);    // one runs, eight wait and have not run
    CHECK(taken(microseconds(40), microseconds(400)) == 1); // all have run less than cache_hot ago
}

TEST_CASE("loads become even and stay so, within affinities, however they begin")
{
    for (unsigned seed = 0; seed < 12; ++seed) {
        std::mt19937 random{seed};
        auto w = make_world(seed % 2 ? shape{.threads = 2, .cores = 2, .packages = 1, .nodes = 2}
                                     : shape{.cores = 1 + seed % 5, .nodes = 2});
        const unsigned count = w.topology.cpu_count();
        bool done = false;
        const unsigned tasks = 1 + static_cast<unsigned>(random() % (4 * count));
        for (unsigned i = 0; i < tasks; ++i) {
            auto& t = w.make("t", [&] {
                while (!done)
                    w.machine.spend(milliseconds(50));
            });
            cpu_set allowed = cpu_set::first(count);
            if (i % 3 == 0)
                for (unsigned cpu = 0; cpu < count; ++cpu)
                    if (random() % 3 == 0 && allowed.size() > 1)
                        allowed.remove(cpu);
            t.task_.set_affinity(allowed);
            w.sched.start(t.task_, static_cast<unsigned>(random() % count));
        }
        (void)w.machine.run_until([&] { return w.machine.now() >= instant{} + milliseconds(500); });
        const auto check = [&] {
            for (unsigned a = 0; a < count; ++a)
                for (const auto& t : w.threads)
                    if (t->task_.cpu() == a)
                        for (unsigned b = 0; b < count; ++b)
                            if (w.sched.affinity(t->task_).contains(b))
                                CHECK(w.sched.load(a) <= w.sched.load(b) + sched::default_weight);
        };
        check();
        const auto migrations = metric(w, "exo_sched_migrations_total");
        (void)w.machine.run_until([&] { return w.machine.now() >= instant{} + seconds(2); });
        check();
        CHECK(metric(w, "exo_sched_migrations_total") == migrations); // at rest
        std::uint64_t sum = 0;
        for (unsigned cpu = 0; cpu < count; ++cpu)
            sum += w.sched.load(cpu);
        CHECK(sum == std::uint64_t{tasks} * sched::default_weight);
        done = true;
        w.run();
        CHECK(w.all_ended());
        for (unsigned cpu = 0; cpu < count; ++cpu)
            CHECK(w.sched.load(cpu) == 0);
    }
}

TEST_CASE("the most urgent threads of the machine run, wherever they wake")
{
    auto w = make_world({.cores = 2, .nodes = 2});
    // More FIFO threads than CPUs, which wake at random; whenever nothing is to happen at this time any more, the most
    // urgent that are ready are those that run.
    std::mt19937 random{5};
    constexpr unsigned count = 11;
    for (unsigned i = 0; i < count; ++i) {
        auto& t = w.make("fifo", [&] {
            for (int n = 0; n < 200; ++n) {
                w.machine.spend(microseconds(random() % 3000));
                w.sched.park(w.sched.now() + microseconds(random() % 4000));
            }
        });
        t.task_.set(fifo(10 + i));
        w.sched.start(t.task_, i % 4);
    }
    std::map<unsigned, const world::task*> runs;
    w.on_switch = [&](world::task&, world::task& next) { runs[w.machine.current_cpu()] = &next; };
    instant last{};
    unsigned moments = 0;
    (void)w.machine.run_until([&] {
        if (w.machine.next_event() <= w.machine.now() || w.machine.now() == last)
            return false;
        last = w.machine.now();
        ++moments;
        unsigned ready = 0;
        for (unsigned i = count; i-- > 0;) {
            const auto& task = w.threads[i]->task_;
            if (task.state() != task_state::ready)
                continue;
            const bool is_running = std::any_of(runs.begin(), runs.end(), [&](auto& r) { return r.second == &task; });
            REQUIRE(is_running == (ready < 4));
            ++ready;
        }
        return false;
    });
    CHECK(w.all_ended());
    CHECK(moments > 1000);
}

TEST_CASE("a CPU whose thread becomes less urgent asks those again that had nothing for it")
{
    auto w = make_world({.cores = 2});
    const auto start = [&](unsigned priority, unsigned cpu, cpu_set allowed, std::function<void()> body) {
        auto& t = w.make("fifo", std::move(body));
        t.task_.set(fifo(priority));
        t.task_.set_affinity(allowed);
        w.sched.start(t.task_, cpu);
    };
    const auto work = [&] { w.machine.spend(milliseconds(2)); };
    start(50, 0, everywhere, work);
    start(40, 0, cpus({0}), work); // for which CPU 1 asks
    instant moved{};
    start(30, 1, everywhere, [&] {
        w.machine.spend(milliseconds(1));
        w.sched.set_parameters(*w.sched.current(), fifo(10));
        w.machine.spend(milliseconds(1));
    });
    start(20, 0, everywhere, [&] { moved = w.sched.now(); });
    w.run();
    CHECK(moved == instant{} + milliseconds(1));
}

TEST_CASE("a thread that runs where it may no longer leaves before the call returns, and others soon")
{
    auto w = make_world({.cores = 3});
    w.spawn("self", [&] {
        auto& self = *w.sched.current();
        for (const unsigned cpu : {2u, 0u, 1u, 1u}) {
            REQUIRE(w.sched.set_affinity(self, cpus({cpu})).has_value());
            CHECK(w.machine.current_cpu() == cpu);
            CHECK(w.sched.affinity(self) == cpus({cpu}));
        }
        CHECK(w.sched.set_affinity(self, cpus({3, 200})).error() == sched::errors::no_allowed_cpu_online);
        CHECK(w.sched.set_affinity(self, {}).error() == sched::errors::no_allowed_cpu_online);
        CHECK(w.sched.set_affinity(self, {}).error().context() == 3);
        CHECK(w.sched.affinity(self) == cpus({1}));
    }, 0);
    w.run();
    auto& runner = w.spawn("runner", [&] { w.machine.spend(milliseconds(30)); }, 0);
    auto& waiter = w.make("waiter", [&] { w.machine.spend(milliseconds(30)); });
    waiter.task_.set_affinity(cpus({0}));
    w.sched.start(waiter.task_, 0);
    auto& sleeper = w.spawn("sleeper", [&] {
        w.sched.park(w.sched.now() + milliseconds(10));
        CHECK(w.machine.current_cpu() == 2);
    }, 0);
    w.spawn("manager", [&] {
        w.machine.spend(milliseconds(1));
        for (auto* t : {&runner, &waiter, &sleeper})
            REQUIRE(w.sched.set_affinity(t->task_, cpus({2})).has_value());
        w.machine.spend(microseconds(1));
        CHECK(runner.task_.cpu() == 2);
        CHECK(waiter.task_.cpu() == 2);
    }, 1);
    w.run();
    CHECK(w.all_ended());
}

TEST_CASE("parameters change from another CPU, whatever the thread does, and hold before the next thing it does")
{
    auto w = make_world({.cores = 2});
    std::string log;
    auto& low = w.spawn("low", [&] {
        w.machine.spend(milliseconds(10));
        log += 'l';
    }, 0);
    auto& rival = w.make("rival", [&] {
        w.machine.spend(milliseconds(10));
        log += 'r';
    });
    for (auto* t : {&low, &rival})
        REQUIRE(w.sched.set_affinity(t->task_, cpus({0})).has_value());
    w.sched.start(rival.task_, 0);
    auto& sleeper = w.make("sleeper", [&] {
        w.sched.park(w.sched.now() + milliseconds(5));
        log += 's';
    });
    sleeper.task_.set_affinity(cpus({0}));
    w.sched.start(sleeper.task_, 0);
    w.spawn("manager", [&] {
        w.machine.spend(milliseconds(2));
        w.sched.set_parameters(rival.task_, fifo(5)); // it waits
        w.sched.set_parameters(sleeper.task_, fifo(9));
        CHECK(w.sched.parameters(rival.task_) == fifo(5));
        w.machine.spend(milliseconds(12));
        CHECK(low.task_.state() == task_state::ready);
        w.sched.set_parameters(low.task_, fifo(3));
        w.sched.set_parameters(low.task_, normal);
    }, 1);
    w.run();
    CHECK(log == "srl");
}

TEST_CASE("under changes from everywhere no thread is lost, runs where it may not, or waits while a CPU idles")
{
    std::uint64_t migrations = 0;
    std::uint64_t steals = 0;
    std::uint64_t kicks_saved = 0;
    for (unsigned seed = 0; seed < 60; ++seed) {
        auto w = make_world(seed % 2 ? shape{.threads = 2, .cores = 1 + seed % 4}
                                     : shape{.cores = 1 + seed % 3, .nodes = 2});
        const unsigned count = w.topology.cpu_count();
        w.machine.explore(seed);
        std::mt19937 random{seed};
        constexpr unsigned tasks = 20;
        unsigned finished = 0;
        sync::wait_queue bell;
        std::map<unsigned, const world::task*> runs;
        w.on_switch = [&](world::task& previous, world::task& next) {
            const unsigned cpu = w.machine.current_cpu();
            if (const auto before = runs.find(cpu); before != runs.end())
                REQUIRE(before->second == &previous);
            for (const auto& [other, task] : runs)
                REQUIRE((other == cpu || task != &next));
            runs[cpu] = &next;
            if (next.name() != "idle") {
                REQUIRE(next.state() == task_state::ready);
                REQUIRE(next.cpu() == cpu);
            }
        };
        for (unsigned i = 0; i < tasks; ++i) {
            auto& t = w.make("random", [&] {
                for (int n = 0; n < 40; ++n) {
                    world::task& other = w.threads[random() % tasks]->task_;
                    switch (random() % 8) {
                    case 0: w.sched.yield(); break;
                    case 1:
                    case 2: w.machine.spend(microseconds(random() % 15'000)); break;
                    case 3: w.sched.park(w.sched.now() + microseconds(random() % 20'000)); break;
                    case 4: w.sched.unpark(&other); break;
                    case 5:
                        w.sched.set_parameters(other, random() % 2 ? normal : fifo(1 + static_cast<unsigned>(random() % 3)));
                        break;
                    default: {
                        cpu_set allowed = cpu_set::of(static_cast<unsigned>(random() % count));
                        for (unsigned cpu = 0; cpu < count; ++cpu)
                            if (random() % 2)
                                allowed.add(cpu);
                        REQUIRE(w.sched.set_affinity(random() % 2 ? other : *w.sched.current(), allowed).has_value());
                    }
                    }
                }
                ++finished;
                bell.wake_all(w.parker);
                bell.wait(w.parker, [&] { return finished == tasks; });
            });
            w.sched.start(t.task_, i % count);
        }
        // Since when a thread waits that some idle CPU might run.
        std::map<const world::task*, instant> waits;
        (void)w.machine.run_until([&] {
            if (w.ended.size() != 0)
                return false;
            for (const auto& t : w.threads) {
                const world::task& task = t->task_;
                const bool running =
                    std::any_of(runs.begin(), runs.end(), [&](auto& r) { return r.second == &task; });
                bool neglected = false;
                if (task.state() == task_state::ready && !running)
                    for (const auto& [cpu, runs_there] : runs)
                        neglected |= runs_there->name() == "idle" && w.sched.affinity(task).contains(cpu);
                if (!neglected)
                    waits.erase(&task);
                else if (const auto since = waits.try_emplace(&task, w.machine.now()).first->second;
                         w.machine.now() > since + world::scheduler::balance_interval)
                    FAIL("seed " << seed << ": neglected since " << since.nanoseconds());
            }
            return false;
        });
        REQUIRE(finished == tasks);
        REQUIRE(w.all_ended());
        for (unsigned cpu = 0; cpu < count; ++cpu)
            CHECK(w.sched.load(cpu) == 0);
        migrations += metric(w, "exo_sched_migrations_total");
        steals += metric(w, "exo_sched_steals_won_total");
        kicks_saved += metric(w, "exo_sched_kicks_saved_total");
    }
    CHECK(migrations > 1000);
    CHECK(steals > 100);
    CHECK(kicks_saved > 100);
}

TEST_CASE("a thread that ends while a change of it is under way is given up once, when the change has come")
{
    auto w = make_world({.cores = 2});
    auto& t = w.make("t", [&] {
        (void)w.sched.save_and_disable();
        w.machine.spend(milliseconds(5));
    });
    t.task_.set_affinity(cpus({0}));
    w.sched.start(t.task_, 0);
    w.spawn("manager", [&] {
        w.machine.spend(milliseconds(2));
        w.sched.set_parameters(t.task_, fifo(5));
        REQUIRE(w.sched.set_affinity(t.task_, cpus({1})).has_value());
        CHECK(t.task_.state() == task_state::ready);
    }, 1);
    w.run();
    CHECK(w.ended == std::vector<void*>{w.threads[1].get(), &t});
}
