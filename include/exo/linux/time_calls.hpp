// System calls about time.

#pragma once

#include <cstdint>
#include <utility>

#include <exo/base/errors.hpp>
#include <exo/linux/call.hpp>
#include <exo/linux/futex_calls.hpp>
#include <exo/linux/time_structures.hpp>
#include <exo/proc/alarm.hpp>
#include <exo/proc/errors.hpp>
#include <exo/proc/process_usage.hpp>
#include <exo/sync/wait_queue.hpp>

namespace exo::linux_abi {

enum class clock_id : std::int32_t {
    realtime,
    monotonic,
    process_cpu,
    thread_cpu,
    monotonic_raw,
    realtime_coarse,
    monotonic_coarse,
    boot,
    realtime_alarm,
    boot_alarm,
    tai = 11,
};

template <class System>
[[nodiscard]] result<time_record> read_clock(call<System>& c, clock_id id)
{
    switch (id) {
    case clock_id::realtime:
    case clock_id::realtime_coarse:
    case clock_id::tai: {
        const auto now = c.system.wall_clock().now();
        return time_record{now.seconds, now.nanoseconds};
    }
    case clock_id::monotonic:
    case clock_id::monotonic_raw:
    case clock_id::monotonic_coarse:
    case clock_id::boot:
        return to_time_record(c.system.now() - instant{});
    case clock_id::process_cpu: {
        auto guard = c.process.lock();
        return to_time_record(proc::run_time_of(c.process));
    }
    case clock_id::thread_cpu:
        return to_time_record(c.thread.task.run_time());
    default:
        return fail(errors::invalid_argument, static_cast<std::uint64_t>(id));
    }
}

template <class System>
result<void> sys_clock_gettime(call<System>& c, clock_id id, user_addr to)
{
    return c.write_object(to, EXO_TRY(read_clock(c, id)));
}

template <class System>
result<void> sys_clock_getres(call<System>& c, clock_id id, user_addr to)
{
    static_cast<void>(EXO_TRY(read_clock(c, id)));
    return to.value() == 0 ? result<void>{} : c.write_object(to, time_record{0, 1});
}

template <class System>
result<void> sys_gettimeofday(call<System>& c, user_addr to, user_addr zone)
{
    const auto now = c.system.wall_clock().now();
    if (to.value() != 0)
        EXO_TRY(c.write_object(to, microsecond_record{now.seconds, now.nanoseconds / 1000}));
    if (zone.value() != 0)
        EXO_TRY(c.write_object(zone, std::uint64_t{0})); // struct timezone: UTC
    return {};
}

template <class System>
result<std::int64_t> sys_time(call<System>& c, user_addr to)
{
    const std::int64_t now = c.system.wall_clock().now().seconds;
    if (to.value() != 0)
        EXO_TRY(c.write_object(to, now));
    return now;
}

// Until `deadline`. Interrupted, it tells what is left, and can go on by restart_syscall. Errors:
// interrupted_with_rest.
template <class System>
[[nodiscard]] result<void> sleep_until(call<System>& c, instant deadline, user_addr remainder)
{
    sync::wait_queue nothing;
    const auto waited = nothing.wait_interruptible(c.system.parker(), [] { return false; }, deadline);
    const instant now = c.system.now();
    if (waited.error() == errors::timed_out || now >= deadline)
        return {};
    if (remainder.value() != 0)
        EXO_TRY(c.write_object(remainder, to_time_record(deadline - now)));
    c.thread.restart_deadline = deadline;
    c.thread.restart_remainder = remainder;
    c.thread.restart_futex = {};
    return fail(proc::errors::interrupted_with_rest);
}

template <class System>
result<void> sys_nanosleep(call<System>& c, user_addr wanted, user_addr remainder)
{
    const auto record = EXO_TRY(c.template read_object<time_record>(wanted));
    return sleep_until(c, c.system.now() + EXO_TRY(to_duration(record)), remainder);
}

template <class System>
result<void> sys_clock_nanosleep(call<System>& c, clock_id id, std::uint32_t flags, user_addr wanted,
                                 user_addr remainder)
{
    constexpr std::uint32_t absolute = 1;
    const auto now = EXO_TRY(read_clock(c, id));
    if (id == clock_id::process_cpu)
        return fail(errors::not_supported);
    if (id == clock_id::thread_cpu)
        return fail(errors::invalid_argument);
    const auto record = EXO_TRY(c.template read_object<time_record>(wanted));
    auto span = EXO_TRY(to_duration(record));
    if ((flags & absolute) == 0)
        return sleep_until(c, c.system.now() + span, remainder);
    span = span - duration{now.seconds * second_in_ns + now.nanoseconds};
    if (span <= duration{})
        return {};
    const auto slept = sleep_until(c, c.system.now() + span, {});
    // The same call, with the same deadline, is the rest.
    return slept ? slept : fail(proc::errors::interrupted_by_handler);
}

template <class System>
result<void> sys_restart_syscall(call<System>& c)
{
    const auto futex = std::exchange(c.thread.restart_futex, {});
    if (futex.word.value() != 0)
        return wait_for_futex(c, futex, c.thread.restart_deadline);
    return sleep_until(c, c.thread.restart_deadline, c.thread.restart_remainder);
}

struct interval_record { // struct itimerval
    microsecond_record interval;
    microsecond_record value;
};

template <class System>
using alarm_setting = typename proc::alarm_timer<System>::setting;

template <class System>
[[nodiscard]] interval_record to_record(const alarm_setting<System>& s)
{
    return {to_microseconds(s.interval), to_microseconds(s.remaining)};
}

template <class System>
alarm_setting<System> exchange_alarm(call<System>& c, const alarm_setting<System>& next)
{
    auto guard = c.process.lock();
    const auto before = c.process.alarm.read(c.system.now());
    c.process.alarm.set(c.system.scheduler(), c.thread.task, next);
    return before;
}

// Only the real-time timer; those of CPU time are not there. Errors: invalid_argument.
[[nodiscard]] inline result<void> check_timer(std::int32_t which)
{
    if (which != 0)
        return fail(errors::invalid_argument, static_cast<std::uint64_t>(which));
    return {};
}

template <class System>
result<void> sys_getitimer(call<System>& c, std::int32_t which, user_addr to)
{
    EXO_TRY(check_timer(which));
    auto guard = c.process.lock();
    const auto now = c.process.alarm.read(c.system.now());
    guard.unlock();
    return c.write_object(to, to_record<System>(now));
}

template <class System>
result<void> sys_setitimer(call<System>& c, std::int32_t which, user_addr next, user_addr previous)
{
    EXO_TRY(check_timer(which));
    const auto wanted = next.value() != 0 ? EXO_TRY(c.template read_object<interval_record>(next)) : interval_record{};
    const auto value = EXO_TRY(to_duration(wanted.value));
    const auto interval = EXO_TRY(to_duration(wanted.interval));
    const auto before = exchange_alarm(c, {.remaining = value, .interval = interval});
    return previous.value() == 0 ? result<void>{} : c.write_object(previous, to_record<System>(before));
}

template <class System>
result<std::uint64_t> sys_alarm(call<System>& c, std::uint32_t wanted)
{
    const auto before = exchange_alarm(c, {.remaining = seconds(wanted)}).remaining;
    // Rounded to the nearest second, but not to none.
    const auto rounded = (before.nanoseconds() + second_in_ns / 2) / second_in_ns;
    return static_cast<std::uint64_t>(before != duration{} && rounded == 0 ? 1 : rounded);
}

struct times_record { // struct tms, in clock ticks
    std::int64_t user, system, children_user, children_system;
};

template <class System>
result<std::int64_t> sys_times(call<System>& c, user_addr to)
{
    constexpr std::int64_t tick = second_in_ns / 100;
    if (to.value() != 0) {
        proc::resource_usage children;
        {
            auto guard = c.system.processes().lock();
            children = c.process.children_usage;
        }
        proc::resource_usage own;
        {
            auto guard = c.process.lock();
            own = proc::usage_of(c.process);
        }
        EXO_TRY(
            c.write_object(to, times_record{own.user.nanoseconds() / tick, own.system.nanoseconds() / tick,
                                            children.user.nanoseconds() / tick, children.system.nanoseconds() / tick}));
    }
    return static_cast<std::int64_t>(c.system.now().nanoseconds() / tick);
}

template <class System, class Table>
constexpr void add_time_calls(Table& table)
{
    table.template set<sys_clock_gettime<System>>(number::clock_gettime);
    table.template set<sys_clock_getres<System>>(number::clock_getres);
    table.template set<sys_gettimeofday<System>>(number::gettimeofday);
    table.template set<sys_time<System>>(number::time);
    table.template set<sys_nanosleep<System>>(number::nanosleep);
    table.template set<sys_clock_nanosleep<System>>(number::clock_nanosleep);
    table.template set<sys_restart_syscall<System>>(number::restart_syscall);
    table.template set<sys_getitimer<System>>(number::getitimer);
    table.template set<sys_setitimer<System>>(number::setitimer);
    table.template set<sys_alarm<System>>(number::alarm);
    table.template set<sys_times<System>>(number::times);
}

} // namespace exo::linux_abi
