// System calls on descriptors themselves: dup, fcntl, ioctl, pipe; and those on sockets, of which there are none.

#pragma once

#include <cstdint>
#include <utility>

#include <exo/fs/descriptor_table.hpp>
#include <exo/fs/pipe.hpp>
#include <exo/linux/call.hpp>
#include <exo/linux/errors.hpp>
#include <exo/linux/file_structures.hpp>

namespace exo::linux_abi {

template <class System>
result<int> sys_dup(call<System>& c, std::int32_t descriptor)
{
    return c.process.files().duplicate(descriptor);
}

template <class System>
result<int> sys_dup2(call<System>& c, std::int32_t descriptor, std::int32_t target)
{
    return c.process.files().duplicate_to(descriptor, target);
}

template <class System>
result<int> sys_dup3(call<System>& c, std::int32_t descriptor, std::int32_t target, std::uint32_t flags)
{
    if ((flags & ~open_flag::close_on_exec) != 0 || descriptor == target)
        return fail(errors::invalid_argument);
    return c.process.files().duplicate_to(descriptor, target, flags != 0);
}

[[nodiscard]] inline std::uint32_t status_flags(const fs::file& f)
{
    if (f.path_only())
        return open_flag::path;
    const std::uint32_t mode = f.writable() ? (f.readable() ? open_flag::read_write : open_flag::write_only) : 0;
    return mode | (f.appends() ? open_flag::append : 0) | (f.non_blocking() ? open_flag::non_blocking : 0) |
           (f.has_position() ? open_flag::large_file : 0);
}

template <class System>
result<std::uint64_t> sys_fcntl(call<System>& c, std::int32_t descriptor, std::uint32_t command, std::uint64_t argument)
{
    constexpr std::uint32_t duplicate = 0, get_flags = 1, set_flags = 2, get_status = 3, set_status = 4,
                            duplicate_close_on_exec = 1030;
    fs::descriptor_table& files = c.process.files();
    switch (command) {
    case duplicate:
    case duplicate_close_on_exec:
        return files.duplicate(descriptor, command == duplicate_close_on_exec, static_cast<int>(argument));
    case get_flags:
        return EXO_TRY(files.close_on_exec(descriptor));
    case set_flags:
        EXO_TRY(files.set_close_on_exec(descriptor, (argument & 1) != 0));
        return std::uint64_t{0};
    case get_status:
        return status_flags(*EXO_TRY(files.get(descriptor)));
    case set_status: {
        const auto opened = EXO_TRY(files.get(descriptor));
        opened->set_appends((argument & open_flag::append) != 0);
        opened->set_non_blocking((argument & open_flag::non_blocking) != 0);
        return std::uint64_t{0};
    }
    default:
        EXO_TRY(files.get(descriptor));
        return fail(errors::invalid_argument, command);
    }
}

// What every file knows is answered here; the rest is the file's own business.
template <class System>
result<std::uint64_t> sys_ioctl(call<System>& c, std::int32_t descriptor, std::uint32_t request, std::uint64_t argument)
{
    constexpr std::uint32_t set_non_blocking = 0x5421, no_close_on_exec = 0x5450, close_on_exec = 0x5451,
                            bytes_ready = 0x541b;
    const auto opened = EXO_TRY(c.process.files().get(descriptor));
    if (opened->path_only())
        return fail(fs::errors::bad_descriptor, static_cast<std::uint64_t>(descriptor));
    switch (request) {
    case set_non_blocking:
        opened->set_non_blocking(EXO_TRY(c.template read_object<std::int32_t>(user_addr{argument})) != 0);
        return std::uint64_t{0};
    case close_on_exec:
    case no_close_on_exec:
        EXO_TRY(c.process.files().set_close_on_exec(descriptor, request == close_on_exec));
        return std::uint64_t{0};
    case bytes_ready:
        if (opened->node().type() == fs::file_type::regular) {
            const auto size = EXO_TRY(opened->node().status()).size;
            const auto position = EXO_TRY(opened->seek(0, fs::seek_from::current));
            const auto left = static_cast<std::int32_t>(size - position);
            EXO_TRY(c.write_object(user_addr{argument}, left));
            return std::uint64_t{0};
        }
        break;
    default:
        break;
    }
    return opened->control(request, argument, c);
}

template <class System>
result<> sys_pipe2(call<System>& c, user_addr to, std::uint32_t flags)
{
    if ((flags & ~(open_flag::close_on_exec | open_flag::non_blocking)) != 0)
        return fail(errors::invalid_argument, flags);
    const bool close_on_exec = (flags & open_flag::close_on_exec) != 0;
    fs::descriptor_table& files = c.process.files();
    auto ends =
        EXO_TRY(fs::make_pipe(c.system.file_environment(), c.paths().who, (flags & open_flag::non_blocking) != 0));
    std::int32_t descriptors[2];
    descriptors[0] = EXO_TRY(files.install(std::move(ends.reader), close_on_exec));
    const auto writer = files.install(std::move(ends.writer), close_on_exec);
    if (!writer) {
        (void)files.close(descriptors[0]);
        return fail(writer.error());
    }
    descriptors[1] = *writer;
    const auto told = c.write_object(to, descriptors);
    if (!told)
        for (const auto d : descriptors)
            (void)files.close(d);
    return told;
}

template <class System>
result<> sys_pipe(call<System>& c, user_addr to)
{
    return sys_pipe2(c, to, 0);
}

// Advice that is not needed is taken and forgotten.
template <class System>
result<> sys_fadvise64(call<System>& c, std::int32_t descriptor, std::int64_t /*offset*/, std::int64_t length,
                       std::uint32_t advice)
{
    constexpr std::uint32_t last_advice = 5;
    const auto opened = EXO_TRY(c.process.files().get(descriptor));
    if (!opened->has_position())
        return fail(fs::errors::not_seekable);
    if (length < 0 || advice > last_advice)
        return fail(errors::invalid_argument);
    return {};
}

template <class System>
result<> sys_socket(call<System>&, std::int32_t family)
{
    return fail(errors::family_not_supported, static_cast<std::uint64_t>(family));
}

// connect, getpeername, and whatever else takes a socket first.
template <class System>
result<> sys_on_socket(call<System>& c, std::int32_t descriptor)
{
    EXO_TRY(c.process.files().get(descriptor));
    return fail(errors::not_socket, static_cast<std::uint64_t>(descriptor));
}

} // namespace exo::linux_abi
