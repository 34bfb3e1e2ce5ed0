// What the scheduler counts, for each CPU. Times are in nanoseconds.

#pragma once

#include <cstddef>
#include <string_view>

#include <exo/base/error.hpp>
#include <exo/trace/counter.hpp>
#include <exo/trace/extreme.hpp>
#include <exo/trace/histogram.hpp>
#include <exo/trace/registry.hpp>

namespace exo::sched {

template <class Recording>
struct metrics {
    using counter = trace::counter<Recording>;

    [[no_unique_address]] counter switches;
    [[no_unique_address]] counter voluntary_switches;
    [[no_unique_address]] counter involuntary_switches;
    [[no_unique_address]] counter switch_time;
    [[no_unique_address]] trace::least<Recording> least_switch_time;
    [[no_unique_address]] trace::greatest<Recording> greatest_switch_time;
    [[no_unique_address]] counter idle_periods;
    [[no_unique_address]] counter ticks;
    [[no_unique_address]] counter turns_over;
    [[no_unique_address]] counter timers_armed;

    [[no_unique_address]] counter yields;
    [[no_unique_address]] counter parks;
    [[no_unique_address]] counter parks_with_token;
    [[no_unique_address]] counter timed_parks;
    [[no_unique_address]] counter timeouts;
    [[no_unique_address]] counter wake_ups;
    [[no_unique_address]] counter preemptions;
    [[no_unique_address]] trace::histogram<Recording, 10, 16> wake_up_latency; // up to 1 µs, 2 µs, …, longer
    [[no_unique_address]] trace::greatest<Recording> greatest_wake_up_latency;

    [[no_unique_address]] counter tasks_started;
    [[no_unique_address]] counter tasks_ended;
    [[no_unique_address]] trace::greatest<Recording> most_tasks;

    [[no_unique_address]] counter sent;
    [[no_unique_address]] counter inbox_attempts;
    [[no_unique_address]] counter inbox_retries;
    [[no_unique_address]] counter inbox_failures;
    [[no_unique_address]] counter kicks;
    [[no_unique_address]] counter kicks_saved;

    [[no_unique_address]] counter migrations;
    [[no_unique_address]] counter steals_tried;
    [[no_unique_address]] counter steals_won;
    [[no_unique_address]] counter steals_refused;
    [[no_unique_address]] counter balance_passes;
    [[no_unique_address]] counter balance_moves;
    [[no_unique_address]] counter urgent_moves;

    [[no_unique_address]] counter parameter_changes;
    [[no_unique_address]] counter policy_changes;
    [[no_unique_address]] counter affinity_changes;
    [[no_unique_address]] counter inversions;
    [[no_unique_address]] counter inheritances;

    [[no_unique_address]] counter expected_errors;
    [[no_unique_address]] counter caller_errors;
    [[no_unique_address]] counter degraded_errors;
    [[no_unique_address]] counter critical_errors;

    void count(error e) noexcept
    {
        switch (e.kind().level) {
        case severity::expected: expected_errors.add(); break;
        case severity::caller: caller_errors.add(); break;
        case severity::degraded: degraded_errors.add(); break;
        case severity::critical: critical_errors.add(); break;
        }
    }

private:
    using row = trace::table_row<metrics>;

