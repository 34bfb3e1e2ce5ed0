// The laws of hal/deadline_timer.hpp, for any model of DeadlineTimer.

#pragma once

#include <doctest/doctest.h>

#include <vector>

#include <exo/base/time.hpp>
#include <exo/hal/clock.hpp>
#include <exo/hal/deadline_timer.hpp>

namespace laws {

// Called with interrupts off, on one CPU. `pass(time)` lets time go on with interrupts on, and returns when `clock`
// said that a timer interrupt arrived, for each. `soon` is by how much one may be late.
template <exo::hal::DeadlineTimer Timer, exo::hal::Clock Clock, class Pass>
void check_deadline_timer(Timer& timer, const Clock& clock, Pass pass, exo::duration soon)
{
    using namespace exo;
    using arrivals = std::vector<instant>;
    const auto arrives_once = [&](const arrivals& seen, instant deadline) {
        CAPTURE(deadline.nanoseconds());
        REQUIRE(seen.size() == 1);
        CHECK(seen[0] >= deadline);
        CHECK(seen[0] <= deadline + soon);
    };

    CHECK(pass(milliseconds(10)).empty()); // not armed yet

    for (const duration wait : {nanoseconds(1), nanoseconds(999), microseconds(1), microseconds(77), milliseconds(3),
                                seconds(1), seconds(5), seconds(3'600)}) {
        const instant deadline = clock.now() + wait;
        timer.arm(deadline);
        arrives_once(pass(wait + soon), deadline);
        CHECK(pass(seconds(10)).empty()); // and never again
    }
    for (const instant passed : {instant{}, clock.now()}) {
        const instant armed = clock.now();
        timer.arm(passed);
        arrives_once(pass(milliseconds(1)), armed);
    }

    // The last one counts, be it later or earlier.
    for (const auto& [first, second] : {std::pair{milliseconds(1), milliseconds(5)}, {seconds(5), milliseconds(2)}}) {
        timer.arm(clock.now() + first);
        const instant deadline = clock.now() + second;
        timer.arm(deadline);
        arrives_once(pass(seconds(10)), deadline);
    }
    timer.arm(clock.now() + milliseconds(1));
    timer.arm(instant::never());
    CHECK(pass(seconds(10)).empty());
    // One that is put off when it is almost there.
    timer.arm(clock.now() + milliseconds(1));
    CHECK(pass(microseconds(999)).empty());
    const instant deadline = clock.now() + milliseconds(1);
    timer.arm(deadline);
    arrives_once(pass(milliseconds(2)), deadline);
}

} // namespace laws
