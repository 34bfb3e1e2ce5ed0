// Finds CPUs that take no interrupts any more. On each a timer goes off once a period, whether the CPU idles or not: it
// counts that, and looks whether the next CPU has counted since the last look. One that has not for `patience` looks in
// a row is reported, once until it counts again; who found it looks after the one behind it, too.
//
// Looks are counted, not time: when the whole machine was stopped for a while, nobody is reported.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include <exo/base/time.hpp>

namespace exo::sched {

// Report: report(cpu), with interrupts off.
template <class Scheduler, class Report>
class watchdog {
public:
    static constexpr duration period = seconds(1);
    static constexpr unsigned patience = 10;

    class alignas(64) processor : Scheduler::timer {
    public:
        processor() : Scheduler::timer{&look} {}

    private:
        friend watchdog;

        static instant look(typename Scheduler::timer& t, instant now) noexcept
        {
            auto& self = static_cast<processor&>(t);
            self.beats_.store(self.beats_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
            self.by_->look_after(self);
            return now + period;
        }

        watchdog* by_{};
        std::atomic<std::uint64_t> beats_{};
        // By who looks after it.
        std::atomic<std::uint64_t> seen_{};
        std::atomic<unsigned> missed_{};
    };

    // There is a processor for each CPU.
    watchdog(std::span<processor> processors, Scheduler& scheduler, Report report)
        : processors_{processors}, scheduler_{scheduler}, report_{report}
    {
        for (processor& p : processors_)
            p.by_ = this;
    }
    ~watchdog()
    {
        for (processor& p : processors_)
            scheduler_.cancel(p);
    }
    watchdog(const watchdog&) = delete;
    watchdog& operator=(const watchdog&) = delete;

    // By each CPU, once; in a thread that does not leave `cpu`.
    void watch(unsigned cpu) noexcept { scheduler_.arm(processors_[cpu], scheduler_.now() + period); }

private:
    void look_after(const processor& looker) noexcept
    {
        const auto self = static_cast<std::size_t>(&looker - processors_.data());
        for (std::size_t i = 1; i < processors_.size(); ++i) {
            const std::size_t cpu = (self + i) % processors_.size();
            processor& p = processors_[cpu];
            const std::uint64_t beats = p.beats_.load(std::memory_order_relaxed);
            if (beats != p.seen_.load(std::memory_order_relaxed)) {
                p.seen_.store(beats, std::memory_order_relaxed);
                p.missed_.store(0, std::memory_order_relaxed);
                return;
            }
            const unsigned missed = p.missed_.load(std::memory_order_relaxed) + 1;
            if (missed <= patience)
                p.missed_.store(missed, std::memory_order_relaxed);
            if (missed == patience)
                report_(static_cast<unsigned>(cpu));
            if (missed < patience)
                return;
        }
    }

    std::span<processor> processors_;
    Scheduler& scheduler_;
    Report report_;
};

} // namespace exo::sched
