#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <exo/sched/policies/fixed_priority.hpp>
#include <exo/sched/policies/round_robin.hpp>
#include <exo/sched/run_queue.hpp>
#include <exo/sync/mutex.hpp>
#include <exo/sync/wait_queue.hpp>
#include <exo/trace/registry.hpp>
#include <laws/parker_laws.hpp>

#include "world.hpp"

using namespace exo;
using queue = sched::run_queue<sched::fixed_priority, sched::round_robin>;
using world = sched_test::world<queue>;
using sched::task_state;

namespace {

queue::parameters fifo(unsigned priority)
{
    return queue::parameters::of<sched::fixed_priority>(sched::fixed_priority::fifo(priority));
}
const auto normal = queue::parameters::of<sched::round_robin>({});

} // namespace

TEST_CASE("the scheduler keeps the laws of a parker")
{
    laws::check_parker([](std::vector<std::function<void(sync::any_parker&)>> bodies) {
        world w;
        for (auto& body : bodies)
            w.spawn("law", [&] { body(w.parker); });
        w.run();
        REQUIRE(w.all_ended());
    });
    for (unsigned seed = 0; seed < 50; ++seed)
        laws::check_parker([&](std::vector<std::function<void(sync::any_parker&)>> bodies) {
            world w{3};
            w.machine.explore(seed);
            unsigned cpu = 0;
            for (auto& body : bodies)
                w.spawn("law", [&] { body(w.parker); }, cpu++ % 3);
            w.run();
            REQUIRE(w.all_ended());
        });
}

TEST_CASE("threads run in the order they were started, and the hook gets each once it has left its stack")
{
    world w;
    std::string log;
    auto& a = w.spawn("a", [&] { log += 'a'; w.sched.yield(); log += 'A'; });
    auto& b = w.spawn("b", [&] { log += 'b'; w.sched.yield(); log += 'B'; });
    CHECK(a.task_.state() == task_state::ready);
    w.run();
    CHECK(log == "abAB");
    CHECK(w.ended == std::vector<void*>{&a, &b});
    CHECK(a.task_.voluntary_switches() == 2);
}

TEST_CASE("the stack of a thread that ended serves the next")
{
    world w;
    int ran = 0;
    std::vector<std::byte> stack(64 * 1024);
    std::optional<world::task> current;
    struct context {
        world& w;
        int& ran;
    } shared{w, ran};
    const auto entry = [](void* p) noexcept { ++static_cast<context*>(p)->ran; };
    w.spawn("parent", [&] {
        for (int i = 0; i < 100; ++i) {
            current.emplace("child", stack, entry, &shared);
            w.sched.start(*current);
            while (current->state() != task_state::ended)
                w.sched.yield();
            current.reset();
        }
    });
    w.run();
    CHECK(ran == 100);
    CHECK(w.ended.size() == 101);
}

TEST_CASE("sleepers wake at their deadlines, in order, and not before")
{
    world w;
    std::vector<std::pair<char, std::uint64_t>> woke;
    const auto sleeper = [&](char name, duration time) {
        return [&w, &woke, name, time] {
            const instant deadline = w.sched.now() + time;
            while (w.sched.now() < deadline)
                w.sched.park(deadline);
            woke.emplace_back(name, w.sched.now().nanoseconds());
        };
    };
    w.spawn("a", sleeper('a', milliseconds(30)));
    w.spawn("b", sleeper('b', milliseconds(10)));
    w.spawn("c", sleeper('c', milliseconds(20)));
    w.spawn("d", sleeper('d', milliseconds(10)));
    w.spawn("e", sleeper('e', nanoseconds(0)));
    w.run();
    using rows = std::vector<std::pair<char, std::uint64_t>>;
    CHECK(woke == rows{{'e', 0}, {'b', 10'000'000}, {'d', 10'000'000}, {'c', 20'000'000}, {'a', 30'000'000}});
    CHECK(w.processors[0].idle_time() == milliseconds(30));
}

TEST_CASE("a thread woken before its deadline leaves no alarm behind")
{
    world w;
    world::thread* sleeper = &w.spawn("sleeper", [&] {
        w.sched.park(w.sched.now() + seconds(5));
        CHECK(w.sched.now() == instant{1'000'000});
    });
    w.spawn("waker", [&] {
        w.machine.spend(milliseconds(1));
        w.sched.unpark(&sleeper->task_);
    });
    w.run();
    CHECK(w.all_ended());
    CHECK(w.machine.now() < instant{} + seconds(6)); // at most one tick with nothing to do
}

