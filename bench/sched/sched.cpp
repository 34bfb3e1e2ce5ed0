// Scheduling: choosing who runs, handing threads over, and switching between them.

#include <benchmark/benchmark.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include <exo/sched/policies/fixed_priority.hpp>
#include <exo/sched/policies/round_robin.hpp>
#include <exo/sched/run_queue.hpp>
#include <exo/sched/scheduler.hpp>
#include <exo/sim/context.hpp>
#include <exo/sim/large_pages.hpp>
#include <exo/sync/inbox.hpp>

namespace {

using namespace exo;

// Picks the one to run next and puts it back as one whose turn is over, among N that are ready.
template <class Policy, class Configure>
void pick(benchmark::State& state, Configure configure)
{
    Policy policy;
    const instant now{1};
    sim::large_page_vector<typename Policy::entity> entities(static_cast<std::size_t>(state.range(0)));
    unsigned i = 0;
    for (auto& e : entities) {
        configure(e, i++);
        policy.enqueue(e, sched::arrival::created, now);
    }
    for (auto _ : state) {
        auto* e = policy.pick(now);
        benchmark::DoNotOptimize(e);
        policy.requeue(*e, sched::departure::turn_over, now);
    }
    state.SetItemsProcessed(state.iterations());
    for (auto& e : entities)
        policy.dequeue(e);
}

void pick_fifo(benchmark::State& state)
{
    pick<sched::fixed_priority>(state, [](auto& e, unsigned i) { e.set(sched::fixed_priority::fifo(1 + i % 99)); });
}
BENCHMARK(pick_fifo)->Name("sched/fixed")->RangeMultiplier(10)->Range(10, 10'000);

void pick_round_robin(benchmark::State& state)
{
    pick<sched::round_robin>(state, [](auto&, unsigned) {});
}
BENCHMARK(pick_round_robin)->Name("sched/pick/round_robin")->RangeMultiplier(10)->Range(10, 10'000);

void pick_run_queue(benchmark::State& state)
{
    pick<sched::run_queue<sched::fixed_priority, sched::round_robin>>(state, [](auto&, unsigned) {});
}
BENCHMARK(pick_run_queue)->Name("sched/pick/run_queue")->RangeMultiplier(10)->Range(10, 10'000);

struct letter {
    sync::inbox_hook hook;
};

// Per letter, 64 at a time, sender and owner on one CPU.
void inbox_push_drain(benchmark::State& state)
{
    constexpr std::size_t batch = 64;
    std::vector<letter> letters(batch);
    sync::inbox<letter, &letter::hook> inbox;
    for (auto _ : state) {
        for (letter& l : letters)
            benchmark::DoNotOptimize(inbox.push(l));
        inbox.drain([](letter& l) { benchmark::DoNotOptimize(&l); });
    }
    state.SetItemsProcessed(state.iterations() * batch);
}
BENCHMARK(inbox_push_drain)->Name("sched/inbox/push_drain");

// Per letter that arrives, from a sender on another CPU that sends as fast as it gets letters back.
void inbox_drain_beside_sender(benchmark::State& state)
{
    struct returned_letter : letter {
        std::atomic<bool> is_back{true};
    };
    std::vector<returned_letter> letters(1024);
    sync::inbox<letter, &letter::hook> inbox;
    std::jthread sender{[&](std::stop_token stop) {
        for (std::size_t i = 0; !stop.stop_requested(); i = (i + 1) % letters.size()) {
            while (!letters[i].is_back.load(std::memory_order_acquire))
                if (stop.stop_requested())
                    return;
            letters[i].is_back.store(false, std::memory_order_relaxed);
            benchmark::DoNotOptimize(inbox.push(letters[i]));
        }
    }};
    std::int64_t arrived = 0;
    for (auto _ : state)
        inbox.drain([&](letter& l) {
            ++arrived;
            static_cast<returned_letter&>(l).is_back.store(true, std::memory_order_release);
        });
    state.SetItemsProcessed(arrived);
}
BENCHMARK(inbox_drain_beside_sender)->Name("sched/inbox/push_drain/beside_sender")->UseRealTime();

// One CPU without interrupts, on which time stands still.
struct still_machine {
    using state = bool;
    bool save_and_disable() noexcept { return std::exchange(on, false); }
    void restore(bool saved) noexcept { on = saved; }
    bool enabled() noexcept { return on; }
    unsigned current_cpu() const noexcept { return 0; }
    unsigned cpu_limit() const noexcept { return 1; }
    instant now() const noexcept { return {}; }
    void arm(instant) noexcept {}
    void halt_until_interrupt() noexcept {}
    bool on{true};
};
struct no_hooks {
    void switching(auto&, auto&, const sched::turn_start&) noexcept {}
    void ended(auto&) noexcept {}
    void kick(unsigned) noexcept {}
};
using machine = still_machine;
using scheduler = sched::scheduler<sched::run_queue<sched::fixed_priority, sched::round_robin>, hal::flat_topology<>, sim::fibers, machine,
                                   machine, machine, machine, machine, no_hooks>;

// Each iteration is one switch: the main thread's loop runs in one of two threads, the other does nothing but yield or
// wake its partner and park.
template <class Main, class Partner>
void switch_between(benchmark::State& state, Main main, Partner partner)
{
    struct shared {
        benchmark::State& state;
        Main& main;
        Partner& partner;
        scheduler& sched;
        scheduler::task* threads[2];
        bool done;
    };
    sim::fibers fibers;
    machine cpu;
    no_hooks hooks;
    std::vector<scheduler::processor> processors(1);
    const hal::flat_topology<> topology{1};
    scheduler sched{processors, topology, fibers, cpu, cpu, cpu, cpu, cpu, hooks};
    std::vector<std::byte> stacks[2]{std::vector<std::byte>(64 * 1024), std::vector<std::byte>(64 * 1024)};
    shared s{state, main, partner, sched, {}, false};
    scheduler::task first{"main", stacks[0],
                          [](void* p) noexcept {
                              auto& all = *static_cast<shared*>(p);
                              for (auto _ : all.state)
                                  all.main(all.sched, *all.threads[1]);
                              all.done = true;
                              all.sched.unpark(all.threads[1]);
                          },
                          &s};
    scheduler::task second{"partner", stacks[1],
                           [](void* p) noexcept {
                               auto& all = *static_cast<shared*>(p);
                               while (!all.done)
                                   all.partner(all.sched, *all.threads[0]);
                           },
                           &s};
    s.threads[0] = &first;
    s.threads[1] = &second;
    sched.start(first);
    sched.start(second);
    sched.run_until([&] { return second.state() == sched::task_state::ended; });
    state.SetItemsProcessed(state.iterations() * 2);
}

void switch_by_yield(benchmark::State& state)
{
    const auto yield = [](scheduler& s, scheduler::task&) { s.yield(); };
    switch_between(state, yield, yield);
}
BENCHMARK(switch_by_yield)->Name("sched/switch");

void switch_by_park(benchmark::State& state)
{
    const auto hand_over = [](scheduler& s, scheduler::task& other) {
        s.unpark(&other);
        s.park(instant::never());
    };
    switch_between(state, hand_over, hand_over);
}
BENCHMARK(switch_by_park)->Name("sched/switch/unpark_park");

// The registers and the stack alone: the limit of a switch.
void switch_limit(benchmark::State& state)
{
    struct pair {
        sim::fibers fibers;
        sim::fibers::context main, other;
    } p;
    std::vector<std::byte> stack(64 * 1024);
    p.fibers.prepare(
        p.other, stack,
        [](void* argument) noexcept {
            auto& both = *static_cast<pair*>(argument);
            for (;;)
                both.fibers.switch_to(both.other, both.main);
        },
        &p);
    for (auto _ : state)
        p.fibers.switch_to(p.main, p.other);
    state.SetItemsProcessed(state.iterations() * 2);
}
BENCHMARK(switch_limit)->Name("sched/limit/switch");

} // namespace
