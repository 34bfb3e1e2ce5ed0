// The scheduler: threads, the CPUs they take turns on, and the time they sleep.
//
// It models hal::Parker (and hal::InterruptControl: restore() is a point of pre-emption), so whatever sleeps in the
// kernel sleeps here. Each CPU has a queue of its own, a SchedPolicy, that only this CPU touches, with interrupts off;
// what comes from elsewhere passes through the CPU's inbox. Kernel code is pre-emptible wherever interrupts are on, so
// it holds no spin lock there. The boot thread of each CPU becomes its idle thread in run().
//
// What the composition owes: it calls on_tick() from the timer interrupt and on_kick() from the one that Hooks::kick
// sends, and preempt_if_needed() before every return from an interrupt to code that had interrupts on.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include <exo/base/check.hpp>
#include <exo/base/time.hpp>
#include <exo/hal/clock.hpp>
#include <exo/hal/context.hpp>
#include <exo/hal/cpu_local.hpp>
#include <exo/hal/deadline_timer.hpp>
#include <exo/hal/idle.hpp>
#include <exo/hal/interrupt_control.hpp>
#include <exo/hal/parker.hpp>
#include <exo/sched/metrics.hpp>
#include <exo/sched/policy.hpp>
#include <exo/sched/task.hpp>
#include <exo/sched/timer_queue.hpp>
#include <exo/sync/inbox.hpp>
#include <exo/trace/counter.hpp>
#include <exo/trace/registry.hpp>

namespace exo::sched {

// What the composition does at the scheduler's turning points. Called with interrupts off; none may sleep.
//  - switching(previous, next): right before the registers change. Address space, FPU state and the stack for traps
//    change here.
//  - ended(task): nothing runs on the stack of this task any more, which ended: both may be freed.
//  - kick(cpu): make another CPU call on_kick() soon.
template <class T, class Task>
concept SchedulerHooks = requires(T& hooks, Task& task, unsigned cpu) {
    { hooks.switching(task, task) } noexcept -> std::same_as<void>;
    { hooks.ended(task) } noexcept -> std::same_as<void>;
    { hooks.kick(cpu) } noexcept -> std::same_as<void>;
};

template <SchedPolicy Policy, hal::Context Context, hal::InterruptControl Interrupts, hal::CpuLocal Cpu,
          hal::Clock Clock, hal::DeadlineTimer DeadlineTimer, hal::Idle Idle, class Hooks,
          class Recording = trace::recording>
class scheduler {
public:
    using timer = typename timer_queue<Interrupts>::timer;
    using state = typename Interrupts::state;

    class task : public task_info, public Policy::entity {
    public:
        using entry_function = void (*)(void* argument) noexcept;

        // `stack` outlives the task. The policy's parameters are set before start().
        task(std::string_view name, std::span<std::byte> stack, entry_function entry, void* argument)
            : task_info{name}, stack_{stack}, entry_{entry}, argument_{argument}
        {
        }
        ~task() { EXO_CHECK(state() == task_state::created || state() == task_state::ended); }

        [[nodiscard]] std::span<std::byte> stack() const { return stack_; }

    private:
        friend scheduler;

        // Ends the task's timed sleep.
        struct alarm : timer {
            explicit alarm(task& t) : timer{&ring}, sleeper{t} {}
            task& sleeper;
        };
        static instant ring(timer& t, instant) noexcept
        {
            task& sleeper = static_cast<alarm&>(t).sleeper;
            sleeper.scheduler_->unpark(&sleeper);
            return instant::never();
        }

        std::span<std::byte> stack_;
        entry_function entry_;
        void* argument_;
        scheduler* scheduler_{};
        typename Context::context context_{};
        sync::inbox_hook mail_;
        alarm alarm_{*this};
    };

    // What the scheduler keeps for one CPU. The caller supplies one for each that CpuLocal may name.
    class alignas(64) processor {
    public:
        // Snapshots, when read by another CPU.
        [[nodiscard]] duration idle_time() const noexcept { return idle_.run_time(); }
        [[nodiscard]] std::size_t waiting() const noexcept { return queue_.size(); }
        [[nodiscard]] const sched::metrics<Recording>& metrics() const noexcept { return metrics_; }

    private:
        friend scheduler;

