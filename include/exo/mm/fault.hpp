// The vocabulary of page faults: what was tried, what came of it, and the ways in which it can be wrong.

#pragma once

#include <cstdint>

#include <exo/base/error.hpp>

namespace exo::mm {

enum class access : std::uint8_t { read, write, execute };

// What a successful fault did; for counters.
enum class fault_kind : std::uint8_t {
    spurious,      // the translation was there already
    demand_zero,   // a fresh zeroed page
    paged_in,      // a page of the region's pager
    copied,        // copy on write: the contents went to a fresh page
    reused,        // copy on write by the only one left: the page became writable as it is
    made_writable, // a page that is shared on purpose, written for the first time
};

inline constexpr unsigned fault_kind_count = 6;

// Context of each: the faulting address.

// Nothing is mapped there: SIGSEGV with SEGV_MAPERR.
inline constexpr error_kind no_region{"mm",         "no_region",      "no region contains the address",
                                      posix::fault, severity::caller, recovery::kill_task};
// Something is mapped, but does not allow the access: SIGSEGV with SEGV_ACCERR.
inline constexpr error_kind access_denied{"mm",         "access_denied",  "the region does not allow this access",
                                          posix::fault, severity::caller, recovery::kill_task};
// The region's object ends before the page: SIGBUS with BUS_ADRERR. From a pager the context is the page index.
inline constexpr error_kind beyond_end{
    "mm",         "beyond_end",     "the page lies behind the end of the mapped object",
    posix::fault, severity::caller, recovery::kill_task};

} // namespace exo::mm
