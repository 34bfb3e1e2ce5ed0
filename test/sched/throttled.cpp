#include <doctest/doctest.h>

#include <cstdint>
#include <random>
#include <vector>

#include <exo/sched/policies/deadline.hpp>
#include <exo/sched/policies/fair.hpp>
#include <exo/sched/policies/fixed_priority.hpp>
#include <exo/sched/policies/throttled.hpp>
#include <exo/sched/run_queue.hpp>
#include <laws/policy_laws.hpp>

#include "one_cpu.hpp"

using namespace exo;
using namespace exo::sched;

namespace {

using real_time = throttled<fixed_priority>;
static_assert(SchedPolicy<real_time>);
using queues = run_queue<deadline, real_time, fair>;

// With shares and periods that random use meets often.
template <class Policy, int Runtime, int Period>
struct held : throttled<Policy> {
    held() : throttled<Policy>{cpu_share{milliseconds(Runtime), milliseconds(Period)}} {}
};

struct shares {
    duration fifo, normal, idle;
    std::uint64_t throttles{};
};

// Three FIFO threads of which one would run always, and two normal ones, for 100 seconds.
shares run(cpu_share share)
{
    sched_test::one_cpu<queues> cpu;
    cpu.policy.get<real_time>().set_share(share);
    auto& spinner = cpu.add(queues::parameters::of<real_time>(fixed_priority::fifo(99)));
    auto& behind = cpu.add(queues::parameters::of<real_time>(fixed_priority::fifo(98)));
    auto& one = cpu.add(queues::parameters::of<fair>({}));
    auto& other = cpu.add(queues::parameters::of<fair>({}));
    for (auto* t : {&spinner, &behind, &one, &other})
        t->jobs = {{instant{}, seconds(1'000'000)}};
    cpu.run_until(instant{} + seconds(100));
    CHECK(behind.ran == duration{});
    CHECK(one.ran - other.ran <= fair::quantum);
    return {spinner.ran, one.ran + other.ran, cpu.idle, cpu.policy.get<real_time>().throttles()};
}

} // namespace

TEST_CASE("a throttled policy keeps the laws of a policy")
{
    const auto configure = [](auto& e, unsigned i) {
        e.set(i % 2 ? fixed_priority::fifo(1 + i % 99)
                    : fixed_priority::round_robin(1 + i % 5, milliseconds(1 + i % 3)));
    };
    const auto equal = [](auto& e) { e.set(fixed_priority::fifo(64)); };
    laws::check_policy<real_time, false>(configure, equal);
    laws::check_policy<held<fixed_priority, 7, 10>, false>(configure, equal);
    laws::check_policy<held<fixed_priority, 1, 50>, false>(configure, equal);
    laws::check_policy<held<fixed_priority, 10, 10>>(configure, equal);
    laws::check_policy<held<deadline, 7, 10>, false>(
        [](auto& e, unsigned i) {
            e.set({milliseconds(1 + i % 3), milliseconds(4), milliseconds(4 + i % 9)});
        },
        [](auto& e) {
            e.set({milliseconds(2), milliseconds(9), milliseconds(10)});
        });
}

TEST_CASE("a run queue of policies that hold threads back keeps the laws of a policy")
{
    using often = held<fixed_priority, 7, 10>;
    using mixed = run_queue<deadline, often, fair>;
    laws::check_policy<mixed, false>(
        [](auto& e, unsigned i) {
            if (i % 3 == 0)
                e.set(mixed::parameters::of<deadline>(
                    {milliseconds(1 + i % 4), milliseconds(8), milliseconds(8 + i % 9)}));
            else if (i % 3 == 1)
                e.set(mixed::parameters::of<often>(fixed_priority::round_robin(1 + i % 9)));
            else
                e.set(mixed::parameters::of<fair>({}));
        },
        [](auto& e) {
            e.set(mixed::parameters::of<deadline>({milliseconds(2), milliseconds(9), milliseconds(10)}));
        });
}

TEST_CASE("normal threads live beside a FIFO thread that never gives up the CPU: they have 5 % of it")
{
    const auto s = run(cpu_share{});
    CHECK(s.fifo == seconds(95));
    CHECK(s.normal == seconds(5));
    CHECK(s.idle == duration{});
    CHECK(s.throttles == 100);
}

TEST_CASE("without throttling they starve")
{
    const auto s = run(cpu_share::whole());
    CHECK(s.fifo == seconds(100));
    CHECK(s.normal == duration{});
    CHECK(s.throttles == 0);
}

TEST_CASE("the share that is set is the share that they get")
{
    for (const std::int64_t runtime : {1, 300, 999}) {
        const auto s = run({milliseconds(runtime), seconds(1)});
        CHECK(s.fifo == milliseconds(runtime) * 100);
        CHECK(s.normal == seconds(100) - milliseconds(runtime) * 100);
    }
}

