#include <doctest/doctest.h>

#include <deque>
#include <random>
#include <string>
#include <vector>

#include <exo/sched/policies/fixed_priority.hpp>
#include <exo/sched/policies/round_robin.hpp>
#include <exo/sched/run_queue.hpp>
#include <laws/policy_laws.hpp>

using namespace exo;
using namespace exo::sched;
using both = run_queue<fixed_priority, round_robin>;

TEST_CASE("round robin keeps the laws of a policy")
{
    laws::check_policy<round_robin>([](auto&, unsigned) {}, [](auto&) {});
}

TEST_CASE("fixed priority keeps the laws of a policy")
{
    laws::check_policy<fixed_priority>(
        [](auto& e, unsigned i) {
            if (i % 2)
                e.set(fixed_priority::fifo(1 + i % 99));
            else
                e.set(fixed_priority::round_robin(1 + i % 5, milliseconds(1 + i % 3)));
        },
        [](auto& e) { e.set(fixed_priority::fifo(64)); });
}

TEST_CASE("a run queue of two policies keeps the laws of a policy")
{
    laws::check_policy<both>(
        [](auto& e, unsigned i) {
            if (i % 3 == 0)
                e.set(both::parameters::of<fixed_priority>(fixed_priority::round_robin(1 + i % 99)));
            else if (i % 3 == 1)
                e.set(both::parameters::of<fixed_priority>(fixed_priority::fifo(1 + i % 4)));
            else
                e.set(both::parameters::of<round_robin>({}));
        },
        [](auto&) {});
    laws::check_policy<run_queue<round_robin>>([](auto&, unsigned) {}, [](auto&) {});
    laws::check_policy<run_queue<both>>([](auto&, unsigned) {}, [](auto&) {}); // a run queue is a policy
}

TEST_CASE("fixed priority runs the highest first, and equals as POSIX orders them")
{
    struct item : fixed_priority::entity {
        std::size_t id{};
    };
    std::mt19937 random{7};
    const instant now{1000};
    fixed_priority policy;
    std::vector<item> items(200);
    std::deque<item*> lists[100]; // the model: one list for each priority
    for (std::size_t i = 0; i < items.size(); ++i) {
        const unsigned edges[] = {1, 63, 64, 99};
        const unsigned priority = i < 4 ? edges[i] : 1 + static_cast<unsigned>(random() % 99);
        items[i].set(i % 2 ? fixed_priority::fifo(priority) : fixed_priority::round_robin(priority));
        policy.enqueue(items[i], arrival::created, now);
        lists[priority].push_back(&items[i]);
    }
    for (int step = 0; step < 20'000; ++step) {
        unsigned top = 99;
        while (lists[top].empty())
            --top;
        item* expected = lists[top].front();
        auto* picked = static_cast<item*>(policy.pick(now));
        REQUIRE(picked == expected);
        lists[top].pop_front();
        switch (random() % 4) {
        case 0: // as a thread preempted by another, it is the head of its list
            policy.requeue(*picked, departure::preempted, now);
            lists[top].push_front(picked);
            break;
        case 1: // as a thread whose quantum is over, or that calls sched_yield, the tail
            policy.requeue(*picked, random() % 2 ? departure::turn_over : departure::yielded, now);
            lists[top].push_back(picked);
            break;
        default: // after a sleep, the tail of the list for its, perhaps changed, priority
            policy.dequeue(*picked);
            const unsigned priority = 1 + static_cast<unsigned>(random() % 99);
            picked->set(fixed_priority::round_robin(priority));
            policy.enqueue(*picked, arrival::woken, now);
            lists[priority].push_back(picked);
        }
    }
    while (auto* e = policy.pick(now))
        policy.dequeue(*e);
}

TEST_CASE("whose priority was lowered comes before its equals, but for the one that runs; others come after them")
{
    fixed_priority policy;
    fixed_priority::entity runs, waits, lowered, raised, woken;
    const instant now{1000};
    for (auto* e : {&runs, &waits, &lowered, &raised, &woken})
        e->set(fixed_priority::round_robin(10));
    policy.enqueue(runs, arrival::created, now);
    CHECK(policy.pick(now) == &runs);
    policy.enqueue(waits, arrival::created, now);
    policy.enqueue(lowered, arrival::changed, now);
    policy.enqueue(raised, arrival::moved, now);
    policy.enqueue(woken, arrival::woken, now);
    CHECK(!policy.preempts(lowered, runs));
    policy.requeue(runs, departure::preempted, now);
    CHECK(policy.pick(now) == &runs);
    policy.requeue(runs, departure::turn_over, now);
    for (auto* e : {&lowered, &waits, &raised, &woken}) {
        CHECK(policy.pick(now) == e);
        policy.dequeue(*e);
    }
    waits.set(fixed_priority::fifo(9));
    policy.enqueue(waits, arrival::woken, now);
    lowered.set(fixed_priority::fifo(9));
    policy.enqueue(lowered, arrival::changed, now); // nothing of its priority runs
    for (auto* e : {&runs, &lowered, &waits}) {
        CHECK(policy.pick(now) == e);
        policy.dequeue(*e);
    }
    policy.enqueue(lowered, arrival::changed, now); // nor waits
    CHECK(policy.pick(now) == &lowered);
    policy.dequeue(lowered);
}

