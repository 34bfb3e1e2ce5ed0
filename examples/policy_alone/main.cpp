// Scheduling policies without a scheduler: an event loop of one's own gives its jobs exo's priorities and turns. The
// only things that exo gets from the program are its clock (a number) and `panic`.

#include <cstdio>
#include <cstdlib>
#include <string>

#include <exo/sched/policies/fixed_priority.hpp>
#include <exo/sched/policies/round_robin.hpp>
#include <exo/sched/run_queue.hpp>

void exo::panic(const char* message, const char* file, int line) noexcept
{
    std::fprintf(stderr, "%s:%d: %s\n", file, line, message);
    std::abort();
}

using queue = exo::sched::run_queue<exo::sched::fixed_priority, exo::sched::round_robin>;

// A job needs so much time; the queue's part of it is the base class.
struct job : queue::entity {
    job(char n, exo::duration needs) : name{n}, left{needs} {}
    char name;
    exo::duration left;
};

int main()
{
    using exo::milliseconds;
    job copy{'c', milliseconds(25)};
    job index{'i', milliseconds(15)};
    job alarm{'A', milliseconds(3)};
    alarm.set(queue::parameters::of<exo::sched::fixed_priority>(exo::sched::fixed_priority::fifo(50)));

    queue ready;
    exo::instant now;
    ready.enqueue(copy, exo::sched::arrival::created, now);
    ready.enqueue(index, exo::sched::arrival::created, now);

    std::string order;
    const exo::instant alarm_at = now + milliseconds(12);
    bool rung = false;

    while (job* running = static_cast<job*>(ready.pick(now))) {
        // It runs until it is done, its turn is over, or the alarm comes.
        exo::instant until = now + running->left;
        if (ready.turn_ends(*running, now) < until)
            until = ready.turn_ends(*running, now);
        if (!rung && alarm_at < until)
            until = alarm_at;
        const exo::duration ran = until - now;
        now = until;
        order += running->name + std::to_string(ran.nanoseconds() / 1'000'000) + ' ';

        const bool turn_over = ready.tick(*running, ran, now);
        running->left = running->left - ran;
        if (!rung && now == alarm_at) {
            rung = true;
            ready.enqueue(alarm, exo::sched::arrival::woken, now);
        }
        if (running->left == exo::duration{})
            ready.dequeue(*running);
        else
            ready.requeue(*running, turn_over ? exo::sched::departure::turn_over : exo::sched::departure::preempted, now);
    }

    // Turns of 10 ms; the alarm cuts in at 12 ms, and the job that it interrupted has the rest of its turn.
    std::puts(order.c_str());
    return order == "c10 i2 A3 i8 c10 i5 c5 " ? EXIT_SUCCESS : EXIT_FAILURE;
}