TEST_CASE("threads that never give up the CPU share it by slices, and one alone is not disturbed")
{
    world w;
    trace::registry metrics;
    auto source = w.sched.make_metrics_source();
    metrics.add(source);
    std::vector<std::uint64_t> ends;
    const auto burn = [&] {
        w.machine.spend(milliseconds(95));
        ends.push_back(w.machine.now().nanoseconds());
    };
    auto& a = w.spawn("a", burn);
    w.run();
    CHECK(metrics.value("exo_sched_ticks_total") == 0);
    auto& b = w.make("b", burn);
    auto& c = w.make("c", burn);
    w.machine.interrupt(0, [&] {
        w.sched.start(b.task_);
        w.sched.start(c.task_);
    });
    w.run();
    CHECK(ends == std::vector<std::uint64_t>{95'000'000, 280'000'000, 285'000'000});
    CHECK(a.task_.run_time() == milliseconds(95));
    CHECK(b.task_.run_time() == milliseconds(95));
    CHECK(b.task_.involuntary_switches() == 9); // slices of 10 ms; the last ends by itself
    CHECK(c.task_.involuntary_switches() == 9);
}

TEST_CASE("an interrupt that wakes a better thread lets it run at once, and the interrupted one goes on where it was")
{
    world w;
    std::vector<std::pair<char, std::uint64_t>> log;
    auto& high = w.make("high", [&] {
        for (int i = 0; i < 3; ++i) {
            w.sched.park(instant::never());
            log.emplace_back('h', w.machine.now().nanoseconds());
            w.machine.spend(microseconds(10));
        }
    });
    high.task_.set(fifo(50));
    w.sched.start(high.task_);
    auto& low = w.spawn("low", [&] {
        w.machine.spend(milliseconds(5));
        log.emplace_back('l', w.machine.now().nanoseconds());
    });
    struct ticker : world::scheduler::timer {
        explicit ticker(world& of, world::task& t) : timer{&ring}, w{of}, target{t} {}
        static instant ring(timer& self, instant now) noexcept
        {
            auto& me = static_cast<ticker&>(self);
            me.w.sched.unpark(&me.target);
            return ++me.rings == 3 ? instant::never() : now + milliseconds(1);
        }
        world& w;
        world::task& target;
        int rings{};
    } every_millisecond{w, high.task_};
    w.sched.arm(every_millisecond, instant{1'000'000});
    w.run();
    using rows = std::vector<std::pair<char, std::uint64_t>>;
    CHECK(log == rows{{'h', 1'000'000}, {'h', 2'000'000}, {'h', 3'000'000}, {'l', 5'030'000}});
    CHECK(low.task_.run_time() == milliseconds(5));
    CHECK(high.task_.run_time() == microseconds(30));
    CHECK(!w.sched.cancel(every_millisecond));
}

TEST_CASE("a timer that was cancelled is not called")
{
    world w;
    struct once : world::scheduler::timer {
        once() : timer{[](timer& self, instant) noexcept {
            ++static_cast<once&>(self).rings;
            return instant::never();
        }}
        {
        }
        int rings{};
    } kept, cancelled;
    w.spawn("t", [&] {
        w.sched.arm(cancelled, w.sched.now() + milliseconds(1));
        w.sched.arm(kept, w.sched.now() + milliseconds(2));
        CHECK(w.sched.cancel(cancelled));
        CHECK(!w.sched.cancel(cancelled));
        w.machine.spend(milliseconds(3));
        CHECK(!w.sched.cancel(kept));
    });
    w.run();
    CHECK(kept.rings == 1);
    CHECK(cancelled.rings == 0);
}

TEST_CASE("whoever wakes a better thread under a spin lock is pre-empted when it lets go, not before")
{
    world w;
    std::string log;
    auto& high = w.make("high", [&] {
        w.sched.park(instant::never());
        log += 'h';
    });
    high.task_.set(fifo(1));
    w.sched.start(high.task_);
    w.spawn("low", [&] {
        sync::spin_lock<sync::lock_rank::device, world::scheduler> lock;
        auto guard = lock.lock(w.sched);
        w.sched.unpark(&high.task_);
        log += 'l';
        guard.unlock();
        log += 'L';
    });
    w.run();
    CHECK(log == "lhL");
}

