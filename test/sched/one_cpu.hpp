// One CPU in virtual time, without threads: jobs arrive at the tasks of a policy and run as it says.

#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include <exo/sched/policy.hpp>

namespace sched_test {

template <class Policy>
class one_cpu {
public:
    struct job {
        exo::instant arrives;
        exo::duration needs;
    };
    struct task : Policy::entity {
        std::deque<job> jobs;                // to come, or at the front begun; by arrival
        bool yields_after_job{};             // gives up the rest of its period when a job is done
        std::vector<exo::instant> completed; // one for each job that is done
        exo::duration ran{};
        bool queued{};
    };

    Policy policy;
    exo::instant now{};
    exo::duration idle{};

    template <class Parameters>
    task& add(const Parameters& parameters)
    {
        tasks_.push_back(std::make_unique<task>());
        tasks_.back()->set(parameters);
        return *tasks_.back();
    }
    ~one_cpu()
    {
        for (auto& t : tasks_)
            if (t->queued)
                policy.dequeue(*t);
    }

    void run_until(exo::instant end)
    {
        using exo::instant;
        while (now < end) {
            for (auto& t : tasks_)
                if (!t->queued && !t->jobs.empty() && t->jobs.front().arrives <= now)
                    wake(*t);
            if (running_ && policy.next_release() <= now)
                put_back(exo::sched::departure::preempted);
            if (!running_)
                running_ = static_cast<task*>(policy.pick(now));

            instant next = std::min(end, policy.next_release());
            for (auto& t : tasks_)
                if (!t->queued && !t->jobs.empty())
                    next = std::min(next, t->jobs.front().arrives);
            if (!running_) {
                REQUIRE(next > now);
                idle += next - now;
                now = next;
                continue;
            }
            next = std::min({next, policy.turn_ends(*running_, now), now + running_->jobs.front().needs});
            const exo::duration ran = next - now;
            now = next;
            running_->ran += ran;
            job& current = running_->jobs.front();
            current.needs = current.needs - ran;
            const bool over = policy.tick(*running_, ran, now);
            if (current.needs == exo::duration{})
                finish_job(over);
            else if (over)
                put_back(exo::sched::departure::turn_over);
        }
    }

private:
    void wake(task& t)
    {
        t.queued = true;
        policy.enqueue(t, exo::sched::arrival::woken, now);
        if (running_ && policy.preempts(t, *running_)) {
            task* before = running_;
            put_back(exo::sched::departure::preempted);
            running_ = static_cast<task*>(policy.pick(now));
            REQUIRE(running_ != before);
        }
    }
    void put_back(exo::sched::departure why)
    {
        policy.requeue(*running_, why, now);
        running_ = nullptr;
    }
    void finish_job(bool over)
    {
        task& t = *running_;
        t.completed.push_back(now);
        t.jobs.pop_front();
        const bool more = !t.jobs.empty() && t.jobs.front().arrives <= now;
        if (t.yields_after_job && !t.jobs.empty()) {
            put_back(exo::sched::departure::yielded);
        } else if (!more) {
            policy.dequeue(t);
            t.queued = false;
            running_ = nullptr;
        } else if (over) {
            put_back(exo::sched::departure::turn_over);
        }
    }

    std::vector<std::unique_ptr<task>> tasks_;
    task* running_{};
};

} // namespace sched_test
