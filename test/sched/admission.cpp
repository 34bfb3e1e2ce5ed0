#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include <exo/sched/admission.hpp>

using namespace exo;
using namespace exo::sched;

namespace {

constexpr std::int64_t unit = 4096; // nanoseconds; above deadline::least_runtime

deadline::parameters units(std::int64_t runtime, std::int64_t relative, std::int64_t period)
{
    return {nanoseconds(runtime * unit), nanoseconds(relative * unit), nanoseconds(period * unit)};
}

// An admitted set that is released when the test ends.
struct admitted_set {
    explicit admitted_set(unsigned cpus = 1, cpu_share share = cpu_share::whole()) : control{cpus, share} {}
    ~admitted_set()
    {
        for (auto& r : reservations)
            if (r->admitted())
                control.release(*r);
    }
    result<> admit(const deadline::parameters& p)
    {
        reservations.push_back(std::make_unique<admission::reservation>());
        return control.admit(*reservations.back(), p);
    }
    admission control;
    std::vector<std::unique_ptr<admission::reservation>> reservations;
};

// EDF step by step over the hyperperiod, all tasks beginning at once: whether any misses. Knows nothing of demand.
bool keeps_all_deadlines(const std::vector<deadline::parameters>& tasks)
{
    struct state {
        std::int64_t runtime, deadline, period, left{}, due{};
    };
    std::vector<state> all;
    std::int64_t end = 1;
    for (const auto& p : tasks) {
        all.push_back(
            {p.runtime.nanoseconds() / unit, p.deadline.nanoseconds() / unit, p.interval().nanoseconds() / unit});
        end = std::lcm(end, all.back().period);
    }
    for (std::int64_t now = 0; now <= end; ++now) {
        state* first = nullptr;
        for (auto& s : all) {
            if (s.left > 0 && s.due <= now)
                return false;
            if (now % s.period == 0) {
                s.left = s.runtime;
                s.due = now + s.deadline;
            }
            if (s.left > 0 && (!first || s.due < first->due))
                first = &s;
        }
        if (first)
            --first->left;
    }
    return std::ranges::none_of(all, [&](const state& s) { return s.left > 0 && s.due <= end; });
}

} // namespace

TEST_CASE("one CPU admits exactly the sets that a simulation of a hyperperiod finds feasible")
{
    std::mt19937 random{1};
    const std::int64_t periods[] = {2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 24, 30};
    unsigned admitted = 0, refused_by_demand = 0, refused_by_use = 0, full = 0, beyond_bandwidth = 0;
    for (int round = 0; round < 20'000; ++round) {
        admitted_set set;
        std::vector<deadline::parameters> tasks;
        const auto count = static_cast<std::int64_t>(1 + random() % 5);
        for (std::int64_t i = 0; i < count; ++i) {
            const std::int64_t period = periods[random() % std::size(periods)];
            const std::int64_t longest = std::max<std::int64_t>(1, 2 * period / (count + 1));
            const std::int64_t runtime = 1 + static_cast<std::int64_t>(random()) % longest;
            const std::int64_t relative =
                random() % 3 == 0 ? period : runtime + static_cast<std::int64_t>(random() % (period - runtime + 1));
            tasks.push_back(units(runtime, relative, period));
            const result<> verdict = set.admit(tasks.back());
            const bool feasible = keeps_all_deadlines(tasks);
            CAPTURE(round);
            CAPTURE(i);
            REQUIRE(verdict.has_value() == feasible);
            if (!verdict) {
                if (verdict.error() == sched::errors::demand_too_high)
                    ++refused_by_demand;
                else
                    ++refused_by_use;
                REQUIRE((verdict.error() == sched::errors::demand_too_high ||
                         verdict.error() == sched::errors::utilization_too_high));
                tasks.pop_back();
            } else {
                ++admitted;
                full += set.control.millionths_used() == 1'000'000;
                beyond_bandwidth += !set.control.by_bandwidth();
            }
        }
    }
    MESSAGE(admitted, " admitted, ", full, " of them full, ", beyond_bandwidth, " beyond their bandwidth; refused ",
            refused_by_use, " by utilization, ", refused_by_demand, " by demand");
    CHECK(full > 100);
    CHECK(beyond_bandwidth > 1000);
    CHECK(refused_by_use > 1000);
    CHECK(refused_by_demand > 1000);
}

