// The way from a program's SYSCALL instruction to the function that does it, and back with Linux's result or -errno.
//
// Convention of x86-64 (psABI A.2.1): the number in rax; arguments in rdi, rsi, rdx, r10, r8, r9; the result in rax.

#pragma once

#include <atomic>
#include <cstdint>

#include <exo/linux/call.hpp>
#include <exo/linux/file_calls.hpp>
#include <exo/linux/futex_calls.hpp>
#include <exo/linux/memory_calls.hpp>
#include <exo/linux/numbers.hpp>
#include <exo/linux/process_calls.hpp>
#include <exo/linux/schedule_calls.hpp>
#include <exo/linux/signal_calls.hpp>
#include <exo/linux/system_calls.hpp>
#include <exo/linux/time_calls.hpp>
#include <exo/proc/errors.hpp>
#include <exo/proc/thread.hpp>

namespace exo::linux_abi {

// Every system call there is, to a table that has set<Function>(number).
template <class System, class Table>
constexpr void add_calls(Table& table)
{
    add_file_calls<System>(table);
    add_futex_calls<System>(table);
    add_memory_calls<System>(table);
    add_process_calls<System>(table);
    add_schedule_calls<System>(table);
    add_signal_calls<System>(table);
    add_system_calls<System>(table);
    add_time_calls<System>(table);
}

template <class System>
consteval call_table<System> make_call_table()
{
    call_table<System> table;
    add_calls<System>(table);
    return table;
}

template <class System>
class dispatcher {
public:
    // Does what the frame of `thread` asks for. The result is in the frame; a call that a signal interrupted is noted
    // in the thread, for the delivery of signals on the way out to start again or not.
    [[gnu::hot]] void on_system_call(proc::thread<System>& thread, typename System::frame& frame)
    {
        const std::uint64_t n = frame.rax;
        thread.restart = proc::restart_kind::none;
        const call_handler<System> handler = table.find(n);
        if (!handler) [[unlikely]] {
            log_unknown(thread.system(), n);
            frame.rax = failure(posix::nosys);
            return;
        }
        call<System> c{thread, frame};
        const registers arguments{frame.rdi, frame.rsi, frame.rdx, frame.r10, frame.r8, frame.r9};
        const auto outcome = handler(c, arguments);
        if (outcome) [[likely]] {
            frame.rax = *outcome;
            return;
        }
        frame.rax = failure(outcome.error().errno_value());
        note_interruption(thread, outcome.error(), n);
    }

private:
    static constexpr call_table<System> table = make_call_table<System>();

    static constexpr std::uint64_t failure(posix e) { return -static_cast<std::uint64_t>(e); }

    static void note_interruption(proc::thread<System>& thread, error e, std::uint64_t n)
    {
        using proc::restart_kind;
        if (e == errors::interrupted)
            thread.restart = restart_kind::by_action;
        else if (e == proc::errors::interrupted_by_handler)
            thread.restart = restart_kind::unless_handled;
        else if (e == proc::errors::interrupted_to_restart)
            thread.restart = restart_kind::always;
        else if (e == proc::errors::interrupted_with_rest)
            thread.restart = restart_kind::with_rest;
        else
            return;
        thread.restart_call = n;
    }

    // Each name once.
    void log_unknown(System& system, std::uint64_t n)
    {
        const std::size_t slot = n < number_limit ? n : number_limit;
        const std::uint64_t bit = std::uint64_t{1} << (slot % 64);
        if ((logged_[slot / 64].fetch_or(bit, std::memory_order_relaxed) & bit) != 0)
            return;
        const auto name = name_of(n);
        if (name.empty())
            system.log().line("system call ", n, " does not exist");
        else
            system.log().line("system call ", name, " is not there");
    }

    std::atomic<std::uint64_t> logged_[number_limit / 64 + 1]{};
};

} // namespace exo::linux_abi