TEST_CASE("a CPU that nobody else wants is idle while the share is used up")
{
    sched_test::one_cpu<real_time> cpu;
    auto& spinner = cpu.add(fixed_priority::fifo(99));
    spinner.jobs = {{instant{}, seconds(1'000'000)}};
    cpu.run_until(instant{} + seconds(10));
    CHECK(spinner.ran == milliseconds(9500));
    CHECK(cpu.idle == milliseconds(500));
}

TEST_CASE("what deadline threads use does not count, and real-time threads that use little are never held back")
{
    sched_test::one_cpu<queues> cpu;
    auto& urgent = cpu.add(queues::parameters::of<deadline>({milliseconds(40), milliseconds(100), {}}));
    auto& fifo = cpu.add(queues::parameters::of<real_time>(fixed_priority::fifo(10)));
    auto& normal = cpu.add(queues::parameters::of<fair>({}));
    urgent.jobs = normal.jobs = {{instant{}, seconds(1'000'000)}};
    for (std::int64_t second = 0; second < 50; ++second)
        fifo.jobs.push_back({instant{} + seconds(second), milliseconds(500)});
    cpu.run_until(instant{} + seconds(50));
    CHECK(urgent.ran == seconds(20));
    CHECK(fifo.ran == seconds(25));
    CHECK(normal.ran == seconds(5));
    CHECK(cpu.policy.get<real_time>().throttles() == 0);
}

TEST_CASE("the thread that was held back goes on before its equals, with the rest of its turn")
{
    real_time policy{cpu_share{milliseconds(5), milliseconds(10)}};
    real_time::entity fifo, turns, equal;
    fifo.set(fixed_priority::fifo(7));
    turns.set(fixed_priority::round_robin(8, milliseconds(7)));
    equal.set(fixed_priority::fifo(8));
    const auto at = [](std::int64_t ms) { return instant{} + milliseconds(ms); };
    policy.enqueue(turns, arrival::woken, at(20));
    policy.enqueue(equal, arrival::woken, at(20));
    policy.enqueue(fifo, arrival::woken, at(20));
    CHECK(policy.pick(at(20)) == &turns);
    CHECK(policy.turn_ends(turns, at(20)) == at(25));
    CHECK(policy.tick(turns, milliseconds(5), at(25)));
    policy.requeue(turns, departure::turn_over, at(25));
    CHECK(policy.size() == 0);
    CHECK(policy.next_release() == at(30));
    CHECK(!policy.preempts(turns, fifo));
    CHECK(policy.pick(at(29)) == nullptr);
    CHECK(policy.pick(at(30)) == &turns);
    CHECK(policy.size() == 2);
    CHECK(policy.turn_ends(turns, at(30)) == at(32)); // 2 ms of its 7 are left
    CHECK(policy.tick(turns, milliseconds(2), at(32)));
    policy.requeue(turns, departure::turn_over, at(32));
    CHECK(policy.pick(at(32)) == &equal);
    CHECK(policy.turn_ends(equal, at(32)) == at(35));
    for (auto* e : {&fifo, &turns, &equal})
        policy.dequeue(*e);
    CHECK(policy.next_release() == instant::never());
}

TEST_CASE("a charge is divided among the periods that it spans, and what comes too late is missing later")
{
    real_time policy{cpu_share{milliseconds(5), milliseconds(10)}};
    real_time::entity e;
    e.set(fixed_priority::fifo(7));
    const auto at = [](std::int64_t ms) { return instant{} + milliseconds(ms); };
    policy.enqueue(e, arrival::woken, at(8));
    CHECK(policy.pick(at(8)) == &e);
    CHECK(policy.turn_ends(e, at(8)) == at(15)); // 2 ms in this period, 5 in the next
    CHECK(!policy.tick(e, milliseconds(4), at(12)));
    CHECK(policy.turn_ends(e, at(12)) == at(15));
    CHECK(policy.tick(e, milliseconds(7), at(19))); // 4 ms late
    policy.requeue(e, departure::turn_over, at(19));
    CHECK(policy.next_release() == at(20));
    CHECK(policy.pick(at(20)) == &e);
    CHECK(policy.turn_ends(e, at(20)) == at(21));
    CHECK(policy.tick(e, milliseconds(30), at(50))); // 35 ms since 20, of which three periods gave 15
    policy.requeue(e, departure::turn_over, at(50));
    CHECK(policy.next_release() > at(50));
    policy.dequeue(e);
    CHECK(policy.next_release() == instant::never());
    policy.enqueue(e, arrival::woken, at(500));
    CHECK(policy.size() == 1);
    CHECK(policy.pick(at(500)) == &e);
    policy.dequeue(e);
}