TEST_CASE("only round-robin threads have turns, and only against threads of their own priority")
{
    fixed_priority policy;
    fixed_priority::entity running, other;
    const instant now{1000};
    running.set(fixed_priority::round_robin(10, milliseconds(5)));
    other.set(fixed_priority::fifo(9));
    policy.enqueue(running, arrival::created, now);
    CHECK(policy.pick(now) == &running);
    policy.enqueue(other, arrival::created, now);
    CHECK(policy.turn_ends(running, now) == instant::never());
    CHECK(!policy.tick(running, milliseconds(7), now));
    policy.dequeue(other);
    other.set(fixed_priority::fifo(10));
    policy.enqueue(other, arrival::woken, now);
    CHECK(policy.turn_ends(running, now) == now); // it had more than its quantum already
    CHECK(policy.tick(running, duration{}, now));
    policy.requeue(running, departure::turn_over, now);
    CHECK(policy.pick(now) == &other);
    CHECK(policy.turn_ends(other, now) == instant::never());
    CHECK(!policy.tick(other, seconds(1), now));
    policy.dequeue(other);
    CHECK(policy.pick(now) == &running);
    policy.enqueue(other, arrival::woken, now);
    CHECK(policy.turn_ends(running, now) == now + milliseconds(5)); // a full quantum again
    CHECK(!policy.tick(running, milliseconds(4), now));
    policy.requeue(running, departure::preempted, now);
    CHECK(policy.pick(now) == &running);
    CHECK(policy.turn_ends(running, now) == now + milliseconds(1)); // what was left of it
    CHECK(!policy.preempts(other, running));
    policy.dequeue(running);
    policy.dequeue(other);
}

TEST_CASE("round robin gives every thread the same time, whatever interrupts their turns")
{
    round_robin policy{milliseconds(4)};
    std::vector<laws::scheduled<round_robin>> items(5);
    std::vector<std::int64_t> got(items.size());
    for (auto& i : items)
        policy.enqueue(i, arrival::created, instant{});
    std::mt19937 random{3};
    instant now{};
    for (int turn = 0; turn < 1000;) {
        auto* e = static_cast<laws::scheduled<round_robin>*>(policy.pick(now));
        const duration whole = policy.turn_ends(*e, now) - now;
        const bool cut = random() % 3 == 0 && whole > microseconds(100);
        const duration ran = cut ? whole / 2 : whole;
        got[static_cast<std::size_t>(e - items.data())] += ran.nanoseconds();
        now = now + ran;
        CHECK(policy.tick(*e, ran, now) == !cut);
        policy.requeue(*e, cut ? departure::preempted : departure::turn_over, now);
        turn += !cut;
    }
    for (std::int64_t g : got)
        CHECK(g == 200 * milliseconds(4).nanoseconds());
    while (auto* e = policy.pick(now))
        policy.dequeue(*e);
}

TEST_CASE("a policy of higher precedence goes first and preempts")
{
    both queue;
    const instant now{1000};
    both::entity normal, fifo;
    fifo.set(both::parameters::of<fixed_priority>(fixed_priority::fifo(1)));
    CHECK(normal.follows<round_robin>());
    CHECK(fifo.follows<fixed_priority>());
    queue.enqueue(normal, arrival::created, now);
    CHECK(queue.pick(now) == &normal);
    queue.enqueue(fifo, arrival::woken, now);
    CHECK(queue.preempts(fifo, normal));
    CHECK(!queue.preempts(normal, fifo));
    queue.requeue(normal, departure::preempted, now);
    CHECK(laws::first_movable(queue) == &fifo);
    CHECK(queue.pick(now) == &fifo);
    queue.dequeue(fifo);
    CHECK(queue.pick(now) == &normal);
    CHECK(queue.size() == 0);
}
