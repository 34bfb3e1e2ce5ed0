// CPUs that run on one host thread, in virtual time: the machine that a simulated kernel schedules on.
//
// One object models InterruptControl, CpuLocal, Clock, DeadlineTimer and Idle. Code takes no time except where it says
// so, by spend(); the CPU whose next event is the earliest goes on. Interrupts arrive as on hardware: when they are due
// and enabled, in the middle of whatever runs there. The same inputs give the same run; explore(seed) also moves
// between CPUs, and lets time pass, at any point where interrupts are on. With interrupts off a CPU goes on alone,
// except where it waits for others (virtual_atomics, virtual_calls).

#pragma once

#include <algorithm>
#include <cstddef>
#include <deque>
#include <functional>
#include <random>
#include <utility>
#include <vector>

#include <exo/base/check.hpp>
#include <exo/base/time.hpp>
#include <exo/hal/clock.hpp>
#include <exo/hal/cpu_local.hpp>
#include <exo/hal/deadline_timer.hpp>
#include <exo/hal/idle.hpp>
#include <exo/hal/interrupt_control.hpp>
#include <exo/sim/agenda.hpp>
#include <exo/sim/context.hpp>
#include <exo/sim/large_pages.hpp>
#include <exo/sync/held_locks.hpp>
#include <exo/sync/lock_observer.hpp>

namespace exo::sim {

class virtual_cpus {
public:
    using handler = std::function<void()>;

    explicit virtual_cpus(unsigned count) : stacks_(count * stack_stride), cpus_(count), events_{count} {}
    virtual_cpus(const virtual_cpus&) = delete;
    virtual_cpus& operator=(const virtual_cpus&) = delete;

    // What a kernel does on a timer interrupt, and before it returns from any interrupt.
    void connect(handler on_tick, handler before_return)
    {
        on_tick_ = std::move(on_tick);
        before_return_ = std::move(before_return);
    }
    // CPU `cpu` starts with main(), interrupts on; when that returns, it halts for good.
    void boot(unsigned cpu, handler main)
    {
        virtual_cpu& c = cpus_[cpu];
        EXO_CHECK(!c.owner);
        c.owner = this;
        c.main = std::move(main);
        c.resumes = now_;
        fibers_.prepare(c.at, {stacks_.data() + cpu * stack_stride, stack_size}, &begin, &c);
        schedule(c);
    }

    // Runs the CPUs until stop() is true between two of their steps (true), or until all have halted and nothing is to
    // come (false). May be called again after that.
    template <class Stop>
    bool run_until(Stop stop)
    {
        EXO_CHECK(!running_);
        const entered until_return{*this};
        while (!stop()) {
            virtual_cpu* next = earliest();
            if (!next)
                return false;
            now_ = std::max(now_, next->event());
            running_ = next;
            prepare_for_next();
            fibers_.switch_to(host_, next->at);
            running_ = nullptr;
            schedule(*next);
        }
        return true;
    }
    // Until everything has come to rest.
    void run()
    {
        (void)run_until([] { return false; });
    }

    // When the next step of a CPU is due; never() when all have halted.
    [[nodiscard]] instant next_event() const { return std::max(events_.least(), now_); }

    // Has `on_interrupt` run on a CPU as an interrupt handler, as soon as its interrupts are on.
    void interrupt(unsigned cpu, handler on_interrupt)
    {
        virtual_cpu& c = cpus_[cpu];
        c.posted.push_back(std::move(on_interrupt));
        schedule(c);
    }

