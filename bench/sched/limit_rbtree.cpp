// What boost's intrusive red-black tree takes to remove the least key and insert another: the limit of policies that
// keep threads in order.

#include <benchmark/benchmark.h>

#include <cstdint>
#include <random>
#include <vector>

#include <boost/intrusive/set.hpp>

#include <exo/sim/large_pages.hpp>

namespace {

namespace intrusive = boost::intrusive;

struct element : intrusive::set_base_hook<intrusive::link_mode<intrusive::normal_link>> {
    std::uint64_t key{};
    friend bool operator<(const element& a, const element& b) { return a.key < b.key; }
};

void erase_and_insert(benchmark::State& state)
{
    constexpr std::uint64_t spread = 1'000'000;
    exo::sim::large_page_vector<element> elements(static_cast<std::size_t>(state.range(0)));
    std::vector<std::uint64_t> steps(1 << 16);
    std::mt19937_64 random{1};
    for (auto& s : steps)
        s = random() % spread;
    intrusive::multiset<element> set;
    for (auto& e : elements) {
        e.key = random() % spread;
        set.insert(e);
    }
    std::size_t i = 0;
    for (auto _ : state) {
        element& first = *set.begin();
        set.erase(set.begin());
        first.key += steps[i++ % steps.size()];
        set.insert(first);
    }
    state.SetItemsProcessed(state.iterations());
    set.clear();
}
BENCHMARK(erase_and_insert)->Name("sched/limit/rbtree")->RangeMultiplier(10)->Range(10, 10'000);

} // namespace
