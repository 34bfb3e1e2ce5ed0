// Deadline threads on several CPUs, which are admitted by utilization: at any time the earliest deadlines of the
// machine run, so that jobs may be late, but by a bounded time.

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>
#include <random>
#include <vector>

#include <exo/sched/admission.hpp>
#include <exo/sched/policies/deadline.hpp>
#include <exo/sched/policies/fair.hpp>
#include <exo/sched/run_queue.hpp>

#include "world.hpp"

using namespace exo;
using queue = sched::run_queue<sched::deadline, sched::fair>;
using world = sched_test::world<queue>;
using parameters = sched::deadline::parameters;

namespace {

// The whole of `cpus` CPUs, in parts of which a period is a whole number of nanoseconds.
std::vector<parameters> full_set(std::mt19937& random, unsigned cpus)
{
    constexpr std::int64_t parts = 400;
    constexpr std::int64_t periods[] = {1, 2, 4, 5, 8, 10, 16, 20, 25, 40, 50, 80, 100};
    const std::int64_t greatest = parts * (1 + static_cast<std::int64_t>(random() % 4)) / 4;
    std::vector<parameters> set;
    for (std::int64_t left = parts * cpus; left > 0;) {
        const auto share = std::min(left, 1 + static_cast<std::int64_t>(random()) % greatest);
        const auto period = milliseconds(periods[random() % std::size(periods)]);
        set.push_back({nanoseconds(period.nanoseconds() / parts * share), period, {}});
        left -= share;
    }
    return set;
}

// Devi and Anderson, "Tardiness Bounds under Global EDF Scheduling on a Multiprocessor" (2005), where jobs preempt.
class tardiness_bound {
public:
    tardiness_bound(const std::vector<parameters>& set, unsigned cpus)
    {
        std::vector<double> runtimes, utilizations;
        for (const parameters& p : set) {
            runtimes.push_back(static_cast<double>(p.runtime.nanoseconds()));
            utilizations.push_back(runtimes.back() / static_cast<double>(p.interval().nanoseconds()));
        }
        const auto sum_of_largest = [](std::vector<double>& of, std::size_t count) {
            std::sort(of.begin(), of.end(), std::greater{});
            return std::accumulate(of.begin(), of.begin() + static_cast<long>(std::min(count, of.size())), 0.0);
        };
        const double least = *std::min_element(runtimes.begin(), runtimes.end());
        common_ = (sum_of_largest(runtimes, cpus - 1) - least) / (cpus - sum_of_largest(utilizations, cpus - 2));
    }
    double of(const parameters& p) const { return common_ + static_cast<double>(p.runtime.nanoseconds()); }

private:
    double common_;
};

// How a thread comes to its jobs.
enum class manner : unsigned {
    periodic,
    sporadic, // a period apart or more
    greedy,   // it never sleeps: its budgets are its jobs
};

struct outcome {
    std::uint64_t jobs{};
    std::uint64_t late{};
    double worst{}; // in proportion to its bound
    std::uint64_t moments{};
    std::uint64_t misplaced{};
};

// A job takes a nanosecond less than its runtime: a thread whose budget is used up at the very end of its job waits for
// the next before it can tell.
template <class Done>
std::function<void()> body(world& w, const parameters& p, manner how, unsigned jobs, std::mt19937& random, Done done)
{
    return [&w, p, how, jobs, &random, done] {
        duration work = p.runtime - nanoseconds(1);
        instant release = w.sched.now();
        for (unsigned n = 0; n < jobs; ++n) {
            w.machine.spend(work);
            done(w.sched.now(), release + p.deadline);
            release = release + p.interval();
            if (how == manner::sporadic && random() % 3 == 0)
                release = release + nanoseconds(static_cast<std::int64_t>(random()) % p.interval().nanoseconds());
            if (how == manner::greedy)
                work = p.runtime;
            else
                while (w.sched.now() < release)
                    w.sched.park(release);
        }
    };
}

// Whether those that run are of those that could the ones with the earliest deadlines.
bool earliest_run(const world& w, const std::map<unsigned, const world::task*>& runs)
{
    std::vector<instant> could, do_run;
    for (const auto& t : w.threads) {
        const sched::deadline::entity& e = t->task_;
        if (t->task_.state() != sched::task_state::ready || e.runtime_left() <= duration{})
            continue;
        could.push_back(e.absolute_deadline());
        if (std::any_of(runs.begin(), runs.end(), [&](auto& r) { return r.second == &t->task_; }))
            do_run.push_back(e.absolute_deadline());
    }
    std::sort(could.begin(), could.end());
    std::sort(do_run.begin(), do_run.end());
    could.resize(std::min(could.size(), w.processors.size()));
    return could == do_run;
}

void run(const std::vector<parameters>& set, unsigned cpus, unsigned seed, std::mt19937& random, outcome& result)
{
    sched::admission control{cpus, sched::cpu_share::whole()};
    std::vector<sched::admission::reservation> reservations(set.size());
    for (std::size_t i = 0; i < set.size(); ++i)
        REQUIRE(control.admit(reservations[i], set[i]));
    CHECK(control.millionths_used() == cpus * 1'000'000);
    const tardiness_bound bound{set, cpus};

    world w{cpus};
    for (unsigned cpu = 0; cpu < cpus; ++cpu)
        w.machine.interrupt(cpu, [&] {
            w.sched.visit_queue([&](queue& q) { q.get<sched::deadline>().keep_deadlines(control.by_bandwidth()); });
        });
    for (const parameters& p : set) {
        const auto how = static_cast<manner>(seed % 4 != 3 ? seed % 4 : random() % 3);
        auto& t = w.make("job", body(w, p, how, 50, random, [&, p](instant when, instant due) {
            ++result.jobs;
            if (when <= due)
                return;
            ++result.late;
            result.worst = std::max(result.worst, static_cast<double>((when - due).nanoseconds()) / bound.of(p));
        }));
        t.task_.set(queue::parameters::of<sched::deadline>(p));
        w.sched.start(t.task_, static_cast<unsigned>(random() % cpus));
    }
    std::map<unsigned, const world::task*> runs;
    w.on_switch = [&](world::task&, world::task& next) { runs[w.machine.current_cpu()] = &next; };
    (void)w.machine.run_until([&] {
        // When nothing is to happen at this time any more.
        if (w.machine.next_event() > w.machine.now()) {
            ++result.moments;
            result.misplaced += !earliest_run(w, runs);
        }
        return false;
    });
    CHECK(w.all_ended());
    for (auto& r : reservations)
        control.release(r);
}

} // namespace

