// The kinds of failure that processes report, and the ways in which an interrupted call ends.
//
// A wait that a signal cuts short fails with errors::interrupted: the call starts again if no handler runs or the
// handler says SA_RESTART, else the program sees EINTR. The kinds below say that a call behaves differently.

#pragma once

#include <exo/base/errors.hpp>

namespace exo::proc::errors {

using namespace exo::errors;

// Context of each: the number asked for.
inline constexpr error_kind no_process{"proc", "no_process", "no such process", posix::srch, severity::caller,
                                       recovery::fix_input};
inline constexpr error_kind no_child{"proc", "no_child", "no such child", posix::child, severity::caller,
                                     recovery::fix_input};
inline constexpr error_kind signal_queue_full{"proc", "signal_queue_full", "the target's signal queue is full",
                                              posix::again, severity::expected, recovery::back_off};
// Context: bytes of arguments and environment.
inline constexpr error_kind arguments_too_long{"proc", "arguments_too_long", "arguments and environment are too long",
                                               posix::toobig, severity::caller, recovery::shrink_request};
inline constexpr error_kind not_executable{"proc", "not_executable", "the file is no program", posix::noexec,
                                           severity::caller, recovery::fix_input};
inline constexpr error_kind execute_denied{"proc", "execute_denied", "the file may not be executed", posix::acces,
                                           severity::caller, recovery::give_up};
// Context: the call's number.
inline constexpr error_kind unknown_call{"proc", "unknown_call", "this system call does not exist here", posix::nosys,
                                         severity::caller, recovery::give_up};

// EINTR if any handler runs, SA_RESTART or not; started again otherwise (poll, pause, sigsuspend).
inline constexpr error_kind interrupted_by_handler{"proc", "interrupted_by_handler", "a signal ended the wait",
                                                   posix::intr, severity::expected, recovery::retry};
// The same, but continued through restart_syscall with what the thread noted in thread::restart (nanosleep).
inline constexpr error_kind interrupted_with_rest{"proc", "interrupted_with_rest", "a signal ended the wait",
                                                  posix::intr, severity::expected, recovery::retry};
// Started again always.
inline constexpr error_kind interrupted_to_restart{"proc",      "interrupted_to_restart", "a signal ended the wait",
                                                   posix::intr, severity::expected,       recovery::retry};
// EINTR always.
inline constexpr error_kind interrupted_for_good{"proc", "interrupted_for_good", "a signal ended the wait",
                                                 posix::intr, severity::expected, recovery::give_up};

} // namespace exo::proc::errors
