// Each metric of the scheduler: a workload moves it by what it must.

#include <doctest/doctest.h>

#include <atomic>
#include <set>
#include <string>
#include <vector>

#include <exo/sched/errors.hpp>
#include <exo/sched/inheriting_mutex.hpp>
#include <exo/sched/policies/deadline.hpp>
#include <exo/sched/policies/fair.hpp>
#include <exo/sched/policies/fixed_priority.hpp>
#include <exo/sched/policies/round_robin.hpp>
#include <exo/sched/policies/throttled.hpp>
#include <exo/sched/queue_metrics.hpp>
#include <exo/sched/run_queue.hpp>
#include <exo/trace/prometheus.hpp>
#include <exo/trace/registry.hpp>

#include "world.hpp"

using namespace exo;
using queue = sched::run_queue<sched::fixed_priority, sched::round_robin>;
using world = sched_test::world<queue>;

namespace {

queue::parameters fifo(unsigned priority)
{
    return queue::parameters::of<sched::fixed_priority>(sched::fixed_priority::fifo(priority));
}

std::set<std::string> tried;

// What the workload that runs in between has moved.
template <class World = world>
class meter {
public:
    explicit meter(World& w) : source_{w.sched.make_metrics_source()} { registry_.add(source_); }
    std::uint64_t operator[](const std::string& name)
    {
        tried.insert("exo_sched_" + name);
        const auto value = registry_.value("exo_sched_" + name);
        REQUIRE_MESSAGE(value.has_value(), name);
        return *value;
    }
    trace::registry& registry() { return registry_; }

private:
    trace::registry registry_;
    typename World::scheduler::metrics_source source_;
};

// Once the machine has run: from an interrupt, as nothing else wakes a CPU that has halted.
void start(world& w, world::thread& t, unsigned cpu = 0)
{
    w.machine.interrupt(0, [&w, &t, cpu] { w.sched.start(t.task_, cpu); });
}

void pin(world::thread& t, unsigned cpu) { t.task_.set_affinity(cpu_set::of(cpu)); }

} // namespace

TEST_CASE("metrics: switches, sleeps and wake-ups")
{
    world w;
    meter moved{w};
    world::thread* sleeper = &w.spawn("sleeper", [&] {
        w.sched.unpark(w.sched.current());
        w.sched.park(instant::never());                        // the token is there
        w.sched.park(instant::never());                        // until the waker comes
        w.sched.park(w.sched.now() + milliseconds(3));         // until its time comes
    });
    w.spawn("waker", [&] {
        w.sched.yield();
        w.machine.spend(milliseconds(1));
        w.sched.unpark(&sleeper->task_);
        w.machine.spend(milliseconds(2)); // for so long the sleeper waits for the CPU
    });
    w.run();
    CHECK(moved["yields_total"] == 1);
    CHECK(moved["parks_total"] == 2);
    CHECK(moved["parks_with_token_total"] == 1);
    CHECK(moved["parks_timed_total"] == 1);
    CHECK(moved["timeouts_total"] == 1);
    CHECK(moved["wake_ups_total"] == 2);
    CHECK(moved["tasks_started_total"] == 2);
    CHECK(moved["tasks_ended_total"] == 2);
    CHECK(moved["tasks_alive"] == 0);
    CHECK(moved["tasks_alive_most"] == 2);
    // idle, sleeper (parks), waker (ends), sleeper (parks), idle, sleeper (ends), idle
    CHECK(moved["switches_total"] == 6);
    CHECK(moved["switches_voluntary_total"] == 5);
    CHECK(moved["switches_involuntary_total"] == 1); // from idle, on the timer interrupt
    CHECK(moved["idle_periods_total"] == 2);
    CHECK(moved["wake_up_latency_ns_count"] == 2);
    CHECK(moved["wake_up_latency_ns_sum"] == 2'000'000);
    CHECK(moved["wake_up_latency_greatest_ns"] == 2'000'000);
    for (unsigned i = 0; i < 15; ++i)
        CHECK(moved["wake_up_latency_ns_bucket{le=\"" + std::to_string(1024u << i) + "\"}"] == (i < 11 ? 1 : 2));
    CHECK(moved["wake_up_latency_ns_bucket{le=\"+Inf\"}"] == 2);
    CHECK(moved["ticks_total"] == 1);
    CHECK(moved["hardware_timer_armed_total"] == 2); // for the end of a turn, which came not so late, and the sleep
}

