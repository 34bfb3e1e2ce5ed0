// What is to run: the part of rt-app's JSON that says which threads there are and what they do
// (github.com/scheduler-tools/rt-app, doc/tutorial.txt). Times are microseconds there, the global duration seconds.
//
//  - "global": "duration", "default_policy". What tells rt-app how to measure is accepted and means nothing.
//  - "tasks", each: "instance", "policy", "priority" (1 to 99, or the nice value of fair policies), "nice", "cpus",
//    "delay", "dl-runtime", "dl-period", "dl-deadline", "loop" (-1, the default, is without end), and either "phases",
//    each with a "loop" (default 1), "cpus" (else those of the task) and events, or events.
//  - Events, in order, with numbers behind to tell them apart: "run" (CPU time), "runtime" (until so much time has
//    passed), "sleep", and "timer", an object of "ref", "period" and "mode" ("relative", the default: one that comes
//    late begins anew; or "absolute").
//
// Errors: those of errors.hpp and of sched::deadline::check(), with the line.

#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <exo/base/cpu_set.hpp>
#include <exo/base/time.hpp>
#include <exo/sched/policies/deadline.hpp>
#include <exo/sched/policies/fair.hpp>
#include <exo/sched/policies/fixed_priority.hpp>
#include <exo/sched/policies/throttled.hpp>
#include <exo/sched/run_queue.hpp>

#include "json.hpp"

namespace sched_sim {

using cpu_set = exo::basic_cpu_set<1024>;
using deadline = exo::sched::deadline;
using fair = exo::sched::fair;
using fixed_priority = exo::sched::fixed_priority;
using real_time = exo::sched::throttled<fixed_priority>;
using policies = exo::sched::run_queue<deadline, real_time, fair>;

struct event {
    enum class kind : std::uint8_t { run, runtime, sleep, timer };
    kind what;
    exo::duration time;  // a timer's period
    std::size_t timer{}; // its number in the task
    bool absolute{};
};
struct phase {
    std::int64_t loops{1};
    std::optional<cpu_set> cpus; // while it lasts; the task's otherwise
    unsigned line{};
    std::vector<event> events;
};
struct task_group {
    static constexpr std::int64_t endless = -1;

    std::string name;
    unsigned line{};
    unsigned instances{1};
    policies::parameters parameters;
    cpu_set cpus{cpu_set::first(cpu_set::limit)};
    exo::duration delay;
    std::int64_t loops{endless};
    std::vector<phase> phases;
    std::vector<std::string> timers;
};
struct workload {
    static constexpr unsigned instance_limit = 100'000;

    exo::duration length{exo::seconds(1)};
    std::vector<task_group> tasks;
};

class workload_reader {
public:
    static exo::result<workload> read(const json& document)
    {
        workload_reader reader;
        const json* tasks = nullptr;
        for (const auto& [key, line, value] : *EXO_TRY(document.as<json::object>())) {
            if (key == "tasks")
                tasks = &value;
            else if (key == "global")
                EXO_TRY(reader.global(value));
            else if (key != "resources") // an old list of mutexes and timers, which the events name themselves
                return exo::fail(errors::unknown_key, line);
        }
        if (!tasks)
            return exo::fail(errors::no_tasks, document.line());
        unsigned instances = 0;
        for (const auto& [key, line, value] : *EXO_TRY(tasks->as<json::object>())) {
            const task_group& group = reader.workload_.tasks.emplace_back(EXO_TRY(reader.task(key, line, value)));
            instances += group.instances;
            if (instances > workload::instance_limit)
                return exo::fail(errors::too_many_tasks, line);
        }
        if (instances == 0)
            return exo::fail(errors::no_tasks, tasks->line());
        return std::move(reader.workload_);
    }

private:
    static constexpr std::int64_t second = 1'000'000; // microseconds
    static constexpr std::int64_t longest = 1'000'000 * second;

