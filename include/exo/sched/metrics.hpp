// What the scheduler counts, for each CPU.

#pragma once

#include <exo/trace/counter.hpp>
#include <exo/trace/registry.hpp>

namespace exo::sched {

template <class Recording>
struct metrics {
    using counter = trace::counter<Recording>;

    [[no_unique_address]] counter switches;
    [[no_unique_address]] counter voluntary_switches;
    [[no_unique_address]] counter involuntary_switches;
    [[no_unique_address]] counter ticks;
    [[no_unique_address]] counter turns_over;
    [[no_unique_address]] counter yields;
    [[no_unique_address]] counter parks;
    [[no_unique_address]] counter parks_with_token;
    [[no_unique_address]] counter timed_parks;
    [[no_unique_address]] counter wake_ups;
    [[no_unique_address]] counter remote_wake_ups;
    [[no_unique_address]] counter kicks;
    [[no_unique_address]] counter tasks_started;
    [[no_unique_address]] counter tasks_ended;
    [[no_unique_address]] counter timers_armed;
    [[no_unique_address]] counter migrations;
    [[no_unique_address]] counter steals_tried;
    [[no_unique_address]] counter steals_won;
    [[no_unique_address]] counter balance_passes;
    [[no_unique_address]] counter inheritances;

    static constexpr trace::table_row<metrics> table[] = {
        trace::counts<&metrics::switches, metrics>("exo_sched_switches_total", "Switches from one thread to another"),
        trace::counts<&metrics::voluntary_switches, metrics>(
            "exo_sched_switches_voluntary_total", "Switches away from a thread that parked, yielded or ended"),
        trace::counts<&metrics::involuntary_switches, metrics>("exo_sched_switches_involuntary_total",
                                                               "Switches away from a thread that was preempted"),
        trace::counts<&metrics::ticks, metrics>("exo_sched_ticks_total", "Timer interrupts"),
        trace::counts<&metrics::turns_over, metrics>("exo_sched_turns_over_total", "Turns that were used up"),
        trace::counts<&metrics::yields, metrics>("exo_sched_yields_total", "Calls of yield"),
        trace::counts<&metrics::parks, metrics>("exo_sched_parks_total", "Waits that put a thread to sleep"),
        trace::counts<&metrics::parks_with_token, metrics>("exo_sched_parks_with_token_total",
                                                           "Waits whose wake-up had come before"),
        trace::counts<&metrics::timed_parks, metrics>("exo_sched_parks_timed_total", "Waits with a deadline"),
        trace::counts<&metrics::wake_ups, metrics>("exo_sched_wake_ups_total", "Parked threads made ready"),
        trace::counts<&metrics::remote_wake_ups, metrics>("exo_sched_wake_ups_remote_total",
                                                          "Threads made ready from another CPU, through its inbox"),
        trace::counts<&metrics::kicks, metrics>("exo_sched_kicks_total", "Interrupts sent to CPUs that have new mail"),
        trace::counts<&metrics::tasks_started, metrics>("exo_sched_tasks_started_total", "Threads started"),
        trace::counts<&metrics::tasks_ended, metrics>("exo_sched_tasks_ended_total", "Threads ended"),
        trace::counts<&metrics::timers_armed, metrics>("exo_sched_hardware_timer_armed_total",
                                                       "Times the hardware timer was set"),
        trace::counts<&metrics::migrations, metrics>("exo_sched_migrations_total",
                                                     "Ready threads that went to another CPU"),
        trace::counts<&metrics::steals_tried, metrics>("exo_sched_steals_tried_total",
                                                       "Requests for work to another CPU"),
        trace::counts<&metrics::steals_won, metrics>("exo_sched_steals_won_total",
                                                     "Requests for work that were answered with a thread"),
        trace::counts<&metrics::balance_passes, metrics>("exo_sched_balance_passes_total",
                                                         "Looks for CPUs with less load"),
        trace::counts<&metrics::inheritances, metrics>("exo_sched_priority_inheritances_total",
                                                       "Times the holder of a lock became as urgent as who waits"),
    };
};

} // namespace exo::sched
