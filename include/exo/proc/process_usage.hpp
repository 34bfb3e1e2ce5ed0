// What a process has used: its threads together, those that have ended among them.

#pragma once

#include <exo/base/time.hpp>
#include <exo/proc/process.hpp>
#include <exo/proc/resource.hpp>
#include <exo/proc/thread.hpp>

namespace exo::proc {

// With the process's lock held.
template <class System>
[[nodiscard]] resource_usage usage_of(process<System>& p)
{
    resource_usage sum = p.usage;
    for (thread<System>& t : p.threads)
        sum += t.usage();
    return sum;
}
// The CPU time of it, as of each thread's last switch or tick. With the lock, too.
template <class System>
[[nodiscard]] duration run_time_of(process<System>& p)
{
    duration sum = p.usage.user + p.usage.system;
    for (const thread<System>& t : p.threads)
        sum += t.task.run_time();
    return sum;
}

} // namespace exo::proc