        Policy queue_;
        task idle_{"idle", {}, nullptr, nullptr};
        task* current_{&idle_};
        task* previous_{}; // during a switch: who ran before
        instant charged_until_{};
        instant armed_{instant::never()}; // the hardware timer fires no later than this
        state initial_{};                 // interrupts as new tasks find them
        bool started_{};
        bool turn_over_{};
        std::atomic<bool> need_switch_{};
        timer_queue<Interrupts> timers_;
        [[no_unique_address]] sched::metrics<Recording> metrics_;
        alignas(64) sync::inbox<task, &task::mail_> inbox_;
    };

    scheduler(std::span<processor> processors, Context& context, Interrupts& interrupts, Cpu& cpu, Clock& clock,
              DeadlineTimer& deadline_timer, Idle& idle, Hooks& hooks)
        : processors_{processors}, context_{context}, interrupts_{interrupts}, cpu_{cpu}, clock_{clock},
          deadline_timer_{deadline_timer}, idle_{idle}, hooks_{hooks}
    {
        static_assert(SchedulerHooks<Hooks, task>);
    }
    scheduler(const scheduler&) = delete;
    scheduler& operator=(const scheduler&) = delete;

    // The calling thread, which holds interrupts enabled, becomes this CPU's idle thread; from here on the CPU runs
    // what is started. Returns when `stop()` is true at a time when nothing wants to run; it is asked with interrupts
    // off.
    template <class Stop>
    void run_until(Stop stop)
    {
        EXO_CHECK(interrupts_.enabled());
        const state saved = interrupts_.save_and_disable();
        processor& p = here();
        p.initial_ = saved;
        p.charged_until_ = clock_.now();
        p.started_ = true;
        for (;;) {
            reschedule(p, departure::yielded);
            if (stop())
                break;
            if (!p.need_switch_.load(std::memory_order_relaxed))
                idle_.halt_until_interrupt();
        }
        p.started_ = false;
        interrupts_.restore(saved);
    }
    [[noreturn]] void run()
    {
        run_until([] { return false; });
        __builtin_unreachable();
    }

    // `t` begins to run on this CPU, or on `cpu`, with interrupts enabled; it ends by exit_current(), at the latest
    // when its entry function returns.
    void start(task& t) { start_on(t, nullptr); }
    void start(task& t, unsigned cpu) { start_on(t, &cpu); }

    // The calling task ends. Hooks::ended gets it once another stack is in use.
    [[noreturn]] void exit_current() noexcept
    {
        (void)interrupts_.save_and_disable();
        processor& p = here();
        EXO_CHECK(p.current_ != &p.idle_);
        p.metrics_.tasks_ended.add();
        p.current_->state_.store(task_state::ended, std::memory_order_relaxed);
        leave(p);
        EXO_PANIC("a task that ended was resumed");
    }

    // Lets others of the same standing go first.
    void yield() noexcept
    {
        const state saved = interrupts_.save_and_disable();
        here().metrics_.yields.add();
        reschedule(here(), departure::yielded);
        interrupts_.restore(saved);
    }

    // hal::Parker.
    using thread = task*;
    [[nodiscard]] task* current() const noexcept
    {
        const state saved = interrupts_.save_and_disable();
        task* t = here().current_;
        interrupts_.restore(saved);
        return t;
    }

    void park(instant deadline) noexcept
    {
        const state saved = interrupts_.save_and_disable();
        processor& p = here();
        task& self = *p.current_;
        EXO_CHECK(&self != &p.idle_);
        const bool timed = deadline != instant::never();
        if (timed) {
            p.metrics_.timed_parks.add();
            if (p.timers_.arm(interrupts_, self.alarm_, deadline))
                arm_no_later(p, deadline);
        }
        self.arrival_ = arrival::woken;
        auto expected = task::token::none;
        if (self.token_.compare_exchange_strong(expected, task::token::parked, std::memory_order_acq_rel,
                                                std::memory_order_acquire)) {
            p.metrics_.parks.add();
            self.state_.store(task_state::parked, std::memory_order_relaxed);
            leave(p);
        } else {
            p.metrics_.parks_with_token.add();
        }
        self.token_.exchange(task::token::none, std::memory_order_acquire);
        if (timed)
            cancel(self.alarm_);
        interrupts_.restore(saved);
    }

    void unpark(task* t) noexcept
    {
        // Whoever finds the task parked brings it back; the token keeps others from doing so again before it runs.
        if (t->token_.exchange(task::token::set, std::memory_order_acq_rel) != task::token::parked)
            return;
        const state saved = interrupts_.save_and_disable();
        here().metrics_.wake_ups.add();
        send(*t);
        restore(saved);
    }

