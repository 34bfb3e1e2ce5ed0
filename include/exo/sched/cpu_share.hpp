// How much of a CPU a class of threads may have: so much time in each period. By default what Linux gives those of
// real-time and deadline policies, so that others live (sched_rt_runtime_us, sched_rt_period_us).

#pragma once

#include <exo/base/time.hpp>

namespace exo::sched {

// 0 <= runtime <= period, 0 < period.
struct cpu_share {
    duration runtime{milliseconds(950)};
    duration period{seconds(1)};

    [[nodiscard]] static constexpr cpu_share whole() { return {seconds(1), seconds(1)}; }
    [[nodiscard]] constexpr bool valid() const
    {
        return runtime >= duration{} && runtime <= period && period > duration{};
    }
    [[nodiscard]] constexpr bool is_whole() const { return runtime == period; }
    friend bool operator==(const cpu_share&, const cpu_share&) = default;
};

} // namespace exo::sched
