// The scheduler: threads, the CPUs they take turns on, and the time they sleep.
//
// It models hal::Parker (and hal::InterruptControl: restore() is a point of pre-emption), so whatever sleeps in the
// kernel sleeps here. Each CPU has a queue of its own, a SchedPolicy, that only this CPU touches, with interrupts off;
// what comes from elsewhere, threads, changes of their parameters, and other CPUs' requests for work, passes through
// inboxes. Kernel code is pre-emptible wherever interrupts are on, so it holds no spin lock there, and may go on on
// another CPU. The boot thread of each CPU becomes its idle thread in run().
//
// A thread goes where the balancer (sched/balancer.hpp) sees a place for it: when it is started or woken, to an idle
// CPU, its own before others; when it is urgent, to where the least urgent runs. A CPU that has nothing to run asks one
// that has too much, and one whose threads wait hands some on every balance_interval, until loads are even. A thread
// whose stack is in use still (it was woken while it went to sleep) comes back to the CPU that it leaves.
//
// A CPU that had something to run again soon, the last time that it had nothing, polls for a while before it halts, and
// is sent no interrupt meanwhile: to have a CPU come back from a halt takes long, in a virtual machine most of all.
//
// What the composition owes: it calls on_tick() from the timer interrupt and on_kick() from the one that Hooks::kick
// sends, and preempt_if_needed() before every return from an interrupt to code that had interrupts on.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include <exo/base/check.hpp>
#include <exo/base/result.hpp>
#include <exo/base/static_vector.hpp>
#include <exo/base/time.hpp>
#include <exo/hal/atomics.hpp>
#include <exo/hal/clock.hpp>
#include <exo/hal/context.hpp>
#include <exo/hal/cpu_local.hpp>
#include <exo/hal/deadline_timer.hpp>
#include <exo/hal/idle.hpp>
#include <exo/hal/interrupt_control.hpp>
#include <exo/hal/parker.hpp>
#include <exo/hal/topology.hpp>
#include <exo/sched/balancer.hpp>
#include <exo/sched/change_notice.hpp>
#include <exo/sched/doorbell.hpp>
#include <exo/sched/errors.hpp>
#include <exo/sched/inheritance.hpp>
#include <exo/sched/metrics.hpp>
#include <exo/sched/policy.hpp>
#include <exo/sched/task.hpp>
#include <exo/sched/timer_queue.hpp>
#include <exo/sync/held_locks.hpp>
#include <exo/sync/inbox.hpp>
#include <exo/sync/lock_observer.hpp>
#include <exo/sync/lock_rank.hpp>
#include <exo/sync/spin_lock.hpp>
#include <exo/trace/counter.hpp>
#include <exo/trace/registry.hpp>

namespace exo::sched {

template <class Scheduler, sync::lock_rank Rank, class Observer>
class inheriting_mutex;

// The turn of a thread that a switch begins.
struct turn_start {
    instant at;
    instant woken; // when it became ready; never() if it did not have to be woken for this turn
};

// What the composition does at the scheduler's turning points. Called with interrupts off; none may sleep.
//  - switching(previous, next, turn_start): right before the registers change. Address space, FPU state and the stack
//    for traps change here. It may unpark `previous` if that did not park: then its next park() returns at once. It
//    wakes nobody, since the queues may not change while `previous` is on its stack still.
//  - ended(task): nothing runs on the stack of this task any more, which ended: both may be freed.
//  - kick(cpu): make another CPU call on_kick() soon.
template <class T, class Task>
concept SchedulerHooks = requires(T& hooks, Task& task, const turn_start& begins, unsigned cpu)
{
    {
        hooks.switching(task, task, begins)
    }
    noexcept->std::same_as<void>;
    { hooks.ended(task) } noexcept -> std::same_as<void>;
    { hooks.kick(cpu) } noexcept -> std::same_as<void>;
};

template <SchedPolicy Policy, hal::Topology Topology, hal::Context Context, hal::InterruptControl Interrupts,
          hal::CpuLocal Cpu, hal::Clock Clock, hal::DeadlineTimer DeadlineTimer, hal::Idle Idle, class Hooks,
          class Recording = trace::recording, hal::Atomics Atomics = hal::standard_atomics>
class scheduler {
    template <class T>
    using atomic = typename Atomics::template atomic<T>;
    using info = task_info<Atomics>;
    using timers = timer_queue<Interrupts, Atomics>;
    using balancer = sched::balancer<Topology, Atomics>;

public:
    using atomics = Atomics;
    using counters = sched::metrics<Recording>;
    using timer = typename timers::timer;
    using state = typename Interrupts::state;
    using cpu_set = typename Topology::set_type;
    using parameters_type = typename Policy::parameters;
    using inheritance_type = inheritance<Policy>;

    static constexpr duration balance_interval = milliseconds(4);
    // A thread that ran so short a time ago may have its working set in its CPU's caches.
    static constexpr duration cache_hot = microseconds(500);
    // A CPU that has nothing to run polls for so long before it halts, if it had something again as soon the last time
    // (Linux's haltpoll, drivers/cpuidle/governors/haltpoll.c, has the same limit).
    static constexpr duration poll_limit = microseconds(200);

    class task : public task_info<Atomics>, public Policy::entity, public inheritance_type::holder {
    public:
        using entry_function = void (*)(void* argument) noexcept;

        // `stack` outlives the task. The policy's parameters, by set(), and the affinity are chosen before start().
        task(std::string_view name, std::span<std::byte> stack, entry_function entry, void* argument)
            : info{name}, stack_{stack}, entry_{entry}, argument_{argument}
        {
        }
        ~task() { EXO_CHECK(info::state() == task_state::created || info::state() == task_state::ended); }

        void set_affinity(const cpu_set& cpus)
        {
            EXO_CHECK(info::state() == task_state::created);
            affinity_ = cpus;
        }
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
            sleeper.scheduler_->template note<&counters::timeouts>();
            sleeper.scheduler_->unpark(&sleeper);
            return instant::never();
        }