TEST_CASE("metrics: turns and pre-emption")
{
    world w;
    meter moved{w};
    for (int i = 0; i < 2; ++i)
        w.spawn("equal", [&] { w.machine.spend(milliseconds(25)); });
    auto& high = w.make("high", [&] { w.machine.spend(milliseconds(1)); });
    high.task_.set(fifo(3));
    start(w, high);
    w.run();
    CHECK(moved["turns_over_total"] == 4); // of 10 ms: two of each
    CHECK(moved["preemptions_total"] == 1);
    auto& low = w.make("low", [&] { w.machine.spend(milliseconds(9)); });
    auto& better = w.make("better", [&] {
        w.sched.park(w.sched.now() + milliseconds(2));
        w.machine.spend(milliseconds(1));
    });
    better.task_.set(fifo(3));
    start(w, low);
    start(w, better);
    w.run();
    CHECK(moved["preemptions_total"] == 3); // when it starts and when it wakes
    CHECK(low.task_.involuntary_switches() == 2);
}

TEST_CASE("metrics: the time that switches take")
{
    // The clock goes on by one at each look: a switch takes the looks that are made in it.
    world w;
    meter moved{w};
    CHECK(moved["switch_time_least_ns"] == ~std::uint64_t{0});
    w.on_switch = [&](world::task&, world::task&) { w.machine.let_pass(nanoseconds(w.ended.empty() ? 70 : 30)); };
    w.spawn("a", [&] { w.machine.spend(milliseconds(1)); });
    w.run();
    CHECK(moved["switches_total"] == 2);
    CHECK(moved["time_scheduler_ns_total"] == 140);
    CHECK(moved["switch_time_least_ns"] == 70);
    start(w, w.make("b", [&] {}));
    w.run();
    CHECK(moved["time_scheduler_ns_total"] == 200);
    CHECK(moved["switch_time_least_ns"] == 30);
    CHECK(moved["switch_time_greatest_ns"] == 70);
    CHECK(w.threads[0]->task_.run_time() == milliseconds(1)); // and none of it the thread's
}

TEST_CASE("metrics: what passes between CPUs")
{
    world w{2};
    meter moved{w};
    w.spawn("parent", [&] {
        for (int i = 0; i < 3; ++i) {
            auto& child = w.make("child", [&] { w.machine.spend(milliseconds(1)); });
            pin(child, 1);
            w.sched.start(child.task_, 1);
        }
        CHECK(moved["sent_total"] == 3);
        CHECK(moved["inbox_attempts_total"] == 3);
        CHECK(moved["inbox_retries_total"] == 0);
        CHECK(moved["inbox_failures_total"] == 0);
        CHECK(moved["kicks_total"] == 1); // the others find the inbox not empty
        w.machine.spend(milliseconds(20));
    });
    w.run();
    CHECK(moved["migrations_total"] == 0);
}

namespace {

// A weak compare-exchange may fail for no reason: the next so many do.
struct unlucky_atomics : hal::standard_atomics {
    static inline unsigned failures_left = 0;
    template <class T>
    struct atomic : std::atomic<T> {
        using std::atomic<T>::atomic;
        bool compare_exchange_weak(T& expected, T desired, std::memory_order success,
                                   std::memory_order failure) noexcept
        {
            if (failures_left == 0)
                return std::atomic<T>::compare_exchange_weak(expected, desired, success, failure);
            --failures_left;
            expected = this->load(failure);
            return false;
        }
    };
};

} // namespace

TEST_CASE("metrics: pushes to an inbox that are tried again, and that give up their compare-exchange")
{
    using unlucky = sched_test::world<queue, hal::flat_topology<>, unlucky_atomics>;
    unlucky w{2};
    meter moved{w};
    unsigned ran = 0;
    w.spawn("parent", [&] {
        for (const unsigned failures : {0, 1, 3, 8}) { // the inbox gives up after eight
            const auto attempts = moved["inbox_attempts_total"], retries = moved["inbox_retries_total"];
            const auto contended = moved["inbox_failures_total"];
            const auto errors = moved["errors_total{severity=\"expected\"}"];
            auto& child = w.make("child", [&] { ++ran; });
            child.task_.set_affinity(cpu_set::of(1));
            unlucky_atomics::failures_left = failures;
            w.sched.start(child.task_, 1);
            CHECK(unlucky_atomics::failures_left == 0);
            const bool in_vain = failures == 8;
            CHECK(moved["inbox_attempts_total"] - attempts == failures + !in_vain);
            CHECK(moved["inbox_retries_total"] - retries == failures - in_vain);
            CHECK(moved["inbox_failures_total"] - contended == in_vain);
            CHECK(moved["errors_total{severity=\"expected\"}"] - errors == in_vain);
            w.machine.spend(milliseconds(1));
        }
    });
    w.run();
    CHECK(ran == 4);
}

