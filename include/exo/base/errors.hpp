// The kinds of failure that every room shares. A room's own kinds stand in its errors.hpp.

#pragma once

#include <exo/base/error.hpp>

namespace exo::errors {

// Context: bytes asked for, or 0.
inline constexpr error_kind out_of_memory{"base", "out_of_memory", "not enough memory", posix::nomem,
                                          severity::degraded, recovery::reclaim_memory};
// Context: the offending value.
inline constexpr error_kind invalid_argument{"base", "invalid_argument", "an argument is outside what is defined",
                                             posix::inval, severity::caller, recovery::fix_input};
// Context: the address.
inline constexpr error_kind bad_address{"base", "bad_address", "the address is not accessible to the caller",
                                        posix::fault, severity::caller, recovery::fix_input};
inline constexpr error_kind interrupted{"base", "interrupted", "a signal ended the wait", posix::intr,
                                        severity::expected, recovery::retry, {},
                                        "let the signal be handled, then wait again"};
inline constexpr error_kind would_block{"base", "would_block", "nothing is ready and the caller does not wait",
                                        posix::again, severity::expected, recovery::back_off};
inline constexpr error_kind timed_out{"base", "timed_out", "the time given for the wait ran out", posix::timedout,
                                      severity::expected, recovery::back_off, {},
                                      "allow more time, or look for who should have ended the wait"};
inline constexpr error_kind busy{"base", "busy", "the object is in use", posix::busy, severity::expected,
                                 recovery::back_off};
inline constexpr error_kind not_supported{"base", "not_supported", "this object does not support the operation",
                                          posix::opnotsupp, severity::caller, recovery::give_up};
inline constexpr error_kind not_permitted{"base", "not_permitted", "the caller may not do this", posix::perm,
                                          severity::caller, recovery::give_up};
// Context: sector, register or offset.
inline constexpr error_kind io_error{"base", "io_error", "the device failed the transfer", posix::io,
                                     severity::degraded, recovery::retry};
inline constexpr error_kind no_device{"base", "no_device", "no such device", posix::nodev, severity::caller,
                                      recovery::give_up};

} // namespace exo::errors
