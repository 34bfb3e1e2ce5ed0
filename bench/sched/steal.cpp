// What it takes a CPU that has nothing to run to get a thread from one that has too many.

#include <benchmark/benchmark.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <exo/sched/policies/round_robin.hpp>
#include <exo/sched/run_queue.hpp>
#include <exo/sched/scheduler.hpp>
#include <exo/sim/context.hpp>
#include <exo/sim/large_pages.hpp>

namespace {

using namespace exo;

// Two CPUs on one host thread: each goes on until it halts or hands over to the other. Time passes between rounds only.
struct two_cpus {
    using state = bool;
    bool save_and_disable() noexcept { return std::exchange(on[current], false); }
    void restore(bool saved) noexcept { on[current] = saved; }
    bool enabled() noexcept { return on[current]; }
    unsigned current_cpu() const noexcept { return current; }
    unsigned cpu_limit() const noexcept { return 2; }
    instant now() const noexcept { return time; }
    void arm(instant) noexcept {}
    void halt_until_interrupt() noexcept { hand_over(); }

    // Returns when the other CPU halts or hands over, and takes its call, if it made one.
    void hand_over() noexcept
    {
        const unsigned self = current;
        if (!called[self]) {
            current = 1 - self;
            fibers.switch_to(left_at[self], left_at[1 - self]);
        }
        if (std::exchange(called[self], false)) {
            const bool saved = save_and_disable();
            on_call();
            restore(saved);
        }
    }

    sim::fibers fibers;
    sim::fibers::context left_at[2];
    unsigned current{};
    bool on[2]{true, true}, called[2]{};
    instant time{1};
    std::function<void()> on_call;
};
struct steal_hooks {
    two_cpus& machine;
    unsigned gone{};
    void switching(auto&, auto&, const sched::turn_start&) noexcept {}
    void ended(auto&) noexcept { ++gone; }
    void kick(unsigned cpu) noexcept { machine.called[cpu] = true; }
};
using steal_scheduler = sched::scheduler<sched::run_queue<sched::round_robin>, hal::flat_topology<>, sim::fibers,
                                         two_cpus, two_cpus, two_cpus, two_cpus, two_cpus, steal_hooks>;

// Each CPU has a host. In turn one wakes all workers where it runs, while the other keeps its CPU busy, then parks: its
// CPU takes the workers one by one, and each parks after it ran. Or, to compare, they run where they are.
enum class workers_run { away, at_home };
class stealing {
public:
    static constexpr unsigned workers = 256;
    static constexpr std::size_t stack_size = 16 * 1024;
    static constexpr std::size_t stack_stride = stack_size + 576; // not all tops in the same sets of the caches

    stealing(benchmark::State& s, workers_run where) : state_{s}, where_{where}
    {
        machine_.on_call = [this] { sched_.on_kick(); };
        machine_.fibers.prepare(machine_.left_at[1], boot_stack_, &boot_other, this);
        for (unsigned i = 0; i < workers; ++i)
            sched_.start(make(&work));
        for (unsigned cpu : {0, 1}) {
            hosts_[cpu] = &make(&host);
            hosts_[cpu]->set_affinity(steal_scheduler::cpu_set::of(cpu));
            sched_.start(*hosts_[cpu], cpu);
        }
    }
    void run()
    {
        sched_.run_until([this] { return all_gone(); });
    }

private:
    using task = steal_scheduler::task;

    task& make(void (*body)(void*) noexcept)
    {
        const std::span stack{stacks_.data() + tasks_.size() * stack_stride, stack_size};
        return *tasks_.emplace_back(std::make_unique<task>("task", stack, body, this));
    }
    [[nodiscard]] bool all_gone() const { return hooks_.gone == tasks_.size(); }
    static void boot_other(void* argument) noexcept
    {
        auto& all = *static_cast<stealing*>(argument);
        all.sched_.run_until([&] { return all.all_gone(); });
        for (;;)
            all.machine_.hand_over();
    }
    static void work(void* argument) noexcept
    {
        auto& all = *static_cast<stealing*>(argument);
        while (!all.done_) {
            ++all.ran_;
            all.sched_.park(instant::never());
        }
    }
    static void host(void* argument) noexcept { static_cast<stealing*>(argument)->host(); }
    void host() noexcept
    {
        const unsigned self = machine_.current_cpu();
        if (self == loser_)
            begin();
        while (!done_) {
            if (self == loser_) {
                lose_all();
                continue;
            }
            machine_.hand_over();
            if (where_ == workers_run::away)
                sched_.park(instant::never());
        }
    }
    // All workers have parked here, and the other host is busy.
    void begin() noexcept
    {
        while (ran_ < workers) {
            sched_.yield();
            machine_.hand_over();
        }
        sched_.unpark(hosts_[1 - loser_]); // which has parked meanwhile
        machine_.hand_over();
    }
    void lose_all() noexcept
    {
        if (!state_.KeepRunning())
            done_ = true;
        for (unsigned i = 0; i < workers; ++i)
            sched_.unpark(tasks_[i].get());
        machine_.time = machine_.time + seconds(1);
        ran_ = 0;
        const auto from = std::chrono::steady_clock::now();
        while (!done_ && ran_ < workers) {
            if (where_ == workers_run::away)
                machine_.hand_over();
            else
                sched_.yield();
        }
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - from;
        state_.SetIterationTime(took.count());
        if (where_ == workers_run::at_home && !done_)
            return;
        loser_ = 1 - loser_;
        sched_.unpark(hosts_[loser_]);
    }

    benchmark::State& state_;
    const workers_run where_;
    two_cpus machine_;
    steal_hooks hooks_{machine_};
    std::vector<steal_scheduler::processor> processors_ = std::vector<steal_scheduler::processor>(2);
    const hal::flat_topology<> topology_{2};
    std::vector<std::byte> boot_stack_ = std::vector<std::byte>(64 * 1024);
    sim::large_page_vector<std::byte> stacks_{(workers + 2) * stack_stride};
    std::vector<std::unique_ptr<task>> tasks_;
    task* hosts_[2]{};
    unsigned loser_{}, ran_{};
    bool done_{};
    steal_scheduler sched_{processors_, topology_, machine_.fibers, machine_, machine_,
                           machine_,    machine_,  machine_,        hooks_};
};

// An item is a thread: asked for, handed over while the CPUs change twice (sched/limit/switch), picked, run and parked.
void steal(benchmark::State& state)
{
    stealing s{state, workers_run::away};
    s.run();
    state.SetItemsProcessed(state.iterations() * stealing::workers);
}
BENCHMARK(steal)->Name("sched/steal")->UseManualTime();

// The same without being stolen: the difference is the cost of that.
void run_at_home(benchmark::State& state)
{
    stealing s{state, workers_run::at_home};
    s.run();
    state.SetItemsProcessed(state.iterations() * stealing::workers);
}
BENCHMARK(run_at_home)->Name("sched/limit/steal")->UseManualTime();

} // namespace