TEST_CASE("metrics: kicks that polling saves")
{
    world w{2};
    w.machine.explore(1);
    meter moved{w};
    auto& sleeper = w.make("sleeper", [&] {
        for (int i = 0; i < 200; ++i)
            w.sched.park(instant::never());
    });
    pin(sleeper, 1);
    w.sched.start(sleeper.task_, 1);
    auto& waker = w.make("waker", [&] {
        while (sleeper.task_.state() != sched::task_state::ended) {
            w.machine.spend(microseconds(20));
            w.sched.unpark(&sleeper.task_);
        }
    });
    pin(waker, 0);
    w.sched.start(waker.task_, 0);
    w.run();
    const auto saved = moved["kicks_saved_total"];
    CHECK(saved > 0);
    CHECK(saved + moved["kicks_total"] <= 201);
}

TEST_CASE("metrics: stealing")
{
    world w{2};
    meter moved{w};
    for (int i = 0; i < 2; ++i)
        w.spawn("movable", [&] { w.machine.spend(milliseconds(10)); }, 0);
    w.spawn("ends first", [&] { w.machine.spend(milliseconds(1)); }, 1);
    w.run();
    CHECK(moved["steals_tried_total"] == 1);
    CHECK(moved["steals_won_total"] == 1);
    CHECK(moved["steals_refused_total"] == 0);
    CHECK(moved["migrations_total"] == 1);
    for (int i = 0; i < 2; ++i) {
        auto& t = w.make("pinned", [&] { w.machine.spend(milliseconds(3)); });
        pin(t, 0);
        start(w, t);
    }
    start(w, w.make("ends first", [&] { w.machine.spend(milliseconds(1)); }), 1);
    w.run();
    CHECK(moved["steals_tried_total"] == 2);
    CHECK(moved["steals_refused_total"] == 1);
    CHECK(moved["migrations_total"] == 1);
}

TEST_CASE("metrics: balancing")
{
    world w{2};
    meter moved{w};
    for (int i = 0; i < 4; ++i)
        w.spawn("movable", [&] { w.machine.spend(milliseconds(60)); }, 0);
    w.spawn("stays", [&] { w.machine.spend(milliseconds(60)); }, 1);
    (void)w.machine.run_until([&] { return w.machine.now() >= instant{} + milliseconds(4); });
    CHECK(moved["balance_passes_total"] == 1);
    CHECK(moved["balance_moves_total"] == 1); // four and one: three and two
    CHECK(moved["migrations_total"] == 1);
    w.run();
}

TEST_CASE("metrics: urgent threads that go where they can run")
{
    world w{2};
    meter moved{w};
    auto& first = w.make("first", [&] { w.machine.spend(milliseconds(10)); });
    first.task_.set(fifo(5));
    w.sched.start(first.task_, 0);
    w.spawn("normal", [&] { w.machine.spend(milliseconds(10)); }, 1);
    auto& second = w.make("second", [&] { w.machine.spend(milliseconds(1)); });
    second.task_.set(fifo(4));
    start(w, second); // sent there by name: from there it goes to the other
    w.run();
    CHECK(moved["urgent_moves_total"] == 1);
}

TEST_CASE("metrics: changes, inversions and inheritance")
{
    world w;
    meter moved{w};
    sched::inheriting_mutex<world::scheduler, sync::lock_rank::futexes> mutex;
    auto& high = w.make("high", [&] { CHECK(mutex.lock(w.sched).has_value()); });
    w.spawn("low", [&] {
        auto& self = *w.sched.current();
        w.sched.set_parameters(self, fifo(2));
        w.sched.set_parameters(self, fifo(3));
        w.sched.set_parameters(self, fifo(3)); // no change
        CHECK(w.sched.set_affinity(self, cpu_set::of(0)).has_value());
        auto guard = mutex.lock(w.sched);
        CHECK(guard.has_value());
        w.sched.set_parameters(high.task_, fifo(9));
        w.sched.start(high.task_);
    });
    w.run();
    CHECK(moved["parameter_changes_total"] == 3);
    CHECK(moved["policy_changes_total"] == 2);
    CHECK(moved["affinity_changes_total"] == 1);
    CHECK(moved["priority_inversions_total"] == 1);
    CHECK(moved["priority_inheritances_total"] == 1);
}