        // What each turn touches, in as few lines of the cache as can be.
        scheduler* scheduler_{};
        typename Context::context context_{};
        atomic<bool> queued_{}; // in its CPU's queue, or running from it
        atomic<bool> on_cpu_{}; // its stack is in use
        atomic<bool> changed_{};
        bool urgent_{};
        std::uint32_t weight_{};      // as it counts in the load of the CPU that has it
        std::uint32_t sent_weight_{}; // as it counts on its way
        instant ran_until_{};
        instant woken_at_{instant::never()}; // until it runs
        sync::basic_inbox_hook<Atomics> mail_;
        alarm alarm_{*this};
        cpu_set affinity_{cpu_set::first(cpu_set::limit)}; // as the CPU that has it knows

        std::span<std::byte> stack_;
        entry_function entry_;
        void* argument_;
        // What it is to have beside its effective parameters, under changes_lock_; if `changed_`, whoever has the task
        // takes it over.
        cpu_set wanted_affinity_{};
        change_notice<Atomics> notice_;
        sync::basic_inbox_hook<Atomics> notice_hook_;
    };

    // What the scheduler keeps for one CPU. The caller supplies one for each that CpuLocal may name.
    class alignas(64) processor {
    public:
        // Snapshots, when read by another CPU.
        [[nodiscard]] duration idle_time() const noexcept { return idle_.run_time(); }
        [[nodiscard]] std::size_t waiting() const noexcept { return queue_.size(); }
        [[nodiscard]] const Policy& queue() const noexcept { return queue_; }
        [[nodiscard]] const counters& metrics() const noexcept { return metrics_; }

    private:
        friend scheduler;

        cpu_set asked_{}; // for work, since this CPU ran out of it
        Policy queue_;
        task idle_{"idle", {}, nullptr, nullptr};
        task* current_{&idle_};
        task* previous_{}; // during a switch: who ran before
        instant charged_until_{};
        instant armed_{instant::never()}; // the hardware timer fires no later than this
        state initial_{};                 // interrupts as new tasks find them
        bool may_preempt_{}; // else the idle thread switches by itself
        bool turn_over_{};
        bool waiting_{};   // threads, at the last look
        bool asked_any_{}; // `asked_` has members
        bool displaced_{}; // an urgent thread waits that another CPU might run
        unsigned urgent_{};
        instant opens_{instant::never()}; // while its queue is closed to some
        instant balance_due_{};
        unsigned passed_over_{}; // of the threads that wait, by the next pass
        unsigned looked_at_{};   // where the next search for a lighter CPU begins
        atomic<bool> need_switch_{};
        timers timers_;
        [[no_unique_address]] counters metrics_;
        duration rested_{}; // altogether, when it last had nothing to run
        alignas(64) sync::inbox<task, &task::mail_, Atomics> inbox_;
        doorbell<Atomics> bell_; // in place of a kick, while it polls
        sync::inbox<task, &task::notice_hook_, Atomics> changes_;
        // This CPU's request for work that goes before what it runs, at most one under way; those of others.
        sync::basic_inbox_hook<Atomics> request_;
        sync::inbox<processor, &processor::request_, Atomics> requests_;
        std::uint64_t request_rank_{}; // of urgent ones that it may run
        bool requests_others_{};       // too, since it idles
        atomic<bool> requesting_{};
        typename balancer::notice notice_;
    };

    // There is a processor for each CPU of `topology`.
    scheduler(std::span<processor> processors, const Topology& topology, Context& context, Interrupts& interrupts, Cpu& cpu, Clock& clock,
              DeadlineTimer& deadline_timer, Idle& idle, Hooks& hooks)
        : processors_{processors}, balancer_{topology, processors[0].notice_, sizeof(processor)}, context_{context},
          interrupts_{interrupts}, cpu_{cpu}, clock_{clock}, deadline_timer_{deadline_timer}, idle_{idle}, hooks_{hooks}
    {
        static_assert(SchedulerHooks<Hooks, task>);
        EXO_CHECK(processors.size() == topology.cpu_count());
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
        p.may_preempt_ = true;
        for (;;) {
            reschedule(p, departure::yielded);
            if (stop())
                break;
            if (many())
                ask_for_work(p);
            if (!p.need_switch_.load(std::memory_order_relaxed))
                rest(p);
        }
        p.may_preempt_ = false;
        interrupts_.restore(saved);
    }
    [[noreturn]] void run()
    {
        run_until([] { return false; });
        __builtin_unreachable();
    }

    // `t` begins to run, with interrupts enabled, near this CPU, or on `cpu` if it may run there; it ends by
    // exit_current(), at the latest when its entry function returns.
    void start(task& t) { start_on(t, std::nullopt); }
    void start(task& t, unsigned cpu) { start_on(t, cpu); }

    // The calling task ends. Hooks::ended gets it once another stack is in use.
    [[noreturn]] void exit_current() noexcept
    {
        (void)interrupts_.save_and_disable();
        processor& p = here();
        EXO_CHECK(p.current_ != &p.idle_);
        p.metrics_.tasks_ended.add();
        if constexpr (Recording::on)
            tasks_alive_.fetch_sub(1, std::memory_order_relaxed);
        p.current_->state_.store(task_state::ended, std::memory_order_relaxed);
        leave(p);
        EXO_PANIC("a task that ended was resumed");
    }

    // Lets others of the same standing go first.
    [[gnu::hot]] void yield() noexcept
    {
        const state saved = interrupts_.save_and_disable();
        processor& p = here();
        p.metrics_.yields.add();
        reschedule(p, departure::yielded);
        interrupts_.restore(saved);
    }

    // hal::Parker.
    using thread = task*;
    [[nodiscard, gnu::hot]] task* current() const noexcept
    {
        const state saved = interrupts_.save_and_disable();
        task* t = here().current_;
        interrupts_.restore(saved);
        return t;
    }

