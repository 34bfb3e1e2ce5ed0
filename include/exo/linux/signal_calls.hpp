// System calls about signals.

#pragma once

#include <cstdint>

#include <exo/base/errors.hpp>
#include <exo/linux/call.hpp>
#include <exo/linux/signal_frame.hpp>
#include <exo/linux/time_structures.hpp>
#include <exo/proc/signals.hpp>
#include <exo/sync/wait_queue.hpp>

namespace exo::linux_abi {

struct action_record {
    std::uint64_t handler;
    std::uint64_t flags;
    std::uint64_t restorer;
    std::uint64_t mask;
};

// Errors: invalid_argument. Number 0 only where `none` is allowed.
[[nodiscard]] inline result<proc::signal> signal_of(std::uint32_t number, bool none_allowed = false)
{
    if (number > static_cast<unsigned>(proc::signal::last) || (number == 0 && !none_allowed))
        return fail(errors::invalid_argument, number);
    return static_cast<proc::signal>(number);
}

// The size of a signal set, which programs pass along.
[[nodiscard]] inline result<> check_set_size(std::uint64_t size)
{
    if (size != sizeof(std::uint64_t))
        return fail(errors::invalid_argument, size);
    return {};
}

template <class System>
result<void> sys_rt_sigaction(call<System>& c, std::uint32_t number, user_addr next, user_addr previous,
                              std::uint64_t set_size)
{
    using proc::signal_action;
    EXO_TRY(check_set_size(set_size));
    const auto s = EXO_TRY(signal_of(number));
    signal_action before;
    if (next.value() != 0) {
        const auto record = EXO_TRY(c.template read_object<action_record>(next));
        if (proc::unblockable_signals.contains(s))
            return fail(errors::invalid_argument, number);
        before = proc::exchange_action(c.process, s,
                                       {.handler = user_addr{record.handler},
                                        .flags = record.flags,
                                        .restorer = user_addr{record.restorer},
                                        .mask = proc::signal_set{record.mask}});
    } else {
        before = c.process.action(s);
    }
    if (previous.value() != 0)
        EXO_TRY(c.write_object(previous, action_record{.handler = before.handler.value(),
                                                       .flags = before.flags,
                                                       .restorer = before.restorer.value(),
                                                       .mask = before.mask.bits()}));
    return {};
}

template <class System>
result<void> sys_rt_sigprocmask(call<System>& c, std::uint32_t how, user_addr next, user_addr previous,
                                std::uint64_t set_size)
{
    EXO_TRY(check_set_size(set_size));
    const auto before = c.thread.blocked;
    if (next.value() != 0) {
        const proc::signal_set set{EXO_TRY(c.template read_object<std::uint64_t>(next))};
        switch (how) {
        case 0: // SIG_BLOCK
            proc::set_blocked(c.thread, before | set);
            break;
        case 1: // SIG_UNBLOCK
            proc::set_blocked(c.thread, before - set);
            break;
        case 2: // SIG_SETMASK
            proc::set_blocked(c.thread, set);
            break;
        default:
            return fail(errors::invalid_argument, how);
        }
    }
    if (previous.value() != 0)
        EXO_TRY(c.write_object(previous, before.bits()));
    return {};
}

template <class System>
result<std::uint64_t> sys_rt_sigreturn(call<System>& c)
{
    if (!pop_signal_frame(c.thread, c.frame))
        proc::raise_fault(c.thread, {.number = proc::signal::sigsegv, .code = proc::signal_code::kernel});
    return c.frame.rax;
}

template <class System>
result<void> sys_rt_sigpending(call<System>& c, user_addr set, std::uint64_t set_size)
{
    if (set_size > sizeof(std::uint64_t))
        return fail(errors::invalid_argument, set_size);
    std::uint64_t bits = 0;
    {
        auto guard = c.process.lock();
        bits = ((c.thread.pending.set() | c.process.pending.set()) & c.thread.blocked).bits();
    }
    return c.write(set, std::as_bytes(std::span{&bits, 1}).first(set_size));
}

template <class System>
result<void> wait_for_handler(call<System>& c)
{
    sync::wait_queue nothing;
    static_cast<void>(nothing.wait_interruptible(c.system.parker(), [] { return false; }));
    return fail(proc::errors::interrupted_by_handler);
}

template <class System>
result<void> sys_pause(call<System>& c)
{
    return wait_for_handler(c);
}

template <class System>
result<void> sys_rt_sigsuspend(call<System>& c, user_addr set, std::uint64_t set_size)
{
    EXO_TRY(check_set_size(set_size));
    proc::set_blocked_for_call(c.thread, proc::signal_set{EXO_TRY(c.template read_object<std::uint64_t>(set))});
    return wait_for_handler(c);
}

// Waits for one of a set of signals, and takes it without a handler.
template <class System>
result<std::uint64_t> sys_rt_sigtimedwait(call<System>& c, user_addr set, user_addr info, user_addr timeout,
                                          std::uint64_t set_size)
{
    EXO_TRY(check_set_size(set_size));
    const proc::signal_set named{EXO_TRY(c.template read_object<std::uint64_t>(set))};
    const auto wanted = named - proc::unblockable_signals;
    auto deadline = instant::never();
    if (timeout.value() != 0) {
        const auto record = EXO_TRY(c.template read_object<time_record>(timeout));
        deadline = c.system.now() + EXO_TRY(to_duration(record));
    }
    proc::signal_info taken;
    const auto take = [&] {
        auto guard = c.process.lock();
        taken = proc::take_signal(c.thread, wanted);
        return taken.number != proc::signal::none;
    };
    // The wanted ones are unblocked while the thread waits, so that they wake it.
    if (!take()) {
        proc::set_blocked_for_call(c.thread, c.thread.blocked - wanted);
        sync::wait_queue nothing;
        const auto waited = nothing.wait_interruptible(c.system.parker(), [] { return false; }, deadline);
        proc::end_blocked_for_call(c.thread);
        if (!take())
            return fail(!waited && waited.error() == errors::timed_out ? errors::would_block
                                                                       : proc::errors::interrupted_for_good);
    }
    if (info.value() != 0)
        EXO_TRY(c.write_object(info, to_record(taken)));
    return static_cast<std::uint64_t>(taken.number);
}

template <class System>
result<void> sys_sigaltstack(call<System>& c, user_addr next, user_addr previous)
{
    auto& stack = c.thread.signal_stack;
    const auto before = to_record(c.thread, c.frame.rsp);
    if (next.value() != 0) {
        constexpr std::uint64_t smallest = 2048; // MINSIGSTKSZ
        const auto record = EXO_TRY(c.template read_object<stack_record>(next));
        if (stack.contains(c.frame.rsp))
            return fail(errors::not_permitted);
        if ((record.flags & ~(stack.disabled | stack.in_use)) != 0)
            return fail(errors::invalid_argument, record.flags);
        if ((record.flags & stack.disabled) != 0)
            stack = {};
        else if (record.size < smallest)
            return fail(errors::out_of_memory, record.size);
        else
            stack = {.base = user_addr{record.base}, .size = record.size, .flags = 0};
    }
    if (previous.value() != 0)
        EXO_TRY(c.write_object(previous, before));
    return {};
}

template <class System>
result<void> sys_kill(call<System>& c, std::int32_t id, std::uint32_t number)
{
    const auto s = EXO_TRY(signal_of(number, true));
    return proc::kill(c.process, id, s);
}

template <class System>
[[nodiscard]] proc::signal_info from_thread(call<System>& c, proc::signal s)
{
    return {.number = s, .code = proc::signal_code::thread, .sender = c.process.id(), .user = c.identity().user.real};
}

template <class System>
result<void> sys_tgkill(call<System>& c, std::int32_t group, std::int32_t id, std::uint32_t number)
{
    const auto s = EXO_TRY(signal_of(number, true));
    if (group <= 0 || id <= 0)
        return fail(errors::invalid_argument);
    return proc::kill_thread(c.process, group, id, from_thread(c, s));
}

template <class System>
result<void> sys_tkill(call<System>& c, std::int32_t id, std::uint32_t number)
{
    const auto s = EXO_TRY(signal_of(number, true));
    if (id <= 0)
        return fail(errors::invalid_argument);
    return proc::kill_thread(c.process, -1, id, from_thread(c, s));
}

// The information that a program sends along. Errors: bad_address, invalid_argument; not_permitted, for what only the
// kernel says, or tgkill, unless it goes to the caller's own process.
template <class System>
[[nodiscard]] result<proc::signal_info> read_information(call<System>& c, std::uint32_t number, user_addr info,
                                                         bool to_itself)
{
    const auto s = EXO_TRY(signal_of(number, true));
    auto sent = from_record(EXO_TRY(c.template read_object<signal_info_record>(info)));
    if ((sent.code >= 0 || sent.code == proc::signal_code::thread) && !to_itself)
        return fail(errors::not_permitted);
    sent.number = s;
    return sent;
}

template <class System>
result<void> sys_rt_sigqueueinfo(call<System>& c, std::int32_t id, std::uint32_t number, user_addr info)
{
    const auto sent = EXO_TRY(read_information(c, number, info, id == c.process.id()));
    auto& table = c.system.processes();
    auto guard = table.lock();
    auto* target = table.find_owner(guard, id);
    if (!target)
        return fail(proc::errors::no_process, static_cast<std::uint64_t>(id));
    if (!proc::may_signal(c.process, *target, sent.number))
        return fail(errors::not_permitted);
    return sent.number == proc::signal::none ? result<void>{} : proc::post<System>(guard, *target, sent);
}

template <class System>
result<void> sys_rt_tgsigqueueinfo(call<System>& c, std::int32_t group, std::int32_t id, std::uint32_t number,
                                   user_addr info)
{
    if (group <= 0 || id <= 0)
        return fail(errors::invalid_argument);
    const auto sent = EXO_TRY(read_information(c, number, info, group == c.process.id()));
    return proc::kill_thread(c.process, group, id, sent);
}

template <class System, class Table>
constexpr void add_signal_calls(Table& table)
{
    table.template set<sys_rt_sigaction<System>>(number::rt_sigaction);
    table.template set<sys_rt_sigprocmask<System>>(number::rt_sigprocmask);
    table.template set<sys_rt_sigreturn<System>>(number::rt_sigreturn);
    table.template set<sys_rt_sigpending<System>>(number::rt_sigpending);
    table.template set<sys_rt_sigsuspend<System>>(number::rt_sigsuspend);
    table.template set<sys_rt_sigtimedwait<System>>(number::rt_sigtimedwait);
    table.template set<sys_rt_sigqueueinfo<System>>(number::rt_sigqueueinfo);
    table.template set<sys_rt_tgsigqueueinfo<System>>(number::rt_tgsigqueueinfo);
    table.template set<sys_sigaltstack<System>>(number::sigaltstack);
    table.template set<sys_pause<System>>(number::pause);
    table.template set<sys_kill<System>>(number::kill);
    table.template set<sys_tkill<System>>(number::tkill);
    table.template set<sys_tgkill<System>>(number::tgkill);
}

} // namespace exo::linux_abi
