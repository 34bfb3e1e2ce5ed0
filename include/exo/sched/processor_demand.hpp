// Whether one CPU keeps all deadlines of a set of sporadic tasks by EDF: for every length of time, all jobs that can
// have to be both begun and done within it must fit (Baruah, Rosier and Howell 1990). Exact; sufficient and necessary.
//
// The lengths that need a look are found by quick processor-demand analysis (Zhang and Burns 2009), from a horizon
// downward. Work is bounded: a set that has no horizon of 62 bits (utilization near one, and periods without a common
// multiple of that size) or needs too many steps is refused as undecided. Sets of at most full bandwidth (the sum of
// runtime / deadline), which includes all whose deadlines are their periods, never are.

#pragma once

#include <cstdint>

#include <exo/base/result.hpp>
#include <exo/base/time.hpp>
#include <exo/sched/errors.hpp>
#include <exo/sched/policies/deadline.hpp>
#include <exo/sched/utilization.hpp>

namespace exo::sched {

// `Tasks` is a range of objects with parameters(), a deadline::parameters; their utilization is at most one.
template <class Tasks>
class processor_demand {
public:
    static constexpr std::uint64_t step_limit = 1 << 20; // looks at one task: some ten milliseconds

    explicit processor_demand(Tasks& tasks) : tasks_{tasks} {}

    // Fails with demand_too_high (context: a length that has too little time, in nanoseconds) or admission_undecided.
    [[nodiscard]] result<> check(const utilization& used)
    {
        const std::uint64_t end = horizon(used);
        if (end == 0)
            return fail(errors::admission_undecided, step_limit);
        std::uint64_t length = last_deadline_before(end);
        while (length != 0) {
            const wide need = demand(length);
            if (need > length)
                return fail(errors::demand_too_high, length);
            // Nothing between the demand and the length has a demand above its own length.
            length = need < length ? static_cast<std::uint64_t>(need) : last_deadline_before(length);
            if (length < shortest_)
                break;
            if (steps_ > step_limit)
                return fail(errors::admission_undecided, step_limit);
        }
        return {};
    }

private:
    static std::uint64_t ns(duration d) { return static_cast<std::uint64_t>(d.nanoseconds()); }

    // Of jobs that lie within an interval of this length, at most.
    wide demand(std::uint64_t length)
    {
        wide sum = 0;
        for (auto& task : tasks_) {
            const deadline::parameters& p = task.parameters();
            if (ns(p.deadline) <= length)
                sum += wide{(length - ns(p.deadline)) / ns(p.interval()) + 1} * ns(p.runtime);
            ++steps_;
        }
        return sum;
    }
    // The latest deadline of jobs that all begin at 0, or 0.
    std::uint64_t last_deadline_before(std::uint64_t length)
    {
        std::uint64_t last = 0;
        for (auto& task : tasks_) {
            const deadline::parameters& p = task.parameters();
            if (ns(p.deadline) < length) {
                const std::uint64_t since = length - 1 - ns(p.deadline);
                const std::uint64_t at = since - since % ns(p.interval()) + ns(p.deadline);
                last = at > last ? at : last;
            }
            ++steps_;
        }
        return last;
    }

    // If any length has too much demand, one before this has; 0 when none is known. The least common multiple of the
    // periods will do, and, where something is left of the CPU, the sum of (period - deadline) * utilization over what
    // is left.
    std::uint64_t horizon(const utilization& used)
    {
        std::uint64_t common = 1; // 0: too large
        wide slack = 0;
        for (auto& task : tasks_) {
            const deadline::parameters& p = task.parameters();
            const std::uint64_t period = ns(p.interval());
            if (common != 0) {
                const std::uint64_t factor = period / greatest_common_divisor(common, period);
                common = factor <= largest / common ? common * factor : 0;
            }
            slack += divide(wide{period - ns(p.deadline)} * ns(p.runtime), period).value + 1;
            shortest_ = ns(p.deadline) < shortest_ ? ns(p.deadline) : shortest_;
        }
        const std::uint64_t by_period = common == 0 ? 0 : common + 1;
        const wide full = wide{1} << 64;
        wide left = used.from_above() < full ? full - used.from_above() : 0;
        left = left < full / 2 ? left : full / 2 - 1; // too little only makes the horizon farther
        if (slack >= left / 4)
            return by_period;
        const std::uint64_t by_slack = divide(slack << 64, static_cast<std::uint64_t>(left)).value + 1;
        return by_period == 0 || by_slack < by_period ? by_slack : by_period;
    }

    static constexpr std::uint64_t largest = std::uint64_t{1} << 62;

    Tasks& tasks_;
    std::uint64_t shortest_{~std::uint64_t{0}}; // of the deadlines
    std::uint64_t steps_{};
};

} // namespace exo::sched