TEST_CASE("policy and priority change while a thread runs, waits, sleeps, or has not started")
{
    world w;
    std::string log;
    world::thread* a{};
    world::thread* b{};
    world::thread* c{};
    const auto to_fifo = [&](world::thread& t, unsigned priority) {
        w.sched.set_parameters(t.task_, fifo(priority));
    };
    const auto to_normal = [&](world::thread& t) {
        w.sched.set_parameters(t.task_, normal);
    };
    a = &w.make("a", [&] {
        log += 'a';
        w.sched.park(instant::never()); // b makes it FIFO 9 meanwhile, then wakes it
        log += 'A';
    });
    b = &w.make("b", [&] {
        log += 'b';
        to_fifo(*a, 9);
        w.sched.unpark(&a->task_);
        to_fifo(*c, 5); // waits in the queue: now better than b, and less than a
        log += 'B';
        to_fifo(*b, 3);
        log += '+';
        w.sched.start(w.make("d", [&] { log += 'd'; }).task_);
        to_normal(*b); // behind d
        log += '-';
    });
    c = &w.make("c", [&] { log += 'c'; });
    to_fifo(*a, 1);
    w.sched.start(a->task_);
    w.sched.start(b->task_);
    w.sched.start(c->task_);
    w.run();
    CHECK(log == "abAcB+d-");
}

TEST_CASE("a change that does not raise a thread lets none of its equals go first, one that raises it lets all")
{
    using task = world::task;
    const auto keep = [](world& w, task& t) { REQUIRE(w.sched.set_affinity(t, cpu_set::of(0)).has_value()); };
    const auto to = [](unsigned priority) {
        return [priority](world& w, task& t) { w.sched.set_parameters(t, fifo(priority)); };
    };
    // What runs as FIFO 20 starts others, which say their names, by priority, and changes one of them, or itself.
    const auto order = [](std::vector<std::pair<char, unsigned>> others, char changed, auto change) {
        world w;
        std::string log;
        auto& first = w.make("first", [&] {
            task* subject = w.sched.current();
            for (const auto& [name, priority] : others) {
                auto& t = w.make("other", [&log, name = name] { log += name; });
                w.sched.set_parameters(t.task_, fifo(priority));
                w.sched.start(t.task_);
                if (name == changed)
                    subject = &t.task_;
            }
            change(w, *subject);
            log += '.';
        });
        w.sched.set_parameters(first.task_, fifo(20));
        w.sched.start(first.task_);
        w.run();
        CHECK(w.all_ended());
        return log;
    };
    CHECK(order({{'a', 15}, {'b', 10}}, '.', to(16)) == ".ab");
    CHECK(order({{'a', 15}, {'b', 10}}, '.', to(15)) == ".ab");
    CHECK(order({{'a', 15}, {'b', 10}}, '.', to(10)) == "a.b");
    CHECK(order({{'a', 15}, {'b', 10}}, '.', to(9)) == "ab.");
    CHECK(order({{'a', 20}}, '.', keep) == ".a");
    CHECK(order({{'a', 20}}, '.', to(20)) == ".a");
    CHECK(order({{'a', 20}}, '.', [](world& w, task& t) {
              w.sched.set_parameters(
                  t, queue::parameters::of<sched::fixed_priority>(sched::fixed_priority::round_robin(20)));
          }) == ".a");
    // Whoever yields meanwhile goes behind them.
    for (const unsigned priority : {19u, 20u})
        CHECK(order({{'a', 20}, {'b', 19}}, '.', [&](world& w, task& t) {
                  const auto saved = w.machine.save_and_disable();
                  to(15)(w, t);
                  to(priority)(w, t);
                  w.sched.yield();
                  w.machine.restore(saved);
              }) == (priority == 20 ? "a.b" : "ab."));

    CHECK(order({{'a', 10}, {'x', 15}, {'b', 10}}, 'x', to(10)) == ".xab");
    CHECK(order({{'a', 10}, {'x', 5}, {'b', 10}}, 'x', to(10)) == ".abx");
    CHECK(order({{'a', 10}, {'x', 10}, {'b', 10}}, 'x', to(10)) == ".axb");
    CHECK(order({{'a', 10}, {'x', 10}, {'b', 10}}, 'x', keep) == ".axb");
    CHECK(order({{'a', 20}, {'x', 25}, {'b', 20}}, '.', keep) == "x.ab");
}

