// How a thread is scheduled, as POSIX and Linux put it, and who may change that (sched(7), sched_setattr(2),
// setpriority(2)).

#pragma once

#include <cstdint>

#include <exo/base/errors.hpp>
#include <exo/base/result.hpp>
#include <exo/base/time.hpp>
#include <exo/proc/errors.hpp>
#include <exo/proc/process.hpp>
#include <exo/proc/resource.hpp>
#include <exo/proc/thread.hpp>
#include <exo/sched/errors.hpp>
#include <exo/sched/policies/deadline.hpp>
#include <exo/sched/policies/fair.hpp>
#include <exo/sched/policies/fixed_priority.hpp>

namespace exo::proc {

enum class scheduling_policy : std::uint32_t { normal, fifo, round_robin, batch, idle = 5, deadline };

[[nodiscard]] constexpr bool is_known(scheduling_policy p)
{
    return p <= scheduling_policy::batch || p == scheduling_policy::idle || p == scheduling_policy::deadline;
}
[[nodiscard]] constexpr bool is_real_time(scheduling_policy p)
{
    return p == scheduling_policy::fifo || p == scheduling_policy::round_robin;
}
[[nodiscard]] constexpr bool is_fair(scheduling_policy p)
{
    return is_known(p) && !is_real_time(p) && p != scheduling_policy::deadline;
}

struct scheduling_attributes {
    scheduling_policy policy{};
    bool reset_on_fork{};
    int nice{};          // kept for later by those who are not fair
    unsigned priority{}; // real time
    duration request{};  // fair; zero: the usual
    sched::deadline::parameters deadline{};
};

// RLIMIT_NICE counts upward, 20 for nice 0.
[[nodiscard]] constexpr std::uint64_t nice_to_limit(int nice) { return static_cast<std::uint64_t>(20 - nice); }

[[nodiscard]] constexpr int clamp_nice(int nice)
{
    return nice < sched::fair::lowest_nice    ? sched::fair::lowest_nice
           : nice > sched::fair::highest_nice ? sched::fair::highest_nice
                                              : nice;
}

// With the lock of the thread's process held.
template <class System>
[[nodiscard]] scheduling_attributes scheduling_of(const thread<System>& t)
{
    using real_time = typename System::real_time_type;
    const auto p = t.system().scheduler().parameters(t.task);
    scheduling_attributes a{.reset_on_fork = t.scheduling.reset_on_fork, .nice = t.scheduling.nice};
    if (p.template follows<sched::deadline>()) {
        a.policy = scheduling_policy::deadline;
        a.deadline = p.template get<sched::deadline>();
    } else if (p.template follows<real_time>()) {
        const auto& fixed = p.template get<real_time>();
        a.policy = fixed.takes_turns() ? scheduling_policy::round_robin : scheduling_policy::fifo;
        a.priority = fixed.priority;
    } else {
        using enum sched::fair::thread_kind;
        const auto& fair = p.template get<sched::fair>();
        a.policy = fair.kind == normal  ? scheduling_policy::normal
                   : fair.kind == batch ? scheduling_policy::batch
                                        : scheduling_policy::idle;
        a.request = fair.request;
    }
    return a;
}

// Errors: those of a value that no policy has.
[[nodiscard]] inline result<> check(const scheduling_attributes& a)
{
    constexpr duration shortest = microseconds(100), longest = microseconds(1 << 22); // as Linux's defaults
    if (!is_known(a.policy))
        return fail(sched::errors::unknown_policy, static_cast<std::uint64_t>(a.policy));
    if (a.priority > sched::fixed_priority::highest || is_real_time(a.policy) != (a.priority != 0))
        return fail(sched::errors::priority_out_of_range, a.priority);
    if (a.policy != scheduling_policy::deadline)
        return {};
    const duration period = a.deadline.interval();
    if (period < shortest || period > longest)
        return fail(sched::errors::period_out_of_range, static_cast<std::uint64_t>(period.nanoseconds()));
    return sched::deadline::check(a.deadline);
}

template <class System>
[[nodiscard]] typename System::policy_type::parameters parameters_for(const scheduling_attributes& a)
{
    using parameters = typename System::policy_type::parameters;
    using fixed = sched::fixed_priority;
    using fair = sched::fair;
    const duration request = a.request == duration{}              ? fair::quantum
                             : a.request < fair::shortest_request ? fair::shortest_request
                             : a.request > fair::longest_request  ? fair::longest_request
                                                                  : a.request;
    const auto of_kind = [&](fair::thread_kind kind) {
        return parameters::template of<fair>({kind, static_cast<std::int8_t>(a.nice), request});
    };
    switch (a.policy) {
    case scheduling_policy::deadline:
        return parameters::template of<sched::deadline>(a.deadline);
    case scheduling_policy::fifo:
        return parameters::template of<typename System::real_time_type>(fixed::fifo(a.priority));
    case scheduling_policy::round_robin:
        return parameters::template of<typename System::real_time_type>(fixed::round_robin(a.priority));
    case scheduling_policy::batch:
        return of_kind(fair::thread_kind::batch);
    case scheduling_policy::idle:
        return of_kind(fair::thread_kind::idle);
    default:
        return of_kind(fair::thread_kind::normal);
    }
}

// Whose threads `user`, an effective id, may schedule: its own. With the lock of the target held.
template <class System>
[[nodiscard]] bool may_schedule(std::uint32_t user, const process<System>& target)
{
    return user == 0 || user == target.identity.user.effective || user == target.identity.user.real;
}

// What the unprivileged may do to threads of their own: take less, or as much as the target's limits say. With the lock
// of the target held.
template <class System>
[[nodiscard]] result<> check_permitted(std::uint32_t user, const process<System>& target,
                                       const scheduling_attributes& before, const scheduling_attributes& after)
{
    if (user == 0)
        return {};
    const auto nice_limit = target.limits[resource::nice].soft;
    const auto priority_limit = target.limits[resource::real_time_priority].soft;
    if (is_fair(after.policy) && after.nice < before.nice && nice_to_limit(after.nice) > nice_limit)
        return fail(sched::errors::priority_above_limit, nice_limit);
    if (is_real_time(after.policy) && ((after.policy != before.policy && priority_limit == 0) ||
                                       (after.priority > before.priority && after.priority > priority_limit)))
        return fail(sched::errors::priority_above_limit, priority_limit);
    if (after.policy == scheduling_policy::deadline)
        return fail(sched::errors::policy_not_permitted, static_cast<std::uint64_t>(after.policy));
    if (before.policy == scheduling_policy::idle && after.policy != scheduling_policy::idle &&
        nice_to_limit(before.nice) > nice_limit)
        return fail(sched::errors::priority_above_limit, nice_limit);
    if (!may_schedule(user, target))
        return fail(sched::errors::not_own_thread, static_cast<std::uint64_t>(target.id()));
    if (before.reset_on_fork && !after.reset_on_fork)
        return fail(errors::not_permitted);
    return {};
}

// With the lock of the thread's process held. Errors, after which nothing has changed: of deadline threads,
// deadline_affinity, those of admission, out_of_memory.
template <class System>
[[nodiscard]] result<> apply(thread<System>& t, const scheduling_attributes& a)
{
    System& system = t.system();
    if (a.policy == scheduling_policy::deadline) {
        const auto all = system.scheduler().all_cpus();
        if ((system.scheduler().affinity(t.task) & all) != all)
            return fail(sched::errors::deadline_affinity, static_cast<std::uint64_t>(t.id()));
        EXO_TRY(system.deadline_claims().hold(t.scheduling.claim, a.deadline, system.now()));
    } else {
        system.deadline_claims().let_go(t.scheduling.claim, system.now());
    }
    system.keep_deadlines_by_bandwidth();
    t.scheduling.nice = static_cast<std::int8_t>(a.nice);
    t.scheduling.reset_on_fork = a.reset_on_fork;
    system.scheduler().set_parameters(t.task, parameters_for<System>(a));
    return {};
}

// A new thread's, before it starts. Errors: deadline_fork (what was admitted does not serve two).
template <class System>
[[nodiscard]] result<scheduling_attributes> inherited_scheduling(thread<System>& parent)
{
    auto guard = parent.process().lock();
    auto a = scheduling_of(parent);
    if (a.reset_on_fork) {
        if (!is_fair(a.policy))
            a = {};
        else if (a.nice < 0)
            a.nice = 0;
        a.request = {};
        a.reset_on_fork = false;
    }
    if (a.policy == scheduling_policy::deadline)
        return fail(sched::errors::deadline_fork, static_cast<std::uint64_t>(parent.id()));
    return a;
}
template <class System>
void inherit_scheduling(thread<System>& parent, thread<System>& child, const scheduling_attributes& a)
{
    child.scheduling.nice = static_cast<std::int8_t>(a.nice);
    child.task.set(parameters_for<System>(a));
    child.task.set_affinity(parent.system().scheduler().affinity(parent.task));
}

} // namespace exo::proc
