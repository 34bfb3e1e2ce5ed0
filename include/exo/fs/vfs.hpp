// The one tree of names that a kernel's processes see: mounts, path walk, and every operation that takes a path.
//
// Errors are those that POSIX names for the call; whatever cannot be done leaves everything as it was. All operations
// may be called from several threads at once, and may sleep.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include <exo/base/list.hpp>
#include <exo/base/ref.hpp>
#include <exo/base/result.hpp>
#include <exo/fs/dentry_cache.hpp>
#include <exo/fs/environment.hpp>
#include <exo/fs/file.hpp>
#include <exo/fs/file_system.hpp>
#include <exo/fs/mount.hpp>
#include <exo/fs/open_options.hpp>
#include <exo/fs/path_context.hpp>
#include <exo/sync/mutex.hpp>

namespace exo::fs {

// What becomes of the last component of a path.
struct walk_options {
    bool follow = true;      // a symbolic link there is followed
    bool allow_empty = false; // an empty path is the start itself (AT_EMPTY_PATH)
};

class vfs {
public:
    explicit vfs(environment& env, std::size_t remembered_names = 1024);
    vfs(const vfs&) = delete;
    vfs& operator=(const vfs&) = delete;
    ~vfs();

    // The first mount, at "/". Once.
    [[nodiscard]] result<> mount_root(ref<file_system> system, std::string_view source, mount_options options = {});
    // The root of all. Empty before mount_root.
    [[nodiscard]] location root() const;
    // The context of a process that has just come into being.
    [[nodiscard]] path_context initial_context() const;

    // `where` becomes the root of `system`. Errors: not_directory, not_permitted (only the privileged mount),
    // out_of_memory.
    [[nodiscard]] result<> mount(const path_context& context, const path& where, ref<file_system> system,
                                 std::string_view source, mount_options options = {});
    // `where` is the root of a mount. Errors: invalid_argument (it is not), busy (something in it is in use, or it is
    // the root of all), not_permitted.
    [[nodiscard]] result<> unmount(const path_context& context, const path& where);
    // Each mount in the order of mounting, with its path: what /proc/mounts lists. `visit(mount&, string_view path)`.
    // Errors: out_of_memory.
    template <class Visit>
    [[nodiscard]] result<> for_each_mount(Visit visit);

    // Where a path leads. The file exists. Errors: not_found, not_directory, access_denied, too_many_symlinks,
    // name_too_long.
    [[nodiscard]] result<location> resolve(const path_context& context, const path& p, walk_options options = {});

    [[nodiscard]] result<ref<file>> open(const path_context& context, const path& p, const open_options& options);

    [[nodiscard]] result<file_status> status(const path_context& context, const path& p, walk_options options = {});
    // access(2): `wanted` are bits of fs::access, 0 for mere existence. The context holds the real ids.
    [[nodiscard]] result<> check_access(const path_context& context, const path& p, unsigned wanted,
                                        walk_options options = {});
    [[nodiscard]] result<std::size_t> read_link(const path_context& context, const path& p, std::span<char> into);

    [[nodiscard]] result<> make_directory(const path_context& context, const path& p, permission_bits permissions);
    // mknod: anything but a directory and a symbolic link.
    [[nodiscard]] result<> make_node(const path_context& context, const path& p, file_type type,
                                     permission_bits permissions, device_number special = {});
    [[nodiscard]] result<> make_symlink(const path_context& context, std::string_view target, const path& p);
    // A further name for what `existing` leads to. Errors: cross_device, not_permitted (a directory).
    [[nodiscard]] result<> link(const path_context& context, const path& existing, const path& fresh,
                                walk_options options = {.follow = false});
    [[nodiscard]] result<> unlink(const path_context& context, const path& p);
    [[nodiscard]] result<> remove_directory(const path_context& context, const path& p);
    [[nodiscard]] result<> rename(const path_context& context, const path& from, const path& to,
                                  rename_options options = {});
    [[nodiscard]] result<> truncate(const path_context& context, const path& p, std::uint64_t size);

    // chmod, chown, utimensat. Times may be absent, and then stay.
    [[nodiscard]] result<> change_permissions(const path_context& context, const location& where,
                                              permission_bits permissions);
    [[nodiscard]] result<> change_owner(const path_context& context, const location& where,
                                        std::optional<std::uint32_t> uid, std::optional<std::uint32_t> gid);
    // `to_now`: both times to the present, which takes no more than permission to write.
    [[nodiscard]] result<> change_times(const path_context& context, const location& where,
                                        std::optional<timestamp> accessed, std::optional<timestamp> modified,
                                        bool to_now = false);

    // For chdir and fchdir: `where` is a directory that the caller may search. Errors: not_directory, access_denied.
    [[nodiscard]] result<> check_directory(const path_context& context, const location& where) const;
    // The path of `where` as seen from the context's root, and its length. Errors: does_not_fit, not_found if
    // its directory was removed.
    [[nodiscard]] result<std::size_t> path_of(const path_context& context, const location& where, std::span<char> into);
    // Lets file.name() tell the path by which it can be found now: for mappings, as /proc/PID/maps shows them.
    [[nodiscard]] result<> remember_path(const path_context& context, file& opened);

    // Writes back every mounted file system; the first error, after trying all.
    [[nodiscard]] result<> sync();

    [[nodiscard]] environment& context() const noexcept { return environment_; }

private:
    environment& environment_;
};

} // namespace exo::fs
