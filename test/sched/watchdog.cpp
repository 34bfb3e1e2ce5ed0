// Who is found to be stuck, and who is not.

#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include <exo/sched/policies/fair.hpp>
#include <exo/sched/policies/fixed_priority.hpp>
#include <exo/sched/run_queue.hpp>
#include <exo/sched/watchdog.hpp>

#include "world.hpp"

using namespace exo;
using queue = sched::run_queue<sched::fixed_priority, sched::fair>;
using world = sched_test::world<queue>;

namespace {

struct report {
    unsigned cpu;
    instant at;
};

struct watched : world {
    struct reporter {
        watched& self;
        void operator()(unsigned cpu) const noexcept { self.reports.push_back({cpu, self.machine.now()}); }
    };
    using watchdog = sched::watchdog<scheduler, reporter>;

    explicit watched(unsigned count) : world{count}, records(count), dog{records, sched, reporter{*this}}
    {
        for (unsigned cpu = 0; cpu < count; ++cpu)
            on(cpu, [this, cpu] { dog.watch(cpu); });
    }

    thread& on(unsigned cpu, std::function<void()> body)
    {
        thread& t = make("t", std::move(body));
        t.task_.set_affinity(cpu_set::of(cpu));
        sched.start(t.task_, cpu);
        return t;
    }
    // From `from` on, for `time`.
    void get_stuck(unsigned cpu, duration from, duration time)
    {
        on(cpu, [this, from, time] {
            sched.park(instant{} + from);
            const auto saved = sched.save_and_disable();
            machine.spend(time);
            sched.restore(saved);
        });
    }
    void run_for(duration time)
    {
        (void)machine.run_until([this, end = machine.now() + time] { return machine.now() >= end; });
    }
    std::vector<unsigned> reported() const
    {
        std::vector<unsigned> found;
        for (const report& r : reports)
            found.push_back(r.cpu);
        std::sort(found.begin(), found.end());
        return found;
    }

    std::vector<watchdog::processor> records;
    std::vector<report> reports;
    watchdog dog;
};

using cpus = std::vector<unsigned>;

} // namespace

TEST_CASE("a CPU that has interrupts off for more than ten seconds is reported once, whoever else there is")
{
    for (const unsigned count : {2u, 3u, 8u}) {
        watched w{count};
        w.get_stuck(1, milliseconds(3500), seconds(60));
        w.run_for(seconds(100));
        CHECK(w.reported() == cpus{1});
        const instant begun = instant{} + milliseconds(3500);
        CHECK(w.reports.front().at > begun + seconds(9));
        CHECK(w.reports.front().at < begun + seconds(12));
        w.get_stuck(1, seconds(110), seconds(60));
        w.run_for(seconds(100));
        CHECK(w.reported() == cpus{1, 1});
    }
}

TEST_CASE("neighbours that are stuck are all reported, one after the other")
{
    watched w{4};
    for (const unsigned cpu : {0u, 2u, 3u})
        w.get_stuck(cpu, seconds(3), seconds(50));
    w.run_for(seconds(60));
    CHECK(w.reported() == cpus{0, 2, 3});
}

TEST_CASE("one that is only late is not reported, however often")
{
    watched w{3};
    for (int i = 0; i < 20; ++i)
        w.get_stuck(1, seconds(20 * i + 1), seconds(8));
    w.run_for(seconds(500));
    CHECK(w.reported().empty());
}

TEST_CASE("CPUs that idle, or compute with interrupts on, are not reported")
{
    watched w{3};
    w.run_for(milliseconds(1)); // they begin to watch
    w.on(1, [&] { w.machine.spend(seconds(90)); });
    auto& urgent = w.make("fifo", [&] { w.machine.spend(seconds(90)); });
    urgent.task_.set(queue::parameters::of<sched::fixed_priority>(sched::fixed_priority::fifo(50)));
    urgent.task_.set_affinity(cpu_set::of(2));
    w.sched.start(urgent.task_, 2);
    w.run_for(seconds(300));
    CHECK(w.reported().empty());
}

TEST_CASE("when the machine stood still for an hour, nobody is reported")
{
    for (unsigned seed = 0; seed < 10; ++seed) {
        watched w{4};
        w.machine.explore(seed);
        for (int i = 0; i < 5; ++i) {
            w.run_for(milliseconds(2300));
            w.machine.let_pass(seconds(3600));
        }
        w.run_for(seconds(30));
        CHECK(w.reported().empty());
    }
}
