// A thread of a process: a task of the scheduler with a kernel stack, and what the processor and the signals keep for
// each thread. Members without another owner named belong to the thread itself.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <exo/base/address.hpp>
#include <exo/base/check.hpp>
#include <exo/base/time.hpp>
#include <exo/proc/process.hpp>
#include <exo/proc/process_id.hpp>
#include <exo/proc/signal.hpp>

namespace exo::proc {

// How an interrupted call goes on (see proc/errors.hpp).
enum class restart_kind : std::uint8_t {
    none,            // the result stands
    unless_handled,  // EINTR if any handler runs
    by_action,       // EINTR unless the handler says SA_RESTART
    with_rest,       // EINTR if any handler runs, else restart_syscall
};

template <class System>
class thread {
public:
    using frame_type = typename System::frame;
    using state_type = typename System::user_mode_type::state;

    thread(exo::proc::process<System>& owner, std::span<std::byte> stack) : stack_{stack}, process_{&owner} {}

    [[nodiscard]] exo::proc::process<System>& process() const { return *process_; }
    [[nodiscard]] System& system() const { return process_->system(); }
    [[nodiscard]] process_id id() const { return process_->id(); }
    [[nodiscard]] std::span<std::byte> stack() const { return stack_; }

    // The frame and processor state with which a new thread enters user mode.
    frame_type first_frame{};
    state_type state{};

    // Signals: `blocked` is written by the thread alone, under its process's lock; `pending` under that lock.
    signal_set blocked{};
    pending_signals pending{};
    // What `blocked` becomes again on the way to user mode, once no handler needs to see the temporary mask.
    signal_set blocked_before{};
    bool blocked_is_temporary{};
    struct alternate_stack {
        user_addr base{};
        std::uint64_t size{};
        std::uint32_t flags{2}; // SS_DISABLE
    } signal_stack{};

    // The call that is going to be started again, and what with.
    restart_kind restart{restart_kind::none};
    std::uint64_t restart_call{};
    instant restart_deadline{};
    user_addr restart_remainder{};

    // set_tid_address and CLONE_CHILD_CLEARTID: zeroed, and woken as a futex, when the thread ends.
    user_addr clear_id_at_exit{};

private:
    std::span<std::byte> stack_;
    exo::proc::process<System>* process_;
};

} // namespace exo::proc
