// System calls about scheduling: policies, priorities, nice values, CPUs (sched(7)). Each is about one thread, of which
// a process's number names the first.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <exo/base/cpu_set.hpp>
#include <exo/base/errors.hpp>
#include <exo/base/page.hpp>
#include <exo/linux/call.hpp>
#include <exo/linux/time_structures.hpp>
#include <exo/proc/errors.hpp>
#include <exo/proc/scheduling.hpp>
#include <exo/sched/errors.hpp>
#include <exo/sched/policies/deadline.hpp>

namespace exo::linux_abi {

using proc::scheduling_attributes;
using proc::scheduling_policy;

// An error of a call counts among the scheduler's.
template <class System, class T>
[[nodiscard]] result<T> counted(call<System>& c, result<T> outcome)
{
    if (!outcome)
        c.system.scheduler().count(outcome.error());
    return outcome;
}

// Calls act(process, thread), which returns a result, with the process's lock held. Errors: sched::errors::no_thread;
// act's.
template <class System, class Act>
auto with_thread(call<System>& c, std::int32_t id, Act act) -> decltype(act(c.process, c.thread))
{
    const auto on = [&](proc::thread<System>& t) {
        auto guard = t.process().lock();
        return counted(c, act(t.process(), t));
    };
    if (id == 0)
        return on(c.thread);
    auto table = c.system.processes().lock();
    if (auto* const t = c.system.processes().find_thread(table, id))
        return on(*t);
    return counted(c,
                   decltype(act(c.process, c.thread)){fail(sched::errors::no_thread, static_cast<std::uint64_t>(id))});
}

namespace schedule_flag {
inline constexpr std::uint64_t reset_on_fork = 1, overrun = 4, keep_policy = 8, keep_parameters = 0x10,
                               clamps = 0x20 | 0x40;
inline constexpr std::uint64_t known = reset_on_fork | overrun | keep_policy | keep_parameters;
} // namespace schedule_flag

inline constexpr std::uint32_t policy_resets_on_fork = 0x40000000; // SCHED_RESET_ON_FORK

// struct sched_attr, in its first size and the one with utilization clamps.
struct schedule_record {
    std::uint32_t size, policy;
    std::uint64_t flags;
    std::int32_t nice;
    std::uint32_t priority;
    std::uint64_t runtime, deadline, period;
    std::uint32_t clamps[2];
};
inline constexpr std::uint32_t first_schedule_record = 48;
static_assert(sizeof(schedule_record) == 56);

// Changes the attributes that a thread has by change(attributes&), if all rules allow.
template <class System, class Change>
[[nodiscard]] result<> change_schedule(call<System>& c, std::int32_t id, Change change)
{
    const std::uint32_t caller = c.identity().user.effective;
    return with_thread(c, id, [&](auto& target, auto& t) -> result<> {
        const auto before = proc::scheduling_of(t);
        auto after = before;
        change(after);
        EXO_TRY(proc::check(after));
        EXO_TRY(proc::check_permitted(caller, target, before, after));
        return proc::apply(t, after);
    });
}

// sched_setscheduler and sched_setparam; `keep`: the policy and what stands beside it stay.
template <class System>
[[nodiscard]] result<> set_schedule(call<System>& c, std::int32_t id, std::uint32_t policy, user_addr parameter,
                                    bool keep)
{
    if (parameter.value() == 0 || id < 0)
        return counted(c, result<>{fail(errors::invalid_argument)});
    const auto priority = EXO_TRY(c.template read_object<std::uint32_t>(parameter));
    return change_schedule(c, id, [&](scheduling_attributes& a) {
        if (!keep) {
            a.policy = static_cast<scheduling_policy>(policy & ~policy_resets_on_fork);
            a.reset_on_fork = (policy & policy_resets_on_fork) != 0;
        }
        a.priority = priority;
        a.request = {};
        a.deadline = {};
    });
}

template <class System>
result<void> sys_sched_setscheduler(call<System>& c, std::int32_t id, std::int32_t policy, user_addr parameter)
{
    if (policy < 0)
        return counted(c, result<>{fail(sched::errors::unknown_policy, static_cast<std::uint32_t>(policy))});
    return set_schedule(c, id, static_cast<std::uint32_t>(policy), parameter, false);
}

template <class System>
result<void> sys_sched_setparam(call<System>& c, std::int32_t id, user_addr parameter)
{
    return set_schedule(c, id, 0, parameter, true);
}

template <class System>
result<std::uint32_t> sys_sched_getscheduler(call<System>& c, std::int32_t id)
{
    if (id < 0)
        return counted(c, result<std::uint32_t>{fail(errors::invalid_argument, static_cast<std::uint64_t>(id))});
    return with_thread(c, id, [](auto&, auto& t) -> result<std::uint32_t> {
        const auto a = proc::scheduling_of(t);
        return static_cast<std::uint32_t>(a.policy) | (a.reset_on_fork ? policy_resets_on_fork : 0);
    });
}

template <class System>
result<void> sys_sched_getparam(call<System>& c, std::int32_t id, user_addr to)
{
    if (to.value() == 0 || id < 0)
        return counted(c, result<>{fail(errors::invalid_argument)});
    const auto priority = EXO_TRY(
        with_thread(c, id, [](auto&, auto& t) -> result<std::uint32_t> { return proc::scheduling_of(t).priority; }));
    return c.write_object(to, priority);
}

// The record behind sched_setattr, of whatever size the program knows. Errors: attributes_size, and then the program
// finds the size known here in its record; bad_address.
template <class System>
[[nodiscard]] result<schedule_record> read_schedule(call<System>& c, user_addr from)
{
    schedule_record record{};
    auto size = EXO_TRY(c.template read_object<std::uint32_t>(from));
    if (size == 0)
        size = first_schedule_record;
    bool fits = size >= first_schedule_record && size <= page_size;
    if (fits) {
        const auto bytes = std::as_writable_bytes(std::span{&record, 1});
        EXO_TRY(c.read(from, bytes.first(size < bytes.size() ? size : bytes.size())));
        for (std::uint64_t at = bytes.size(); at < size && fits; ++at)
            fits = EXO_TRY(c.template read_object<std::uint8_t>(from + at)) == 0;
    }
    if (fits)
        return record;
    EXO_TRY(c.write_object(from, static_cast<std::uint32_t>(sizeof(schedule_record))));
    return fail(sched::errors::attributes_size, sizeof(schedule_record));
}

template <class System>
result<void> sys_sched_setattr(call<System>& c, std::int32_t id, user_addr from, std::uint32_t flags)
{
    namespace flag = schedule_flag;
    if (from.value() == 0 || id < 0 || flags != 0)
        return counted(c, result<>{fail(errors::invalid_argument, flags)});
    const auto record = EXO_TRY(counted(c, read_schedule(c, from)));
    if (static_cast<std::int32_t>(record.policy) < 0)
        return counted(c, result<>{fail(sched::errors::unknown_policy, record.policy)});
    // Linux without CONFIG_UCLAMP_TASK knows them, and has none.
    if ((record.flags & flag::clamps) != 0)
        return counted(c, result<>{fail(errors::not_supported, record.flags)});
    if ((record.flags & ~flag::known) != 0)
        return counted(c, result<>{fail(sched::errors::unknown_flags, record.flags & ~flag::known)});
    constexpr std::uint64_t longest = ~std::uint64_t{0} >> 1;
    if (record.policy == static_cast<std::uint32_t>(scheduling_policy::deadline) &&
        (record.runtime > longest || record.deadline > longest || record.period > longest))
        return counted(c, result<>{fail(sched::errors::period_out_of_range, record.period)});
    const auto span = [](std::uint64_t ns) { return duration{static_cast<std::int64_t>(ns)}; };

    return change_schedule(c, id, [&](scheduling_attributes& a) {
        // As Linux has it, the flag is kept with the policy.
        if ((record.flags & flag::keep_policy) == 0) {
            a.policy = static_cast<scheduling_policy>(record.policy);
            a.reset_on_fork = (record.flags & flag::reset_on_fork) != 0;
        }
        if ((record.flags & flag::keep_parameters) != 0)
            return;
        a.priority = record.priority;
        if (proc::is_fair(a.policy)) {
            a.nice = proc::clamp_nice(record.nice);
            a.request = span(record.runtime < longest ? record.runtime : longest);
        } else if (a.policy == scheduling_policy::deadline) {
            a.deadline = {.runtime = span(record.runtime),
                          .deadline = span(record.deadline),
                          .period = span(record.period),
                          .signals_overrun = (record.flags & flag::overrun) != 0};
        }
    });
}

template <class System>
result<void> sys_sched_getattr(call<System>& c, std::int32_t id, user_addr to, std::uint32_t size, std::uint32_t flags)
{
    if (to.value() == 0 || id < 0 || size > page_size || size < first_schedule_record || flags != 0)
        return counted(c, result<>{fail(errors::invalid_argument, size)});
    const auto a = EXO_TRY(
        with_thread(c, id, [](auto&, auto& t) -> result<scheduling_attributes> { return proc::scheduling_of(t); }));
    const auto ns = [](duration d) { return static_cast<std::uint64_t>(d.nanoseconds()); };
    schedule_record record{};
    record.size = size < sizeof record ? size : static_cast<std::uint32_t>(sizeof record);
    record.policy = static_cast<std::uint32_t>(a.policy);
    record.flags = a.reset_on_fork ? schedule_flag::reset_on_fork : 0;
    record.priority = a.priority;
    if (proc::is_fair(a.policy)) {
        record.nice = a.nice;
        record.runtime = ns(a.request);
    } else if (a.policy == scheduling_policy::deadline) {
        record.flags |= a.deadline.signals_overrun ? schedule_flag::overrun : 0;
        record.runtime = ns(a.deadline.runtime);
        record.deadline = ns(a.deadline.deadline);
        record.period = ns(a.deadline.interval());
    }
    return c.write(to, std::as_bytes(std::span{&record, 1}).first(record.size));
}

[[nodiscard]] inline result<std::uint32_t> priority_bound(std::int32_t policy, unsigned of_real_time)
{
    const auto p = static_cast<scheduling_policy>(policy);
    if (policy < 0 || !proc::is_known(p))
        return fail(sched::errors::unknown_policy, static_cast<std::uint32_t>(policy));
    return proc::is_real_time(p) ? of_real_time : 0;
}
template <class System>
result<std::uint32_t> sys_sched_get_priority_max(call<System>& c, std::int32_t policy)
{
    return counted(c, priority_bound(policy, sched::fixed_priority::highest));
}
template <class System>
result<std::uint32_t> sys_sched_get_priority_min(call<System>& c, std::int32_t policy)
{
    return counted(c, priority_bound(policy, sched::fixed_priority::lowest));
}

// How long the thread runs before others of its kind have their turn; zero: without end.
template <class System>
result<void> sys_sched_rr_get_interval(call<System>& c, std::int32_t id, user_addr to)
{
    if (id < 0)
        return counted(c, result<>{fail(errors::invalid_argument, static_cast<std::uint64_t>(id))});
    const auto a = EXO_TRY(
        with_thread(c, id, [](auto&, auto& t) -> result<scheduling_attributes> { return proc::scheduling_of(t); }));
    const duration turn = a.policy == scheduling_policy::round_robin ? sched::fixed_priority::default_quantum
                          : proc::is_fair(a.policy)                  ? a.request
                                                                     : duration{};
    return c.write_object(to, to_time_record(turn));
}

template <class System>
result<void> sys_sched_yield(call<System>& c)
{
    static_cast<void>(counted(c, sched::wait_period(c.system.scheduler(), c.thread.task)));
    return {};
}

// CPUs.

template <class System>
result<void> sys_sched_setaffinity(call<System>& c, std::int32_t id, std::uint32_t size, user_addr from)
{
    using cpu_set = typename System::scheduler_type::cpu_set;
    std::uint64_t words[cpu_set::word_count]{};
    EXO_TRY(c.read(from, std::as_writable_bytes(std::span{words}).first(size < sizeof words ? size : sizeof words)));
    cpu_set wanted;
    for (unsigned i = 0; i < cpu_set::word_count; ++i)
        wanted.set_word(i, words[i]);
    const std::uint32_t caller = c.identity().user.effective;
    return with_thread(c, id, [&](auto& target, auto& t) -> result<> {
        auto& scheduler = c.system.scheduler();
        if (!proc::may_schedule(caller, target))
            return fail(sched::errors::not_own_thread, static_cast<std::uint64_t>(id));
        const auto all = scheduler.all_cpus();
        if (proc::scheduling_of(t).policy == scheduling_policy::deadline && (wanted & all) != all)
            return fail(sched::errors::deadline_needs_all_cpus, static_cast<std::uint64_t>(t.id()));
        if ((wanted & all).empty())
            return fail(sched::errors::no_allowed_cpu_online, scheduler.processors().size());
        return scheduler.set_affinity(t.task, wanted);
    });
}

// How many bytes it wrote: words enough for all CPUs.
template <class System>
result<std::uint64_t> sys_sched_getaffinity(call<System>& c, std::int32_t id, std::uint32_t size, user_addr to)
{
    const std::uint64_t words = (c.system.scheduler().processors().size() + 63) / 64;
    if (size % sizeof(std::uint64_t) != 0 || size < words * sizeof(std::uint64_t))
        return counted(c, result<std::uint64_t>{fail(errors::invalid_argument, size)});
    const auto cpus = EXO_TRY(with_thread(c, id, [&](auto&, auto& t) {
        auto& scheduler = c.system.scheduler();
        return result<typename System::scheduler_type::cpu_set>{scheduler.affinity(t.task) & scheduler.all_cpus()};
    }));
    for (std::uint64_t i = 0; i < words; ++i)
        EXO_TRY(c.write_object(to + i * sizeof(std::uint64_t), cpus.word(static_cast<unsigned>(i))));
    return words * sizeof(std::uint64_t);
}

template <class System>
result<void> sys_getcpu(call<System>& c, user_addr cpu, user_addr node)
{
    if (cpu.value() != 0)
        EXO_TRY(c.write_object(cpu, static_cast<std::uint32_t>(c.thread.task.cpu())));
    if (node.value() != 0)
        EXO_TRY(c.write_object(node, std::uint32_t{0}));
    return {};
}

// Nice values.

enum class priority_of : std::int32_t { process, group, user };

// Calls act(process, thread) for each that is meant, with the process's lock: one thread, or all of several processes.
// False: there is none.
template <class System, class Act>
[[nodiscard]] result<bool> for_each_meant(call<System>& c, priority_of which, std::uint32_t who, Act act)
{
    if (which > priority_of::user || which < priority_of::process)
        return fail(errors::invalid_argument, static_cast<std::uint64_t>(which));
    bool found = false;
    const auto own = c.identity().user.real;
    auto table = c.system.processes().lock();
    const auto id = static_cast<proc::process_id>(who);
    const auto group = who == 0 ? c.process.group : id;
    const auto user = who == 0 ? own : who;
    const auto all = [&](auto& p) {
        auto guard = p.lock();
        if (which == priority_of::user && p.identity.user.real != user)
            return;
        for (auto& t : p.threads) {
            found = true;
            act(p, t);
        }
    };
    if (which == priority_of::group) {
        c.system.processes().for_each_in_group(table, group, all);
    } else if (which == priority_of::user) {
        c.system.processes().for_each(table, all);
    } else if (auto* const t = who == 0 ? &c.thread : c.system.processes().find_thread(table, id)) {
        auto guard = t->process().lock();
        found = true;
        act(t->process(), *t);
    }
    return found;
}

template <class System>
result<void> sys_setpriority(call<System>& c, std::int32_t which, std::uint32_t who, std::int32_t nice)
{
    nice = proc::clamp_nice(nice);
    result<> outcome{};
    const std::uint32_t caller = c.identity().user.effective;
    const auto found = for_each_meant(c, static_cast<priority_of>(which), who, [&](auto& target, auto& t) {
        auto a = proc::scheduling_of(t);
        if (!proc::may_schedule(caller, target)) {
            outcome = fail(sched::errors::not_own_thread, static_cast<std::uint64_t>(target.id()));
            return;
        }
        const auto limit = target.limits[proc::resource::nice].soft;
        if (nice < a.nice && proc::nice_to_limit(nice) > limit && caller != 0) {
            outcome = fail(sched::errors::nice_below_limit, limit);
            return;
        }
        a.nice = nice;
        t.scheduling.nice = static_cast<std::int8_t>(nice);
        if (proc::is_fair(a.policy))
            c.system.scheduler().set_parameters(t.task, proc::parameters_for<System>(a));
    });
    if (!found || !*found)
        outcome = found ? fail(proc::errors::no_process, who) : fail(found.error());
    return counted(c, outcome);
}

// The lowest nice value there is, as 20 less it: the C library takes it from 20 again.
template <class System>
result<std::uint32_t> sys_getpriority(call<System>& c, std::int32_t which, std::uint32_t who)
{
    int lowest = sched::fair::highest_nice;
    const auto found = for_each_meant(c, static_cast<priority_of>(which), who, [&](auto&, auto& t) {
        lowest = t.scheduling.nice < lowest ? t.scheduling.nice : lowest;
    });
    if (!found)
        return counted(c, result<std::uint32_t>{fail(found.error())});
    if (!*found)
        return counted(c, result<std::uint32_t>{fail(proc::errors::no_process, who)});
    return static_cast<std::uint32_t>(proc::nice_to_limit(lowest));
}

template <class System, class Table>
constexpr void add_schedule_calls(Table& table)
{
    table.template set<sys_sched_setscheduler<System>>(number::sched_setscheduler);
    table.template set<sys_sched_getscheduler<System>>(number::sched_getscheduler);
    table.template set<sys_sched_setparam<System>>(number::sched_setparam);
    table.template set<sys_sched_getparam<System>>(number::sched_getparam);
    table.template set<sys_sched_setattr<System>>(number::sched_setattr);
    table.template set<sys_sched_getattr<System>>(number::sched_getattr);
    table.template set<sys_sched_get_priority_max<System>>(number::sched_get_priority_max);
    table.template set<sys_sched_get_priority_min<System>>(number::sched_get_priority_min);
    table.template set<sys_sched_rr_get_interval<System>>(number::sched_rr_get_interval);
    table.template set<sys_sched_yield<System>>(number::sched_yield);
    table.template set<sys_sched_setaffinity<System>>(number::sched_setaffinity);
    table.template set<sys_sched_getaffinity<System>>(number::sched_getaffinity);
    table.template set<sys_getcpu<System>>(number::getcpu);
    table.template set<sys_setpriority<System>>(number::setpriority);
    table.template set<sys_getpriority<System>>(number::getpriority);
}

} // namespace exo::linux_abi
