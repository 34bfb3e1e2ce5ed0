// What the policies of a kernel's run queues count, for a trace::registry: how many wait in each class, and how those
// of deadlines and of fixed priorities were held to their shares.

#pragma once

#include <exo/sched/policies/deadline.hpp>
#include <exo/sched/policies/fair.hpp>
#include <exo/trace/registry.hpp>

namespace exo::sched {

// Processor: of a scheduler whose policy is run_queue<deadline, RealTime, fair>, where RealTime is throttled<>.
template <class Processor, class RealTime>
struct queue_metrics {
    using row = trace::table_row<Processor>;

    template <class Policy>
    static constexpr row length(std::string_view which)
    {
        return {{"exo_sched_queue_length", "Threads that wait for a CPU, by class", trace::metric_kind::gauge, which},
                [](const Processor& p) noexcept -> std::uint64_t { return p.queue().template get<Policy>().size(); }};
    }
    template <class Policy, std::uint64_t (*Count)(const Policy&)>
    static constexpr row counts(std::string_view name, std::string_view help)
    {
        return {{name, help, trace::metric_kind::counter},
                [](const Processor& p) noexcept { return Count(p.queue().template get<Policy>()); }};
    }

    static constexpr row table[] = {
        length<deadline>("{class=\"deadline\"}"),
        length<RealTime>("{class=\"real_time\"}"),
        length<fair>("{class=\"fair\"}"),
        counts<deadline, [](const deadline& d) { return d.overruns(); }>(
            "exo_sched_deadline_overruns_total", "Times that a deadline thread used up its runtime and had more to do"),
        counts<deadline, [](const deadline& d) { return d.throttles(); }>(
            "exo_sched_deadline_throttles_total", "Times that a deadline thread waited for its next period"),
        counts<deadline, [](const deadline& d) { return d.misses(); }>(
            "exo_sched_deadline_misses_total", "Activations of deadline threads that lasted beyond their deadline"),
        counts<RealTime, [](const RealTime& r) { return r.throttles(); }>(
            "exo_sched_real_time_throttles_total", "Periods in which real-time threads used up their share of a CPU"),
        {{"exo_sched_time_idle_ns_total", "Time that CPUs had nothing to run", trace::metric_kind::counter},
         [](const Processor& p) noexcept { return static_cast<std::uint64_t>(p.idle_time().nanoseconds()); }},
    };
};

} // namespace exo::sched
