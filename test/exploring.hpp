// Exploring scenarios (exo/sim/explorer.hpp), and what is found as a failure of the test.

#pragma once

#include <memory>

#include <doctest/doctest.h>

#include <exo/sim/explorer.hpp>

// In a scenario: else its run has failed.
inline void require(bool holds, const char* what) { exo::sim::explorer::here()->require(holds, what); }

// All schedules with few interruptions and late stores, and some with many.
template <class Scenario>
exo::sim::finding explore(unsigned interruptions, unsigned late_stores)
{
    exo::sim::explorer explored{[] { return std::make_unique<Scenario>(); }};
    const auto found = explored.explore(interruptions, late_stores);
    if (found.failed())
        return found;
    const auto sampled = explored.sample(1, 300);
    return sampled.failed() ? sampled : found;
}

#define CHECK_CLEAN(...)                              \
    do {                                              \
        const auto found_ = __VA_ARGS__;              \
        INFO(found_.report());                        \
        CHECK((!found_.failed() && found_.complete)); \
    } while (false)
