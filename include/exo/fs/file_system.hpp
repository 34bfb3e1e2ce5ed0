// A file system, mounted or not: it knows its root, and how full it is. Its inodes refer to it, and it outlives them:
// whoever refers to an inode refers to the mount it was reached through, and a mount refers to its file system.

#pragma once

#include <string_view>

#include <exo/base/ref.hpp>
#include <exo/base/result.hpp>
#include <exo/fs/inode.hpp>

namespace exo::fs {

class file_system : public ref_counted {
public:
    // As /proc/mounts shows it: "ext2".
    [[nodiscard]] virtual std::string_view type_name() const noexcept = 0;
    [[nodiscard]] virtual result<ref<inode>> root() = 0;
    [[nodiscard]] virtual result<file_system_status> status() = 0;
    // Cannot be written at all, however it is mounted.
    [[nodiscard]] virtual bool read_only() const noexcept { return false; }
    [[nodiscard]] virtual result<> sync() { return {}; }

protected:
    ~file_system() override = default;
};

} // namespace exo::fs
