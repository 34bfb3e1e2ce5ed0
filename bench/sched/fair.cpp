// The fair policy: choosing the eligible thread that is due first, and putting it back when it had its turn.

#include <benchmark/benchmark.h>

#include <cstdint>
#include <random>
#include <vector>

#include <exo/sched/policies/fair.hpp>
#include <exo/sim/large_pages.hpp>

namespace {

using namespace exo;
using sched::arrival;
using sched::departure;
using sched::fair;

// N threads that always have work run whole turns, long enough before the measurement that due times are as they come.
template <class Configure>
void pick_and_requeue(benchmark::State& state, Configure configure)
{
    fair policy;
    instant now{1};
    std::mt19937 random{1};
    sim::large_page_vector<fair::entity> entities(static_cast<std::size_t>(state.range(0)));
    for (auto& e : entities) {
        e.set(configure(random));
        policy.enqueue(e, arrival::created, now);
    }
    const auto turn = [&] {
        auto* e = policy.pick(now);
        benchmark::DoNotOptimize(e);
        const instant ends = policy.turn_ends(*e, now);
        (void)policy.tick(*e, ends - now, ends);
        now = ends;
        policy.requeue(*e, departure::turn_over, now);
    };
    for (std::int64_t i = 0; i < 20 * state.range(0); ++i)
        turn();
    for (auto _ : state)
        turn();
    state.SetItemsProcessed(state.iterations());
    for (auto& e : entities)
        policy.dequeue(e);
}

fair::parameters with(int nice, duration request)
{
    return {fair::thread_kind::normal, static_cast<std::int8_t>(nice), request};
}

void pick_fair(benchmark::State& state)
{
    pick_and_requeue(state, [](auto& random) { return with(static_cast<int>(random() % 11) - 5, fair::quantum); });
}
BENCHMARK(pick_fair)->Name("sched/fair")->RangeMultiplier(10)->Range(10, 10'000);

// All of one weight.
void pick_fair_equal(benchmark::State& state)
{
    pick_and_requeue(state, [](auto&) { return with(0, fair::quantum); });
}
BENCHMARK(pick_fair_equal)->Name("sched/fair/equal")->RangeMultiplier(10)->Range(10, 10'000);

// Hardly two with the same weight and request.
void pick_fair_mixed(benchmark::State& state)
{
    pick_and_requeue(state, [](auto& random) {
        return with(static_cast<int>(random() % 11) - 5, microseconds(1000 + random() % 2000));
    });
}
BENCHMARK(pick_fair_mixed)->Name("sched/fair/mixed")->RangeMultiplier(10)->Range(10, 10'000);

} // namespace
