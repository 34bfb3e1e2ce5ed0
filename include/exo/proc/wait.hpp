// Waiting for children: wait4(2) and waitid(2) in one.

#pragma once

#include <cstdint>

#include <exo/base/errors.hpp>
#include <exo/base/result.hpp>
#include <exo/proc/errors.hpp>
#include <exo/proc/exit.hpp>
#include <exo/proc/process.hpp>
#include <exo/proc/process_table.hpp>
#include <exo/proc/resource.hpp>
#include <exo/proc/wait_status.hpp>

namespace exo::proc {

struct wait_request {
    process_id which{-1}; // above 0 a process, 0 the caller's group, -1 any, below -1 a group
    bool stopped{};       // also report children that stopped
    bool continued{};
    bool ended{true};
    bool no_hang{};
    bool leave{}; // do not reap, report again
};

struct wait_report {
    process_id id{}; // 0: nothing to report, and the caller did not want to wait
    std::uint32_t user{};
    wait_status status{};
    resource_usage usage{};
};

// One look, with the table locked: a report, whose id is 0 if there is nothing to report yet. Errors: no_child. A child
// that was reaped is left in `gone`.
template <class System>
[[nodiscard]] result<wait_report> look_for_child(typename process_table<System>::guard& guard, process<System>& parent,
                                                 const wait_request& request, ref<process<System>>& gone)
{
    bool candidates = false;
    for (process<System>& child : parent.children) {
        const bool matches = request.which > 0     ? child.id() == request.which
                             : request.which == 0  ? child.group == parent.group
                             : request.which == -1 ? true
                                                   : child.group == -request.which;
        if (!matches)
            continue;
        candidates = true;
        wait_report report{.id = child.id(), .user = child.user_ids().real, .status = child.status};
        switch (child.state.load()) {
        case process_state::zombie:
            if (!request.ended)
                continue;
            report.usage = child.usage;
            report.usage += child.children_usage;
            if (!request.leave)
                gone = reap(guard, child);
            return report;
        case process_state::stopped:
            if (!request.stopped || child.stop_reported)
                continue;
            child.stop_reported = !request.leave;
            return report;
        case process_state::alive:
            if (!request.continued || child.continue_reported)
                continue;
            child.continue_reported = !request.leave;
            return report;
        }
    }
    if (!candidates)
        return fail(errors::no_child, static_cast<std::uint64_t>(request.which));
    return wait_report{};
}

// Errors: no_child, interrupted.
template <class System>
[[nodiscard]] result<wait_report> wait_for_child(process<System>& parent, const wait_request& request)
{
    System& system = parent.system();
    result<wait_report> seen{wait_report{}};
    ref<process<System>> gone;
    const auto look = [&] {
        auto guard = system.processes().lock();
        seen = look_for_child(guard, parent, request, gone);
        return !seen || seen->id != 0;
    };
    if (request.no_hang)
        static_cast<void>(look());
    else
        EXO_TRY(parent.child_events.wait_interruptible(system.parker(), look));
    return seen;
}

} // namespace exo::proc
