#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <new>
#include <random>
#include <utility>
#include <vector>

#include <exo/base/allocator.hpp>
#include <exo/sched/admission.hpp>
#include <exo/sched/deadline_claims.hpp>
#include <exo/sched/policies/deadline.hpp>
#include <exo/sched/policies/fixed_priority.hpp>
#include <exo/sched/run_queue.hpp>
#include <exo/sim/cpus.hpp>
#include <laws/policy_laws.hpp>

#include "one_cpu.hpp"

using namespace exo;
using namespace exo::sched;
using cpu = sched_test::one_cpu<deadline>;
using queues = run_queue<deadline, fixed_priority>;

namespace {

constexpr std::int64_t unit = 10'000; // nanoseconds

instant at(std::int64_t units) { return instant{static_cast<std::uint64_t>(units * unit)}; }
deadline::parameters units(std::int64_t runtime, std::int64_t relative, std::int64_t period)
{
    return {nanoseconds(runtime * unit), nanoseconds(relative * unit), nanoseconds(period * unit)};
}

// Sets that one CPU admits with a share of the whole of it, as full as chance makes them.
std::vector<deadline::parameters> random_set(std::mt19937& random, bool& by_bandwidth)
{
    const std::int64_t periods[] = {4, 5, 6, 8, 10, 12, 15, 20, 24, 30, 40, 60};
    std::vector<deadline::parameters> set;
    std::vector<std::unique_ptr<admission::reservation>> reservations;
    admission control{1, cpu_share::whole()};
    for (int attempt = 0; attempt < 40; ++attempt) {
        const std::int64_t period = periods[random() % std::size(periods)];
        const auto runtime = 1 + static_cast<std::int64_t>(random()) % (period / 2);
        const auto relative =
            random() % 2 ? period : runtime + static_cast<std::int64_t>(random()) % (period - runtime + 1);
        auto r = std::make_unique<admission::reservation>();
        if (control.admit(*r, units(runtime, relative, period))) {
            set.push_back(r->parameters());
            reservations.push_back(std::move(r));
        }
    }
    by_bandwidth = control.by_bandwidth();
    for (auto& r : reservations)
        control.release(*r);
    return set;
}

class plain_heap final : public allocator {
public:
    void* allocate(std::size_t bytes, std::size_t alignment) noexcept override
    {
        return ::operator new (bytes, std::align_val_t{alignment}, std::nothrow);
    }
    void deallocate(void* memory, std::size_t, std::size_t alignment) noexcept override
    {
        ::operator delete (memory, std::align_val_t{alignment});
    }
};

struct claims_of_cpus {
    using claims_type = deadline_claims<sim::driven_cpus>;

    explicit claims_of_cpus(unsigned count) : claims{heap, interrupts, count} {}
    ~claims_of_cpus()
    {
        for (auto& held : threads)
            claims.let_go(held, instant{});
    }
    bool may_have(std::size_t thread, const deadline::parameters& p, instant now)
    {
        return claims.hold(threads[thread], p, now).has_value();
    }
    void has(std::size_t thread, const deadline::parameters& p, instant now) { REQUIRE(may_have(thread, p, now)); }
    void leaves(std::size_t thread, instant now) { claims.let_go(threads[thread], now); }

    plain_heap heap;
    sim::driven_cpus interrupts{1};
    claims_type claims;
    claims_type::claim* threads[3]{};
};

double utilization_of(const std::vector<deadline::parameters>& set)
{
    double sum = 0;
    for (const auto& p : set)
        sum += static_cast<double>(p.runtime.nanoseconds()) / static_cast<double>(p.interval().nanoseconds());
    return sum;
}

// Jobs no longer than the runtime, a period or more apart.
void behave(cpu::task& t, std::mt19937& random, instant end, bool periodic, std::vector<instant>& due)
{
    const deadline::parameters p = t.parameters();
    instant when = at(periodic ? 0 : static_cast<std::int64_t>(random() % 20));
    while (when < end) {
        const bool full = periodic || random() % 2;
        t.jobs.push_back({when, full ? p.runtime : nanoseconds(1 + random() % p.runtime.nanoseconds())});
        due.push_back(when + p.deadline);
        when = when + p.interval();
        if (!periodic && random() % 3 == 0)
            when = when + nanoseconds(random() % (20 * unit));
    }
}
// Jobs of any length at any time.
void misbehave(cpu::task& t, std::mt19937& random, instant end)
{
    const deadline::parameters p = t.parameters();
    for (instant when{}; when < end; when = when + nanoseconds(random() % (2 * p.interval().nanoseconds())))
        t.jobs.push_back({when, nanoseconds(1 + random() % (3 * p.runtime.nanoseconds()))});
}

struct outcome {
    unsigned jobs{};
    unsigned late{};
};
outcome judge(const cpu::task& t, const std::vector<instant>& due, instant end)
{
    outcome o;
    for (std::size_t i = 0; i < due.size() && due[i] <= end; ++i, ++o.jobs)
        o.late += i >= t.completed.size() || t.completed[i] > due[i];
    return o;
}

} // namespace