TEST_CASE("a refused set gets a typed error that says why, and is left as it was")
{
    admitted_set set;
    CHECK(set.admit(units(3, 6, 6)).has_value());
    CHECK(set.control.millionths_used() == 500'000);

    const auto too_much = set.admit(units(4, 6, 6));
    REQUIRE(!too_much);
    CHECK(too_much.error() == sched::errors::utilization_too_high);
    CHECK(too_much.error().context() == 1'166'667);
    CHECK(too_much.error().errno_value() == posix::busy);

    CHECK(set.admit(units(2, 3, 6)).has_value());
    const auto too_soon = set.admit(units(2, 2, 100));
    REQUIRE(!too_soon);
    CHECK(too_soon.error() == sched::errors::demand_too_high);
    const auto length = static_cast<std::int64_t>(too_soon.error().context()) / unit;
    const auto demand = [&](std::int64_t runtime, std::int64_t relative, std::int64_t period) {
        return length < relative ? 0 : ((length - relative) / period + 1) * runtime;
    };
    CHECK(demand(3, 6, 6) + demand(2, 3, 6) + demand(2, 2, 100) > length);
    CHECK(set.control.millionths_used() == 833'334);
    CHECK(set.admit(units(1, 6, 6)).has_value()); // what was refused takes no room
    CHECK(set.control.millionths_used() == 1'000'000);
}

TEST_CASE("parameters that make no sense are refused one by one")
{
    admitted_set set;
    CHECK(set.admit({nanoseconds(1023), milliseconds(1), {}}).error() == sched::errors::runtime_too_short);
    CHECK(set.admit({nanoseconds(-5), milliseconds(1), {}}).error() == sched::errors::runtime_too_short);
    const auto late = set.admit({milliseconds(2), milliseconds(1), milliseconds(3)});
    CHECK(late.error() == sched::errors::runtime_exceeds_deadline);
    CHECK(late.error().context() == 1'000'000);
    const auto long_deadline = set.admit({milliseconds(1), milliseconds(3), milliseconds(2)});
    CHECK(long_deadline.error() == sched::errors::deadline_exceeds_period);
    CHECK(long_deadline.error().context() == 2'000'000);
    CHECK(long_deadline.error().errno_value() == posix::inval);
    CHECK(set.admit({nanoseconds(1024), nanoseconds(1024), nanoseconds(2048)}).has_value());
    CHECK(set.control.millionths_used() == 500'000);
}

TEST_CASE("the share is kept to the nanosecond, on one CPU and on several")
{
    for (const unsigned cpus : {1u, 2u, 64u, 1024u}) {
        admitted_set set{cpus, cpu_share{}};
        for (unsigned i = 0; i < cpus; ++i)
            CHECK(set.admit({milliseconds(95), milliseconds(100), {}}).has_value());
        CHECK(set.control.millionths_used() == 950'000 * cpus);
        const deadline::parameters more{nanoseconds(1024), seconds(4'000'000'000), {}};
        CHECK(set.admit(more).error() == sched::errors::utilization_too_high);
        CHECK(set.control.set_share(cpu_share::whole()).has_value());
        CHECK(set.admit(more).has_value());
        CHECK(set.control.set_share({}).error() == sched::errors::utilization_too_high);
        CHECK(set.control.share() == cpu_share::whole());
    }
}

TEST_CASE("several CPUs admit by utilization, and give up none that are needed")
{
    admitted_set set{3};
    for (int i = 0; i < 3; ++i)
        CHECK(set.admit(units(2, 2, 3)).has_value()); // one CPU would not keep two of them
    CHECK(set.admit(units(1, 1, 1)).has_value());
    CHECK(set.admit(units(1, 30, 30)).error() == sched::errors::utilization_too_high);
    CHECK(set.control.set_cpus(2).error() == sched::errors::utilization_too_high);
    CHECK(set.control.cpus() == 3);
    for (int i = 0; i < 3; ++i)
        set.control.release(*set.reservations[static_cast<std::size_t>(i)]);
    CHECK(set.control.set_cpus(1).has_value());
    CHECK(set.control.millionths_used() == 1'000'000);
    CHECK(set.admit(units(1, 30, 30)).error() == sched::errors::utilization_too_high);
}

TEST_CASE("a reservation changes as a whole or not at all")
{
    admitted_set set;
    CHECK(set.admit(units(5, 10, 10)).has_value());
    CHECK(set.admit(units(4, 10, 10)).has_value());
    admission::reservation& second = *set.reservations[1];
    CHECK(set.control.change(second, units(6, 10, 10)).error() == sched::errors::utilization_too_high);
    CHECK(second.parameters() == units(4, 10, 10));
    CHECK(set.control.change(second, units(5, 4, 10)).error() == sched::errors::runtime_exceeds_deadline);
    CHECK(set.control.by_bandwidth());
    CHECK(set.control.change(second, units(5, 5, 10)).has_value());
    CHECK(!set.control.by_bandwidth());
    CHECK(set.control.change(*set.reservations[0], units(5, 9, 10)).error() == sched::errors::demand_too_high);
    CHECK(set.control.millionths_used() == 1'000'000);
    set.control.release(*set.reservations[0]);
    CHECK(set.control.by_bandwidth());
    CHECK(set.control.millionths_used() == 500'000);
}

TEST_CASE("utilization is exact where a common denominator is in reach, and errs to the safe side elsewhere")
{
    utilization thirds;
    for (int i = 0; i < 3; ++i)
        thirds.add(1, 3);
    CHECK(thirds.at_most(1, 1, 1));
    CHECK(!thirds.at_most(1, 999'999'999, 1'000'000'000));
    thirds.add(1, std::uint64_t{1} << 60);
    CHECK(!thirds.at_most(1, 1, 1));
    CHECK(thirds.at_most(2, 1, 1));

    // Periods that are large primes: 1/2 + 1/p - 1/2p - ... have no denominator of 64 bits.
    const std::uint64_t p = 4'294'967'291, q = 4'294'967'279, r = 4'294'967'231;
    utilization primes;
    primes.add(p / 3, p);
    primes.add(q / 3, q);
    primes.add(r / 3, r);
    CHECK(primes.at_most(1, 1, 1));
    primes.add(1, p);
    CHECK(primes.at_most(1, 1, 1));
    primes.add(p - 1, p);
    CHECK(!primes.at_most(1, 1, 1));
    CHECK(primes.millionths() == 2'000'000);

    utilization whole_beyond_reach; // exactly one, which cannot be told
    whole_beyond_reach.add(1, p);
    whole_beyond_reach.add(1, q);
    whole_beyond_reach.add(1, r);
    whole_beyond_reach.add(p - 1, p);
    whole_beyond_reach.add(q - 1, q);
    whole_beyond_reach.add(r - 1, r);
    CHECK(!whole_beyond_reach.at_most(3, 1, 1));

    const std::uint64_t huge = (std::uint64_t{1} << 63) - 1;
    utilization largest;
    largest.add(huge, huge);
    CHECK(largest.at_most(1, huge, huge));
    CHECK(!largest.at_most(1, huge - 1, huge));
    for (int i = 1; i < 1024; ++i)
        largest.add(huge, huge);
    CHECK(largest.at_most(1024, 1, 1));
    CHECK(!largest.at_most(1024, huge - 1, huge));
    CHECK(largest.millionths() == 1'024'000'000);
}

TEST_CASE("division of 128 bits agrees with the compiler's")
{
    std::mt19937_64 random{5};
    for (int round = 0; round < 10'000; ++round) {
        const std::uint64_t divisor = (random() >> (1 + random() % 60)) | 1;
        const wide dividend = wide{random() % divisor} << 64 | random() >> (random() % 64);
        const quotient found = divide(dividend, divisor);
        REQUIRE(found.value == static_cast<std::uint64_t>(dividend / divisor));
        REQUIRE(found.remainder == static_cast<std::uint64_t>(dividend % divisor));
    }
}

TEST_CASE("periods without a common multiple are judged by what is left of the CPU")
{
    admitted_set set;
    std::int64_t period = 1'000'000'007;
    for (int i = 0; i < 12; ++i, period += 98'765'431)
        CHECK(set.admit({nanoseconds(period / 20), nanoseconds(period / 20 * 13), nanoseconds(period)}).has_value());
    CHECK(set.control.by_bandwidth());
    // Short deadlines: the bandwidths exceed one by far, the demand does not.
    for (int i = 0; i < 3; ++i, period += 98'765'431)
        CHECK(set.admit({nanoseconds(period / 20), nanoseconds(period / 20 * (3 + 3 * i)), nanoseconds(period)})
                  .has_value());
    CHECK(!set.control.by_bandwidth());
    const auto late = set.admit({nanoseconds(period / 6), nanoseconds(period / 6), nanoseconds(period)});
    CHECK(late.error() == sched::errors::demand_too_high);
}

TEST_CASE("a set that takes too long to judge is refused as undecided")
{
    // The short periods leave so little that the analysis comes down from the long one in steps of a few millionths.
    admitted_set set;
    CHECK(set.admit({nanoseconds(2'000'000), nanoseconds(3'999'999), nanoseconds(4'000'000)}).has_value());
    CHECK(set.admit({nanoseconds(1'999'999), nanoseconds(4'000'000), {}}).has_value());
    const auto verdict = set.admit({seconds(1), seconds(4'000'000), {}});
    REQUIRE(!verdict);
    CHECK(verdict.error() == sched::errors::admission_undecided);
    CHECK(set.control.by_bandwidth()); // as before
    CHECK(set.control.millionths_used() == 1'000'000);
}