    [[gnu::hot]] void park(instant deadline) noexcept
    {
        if constexpr (sync::locks_are_checked)
            sync::enforce(sync::misuse_by_sleeping(*this));
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

    // A thread that runs on another CPU is interrupted there if its interrupt_pending is set.
    [[gnu::hot]] void unpark(task* t) noexcept
    {
        const state saved = interrupts_.save_and_disable();
        if (take_from_sleep(*t))
            wake(here(), *t);
        else if (many() && t->interrupt_pending.load(std::memory_order_relaxed))
            interrupt(here(), *t);
        restore(saved);
    }

    [[nodiscard]] bool interrupted() const noexcept
    {
        return current()->interrupt_pending.load(std::memory_order_acquire);
    }
    [[nodiscard]] instant now() const noexcept { return clock_.now(); }

    // hal::InterruptControl. restore() to enabled lets a thread that was woken meanwhile go first.
    [[nodiscard]] state save_and_disable() noexcept { return interrupts_.save_and_disable(); }
    [[gnu::hot]] void restore(const state& saved) noexcept
    {
        interrupts_.restore(saved);
        if (interrupts_.enabled())
            preempt_if_needed();
    }
    [[nodiscard]] bool enabled() noexcept { return interrupts_.enabled(); }

    // For sync/held_locks.hpp and lock_counters.hpp. Before it runs threads a CPU takes sleeping locks as it likes.
    [[nodiscard]] sync::held_locks* held_spin_locks() noexcept { return sync::held_spin_locks(interrupts_); }
    [[nodiscard]] sync::lock_counters* lock_counters() noexcept { return sync::lock_counters_of(interrupts_); }
    [[nodiscard]] sync::held_locks* held_sleeping_locks() noexcept
    {
        const state saved = interrupts_.save_and_disable();
        processor& p = here();
        sync::held_locks* const held = p.may_preempt_ ? sync::kept_in(p.current_->locks) : nullptr;
        interrupts_.restore(saved);
        return held;
    }

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
    bool cancel(timer& t) noexcept { return timers::cancel(interrupts_, t); }

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
        if (p.waiting_)
            balance(p, now);
        if (p.turn_over_ || now >= p.queue_.next_release() || now >= p.opens_)
            p.need_switch_.store(true, std::memory_order_relaxed);
        else
            arm_for_turn(p);
    }
    [[gnu::hot]] void on_kick() noexcept
    {
        processor& p = here();
        const instant now = clock_.now();
        drain_inbox(p, [&](task& t) { admit(p, t, now); });
        p.changes_.drain([&](task& t) { take_over_change(p, t, now); });
        p.requests_.drain([&](processor& thief) { answer(p, thief, now); });
        if (many() && p.current_ != &p.idle_)
            ask_for_urgent(p, rank_of_use(p));
    }

    // Switches if a better thread waits. No spin lock is held; interrupts are on, or off because the caller is about to
    // return from an interrupt that found them on, and has acknowledged it.
    [[gnu::hot]] void preempt_if_needed() noexcept
    {
        if (!here().need_switch_.load(std::memory_order_relaxed)) // of whatever CPU: it is only a hint
            return;
        const state saved = interrupts_.save_and_disable();
        processor& p = here();
        if (p.may_preempt_ && p.need_switch_.load(std::memory_order_relaxed))
            reschedule(p, departure::preempted);
        interrupts_.restore(saved);
    }

    // From now on `t` is to have these, whatever it does at this time: at once when it belongs to the calling CPU, else
    // as soon as its CPU hears of it. A thread that runs where it no longer may leaves as soon as it can. `t` does not
    // end meanwhile. From a thread, or with interrupts off.
    // What `t` inherits as the holder of a lock it keeps until it lets go.
    void set_parameters(task& t, const parameters_type& parameters) noexcept
    {
        change_inheritance([&](auto changed) {
            if constexpr (Recording::on)
                record_change(t.scheduler_ ? t.base() : t.parameters(), parameters);
            if (t.scheduler_)
                inheritance_type::set_base(t, parameters, changed);
            else
                t.Policy::entity::set(parameters);
            return static_cast<task*>(nullptr);
        });
    }
    // Of the CPUs in `cpus` those count that exist; the rest may be there or not. Errors: no_allowed_cpu_online
    // (context: how many exist).
    [[nodiscard]] result<void> set_affinity(task& t, const cpu_set& cpus) noexcept
    {
        if ((cpus & all_cpus()).empty()) {
            const error e{errors::no_allowed_cpu_online, processors_.size()};
            count(e);
            return fail(e);
        }
        change([&](auto changed) {
            changed.here.metrics_.affinity_changes.add();
            t.wanted_affinity_ = cpus;
            if (t.scheduler_)
                changed(t);
            else
                t.affinity_ = cpus;
            return static_cast<task*>(nullptr);
        });
        return {};
    }
    // What was asked for last.
    [[nodiscard]] parameters_type parameters(const task& t) noexcept
    {
        auto guard = changes_lock_.lock(interrupts_);
        return t.scheduler_ ? t.base() : t.parameters();
    }
    [[nodiscard]] cpu_set affinity(const task& t) noexcept
    {
        auto guard = changes_lock_.lock(interrupts_);
        return t.scheduler_ ? t.wanted_affinity_ : t.affinity_;
    }

    // An error that the caller reports of threads counts among the scheduler's.
    void count(error e) noexcept
    {
        if constexpr (Recording::on) {
            const state saved = interrupts_.save_and_disable();
            here().metrics_.count(e);
            interrupts_.restore(saved);
        }
    }

    // Whether it is the calling CPU's idle thread. With interrupts off.
    [[nodiscard]] bool idles(const task& t) const noexcept { return &t == &here().idle_; }

