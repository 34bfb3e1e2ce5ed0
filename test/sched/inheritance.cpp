// Who holds what something more urgent waits for.

#include <doctest/doctest.h>

#include <array>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <exo/sched/inheritance.hpp>
#include <exo/sched/inheriting_mutex.hpp>
#include <exo/sched/policies/fixed_priority.hpp>
#include <exo/sched/policies/round_robin.hpp>
#include <exo/sched/run_queue.hpp>
#include <exo/trace/registry.hpp>

#include "world.hpp"

using namespace exo;
using queue = sched::run_queue<sched::fixed_priority, sched::round_robin>;
using world = sched_test::world<queue>;
// Of one rank, and taken in any order.
using mutex = sched::inheriting_mutex<world::scheduler, sync::lock_rank::futexes, sync::unobserved>;

namespace {

queue::parameters fifo(unsigned priority)
{
    return queue::parameters::of<sched::fixed_priority>(sched::fixed_priority::fifo(priority));
}

world::thread& make(world& w, std::string_view name, unsigned priority, std::function<void()> body)
{
    auto& t = w.make(name, std::move(body));
    if (priority != 0)
        t.task_.set(fifo(priority));
    return t;
}

} // namespace

TEST_CASE("who holds a lock is as urgent as the most urgent that waits, along chains, whatever changes")
{
    using inheritance = sched::inheritance<sched::fixed_priority>;
    using fixed = sched::fixed_priority;
    constexpr std::size_t tasks = 12;
    constexpr std::size_t locks = 6;
    std::uint64_t chains = 0;
    std::uint64_t refused = 0;
    for (unsigned seed = 0; seed < 100; ++seed) {
        std::mt19937 random{seed};
        std::array<inheritance::holder, tasks> holders;
        std::array<inheritance::lock, locks> all;
        std::array<std::optional<std::size_t>, locks> owner;
        std::array<std::optional<std::size_t>, tasks> waits;
        std::array<unsigned, tasks> told{}; // the priority of the last call of changed()
        const auto changed = [&](inheritance::holder& h) {
            told[static_cast<std::size_t>(&h - holders.data())] = h.effective().priority;
        };
        const auto set_base = [&](std::size_t i) {
            inheritance::set_base(holders[i], fixed::fifo(1 + static_cast<unsigned>(random() % 99)), changed);
        };
        for (std::size_t i = 0; i < tasks; ++i) {
            told[i] = holders[i].effective().priority;
            set_base(i);
        }
        // By definition, without any memory of how it came about.
        const auto urgency = [&](const auto& self, std::size_t i) -> unsigned {
            unsigned best = holders[i].base().priority;
            for (std::size_t l = 0; l < locks; ++l)
                if (owner[l] == i)
                    for (std::size_t w = 0; w < tasks; ++w)
                        if (waits[w] == l)
                            best = std::max(best, self(self, w));
            return best;
        };
        const auto reaches = [&](std::size_t from, std::size_t to) {
            for (;; from = *owner[*waits[from]]) {
                if (from == to)
                    return true;
                if (!waits[from])
                    return false;
                ++chains;
            }
        };
        for (int step = 0; step < 2000; ++step) {
            const std::size_t i = random() % tasks;
            const std::size_t l = random() % locks;
            switch (random() % 5) {
            case 0: set_base(i); break;
            case 1:
            case 2:
                if (waits[i])
                    break;
                if (!owner[l]) {
                    owner[l] = i;
                } else {
                    const bool cycle = reaches(*owner[l], i);
                    REQUIRE(inheritance::wait(holders[i], all[l], holders[*owner[l]], changed) == !cycle);
                    refused += cycle;
                    if (!cycle)
                        waits[i] = l;
                }
                break;
            case 3:
                if (!owner[l] || waits[*owner[l]])
                    break;
                if (!all[l].contended()) {
                    owner[l].reset();
                } else {
                    unsigned best = 0;
                    for (std::size_t w = 0; w < tasks; ++w)
                        if (waits[w] == l)
                            best = std::max(best, urgency(urgency, w));
                    const auto next = static_cast<std::size_t>(&inheritance::hand_over(all[l], changed) - holders.data());
                    REQUIRE(waits[next] == l);
                    waits[next].reset();
                    owner[l] = next;
                    REQUIRE(urgency(urgency, next) == best);
                }
                break;
            case 4:
                if (waits[i]) {
                    inheritance::give_up(holders[i], changed);
                    waits[i].reset();
                }
                break;
            }
            for (std::size_t t = 0; t < tasks; ++t) {
                REQUIRE(holders[t].effective().priority == urgency(urgency, t));
                REQUIRE(told[t] == holders[t].effective().priority);
            }
        }
        for (std::size_t t = 0; t < tasks; ++t)
            if (waits[t])
                inheritance::give_up(holders[t], changed);
    }
    CHECK(chains > 10'000);
    CHECK(refused > 1000);
}

TEST_CASE("what is done for a chain is bounded: who would wait at the end of a longer one is told, and no change goes "
          "further")
{
    using inheritance = sched::inheritance<sched::fixed_priority>;
    using fixed = sched::fixed_priority;
    constexpr std::size_t longest = inheritance::longest_chain;
    // Each waits for a lock that the one before it has.
    std::vector<inheritance::holder> chain(longest + 2);
    std::vector<inheritance::lock> held(longest + 2);
    std::size_t changes = 0;
    const auto changed = [&](inheritance::holder&) { ++changes; };
    for (std::size_t i = 0; i < longest; ++i)
        REQUIRE(inheritance::wait(chain[i + 1], held[i], chain[i], changed));
    CHECK(!inheritance::wait(chain[longest + 1], held[longest], chain[longest], changed));
    CHECK(!held[longest].contended());
    inheritance::set_base(chain[longest], fixed::fifo(50), changed);
    CHECK(changes == longest + 1);
    CHECK(chain[0].effective() == fixed::fifo(50));

    // It grows at the other end, where it is short.
    inheritance::holder first;
    inheritance::lock before;
    REQUIRE(inheritance::wait(chain[0], before, first, changed));
    CHECK(first.effective() == fixed::fifo(50));
    changes = 0;
    inheritance::set_base(chain[longest], fixed::fifo(60), changed);
    CHECK(changes == longest + 1);
    CHECK(chain[0].effective() == fixed::fifo(60));
    CHECK(first.effective() == fixed::fifo(50)); // too far away

    // Whoever lets go has what it had, and who comes after it what the rest of the chain gives.
    CHECK(&inheritance::hand_over(before, changed) == &chain[0]);
    CHECK(first.effective() == first.base());
    CHECK(chain[0].effective() == fixed::fifo(60));
    for (std::size_t i = 0; i < longest; ++i) {
        REQUIRE(&inheritance::hand_over(held[i], changed) == &chain[i + 1]);
        REQUIRE(chain[i].effective() == chain[i].base());
    }
}

TEST_CASE("of many locks that one holds the most urgent waiter decides, whoever comes and goes")
{
    using inheritance = sched::inheritance<sched::fixed_priority>;
    using fixed = sched::fixed_priority;
    constexpr unsigned locks = 99;
    inheritance::holder owner;
    std::array<inheritance::holder, locks> waiters;
    std::array<inheritance::lock, locks> all;
    const auto ignore = [](inheritance::holder&) {};
    for (unsigned i = 0; i < locks; ++i) {
        inheritance::set_base(waiters[i], fixed::fifo(1 + (i * 37) % locks), ignore);
        REQUIRE(inheritance::wait(waiters[i], all[i], owner, ignore));
    }
    for (unsigned most = locks; most > 0; --most) {
        REQUIRE(owner.effective() == fixed::fifo(most));
        for (unsigned i = 0; i < locks; ++i)
            if (waiters[i].base() == fixed::fifo(most))
                most % 2 != 0 ? inheritance::give_up(waiters[i], ignore)
                              : static_cast<void>(inheritance::hand_over(all[i], ignore));
    }
    CHECK(owner.effective() == owner.base());
}

// As it stopped the Mars Pathfinder: a thread in the middle keeps the holder, and so the most urgent, from running.
TEST_CASE("a thread in the middle does not keep the most urgent from a lock that the least urgent holds")
{
    world w;
    trace::registry metrics;
    auto source = w.sched.make_metrics_source();
    metrics.add(source);
    mutex m;
    std::string log;
    auto& high = make(w, "high", 30, [&] {
        auto guard = m.lock(w.sched);
        REQUIRE(guard.has_value());
        log += 'h';
    });
    auto& middle = make(w, "middle", 20, [&] {
        w.machine.spend(milliseconds(50));
        log += 'm';
    });
    auto& low = make(w, "low", 10, [&] {
        {
            auto guard = m.lock(w.sched);
            REQUIRE(guard.has_value());
            w.machine.spend(milliseconds(1));
            w.sched.start(high.task_);
            w.sched.start(middle.task_);
            CHECK(w.sched.parameters(*w.sched.current()) == fifo(10)); // as was asked for
            w.machine.spend(milliseconds(1));
            log += 'l';
        }
        w.machine.spend(milliseconds(1));
        log += 'L';
    });
    w.sched.start(low.task_);
    w.run();
    CHECK(log == "lhmL");
    CHECK(metrics.value("exo_sched_priority_inheritances_total") == 1);
}

TEST_CASE("a thread that inherited goes on before its equals when it has let go")
{
    world w;
    mutex m;
    std::string log;
    auto& high = make(w, "high", 30, [&] {
        auto guard = m.lock(w.sched);
        REQUIRE(guard.has_value());
        log += 'h';
    });
    auto& equal = make(w, "equal", 10, [&] { log += 'e'; });
    auto& low = make(w, "low", 10, [&] {
        {
            auto guard = m.lock(w.sched);
            REQUIRE(guard.has_value());
            w.sched.start(equal.task_);
            w.sched.start(high.task_);
            log += 'l';
        }
        log += 'L';
        w.sched.yield();
        log += 'y';
    });
    w.sched.start(low.task_);
    w.run();
    CHECK(log == "lhLey");
}

TEST_CASE("a lock goes to the most urgent that waits, to equals in order, and a wait may end without it")
{
    world w;
    mutex m;
    std::string log;
    const auto want = [&](char name) {
        return [&, name] {
            auto guard = m.lock(w.sched);
            REQUIRE(guard.has_value());
            log += name;
        };
    };
    make(w, "owner", 1, [&] {
        auto first = m.lock(w.sched);
        REQUIRE(first.has_value());
        CHECK(m.lock(w.sched).error() == sched::errors::would_deadlock); // itself
        w.sched.start(make(w, "a", 5, want('a')).task_);
        w.sched.start(make(w, "b", 7, want('b')).task_);
        w.sched.start(make(w, "c", 5, want('c')).task_);
        w.sched.start(make(w, "late", 9, [&] {
            CHECK(m.lock(w.sched, w.sched.now() + milliseconds(3)).error() == sched::errors::timed_out);
            log += 't';
        }).task_);
        auto& interrupted = make(w, "interrupted", 8, [&] {
            CHECK(m.lock_interruptible(w.sched).error() == sched::errors::interrupted);
            log += 'i';
        });
        w.sched.start(interrupted.task_);
        w.sched.park(w.sched.now() + milliseconds(5));
        interrupted.task_.interrupt_pending = true;
        w.sched.unpark(&interrupted.task_);
        w.sched.park(w.sched.now() + milliseconds(1));
        log += 'o';
    });
    w.sched.start(w.threads[0]->task_);
    w.run();
    CHECK(log == "tiobac");
    CHECK(!m.held());
    CHECK(w.all_ended());
}

TEST_CASE("two threads that lock in opposite order: one is told")
{
    world w{2};
    mutex a, b;
    int told = 0;
    const auto both = [&](mutex& first, mutex& second) {
        return [&] {
            auto one = first.lock(w.sched);
            REQUIRE(one.has_value());
            w.machine.spend(milliseconds(1));
            auto two = second.lock(w.sched);
            told += !two && two.error() == sched::errors::would_deadlock;
        };
    };
    w.spawn("ab", both(a, b), 0);
    w.spawn("ba", both(b, a), 1);
    w.run();
    CHECK(told == 1);
    CHECK(w.all_ended());
}

TEST_CASE("an inheriting mutex excludes, on CPUs interrupted anywhere, and leaves nobody with what was inherited")
{
    std::uint64_t inherited = 0;
    int timeouts = 0;
    for (unsigned seed = 0; seed < 60; ++seed) {
        world w{1 + seed % 4};
        w.machine.explore(seed);
        std::mt19937 random{seed};
        std::array<mutex, 3> locks;
        std::array<int, 3> inside{};
        for (unsigned i = 0; i < 8; ++i) {
            const unsigned priority = i % 3 ? i : 0;
            auto& t = make(w, "t", priority, [&, priority] {
                for (int n = 0; n < 40; ++n) {
                    const std::size_t outer = random() % 3;
                    const std::size_t inner = outer + 1 + random() % 2;
                    auto guard = locks[outer].lock(w.sched);
                    REQUIRE(guard.has_value());
                    CHECK(++inside[outer] == 1);
                    w.machine.spend(microseconds(random() % 500));
                    if (inner < 3) {
                        auto second = locks[inner].lock(w.sched, random() % 2 ? w.sched.now() + microseconds(random() % 900)
                                                                              : instant::never());
                        if (second) {
                            CHECK(++inside[inner] == 1);
                            w.machine.spend(microseconds(random() % 500));
                            --inside[inner];
                        } else {
                            CHECK(second.error() == sched::errors::timed_out);
                            ++timeouts;
                        }
                    }
                    --inside[outer];
                    if (random() % 4 == 0) {
                        guard->unlock();
                        w.sched.park(w.sched.now() + microseconds(random() % 700));
                    }
                }
                // Nothing is held: it is what it was.
                auto& self = *w.sched.current();
                w.sched.yield();
                CHECK(self.parameters() == (priority ? fifo(priority) : queue::parameters{}));
            });
            w.sched.start(t.task_, i % w.machine.cpu_limit());
        }
        w.run();
        REQUIRE(w.all_ended());
        trace::registry metrics;
        auto source = w.sched.make_metrics_source();
        metrics.add(source);
        inherited += metrics.value("exo_sched_priority_inheritances_total").value();
    }
    CHECK(inherited > 1000);
    CHECK(timeouts > 20);
}
