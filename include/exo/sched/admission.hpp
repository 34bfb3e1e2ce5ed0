// Admission of deadline threads: only those whose deadlines can be kept are let in.
//
// On one CPU the deadlines of an admitted set are all kept, whatever its members do: the test is the exact one of
// processor_demand.hpp. On several CPUs without a place for each thread, utilization is what counts, and a job may be
// late by a bounded time (Devi and Anderson 2005), as on Linux. In both cases all threads together use at most a share
// of the CPUs, so that others live.
//
// Independent of the scheduler; it allocates nothing, and the caller locks.

#pragma once

#include <cstdint>

#include <exo/base/check.hpp>
#include <exo/base/list.hpp>
#include <exo/base/result.hpp>
#include <exo/sched/cpu_share.hpp>
#include <exo/sched/errors.hpp>
#include <exo/sched/policies/deadline.hpp>
#include <exo/sched/processor_demand.hpp>
#include <exo/sched/utilization.hpp>

namespace exo::sched {

class admission {
public:
    // What an admitted thread holds. Linked while admitted.
    class reservation {
    public:
        [[nodiscard]] bool admitted() const { return hook_.linked(); }
        [[nodiscard]] const deadline::parameters& parameters() const { return parameters_; }

    private:
        friend admission;
        list_hook hook_;
        deadline::parameters parameters_;
    };

    explicit admission(unsigned cpus = 1, cpu_share share = {}) : cpus_{cpus}, share_{share}
    {
        EXO_CHECK(cpus > 0 && share.valid());
    }

    // Each of these changes nothing when it fails: with the kinds of deadline::check(), with utilization_too_high
    // (context: what it would be, in millionths of a CPU), and on one CPU with those of processor_demand.
    // A linear look at all that are admitted, and on one CPU at most processor_demand's step_limit of them.
    [[nodiscard]] result<> admit(reservation& r, const deadline::parameters& p)
    {
        EXO_TRY(deadline::check(p));
        r.parameters_ = p;
        admitted_.push_back(r);
        auto verdict = judge();
        if (!verdict)
            admitted_.erase(r);
        return verdict;
    }
    // `r` is admitted, with other parameters. What the thread used under the former ones counts on until its
    // entity's settled().
    [[nodiscard]] result<> change(reservation& r, const deadline::parameters& p)
    {
        EXO_CHECK(r.admitted());
        EXO_TRY(deadline::check(p));
        const deadline::parameters before = r.parameters_;
        r.parameters_ = p;
        auto verdict = judge();
        if (!verdict)
            r.parameters_ = before;
        return verdict;
    }
    [[nodiscard]] result<> set_share(cpu_share share)
    {
        EXO_CHECK(share.valid());
        return limit(cpus_, share);
    }
    [[nodiscard]] result<> set_cpus(unsigned cpus)
    {
        EXO_CHECK(cpus > 0);
        return limit(cpus, share_);
    }

    // When its thread has ended or follows another policy and its entity has settled(): others that are admitted
    // before could miss, because what it used is still missing.
    void release(reservation& r)
    {
        admitted_.erase(r);
        (void)judge();
    }

    [[nodiscard]] unsigned cpus() const { return cpus_; }
    [[nodiscard]] cpu_share share() const { return share_; }
    // Of all that are admitted, in millionths of a CPU, rounded up.
    [[nodiscard]] std::uint64_t millionths_used() const { return millionths_; }
    // The bandwidths, runtime / deadline, fit as well, or no deadline is certain anyway: deadline::keep_deadlines().
    [[nodiscard]] bool by_bandwidth() const { return by_bandwidth_; }

private:
    using reservations = list<reservation, &reservation::hook_>;

    static std::uint64_t ns(duration d) { return static_cast<std::uint64_t>(d.nanoseconds()); }

    result<> limit(unsigned cpus, cpu_share share)
    {
        const unsigned cpus_before = cpus_;
        const cpu_share share_before = share_;
        cpus_ = cpus;
        share_ = share;
        auto verdict = judge();
        if (!verdict) {
            cpus_ = cpus_before;
            share_ = share_before;
        }
        return verdict;
    }

    result<> judge()
    {
        utilization used, bandwidth;
        for (const reservation& r : admitted_) {
            used.add(ns(r.parameters_.runtime), ns(r.parameters_.interval()));
            bandwidth.add(ns(r.parameters_.runtime), ns(r.parameters_.deadline));
        }
        if (!used.at_most(cpus_, ns(share_.runtime), ns(share_.period)))
            return fail(errors::utilization_too_high, used.millionths());
        const bool by_bandwidth = cpus_ > 1 || bandwidth.at_most(1, 1, 1);
        if (!by_bandwidth)
            EXO_TRY(processor_demand{admitted_}.check(used));
        millionths_ = used.millionths();
        by_bandwidth_ = by_bandwidth;
        return {};
    }

    reservations admitted_;
    unsigned cpus_;
    cpu_share share_;
    std::uint64_t millionths_{};
    bool by_bandwidth_{true};
};

} // namespace exo::sched
