// How a file is opened: open(2)'s flags as a structure, so that nothing below the system-call layer knows their
// numbers.

#pragma once

#include <exo/fs/status.hpp>

namespace exo::fs {

struct open_options {
    bool read = false;
    bool write = false;
    bool append = false;       // every write goes to the end
    bool non_blocking = false; // would_block instead of waiting
    bool create = false;       // a regular file, if there is none
    bool exclusive = false;    // with create: only if there is none
    bool truncate = false;
    bool directory = false;    // not_directory if it is something else
    bool no_follow = false;    // too_many_symlinks if the last component is a symbolic link
    bool synchronous = false;  // writes return once they would survive a loss of power
    // A handle on the place: the file is neither read nor written, and no permission on it needed.
    bool path_only = false;
    permission_bits permissions = 0; // of a file that is created, before the umask

    [[nodiscard]] static constexpr open_options reading() { return {.read = true}; }
};

} // namespace exo::fs