TEST_CASE("deadline keeps the laws of a policy")
{
    const auto configure = [](auto& e, unsigned i) {
        const std::int64_t period = 2 + i % 20;
        const std::int64_t relative = i % 3 ? period : 1 + period / 2;
        e.set({milliseconds(1) + microseconds(i % 900), milliseconds(relative + 1), milliseconds(period + 1)});
    };
    const auto equal = [](auto& e) { e.set({milliseconds(2), milliseconds(9), milliseconds(10)}); };
    laws::check_policy<deadline, false>(configure, equal);
}

TEST_CASE("what one CPU admits misses nothing: periodic and sporadic jobs, utilization up to one")
{
    std::mt19937 random{11};
    unsigned full = 0, beyond_bandwidth = 0, jobs = 0;
    for (int round = 0; round < 400; ++round) {
        bool by_bandwidth = true;
        const auto set = random_set(random, by_bandwidth);
        const bool periodic = round % 2;
        full += utilization_of(set) > 1 - 1e-9;
        beyond_bandwidth += !by_bandwidth;
        cpu c;
        c.policy.keep_deadlines(by_bandwidth && random() % 2);
        std::vector<std::vector<instant>> due(set.size());
        std::vector<cpu::task*> tasks;
        const instant end = at(1200);
        for (std::size_t i = 0; i < set.size(); ++i) {
            tasks.push_back(&c.add(set[i]));
            behave(*tasks[i], random, end, periodic, due[i]);
        }
        c.run_until(end);
        for (std::size_t i = 0; i < set.size(); ++i) {
            const outcome o = judge(*tasks[i], due[i], end);
            REQUIRE(o.late == 0);
            REQUIRE(tasks[i]->misses() == 0);
            REQUIRE(tasks[i]->overruns() == 0);
            jobs += o.jobs;
        }
        if (periodic && utilization_of(set) > 1 - 1e-9)
            REQUIRE(c.idle == duration{});
        REQUIRE(c.policy.misses() == 0);
    }
    MESSAGE(jobs, " jobs; of 400 sets ", full, " full, ", beyond_bandwidth, " beyond their bandwidth");
    CHECK(full > 50);
    CHECK(beyond_bandwidth > 50);
}

