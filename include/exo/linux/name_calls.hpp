// System calls that change names and what is kept about files: open, mkdir, unlink, rename, chmod, the working
// directory, mounts.

#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include <exo/fs/vfs.hpp>
#include <exo/linux/call.hpp>
#include <exo/linux/errors.hpp>
#include <exo/linux/file_structures.hpp>
#include <exo/linux/path_argument.hpp>

namespace exo::linux_abi {

template <class System>
result<int> sys_openat(call<System>& c, std::int32_t directory, user_addr text, std::uint32_t flags,
                       std::uint32_t mode)
{
    if ((flags & open_flag::temporary) != 0)
        return fail(errors::not_supported, flags);
    path_argument<System> path;
    EXO_TRY(path.read(c, directory, text));
    auto opened = EXO_TRY(c.system.vfs().open(c.paths(), path, to_open_options(flags, mode)));
    return c.process.files().install(std::move(opened), (flags & open_flag::close_on_exec) != 0);
}

template <class System>
result<int> sys_open(call<System>& c, user_addr path, std::uint32_t flags, std::uint32_t mode)
{
    return sys_openat(c, at_flag::working_directory, path, flags, mode);
}

template <class System>
result<int> sys_creat(call<System>& c, user_addr path, std::uint32_t mode)
{
    return sys_openat(c, at_flag::working_directory, path,
                      open_flag::create | open_flag::write_only | open_flag::truncate, mode);
}

template <class System>
result<> sys_close(call<System>& c, std::int32_t descriptor)
{
    EXO_TRY(c.process.files().close(descriptor));
    return {};
}

template <class System>
result<> sys_mkdirat(call<System>& c, std::int32_t directory, user_addr text, std::uint32_t mode)
{
    path_argument<System> path;
    EXO_TRY(path.read(c, directory, text));
    return c.system.vfs().make_directory(c.paths(), path, static_cast<fs::permission_bits>(mode & 01777));
}

template <class System>
result<> sys_mkdir(call<System>& c, user_addr path, std::uint32_t mode)
{
    return sys_mkdirat(c, at_flag::working_directory, path, mode);
}

template <class System>
result<> sys_mknodat(call<System>& c, std::int32_t directory, user_addr text, std::uint32_t mode, std::uint64_t device)
{
    std::optional<fs::file_type> type;
    switch (mode & mode_type::mask) {
    case 0:
    case mode_type::regular: type = fs::file_type::regular; break;
    case mode_type::character_device: type = fs::file_type::character_device; break;
    case mode_type::block_device: type = fs::file_type::block_device; break;
    case mode_type::fifo: type = fs::file_type::fifo; break;
    case mode_type::socket: type = fs::file_type::socket; break;
    case mode_type::directory: return fail(errors::not_permitted);
    default: return fail(errors::invalid_argument, mode);
    }
    path_argument<System> path;
    EXO_TRY(path.read(c, directory, text));
    return c.system.vfs().make_node(
        c.paths(), path, *type, static_cast<fs::permission_bits>(mode & fs::permission::all), decode_device(device));
}

template <class System>
result<> sys_mknod(call<System>& c, user_addr path, std::uint32_t mode, std::uint64_t device)
{
    return sys_mknodat(c, at_flag::working_directory, path, mode, device);
}

template <class System>
result<> sys_unlinkat(call<System>& c, std::int32_t directory, user_addr text, std::uint32_t flags)
{
    if ((flags & ~at_flag::remove_directory) != 0)
        return fail(errors::invalid_argument, flags);
    path_argument<System> path;
    EXO_TRY(path.read(c, directory, text));
    if (flags != 0)
        return c.system.vfs().remove_directory(c.paths(), path);
    return c.system.vfs().unlink(c.paths(), path);
}

template <class System>
result<> sys_unlink(call<System>& c, user_addr path)
{
    return sys_unlinkat(c, at_flag::working_directory, path, 0);
}

template <class System>
result<> sys_rmdir(call<System>& c, user_addr path)
{
    return sys_unlinkat(c, at_flag::working_directory, path, at_flag::remove_directory);
}

template <class System>
result<> sys_renameat2(call<System>& c, std::int32_t from_directory, user_addr from_text, std::int32_t to_directory,
                       user_addr to_text, std::uint32_t flags)
{
    constexpr std::uint32_t no_replace = 1;
    constexpr std::uint32_t exchange = 2;
    if ((flags & ~(no_replace | exchange)) != 0 || flags == (no_replace | exchange))
        return fail(errors::invalid_argument, flags);
    path_argument<System> from;
    EXO_TRY(from.read(c, from_directory, from_text));
    path_argument<System> to;
    EXO_TRY(to.read(c, to_directory, to_text));
    return c.system.vfs().rename(c.paths(), from, to,
                                 {.no_replace = flags == no_replace, .exchange = flags == exchange});
}

template <class System>
result<> sys_renameat(call<System>& c, std::int32_t from_directory, user_addr from, std::int32_t to_directory,
                      user_addr to)
{
    return sys_renameat2(c, from_directory, from, to_directory, to, 0);
}

template <class System>
result<> sys_rename(call<System>& c, user_addr from, user_addr to)
{
    return sys_renameat2(c, at_flag::working_directory, from, at_flag::working_directory, to, 0);
}

template <class System>
result<> sys_linkat(call<System>& c, std::int32_t from_directory, user_addr from_text, std::int32_t to_directory,
                    user_addr to_text, std::uint32_t flags)
{
    if ((flags & ~(at_flag::symlink_follow | at_flag::empty_path)) != 0)
        return fail(errors::invalid_argument, flags);
    path_argument<System> from;
    EXO_TRY(from.read(c, from_directory, from_text));
    path_argument<System> to;
    EXO_TRY(to.read(c, to_directory, to_text));
    return c.system.vfs().link(
        c.paths(), from, to,
        {.follow = (flags & at_flag::symlink_follow) != 0, .allow_empty = (flags & at_flag::empty_path) != 0});
}

template <class System>
result<> sys_link(call<System>& c, user_addr from, user_addr to)
{
    return sys_linkat(c, at_flag::working_directory, from, at_flag::working_directory, to, 0);
}

template <class System>
result<> sys_symlinkat(call<System>& c, user_addr target_text, std::int32_t directory, user_addr text)
{
    path_argument<System> target;
    EXO_TRY(target.read(c, at_flag::working_directory, target_text));
    if (target.empty())
        return fail(fs::errors::not_found);
    path_argument<System> path;
    EXO_TRY(path.read(c, directory, text));
    return c.system.vfs().make_symlink(c.paths(), target.text(), path);
}

template <class System>
result<> sys_symlink(call<System>& c, user_addr target, user_addr path)
{
    return sys_symlinkat(c, target, at_flag::working_directory, path);
}

// Where `directory` and `text` lead; with AT_EMPTY_PATH and an empty path, to the open file itself.
template <class System>
result<fs::location> resolve_at(call<System>& c, std::int32_t directory, user_addr text, std::uint32_t flags)
{
    if ((flags & ~(at_flag::symlink_no_follow | at_flag::empty_path)) != 0)
        return fail(errors::invalid_argument, flags);
    path_argument<System> path;
    EXO_TRY(path.read(c, directory, text));
    const bool allow_empty = (flags & at_flag::empty_path) != 0;
    if (path.empty() && allow_empty && path.start())
        return c.system.vfs().place_of(*path.start());
    return c.system.vfs().resolve(c.paths(), path,
                                  {.follow = (flags & at_flag::symlink_no_follow) == 0, .allow_empty = allow_empty});
}

// The place of an open file. Errors: bad_descriptor, out_of_memory.
template <class System>
result<fs::location> place_of(call<System>& c, std::int32_t descriptor)
{
    const auto opened = EXO_TRY(c.process.files().get(descriptor));
    if (opened->path_only())
        return fail(fs::errors::bad_descriptor, static_cast<std::uint64_t>(descriptor));
    return c.system.vfs().place_of(*opened);
}

template <class System>
result<> change_mode(call<System>& c, const fs::location& where, std::uint32_t mode)
{
    return c.system.vfs().change_permissions(c.paths(), where,
                                             static_cast<fs::permission_bits>(mode & fs::permission::all));
}

template <class System>
result<> sys_fchmodat(call<System>& c, std::int32_t directory, user_addr path, std::uint32_t mode)
{
    const auto where = EXO_TRY(resolve_at(c, directory, path, 0));
    return change_mode(c, where, mode);
}

template <class System>
result<> sys_chmod(call<System>& c, user_addr path, std::uint32_t mode)
{
    return sys_fchmodat(c, at_flag::working_directory, path, mode);
}

template <class System>
result<> sys_fchmod(call<System>& c, std::int32_t descriptor, std::uint32_t mode)
{
    const auto where = EXO_TRY(place_of(c, descriptor));
    return change_mode(c, where, mode);
}

// An id of -1 stays as it is.
template <class System>
result<> change_owner(call<System>& c, const fs::location& where, std::uint32_t uid, std::uint32_t gid)
{
    const auto given = [](std::uint32_t id) {
        return id == ~std::uint32_t{0} ? std::optional<std::uint32_t>{} : std::optional{id};
    };
    return c.system.vfs().change_owner(c.paths(), where, given(uid), given(gid));
}

template <class System>
result<> sys_fchownat(call<System>& c, std::int32_t directory, user_addr path, std::uint32_t uid, std::uint32_t gid,
                      std::uint32_t flags)
{
    const auto where = EXO_TRY(resolve_at(c, directory, path, flags));
    return change_owner(c, where, uid, gid);
}

template <class System>
result<> sys_chown(call<System>& c, user_addr path, std::uint32_t uid, std::uint32_t gid)
{
    return sys_fchownat(c, at_flag::working_directory, path, uid, gid, 0);
}

template <class System>
result<> sys_lchown(call<System>& c, user_addr path, std::uint32_t uid, std::uint32_t gid)
{
    return sys_fchownat(c, at_flag::working_directory, path, uid, gid, at_flag::symlink_no_follow);
}

template <class System>
result<> sys_fchown(call<System>& c, std::int32_t descriptor, std::uint32_t uid, std::uint32_t gid)
{
    const auto where = EXO_TRY(place_of(c, descriptor));
    return change_owner(c, where, uid, gid);
}

// `times` is null for both now, else two timespecs, of which each may stand for now or for no change.
template <class System>
result<> sys_utimensat(call<System>& c, std::int32_t directory, user_addr path, user_addr times, std::uint32_t flags)
{
    constexpr std::int64_t now = 0x3fffffff;
    constexpr std::int64_t omit = 0x3ffffffe;
    time_record given[2]{{0, now}, {0, now}};
    if (times.value() != 0)
        EXO_TRY(c.read(times, std::as_writable_bytes(std::span{given})));
    std::optional<fs::timestamp> stamps[2];
    for (std::size_t i = 0; i < 2; ++i) {
        if (given[i].nanoseconds == now)
            stamps[i] = c.system.wall_clock().now();
        else if (given[i].nanoseconds < 0 || (given[i].nanoseconds > 999'999'999 && given[i].nanoseconds != omit))
            return fail(errors::invalid_argument);
        else if (given[i].nanoseconds != omit)
            stamps[i] = {given[i].seconds, static_cast<std::uint32_t>(given[i].nanoseconds)};
    }
    const auto where = EXO_TRY(path.value() == 0 ? place_of(c, directory) : resolve_at(c, directory, path, flags));
    const bool to_now = given[0].nanoseconds == now && given[1].nanoseconds == now;
    if (!stamps[0] && !stamps[1])
        return {};
    return c.system.vfs().change_times(c.paths(), where, stamps[0], stamps[1], to_now);
}

template <class System>
result<> sys_utimes(call<System>& c, user_addr path, user_addr times)
{
    const auto where = EXO_TRY(resolve_at(c, at_flag::working_directory, path, 0));
    if (times.value() == 0) {
        const auto present = c.system.wall_clock().now();
        return c.system.vfs().change_times(c.paths(), where, present, present, true);
    }
    microsecond_record given[2];
    EXO_TRY(c.read(times, std::as_writable_bytes(std::span{given})));
    fs::timestamp stamps[2];
    for (std::size_t i = 0; i < 2; ++i) {
        if (given[i].microseconds < 0 || given[i].microseconds >= 1'000'000)
            return fail(errors::invalid_argument);
        stamps[i] = {given[i].seconds, static_cast<std::uint32_t>(given[i].microseconds * 1'000)};
    }
    return c.system.vfs().change_times(c.paths(), where, stamps[0], stamps[1]);
}

template <class System>
result<std::uint32_t> sys_umask(call<System>& c, std::uint32_t mask)
{
    auto guard = c.process.lock();
    return std::exchange(c.process.paths.umask, static_cast<fs::permission_bits>(mask & 0777));
}

template <class System>
result<> sys_truncate(call<System>& c, user_addr text, std::int64_t size)
{
    if (size < 0)
        return fail(errors::invalid_argument);
    path_argument<System> path;
    EXO_TRY(path.read(c, at_flag::working_directory, text));
    return c.system.vfs().truncate(c.paths(), path, static_cast<std::uint64_t>(size));
}

template <class System>
result<> sys_ftruncate(call<System>& c, std::int32_t descriptor, std::int64_t size)
{
    if (size < 0)
        return fail(errors::invalid_argument);
    const auto opened = EXO_TRY(c.process.files().get(descriptor));
    return opened->truncate(static_cast<std::uint64_t>(size));
}

template <class System>
result<> enter_directory(call<System>& c, fs::location where)
{
    EXO_TRY(c.system.vfs().check_directory(c.paths(), where));
    c.process.change_directory(std::move(where));
    return {};
}

template <class System>
result<> sys_chdir(call<System>& c, user_addr path)
{
    return enter_directory(c, EXO_TRY(resolve_at(c, at_flag::working_directory, path, 0)));
}

template <class System>
result<> sys_fchdir(call<System>& c, std::int32_t descriptor)
{
    const auto opened = EXO_TRY(c.process.files().get(descriptor));
    if (!opened->node().is_directory())
        return fail(fs::errors::not_directory);
    return enter_directory(c, opened->where());
}

template <class System>
result<> sys_chroot(call<System>& c, user_addr path)
{
    auto where = EXO_TRY(resolve_at(c, at_flag::working_directory, path, 0));
    EXO_TRY(c.system.vfs().check_directory(c.paths(), where));
    if (!c.identity().privileged())
        return fail(errors::not_permitted);
    auto guard = c.process.lock();
    std::swap(c.process.paths.root, where);
    guard.unlock();
    return {};
}

namespace mount_flag {
inline constexpr std::uint64_t read_only = 1, no_set_id = 2, no_devices = 4, no_execute = 8;
// Those that change only how fast access times are kept.
inline constexpr std::uint64_t harmless = 16 | 1024 | 2048 | 32768 | (1 << 21) | (1 << 24) | (1 << 25);
} // namespace mount_flag

// A fresh file system of a kind that System::create_file_system knows. Bind mounts and remounting are not there.
template <class System>
result<> sys_mount(call<System>& c, user_addr source_text, user_addr target_text, user_addr type_text,
                   std::uint64_t flags)
{
    constexpr std::uint64_t magic_mask = 0xffff0000;
    constexpr std::uint64_t magic = 0xc0ed0000; // older callers put it there
    if ((flags & magic_mask) == magic)
        flags &= ~magic_mask;
    constexpr std::uint64_t known = mount_flag::read_only | mount_flag::no_set_id | mount_flag::no_devices |
                                    mount_flag::no_execute | mount_flag::harmless;
    if (!c.identity().privileged())
        return fail(errors::not_permitted);
    if ((flags & ~known) != 0)
        return fail(errors::invalid_argument, flags);
    path_argument<System> target;
    EXO_TRY(target.read(c, at_flag::working_directory, target_text));
    path_argument<System> source;
    if (source_text.value() != 0)
        EXO_TRY(source.read(c, at_flag::working_directory, source_text));
    char type[64];
    const auto type_name = EXO_TRY(c.read_string(type_text, type));
    auto made = EXO_TRY(c.system.create_file_system(type_name, source.text()));
    return c.system.vfs().mount(c.paths(), target, std::move(made), source.empty() ? type_name : source.text(),
                                {.read_only = (flags & mount_flag::read_only) != 0,
                                 .no_execute = (flags & mount_flag::no_execute) != 0,
                                 .no_set_id = (flags & mount_flag::no_set_id) != 0,
                                 .no_devices = (flags & mount_flag::no_devices) != 0});
}

template <class System>
result<> sys_umount2(call<System>& c, user_addr text, std::uint32_t flags)
{
    constexpr std::uint32_t force = 1; // makes no difference to a file system without a server
    constexpr std::uint32_t no_follow = 8;
    if ((flags & ~(force | no_follow)) != 0)
        return fail(errors::invalid_argument, flags);
    path_argument<System> path;
    EXO_TRY(path.read(c, at_flag::working_directory, text));
    return c.system.vfs().unmount(c.paths(), path);
}

template <class System>
result<> sys_sync(call<System>& c)
{
    (void)c.system.vfs().sync(); // sync(2) has no way to fail
    return {};
}

template <class System>
result<> sys_syncfs(call<System>& c, std::int32_t descriptor)
{
    const auto opened = EXO_TRY(c.process.files().get(descriptor));
    return opened->where().on ? opened->where().on->system().sync() : result<>{};
}

template <class System>
result<> sys_fsync(call<System>& c, std::int32_t descriptor)
{
    const auto opened = EXO_TRY(c.process.files().get(descriptor));
    if (opened->path_only())
        return fail(fs::errors::bad_descriptor, static_cast<std::uint64_t>(descriptor));
    return opened->sync();
}

} // namespace exo::linux_abi
