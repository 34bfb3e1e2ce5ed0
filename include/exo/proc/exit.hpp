// The end of threads, and with the last of a process its own: everything it holds is given back, its children go to
// init, its parent learns.

#pragma once

#include <utility>

#include <exo/base/ref.hpp>
#include <exo/base/result.hpp>
#include <exo/proc/errors.hpp>
#include <exo/proc/process.hpp>
#include <exo/proc/process_table.hpp>
#include <exo/proc/robust_list.hpp>
#include <exo/proc/signal.hpp>
#include <exo/proc/signal_posting.hpp>
#include <exo/proc/thread.hpp>
#include <exo/proc/wait_status.hpp>

namespace exo::proc {

// A parent in vfork may go on: the child does not use its image any more.
template <class System>
void announce_image_released(process<System>& p)
{
    p.image_released.store(true, std::memory_order_release);
    p.image_events.wake_all(p.system().parker());
}

// Takes a zombie out of the tree and the table. The caller drops the reference when the table is unlocked.
template <class System>
[[nodiscard]] ref<process<System>> reap(typename process_table<System>::guard& guard, process<System>& zombie)
{
    if (zombie.parent) {
        zombie.parent->children_usage += zombie.usage;
        zombie.parent->children_usage += zombie.children_usage;
        zombie.parent->children.erase(zombie);
        zombie.parent = nullptr;
    }
    return zombie.system().processes().remove(guard, zombie);
}

// A child whose end nobody wants to hear of is reaped at once (POSIX: SIGCHLD ignored, or SA_NOCLDWAIT).
template <class System>
[[nodiscard]] bool wants_no_zombies(process<System>& parent)
{
    const signal_action action = parent.action(signal::sigchld);
    return action.is_ignore() || (action.flags & signal_action::no_child_wait) != 0;
}

// The members of a group that nobody in the session could continue any more, and of which one has stopped, are hung up
// and continued (POSIX _exit).
template <class System>
void release_orphaned_group(typename process_table<System>::guard& guard, process_table<System>& table,
                            process_id group, process<System>* leaving)
{
    bool stopped = false;
    bool orphaned = true;
    table.for_each_in_group(guard, group, [&](process<System>& member) {
        if (&member == leaving || member.state == process_state::zombie)
            return;
        stopped = stopped || member.state == process_state::stopped;
        if (member.parent && member.parent != leaving && member.parent->session == member.session &&
            member.parent->group != group)
            orphaned = false;
    });
    if (!stopped || !orphaned)
        return;
    table.for_each_in_group(guard, group, [&](process<System>& member) {
        (void)post<System>(guard, member, {.number = signal::sighup, .code = signal_code::kernel});
        (void)post<System>(guard, member, {.number = signal::sigcont, .code = signal_code::kernel});
    });
}

// Takes the thread from its process, and tells whether it was the last: else others take over what it did for all. With
// the process's lock held, too.
template <class System>
[[nodiscard]] bool leave_process(typename process_table<System>::guard& guard, thread<System>& t)
{
    System& system = t.system();
    process<System>& p = t.process();
    if (&t != p.main_thread)
        system.processes().remove(guard, t);
    p.remove(t); // no signal reaches it any more
    system.deadline_claims().let_go(t.scheduling.claim, system.now());
    t.task.interrupt_pending.store(false, std::memory_order_release);
    thread<System>* const heir = p.any_thread();
    if (!heir) {
        system.scheduler().cancel(p.alarm);
        return true;
    }
    p.usage += t.usage();
    p.alarm.move(system.scheduler(), t.task, heir->task);
    if (p.alarm_expired.load())
        interrupt(*heir);
    find_takers(p, signal_set{~t.blocked.bits()}); // perhaps it was told of them
    p.thread_events.wake_all(system.parker());
    return false;
}

// The calling thread ends; with the last of them the process does, by the status of this one unless all were told to.
template <class System>
[[noreturn]] void exit_thread(thread<System>& t, wait_status status)
{
    System& system = t.system();
    process<System>& p = t.process();

    release_futexes(t);
    t.switch_space(nullptr);
    const auto interrupts = system.interrupts().save_and_disable();
    {
        auto guard = system.processes().lock();
        auto locked = p.lock();
        const bool last = leave_process<System>(guard, t);
        locked.unlock();
        if (!last) {
            note_stopped<System>(guard, p);
            guard.unlock();
            // The process may be gone now, and interrupts stay off, so that nobody asks this thread for it.
            system.scheduler().exit_current();
        }
    }
    system.interrupts().restore(interrupts);

    if (p.ending)
        status = p.end_status;
    if (p.id() == init_id)
        system.init_exited(status);
    p.release_files();
    p.set_image(nullptr);
    if (p.id() == p.session)
        system.session_ended(p.session);

    // Once the parent knows, this thread does nothing any more but leave: so its stack is free by the time that the
    // parent runs on this CPU.
    static_cast<void>(system.interrupts().save_and_disable());
    ref<process<System>> unwanted;
    {
        auto& table = system.processes();
        auto guard = table.lock();
        {
            auto locked = p.lock();
            p.usage += t.usage();
        }

        process<System>& init = table.init(guard);
        while (process<System>* child = p.children.pop_front()) {
            child->parent = &init;
            child->exit_signal = signal::sigchld;
            init.children.push_back(*child);
            if (child->state == process_state::zombie)
                notify_parent<System>(guard, *child);
            else if (child->group != p.group)
                release_orphaned_group<System>(guard, table, child->group, &p);
        }
        release_orphaned_group<System>(guard, table, p.group, &p);

        p.state = process_state::zombie;
        p.status = status;
        announce_image_released(p);
        const bool silent = p.parent && wants_no_zombies(*p.parent);
        notify_parent<System>(guard, p);
        if (silent)
            unwanted = reap(guard, p);
    }
    unwanted.reset();
    system.scheduler().exit_current();
}

// The calling thread's process ends, and so each of its threads, as soon as it comes to that.
template <class System>
[[noreturn]] void exit_process(thread<System>& t, wait_status status)
{
    process<System>& p = t.process();
    if (!p.has_one_thread()) {
        auto guard = p.lock();
        begin_end(p, status, {.number = signal::sigkill, .code = signal_code::kernel});
    }
    exit_thread(t, status);
}

// execve: every other thread of the process ends, and the calling one takes its place. Errors: interrupted, when the
// calling one is to end itself.
template <class System>
[[nodiscard]] result<> end_other_threads(thread<System>& t)
{
    System& system = t.system();
    process<System>& p = t.process();
    if (p.has_one_thread() && p.main_thread == &t)
        return {};
    {
        auto guard = p.lock();
        if (p.ending || p.executing)
            return fail(errors::interrupted);
        p.executing = true;
        for (thread<System>& other : p.threads) {
            if (&other == &t)
                continue;
            end_soon(other, {.number = signal::sigkill, .code = signal_code::kernel});
        }
    }
    p.thread_events.wait(system.parker(), [&p] { return p.has_one_thread(); });
    auto guard = system.processes().lock();
    auto locked = p.lock();
    p.executing = false;
    if (!p.main_thread) {
        system.processes().remove(guard, t);
        t.set_id(p.id());
        p.main_thread = &t;
    }
    return {};
}

} // namespace exo::proc