TEST_CASE("a mutex on the scheduler excludes, whatever interrupts its holder, and a wait queue loses no wake-up")
{
    for (unsigned seed = 0; seed < 40; ++seed) {
        world w{1 + seed % 4};
        w.machine.explore(seed);
        std::mt19937 random{seed};
        sync::mutex<sync::lock_rank::inode> mutex;
        sync::wait_queue changed;
        int inside = 0;
        std::vector<int> items;
        int produced = 0;
        int consumed = 0;
        constexpr int each = 30;
        constexpr int pairs = 4;
        for (int i = 0; i < pairs; ++i) {
            w.spawn("producer", [&] {
                for (int n = 0; n < each; ++n) {
                    auto guard = mutex.lock(w.parker);
                    CHECK(++inside == 1);
                    w.machine.spend(microseconds(random() % 3000));
                    items.push_back(++produced);
                    --inside;
                    guard.unlock();
                    changed.wake_one(w.parker);
                }
            }, static_cast<unsigned>(i) % w.machine.cpu_limit());
            w.spawn("consumer", [&] {
                for (int n = 0; n < each; ++n) {
                    std::optional<int> got;
                    changed.wait(w.parker, [&] {
                        auto guard = mutex.lock(w.parker);
                        CHECK(++inside == 1);
                        w.machine.spend(microseconds(random() % 1000));
                        if (!items.empty()) {
                            got = items.back();
                            items.pop_back();
                        }
                        --inside;
                        return got.has_value();
                    });
                    ++consumed;
                }
            }, static_cast<unsigned>(i + 1) % w.machine.cpu_limit());
        }
        w.run();
        REQUIRE(w.all_ended());
        CHECK(consumed == each * pairs);
    }
}

TEST_CASE("threads go to the CPU they were started on, through its inbox, and stay where they may run")
{
    world w{3};
    trace::registry metrics;
    auto source = w.sched.make_metrics_source();
    metrics.add(source);
    std::array<int, 3> ran{};
    w.spawn("parent", [&] {
        for (unsigned cpu = 0; cpu < 3; ++cpu)
            for (int i = 0; i < 2; ++i) {
                auto& child = w.make("child", [&, cpu] {
                    for (int n = 0; n < 5; ++n) {
                        CHECK(w.machine.current_cpu() == cpu);
                        w.machine.spend(milliseconds(7));
                        w.sched.park(w.sched.now() + milliseconds(3));
                    }
                    ++ran[cpu];
                });
                child.task_.set_affinity(cpu_set::of(cpu));
                w.sched.start(child.task_, cpu);
            }
        CHECK(metrics.value("exo_sched_kicks_total") == 2); // the second finds the inbox not empty
    });
    w.run();
    CHECK(ran == std::array{2, 2, 2});
    CHECK(metrics.value("exo_sched_tasks_started_total") == 7);
    CHECK(metrics.value("exo_sched_tasks_ended_total") == 7);
    CHECK(metrics.value("exo_sched_sent_total") == 4);
    CHECK(metrics.value("exo_sched_migrations_total") == 0);
    CHECK(metrics.value("exo_sched_parks_total") == 30);
    CHECK(metrics.value("exo_sched_parks_timed_total") == 30);
    CHECK(metrics.value("exo_sched_wake_ups_total") == 30);
}

TEST_CASE("a better thread that is woken from another CPU interrupts what runs on its own")
{
    world w{2};
    std::vector<std::uint64_t> woke;
    auto& high = w.make("high", [&] {
        w.sched.park(instant::never());
        woke.push_back(w.machine.now().nanoseconds());
    });
    high.task_.set(fifo(7));
    w.sched.start(high.task_, 1);
    w.spawn("busy", [&] {
        w.machine.spend(milliseconds(10));
        woke.push_back(w.machine.now().nanoseconds());
    }, 1);
    w.spawn("waker", [&] {
        w.machine.spend(milliseconds(2));
        w.sched.unpark(&high.task_);
    });
    w.run();
    CHECK(woke == std::vector<std::uint64_t>{2'000'000, 10'000'000});
}

TEST_CASE("a thread that runs on another CPU is interrupted there if it is told of an interruption, and only then")
{
    world w{2};
    const auto kicks = [&] {
        std::uint64_t sum = 0;
        for (const auto& p : w.processors)
            sum += p.metrics().kicks.value();
        return sum;
    };
    std::vector<std::uint64_t> sent;
    auto& target = w.spawn("runs", [&] { w.machine.spend(milliseconds(2)); }, 1);
    w.spawn("tells", [&] {
        w.machine.spend(milliseconds(1));
        const auto before = kicks();
        w.sched.unpark(&target.task_);
        sent.push_back(kicks() - before);
        target.task_.interrupt_pending = true;
        w.sched.unpark(&target.task_);
        sent.push_back(kicks() - before);
        w.sched.unpark(w.sched.current()); // here: it looks on its way out
        w.sched.current()->interrupt_pending = true;
        w.sched.unpark(w.sched.current());
        sent.push_back(kicks() - before);
    }, 0);
    w.run();
    CHECK(sent == std::vector<std::uint64_t>{0, 1, 1});
}