    [[nodiscard]] bool interrupted() const noexcept
    {
        return current()->interrupt_pending.load(std::memory_order_acquire);
    }
    [[nodiscard]] instant now() const noexcept { return clock_.now(); }

    // hal::InterruptControl. restore() to enabled lets a thread that was woken meanwhile go first.
    [[nodiscard]] state save_and_disable() noexcept { return interrupts_.save_and_disable(); }
    void restore(const state& saved) noexcept
    {
        interrupts_.restore(saved);
        if (interrupts_.enabled())
            preempt_if_needed();
    }
    [[nodiscard]] bool enabled() noexcept { return interrupts_.enabled(); }

    // A timer that calls its handler on this CPU at `deadline`. Calls of arm and cancel for one timer exclude each
    // other.
    void arm(timer& t, instant deadline) noexcept
    {
        const state saved = interrupts_.save_and_disable();
        processor& p = here();
        if (p.timers_.arm(interrupts_, t, deadline))
            arm_no_later(p, deadline);
        interrupts_.restore(saved);
    }
    // Afterwards the handler is not running and will not run. True when it had still been to come.
    bool cancel(timer& t) noexcept { return timer_queue<Interrupts>::cancel(interrupts_, t); }

    // From interrupt handlers of this CPU, interrupts off.
    void on_tick() noexcept
    {
        processor& p = here();
        const instant now = clock_.now();
        p.metrics_.ticks.add();
        p.armed_ = instant::never();
        charge(p, now);
        p.timers_.expire(interrupts_, now);
        arm_no_later(p, p.timers_.next(interrupts_));
        if (p.turn_over_)
            p.need_switch_.store(true, std::memory_order_relaxed);
        else
            arm_for_turn(p);
    }
    void on_kick() noexcept
    {
        processor& p = here();
        p.inbox_.drain([&](task& t) { admit(p, t); });
    }

    // Switches if a better thread waits. No spin lock is held; interrupts are on, or off because the caller is about to
    // return from an interrupt that found them on, and has acknowledged it.
    void preempt_if_needed() noexcept
    {
        if (!here().need_switch_.load(std::memory_order_relaxed)) // of whatever CPU: it is only a hint
            return;
        const state saved = interrupts_.save_and_disable();
        processor& p = here();
        if (p.started_ && p.need_switch_.load(std::memory_order_relaxed))
            reschedule(p, departure::preempted);
        interrupts_.restore(saved);
    }

    // `t` has not started or belongs to the calling CPU. From a thread with interrupts on.
    void reconfigure(task& t, const typename Policy::parameters& parameters) noexcept
    {
        const state saved = interrupts_.save_and_disable();
        processor& p = here();
        EXO_CHECK(t.state() == task_state::created || &processors_[t.cpu()] == &p);
        typename Policy::entity& entity = t;
        if (t.state() != task_state::ready) {
            entity.set(parameters);
        } else {
            charge(p, clock_.now());
            p.queue_.dequeue(entity);
            entity.set(parameters);
            p.queue_.enqueue(entity, arrival::moved, p.charged_until_);
            if (&t == p.current_)
                switch_to_next(p, false);
            else
                see_whether_it_preempts(p, t);
        }
        restore(saved);
    }

    // For reading: queue lengths, idle time.
    [[nodiscard]] std::span<const processor> processors() const { return processors_; }
    // For a trace::registry: the metrics of all CPUs.
    using metrics_source = trace::table_source<sched::metrics<Recording>>;
    [[nodiscard]] metrics_source make_metrics_source() const
    {
        using counters = sched::metrics<Recording>;
        std::span<const trace::table_row<counters>> table;
        if constexpr (Recording::on)
            table = counters::table;
        return {table, processors_[0].metrics_, processors_.size(), sizeof(processor)};
    }

private:
    // Of the calling CPU; interrupts are off wherever it is used for more than a hint.
    [[nodiscard]] processor& here() const noexcept { return processors_[cpu_.current_cpu()]; }

    void start_on(task& t, const unsigned* cpu)
    {
        EXO_CHECK(t.state() == task_state::created);
        const state saved = interrupts_.save_and_disable();
        t.scheduler_ = this;
        t.cpu_.store(cpu ? *cpu : cpu_.current_cpu(), std::memory_order_relaxed);
        context_.prepare(t.context_, t.stack_, &enter, &t);
        here().metrics_.tasks_started.add();
        send(t);
        restore(saved);
    }