    // For reading: queue lengths, idle time.
    [[nodiscard]] std::span<const processor> processors() const { return processors_; }
    // The sum of the weights of a CPU's ready threads, those on their way to it included. Counted where there are
    // several.
    [[nodiscard]] std::uint64_t load(unsigned cpu) const { return balancer_.load(cpu); }
    [[nodiscard]] const Topology& topology() const { return balancer_.topology(); }
    [[nodiscard]] const cpu_set& all_cpus() const { return topology().domain(0, topology().level_count() - 1); }
    // Calls visit(Policy&) with what the calling CPU has, interrupts off.
    template <class Visit>
    void visit_queue(Visit visit) noexcept
    {
        const state saved = interrupts_.save_and_disable();
        visit(here().queue_);
        interrupts_.restore(saved);
    }
    // For a trace::registry: the metrics of all CPUs.
    using metrics_source = trace::table_source<counters>;
    [[nodiscard]] metrics_source make_metrics_source() const
    {
        std::span<const trace::table_row<counters>> table;
        if constexpr (Recording::on)
            table = counters::table;
        return {table, processors_[0].metrics_, processors_.size(), sizeof(processor)};
    }

private:
    template <class Scheduler, sync::lock_rank Rank, class Observer>
    friend class inheriting_mutex;

    // What one search looks at, and moves, at most.
    static constexpr unsigned visit_limit = 64;
    static constexpr unsigned search_limit = 32;
    static constexpr unsigned move_limit = 8;
    static constexpr unsigned passed_over_limit = 8 * visit_limit;

    // This CPU has nothing to run.
    void rest(processor& p) noexcept
    {
        if constexpr (hal::PollingIdle<Idle>) {
            const duration rested = p.idle_.run_time();
            const bool briefly = rested - std::exchange(p.rested_, rested) < poll_limit;
            if (many() && briefly && poll(p))
                return;
        }
        idle_.halt_until_interrupt();
    }
    // True when there is something to do.
    bool poll(processor& p) noexcept
        requires hal::PollingIdle<Idle>
    {
        const instant end = clock_.now() + poll_limit;
        p.may_preempt_ = false; // whoever rings relies on this thread to look
        p.bell_.listen();
        interrupts_.restore(p.initial_);
        idle_.poll([&] {
            return p.bell_.rung() || p.need_switch_.load(std::memory_order_relaxed) || clock_.now() >= end;
        });
        (void)interrupts_.save_and_disable();
        p.may_preempt_ = true;
        const bool rung = p.bell_.stop_listening();
        if (rung)
            on_kick();
        return rung || p.need_switch_.load(std::memory_order_relaxed);
    }

    // Counts on this CPU, whose processor is not at hand.
    template <auto Counter>
    void note() noexcept
    {
        if constexpr (Recording::on)
            (here().metrics_.*Counter).add();
    }
    void count_inversion() noexcept { note<&counters::inversions>(); }

    // Of the calling CPU; interrupts are off wherever it is used for more than a hint.
    [[nodiscard]] processor& here() const noexcept { return processors_[cpu_.current_cpu()]; }

    [[nodiscard]] unsigned number(const processor& p) const { return static_cast<unsigned>(&p - processors_.data()); }
    [[nodiscard]] bool many() const { return processors_.size() > 1; }
    [[nodiscard]] bool may_run_on(const processor& p, const task& t) const
    {
        return !many() || t.affinity_.contains(number(p));
    }

    void start_on(task& t, std::optional<unsigned> cpu)
    {
        EXO_CHECK(t.state() == task_state::created);
        const state saved = interrupts_.save_and_disable();
        processor& p = here();
        t.cpu_.store(number(p), std::memory_order_relaxed);
        {
            auto guard = changes_lock_.lock(interrupts_);
            t.scheduler_ = this;
            inheritance_type::set_base(t, t.parameters(), [](auto&) {});
            t.wanted_affinity_ = t.affinity_;
        }
        context_.prepare(t.context_, t.stack_, &enter, &t);
        p.metrics_.tasks_started.add();
        if constexpr (Recording::on)
            p.metrics_.most_tasks.record(tasks_alive_.fetch_add(1, std::memory_order_relaxed) + 1);
        const instant now = clock_.now();
        if (cpu && may_run_on(processors_[*cpu], t))
            deliver(p, t, processors_[*cpu], now);
        else
            send(p, t, now);
        restore(saved);
    }

    // Sets the token. Whoever finds the task parked has to send it; the token keeps others from doing so again before
    // it runs.
    [[nodiscard]] bool take_from_sleep(task& t) noexcept
    {
        if (t.token_.exchange(task::token::set, std::memory_order_acq_rel) != task::token::parked)
            return false;
        note<&counters::wake_ups>();
        return true;
    }
    // After the exchange of its token: either its CPU is seen to run it, or it sees that it is wanted as it begins to
    // run.
    void interrupt(processor& p, task& t) noexcept
    {
        processor& there = processors_[t.cpu_.load(std::memory_order_acquire)];
        if (&there != &p && t.on_cpu_.load(std::memory_order_seq_cst))
            kick(p, there);
    }
    [[gnu::hot]] void wake(processor& p, task& t) noexcept
    {
        const instant now = clock_.now();
        if constexpr (Recording::on)
            t.woken_at_ = now;
        send(p, t, now);
    }
    // A ready task goes to a CPU. Interrupts are off.
    [[gnu::hot]] void send(processor& p, task& t, instant now) noexcept
    {
        deliver(p, t, many() ? processors_[place_for(p, t, now)] : p, now);
    }
    [[gnu::hot]] void deliver(processor& p, task& t, processor& to, instant now) noexcept
    {
        if (&to == &p) {
            t.cpu_.store(number(p), std::memory_order_relaxed);
            admit(p, t, now);
            return;
        }
        p.metrics_.sent.add();
        task* const one[] = {&t};
        send_away(p, one, to, now);
    }
    // To another CPU.
    void send_away(processor& p, std::span<task* const> tasks, processor& to, instant now) noexcept
    {
        const unsigned cpu = number(to);
        std::uint64_t weight = 0, rank = balancer_.idle_rank;
        for (task* const t : tasks) {
            t->sent_weight_ = p.queue_.weight(*t);
            weight += t->sent_weight_;
            if (const std::uint64_t own = Policy::rank_of(t->parameters(), now); own < rank)
                rank = own;
        }
        balancer_.sent(cpu, weight, rank);
        for (task* const t : tasks)
            t->cpu_.store(cpu, std::memory_order_release);
        // Against the one in change(): either it sees where a task goes, or the CPU there sees the change.
        Atomics::fence(std::memory_order_seq_cst);
        post(p, to, to.inbox_, tasks);
    }
    // An element, or some.
    template <class Inbox, class Letter>
    void post(processor& p, processor& to, Inbox& inbox, Letter&& letter) noexcept
    {
        const auto pushed = inbox.push(letter);
        p.metrics_.inbox_attempts.add(pushed.attempts);
        p.metrics_.inbox_retries.add(pushed.attempts - 1);
        if (pushed.contended) {
            p.metrics_.inbox_failures.add();
            p.metrics_.count({errors::inbox_contended, pushed.attempts});
        }
        if (pushed.was_empty)
            kick(p, to);
    }
    [[gnu::hot]] void kick(processor& p, processor& to) noexcept
    {
        if constexpr (hal::PollingIdle<Idle>) {
            if (to.bell_.ring()) {
                p.metrics_.kicks_saved.add();
                return;
            }
        }
        p.metrics_.kicks.add();
        hooks_.kick(number(to));
    }
    [[nodiscard, gnu::hot]] unsigned place_for(processor& p, task& t, instant now) noexcept
    {
        const unsigned home = t.cpu();
        if (t.on_cpu_.load(std::memory_order_acquire))
            return home;
        const bool at_home = t.affinity_.contains(home);
        if (p.queue_.urgent(t)) {
            const std::uint64_t rank = Policy::rank_of(t.parameters(), now);
            if (at_home && balancer_.rank(home) > rank)
                return home;
            if (const auto cpu = balancer_.least_urgent(home, t.affinity_, rank))
                return *cpu;
        } else if (const auto cpu = balancer_.claim_idle(home, t.affinity_)) {
            return *cpu;
        }
        return at_home ? home : (t.affinity_ & all_cpus()).next_around(home);
    }

