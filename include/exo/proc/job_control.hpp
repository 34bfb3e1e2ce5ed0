// What terminals ask of processes, answered from the process table.

#pragma once

#include <exo/drivers/terminal_jobs.hpp>
#include <exo/proc/process.hpp>
#include <exo/proc/process_table.hpp>
#include <exo/proc/signal.hpp>
#include <exo/proc/signals.hpp>
#include <exo/proc/thread.hpp>

namespace exo::proc {

template <class System>
class job_control final : public drivers::terminal_jobs {
public:
    explicit job_control(System& system) : system_{system} {}

    identity caller() noexcept override
    {
        auto& p = system_.current_thread().process();
        auto guard = system_.processes().lock();
        return {.process = p.id(), .group = p.group, .session = p.session, .privileged = p.user_ids().effective == 0};
    }
    id session_of_group(id group) noexcept override
    {
        id session = 0;
        auto guard = system_.processes().lock();
        system_.processes().for_each_in_group(guard, group, [&](process<System>& p) { session = p.session; });
        return session;
    }
    void signal_group(id group, drivers::terminal_signal s) noexcept override
    {
        proc::signal_group(system_, group, static_cast<signal>(s));
    }
    background signal_background(drivers::terminal_signal wanted) noexcept override
    {
        const auto s = static_cast<signal>(wanted);
        auto& t = system_.current_thread();
        auto& p = t.process();
        {
            auto guard = p.lock();
            if (t.blocked.contains(s) || p.actions[s].is_ignore())
                return background::ignored;
        }
        {
            auto guard = system_.processes().lock();
            if (is_orphaned<System>(guard, system_.processes(), p.group))
                return background::orphaned;
        }
        proc::signal_group(system_, p.group, s);
        return background::signalled;
    }

private:
    System& system_;
};

} // namespace exo::proc
