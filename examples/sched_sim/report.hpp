// What a simulation showed, as a table: a line for each task of the workload, all its instances together.

#pragma once

#include <cinttypes>
#include <cstdio>

#include "simulation.hpp"

namespace sched_sim {

inline void print_report(std::FILE* to, const workload& work, const simulation& done, exo::duration length)
{
    // Shares are of one CPU; "least" and "most" are those of single instances. Latencies in microseconds.
    std::fprintf(to, "%-16s %6s %9s %7s %7s | %9s %9s %9s %9s | %9s %7s %9s %9s\n", "task", "number", "CPU %", "least",
                 "most", "wake p50", "p95", "p99", "max us", "jobs", "misses", "migrated", "switches");
    const auto percent = [&](exo::duration d) {
        return 100.0 * static_cast<double>(d.nanoseconds()) / static_cast<double>(length.nanoseconds());
    };
    const auto us = [](exo::duration d) { return static_cast<double>(d.nanoseconds()) / 1000.0; };
    for (std::size_t i = 0; i < work.tasks.size(); ++i) {
        const task_group& group = work.tasks[i];
        if (group.instances == 0)
            continue;
        const simulation::outcome& o = done.outcome_of(i);
        std::fprintf(to,
                     "%-16.16s %6u %9.2f %7.2f %7.2f | %9.1f %9.1f %9.1f %9.1f | %9" PRIu64 " %7" PRIu64 " %9" PRIu64
                     " %9" PRIu64 "\n",
                     group.name.c_str(), group.instances, percent(o.ran), percent(o.least), percent(o.most),
                     us(o.wake_ups.percentile(50)), us(o.wake_ups.percentile(95)), us(o.wake_ups.percentile(99)),
                     us(o.wake_ups.greatest()), o.jobs, o.misses, o.migrations, o.switches);
    }
}

} // namespace sched_sim
