// The kinds of failure that only the system-call layer reports.

#pragma once

#include <exo/base/errors.hpp>

namespace exo::linux_abi::errors {

using namespace exo::errors;

// Context: the descriptor.
inline constexpr error_kind not_socket{"linux", "not_socket", "the descriptor is not a socket", posix::notsock,
                                       severity::caller, recovery::fix_input};
// Context: the family.
inline constexpr error_kind family_not_supported{"linux", "family_not_supported", "no sockets of this family here",
                                                 posix::afnosupport, severity::caller, recovery::give_up};

} // namespace exo::linux_abi::errors
