// Reading a directory: entries with positions that stay valid while other entries come and go.

#pragma once

#include <cstdint>
#include <string_view>

#include <exo/fs/status.hpp>

namespace exo::fs {

struct directory_entry {
    std::string_view name;
    std::uint64_t inode{};
    file_type type{};
    std::uint64_t next{}; // the position that continues behind this entry; never 0
};

class directory_sink {
public:
    // False: there is no room for it, and it will be offered again next time. Called with the directory locked, so it
    // must not touch user memory or the file system.
    [[nodiscard]] virtual bool add(const directory_entry& entry) = 0;

protected:
    ~directory_sink() = default;
};

} // namespace exo::fs
