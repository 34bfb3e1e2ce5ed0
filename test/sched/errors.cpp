#include <doctest/doctest.h>

#include <set>
#include <string>

#include <exo/base/error_text.hpp>
#include <exo/sched/errors.hpp>

using namespace exo;
using namespace exo::sched::errors;

namespace {

const error_kind* const kinds[] = {&too_many_threads,
                                   &too_many_threads_of_user,
                                   &no_thread,
                                   &no_allowed_cpu_online,
                                   &deadline_affinity,
                                   &deadline_needs_all_cpus,
                                   &unknown_policy,
                                   &priority_out_of_range,
                                   &attributes_size,
                                   &unknown_flags,
                                   &priority_above_limit,
                                   &nice_below_limit,
                                   &policy_not_permitted,
                                   &not_own_thread,
                                   &runtime_too_short,
                                   &runtime_exceeds_deadline,
                                   &deadline_exceeds_period,
                                   &period_out_of_range,
                                   &utilization_too_high,
                                   &demand_too_high,
                                   &admission_undecided,
                                   &deadline_fork,
                                   &deadline_missed,
                                   &runtime_overrun,
                                   &inbox_contended,
                                   &would_deadlock,
                                   &not_owner};

} // namespace

TEST_CASE("every scheduler error has a name, a message and advice of its own, and says what it is about")
{
    std::set<std::string_view> names, messages, advice;
    for (const error_kind* kind : kinds) {
        CAPTURE(kind->name);
        CHECK(kind->domain == "sched");
        CHECK(kind->errno_value != posix::none);
        CHECK(!kind->subject.empty());
        CHECK(!kind->advice.empty());
        CHECK(names.insert(kind->name).second);
        CHECK(messages.insert(kind->message).second);
        CHECK(advice.insert(kind->advice).second);

        const std::string text{std::string_view{error_text{{*kind, 1234567}}}};
        const std::string context = " (" + std::string{kind->subject} + " 1234567); ";
        CHECK(text == "sched/" + std::string{kind->name} + ": " + std::string{kind->message} + context +
                          std::string{kind->advice});
    }
    CHECK(names.size() >= 20);

    // How waits end is for all rooms to report.
    CHECK(advice.insert(interrupted.advice).second);
    CHECK(advice.insert(timed_out.advice).second);
    CHECK(std::string_view{error_text{interrupted}} ==
          "base/interrupted: a signal ended the wait; let the signal be handled, then wait again");
}

TEST_CASE("the text of an error shows negative contexts, leaves out what its kind does not name, and ends in time")
{
    CHECK(std::string_view{error_text{{priority_out_of_range, static_cast<std::uint64_t>(-21)}}} ==
          "sched/priority_out_of_range: the policy has no such priority (priority -21); ask sched_get_priority_min and "
          "sched_get_priority_max");
    CHECK(std::string_view{error_text{{busy, 7}}} == "base/busy: the object is in use");
    static constexpr error_kind endless{"a",
                                        "b",
                                        "0123456789012345678901234567890123456789012345678901234567890123456789"
                                        "0123456789012345678901234567890123456789012345678901234567890123456789"
                                        "0123456789012345678901234567890123456789012345678901234567890123456789"
                                        "0123456789012345678901234567890123456789012345678901234567890123456789",
                                        posix::inval,
                                        severity::caller,
                                        recovery::give_up};
    CHECK(std::string_view{error_text{endless}}.size() == 256);
}
