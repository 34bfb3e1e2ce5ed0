// What the scheduler and its policies report beside the kinds of base/errors.hpp. The numbers are those that Linux's
// system calls give for the same (sched_setattr(2), sched_setaffinity(2), setpriority(2), clone(2)).

#pragma once

#include <exo/base/errors.hpp>

namespace exo::sched::errors {

using namespace exo::errors;

// How many there may be.
inline constexpr error_kind too_many_threads{
    "sched", "too_many_threads", "the system has all the threads that it can have", posix::again, severity::degraded,
    recovery::back_off, "limit", "let threads end before more are made"};
inline constexpr error_kind too_many_threads_of_user{
    "sched", "too_many_threads_of_user", "the user has all the threads that it may have", posix::again,
    severity::caller, recovery::give_up, "limit", "end processes of this user, or raise its RLIMIT_NPROC"};

inline constexpr error_kind no_thread{
    "sched", "no_thread", "no such thread", posix::srch, severity::caller, recovery::fix_input, "thread",
    "read the number again from who made the thread"};

// Where a thread may run.
inline constexpr error_kind no_allowed_cpu_online{
    "sched", "no_allowed_cpu_online", "none of the allowed CPUs is online", posix::inval, severity::caller,
    recovery::fix_input, "CPUs", "add a CPU that is online to the set, or bring one of the set online"};
inline constexpr error_kind deadline_affinity{
    "sched", "deadline_affinity", "a thread that is kept from CPUs cannot become one of deadlines",
    posix::perm, severity::caller, recovery::give_up, "thread",
    "leave all CPUs to the thread first"};

inline constexpr error_kind deadline_needs_all_cpus{
    "sched", "deadline_needs_all_cpus", "a deadline thread may use all CPUs that its admission counts on", posix::busy,
    severity::caller, recovery::give_up, "thread", "give the thread another policy before it is kept to some CPUs"};

// Which claim a thread has.
inline constexpr error_kind unknown_policy{
    "sched", "unknown_policy", "no scheduling policy has this number", posix::inval, severity::caller,
    recovery::fix_input, "policy", "choose one of the SCHED_ constants"};
inline constexpr error_kind priority_out_of_range{
    "sched", "priority_out_of_range", "the policy has no such priority", posix::inval, severity::caller,
    recovery::fix_input, "priority", "ask sched_get_priority_min and sched_get_priority_max"};
inline constexpr error_kind attributes_size{
    "sched", "attributes_size", "the structure of attributes has another size than is known here", posix::toobig,
    severity::caller, recovery::shrink_request, "known bytes", "pass the size that came back, the rest zero"};
inline constexpr error_kind unknown_flags{
    "sched", "unknown_flags", "flags that are not known here", posix::inval, severity::caller, recovery::fix_input,
    "flags", "leave the unknown flags out"};

// Who may raise it.
inline constexpr error_kind priority_above_limit{
    "sched", "priority_above_limit", "the priority is above what the caller may give", posix::perm, severity::caller,
    recovery::give_up, "limit", "stay within RLIMIT_RTPRIO, or raise it"};
inline constexpr error_kind nice_below_limit{
    "sched", "nice_below_limit", "the nice value is below what the caller may give", posix::acces, severity::caller,
    recovery::give_up, "limit", "stay within RLIMIT_NICE, or raise it"};
inline constexpr error_kind policy_not_permitted{
    "sched", "policy_not_permitted", "the policy is for privileged callers", posix::perm, severity::caller,
    recovery::give_up, "policy", "have a caller with CAP_SYS_NICE set the policy"};
inline constexpr error_kind not_own_thread{
    "sched", "not_own_thread", "the thread belongs to another user", posix::perm, severity::caller, recovery::give_up,
    "thread", "change the thread as its own user"};

// Deadlines.
inline constexpr error_kind runtime_too_short{
    "sched", "runtime_too_short", "the runtime is shorter than can be accounted for", posix::inval, severity::caller,
    recovery::fix_input, "least ns", "ask for a longer runtime in a longer period"};
inline constexpr error_kind runtime_exceeds_deadline{
    "sched", "runtime_exceeds_deadline", "the runtime does not fit before the deadline", posix::inval, severity::caller,
    recovery::fix_input, "deadline ns", "put the deadline at or after the end of the runtime"};
inline constexpr error_kind deadline_exceeds_period{
    "sched", "deadline_exceeds_period", "the deadline comes after the period ends", posix::inval, severity::caller,
    recovery::fix_input, "period ns", "put the deadline at or before the end of the period"};
inline constexpr error_kind period_out_of_range{
    "sched", "period_out_of_range", "the period is too short or too long", posix::inval, severity::caller,
    recovery::fix_input, "period ns", "choose a period between 100 us and 4 s"};
inline constexpr error_kind utilization_too_high{
    "sched", "utilization_too_high", "deadline threads would use more than their share of the CPUs", posix::busy,
    severity::caller, recovery::shrink_request, "millionths of a CPU",
    "shorten the runtime, lengthen the period, or raise the share"};
inline constexpr error_kind demand_too_high{
    "sched", "demand_too_high", "deadline threads would need more time within an interval than it has", posix::busy,
    severity::caller, recovery::shrink_request, "interval ns", "relax the deadlines that are shorter than this"};
inline constexpr error_kind admission_undecided{
    "sched", "admission_undecided", "whether deadlines would be kept takes too long to find out", posix::busy,
    severity::caller, recovery::fix_input, "steps", "round the periods to multiples of each other"};
inline constexpr error_kind deadline_fork{
    "sched", "deadline_fork", "what a deadline thread was admitted with does not serve two", posix::again,
    severity::caller, recovery::fix_input, "thread", "set SCHED_FLAG_RESET_ON_FORK on the parent"};
inline constexpr error_kind deadline_missed{
    "sched", "deadline_missed", "a job lasted beyond its deadline", posix::timedout, severity::degraded,
    recovery::shrink_request, "ns late", "take load from the CPU, or allow the thread more time"};
inline constexpr error_kind runtime_overrun{
    "sched", "runtime_overrun", "a job took more than the thread's runtime, and went on in the next period",
    posix::timedout, severity::caller, recovery::fix_input, "runtime ns",
    "ask for a runtime that covers the longest job"};

// Others are in the way.
inline constexpr error_kind inbox_contended{
    "sched", "inbox_contended", "other CPUs kept changing the inbox, so that its owner may have to wait for a link",
    posix::again, severity::expected, recovery::retry, "attempts", "send several threads at once"};
inline constexpr error_kind would_deadlock{
    "sched", "would_deadlock", "the wait would never end: its threads wait for each other", posix::deadlk,
    severity::caller, recovery::fix_input, "thread", "take the locks in one order everywhere"};
inline constexpr error_kind not_owner{
    "sched", "not_owner", "the lock is held by another thread", posix::perm, severity::caller, recovery::fix_input,
    "owner", "let the thread that locked it unlock it"};

} // namespace exo::sched::errors
