// The laws of sched/policy.hpp, for any model of SchedPolicy.

#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include <exo/sched/policy.hpp>

namespace laws {

template <class Policy>
struct scheduled : Policy::entity {
    enum { outside, queued, running } where{outside};
};

template <class Policy>
scheduled<Policy>* pick(Policy& policy, exo::instant now)
{
    return static_cast<scheduled<Policy>*>(policy.pick(now));
}

// The same, after such time as passes until one may run.
template <class Policy>
scheduled<Policy>* pick_in_time(Policy& policy, exo::instant& now)
{
    auto* next = pick(policy, now);
    if (!next && policy.next_release() != exo::instant::never()) {
        CHECK(policy.next_release() > now);
        now = policy.next_release();
        next = pick(policy, now);
        CHECK(next != nullptr);
    }
    return next;
}

// What another CPU should rather take, null when nothing is to be had.
template <class Policy>
scheduled<Policy>* first_movable(Policy& policy)
{
    scheduled<Policy>* first = nullptr;
    policy.visit_movable([&](auto& e) {
        first = static_cast<scheduled<Policy>*>(&e);
        return false;
    });
    return first;
}

// Equals run in the order of their arrival; preempted goes first, yielded and turn over last. One that yields may have
// to wait until its next period.
template <exo::sched::SchedPolicy Policy, class Equal>
void check_order_of_equals(Equal equal)
{
    using exo::sched::arrival;
    using exo::sched::departure;
    Policy policy;
    exo::instant now{1'000'000};
    std::vector<scheduled<Policy>> items(4);
    for (auto& i : items) {
        equal(i);
        policy.enqueue(i, arrival::created, now);
    }
    CHECK(policy.size() == 4);
    auto* first = pick(policy, now);
    CHECK(first == &items[0]);
    policy.requeue(*first, departure::preempted, now);
    CHECK(pick(policy, now) == &items[0]);
    policy.requeue(items[0], departure::turn_over, now);
    CHECK(pick(policy, now) == &items[1]);
    policy.requeue(items[1], departure::yielded, now);
    const bool waits = policy.next_release() != exo::instant::never();
    CHECK(policy.size() == (waits ? 3 : 4));
    CHECK(pick(policy, now) == &items[2]);
    policy.dequeue(items[2]); // running
    policy.dequeue(items[3]); // queued
    for (auto* last : {&items[0], &items[1]}) {
        CHECK(pick_in_time(policy, now) == last);
        policy.dequeue(*last);
    }
    CHECK(policy.next_release() == exo::instant::never());
    CHECK(pick(policy, now) == nullptr);
    CHECK(first_movable(policy) == nullptr);
    CHECK(policy.size() == 0);
}

// Nothing is lost or repeated, and what a policy promises it keeps, under random use.
template <exo::sched::SchedPolicy Policy, bool WorkConserving, class Configure>
void check_random_use(Configure configure)
{
    using namespace exo;
    using item = scheduled<Policy>;
    using sched::arrival;
    using sched::departure;
    for (unsigned seed = 0; seed < 30; ++seed) {
        std::mt19937 random{seed};
        Policy policy;
        std::vector<item> items(1 + random() % 40);
        for (unsigned i = 0; i < items.size(); ++i)
            configure(items[i], i);
        item* running = nullptr;
        std::size_t queued = 0;
        instant now{random()};
        const auto any = [&](int where) -> item* {
            item& i = items[random() % items.size()];
            return i.where == where ? &i : nullptr;
        };
        const auto put_back = [&](departure why) {
            policy.requeue(*running, why, now);
            std::exchange(running, nullptr)->where = item::queued;
            ++queued;
        };
        // All that are queued may run, but for those that next_release() tells of.
        const auto check_size = [&] {
            REQUIRE(policy.size() <= queued);
            REQUIRE((policy.size() == queued || policy.next_release() != instant::never()));
            REQUIRE((!WorkConserving || policy.next_release() == instant::never()));
            REQUIRE((queued != 0 || policy.next_release() == instant::never()));
        };
        const auto pick_one = [&] {
            const bool any_may_run = policy.size() != 0 || policy.next_release() <= now;
            running = pick(policy, now);
            REQUIRE((running != nullptr) == any_may_run);
            REQUIRE(policy.next_release() > now);
            if (running) {
                REQUIRE(running >= items.data());
                REQUIRE(running < items.data() + items.size());
                REQUIRE(running->where == item::queued);
                running->where = item::running;
                --queued;
            }
        };
        for (int step = 0; step < 3000; ++step) {
            switch (random() % 8) {
            case 0:
            case 1:
                if (item* i = any(item::outside)) {
                    policy.enqueue(*i, static_cast<arrival>(random() % 4), now);
                    i->where = item::queued;
                    ++queued;
                    if (running && policy.preempts(*i, *running)) {
                        item* before = running;
                        put_back(departure::preempted);
                        pick_one();
                        REQUIRE(running != before);
                    }
                }
                break;
            case 2:
                if (!running)
                    pick_one();
                break;
            case 3:
                if (running)
                    put_back(static_cast<departure>(random() % 3));
                break;
            case 4:
                if (item* i = any(random() % 2 ? item::queued : item::running)) {
                    policy.dequeue(*i);
                    queued -= i->where == item::queued;
                    if (i == running)
                        running = nullptr;
                    i->where = item::outside;
                    configure(*i, static_cast<unsigned>(random()));
                }
                break;
            case 5:
                if (running) {
                    const duration ran = microseconds(random() % 5000);
                    now = now + ran;
                    const bool over = policy.tick(*running, ran, now);
                    const instant ends = policy.turn_ends(*running, now);
                    REQUIRE(ends >= now);
                    REQUIRE((!over || ends == now));
                    if (WorkConserving) {
                        REQUIRE((!over || queued > 0));
                        REQUIRE((queued > 0 || ends == instant::never()));
                    }
                    if (ends != instant::never()) {
                        const duration rest = ends - now;
                        now = ends;
                        REQUIRE(policy.tick(*running, rest, now));
                        put_back(departure::turn_over);
                    }
                }
                break;
            case 6: {
                std::set<void*> seen;
                policy.visit_movable([&](auto& e) {
                    REQUIRE(static_cast<item&>(e).where == item::queued);
                    return seen.insert(&e).second;
                });
                if (sched::closed(policy).until == instant::never())
                    REQUIRE(seen.size() == policy.size());
                else
                    REQUIRE((policy.size() <= seen.size() && seen.size() <= queued));
                break;
            }
            case 7: // as time passes, those that wait may run
                if (!running && policy.next_release() != instant::never()) {
                    now = std::max(now, policy.next_release());
                    pick_one();
                }
                break;
            }
            check_size();
        }
        if (running)
            put_back(departure::preempted);
        while (queued > 0) {
            if (policy.size() == 0)
                now = std::max(now, policy.next_release());
            pick_one();
            policy.dequeue(*running);
            running->where = item::outside;
        }
        REQUIRE(pick(policy, now) == nullptr);
    }
}

// `configure(entity, i)` gives the i-th entity its parameters; `equal(entity)` gives all the same ones. A
// work-conserving policy lets no queued entity wait while nothing else runs.
template <exo::sched::SchedPolicy Policy, bool WorkConserving = true, class Configure, class Equal>
void check_policy(Configure configure, Equal equal)
{
    check_order_of_equals<Policy>(equal);
    check_random_use<Policy, WorkConserving>(configure);
}

} // namespace laws