    // A ready task goes to its CPU. Interrupts are off.
    void send(task& t) noexcept
    {
        processor& p = here();
        processor& home = processors_[t.cpu_.load(std::memory_order_relaxed)];
        if (&home == &p) {
            admit(p, t);
            return;
        }
        p.metrics_.remote_wake_ups.add();
        if (home.inbox_.push(t)) {
            p.metrics_.kicks.add();
            hooks_.kick(static_cast<unsigned>(&home - processors_.data()));
        }
    }
    void accept(processor& p, task& t) noexcept
    {
        t.state_.store(task_state::ready, std::memory_order_relaxed);
        p.queue_.enqueue(t, t.arrival_, clock_.now());
    }
    void admit(processor& p, task& t) noexcept
    {
        accept(p, t);
        see_whether_it_preempts(p, t);
    }
    void see_whether_it_preempts(processor& p, task& t) noexcept
    {
        if (p.current_ == &p.idle_ || p.queue_.preempts(t, *p.current_))
            p.need_switch_.store(true, std::memory_order_relaxed);
        else
            arm_for_turn(p);
    }

    // An interrupt that comes too early is harmless, so the hardware is touched only to have one earlier.
    void arm_no_later(processor& p, instant deadline) noexcept
    {
        if (deadline < p.armed_) {
            p.armed_ = deadline;
            p.metrics_.timers_armed.add();
            deadline_timer_.arm(deadline);
        }
    }
    void arm_for_turn(processor& p) noexcept
    {
        if (p.current_ != &p.idle_)
            arm_no_later(p, p.queue_.turn_ends(*p.current_, p.charged_until_));
    }

    void charge(processor& p, instant now) noexcept
    {
        task& t = *p.current_;
        const duration ran = now - p.charged_until_;
        p.charged_until_ = now;
        t.run_time_.store(t.run_time_.load(std::memory_order_relaxed) + ran.nanoseconds(), std::memory_order_relaxed);
        if (&t != &p.idle_ && p.queue_.tick(t, ran, now))
            p.turn_over_ = true;
    }

    // The current thread stays ready, and the best one continues.
    void reschedule(processor& p, departure why) noexcept
    {
        charge(p, clock_.now());
        p.inbox_.drain([&](task& t) { accept(p, t); });
        task& self = *p.current_;
        if (&self != &p.idle_) {
            if (p.turn_over_ && why == departure::preempted)
                why = departure::turn_over;
            if (why == departure::turn_over)
                p.metrics_.turns_over.add();
            p.queue_.requeue(self, why, p.charged_until_);
        }
        switch_to_next(p, why == departure::yielded);
    }
    // The current thread parks or ends.
    void leave(processor& p) noexcept
    {
        charge(p, clock_.now());
        p.queue_.dequeue(*p.current_);
        p.inbox_.drain([&](task& t) { accept(p, t); });
        switch_to_next(p, true);
    }

    // The current thread is queued, parked, ended or idle. Returns when it is picked again.
    void switch_to_next(processor& p, bool voluntary) noexcept
    {
        task* previous = p.current_;
        auto* next = static_cast<task*>(p.queue_.pick(p.charged_until_));
        if (!next)
            next = &p.idle_;
        p.current_ = next;
        p.turn_over_ = false;
        p.need_switch_.store(false, std::memory_order_relaxed);
        arm_for_turn(p);
        if (next == previous)
            return;
        p.previous_ = previous;
        p.metrics_.switches.add();
        if (voluntary) {
            previous->voluntary_switches_.add();
            p.metrics_.voluntary_switches.add();
        } else {
            previous->involuntary_switches_.add();
            p.metrics_.involuntary_switches.add();
        }
        hooks_.switching(*previous, *next);
        context_.switch_to(previous->context_, next->context_);
        finish_switch();
    }
    // On the new stack.
    void finish_switch() noexcept
    {
        task* previous = here().previous_;
        if (previous->state() == task_state::ended)
            hooks_.ended(*previous);
    }
    static void enter(void* argument) noexcept
    {
        task& self = *static_cast<task*>(argument);
        scheduler& s = *self.scheduler_;
        s.finish_switch();
        s.interrupts_.restore(s.here().initial_);
        self.entry_(self.argument_);
        s.exit_current();
    }

    std::span<processor> processors_;
    Context& context_;
    Interrupts& interrupts_;
    Cpu& cpu_;
    Clock& clock_;
    DeadlineTimer& deadline_timer_;
    Idle& idle_;
    Hooks& hooks_;
};

} // namespace exo::sched
