// How long tests of random sequences run: the same few steps from the same few seeds every time, or, for a night,
// EXO_RANDOM_STEPS steps in each test, from seed EXO_RANDOM_SEED on. A failure names its seed.

#pragma once

#include <doctest/doctest.h>

#include <cstdlib>

namespace exo_test {

// run(seed) makes `steps` steps; `seeds` times, unless told otherwise.
template <class Run>
void random_runs(unsigned seeds, unsigned steps, Run run)
{
    const auto setting = [](const char* name, unsigned long otherwise) {
        const char* text = std::getenv(name);
        return text ? std::strtoul(text, nullptr, 0) : otherwise;
    };
    const auto first = static_cast<unsigned>(setting("EXO_RANDOM_SEED", 1));
    const unsigned long wanted = setting("EXO_RANDOM_STEPS", static_cast<unsigned long>(seeds) * steps);
    unsigned seed = first;
    for (unsigned long done = 0; done < wanted; done += steps, ++seed) {
        CAPTURE(seed);
        run(seed);
    }
    if (std::getenv("EXO_RANDOM_STEPS"))
        MESSAGE("seeds ", first, " to ", seed - 1, ", ", steps, " steps each");
}

} // namespace exo_test