    // The task comes to this CPU, or goes on if it must not stay: then it is not the caller's to look at.
    bool accept(processor& p, task& t, instant now) noexcept
    {
        if (t.changed_.load(std::memory_order_relaxed))
            (void)take_over(p, t);
        t.state_.store(task_state::ready, std::memory_order_relaxed);
        if (may_run_on(p, t)) {
            join(p, t, t.arrival_, now);
            return true;
        }
        if (!t.on_cpu_.load(std::memory_order_relaxed)) // else finish_switch() sends it
            send(p, t, now);
        return false;
    }
    [[gnu::hot]] void admit(processor& p, task& t, instant now) noexcept
    {
        charge(p, now);
        if (p.turn_over_)
            p.need_switch_.store(true, std::memory_order_relaxed);
        if (accept(p, t, now))
            see_whether_it_preempts(p, t);
    }
    template <class Take>
    void drain_inbox(processor& p, Take take) noexcept
    {
        std::uint64_t weight = 0;
        p.inbox_.drain([&](task& t) {
            weight += t.sent_weight_;
            take(t);
        });
        if (weight != 0)
            balancer_.received(number(p), weight);
    }
    void accept_mail(processor& p) noexcept
    {
        drain_inbox(p, [&](task& t) { (void)accept(p, t, p.charged_until_); });
    }
    [[gnu::hot]] void see_whether_it_preempts(processor& p, task& t) noexcept
    {
        const bool idle = p.current_ == &p.idle_;
        if (idle || p.queue_.preempts(t, *p.current_)) {
            p.need_switch_.store(true, std::memory_order_relaxed);
            if (!idle)
                p.metrics_.preemptions.add();
            return;
        }
        arm_for_turn(p);
        if (many())
            settle(p);
    }

    // Into the queue; out of it, queued or running.
    [[gnu::hot]] void join(processor& p, task& t, arrival how, instant now) noexcept
    {
        p.queue_.enqueue(t, how, now);
        t.queued_.store(true, std::memory_order_relaxed);
        if (!many())
            return;
        t.weight_ = p.queue_.weight(t);
        balancer_.add_load(number(p), t.weight_);
        t.urgent_ = p.queue_.urgent(t);
        p.urgent_ += t.urgent_;
        p.displaced_ |= t.urgent_;
    }
    [[gnu::hot]] void quit(processor& p, task& t) noexcept
    {
        p.queue_.dequeue(t);
        t.queued_.store(false, std::memory_order_relaxed);
        if (!many())
            return;
        balancer_.remove_load(number(p), t.weight_);
        p.urgent_ -= t.urgent_;
    }

    // Marks a task as changed.
    struct announcer {
        processor& here;
        sync::inbox<task, &task::notice_hook_, Atomics>& notices;