TEST_CASE("deadline threads that use all of several CPUs run as under global EDF, late by no more than its bound")
{
    for (const unsigned cpus : {2u, 3u, 4u, 8u}) {
        outcome all;
        for (unsigned seed = 0; seed < 40; ++seed) {
            INFO("seed " << seed << ", " << cpus << " CPUs");
            std::mt19937 random{seed};
            run(full_set(random, cpus), cpus, seed, random, all);
            CHECK(all.worst <= 1);
            CHECK(all.misplaced == 0);
        }
        CHECK(all.late > 50);
        MESSAGE(cpus << " CPUs: " << all.late << " of " << all.jobs << " jobs late, by up to "
                     << static_cast<int>(100 * all.worst) << " % of the bound; " << all.moments << " moments");
    }
}

TEST_CASE("budgets that come back to one CPU at once are used on all that are free")
{
    world w{2};
    std::vector<instant> ended;
    const auto start = [&](const parameters& p, unsigned cpu, std::function<void()> what) {
        auto& t = w.make("deadline", std::move(what));
        t.task_.set(queue::parameters::of<sched::deadline>(p));
        w.sched.start(t.task_, cpu);
    };
    start({milliseconds(3), milliseconds(5), {}}, 1, [&] { w.machine.spend(milliseconds(2)); });
    for (int i = 0; i < 2; ++i)
        start({milliseconds(1), milliseconds(10), {}}, 0, [&] {
            w.machine.spend(microseconds(1'500)); // of two periods
            ended.push_back(w.sched.now());
        });
    w.run();
    CHECK(ended == std::vector{instant{} + microseconds(10'500), instant{} + microseconds(10'500)});
}
