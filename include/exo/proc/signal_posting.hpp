// Making a signal pending, and letting its target know. The half of signals.hpp that the end of a process needs too.

#pragma once

#include <atomic>
#include <cstdint>

#include <exo/base/result.hpp>
#include <exo/proc/process.hpp>
#include <exo/proc/process_table.hpp>
#include <exo/proc/signal.hpp>
#include <exo/proc/thread.hpp>

namespace exo::proc {

// Sets or clears what makes the thread's waits give up. By the thread itself, or before it runs: it may look in
// between. With the process's lock held.
template <class System>
void refresh_interruption(thread<System>& t)
{
    auto& p = t.process();
    // Cleared before what is set without the lock is looked at.
    t.task.interrupt_pending.store(false);
    if (!((t.pending.set() | p.pending.set()) - t.blocked).empty() || p.stopping.load() || p.alarm_expired.load() ||
        t.overran.load())
        t.task.interrupt_pending.store(true);
}

// The thread gives up its waits, and looks for signals on its way to user mode. With the process's lock held.
template <class System>
void interrupt(thread<System>& t)
{
    t.task.interrupt_pending.store(true);
    t.system().parker().unpark(&t.task);
}

// One of the threads that do not block it learns of a signal that is pending for the process: the main thread before
// others, as on Linux. With the process's lock held.
template <class System>
void find_taker(process<System>& p, signal s)
{
    if (p.main_thread && !p.main_thread->blocked.contains(s))
        return interrupt(*p.main_thread);
    for (thread<System>& t : p.threads)
        if (!t.blocked.contains(s))
            return interrupt(t);
}
// The same, for each of `pending` that is.
template <class System>
void find_takers(process<System>& p, signal_set pending)
{
    for (auto left = p.pending.set() & pending; !left.empty(); left.remove(left.first()))
        find_taker(p, left.first());
}

// With the process's lock held. `info` is a SIGKILL.
template <class System>
void end_soon(thread<System>& t, const signal_info& info)
{
    (void)t.pending.add(info);
    t.must_end.store(true);
    interrupt(t);
}

// All threads are to end, which is SIGKILL for each. The first status stands. With the process's lock held.
template <class System>
void begin_end(process<System>& p, wait_status status, const signal_info& info)
{
    if (p.ending)
        return;
    p.ending = true;
    p.end_status = status;
    p.stop_taken = false;
    p.stopping = false;
    for (thread<System>& t : p.threads)
        end_soon(t, info);
}

// Whether nothing comes of a signal. Init may be ended by one: the machine then stops with its status. It is never
// stopped by default, for nobody would continue it. With the process's lock held.
template <class System>
[[nodiscard]] bool is_ignored(const process<System>& p, signal s)
{
    const signal_action& action = p.actions[s];
    return action.ignores(s) || (p.id() == init_id && action.is_default() && stop_signals.contains(s));
}

// To the process, or one of its threads. With the process table locked. Errors: signal_queue_full.
template <class System>
result<> post(typename process_table<System>::guard& guard, process<System>& target, const signal_info& info,
              thread<System>* to = nullptr);

// The parent learns of the child's status: SIGCHLD, if it wants one, and whoever waits for children looks again. With
// the process table locked.
template <class System>
void notify_parent(typename process_table<System>::guard& guard, process<System>& child)
{
    process<System>* parent = child.parent;
    if (!parent)
        return;
    const auto [code, status] = child.status.child_signal();
    const bool ended = child.state == process_state::zombie;
    const signal s = ended ? child.exit_signal : signal::sigchld;
    const bool unwanted = !ended && (parent->action(signal::sigchld).flags & signal_action::no_child_stop) != 0;
    if (s != signal::none && !unwanted)
        (void)post<System>(
            guard, *parent,
            {.number = s, .code = code, .sender = child.id(), .user = child.user_ids().real, .status = status});
    parent->child_events.wake_all(child.system().parker());
}

template <class System>
result<> post(typename process_table<System>::guard& guard, process<System>& target, const signal_info& info,
              thread<System>* to)
{
    auto& system = target.system();
    bool continued = false;
    {
        auto locked = target.lock();
        thread<System>* const t = to ? to : target.any_thread();
        if (!t)
            return {};
        const auto drop = [&](signal_set unwanted) {
            target.pending.remove(unwanted);
            for (thread<System>& each : target.threads)
                each.pending.remove(unwanted);
        };
        if (info.number == signal::sigcont || info.number == signal::sigkill) {
            if (info.number == signal::sigcont)
                drop(stop_signals);
            target.stop_taken = false;
            continued = target.stopping.exchange(false, std::memory_order_acq_rel);
        } else if (stop_signals.contains(info.number)) {
            drop(signal_set::of(signal::sigcont));
        }
        // A blocked signal stays pending even if it is ignored now: the action may have changed when it is unblocked,
        // or the thread waits for it (sigtimedwait).
        const bool kept = t->blocked.contains(info.number) ||
                          (t->blocked_is_temporary && t->blocked_before.contains(info.number));
        if (info.number == signal::sigkill) {
            begin_end(target, wait_status::killed(signal::sigkill), info);
        } else if (kept || !is_ignored(target, info.number)) {
            if (auto added = (to ? to->pending : target.pending).add(info); !added)
                return added;
            if (!to)
                find_taker(target, info.number);
            else if (!to->blocked.contains(info.number))
                interrupt(*to);
        }
    }
    if (continued) {
        if (target.state == process_state::stopped) {
            target.state = process_state::alive;
            target.stop_reported = true;
            if (info.number == signal::sigcont) {
                target.status = wait_status::continued();
                target.continue_reported = false;
                notify_parent<System>(guard, target);
            }
        }
        target.stop_events.wake_all(system.parker());
    }
    return {};
}

// Every thread of a process that is to stop has done so, perhaps because the last that had not has ended: the parent
// learns. With the process table locked.
template <class System>
void note_stopped(typename process_table<System>::guard& guard, process<System>& p)
{
    {
        auto locked = p.lock();
        if (!p.stopping || p.state != process_state::alive || p.threads.empty())
            return;
        bool all = true;
        for (thread<System>& t : p.threads)
            all = all && t.halted;
        if (!all)
            return;
        p.state = process_state::stopped;
        p.status = wait_status::stopped(p.stop_signal);
        p.stop_reported = false;
    }
    notify_parent<System>(guard, p);
}

} // namespace exo::proc
