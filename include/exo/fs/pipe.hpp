// Pipes (POSIX pipe(2), pipe(7)): bytes in order from those who write to those who read.
//
// 64 KiB are held; a write of up to 4096 bytes goes in whole or not at all. Reading an empty pipe without writers gives
// end of file; writing one without readers gives broken_pipe (the caller sends the signal).

#pragma once

#include <exo/base/result.hpp>
#include <exo/fs/environment.hpp>
#include <exo/fs/file.hpp>

namespace exo::fs {

struct pipe_ends {
    ref<file> reader;
    ref<file> writer;
};

inline constexpr std::size_t pipe_capacity = 64 * 1024;
inline constexpr std::size_t pipe_atomic = 4096; // PIPE_BUF

// Errors: out_of_memory.
[[nodiscard]] result<pipe_ends> make_pipe(environment& env, const credentials& who, bool non_blocking = false);

} // namespace exo::fs
