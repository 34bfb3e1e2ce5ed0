// What can be wrong with a workload file, beside what the scheduler itself refuses (exo/sched/errors.hpp). The context
// of each is the line.

#pragma once

#include <exo/base/error.hpp>

namespace sched_sim::errors {

using exo::error_kind;
using exo::posix;
using exo::recovery;
using exo::severity;

inline constexpr error_kind malformed_json{
    "sched_sim", "malformed_json", "this is no JSON", posix::inval, severity::caller, recovery::fix_input, "line",
    "see RFC 8259; comments as in C and C++ are allowed"};
inline constexpr error_kind unknown_key{
    "sched_sim", "unknown_key", "no such key here", posix::inval, severity::caller, recovery::fix_input, "line",
    "see the list of keys in workload.hpp"};
inline constexpr error_kind repeated_key{
    "sched_sim", "repeated_key", "the object has this key already", posix::inval, severity::caller,
    recovery::fix_input, "line", "give events of one kind distinct numbers: run0, run1"};
inline constexpr error_kind wrong_type{
    "sched_sim", "wrong_type", "the value is of another type", posix::inval, severity::caller, recovery::fix_input,
    "line", "times are whole numbers of microseconds, names are strings"};
inline constexpr error_kind out_of_range{
    "sched_sim", "out_of_range", "the number is out of range", posix::range, severity::caller, recovery::fix_input,
    "line", "priorities are 1 to 99, nice values -20 to 19, CPUs 0 to 1023"};
inline constexpr error_kind no_policy{
    "sched_sim", "no_policy", "no such policy", posix::inval, severity::caller, recovery::fix_input, "line",
    "SCHED_OTHER, SCHED_BATCH, SCHED_IDLE, SCHED_FIFO, SCHED_RR or SCHED_DEADLINE"};
inline constexpr error_kind no_tasks{
    "sched_sim", "no_tasks", "there are no tasks", posix::inval, severity::caller, recovery::fix_input, "line",
    "name at least one under \"tasks\""};
inline constexpr error_kind too_many_tasks{
    "sched_sim", "too_many_tasks", "there are more tasks than can be simulated", posix::range, severity::caller,
    recovery::shrink_request, "line", "ask for at most 100,000 instances in all"};
inline constexpr error_kind timeless_loop{
    "sched_sim", "timeless_loop", "a loop takes no time", posix::inval, severity::caller, recovery::fix_input, "line",
    "let it run, sleep or wait for a timer"};
inline constexpr error_kind mixed_phases{
    "sched_sim", "mixed_phases", "a task has either phases or events of its own", posix::inval, severity::caller,
    recovery::fix_input, "line", "move the events into a phase"};

} // namespace sched_sim::errors
