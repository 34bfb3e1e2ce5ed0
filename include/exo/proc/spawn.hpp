// Making one more thread of a process (clone with CLONE_THREAD). All or nothing: after an error, nothing of it is left.

#pragma once

#include <cstdint>
#include <optional>

#include <exo/base/address.hpp>
#include <exo/base/result.hpp>
#include <exo/proc/errors.hpp>
#include <exo/proc/fork.hpp>
#include <exo/proc/process.hpp>
#include <exo/proc/process_table.hpp>
#include <exo/proc/scheduling.hpp>
#include <exo/proc/signal.hpp>
#include <exo/proc/signal_posting.hpp>
#include <exo/proc/thread.hpp>

namespace exo::proc {

struct spawn_request {
    std::optional<std::uint64_t> tls{};
    user_addr clear_id_at_exit{};
};

// A thread beside `parent`, with `frame` as the first thing it does in user mode. It runs from here on.
// `announce(thread)` is called before that, with its number known. Errors: out_of_memory, check_thread_limit's,
// interrupted (the process is ending, or is about to be another program), sched::errors::too_many_threads,
// sched::errors::deadline_fork.
template <class System, class Announce>
[[nodiscard]] result<process_id> spawn_thread(thread<System>& parent, const typename System::frame& frame,
                                              const spawn_request& request, Announce announce)
{
    System& system = parent.system();
    process<System>& p = parent.process();
    EXO_TRY(check_thread_limit(p));
    const auto scheduling = EXO_TRY(inherited_scheduling(parent));

    auto* t = EXO_TRY(thread<System>::create(p, &thread<System>::enter_user_mode));
    inherit_scheduling(parent, *t, scheduling);
    inherit_registers(parent, *t, frame, request.tls);
    t->task.set_name(parent.task.name());
    t->clear_id_at_exit = request.clear_id_at_exit;

    const auto join = [&]() -> result<process_id> {
        auto guard = system.processes().lock();
        auto locked = p.lock();
        if (parent.pending.set().contains(signal::sigkill))
            return fail(errors::interrupted);
        EXO_TRY(system.processes().insert(guard, *t));
        p.add(*t); // it takes part in stops and ends from now on, before it runs
        refresh_interruption(*t);
        return t->id();
    };
    const auto id = join();
    if (!id) {
        thread<System>::destroy(t);
        return fail(id.error());
    }
    announce(*t);
    system.scheduler().start(t->task);
    return *id;
}

} // namespace exo::proc
