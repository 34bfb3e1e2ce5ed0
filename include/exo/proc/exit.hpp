// The end of a process: everything it holds is given back, its children go to init, its parent learns.

#pragma once

#include <utility>

#include <exo/base/ref.hpp>
#include <exo/proc/process.hpp>
#include <exo/proc/process_table.hpp>
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
    const signal_action& action = parent.actions[signal::sigchld];
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

// The calling thread, and with it its process, ends.
template <class System>
[[noreturn]] void exit_process(thread<System>& t, wait_status status)
{
    System& system = t.system();
    process<System>& p = t.process();

    {
        auto guard = p.lock();
        p.main_thread = nullptr; // no signal reaches it any more
        system.deadline_claims().let_go(t.scheduling.claim, system.now());
        t.task.interrupt_pending.store(false, std::memory_order_release);
    }
    if (p.id() == init_id)
        system.init_exited(status);
    system.scheduler().cancel(p.alarm);
    p.release_files();
    t.switch_space(nullptr);
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
        p.usage = t.usage();

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

} // namespace exo::proc