        void operator()(task& t) const noexcept
        {
            t.changed_.store(true, std::memory_order_relaxed);
            if (t.notice_.announce())
                (void)notices.push(t);
        }
    };
    // Under changes_lock_, make(changed) changes what is wanted of tasks, calling changed(task) for each, and names one
    // to be woken, or null. Then sees to it that all that happens.
    template <class Make>
    void change(Make make) noexcept
    {
        const state saved = interrupts_.save_and_disable();
        processor& p = here();
        sync::inbox<task, &task::notice_hook_, Atomics> notices; // of tasks that are not given up while theirs are here
        auto guard = changes_lock_.lock(interrupts_);
        task* woken = make(announcer{p, notices});
        if (woken && !take_from_sleep(*woken))
            woken = nullptr;
        guard.unlock();
        Atomics::fence(std::memory_order_seq_cst); // against the one in send_away()
        notices.drain([&](task& t) { forward_change(p, t); });
        if (woken)
            wake(p, *woken);
        restore(saved);
    }
    void record_change(const parameters_type& before, const parameters_type& after) noexcept
    {
        if constexpr (Recording::on) {
            if (before != after)
                note<&counters::parameter_changes>();
            if constexpr (requires { after.policy_index(); })
                if (before.policy_index() != after.policy_index())
                    note<&counters::policy_changes>();
        }
    }
    // The same; what inherits what changes by calls of inheritance_type with `changed`.
    template <class Make>
    void change_inheritance(Make make) noexcept
    {
        change([&](auto changed) {
            return make([&](typename inheritance_type::holder& h) {
                if constexpr (Recording::on)
                    if (h.effective() != h.base())
                        changed.here.metrics_.inheritances.add();
                changed(static_cast<task&>(h));
            });
        });
    }
    void forward_change(processor& p, task& t) noexcept
    {
        processor& to = processors_[t.cpu_.load(std::memory_order_acquire)];
        if (&to == &p)
            take_over_change(p, t, clock_.now());
        else
            post(p, to, to.changes_, t);
    }
    // A notice has come. While it is held the task is not given up by others.
    void take_over_change(processor& p, task& t, instant now) noexcept
    {
        using enum after_notice;
        for (;;) {
            if (t.state() != task_state::ended) { // else nothing is to be changed, wherever it is
                if (t.cpu_.load(std::memory_order_acquire) != number(p)) {
                    forward_change(p, t);
                    return;
                }
                // What is not in the queue takes the change over when it comes in.
                if (t.queued_.load(std::memory_order_relaxed) && t.changed_.load(std::memory_order_relaxed))
                    requeue_changed(p, t, now);
            }
            switch (t.notice_.put_away()) {
            case done: return;
            case look_again: continue;
            case give_up: hooks_.ended(t); return;
            }
        }
    }
    // The task is outside of the queues. How it arrives if it was in this one.
    [[nodiscard]] arrival take_over(const processor& p, task& t) noexcept
    {
        auto guard = changes_lock_.lock(interrupts_);
        t.changed_.store(false, std::memory_order_relaxed);
        const std::uint64_t before = Policy::rank_of(t.parameters(), instant{});
        if (t.parameters() != t.effective())
            t.Policy::entity::set(t.effective());
        t.affinity_ = t.wanted_affinity_;
        const bool raised = Policy::rank_of(t.parameters(), instant{}) < before;
        return raised || !may_run_on(p, t) ? arrival::moved : arrival::changed;
    }
    // The task is in the queue. False when it has to leave for that.
    [[nodiscard]] bool take_over_in_place(processor& p, task& t) noexcept
    {
        auto guard = changes_lock_.lock(interrupts_);
        if (t.parameters() != t.effective() || (many() && !t.wanted_affinity_.contains(number(p))))
            return false;
        t.changed_.store(false, std::memory_order_relaxed);
        t.affinity_ = t.wanted_affinity_;
        p.displaced_ |= t.urgent_;
        return true;
    }
    void requeue_changed(processor& p, task& t, instant now) noexcept
    {
        if (&t == p.current_) {
            p.need_switch_.store(true, std::memory_order_relaxed); // reschedule() does it
            return;
        }
        if (take_over_in_place(p, t)) {
            if (many())
                settle(p);
            return;
        }
        charge(p, now);
        quit(p, t);
        t.arrival_ = take_over(p, t);
        admit(p, t, now);
    }

    // A CPU that idles asks the nearest that is crowded, and once each, until it gets something to run.
    void ask_for_work(processor& p) noexcept
    {
        if (p.requesting_.load(std::memory_order_acquire))
            return;
        if (const auto cpu = balancer_.crowded(number(p), p.asked_))
            request(p, processors_[*cpu], rank_of_use(p), true);
    }
    // A CPU that runs something of `rank` asks those where something more urgent waits.
    void ask_for_urgent(processor& p, std::uint64_t rank) noexcept
    {
        if (p.requesting_.load(std::memory_order_acquire))
            return;
        if (rank > p.request_rank_)
            forget_whom_it_asked(p); // what it runs is less urgent than when it asked
        if (const auto cpu = balancer_.urgently_crowded(number(p), p.asked_, rank))
            request(p, processors_[*cpu], rank, false);
    }
    static void forget_whom_it_asked(processor& p) noexcept
    {
        if (std::exchange(p.asked_any_, false))
            p.asked_ = {};
    }
    void request(processor& p, processor& from, std::uint64_t rank, bool others) noexcept
    {
        p.asked_.add(number(from));
        p.asked_any_ = true;
        p.request_rank_ = rank;
        p.requests_others_ = others;
        p.requesting_.store(true, std::memory_order_relaxed);
        p.metrics_.steals_tried.add();
        post(p, from, from.requests_, p);
    }
    void answer(processor& p, processor& thief, instant now) noexcept
    {
        const loot taken = movable_to(p, number(thief), thief.request_rank_, thief.requests_others_, now);
        thief.requesting_.store(false, std::memory_order_release);
        if (!taken.empty()) {
            p.metrics_.steals_won.add();
            for (task* const t : taken) {
                p.metrics_.sent.add();
                part_with(p, *t);
            }
            send_away(p, {taken.begin(), taken.size()}, thief, now);
            settle(p);
        } else {
            p.metrics_.steals_refused.add();
            kick(p, thief); // it asks another
        }
    }
    // What `cpu` should have: the first urgent one of less than `rank`; or of `others`, if it wants any, the first that
    // is not in the caches here, else the first. Others that are not in the caches go with that one, as long as loads
    // become more even.
    using loot = static_vector<task*, move_limit>;
    [[nodiscard]] loot movable_to(processor& p, unsigned cpu, std::uint64_t rank, bool others, instant now) noexcept
    {
        loot taken;
        task* hot = nullptr;
        std::uint64_t here = balancer_.load(number(p)), there = balancer_.load(cpu);
        unsigned visited = 0;
        p.queue_.visit_movable([&](typename Policy::entity& e) {
            auto& t = static_cast<task&>(e);
            const bool wanted = t.urgent_ ? p.queue_.rank(t) < rank : others;
            if (!wanted && !others)
                return false; // the urgent ones come first
            if (wanted && t.affinity_.contains(cpu)) {
                if (t.urgent_) {
                    if (taken.empty())
                        taken.push_back(&t);
                    return false;
                }
                if (now - t.ran_until_ < cache_hot) {
                    hot = hot ? hot : &t;
                } else if (taken.empty() || there + t.weight_ < here) {
                    taken.push_back(&t);
                    here -= t.weight_;
                    there += t.weight_;
                } else {
                    return false;
                }
            }
            return ++visited < visit_limit && !taken.full();
        });
        if (taken.empty() && hot)
            taken.push_back(hot);
        return taken;
    }
    void part_with(processor& p, task& t) noexcept
    {
        p.metrics_.migrations.add();
        quit(p, t);
        t.arrival_ = arrival::moved;
    }
    void move(processor& p, task& t, processor& to, instant now) noexcept
    {
        part_with(p, t);
        deliver(p, t, to, now);
    }

