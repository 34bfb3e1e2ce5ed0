// A file of whatever kind, as its file system knows it: what stands behind a name, with or without one.
//
// One inode is one object while anybody refers to it. Every operation has a default that fails as POSIX says for a file
// that cannot do it, so a file system overrides what it has. Locks: the operations on names in a directory (lookup to
// read_directory) are called with that directory's entries() lock held, by vfs; an inode locks its own data itself, and
// holds nothing that a page fault could want while it calls an output or an input.

#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string_view>

#include <exo/base/ref.hpp>
#include <exo/base/result.hpp>
#include <exo/fs/credentials.hpp>
#include <exo/fs/directory.hpp>
#include <exo/fs/errors.hpp>
#include <exo/fs/open_options.hpp>
#include <exo/fs/status.hpp>
#include <exo/fs/stream.hpp>
#include <exo/mm/fault.hpp>
#include <exo/mm/pager.hpp>
#include <exo/sync/mutex.hpp>

namespace exo::fs {

struct environment;
struct location;
class file;

// Who owns a new file, and what it is.
struct new_inode {
    file_type type{};
    permission_bits permissions{};
    std::uint32_t uid{};
    std::uint32_t gid{};
    device_number special{};
};

struct rename_options {
    bool no_replace = false; // exists, if the new name is taken
    bool exchange = false;   // the two names swap what they stand for
};

class inode : public ref_counted {
public:
    using entries_lock = sync::mutex<sync::lock_rank::inode_parent>;

    // Unique within its file system, never 0.
    [[nodiscard]] std::uint64_t number() const noexcept { return number_; }
    [[nodiscard]] file_type type() const noexcept { return type_; }
    [[nodiscard]] bool is_directory() const noexcept { return type_ == file_type::directory; }
    // Whether writing it writes the file system: not so for devices and pipes, which only have their name there.
    [[nodiscard]] bool has_contents() const noexcept
    {
        return type_ == file_type::regular || type_ == file_type::directory || type_ == file_type::symlink;
    }
    [[nodiscard]] permission_bits permissions() const noexcept { return permissions_.load(std::memory_order_relaxed); }
    [[nodiscard]] std::uint32_t uid() const noexcept { return uid_.load(std::memory_order_relaxed); }
    [[nodiscard]] std::uint32_t gid() const noexcept { return gid_.load(std::memory_order_relaxed); }
    [[nodiscard]] bool allows(const credentials& who, unsigned wanted) const
    {
        return fs::allows(who, type_, permissions(), uid(), gid(), wanted);
    }
    [[nodiscard]] entries_lock& entries() noexcept { return entries_; }
    // A directory that was removed while somebody still refers to it: nothing can be made in it. Under entries().
    [[nodiscard]] bool removed() const noexcept { return removed_; }
    void mark_removed() noexcept { removed_ = true; }
    // How many mounts cover this directory; kept by mount_table.
    [[nodiscard]] std::atomic<unsigned>& covers() noexcept { return covers_; }

    [[nodiscard]] virtual result<file_status> status() = 0;
    [[nodiscard]] virtual result<> change(const attribute_change&) { return fail(errors::not_permitted); }

    // Directories. Names are 1 to 255 bytes, without '/', neither "." nor "..". New names are checked to be free.
    // Whether names may appear and vanish other than through these calls, so that lookups must not be remembered.
    [[nodiscard]] virtual bool has_volatile_names() const noexcept { return false; }
    // Errors: not_found.
    [[nodiscard]] virtual result<ref<inode>> lookup(std::string_view) { return fail(errors::not_directory); }
    // Anything but a symbolic link.
    [[nodiscard]] virtual result<ref<inode>> create(std::string_view, const new_inode&)
    {
        return fail(errors::not_permitted);
    }
    [[nodiscard]] virtual result<ref<inode>> symlink(std::string_view, std::string_view /*target*/, const new_inode&)
    {
        return fail(errors::not_permitted);
    }
    // `target` belongs to the same file system and is no directory.
    [[nodiscard]] virtual result<> link(std::string_view, inode& /*target*/) { return fail(errors::not_permitted); }
    // `target` is what the name stands for: no directory in unlink, and a directory in remove_directory.
    [[nodiscard]] virtual result<> unlink(std::string_view, inode& /*target*/) { return fail(errors::not_permitted); }
    // Errors: directory_not_empty.
    [[nodiscard]] virtual result<> remove_directory(std::string_view, inode& /*target*/)
    {
        return fail(errors::not_permitted);
    }
    // `source` is what `name` stands for; `target`, what `new_name` in `new_parent` does, or null. vfs has checked that
    // kinds match and that no directory moves below itself. Errors: directory_not_empty, not_supported.
    [[nodiscard]] virtual result<> rename(std::string_view /*name*/, inode& /*source*/, inode& /*new_parent*/,
                                          std::string_view /*new_name*/, inode* /*target*/, rename_options)
    {
        return fail(errors::not_permitted);
    }
    // Offers the entries from `position` (0: the first) on, "." and ".." among them, until the sink is full or there
    // are no more.
    [[nodiscard]] virtual result<> read_directory(std::uint64_t /*position*/, directory_sink&)
    {
        return fail(errors::not_directory);
    }