TEST_CASE("what a workload does shows in the metrics, each by its name")
{
    world w;
    trace::registry metrics;
    auto source = w.sched.make_metrics_source();
    metrics.add(source);
    const auto moved = [&](const std::string& name) { return metrics.value("exo_sched_" + name + "_total").value(); };
    auto& a = w.spawn("a", [&] {
        w.sched.unpark(w.sched.current());
        w.sched.park(instant::never()); // the token is there
        w.sched.park(instant::never());
    });
    w.spawn("b", [&] {
        w.sched.yield();
        w.sched.unpark(&a.task_);
    });
    w.run();
    CHECK(moved("tasks_started") == 2);
    CHECK(moved("tasks_ended") == 2);
    CHECK(moved("parks") == 1);
    CHECK(moved("parks_with_token") == 1);
    CHECK(moved("wake_ups") == 1);
    CHECK(moved("yields") == 1);
    CHECK(moved("switches_voluntary") == 4); // a parks; b ends; a ends; and the idle thread left first
    CHECK(moved("switches_involuntary") == 0);
    CHECK(moved("switches") == 4);
}

// Random threads on random CPUs, every few instructions an interrupt; after each switch the books must balance.
TEST_CASE("no thread is lost or runs twice, and no CPU idles while a thread waits for it, under random workloads")
{
    std::uint64_t switches = 0;
    for (unsigned seed = 0; seed < 60; ++seed) {
        world w{1 + seed % 5};
        const unsigned cpus = w.machine.cpu_limit();
        w.machine.explore(seed);
        std::mt19937 random{seed};
        std::map<unsigned, const world::task*> on_cpu;
        w.on_switch = [&](world::task& previous, world::task& next) {
            ++switches;
            const unsigned cpu = w.machine.current_cpu();
            if (const auto before = on_cpu.find(cpu); before != on_cpu.end())
                REQUIRE(before->second == &previous);
            for (const auto& [other, task] : on_cpu)
                REQUIRE((other == cpu || task != &next));
            on_cpu[cpu] = &next;
            if (next.name() == "idle") {
                REQUIRE(w.processors[cpu].waiting() == 0);
            } else {
                REQUIRE(next.state() == task_state::ready);
                REQUIRE(next.cpu() == cpu);
            }
        };
        sync::wait_queue bell;
        unsigned rings = 0;
        int finished = 0;
        constexpr int count = 24;
        for (int i = 0; i < count; ++i) {
            auto& t = w.make("random", [&, i] {
                for (int n = 0; n < 40; ++n) {
                    switch (random() % 7) {
                    case 0: w.sched.yield(); break;
                    case 1: w.machine.spend(microseconds(random() % 15'000)); break;
                    case 2: w.sched.park(w.sched.now() + microseconds(random() % 20'000)); break;
                    case 3: w.sched.unpark(&w.threads[random() % count]->task_); break;
                    case 4: {
                        ++rings;
                        bell.wake_all(w.parker);
                        break;
                    }
                    case 5: {
                        const unsigned heard = rings;
                        (void)bell.wait_interruptible(w.parker, [&] { return rings != heard; },
                                                      w.sched.now() + milliseconds(30));
                        break;
                    }
                    case 6: {
                        auto& self = *w.sched.current();
                        CHECK(self.owner == w.threads[static_cast<unsigned>(i)].get());
                        const auto priority = 1 + static_cast<unsigned>(random() % 3);
                        w.sched.set_parameters(self, random() % 2
                                                      ? normal
                                                      : queue::parameters::of<sched::fixed_priority>(
                                                            sched::fixed_priority::round_robin(priority, milliseconds(4))));
                        break;
                    }
                    }
                }
                ++finished;
                // A thread may be unparked until all have finished: so it ends only then.
                bell.wake_all(w.parker);
                bell.wait(w.parker, [&] { return finished == count; });
            });
            w.sched.start(t.task_, static_cast<unsigned>(i) % cpus);
        }
        w.run();
        REQUIRE(finished == count);
        REQUIRE(w.all_ended());
        REQUIRE(std::set<void*>(w.ended.begin(), w.ended.end()).size() == count);
        duration used{};
        for (auto& t : w.threads)
            used += t->task_.run_time();
        for (auto& p : w.processors) {
            used += p.idle_time();
            REQUIRE(p.waiting() == 0);
        }
        REQUIRE(used <= (w.machine.now() - instant{}) * cpus);
    }
    CHECK(switches > 50'000);
}
