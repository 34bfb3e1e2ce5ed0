// Sending signals, and taking them one by one for delivery: masks, default actions, job control (POSIX 2.4). What a
// handler's frame looks like is the ABI's business (linux/signal_frame.hpp).
//
// Locks: whoever sends to processes found by number holds the process table's lock; the state of signals is under each
// process's own, which is taken inside.

#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include <exo/base/errors.hpp>
#include <exo/base/result.hpp>
#include <exo/proc/errors.hpp>
#include <exo/proc/exit.hpp>
#include <exo/proc/process.hpp>
#include <exo/proc/process_table.hpp>
#include <exo/proc/signal.hpp>
#include <exo/proc/signal_posting.hpp>
#include <exo/proc/thread.hpp>
#include <exo/proc/wait_status.hpp>

namespace exo::proc {

// POSIX kill(): who may. SIGCONT also goes to every member of the sender's session.
template <class System>
[[nodiscard]] bool may_signal(process<System>& sender, process<System>& target, signal s)
{
    const id_set from = sender.user_ids();
    const id_set to = target.user_ids();
    return from.effective == 0 || from.real == to.real || from.real == to.saved || from.effective == to.real ||
           from.effective == to.saved || (s == signal::sigcont && sender.session == target.session);
}

// kill(2): `id` above 0 is a process, by any of its threads; 0 the sender's group, -1 everyone but init and the sender,
// below -1 a group. Signal none only checks. Errors: no_process, not_permitted, signal_queue_full.
template <class System>
[[nodiscard]] result<> kill(process<System>& sender, process_id id, signal s)
{
    auto& table = sender.system().processes();
    const signal_info info{
        .number = s, .code = signal_code::user, .sender = sender.id(), .user = sender.user_ids().real};
    auto guard = table.lock();
    bool found = false;
    bool permitted = false;
    result<> outcome{};
    const auto send = [&](process<System>& target) {
        found = true;
        if (!may_signal(sender, target, s))
            return;
        permitted = true;
        if (s != signal::none)
            if (auto posted = post<System>(guard, target, info); !posted)
                outcome = posted;
    };
    if (id > 0) {
        if (auto* target = table.find_owner(guard, id))
            send(*target);
    } else if (id == -1) {
        table.for_each(guard, [&](process<System>& target) {
            if (target.id() != init_id && &target != &sender)
                send(target);
        });
    } else {
        table.for_each_in_group(guard, id == 0 ? sender.group : -id, send);
    }
    if (!found)
        return fail(errors::no_process, static_cast<std::uint64_t>(id));
    if (!permitted)
        return fail(errors::not_permitted, static_cast<std::uint64_t>(id));
    return outcome;
}

// Signal `info.number` to one thread; `group` -1 does not check whose it is. Errors: as kill.
template <class System>
[[nodiscard]] result<> kill_thread(process<System>& sender, process_id group, process_id id, const signal_info& info)
{
    auto& table = sender.system().processes();
    auto guard = table.lock();
    auto* target = table.find_owner(guard, id);
    if (!target || (group != -1 && group != target->id()))
        return fail(errors::no_process, static_cast<std::uint64_t>(id));
    if (!may_signal(sender, *target, info.number))
        return fail(errors::not_permitted, static_cast<std::uint64_t>(id));
    thread<System>* const t = table.find_thread(guard, id);
    if (info.number == signal::none || !t) // a first thread that has ended hears nothing
        return {};
    return post<System>(guard, *target, info, t);
}

// From a terminal to its foreground group, for instance.
template <class System>
void signal_group(System& system, process_id group, signal s)
{
    auto& table = system.processes();
    auto guard = table.lock();
    table.for_each_in_group(guard, group, [&](process<System>& target) {
        (void)post<System>(guard, target, {.number = s, .code = signal_code::kernel});
    });
}

// What the thread's own instruction has raised. It cannot be put off: blocked or ignored, it ends the process.
template <class System>
void raise_fault(thread<System>& t, const signal_info& info)
{
    auto& p = t.process();
    auto guard = p.lock();
    if (info.number == signal::sigkill)
        return begin_end(p, wait_status::killed(signal::sigkill), info);
    signal_action& action = p.actions[info.number];
    if (action.is_ignore() || t.blocked.contains(info.number)) {
        action = {};
        t.blocked.remove(info.number);
    }
    (void)t.pending.add(info);
    refresh_interruption(t);
}

// Changes the mask of the calling thread. What cannot be blocked stays unblocked.
template <class System>
void set_blocked(thread<System>& t, signal_set blocked)
{
    auto& p = t.process();
    auto guard = p.lock();
    const auto newly = (blocked - unblockable_signals) - t.blocked;
    t.blocked = blocked - unblockable_signals;
    refresh_interruption(t);
    find_takers(p, newly); // perhaps it was told of them
}

// The mask for the length of one call (sigsuspend, ppoll): it ends on the way to user mode.
template <class System>
void set_blocked_for_call(thread<System>& t, signal_set blocked)
{
    auto guard = t.process().lock();
    if (!t.blocked_is_temporary)
        t.blocked_before = t.blocked;
    t.blocked_is_temporary = true;
    const auto newly = (blocked - unblockable_signals) - t.blocked;
    t.blocked = blocked - unblockable_signals;
    refresh_interruption(t);
    find_takers(t.process(), newly); // perhaps it was told of them
}

template <class System>
void end_blocked_for_call(thread<System>& t)
{
    if (!t.blocked_is_temporary)
        return;
    t.blocked_is_temporary = false;
    set_blocked(t, t.blocked_before);
}

// sigaction(2). A signal that becomes ignored is not pending any more.
template <class System>
signal_action exchange_action(process<System>& p, signal s, const signal_action& next)
{
    auto guard = p.lock();
    const signal_action previous = p.actions[s];
    p.actions[s] = next;
    p.actions[s].mask = next.mask - unblockable_signals;
    if (next.ignores(s)) {
        p.pending.remove(signal_set::of(s));
        for (thread<System>& t : p.threads)
            t.pending.remove(signal_set::of(s));
    }
    return previous;
}

// Whether no member of the group has a parent in the same session but another group (POSIX 3.264): then nobody could
// continue what stops.
template <class System>
[[nodiscard]] bool is_orphaned(typename process_table<System>::guard& guard, process_table<System>& table,
                               process_id group)
{
    bool orphaned = true;
    table.for_each_in_group(guard, group, [&](process<System>& member) {
        if (member.state != process_state::zombie && member.parent && member.parent->session == member.session &&
            member.parent->group != group)
            orphaned = false;
    });
    return orphaned;
}

// The process stops by a signal that the calling thread has taken, unless SIGCONT or SIGKILL came since.
template <class System>
void begin_stop(thread<System>& t, signal by)
{
    auto& p = t.process();
    auto& system = t.system();
    auto guard = system.processes().lock();
    const bool refused = by != signal::sigstop && is_orphaned<System>(guard, system.processes(), p.group);
    auto locked = p.lock();
    if (std::exchange(p.stop_taken, false) && !refused && !p.stopping) {
        p.stop_signal = by;
        p.stopping = true;
        for (thread<System>& each : p.threads)
            interrupt(each);
    }
}

// The calling thread's part in that, until it is over.
template <class System>
void halt(thread<System>& t)
{
    auto& p = t.process();
    auto& system = t.system();
    const auto set_halted = [&](bool halted) {
        auto locked = p.lock();
        t.halted = halted;
    };
    {
        auto guard = system.processes().lock();
        set_halted(true);
        note_stopped<System>(guard, p);
    }
    p.stop_events.wait(system.parker(), [&] {
        auto locked = p.lock();
        return !p.stopping || t.pending.set().contains(signal::sigkill);
    });
    set_halted(false);
}

// The next pending signal of `wanted`, taken off: SIGKILL first, then the thread's own, then the process's; number none
// if there is none. With the process's lock held.
template <class System>
[[nodiscard]] signal_info take_signal(thread<System>& t, signal_set wanted)
{
    auto& p = t.process();
    const bool alarm = p.alarm_expired.exchange(false, std::memory_order_acq_rel);
    if (alarm)
        (void)p.pending.add({.number = signal::sigalrm, .code = signal_code::kernel});
    if (t.overran.exchange(false, std::memory_order_acq_rel))
        (void)t.pending.add({.number = signal::sigxcpu, .code = signal_code::kernel});
    auto taken = t.pending.take(wanted & signal_set::of(signal::sigkill)); // before all that could not matter any more
    if (taken.number == signal::none)
        taken = t.pending.take(wanted);
    if (taken.number == signal::none)
        taken = p.pending.take(wanted);
    if (taken.number == signal::sigalrm)
        p.alarm.rearm(t.system().scheduler());
    else if (alarm && t.blocked.contains(signal::sigalrm))
        find_takers(p, signal_set::of(signal::sigalrm));
    refresh_interruption(t);
    return taken;
}

struct delivery {
    signal_info info;
    signal_action action;
};

// The next signal that a handler of the program wants, after doing what the default actions of those before it say: the
// process may stop here, or end. Nothing when no signal is left to deliver.
template <class System>
[[nodiscard]] std::optional<delivery> next_delivery(thread<System>& t)
{
    auto& p = t.process();
    for (;;) {
        delivery next;
        {
            auto guard = p.lock();
            if (p.stopping && !t.pending.set().contains(signal::sigkill)) {
                guard.unlock();
                halt(t);
                continue;
            }
            next.info = take_signal(t, signal_set{~t.blocked.bits()});
            if (next.info.number == signal::none)
                return std::nullopt;
            signal_action& action = p.actions[next.info.number];
            next.action = action;
            if (is_ignored(p, next.info.number))
                continue;
            if (!action.is_default()) {
                if ((action.flags & signal_action::reset_handler) != 0)
                    action.handler = user_addr{signal_action::default_handler};
                return next;
            }
            p.stop_taken = p.stop_taken || stop_signals.contains(next.info.number);
        }
        if (stop_signals.contains(next.info.number))
            begin_stop(t, next.info.number);
        else if (next.info.number == signal::sigkill)
            exit_thread(t, wait_status::killed(signal::sigkill)); // as each does that is told to (begin_end, execve)
        else
            exit_process(t, wait_status::killed(next.info.number));
    }
}

} // namespace exo::proc
