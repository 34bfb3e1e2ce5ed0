// Making a process out of another: fork, vfork, and clone as posix_spawn uses it. All or nothing: after an error,
// nothing of the child is left.

#pragma once

#include <optional>
#include <utility>

#include <exo/base/address.hpp>
#include <exo/base/allocator.hpp>
#include <exo/base/result.hpp>
#include <exo/proc/errors.hpp>
#include <exo/proc/process.hpp>
#include <exo/proc/process_table.hpp>
#include <exo/proc/scheduling.hpp>
#include <exo/proc/signal.hpp>
#include <exo/proc/thread.hpp>
#include <exo/sched/errors.hpp>

namespace exo::proc {

struct fork_request {
    bool share_image{};      // the child runs in the parent's memory (CLONE_VM) ...
    bool wait_for_release{}; // ... and the parent waits until it does not any more (CLONE_VFORK)
    bool share_descriptors{};
    bool reset_handlers{}; // CLONE_CLEAR_SIGHAND
    signal exit_signal{signal::sigchld};
    bool set_tls{};
    std::uint64_t tls{};
    user_addr clear_id_at_exit{};
};

// Whether the user of `parent` may have one thread more. Errors: sched::errors::too_many_threads_of_user.
template <class System>
[[nodiscard]] result<> check_thread_limit(process<System>& parent)
{
    const auto limit = parent.limits[resource::processes].soft;
    const id_set user = parent.user_ids();
    if (user.effective == 0 || limit == resource_limit::unlimited ||
        parent.system().processes().count_of_user(user.real) < limit)
        return {};
    const error e{sched::errors::too_many_threads_of_user, limit};
    parent.system().scheduler().count(e);
    return fail(e);
}

// What a new thread has of the one that makes it, whose registers the CPU holds.
template <class System>
void inherit_registers(thread<System>& parent, thread<System>& child, const typename System::frame& frame,
                       std::optional<std::uint64_t> tls)
{
    System& system = parent.system();
    child.first_frame = frame;
    const auto interrupts = system.interrupts().save_and_disable();
    system.user_mode().save(parent.state);
    system.interrupts().restore(interrupts);
    child.state = parent.state;
    if (tls)
        system.user_mode().set_tls_base(child.state, *tls);
    child.set_space(&child.process().image().space());
    child.blocked = parent.blocked_is_temporary ? parent.blocked_before : parent.blocked;
}

// A process like `parent`, with `child_frame` as the first thing its thread does in user mode. It runs from here on.
// `announce(child)` is called before that, with its number known. Errors: out_of_memory, check_thread_limit's,
// announce's, sched::errors::too_many_threads, sched::errors::deadline_fork.
template <class System, class Announce>
[[nodiscard]] result<process_id> fork_process(thread<System>& parent_thread, const typename System::frame& child_frame,
                                              const fork_request& request, Announce announce)
{
    System& system = parent_thread.system();
    process<System>& parent = parent_thread.process();
    EXO_TRY(check_thread_limit(parent));
    const auto scheduling = EXO_TRY(inherited_scheduling(parent_thread));

    auto child = ref<process<System>>::adopt(EXO_TRY(new_object<process<System>>(system.heap(), system)));
    process<System>& p = *child;
    p.set_image(request.share_image ? ref{parent.image()} : EXO_TRY(parent.image().fork()));
    p.descriptors = request.share_descriptors ? parent.descriptors : EXO_TRY(parent.files().copy());
    {
        auto guard = parent.lock();
        p.paths = parent.paths;
        p.identity = parent.identity;
        p.actions = parent.actions;
    }
    p.publish_identity();
    p.gains_no_rights = parent.gains_no_rights.load();
    p.randomizes = parent.randomizes.load();
    p.limits = parent.limits;
    p.set_name(parent_thread.task.name());
    if (request.reset_handlers)
        p.actions.reset_handlers();
    p.exit_signal = request.exit_signal;

    auto* t = EXO_TRY(thread<System>::create(p, &thread<System>::enter_user_mode));
    inherit_scheduling(parent_thread, *t, scheduling);
    inherit_registers(parent_thread, *t, child_frame, request.set_tls ? std::optional{request.tls} : std::nullopt);
    t->clear_id_at_exit = request.clear_id_at_exit;
    if (!request.share_image || request.wait_for_release)
        t->signal_stack = parent_thread.signal_stack;
    if (!request.share_image) {
        t->sequences = parent_thread.sequences;
        t->note_displacement();
    }

    const auto keep = child; // for vfork, and against an end that comes at once
    {
        auto guard = system.processes().lock();
        p.group = parent.group;
        p.session = parent.session;
        if (auto inserted = system.processes().insert(guard, child); !inserted) {
            guard.unlock();
            thread<System>::destroy(t);
            return fail(inserted.error());
        }
        t->set_id(p.id());
        auto locked = p.lock();
        p.add(*t); // what its group is sent from now on reaches it, before it runs
    }
    const process_id id = p.id();
    announce(p);
    {
        auto guard = system.processes().lock();
        p.parent = &parent;
        parent.children.push_back(p);
    }
    system.scheduler().start(t->task);
    if (request.wait_for_release)
        p.image_events.wait(system.parker(), [&] {
            return p.image_released.load(std::memory_order_acquire) || parent_thread.must_end.load();
        });
    return id;
}

} // namespace exo::proc
