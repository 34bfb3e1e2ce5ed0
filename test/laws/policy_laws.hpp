// The laws of sched/policy.hpp, for any model of SchedPolicy.

#pragma once

#include <doctest/doctest.h>

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

// Equals run in the order of their arrival; preempted goes first, yielded and turn over last.
template <exo::sched::SchedPolicy Policy, class Equal>
void check_order_of_equals(Equal equal)
{
    using exo::sched::arrival;
    using exo::sched::departure;
    Policy policy;
    const exo::instant now{1'000'000};
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
    policy.requeue(items[0], departure::yielded, now);
    CHECK(pick(policy, now) == &items[1]);
    policy.requeue(items[1], departure::turn_over, now);
    CHECK(pick(policy, now) == &items[2]);
    policy.dequeue(items[2]); // running
    policy.dequeue(items[3]); // queued
    CHECK(pick(policy, now) == &items[0]);
    policy.dequeue(items[0]);
    CHECK(pick(policy, now) == &items[1]);
    policy.dequeue(items[1]);
    CHECK(pick(policy, now) == nullptr);
    CHECK(first_movable(policy) == nullptr);
    CHECK(policy.size() == 0);
}

// Nothing is lost or repeated, and what a policy promises it keeps, under random use.
template <exo::sched::SchedPolicy Policy, class Configure>
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
        const auto pick_one = [&] {
            running = pick(policy, now);
            REQUIRE((running == nullptr) == (queued == 0));
            if (running) {
                REQUIRE(running >= items.data());
                REQUIRE(running < items.data() + items.size());
                REQUIRE(running->where == item::queued);
                running->where = item::running;
                --queued;
            }
        };
        for (int step = 0; step < 3000; ++step) {
            switch (random() % 7) {
            case 0:
            case 1:
                if (item* i = any(item::outside)) {
                    policy.enqueue(*i, random() % 2 ? arrival::woken : arrival::moved, now);
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
                    REQUIRE((!over || queued > 0));
                    const instant ends = policy.turn_ends(*running, now);
                    REQUIRE(ends >= now);
                    REQUIRE((queued > 0 || ends == instant::never()));
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
                REQUIRE(seen.size() == queued);
                break;
            }
            }
            REQUIRE(policy.size() == queued);
        }
        if (running)
            put_back(departure::preempted);
        while (queued > 0) {
            pick_one();
            policy.dequeue(*running);
            running->where = item::outside;
        }
        REQUIRE(pick(policy, now) == nullptr);
    }
}

// `configure(entity, i)` gives the i-th entity its parameters; `equal(entity)` gives all the same ones.
template <exo::sched::SchedPolicy Policy, class Configure, class Equal>
void check_policy(Configure configure, Equal equal)
{
    check_order_of_equals<Policy>(equal);
    check_random_use<Policy>(configure);
}

} // namespace laws