    enum class policy : std::uint8_t { other, batch, idle, fifo, round_robin, deadline };
    static exo::result<policy> policy_of(const json& value)
    {
        static constexpr std::pair<std::string_view, policy> names[] = {
            {"SCHED_OTHER", policy::other},      {"SCHED_BATCH", policy::batch},
            {"SCHED_IDLE", policy::idle},        {"SCHED_FIFO", policy::fifo},
            {"SCHED_RR", policy::round_robin},   {"SCHED_DEADLINE", policy::deadline}};
        const std::string& text = *EXO_TRY(value.as<std::string>());
        for (const auto& [name, policy] : names)
            if (name == text)
                return policy;
        return exo::fail(errors::no_policy, value.line());
    }
    static exo::result<exo::duration> time(const json& value)
    {
        return exo::microseconds(EXO_TRY(value.integer(0, longest)));
    }

    exo::result<> global(const json& settings)
    {
        static constexpr std::string_view of_measuring[] = {
            "calibration", "cumulative_slack", "frag", "ftrace", "gnuplot", "io_device", "lock_pages", "log_basename",
            "log_size", "logdir", "mem_buffer_size", "pi_enabled"};
        for (const auto& [key, line, value] : *EXO_TRY(settings.as<json::object>())) {
            if (key == "duration")
                workload_.length = exo::seconds(EXO_TRY(value.integer(1, longest / second)));
            else if (key == "default_policy")
                default_policy_ = EXO_TRY(policy_of(value));
            else if (std::ranges::find(of_measuring, key) == std::end(of_measuring))
                return exo::fail(errors::unknown_key, line);
        }
        return {};
    }

    // What says by which policy a task runs, as it stands in the file.
    struct claim {
        std::optional<policy> which;
        const json* priority{};
        const json* nice{};
        deadline::parameters reservation;
    };
    exo::result<task_group> task(const std::string& name, unsigned task_line, const json& body)
    {
        task_group group;
        group.name = name;
        group.line = task_line;
        claim claimed;
        phase own;
        for (const auto& [key, line, value] : *EXO_TRY(body.as<json::object>())) {
            if (key == "instance")
                group.instances = static_cast<unsigned>(EXO_TRY(value.integer(0, workload::instance_limit)));
            else if (key == "policy")
                claimed.which = EXO_TRY(policy_of(value));
            else if (key == "priority")
                claimed.priority = &value;
            else if (key == "nice")
                claimed.nice = &value;
            else if (key == "cpus")
                group.cpus = EXO_TRY(cpus(value));
            else if (key == "delay")
                group.delay = EXO_TRY(time(value));
            else if (key == "dl-runtime")
                claimed.reservation.runtime = EXO_TRY(time(value));
            else if (key == "dl-period")
                claimed.reservation.period = EXO_TRY(time(value));
            else if (key == "dl-deadline")
                claimed.reservation.deadline = EXO_TRY(time(value));
            else if (key == "loop")
                group.loops = EXO_TRY(value.integer(task_group::endless, longest));
            else if (key == "phases")
                for (const json::member& each : *EXO_TRY(value.as<json::object>()))
                    group.phases.push_back(EXO_TRY(read_phase(group, each.value)));
            else
                own.events.push_back(EXO_TRY(read_event(group, key, line, value)));
        }
        if (!own.events.empty() && !group.phases.empty())
            return exo::fail(errors::mixed_phases, task_line);
        if (group.phases.empty())
            group.phases.push_back(std::move(own));
        bool takes_time = false;
        for (const phase& p : group.phases)
            takes_time = takes_time || length(p) > exo::duration{};
        if (group.loops == task_group::endless && !takes_time)
            return exo::fail(errors::timeless_loop, task_line);
        group.parameters = EXO_TRY(parameters(claimed, task_line));
        return group;
    }
    static exo::result<cpu_set> cpus(const json& value)
    {
        cpu_set set;
        for (const json& cpu : *EXO_TRY(value.as<json::array>()))
            set.add(static_cast<unsigned>(EXO_TRY(cpu.integer(0, cpu_set::limit - 1))));
        return set;
    }
    exo::result<policies::parameters> parameters(const claim& claimed, unsigned line) const
    {
        using kind = fair::thread_kind;
        const policy which = claimed.which.value_or(default_policy_);
        switch (which) {
        case policy::fifo:
        case policy::round_robin: {
            if (claimed.nice)
                return exo::fail(errors::unknown_key, claimed.nice->line());
            unsigned priority = 10; // rt-app's default
            if (claimed.priority)
                priority = static_cast<unsigned>(
                    EXO_TRY(claimed.priority->integer(fixed_priority::lowest, fixed_priority::highest)));
            return policies::parameters::of<real_time>(which == policy::fifo ? fixed_priority::fifo(priority)
                                                                             : fixed_priority::round_robin(priority));
        }
        case policy::deadline: {
            deadline::parameters p = claimed.reservation;
            if (p.deadline == exo::duration{})
                p.deadline = p.period;
            if (const auto valid = deadline::check(p); !valid)
                return exo::fail(valid.error().kind(), line);
            return policies::parameters::of<deadline>(p);
        }
        default: break;
        }
        fair::parameters p{.kind = which == policy::batch  ? kind::batch
                                   : which == policy::idle ? kind::idle
                                                           : kind::normal};
        if (const json* nice = claimed.nice ? claimed.nice : claimed.priority)
            p.nice = static_cast<std::int8_t>(EXO_TRY(nice->integer(fair::lowest_nice, fair::highest_nice)));
        return policies::parameters::of<fair>(p);
    }