    // Urgent threads of a smaller rank may run here at once.
    [[nodiscard]] std::uint64_t rank_of_use(const processor& p) const noexcept
    {
        const std::uint64_t rank = p.current_ == &p.idle_ ? balancer_.idle_rank : p.queue_.rank(*p.current_);
        const std::uint64_t closed_from = sched::closed(p.queue_).from;
        return rank < closed_from ? rank : closed_from;
    }
    // Tells the others what this CPU runs, after that changed. Urgent threads that wait go where they can run; this CPU
    // asks for them when it might be the one.
    [[gnu::hot]] void settle(processor& p) noexcept
    {
        const unsigned cpu = number(p);
        const bool idle = p.current_ == &p.idle_;
        const std::uint64_t rank = idle ? balancer_.idle_rank : p.queue_.rank(*p.current_);
        const closure closed = sched::closed(p.queue_);
        const std::uint64_t urgent_waiting = most_urgent_waiting(p);
        const bool waiting = p.queue_.size() != 0 || urgent_waiting != balancer_.idle_rank;
        balancer_.publish(cpu, rank, waiting, urgent_waiting, closed.from);
        if (std::exchange(p.opens_, closed.until) != closed.until) {
            forget_whom_it_asked(p); // it may run others than when it asked
            arm_no_later(p, closed.until);
        }
        if (waiting && !p.waiting_)
            p.balance_due_ = p.charged_until_ + balance_interval;
        p.waiting_ = waiting;
        if (waiting)
            arm_no_later(p, p.balance_due_);
        if (std::exchange(p.displaced_, false))
            disperse_urgent(p);
        if (!idle)
            ask_for_urgent(p, rank < closed.from ? rank : closed.from);
    }
    [[nodiscard]] std::uint64_t most_urgent_waiting(processor& p) const noexcept
    {
        std::uint64_t rank = balancer_.idle_rank;
        if (p.urgent_ > p.current_->urgent_)
            p.queue_.visit_movable([&](typename Policy::entity& e) {
                if (static_cast<task&>(e).urgent_)
                    rank = p.queue_.rank(e);
                return false;
            });
        return rank;
    }
    void disperse_urgent(processor& p) noexcept
    {
        for (unsigned moves = 0; moves < move_limit; ++moves) {
            const bool moved = move_first(p, p.charged_until_, [&](task& t) -> choice {
                if (!t.urgent_)
                    return {.stop = true};
                return {balancer_.least_urgent(number(p), t.affinity_, p.queue_.rank(t))};
            });
            if (!moved)
                return;
            p.metrics_.urgent_moves.add();
        }
    }
    // Of the threads that wait some go to CPUs that idle, or have so much less load that the move makes loads more
    // even; nearer ones before others.
    void balance(processor& p, instant now) noexcept
    {
        if (now < p.balance_due_) {
            arm_no_later(p, p.balance_due_);
            return;
        }
        p.metrics_.balance_passes.add();
        p.balance_due_ = now + balance_interval;
        p.displaced_ = true;
        unsigned moves = 0;
        // Where the first look ended that found none to move, the next pass goes on: the same threads, if they are
        // bound or too heavy, would hide others for long.
        const unsigned passed_over = std::exchange(p.passed_over_, 0);
        const auto move_while = [&](unsigned from, auto choose) {
            unsigned visited = 0;
            while (moves < move_limit && move_first(p, now, choose, from, &visited)) {
                ++moves;
                p.metrics_.balance_moves.add();
            }
            if (from == passed_over && visited != 0 && visited < passed_over_limit &&
                (p.passed_over_ == 0 || visited < p.passed_over_))
                p.passed_over_ = visited;
        };
        const unsigned cpu = number(p);
        const auto to_idle = [&](task& t) -> choice {
            if (t.urgent_) // settle() sends it
                return {};
            return {balancer_.claim_idle(cpu, t.affinity_)};
        };
        move_while(0, to_idle);
        if (passed_over != 0)
            move_while(passed_over, to_idle);
        for (unsigned level = 0; level < topology().level_count(); ++level) {
            unsigned searches = 0;
            move_while(passed_over, [&](task& t) -> choice {
                if (t.urgent_)
                    return {};
                return {balancer_.lighter(cpu, level, t.affinity_, t.weight_, p.looked_at_, search_limit),
                        ++searches == move_limit};
            });
        }
        p.looked_at_ = (p.looked_at_ + search_limit) % static_cast<unsigned>(processors_.size());
        settle(p);
    }
    struct choice {
        std::optional<unsigned> cpu{};
        bool stop{};
    };
    // Moves the first thread, after some, for which choose(task) names a CPU. True when there is one; else `stopped` is
    // how many were visited if the look was ended before the last, or zero.
    template <class Choose>
    bool move_first(processor& p, instant now, Choose choose, unsigned passed_over = 0,
                    unsigned* stopped = nullptr) noexcept
    {
        task* found = nullptr;
        choice chosen;
        unsigned visited = 0, ended = 0;
        p.queue_.visit_movable([&](typename Policy::entity& e) {
            if (++visited <= passed_over)
                return true;
            auto& t = static_cast<task&>(e);
            chosen = choose(t);
            if (chosen.cpu)
                found = &t;
            const bool more = !found && !chosen.stop && visited < passed_over + visit_limit;
            ended = more ? 0 : visited;
            return more;
        });
        if (stopped)
            *stopped = found ? 0 : ended;
        if (found)
            move(p, *found, processors_[*chosen.cpu], now);
        return found != nullptr;
    }