    template <auto Member>
    static constexpr row counts(std::string_view name, std::string_view help, std::string_view sample = {})
    {
        row r = trace::counts<Member, metrics>(name, help);
        r.what.sample = sample;
        return r;
    }
    template <auto Member>
    static constexpr row extreme(trace::combination together, std::string_view name, std::string_view help)
    {
        row r = trace::counts<Member, metrics>(name, help);
        r.what.kind = trace::metric_kind::gauge;
        r.together = together;
        return r;
    }
    template <std::size_t Range>
    static constexpr row latency(std::string_view bucket)
    {
        return {{latency_name, latency_help, trace::metric_kind::histogram, bucket},
                [](const metrics& m) noexcept { return m.wake_up_latency.up_to(Range); }};
    }
    static constexpr std::string_view latency_name = "exo_sched_wake_up_latency_ns";
    static constexpr std::string_view latency_help = "From a wake-up to the first instruction of the thread";
    static constexpr std::string_view errors_name = "exo_sched_errors_total";
    static constexpr std::string_view errors_help = "Errors of the scheduler, by severity";

public:
    static constexpr row table[] = {
        counts<&metrics::switches>("exo_sched_switches_total", "Switches from one thread to another"),
        counts<&metrics::voluntary_switches>("exo_sched_switches_voluntary_total",
                                             "Switches away from a thread that parked, yielded or ended"),
        counts<&metrics::involuntary_switches>("exo_sched_switches_involuntary_total",
                                               "Switches away from a thread that was preempted"),
        counts<&metrics::switch_time>("exo_sched_time_scheduler_ns_total", "Time that switches took"),
        extreme<&metrics::least_switch_time>(trace::combination::least, "exo_sched_switch_time_least_ns",
                                             "The shortest switch"),
        extreme<&metrics::greatest_switch_time>(trace::combination::greatest, "exo_sched_switch_time_greatest_ns",
                                                "The longest switch"),
        counts<&metrics::idle_periods>("exo_sched_idle_periods_total", "Times that a CPU had nothing to run"),
        counts<&metrics::ticks>("exo_sched_ticks_total", "Timer interrupts"),
        counts<&metrics::turns_over>("exo_sched_turns_over_total", "Turns that were used up"),
        counts<&metrics::timers_armed>("exo_sched_hardware_timer_armed_total", "Times the hardware timer was set"),

        counts<&metrics::yields>("exo_sched_yields_total", "Calls of yield"),
        counts<&metrics::parks>("exo_sched_parks_total", "Waits that put a thread to sleep"),
        counts<&metrics::parks_with_token>("exo_sched_parks_with_token_total", "Waits whose wake-up had come before"),
        counts<&metrics::timed_parks>("exo_sched_parks_timed_total", "Waits with a deadline"),
        counts<&metrics::timeouts>("exo_sched_timeouts_total", "Waits whose deadline came"),
        counts<&metrics::wake_ups>("exo_sched_wake_ups_total", "Parked threads made ready"),
        counts<&metrics::preemptions>("exo_sched_preemptions_total",
                                      "Threads that took the CPU from another when they came"),
        latency<0>("_bucket{le=\"1024\"}"),
        latency<1>("_bucket{le=\"2048\"}"),
        latency<2>("_bucket{le=\"4096\"}"),
        latency<3>("_bucket{le=\"8192\"}"),
        latency<4>("_bucket{le=\"16384\"}"),
        latency<5>("_bucket{le=\"32768\"}"),
        latency<6>("_bucket{le=\"65536\"}"),
        latency<7>("_bucket{le=\"131072\"}"),
        latency<8>("_bucket{le=\"262144\"}"),
        latency<9>("_bucket{le=\"524288\"}"),
        latency<10>("_bucket{le=\"1048576\"}"),
        latency<11>("_bucket{le=\"2097152\"}"),
        latency<12>("_bucket{le=\"4194304\"}"),
        latency<13>("_bucket{le=\"8388608\"}"),
        latency<14>("_bucket{le=\"16777216\"}"),
        latency<15>("_bucket{le=\"+Inf\"}"),
        {{latency_name, latency_help, trace::metric_kind::histogram, "_sum"},
         [](const metrics& m) noexcept { return m.wake_up_latency.sum(); }},
        latency<15>("_count"),
        extreme<&metrics::greatest_wake_up_latency>(trace::combination::greatest,
                                                    "exo_sched_wake_up_latency_greatest_ns",
                                                    "The longest time from a wake-up to the thread's running"),

        counts<&metrics::tasks_started>("exo_sched_tasks_started_total", "Threads started"),
        counts<&metrics::tasks_ended>("exo_sched_tasks_ended_total", "Threads ended"),
        {{"exo_sched_tasks_alive", "Threads started and not ended", trace::metric_kind::gauge},
         [](const metrics& m) noexcept { return m.tasks_started.value() - m.tasks_ended.value(); }},
        extreme<&metrics::most_tasks>(trace::combination::greatest, "exo_sched_tasks_alive_most",
                                      "The most threads that there were at once"),

        counts<&metrics::sent>("exo_sched_sent_total", "Threads handed to another CPU, through its inbox"),
        counts<&metrics::inbox_attempts>("exo_sched_inbox_attempts_total", "Compare-exchanges on inboxes"),
        counts<&metrics::inbox_retries>("exo_sched_inbox_retries_total", "Of these, those made again"),
        counts<&metrics::inbox_failures>("exo_sched_inbox_failures_total",
                                         "Pushes to inboxes for which every compare-exchange failed"),
        counts<&metrics::kicks>("exo_sched_kicks_total", "Interrupts sent to CPUs that have new mail"),
        counts<&metrics::kicks_saved>("exo_sched_kicks_saved_total", "New mail of CPUs that were polling for it"),

        counts<&metrics::migrations>("exo_sched_migrations_total", "Ready threads that went to another CPU"),
        counts<&metrics::steals_tried>("exo_sched_steals_tried_total", "Requests for work to another CPU"),
        counts<&metrics::steals_won>("exo_sched_steals_won_total", "Requests for work answered with a thread"),
        counts<&metrics::steals_refused>("exo_sched_steals_refused_total", "Requests for work answered with none"),
        counts<&metrics::balance_passes>("exo_sched_balance_passes_total", "Looks for CPUs with less load"),
        counts<&metrics::balance_moves>("exo_sched_balance_moves_total", "Threads handed to CPUs with less load"),
        counts<&metrics::urgent_moves>("exo_sched_urgent_moves_total",
                                       "Urgent threads handed to CPUs that ran something less urgent"),

        counts<&metrics::parameter_changes>("exo_sched_parameter_changes_total",
                                            "Changes of a thread's policy or its parameters"),
        counts<&metrics::policy_changes>("exo_sched_policy_changes_total", "Of these, those of the policy"),
        counts<&metrics::affinity_changes>("exo_sched_affinity_changes_total", "Changes of a thread's allowed CPUs"),
        counts<&metrics::inversions>("exo_sched_priority_inversions_total",
                                     "Waits for a lock whose holder was less urgent"),
        counts<&metrics::inheritances>("exo_sched_priority_inheritances_total",
                                       "Times the holder of a lock became as urgent as who waits"),

        counts<&metrics::expected_errors>(errors_name, errors_help, "{severity=\"expected\"}"),
        counts<&metrics::caller_errors>(errors_name, errors_help, "{severity=\"caller\"}"),
        counts<&metrics::degraded_errors>(errors_name, errors_help, "{severity=\"degraded\"}"),
        counts<&metrics::critical_errors>(errors_name, errors_help, "{severity=\"critical\"}"),
    };
};

} // namespace exo::sched