    static exo::result<phase> read_phase(task_group& group, const json& body)
    {
        phase result;
        result.line = body.line();
        for (const auto& [key, line, value] : *EXO_TRY(body.as<json::object>()))
            if (key == "loop")
                result.loops = EXO_TRY(value.integer(task_group::endless, longest));
            else if (key == "cpus")
                result.cpus = EXO_TRY(cpus(value));
            else
                result.events.push_back(EXO_TRY(read_event(group, key, line, value)));
        if (result.loops == task_group::endless && length(result) == exo::duration{})
            return exo::fail(errors::timeless_loop, body.line());
        return result;
    }
    static exo::duration length(const phase& p)
    {
        exo::duration sum;
        for (const event& e : p.events)
            sum += e.time;
        return p.loops == 0 ? exo::duration{} : sum;
    }
    static exo::result<event> read_event(task_group& group, std::string_view key, unsigned line, const json& value)
    {
        const std::string_view name = key.substr(0, key.find_last_not_of("0123456789") + 1);
        if (name == "run")
            return event{event::kind::run, EXO_TRY(time(value))};
        if (name == "runtime")
            return event{event::kind::runtime, EXO_TRY(time(value))};
        if (name == "sleep")
            return event{event::kind::sleep, EXO_TRY(time(value))};
        if (name == "timer")
            return timer(group, value);
        return exo::fail(errors::unknown_key, line);
    }
    static exo::result<event> timer(task_group& group, const json& body)
    {
        event result{event::kind::timer, {}};
        std::string ref = "unique";
        for (const auto& [key, line, value] : *EXO_TRY(body.as<json::object>())) {
            if (key == "ref") {
                ref = *EXO_TRY(value.as<std::string>());
            } else if (key == "period") {
                result.time = EXO_TRY(time(value));
            } else if (key == "mode") {
                const std::string& mode = *EXO_TRY(value.as<std::string>());
                if (mode != "relative" && mode != "absolute")
                    return exo::fail(errors::out_of_range, line);
                result.absolute = mode == "absolute";
            } else {
                return exo::fail(errors::unknown_key, line);
            }
        }
        if (result.time == exo::duration{})
            return exo::fail(errors::timeless_loop, body.line());
        const auto known = std::ranges::find(group.timers, ref);
        result.timer = static_cast<std::size_t>(known - group.timers.begin());
        if (known == group.timers.end())
            group.timers.push_back(ref);
        return result;
    }

    workload workload_;
    policy default_policy_{policy::other};
};

} // namespace sched_sim
