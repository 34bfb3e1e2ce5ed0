// From where, and in whose name, a path is walked: what a process brings to every call that takes one.

#pragma once

#include <string_view>

#include <exo/fs/credentials.hpp>
#include <exo/fs/mount.hpp>
#include <exo/fs/status.hpp>

namespace exo::fs {

struct path_context {
    location root;
    location working_directory;
    credentials who{};
    permission_bits umask = 0;
};

// A path, and where a relative one starts: at the working directory unless `start` names another place (openat).
struct path {
    std::string_view text;
    const location* start = nullptr;

    path(std::string_view t, const location* s = nullptr) : text{t}, start{s} {}
    path(const char* t) : text{t} {}
};

} // namespace exo::fs
