// The deadline policy: choosing the earliest, and what becomes of it when its budget is used up.

#include <benchmark/benchmark.h>

#include <random>
#include <vector>

#include <exo/sched/policies/deadline.hpp>
#include <exo/sim/large_pages.hpp>

namespace {

using namespace exo;
using sched::arrival;
using sched::deadline;
using sched::departure;

constexpr duration runtime = microseconds(10);

// N threads that always have work, with equal parameters: each begins a new period right when it used up its budget,
// and goes behind the others.
void pick_and_requeue(benchmark::State& state)
{
    const auto count = static_cast<std::size_t>(state.range(0));
    const duration period = runtime * state.range(0);
    deadline policy;
    sim::large_page_vector<deadline::entity> entities(count);
    instant now;
    for (auto& e : entities) {
        e.set({runtime, period, period});
        policy.enqueue(e, arrival::created, now);
        now = now + runtime;
    }
    for (auto _ : state) {
        auto* e = static_cast<deadline::entity*>(policy.pick(now));
        benchmark::DoNotOptimize(e);
        now = now + runtime;
        (void)policy.tick(*e, runtime, now);
        policy.requeue(*e, departure::turn_over, now);
    }
    state.SetItemsProcessed(state.iterations());
    for (auto& e : entities)
        policy.dequeue(e);
}
BENCHMARK(pick_and_requeue)->Name("sched/deadline")->RangeMultiplier(10)->Range(10, 10'000);

// The same with periods of many lengths, of which some are over when a budget is used up, so that threads go to any
// place among the others.
void pick_and_requeue_mixed(benchmark::State& state)
{
    const auto count = static_cast<std::size_t>(state.range(0));
    std::mt19937 random{1};
    deadline policy;
    sim::large_page_vector<deadline::entity> entities(count);
    instant now;
    for (auto& e : entities) {
        const duration period = runtime * static_cast<std::int64_t>(count / 2 + 1 + random() % (count / 2));
        e.set({runtime, period, period});
        policy.enqueue(e, arrival::created, now);
        now = now + runtime;
    }
    for (auto _ : state) {
        auto* e = static_cast<deadline::entity*>(policy.pick(now));
        benchmark::DoNotOptimize(e);
        now = now + runtime;
        (void)policy.tick(*e, runtime, now);
        policy.requeue(*e, departure::turn_over, now);
    }
    state.SetItemsProcessed(state.iterations());
    for (auto& e : entities)
        policy.dequeue(e);
}
BENCHMARK(pick_and_requeue_mixed)->Name("sched/deadline/mixed")->RangeMultiplier(10)->Range(10, 10'000);

// N threads that always have work but half of the CPU: each waits for its next period after every turn.
void pick_and_wait(benchmark::State& state)
{
    const auto count = static_cast<std::size_t>(state.range(0));
    const duration period = runtime * 2 * state.range(0);
    deadline policy;
    sim::large_page_vector<deadline::entity> entities(count);
    instant now;
    for (auto& e : entities) {
        e.set({runtime, period, period});
        policy.enqueue(e, arrival::created, now);
    }
    for (auto _ : state) {
        auto* e = static_cast<deadline::entity*>(policy.pick(now));
        if (!e) {
            now = policy.next_release();
            e = static_cast<deadline::entity*>(policy.pick(now));
        }
        now = now + runtime;
        (void)policy.tick(*e, runtime, now);
        policy.requeue(*e, departure::turn_over, now);
    }
    state.SetItemsProcessed(state.iterations());
    state.counters["waits"] = static_cast<double>(policy.throttles()) / static_cast<double>(state.iterations());
    for (auto& e : entities)
        policy.dequeue(e);
}
BENCHMARK(pick_and_wait)->Name("sched/deadline/throttled")->RangeMultiplier(10)->Range(10, 10'000);

} // namespace