TEST_CASE("threads that overrun, come too often and sleep when they like make no other thread miss")
{
    std::mt19937 random{12};
    unsigned jobs = 0, overruns = 0, full = 0, beyond_bandwidth = 0;
    for (int round = 0; round < 600; ++round) {
        bool by_bandwidth = true;
        const auto set = random_set(random, by_bandwidth);
        full += utilization_of(set) > 1 - 1e-9;
        beyond_bandwidth += !by_bandwidth;
        cpu c;
        c.policy.keep_deadlines(by_bandwidth && random() % 2);
        std::vector<std::vector<instant>> due(set.size());
        std::vector<cpu::task*> tasks;
        const instant end = at(1200);
        for (std::size_t i = 0; i < set.size(); ++i) {
            tasks.push_back(&c.add(set[i]));
            if (random() % 2) {
                behave(*tasks[i], random, end, random() % 2, due[i]);
            } else {
                misbehave(*tasks[i], random, end);
                tasks[i]->yields_after_job = random() % 4 == 0;
            }
        }
        c.run_until(end);
        for (std::size_t i = 0; i < set.size(); ++i) {
            if (due[i].empty()) {
                overruns += static_cast<unsigned>(tasks[i]->overruns());
                // No budget lasts beyond its deadline either.
                REQUIRE(tasks[i]->misses() == 0);
                continue;
            }
            const outcome o = judge(*tasks[i], due[i], end);
            REQUIRE(o.late == 0);
            jobs += o.jobs;
        }
    }
    MESSAGE(jobs, " jobs beside ", overruns, " overruns; of 600 sets ", full, " full, ", beyond_bandwidth,
            " beyond their bandwidth");
    CHECK(overruns > 10'000);
    CHECK(full > 50);
    CHECK(beyond_bandwidth > 50);
}

TEST_CASE("deadlines that are kept over sleep are for sets within their bandwidth")
{
    // Together they have 10 for all that is due within 10, 5 of them due within 5.
    const auto late = [](bool keep) {
        cpu c;
        c.policy.keep_deadlines(keep);
        auto& other = c.add(units(5, 10, 10));
        auto& strict = c.add(units(5, 5, 10));
        other.jobs = {{at(0), nanoseconds(unit)}, {at(2), nanoseconds(4 * unit)}};
        strict.jobs = {{at(5), nanoseconds(5 * unit)}};
        c.run_until(at(30));
        return strict.completed.at(0) - at(10);
    };
    CHECK(late(true) > duration{});
    CHECK(late(false) <= duration{});
}

TEST_CASE("a thread that always has work gets its runtime in every period and no more")
{
    cpu c;
    auto& a = c.add(units(3, 10, 10));
    auto& b = c.add(units(2, 4, 8));
    a.jobs = b.jobs = {{at(0), seconds(1000)}};
    for (int period = 1; period <= 100; ++period) {
        c.run_until(at(40 * period));
        CHECK(a.ran == nanoseconds(12 * unit) * period);
        CHECK(b.ran == nanoseconds(10 * unit) * period);
    }
    CHECK(c.idle == nanoseconds(18 * unit) * 100);
    CHECK(a.overruns() == 400);
    CHECK(b.overruns() == 500);
    CHECK(c.policy.overruns() == 900);
    CHECK(c.policy.throttles() == 900);
    CHECK(a.misses() + b.misses() == 0);
}

TEST_CASE("two threads that always have work fill a CPU, and none waits for its next period though the CPU is idle")
{
    cpu c;
    auto& a = c.add(units(3, 5, 5));
    auto& b = c.add(units(4, 10, 10));
    a.jobs = b.jobs = {{at(0), seconds(1000)}};
    c.run_until(at(1000));
    CHECK(a.ran == nanoseconds(600 * unit));
    CHECK(b.ran == nanoseconds(400 * unit));
    CHECK(c.idle == duration{});
    CHECK(c.policy.misses() == 0);
}

TEST_CASE("earliest deadlines run first, and a wake-up with an earlier one takes the CPU")
{
    deadline policy;
    deadline::entity slow, fast;
    slow.set(units(5, 50, 50));
    fast.set(units(1, 10, 10));
    policy.enqueue(slow, arrival::woken, at(0));
    CHECK(policy.pick(at(0)) == &slow);
    policy.enqueue(fast, arrival::woken, at(2));
    CHECK(policy.preempts(fast, slow));
    CHECK(!policy.preempts(slow, fast));
    CHECK(policy.rank(fast) == at(12).nanoseconds());
    CHECK(policy.rank(slow) == at(50).nanoseconds());
    CHECK(deadline::rank_of(fast.parameters(), {}) < deadline::rank_of(slow.parameters(), {}));
    CHECK(!policy.tick(slow, at(2) - at(0), at(2)));
    policy.requeue(slow, departure::preempted, at(2));
    CHECK(policy.pick(at(2)) == &fast);
    std::vector<deadline::entity*> movable;
    policy.visit_movable([&](deadline::entity& e) {
        movable.push_back(&e);
        return true;
    });
    CHECK(movable == std::vector{&slow});
    policy.dequeue(fast);
    CHECK(policy.pick(at(2)) == &slow);
    CHECK(policy.turn_ends(slow, at(2)) == at(5)); // what is left of its budget
    policy.dequeue(slow);

    deadline::entity distant;
    distant.set({seconds(1), duration{INT64_MAX}, {}});
    policy.enqueue(distant, arrival::woken, at(0));
    CHECK(policy.rank(distant) == rank_limit - 1);
    policy.dequeue(distant);
}

TEST_CASE("a thread that used up its budget waits for its next period, and says so")
{
    deadline policy;
    deadline::entity e;
    auto p = units(3, 6, 10);
    p.signals_overrun = true;
    e.set(p);
    policy.enqueue(e, arrival::created, at(100));
    CHECK(policy.pick(at(100)) == &e);
    CHECK(policy.tick(e, at(3) - at(0), at(103)));
    CHECK(e.overruns() == 0);
    policy.requeue(e, departure::turn_over, at(103));
    CHECK(e.overruns() == 1);
    CHECK(e.take_overrun_signal());
    CHECK(!e.take_overrun_signal());
    CHECK(policy.size() == 0);
    CHECK(policy.next_release() == at(110));
    CHECK(policy.pick(at(109)) == nullptr);
    CHECK(policy.pick(at(111)) == &e); // a little late, but its period began at 110
    CHECK(e.absolute_deadline() == at(116));
    CHECK(e.runtime_left() == p.runtime);
    CHECK(policy.turn_ends(e, at(111)) == at(114));
    policy.dequeue(e);
    CHECK(policy.overruns() == 1);
}

TEST_CASE("only who asks for it gets a signal when it overruns, and the exact end of a job is no overrun")
{
    cpu c;
    auto& exact = c.add(units(3, 10, 10));
    auto& silent = c.add(units(2, 10, 10));
    exact.jobs = {{at(0), nanoseconds(3 * unit)}, {at(10), nanoseconds(3 * unit)}};
    silent.jobs = {{at(0), nanoseconds(3 * unit)}};
    c.run_until(at(40));
    CHECK(exact.overruns() == 0);
    CHECK(silent.overruns() == 1);
    CHECK(!silent.take_overrun_signal());
    CHECK(exact.completed == std::vector{at(3), at(13)});
    CHECK(silent.completed == std::vector{at(14)});
}

TEST_CASE("a thread that was charged too late owes the excess")
{
    deadline policy;
    deadline::entity e;
    e.set(units(3, 10, 10));
    policy.enqueue(e, arrival::created, at(0));
    CHECK(policy.pick(at(0)) == &e);
    CHECK(policy.tick(e, at(8) - at(0), at(8)));
    CHECK(e.runtime_left() == nanoseconds(-5 * unit));
    policy.requeue(e, departure::turn_over, at(8));
    CHECK(policy.pick(at(9)) == nullptr);
    CHECK(policy.pick(at(10)) == &e); // all 8 came back, and 5 were owed
    CHECK(e.runtime_left() == nanoseconds(3 * unit));
    policy.dequeue(e);
}

TEST_CASE("an activation that lasts beyond its deadline is a miss, counted once")
{
    deadline policy; // too much for one CPU, as nobody asked for admission
    deadline::entity a, b;
    a.set(units(6, 10, 20));
    b.set(units(6, 10, 20));
    policy.enqueue(a, arrival::woken, at(0));
    policy.enqueue(b, arrival::woken, at(0));
    CHECK(policy.pick(at(0)) == &a);
    CHECK(policy.tick(a, at(6) - at(0), at(6)));
    policy.requeue(a, departure::turn_over, at(6));
    CHECK(policy.pick(at(6)) == &b);
    CHECK(!policy.tick(b, at(4) - at(0), at(10)));
    CHECK(b.misses() == 0);
    CHECK(!policy.tick(b, at(1) - at(0), at(11)));
    CHECK(policy.tick(b, at(1) - at(0), at(12)));
    CHECK(b.misses() == 1);
    CHECK(a.misses() == 0);
    CHECK(policy.misses() == 1);
    policy.dequeue(b);
    policy.enqueue(b, arrival::woken, at(30));
    policy.dequeue(a);
    CHECK(policy.pick(at(30)) == &b);
    CHECK(!policy.tick(b, at(1) - at(0), at(31)));
    CHECK(b.misses() == 1);
    policy.dequeue(b);
}

TEST_CASE("who ends a job is told how it went, once: on time, late, or only with more than its runtime")
{
    deadline policy;
    deadline::entity e;
    e.set(units(4, 6, 10));
    const auto runs = [&](std::int64_t from, std::int64_t to) {
        CHECK(policy.pick(at(from)) == &e);
        return policy.tick(e, at(to) - at(from), at(to));
    };
    policy.enqueue(e, arrival::created, at(0));
    CHECK(!runs(0, 3));
    policy.requeue(e, departure::yielded, at(3));
    CHECK(e.take_outcome().has_value());

    CHECK(!runs(15, 17)); // its deadline was 16
    policy.requeue(e, departure::yielded, at(17));
    CHECK(e.take_outcome().error() == error{sched::errors::deadline_missed, unit});
    CHECK(e.take_outcome().has_value());

    CHECK(runs(20, 24));
    policy.requeue(e, departure::turn_over, at(24));
    CHECK(!runs(30, 31));
    policy.requeue(e, departure::yielded, at(31));
    CHECK(e.take_outcome().error() == error{sched::errors::runtime_overrun, 4 * unit});

    CHECK(!runs(47, 48)); // late, but it sleeps: the job that begins when it wakes has nothing of that
    policy.dequeue(e);
    policy.enqueue(e, arrival::woken, at(60));
    CHECK(!runs(60, 61));
    policy.requeue(e, departure::yielded, at(61));
    CHECK(e.take_outcome().has_value());
    policy.dequeue(e);
}

TEST_CASE("yield gives up what is left until the next period")
{
    cpu c;
    auto& t = c.add(units(4, 10, 10));
    t.yields_after_job = true;
    for (int i = 0; i < 5; ++i)
        t.jobs.push_back({at(10 * i), nanoseconds(unit)});
    t.jobs.push_back({at(51), nanoseconds(unit)});
    c.run_until(at(100));
    CHECK(t.completed == std::vector{at(1), at(11), at(21), at(31), at(41), at(51)}); // the last as it comes out of it
    CHECK(t.overruns() == 0);
}

TEST_CASE("what a thread used before it slept comes back a period after it was begun")
{
    deadline policy;
    deadline::entity e;
    e.set(units(6, 8, 10));
    const auto runs = [&](std::int64_t from, std::int64_t time) {
        policy.enqueue(e, arrival::woken, at(from));
        if (policy.pick(at(from)) != &e)
            return false;
        (void)policy.tick(e, nanoseconds(time * unit), at(from + time));
        policy.dequeue(e);
        return true;
    };
    CHECK(runs(0, 2));
    CHECK(e.absolute_deadline() == at(8));
    CHECK(runs(3, 3)); // a new deadline for what is left
    CHECK(e.absolute_deadline() == at(11));
    CHECK(e.runtime_left() == nanoseconds(unit));
    CHECK(e.settled() == at(13));
    CHECK(runs(10, 3)); // 2 came back at 10
    CHECK(e.absolute_deadline() == at(18));
    policy.enqueue(e, arrival::woken, at(12)); // the other 3 come at 13
    CHECK(policy.size() == 0);
    CHECK(policy.next_release() == at(13));
    CHECK(policy.pick(at(13)) == &e);
    CHECK(e.absolute_deadline() == at(21));
    CHECK(e.runtime_left() == nanoseconds(3 * unit));
    policy.dequeue(e);
}

TEST_CASE("in any time as long as a period a thread that sleeps at will gets its runtime at most")
{
    std::mt19937 random{13};
    for (int round = 0; round < 200; ++round) {
        cpu c;
        const auto relative = 5 + static_cast<std::int64_t>(random() % 6);
        auto& t = c.add(units(5, relative, 10));
        std::vector<duration> ran(600);
        for (std::int64_t i = 0; i < 600; ++i) {
            if (random() % 2)
                t.jobs.push_back({at(i), nanoseconds(unit / 2 + random() % (3 * unit))});
            c.run_until(at(i + 1));
            ran[static_cast<std::size_t>(i)] = t.ran;
        }
        for (std::size_t i = 10; i < ran.size(); ++i)
            REQUIRE(ran[i] - ran[i - 10] <= nanoseconds(5 * unit));
    }
}

TEST_CASE("a thread that wakes keeps its deadline while its bandwidth allows, where that is asked for")
{
    for (const bool keep : {false, true}) {
        deadline policy;
        policy.keep_deadlines(keep);
        deadline::entity e;
        e.set(units(5, 10, 10));
        policy.enqueue(e, arrival::woken, at(0));
        CHECK(policy.pick(at(0)) == &e);
        (void)policy.tick(e, nanoseconds(2 * unit), at(2));
        policy.dequeue(e);
        policy.enqueue(e, arrival::woken, at(4)); // 3 of 6: just as much as 5 of 10
        CHECK(e.absolute_deadline() == at(keep ? 10 : 14));
        policy.dequeue(e);
        policy.enqueue(e, arrival::woken, instant{at(4).nanoseconds() + 1}); // more than that
        CHECK(e.absolute_deadline() == instant{at(14).nanoseconds() + 1});
        policy.dequeue(e);
        policy.enqueue(e, arrival::woken, at(40));
        CHECK(e.absolute_deadline() == at(50));
        CHECK(e.runtime_left() == nanoseconds(5 * unit));
        policy.dequeue(e);
    }
    // Exact, however long the times are.
    const std::int64_t quarter = INT64_MAX / 4;
    for (const std::int64_t ran : {quarter / 2, quarter - 1, quarter, quarter + 1, quarter + 2}) {
        deadline policy;
        policy.keep_deadlines(true);
        deadline::entity e;
        e.set({duration{INT64_MAX / 2}, duration{INT64_MAX}, {}});
        policy.enqueue(e, arrival::woken, instant{});
        CHECK(policy.pick(instant{}) == &e);
        (void)policy.tick(e, duration{ran}, instant{INT64_MAX / 3});
        policy.dequeue(e);
        policy.enqueue(e, arrival::woken, instant{INT64_MAX / 2});
        CHECK((e.absolute_deadline() == instant{INT64_MAX}) == (ran > quarter));
        policy.dequeue(e);
    }
}

TEST_CASE("a budget that came back while a thread slept counts from when it woke")
{
    deadline policy;
    policy.keep_deadlines(true);
    deadline::entity e;
    e.set(units(5, 10, 10));
    for (const auto& [from, time] : {std::pair{0, 1}, {5, 3}}) { // 1 comes back at 10
        policy.enqueue(e, arrival::woken, at(from));
        CHECK(policy.pick(at(from)) == &e);
        (void)policy.tick(e, nanoseconds(time * unit), at(from + time));
        policy.dequeue(e);
    }
    policy.enqueue(e, arrival::woken, at(12));
    CHECK(e.absolute_deadline() == at(15)); // kept
    CHECK(policy.pick(at(12)) == &e);
    CHECK(policy.tick(e, nanoseconds(unit), at(13)));
    policy.requeue(e, departure::turn_over, at(13));
    CHECK(e.absolute_deadline() == at(22));
    CHECK(e.runtime_left() == nanoseconds(unit));
    policy.dequeue(e);
}

TEST_CASE("what a thread was admitted with can serve another once it has settled, and not before")
{
    const auto late = [](bool early) {
        cpu c;
        auto& leaves = c.add(units(50, 100, 100));
        auto& stays = c.add(units(50, 100, 100));
        auto& comes = c.add(units(5, 10, 10));
        leaves.jobs = stays.jobs = {{at(0), nanoseconds(50 * unit)}};
        c.run_until(at(50));
        CHECK(leaves.completed == std::vector{at(50)});
        CHECK(leaves.settled() == at(100));
        for (instant when = early ? c.now : leaves.settled(); when < at(200); when = when + nanoseconds(10 * unit))
            comes.jobs.push_back({when, nanoseconds(5 * unit)});
        c.run_until(at(300));
        return comes.misses() + stays.misses();
    };
    CHECK(late(true) > 0);
    CHECK(late(false) == 0);
}

TEST_CASE("what a thread gives up by lower parameters serves others once its period is over, and they keep deadlines")
{
    const auto before = units(450, 1000, 1000), half = units(500, 1000, 1000), often = units(44, 100, 100);
    const auto late = [&](instant from) {
        cpu c;
        auto& lowers = c.add(before);
        auto& stays = c.add(half);
        auto& comes = c.add(often);
        lowers.jobs = {{at(0), nanoseconds(450 * unit)}};
        stays.jobs = {{at(0), nanoseconds(500 * unit)}};
        c.run_until(at(450));
        CHECK(lowers.completed == std::vector{at(450)});
        lowers.set(units(10, 1000, 1000));
        for (instant when = from; when < at(2500); when = when + nanoseconds(100 * unit))
            comes.jobs.push_back({when, nanoseconds(44 * unit)});
        lowers.jobs = {{at(450), nanoseconds(10 * unit)}};
        c.run_until(at(3000));
        return lowers.misses() + stays.misses() + comes.misses();
    };
    CHECK(late(at(450)) > 0);

    claims_of_cpus one{1};
    one.has(0, before, at(0));
    one.has(1, half, at(0));
    CHECK(one.claims.millionths_used() == 950'000);
    one.has(0, units(10, 1000, 1000), at(450));
    instant from = at(450);
    while (!one.may_have(2, often, from))
        from = from + nanoseconds(unit);
    CHECK(from == at(1450)); // an activation may have begun when it lowered
    CHECK(late(from) == 0);
    CHECK(one.claims.millionths_used() == 950'000);
}

TEST_CASE("what counts on after lower parameters does so whatever the thread does next, and once")
{
    const auto great = units(80, 100, 100), small = units(5, 50, 50), rest = units(60, 100, 100);
    SUBCASE("raised again: by what it had before")
    {
        claims_of_cpus one{1};
        one.has(0, great, at(0));
        one.has(0, units(5, 100, 100), at(10));
        one.has(0, units(70, 100, 100), at(20));
        one.has(0, units(85, 100, 100), at(30));
        CHECK(one.claims.millionths_used() == 850'000);
        one.has(0, units(30, 100, 100), at(40));
        CHECK(!one.may_have(1, rest, at(139)));
        one.has(1, rest, at(140));
    }
    SUBCASE("left: from when it lowered, even if it had a shorter period then")
    {
        claims_of_cpus one{1};
        one.has(0, great, at(0));
        one.has(0, small, at(10));
        one.leaves(0, at(20));
        CHECK(!one.may_have(1, rest, at(109)));
        one.has(1, rest, at(110));
    }
    SUBCASE("lowered, raised and left: as long as any of it counts")
    {
        claims_of_cpus one{1};
        one.has(0, great, at(0));
        one.has(0, small, at(10));
        one.has(0, units(70, 100, 100), at(20));
        one.leaves(0, at(30));
        CHECK(!one.may_have(1, rest, at(129)));
        one.has(1, rest, at(130));
    }
    SUBCASE("raised only: nothing counts on")
    {
        claims_of_cpus one{1};
        one.has(0, units(10, 100, 100), at(0));
        one.has(0, units(3, 20, 20), at(10));
        CHECK(one.claims.millionths_used() == 150'000);
        one.has(1, units(80, 100, 100), at(10));
    }
    SUBCASE("neither more nor less: the denser of both, nearly")
    {
        claims_of_cpus one{1};
        one.has(0, units(60, 100, 100), at(0));
        one.has(0, units(33, 55, 55), at(10));
        CHECK(one.claims.millionths_used() >= 600'000);
        CHECK(one.claims.millionths_used() < 610'000);
        one.has(1, units(30, 100, 100), at(110));
        CHECK(one.claims.millionths_used() == 900'000);
    }
    SUBCASE("of several CPUs: the greater utilization")
    {
        claims_of_cpus two{2};
        two.has(0, units(60, 100, 100), at(0));
        two.has(0, units(28, 55, 55), at(10));
        CHECK(two.claims.millionths_used() == 600'000);
        two.has(1, units(1, 100, 100), at(110));
        CHECK(two.claims.millionths_used() == 519'091);
    }
}

TEST_CASE("other parameters, or another CPU, renew no budget")
{
    deadline here, there;
    deadline::entity e;
    e.set(units(4, 10, 10));
    here.enqueue(e, arrival::created, at(0));
    CHECK(here.pick(at(0)) == &e);
    (void)here.tick(e, nanoseconds(3 * unit), at(3));
    here.dequeue(e);
    there.enqueue(e, arrival::moved, at(3));
    CHECK(e.absolute_deadline() == at(10));
    CHECK(e.runtime_left() == nanoseconds(unit));
    CHECK(there.pick(at(3)) == &e);
    CHECK(there.tick(e, nanoseconds(unit), at(4)));
    there.dequeue(e);
    here.enqueue(e, arrival::moved, at(4));
    CHECK(here.size() == 0);
    CHECK(here.next_release() == at(10));
    here.dequeue(e);
    e.set(units(5, 20, 20));
    here.enqueue(e, arrival::moved, at(5));
    CHECK(e.runtime_left() == nanoseconds(unit)); // one more than it had
    CHECK(here.pick(at(5)) == &e);
    here.dequeue(e);
    e.set(units(4, 20, 20));
    here.enqueue(e, arrival::moved, at(6));
    CHECK(here.next_release() == at(10));
    here.dequeue(e);
}

TEST_CASE("after the machine slept, nobody makes up for the periods that it missed")
{
    cpu c;
    auto& t = c.add(units(4, 10, 10));
    t.jobs = {{at(0), seconds(1000)}};
    c.run_until(at(7));
    c.now = at(1007);
    c.run_until(at(1047));
    CHECK(t.ran == nanoseconds(20 * unit));
    CHECK(t.misses() == 0);
}