    // Symbolic links: the target's length, of which as much as fits is stored in `into`.
    [[nodiscard]] virtual result<std::size_t> read_link(std::span<char> /*into*/)
    {
        return fail(errors::invalid_argument);
    }

    // A link that leads to a file, not to a path (/proc/PID/fd/N): true, and `target` is set. Errors: not_found,
    // out_of_memory.
    [[nodiscard]] virtual result<bool> jump(location& /*target*/) { return false; }

    // Contents. Reading at or behind the end returns 0. Fewer bytes than wanted is no error; after some were
    // transferred, an error is not reported.
    [[nodiscard]] virtual result<std::size_t> read(std::uint64_t /*offset*/, output&)
    {
        return fail(is_directory() ? errors::is_directory : errors::invalid_argument);
    }
    [[nodiscard]] virtual result<std::size_t> write(std::uint64_t /*offset*/, input&)
    {
        return fail(is_directory() ? errors::is_directory : errors::invalid_argument);
    }
    // At the end, wherever it is by then; `end_after` receives where the last byte went.
    [[nodiscard]] virtual result<std::size_t> append(input&, std::uint64_t& /*end_after*/)
    {
        return fail(is_directory() ? errors::is_directory : errors::invalid_argument);
    }
    [[nodiscard]] virtual result<> truncate(std::uint64_t /*size*/)
    {
        return fail(is_directory() ? errors::is_directory : errors::invalid_argument);
    }
    // The next data (or hole) at or behind `offset`. Errors: no_data.
    [[nodiscard]] virtual result<std::uint64_t> seek_data(std::uint64_t offset)
    {
        return EXO_TRY(status()).size > offset ? result<std::uint64_t>{offset} : fail(errors::no_data);
    }
    [[nodiscard]] virtual result<std::uint64_t> seek_hole(std::uint64_t offset)
    {
        const auto size = EXO_TRY(status()).size;
        return size > offset ? result<std::uint64_t>{size} : fail(errors::no_data);
    }
    [[nodiscard]] virtual result<> sync() { return {}; }
    // For mappings, as mm::pager::get_page.
    [[nodiscard]] virtual result<frame_number> get_page(std::uint64_t /*page_index*/, bool /*for_write*/)
    {
        return fail(errors::no_device);
    }
    // As mm::pager::get_present_pages.
    [[nodiscard]] virtual std::size_t get_present_pages(std::uint64_t /*first*/, std::span<mm::object_page> /*into*/)
    {
        return 0;
    }
    // As mm::pager::mappings.
    [[nodiscard]] virtual mm::object_mappings* mappings() noexcept { return nullptr; }
    [[nodiscard]] virtual bool can_be_mapped() const noexcept { return false; }

    // An open file on this inode: open_plain (file.hpp) makes one that comes back to the operations above. Permissions
    // and kinds have been checked.
    [[nodiscard]] virtual result<ref<file>> open(environment& env, const location& where,
                                                 const open_options& options) = 0;

protected:
    inode(std::uint64_t number, file_type type, permission_bits permissions, std::uint32_t uid, std::uint32_t gid)
        : number_{number}, type_{type}, permissions_{permissions}, uid_{uid}, gid_{gid}
    {
    }
    ~inode() override = default;

    void set_permissions(permission_bits p) noexcept { permissions_.store(p, std::memory_order_relaxed); }
    void set_owner(std::uint32_t uid, std::uint32_t gid) noexcept
    {
        uid_.store(uid, std::memory_order_relaxed);
        gid_.store(gid, std::memory_order_relaxed);
    }
    // Permissions and owner, for file systems that keep them nowhere else.
    void apply(const attribute_change& change) noexcept
    {
        if (change.permissions)
            set_permissions(*change.permissions);
        set_owner(change.uid.value_or(uid()), change.gid.value_or(gid()));
    }

private:
    const std::uint64_t number_;
    const file_type type_;
    std::atomic<permission_bits> permissions_;
    std::atomic<std::uint32_t> uid_;
    std::atomic<std::uint32_t> gid_;
    std::atomic<unsigned> covers_{};
    bool removed_{};
    entries_lock entries_;
};

} // namespace exo::fs
