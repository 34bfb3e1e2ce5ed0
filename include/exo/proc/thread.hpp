// A thread of a process: a task of the scheduler with a kernel stack, and what the processor and the signals keep for
// each thread. Members without another owner named belong to the thread itself.
//
// Others reach it through its process and the process table, under whose locks it leaves them when it ends. It lives on
// its own after that, and after its process was reaped, until the scheduler has left its stack: the composition's hook
// for ended tasks calls destroy().

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include <exo/base/address.hpp>
#include <exo/base/allocator.hpp>
#include <exo/base/list.hpp>
#include <exo/base/time.hpp>
#include <exo/base/tree.hpp>
#include <exo/proc/cpu_time.hpp>
#include <exo/proc/process.hpp>
#include <exo/proc/process_id.hpp>
#include <exo/proc/signal.hpp>

namespace exo::proc {

// How an interrupted call goes on (see proc/errors.hpp).
enum class restart_kind : std::uint8_t {
    none,           // the result stands
    unless_handled, // EINTR if any handler runs
    by_action,      // EINTR unless the handler says SA_RESTART
    always,         // started again, whatever any handler says
    with_rest,      // EINTR if any handler runs, else restart_syscall
};

// A wait for a futex that goes on.
struct futex_rest {
    user_addr word{};
    std::uint32_t value{};
    std::uint32_t bits{};
    bool known_private{};
};

template <class System>
class thread {
public:
    using frame_type = typename System::frame;
    using state_type = typename System::user_mode_type::state;
    using space_type = typename System::space_type;
    using task_type = typename System::task_type;
    using body = void (*)(thread&);

    // A thread that has not started; `run` is what it does in the kernel, and ends by entering user mode or by exit.
    // Errors: out_of_memory.
    [[nodiscard]] static result<thread*> create(exo::proc::process<System>& owner, body run)
    {
        System& system = owner.system();
        const auto stack = EXO_TRY(system.allocate_stack());
        auto made = new_object<thread>(system.heap(), owner, stack, run);
        if (!made)
            system.free_stack(stack);
        return made;
    }
    // One that never started, or that the scheduler is done with.
    static void destroy(thread* t) noexcept
    {
        System& system = t->system_;
        const auto stack = t->task.stack();
        delete_object(system.heap(), t);
        system.free_stack(stack);
    }
    static void enter_user_mode(thread& t) { t.system_.user_mode().enter(t.first_frame); }

    thread(exo::proc::process<System>& owner, std::span<std::byte> stack, body run)
        : task{owner.name(), stack, &begin, this}, system_{owner.system()}, process_{&owner}, run_{run}
    {
        task.owner = this;
    }

    [[nodiscard]] System& system() const { return system_; }
    [[nodiscard]] exo::proc::process<System>& process() const { return *process_; }
    // 0 before it has one.
    [[nodiscard]] process_id id() const { return id_; }
    // With the process table locked.
    void set_id(process_id id) { id_ = id; }

    // The space that the CPU translates with while this thread runs; null for the kernel's own.
    [[nodiscard]] space_type* space() const { return space_; }
    // For a thread that has not started, or has the CPU (then use switch_space).
    void set_space(space_type* s) { space_ = s; }
    void switch_space(space_type* next)
    {
        const auto saved = system_.interrupts().save_and_disable();
        space_type* previous = std::exchange(space_, next);
        if (next)
            next->activate();
        else if (previous)
            previous->deactivate();
        system_.interrupts().restore(saved);
    }

    task_type task;
    list_hook sibling_hook; // process::threads
    tree_hook table_hook;   // process_table

    // With which a new thread enters user mode; `state` also holds what a thread that does not run has in the
    // processor.
    frame_type first_frame{};
    state_type state{};

    // What the scheduler's parameters of the task do not tell (scheduling.hpp); under the process's lock.
    struct {
        std::int8_t nice{};
        bool reset_on_fork{};
        typename System::deadline_claims_type::claim* claim{}; // of a deadline thread
    } scheduling;
    cpu_time_split time_split;
    // With the process's lock held.
    [[nodiscard]] cpu_times times() noexcept { return time_split.divide(task.run_time()); }
    [[nodiscard]] resource_usage usage()
    {
        const cpu_times used = times();
        return {.user = used.user,
                .system = used.system,
                .voluntary_switches = task.voluntary_switches(),
                .involuntary_switches = task.involuntary_switches()};
    }
    // SIGXCPU is due: it used up its runtime, and asked to be told. As with alarms, who finds out cannot post it.
    std::atomic<bool> overran{};
    // It has a SIGKILL; what waits for a child in vfork gives up then.
    std::atomic<bool> must_end{};

    // Signals: `blocked` is written by the thread alone, under its process's lock; `pending` under that lock.
    signal_set blocked{};
    pending_signals pending{};
    // What `blocked` becomes again on the way to user mode; a handler that runs first sees the temporary mask.
    signal_set blocked_before{};
    bool blocked_is_temporary{};
    bool halted{}; // it waits for the end of the stop; under the process's lock
    struct alternate_stack {
        static constexpr std::uint32_t in_use = 1, disabled = 2; // SS_ONSTACK, SS_DISABLE

        user_addr base{};
        std::uint64_t size{};
        std::uint32_t flags{disabled};

        [[nodiscard]] bool contains(std::uint64_t stack_pointer) const
        {
            return (flags & disabled) == 0 && stack_pointer > base.value() && stack_pointer - base.value() <= size;
        }
    } signal_stack{};

    // The call that is going to be started again, and what with.
    restart_kind restart{restart_kind::none};
    std::uint64_t restart_call{};
    instant restart_deadline{};
    user_addr restart_remainder{};
    futex_rest restart_futex{}; // if it has a word, else a sleep

    // rseq(2): where the program wants to read its CPU's number, and what stands before its abort handlers. A thread
    // that lost the CPU since it was last in user mode is `displaced`, and told so on the way there.
    struct restartable_sequences {
        user_addr area{};
        std::uint32_t signature{};
    } sequences{};
    std::atomic<bool> displaced{};
    void note_displacement() noexcept
    {
        if (sequences.area.value() != 0)
            displaced.store(true, std::memory_order_relaxed);
    }

    bool present_memory_only{}; // an access to what is not present fails (user_copy.hpp)

    // set_tid_address: zeroed, and woken as a futex, when one of several threads ends.
    user_addr clear_id_at_exit{};
    user_addr robust_list{}; // set_robust_list: of the futexes that it holds (robust_list.hpp)
    // Contended ones that it owns (inheriting_futex.hpp), and whether it has let go of all; this under the process's
    // lock.
    std::atomic<std::uint32_t> inheriting_futexes{};
    bool futexes_released{};

private:
    static void begin(void* self) noexcept
    {
        auto& t = *static_cast<thread*>(self);
        t.run_(t);
    }

    System& system_;
    exo::proc::process<System>* process_;
    process_id id_{};
    body run_;
    space_type* space_{};
};

} // namespace exo::proc
