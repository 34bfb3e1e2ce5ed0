// The numbers of processes, threads, process groups and sessions: one space, as POSIX has it.

#pragma once

#include <cstdint>

namespace exo::proc {

using process_id = std::int32_t;

inline constexpr process_id init_id = 1;
// As Linux's default pid_max: numbers stay below it, and are reused as late as possible.
inline constexpr process_id process_id_limit = 32768;

} // namespace exo::proc
