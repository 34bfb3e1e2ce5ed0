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

enum class recipient : std::uint8_t { process, main_thread };

// Sets or clears what makes the thread's waits give up. With the process's lock held.
template <class System>
void refresh_interruption(thread<System>& t)
{
    auto& p = t.process();
    // Cleared before what is set without the lock is looked at.
    t.task.interrupt_pending.store(false);
    if (!((t.pending.set() | p.pending.set()) - t.blocked).empty() || p.alarm_expired.load() ||
        t.overran.load())
        t.task.interrupt_pending.store(true);
}

// Whether nothing comes of a signal. Init may be ended by one: the machine then stops with its status. It is never
// stopped by default, for nobody would continue it. With the process's lock held.
template <class System>
[[nodiscard]] bool is_ignored(const process<System>& p, signal s)
{
    const signal_action& action = p.actions[s];
    return action.ignores(s) || (p.id() == init_id && action.is_default() && stop_signals.contains(s));
}

// With the process table locked. Errors: signal_queue_full.
template <class System>
result<> post(typename process_table<System>::guard& guard, process<System>& target, const signal_info& info,
              recipient to = recipient::process);

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
    const bool unwanted = !ended && (parent->actions[signal::sigchld].flags & signal_action::no_child_stop) != 0;
    if (s != signal::none && !unwanted)
        (void)post<System>(guard, *parent, {.number = s, .code = code, .sender = child.id(),
                                            .user = child.identity.user.real, .status = status});
    parent->child_events.wake_all(child.system().parker());
}

template <class System>
result<> post(typename process_table<System>::guard& guard, process<System>& target, const signal_info& info,
              recipient to)
{
    auto& system = target.system();
    bool continued = false;
    thread<System>* t = nullptr;
    {
        auto locked = target.lock();
        t = target.main_thread;
        if (!t)
            return {};
        const auto drop = [&](signal_set unwanted) {
            target.pending.remove(unwanted);
            t->pending.remove(unwanted);
        };
        if (info.number == signal::sigcont) {
            drop(stop_signals);
            continued = target.stopping.exchange(false, std::memory_order_acq_rel);
        } else if (stop_signals.contains(info.number)) {
            drop(signal_set::of(signal::sigcont));
        } else if (info.number == signal::sigkill) {
            continued = target.stopping.exchange(false, std::memory_order_acq_rel);
        }
        // A blocked signal stays pending even if it is ignored now: the action may have changed when it is unblocked,
        // or the thread waits for it (sigtimedwait).
        const bool kept = t->blocked.contains(info.number) ||
                          (t->blocked_is_temporary && t->blocked_before.contains(info.number));
        if (kept || !is_ignored(target, info.number)) {
            auto& queue = to == recipient::process ? target.pending : t->pending;
            if (auto added = queue.add(info); !added)
                return added;
            refresh_interruption(*t);
            if (!t->blocked.contains(info.number))
                system.parker().unpark(&t->task);
        }
    }
    if (continued) {
        target.state = process_state::alive;
        target.stop_reported = true;
        if (info.number == signal::sigcont) {
            target.status = wait_status::continued();
            target.continue_reported = false;
            notify_parent<System>(guard, target);
        }
        target.stop_events.wake_all(system.parker());
    }
    return {};
}

} // namespace exo::proc
