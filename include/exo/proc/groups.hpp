// Process groups and sessions (POSIX 3.267, 3.318): who belongs to which.

#pragma once

#include <exo/base/errors.hpp>
#include <exo/base/result.hpp>
#include <exo/proc/errors.hpp>
#include <exo/proc/process.hpp>
#include <exo/proc/process_id.hpp>
#include <exo/proc/process_table.hpp>

namespace exo::proc {

// setpgid(2): 0 for `id` is the caller, 0 for `group` a group of its own. Errors: no_process, execute_denied (a child
// that has executed), not_permitted, invalid_argument.
template <class System>
[[nodiscard]] result<> set_group(process<System>& caller, process_id id, process_id group)
{
    if (group < 0)
        return fail(errors::invalid_argument);
    auto& table = caller.system().processes();
    auto guard = table.lock();
    process<System>* target = id == 0 ? &caller : table.find(guard, id);
    if (!target || (target != &caller && target->parent != &caller))
        return fail(errors::no_process, static_cast<std::uint64_t>(id));
    if (target != &caller && target->has_executed)
        return fail(errors::execute_denied);
    if (target->session == target->id() || target->session != caller.session)
        return fail(errors::not_permitted);
    const process_id wanted = group == 0 ? target->id() : group;
    if (wanted != target->id()) {
        bool exists = false;
        table.for_each_in_group(guard, wanted,
                                [&](process<System>& member) { exists = exists || member.session == caller.session; });
        if (!exists)
            return fail(errors::not_permitted);
    }
    target->group = wanted;
    return {};
}

// setsid(2). Errors: not_permitted (the caller leads a group, or somebody is in one of its number).
template <class System>
[[nodiscard]] result<process_id> start_session(process<System>& caller)
{
    auto& table = caller.system().processes();
    auto guard = table.lock();
    bool taken = caller.group == caller.id();
    table.for_each_in_group(guard, caller.id(), [&](process<System>&) { taken = true; });
    if (taken)
        return fail(errors::not_permitted);
    caller.session = caller.group = caller.id();
    return caller.id();
}

} // namespace exo::proc