    // The running code computes for `time`; interrupts may come in between, and their time does not count.
    void spend(duration time)
    {
        while (time > duration{})
            time = spend_uninterrupted(time);
    }
    // The same until something has interrupted it, if that is earlier. How much time is left.
    [[nodiscard]] duration spend_uninterrupted(duration time)
    {
        const instant from = now_;
        pause(now_ + time);
        time = time - (now_ - from);
        deliver(true);
        return time;
    }
    // Interrupts on, by the instruction that goes on with what computes: what is pending comes upon that. Whether
    // something did.
    [[nodiscard]] bool go_on_computing() noexcept
    {
        EXO_CHECK(!running_->enabled);
        running_->enabled = true;
        const bool due = running_->due(now_);
        deliver(true);
        return due;
    }
    // For on_tick: whether it came upon spend().
    [[nodiscard]] bool interrupted_computation() const noexcept { return interrupted_computation_; }
    // Time goes on for all; what is due meanwhile comes late.
    void let_pass(duration time) { now_ = now_ + time; }
    void explore(unsigned seed)
    {
        exploring_ = true;
        random_.seed(seed);
    }
    // When exploring others may go on here, as between any two instructions; whether they did. With interrupts on.
    bool wander(bool computing = false) noexcept
    {
        if (!exploring_ || random_() % 4 != 0)
            return false;
        pause(now_ + nanoseconds(random_() % 2 ? 0 : static_cast<int>(random_() % 50'000)));
        deliver(computing);
        return true;
    }
    // The running code waits for what another CPU does, maybe with interrupts off: the others go on for a moment.
    void wait_for_others() noexcept
    {
        if constexpr (sync::locks_are_checked) // who goes on may want it, and would wait for ever
            EXO_CHECK(!sync::kept_in(running_->locks)->lowest());
        pause(now_ + nanoseconds(exploring_ ? 1 + static_cast<int>(random_() % 1000) : 100));
        deliver();
    }
    // The machine that runs the call, if one does.
    [[nodiscard]] static virtual_cpus* here() noexcept { return here_; }

    // hal::InterruptControl. Outside of run the caller stands in for CPU 0 with interrupts off.
    using state = bool;
    [[nodiscard]] state save_and_disable() noexcept
    {
        if (enabled())
            wander();
        return running_ && std::exchange(running_->enabled, false);
    }
    void restore(const state& saved) noexcept
    {
        EXO_CHECK(running_ || !saved);
        if (!saved)
            return;
        EXO_CHECK(!running_->enabled); // they nest
        if constexpr (sync::locks_are_checked)
            sync::enforce(sync::misuse_by_enabling_interrupts(*this));
        running_->enabled = true;
        deliver();
        wander();
    }
    [[nodiscard]] bool enabled() const noexcept { return running_ && running_->enabled; }
    [[nodiscard]] sync::held_locks* held_spin_locks() noexcept
    {
        return running_ ? sync::kept_in(running_->locks) : nullptr;
    }
    [[nodiscard]] sync::lock_counters* lock_counters() noexcept
    {
        return running_ ? lock_counters(current_cpu()) : nullptr;
    }
    [[nodiscard]] sync::lock_counters* lock_counters(unsigned cpu) noexcept
    {
        return sync::kept_in(cpus_[cpu].lock_counts);
    }

    // hal::CpuLocal, Clock, DeadlineTimer, Idle.
    [[nodiscard]] unsigned current_cpu() const noexcept
    {
        return running_ ? static_cast<unsigned>(running_ - cpus_.data()) : 0;
    }
    [[nodiscard]] unsigned cpu_limit() const noexcept { return static_cast<unsigned>(cpus_.size()); }
    [[nodiscard]] instant now() const noexcept { return now_; }
    void arm(instant deadline) noexcept
    {
        virtual_cpu& c = cpus_[current_cpu()];
        c.deadline = deadline;
        schedule(c);
    }
    // When exploring; else it has had enough at once.
    template <class Done>
    void poll(Done&& done) noexcept
    {
        EXO_CHECK(running_->enabled);
        while (exploring_ && random_() % 16 != 0 && !done()) {
            pause(now_ + nanoseconds(static_cast<int>(random_() % 20'000)));
            deliver();
        }
    }
    void halt_until_interrupt() noexcept
    {
        EXO_CHECK(!running_->enabled);
        running_->enabled = true;
        if (!running_->due(now_))
            pause(instant::never());
        deliver();
        running_->enabled = false;
    }

private:
    static constexpr std::size_t stack_size = 256 * 1024;
    // The tops of stacks fall into different sets of the host's caches.
    static constexpr std::size_t stack_stride = stack_size + 1088;

    struct virtual_cpu {
        fibers::context at; // where it stands while another CPU goes on
        virtual_cpus* owner{}; // once it is booted
        handler main;
        bool enabled{true};
        instant resumes{instant::never()};
        instant deadline{instant::never()};
        std::deque<handler> posted;
        [[no_unique_address]] sync::held_locks_if_checked locks;
        [[no_unique_address]] sync::lock_counters_if_counted lock_counts;

        [[nodiscard]] bool due(instant now) const { return !posted.empty() || deadline <= now; }
        [[nodiscard]] instant event() const
        {
            if (!enabled)
                return resumes;
            return posted.empty() ? std::min(resumes, deadline) : instant{};
        }
    };

    class entered {
    public:
        explicit entered(virtual_cpus& machine) : before_{std::exchange(here_, &machine)} {}
        entered(const entered&) = delete;
        entered& operator=(const entered&) = delete;
        ~entered() { here_ = before_; }

    private:
        virtual_cpus* before_;
    };

    // Whoever is likely to go on after the one that runs has its stack in the host's cache by then.
    void prepare_for_next()
    {
        events_.set(current_cpu(), instant::never());
        if (events_.least() != instant::never())
            fibers_.prefetch(cpus_[events_.first(events_.least())].at);
    }
    // To be called when what decides about its next event has changed; the one that runs has none until it pauses.
    void schedule(const virtual_cpu& c)
    {
        if (&c != running_ && c.owner)
            events_.set(static_cast<unsigned>(&c - cpus_.data()), c.event());
    }
    // Of those that are due at the same time the first; any of them when exploring.
    virtual_cpu* earliest()
    {
        if (events_.least() == instant::never())
            return nullptr;
        const instant bound = std::max(events_.least(), now_);
        unsigned chosen = events_.first(bound);
        if (exploring_) {
            unsigned equals = 0;
            events_.visit_until(bound, [&](unsigned cpu) {
                if (random_() % ++equals == 0)
                    chosen = cpu;
            });
        }
        return &cpus_[chosen];
    }

    // The other CPUs go on; returns at `until`, or when an interrupt is due.
    void pause(instant until) noexcept
    {
        running_->resumes = until;
        fibers_.switch_to(running_->at, host_);
    }

    // Each handler may end on another CPU than it began.
    void deliver(bool computing = false) noexcept
    {
        while (running_->enabled && running_->due(now_)) {
            running_->enabled = false;
            if (running_->deadline <= now_) {
                running_->deadline = instant::never();
                interrupted_computation_ = computing;
                on_tick_();
            } else {
                const handler next = std::move(running_->posted.front());
                running_->posted.pop_front();
                next();
            }
            before_return_();
            running_->enabled = true;
        }
    }

    static void begin(void* argument) noexcept
    {
        virtual_cpu& c = *static_cast<virtual_cpu*>(argument);
        c.main();
        for (;;)
            c.owner->pause(instant::never());
    }

    static inline thread_local virtual_cpus* here_ = nullptr;

    fibers fibers_;
    fibers::context host_;
    large_page_vector<std::byte> stacks_;
    large_page_vector<virtual_cpu> cpus_;
    agenda events_;
    virtual_cpu* running_{};
    instant now_{};
    handler on_tick_{[] {}};
    handler before_return_{[] {}};
    bool interrupted_computation_{};
    bool exploring_{};
    std::mt19937 random_;
};
static_assert(hal::InterruptControl<virtual_cpus> && hal::CpuLocal<virtual_cpus> && hal::Clock<virtual_cpus> &&
              hal::DeadlineTimer<virtual_cpus> && hal::PollingIdle<virtual_cpus>);

} // namespace exo::sim
