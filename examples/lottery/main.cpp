// A scheduling policy of one's own, in lottery.hpp, in a run queue below exo's fixed priorities. A loop in virtual time
// runs three jobs that hold tickets 3 : 2 : 1, and a real-time job that interrupts them, and checks what each got.

#include <cstdio>
#include <cstdlib>

#include <exo/sched/policies/fixed_priority.hpp>
#include <exo/sched/run_queue.hpp>

#include "lottery.hpp"

void exo::panic(const char* message, const char* file, int line) noexcept
{
    std::fprintf(stderr, "%s:%d: %s\n", file, line, message);
    std::abort();
}

using exo::duration;
using exo::instant;
using exo::milliseconds;
using exo::sched::arrival;
using exo::sched::departure;
using exo::sched::fixed_priority;
using queue = exo::sched::run_queue<fixed_priority, lottery>;

struct job : queue::entity {
    job(const char* n, std::uint32_t tickets, duration b) : name{n}, burst{b}
    {
        set(queue::parameters::of<lottery>({tickets}));
    }
    const char* name;
    duration burst; // yields after so much of each turn
    duration got{};
};

int main()
{
    job three{"three", 300, lottery::quantum};
    job two{"two", 200, lottery::quantum / 5}; // interactive: a fifth of a quantum at a time
    job one{"one", 100, lottery::quantum};
    job* const jobs[] = {&three, &two, &one};
    queue::entity alarm; // 1 ms in every 25
    alarm.set(queue::parameters::of<fixed_priority>(fixed_priority::fifo(50)));

    queue ready;
    instant now;
    for (job* j : jobs)
        ready.enqueue(*j, arrival::created, now);

    const duration length = exo::seconds(2000);
    duration alarm_got{};
    for (instant next_alarm = now + milliseconds(25); now - instant{} < length;) {
        job* const running = static_cast<job*>(ready.pick(now));
        duration left = running->burst;
        for (;;) {
            const instant turn_ends = ready.turn_ends(*running, now);
            instant until = now + left;
            until = turn_ends < until ? turn_ends : until;
            until = next_alarm < until ? next_alarm : until;
            const duration ran = until - now;
            now = until;
            running->got += ran;
            left = left - ran;
            const bool over = ready.tick(*running, ran, now);
            if (over || left == duration{}) {
                ready.requeue(*running, over ? departure::turn_over : departure::yielded, now);
                break;
            }
            // The alarm takes the CPU; then the job goes on.
            ready.enqueue(alarm, arrival::woken, now);
            if (!ready.preempts(alarm, *running))
                return EXIT_FAILURE;
            ready.requeue(*running, departure::preempted, now);
            if (ready.pick(now) != &alarm)
                return EXIT_FAILURE;
            now = now + milliseconds(1);
            alarm_got += milliseconds(1);
            ready.tick(alarm, milliseconds(1), now);
            ready.dequeue(alarm);
            next_alarm = next_alarm + milliseconds(25);
            if (ready.pick(now) != running)
                return EXIT_FAILURE;
        }
    }

    // Chance moves a share by less than a hundredth in so many draws.
    const double total = static_cast<double>((length - alarm_got).nanoseconds());
    bool fair = true;
    for (job* j : jobs) {
        const double share = static_cast<double>(j->got.nanoseconds()) / total;
        const double due = j->parameters().get<lottery>().tickets / 600.0;
        std::printf("%-5s holds %4.1f %% of the tickets and got %4.1f %% of the time\n", j->name, 100 * due,
                    100 * share);
        fair = fair && share > due - 0.01 && share < due + 0.01;
        ready.dequeue(*j);
    }
    return fair ? EXIT_SUCCESS : EXIT_FAILURE;
}
