// What every thread has, whichever scheduler runs it: a name, a state, a token to be woken with, and an account of what
// it used. scheduler::task adds the registers and the policy's part.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include <exo/base/time.hpp>
#include <exo/hal/atomics.hpp>
#include <exo/sched/policy.hpp>
#include <exo/sync/lock_observer.hpp>
#include <exo/trace/counter.hpp>

namespace exo::sched {

enum class task_state : std::uint8_t {
    created, // not started
    ready,   // runs, or waits for a CPU
    parked,
    ended,
};

inline constexpr std::size_t name_limit = 15; // and a terminating zero, as in Linux's TASK_COMM_LEN

template <hal::Atomics Atomics = hal::standard_atomics>
class task_info {
    template <class T>
    using atomic = typename Atomics::template atomic<T>;

public:
    task_info(const task_info&) = delete;
    task_info& operator=(const task_info&) = delete;

    [[nodiscard]] std::string_view name() const { return {name_, name_length_}; }
    // Cut to name_limit bytes. The task itself changes its name; a reader may see a mixture of two.
    void set_name(std::string_view name)
    {
        name_length_ = name.size() < name_limit ? name.size() : name_limit;
        for (std::size_t i = 0; i < name_length_; ++i)
            name_[i] = name[i];
        name_[name_length_] = '\0';
    }

    // Snapshots, when read by another thread.
    [[nodiscard]] task_state state() const noexcept { return state_.load(std::memory_order_relaxed); }
    [[nodiscard]] unsigned cpu() const noexcept { return cpu_.load(std::memory_order_relaxed); }
    // CPU time used up to the last switch or tick.
    [[nodiscard]] duration run_time() const noexcept
    {
        return duration{run_time_.load(std::memory_order_relaxed)};
    }
    // Switches away from the task: because it parked or yielded; because another took the CPU.
    [[nodiscard]] std::uint64_t voluntary_switches() const noexcept
    {
        return voluntary_switches_.value();
    }
    [[nodiscard]] std::uint64_t involuntary_switches() const noexcept
    {
        return involuntary_switches_.value();
    }

    // What the task belongs to (a thread of proc); not the scheduler's.
    void* owner{};
    // Something wants the task to give up waits that may be given up. Whoever sets it unparks the task.
    atomic<bool> interrupt_pending{};
    // Sleeping locks that the task holds.
    [[no_unique_address]] sync::held_locks_if_checked locks{};

protected:
    explicit task_info(std::string_view name) { set_name(name); }
    ~task_info() = default;

    enum class token : std::uint8_t { none, set, parked };

    char name_[name_limit + 1];
    std::size_t name_length_{};
    atomic<task_state> state_{task_state::created};
    atomic<token> token_{token::none};
    atomic<unsigned> cpu_{};
    arrival arrival_{arrival::created};
    atomic<std::int64_t> run_time_{};
    trace::counter<trace::recording> voluntary_switches_;
    trace::counter<trace::recording> involuntary_switches_;
};

} // namespace exo::sched
