// System calls that ask about files: the stat family, access, readlink, statfs, getcwd.

#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <span>

#include <exo/base/allocator.hpp>
#include <exo/fs/vfs.hpp>
#include <exo/linux/call.hpp>
#include <exo/linux/errors.hpp>
#include <exo/linux/file_structures.hpp>
#include <exo/linux/path_argument.hpp>

namespace exo::linux_abi {

using path_buffer = std::array<char, fs::longest_path + 1>;

// By path, or with AT_EMPTY_PATH and an empty one of the open file itself, which may have no place in the tree.
template <class System>
result<fs::file_status> status_at(call<System>& c, std::int32_t directory, user_addr text, std::uint32_t flags)
{
    constexpr std::uint32_t known =
        at_flag::symlink_no_follow | at_flag::no_automount | at_flag::empty_path | at_flag::sync_type;
    if ((flags & ~known) != 0)
        return fail(errors::invalid_argument, flags);
    path_argument<System> path;
    EXO_TRY(path.read(c, directory, text));
    const bool allow_empty = (flags & at_flag::empty_path) != 0;
    if (path.empty() && allow_empty && path.start())
        return path.start()->node().status();
    return c.system.vfs().status(c.paths(), path,
                                 {.follow = (flags & at_flag::symlink_no_follow) == 0, .allow_empty = allow_empty});
}

template <class System>
result<> sys_newfstatat(call<System>& c, std::int32_t directory, user_addr path, user_addr to, std::uint32_t flags)
{
    const auto status = EXO_TRY(status_at(c, directory, path, flags));
    return c.write_object(to, to_stat(status));
}

template <class System>
result<> sys_stat(call<System>& c, user_addr path, user_addr to)
{
    return sys_newfstatat(c, at_flag::working_directory, path, to, 0);
}

template <class System>
result<> sys_lstat(call<System>& c, user_addr path, user_addr to)
{
    return sys_newfstatat(c, at_flag::working_directory, path, to, at_flag::symlink_no_follow);
}

template <class System>
result<> sys_fstat(call<System>& c, std::int32_t descriptor, user_addr to)
{
    const auto opened = EXO_TRY(c.process.files().get(descriptor));
    const auto status = EXO_TRY(opened->node().status());
    return c.write_object(to, to_stat(status));
}

template <class System>
result<> sys_statx(call<System>& c, std::int32_t directory, user_addr path, std::uint32_t flags,
                   std::uint32_t /*mask: all that is known is told*/, user_addr to)
{
    const auto status = EXO_TRY(status_at(c, directory, path, flags));
    return c.write_object(to, to_statx(status));
}

template <class System>
result<> sys_faccessat2(call<System>& c, std::int32_t directory, user_addr text, std::uint32_t wanted,
                        std::uint32_t flags)
{
    constexpr std::uint32_t known = at_flag::symlink_no_follow | at_flag::effective_access | at_flag::empty_path;
    if (wanted > 7 || (flags & ~known) != 0)
        return fail(errors::invalid_argument);
    path_argument<System> path;
    EXO_TRY(path.read(c, directory, text));
    const fs::walk_options options{.follow = (flags & at_flag::symlink_no_follow) == 0,
                                   .allow_empty = (flags & at_flag::empty_path) != 0};
    const auto& identity = c.identity();
    if ((flags & at_flag::effective_access) != 0 ||
        (identity.user.real == identity.user.effective && identity.group.real == identity.group.effective))
        return c.system.vfs().check_access(c.paths(), path, wanted, options);
    fs::path_context real = c.paths();
    real.who.uid = identity.user.real;
    real.who.gid = identity.group.real;
    return c.system.vfs().check_access(real, path, wanted, options);
}

template <class System>
result<> sys_faccessat(call<System>& c, std::int32_t directory, user_addr path, std::uint32_t wanted)
{
    return sys_faccessat2(c, directory, path, wanted, 0);
}

template <class System>
result<> sys_access(call<System>& c, user_addr path, std::uint32_t wanted)
{
    return sys_faccessat2(c, at_flag::working_directory, path, wanted, 0);
}

template <class System>
result<std::size_t> sys_readlinkat(call<System>& c, std::int32_t directory, user_addr text, user_addr to,
                                   std::int32_t size)
{
    if (size <= 0)
        return fail(errors::invalid_argument);
    path_argument<System> path;
    EXO_TRY(path.read(c, directory, text));
    auto target = EXO_TRY(make_owned<path_buffer>(c.system.heap()));
    const std::size_t whole = EXO_TRY(c.system.vfs().read_link(c.paths(), path, *target));
    const std::size_t stored = whole < target->size() ? whole : target->size();
    const std::size_t length = stored < static_cast<std::size_t>(size) ? stored : static_cast<std::size_t>(size);
    EXO_TRY(c.write(to, std::as_bytes(std::span{*target}.first(length))));
    return length;
}

template <class System>
result<std::size_t> sys_readlink(call<System>& c, user_addr path, user_addr to, std::int32_t size)
{
    return sys_readlinkat(c, at_flag::working_directory, path, to, size);
}

[[nodiscard]] inline result<statfs> to_statfs(const fs::location& where)
{
    statfs f{};
    if (!where.on) {
        f.type = 0x50495045; // a pipe
        f.block_size = f.fragment_size = page_size;
        f.longest_name = fs::longest_name;
        return f;
    }
    const auto s = EXO_TRY(where.on->system().status());
    const auto& options = where.on->options();
    f.type = static_cast<std::int64_t>(s.type);
    f.block_size = f.fragment_size = s.block_size;
    f.blocks = static_cast<std::int64_t>(s.blocks);
    f.free_blocks = static_cast<std::int64_t>(s.free_blocks);
    f.available_blocks = static_cast<std::int64_t>(s.available_blocks);
    f.files = static_cast<std::int64_t>(s.files);
    f.free_files = static_cast<std::int64_t>(s.free_files);
    f.longest_name = s.longest_name;
    // ST_VALID with ST_RDONLY, ST_NOSUID, ST_NODEV, ST_NOEXEC.
    f.flags = 0x20 | (where.on->read_only() ? 1 : 0) | (options.no_set_id ? 2 : 0) | (options.no_devices ? 4 : 0) |
              (options.no_execute ? 8 : 0);
    return f;
}

template <class System>
result<> sys_statfs(call<System>& c, user_addr text, user_addr to)
{
    path_argument<System> path;
    EXO_TRY(path.read(c, at_flag::working_directory, text));
    const auto where = EXO_TRY(c.system.vfs().resolve(c.paths(), path));
    const auto status = EXO_TRY(to_statfs(where));
    return c.write_object(to, status);
}

template <class System>
result<> sys_fstatfs(call<System>& c, std::int32_t descriptor, user_addr to)
{
    const auto opened = EXO_TRY(c.process.files().get(descriptor));
    const auto status = EXO_TRY(to_statfs(opened->where()));
    return c.write_object(to, status);
}

// The length with the terminating zero.
template <class System>
result<std::size_t> sys_getcwd(call<System>& c, user_addr to, std::uint64_t size)
{
    auto text = EXO_TRY(make_owned<path_buffer>(c.system.heap()));
    const auto into = std::span{*text}.template first<fs::longest_path>();
    const std::size_t length = EXO_TRY(c.system.vfs().path_of(c.paths(), c.paths().working_directory, into));
    if (length >= size)
        return fail(fs::errors::does_not_fit, length + 1);
    (*text)[length] = '\0';
    EXO_TRY(c.write(to, std::as_bytes(std::span{*text}.first(length + 1))));
    return length + 1;
}

} // namespace exo::linux_abi