    // An interrupt that comes too early is harmless, so the hardware is touched only to have one earlier.
    [[gnu::hot]] void arm_no_later(processor& p, instant deadline) noexcept
    {
        if (deadline < p.armed_) {
            p.armed_ = deadline;
            p.metrics_.timers_armed.add();
            deadline_timer_.arm(deadline);
        }
    }
    [[gnu::hot]] void arm_for_turn(processor& p) noexcept
    {
        if (p.current_ != &p.idle_)
            arm_no_later(p, p.queue_.turn_ends(*p.current_, p.charged_until_));
        arm_no_later(p, p.queue_.next_release());
        arm_no_later(p, p.opens_);
    }

    [[gnu::hot]] void charge(processor& p, instant now) noexcept
    {
        task& t = *p.current_;
        const duration ran = now - p.charged_until_;
        p.charged_until_ = now;
        t.run_time_.store(t.run_time_.load(std::memory_order_relaxed) + ran.nanoseconds(), std::memory_order_relaxed);
        if (&t != &p.idle_ && p.queue_.tick(t, ran, now))
            p.turn_over_ = true;
    }

    // The current thread stays ready, and the best one continues.
    [[gnu::hot]] void reschedule(processor& p, departure why) noexcept
    {
        charge(p, clock_.now());
        accept_mail(p);
        task& self = *p.current_;
        if (&self == &p.idle_) {
        } else if (self.changed_.load(std::memory_order_relaxed) && !take_over_in_place(p, self)) {
            quit(p, self);
            const arrival how = take_over(p, self);
            if (may_run_on(p, self)) // else finish_switch() sends it
                join(p, self, why == departure::yielded ? arrival::moved : how, p.charged_until_);
        } else {
            if (p.turn_over_ && why == departure::preempted)
                why = departure::turn_over;
            if constexpr (Recording::on)
                if (why == departure::turn_over)
                    p.metrics_.turns_over.add();
            p.queue_.requeue(self, why, p.charged_until_);
            p.displaced_ |= self.urgent_;
        }
        switch_to_next(p, why == departure::yielded);
    }
    // The current thread parks or ends.
    [[gnu::hot]] void leave(processor& p) noexcept
    {
        charge(p, clock_.now());
        quit(p, *p.current_);
        accept_mail(p);
        switch_to_next(p, true);
    }

    // The current thread is queued, parked, ended or idle. Returns when it is picked again.
    [[gnu::hot]] void switch_to_next(processor& p, bool voluntary) noexcept
    {
        task* previous = p.current_;
        if (many()) // of several that come back at once
            p.displaced_ |= p.queue_.next_release() <= p.charged_until_;
        auto* next = static_cast<task*>(p.queue_.pick(p.charged_until_));
        if (!next)
            next = &p.idle_;
        p.current_ = next;
        p.turn_over_ = false;
        p.need_switch_.store(false, std::memory_order_relaxed);
        arm_for_turn(p);
        turn_start begins{.at = p.charged_until_, .woken = instant::never()};
        if constexpr (Recording::on)
            begins.woken = record_wake_up(p, *next);
        if (next == previous) {
            if (many())
                settle(p);
            return;
        }
        p.previous_ = previous;
        if (many()) {
            previous->ran_until_ = p.charged_until_;
            next->on_cpu_.exchange(true, std::memory_order_seq_cst);
            forget_whom_it_asked(p);
        }
        p.metrics_.switches.add();
        if (next == &p.idle_)
            p.metrics_.idle_periods.add();
        if (voluntary) {
            previous->voluntary_switches_.add();
            p.metrics_.voluntary_switches.add();
        } else {
            previous->involuntary_switches_.add();
            p.metrics_.involuntary_switches.add();
        }
        hooks_.switching(*previous, *next, begins);
        context_.switch_to(previous->context_, next->context_);
        finish_switch();
    }
    instant record_wake_up(processor& p, task& next) noexcept
    {
        const instant woken = std::exchange(next.woken_at_, instant::never());
        if (woken == instant::never())
            return woken;
        // Its CPU may have looked at the clock before the thread was woken.
        const std::uint64_t took =
            woken < p.charged_until_ ? static_cast<std::uint64_t>((p.charged_until_ - woken).nanoseconds()) : 0;
        p.metrics_.wake_up_latency.record(took);
        p.metrics_.greatest_wake_up_latency.record(took);
        return woken;
    }
    // The time that the switch took is no thread's.
    void record_switch(processor& p) noexcept
    {
        const instant now = clock_.now();
        const auto took = static_cast<std::uint64_t>((now - p.charged_until_).nanoseconds());
        p.charged_until_ = now;
        p.metrics_.switch_time.add(took);
        p.metrics_.least_switch_time.record(took);
        p.metrics_.greatest_switch_time.record(took);
    }
    // On the new stack.
    [[gnu::hot]] void finish_switch() noexcept
    {
        processor& p = here();
        if constexpr (Recording::on)
            record_switch(p);
        task& previous = *p.previous_;
        const task_state left = previous.state();
        if (left == task_state::ended) {
            if (previous.notice_.end())
                hooks_.ended(previous);
        } else if (many()) {
            const bool homeless = left == task_state::ready && !previous.queued_.load(std::memory_order_relaxed);
            previous.on_cpu_.store(false, std::memory_order_release); // one that parked may be elsewhere now
            if (homeless && &previous != &p.idle_) {
                previous.arrival_ = arrival::moved;
                p.metrics_.migrations.add();
                send(p, previous, p.charged_until_);
            }
        }
        if (many())
            settle(p);
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
    atomic<std::uint64_t> tasks_alive_{};
    balancer balancer_;
    sync::spin_lock<sync::lock_rank::scheduler, Interrupts, sync::lock_observer, Atomics> changes_lock_;
    Context& context_;
    Interrupts& interrupts_;
    Cpu& cpu_;
    Clock& clock_;
    DeadlineTimer& deadline_timer_;
    Idle& idle_;
    Hooks& hooks_;
};

} // namespace exo::sched