TEST_CASE("metrics: errors by severity")
{
    world w;
    meter moved{w};
    CHECK(!w.sched.set_affinity(w.make("t", [] {}).task_, {}).has_value());
    CHECK(moved["errors_total{severity=\"caller\"}"] == 1);
    sched::inheriting_mutex<world::scheduler, sync::lock_rank::futexes> mutex;
    w.spawn("holder", [&] {
        auto guard = mutex.lock(w.sched);
        w.sched.start(w.make("impatient", [&] {
            CHECK(mutex.lock(w.sched, w.sched.now() + milliseconds(1)).error() == sched::errors::timed_out);
        }).task_);
        w.sched.park(w.sched.now() + milliseconds(5));
    });
    w.run();
    CHECK(moved["errors_total{severity=\"expected\"}"] == 1);
    w.sched.count(sched::errors::too_many_threads);
    CHECK(moved["errors_total{severity=\"degraded\"}"] == 1);
    static constexpr error_kind grave{"test",           "grave", "it cannot go on", posix::io, severity::critical,
                                      recovery::give_up};
    w.sched.count(grave);
    CHECK(moved["errors_total{severity=\"critical\"}"] == 1);
    CHECK(moved["errors_total{severity=\"caller\"}"] == 1);
    start(w, *w.threads[0]);
    w.run();
}

TEST_CASE("metrics: classes, idle time, and a deadline that is missed because nobody asked for admission")
{
    using real_time = sched::throttled<sched::fixed_priority>;
    using booted = sched::run_queue<sched::deadline, real_time, sched::fair>;
    using own_world = sched_test::world<booted>;
    own_world w;
    auto scheduler = w.sched.make_metrics_source();
    trace::table_source<own_world::scheduler::processor> classes{
        sched::queue_metrics<own_world::scheduler::processor, real_time>::table, w.processors[0]};
    trace::registry registry;
    registry.add(scheduler);
    registry.add(classes);
    const auto value = [&](const char* name) { return registry.value(std::string{"exo_sched_"} + name).value(); };

    for (int i = 0; i < 2; ++i) {
        own_world::thread& t = w.make("periodic", [&w, &value, i] {
            auto& self = *w.sched.current();
            CHECK(value("queue_length{class=\"deadline\"}") == (i == 0 ? 1 : 0));
            w.machine.spend(microseconds(2900));
            const auto went = sched::wait_period(w.sched, self);
            CHECK(w.sched.now() >= instant{} + milliseconds(10));
            CHECK(went.has_value() == (i == 0));
            if (!went) {
                CHECK(went.error() == sched::errors::deadline_missed);
                CHECK(went.error().context() / 100'000 == 8);
                w.sched.count(went.error());
            }
            CHECK(sched::wait_period(w.sched, self).has_value());
        });
        t.task_.set(booted::parameters::of<sched::deadline>({milliseconds(3), milliseconds(5), milliseconds(10)}));
        w.sched.start(t.task_);
    }
    w.run();
    CHECK(value("deadline_misses_total") == 1);
    CHECK(value("deadline_throttles_total") == 4);
    CHECK(value("deadline_overruns_total") == 0);
    CHECK(value("errors_total{severity=\"degraded\"}") == 1);
    CHECK(value("time_idle_ns_total") == w.sched.now().nanoseconds() - 5'800'000);
}

// Last: the tests above ask for every one.
TEST_CASE("metrics: none is without a test, and there are enough of them")
{
    world w;
    meter all{w};
    std::set<std::string> there;
    all.registry().for_each([&](const trace::metric& m, std::uint64_t) {
        CHECK(there.insert(std::string{m.name} + std::string{m.sample}).second);
    });
    CHECK(there.size() >= 40);
    if (tried.size() > 10) // not when this test is run alone
        CHECK(tried == there);
    std::string text;
    trace::write_prometheus(all.registry(), [&](std::string_view piece) { text += piece; });
    CHECK(text.find("# TYPE exo_sched_wake_up_latency_ns histogram\nexo_sched_wake_up_latency_ns_bucket{le=\"1024\"} 0\n"
                    "exo_sched_wake_up_latency_ns_bucket{le=\"2048\"} 0\n") != std::string::npos);
}
