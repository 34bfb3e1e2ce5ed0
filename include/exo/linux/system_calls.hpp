// System calls about the machine and the kernel as a whole, and those that fit nowhere else.

#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include <exo/base/errors.hpp>
#include <exo/linux/call.hpp>
#include <exo/linux/time_structures.hpp>
#include <exo/proc/system_name.hpp>
#include <exo/proc/user_copy.hpp>

namespace exo::linux_abi {

namespace identity = proc::system_name;

struct uname_record {
    char fields[6][65];
};

template <class System>
result<void> sys_uname(call<System>& c, user_addr to)
{
    constexpr std::string_view texts[6] = {identity::system,  identity::node,    identity::release,
                                           identity::version, identity::machine, identity::domain};
    uname_record record{};
    for (std::size_t f = 0; f < 6; ++f)
        for (std::size_t i = 0; i < texts[f].size(); ++i)
            record.fields[f][i] = texts[f][i];
    return c.write_object(to, record);
}

struct sysinfo_record {
    std::int64_t uptime;
    std::uint64_t loads[3];
    std::uint64_t total_memory, free_memory, shared_memory, buffers, total_swap, free_swap;
    std::uint16_t processes;
    std::uint16_t padding[3];
    std::uint64_t total_high, free_high;
    std::uint32_t unit;
    std::uint32_t end;
};
static_assert(sizeof(sysinfo_record) == 112);

template <class System>
result<void> sys_sysinfo(call<System>& c, user_addr to)
{
    const auto memory = c.system.memory_status();
    sysinfo_record record{};
    record.uptime = static_cast<std::int64_t>(c.system.now().nanoseconds() / second_in_ns);
    record.total_memory = memory.total;
    record.free_memory = memory.free;
    record.processes = static_cast<std::uint16_t>(c.system.processes().size());
    record.unit = 1;
    return c.write_object(to, record);
}

template <class System>
result<std::uint64_t> sys_getrandom(call<System>& c, user_addr to, std::uint64_t size, std::uint32_t flags)
{
    constexpr std::uint32_t non_block = 1, random = 2, insecure = 4;
    if ((flags & ~(non_block | random | insecure)) != 0 || (flags & (random | insecure)) == (random | insecure))
        return fail(errors::invalid_argument, flags);
    constexpr std::uint64_t most = 0x1ffffff;
    size = size < most ? size : most;
    std::uint64_t done = 0;
    while (done < size) {
        std::byte piece[256];
        const auto wanted = size - done < sizeof(piece) ? size - done : sizeof(piece);
        c.system.random(std::span{piece}.first(wanted));
        const auto copied = proc::copy_to_user(c.system, to + done, piece, wanted);
        done += copied;
        if (copied < wanted)
            return done != 0 ? result<std::uint64_t>{done} : fail(errors::bad_address, to.value());
        if (done < size && c.system.parker().interrupted())
            break;
    }
    return done;
}

template <class System, class Table>
constexpr void add_system_calls(Table& table)
{
    table.template set<sys_uname<System>>(number::uname);
    table.template set<sys_sysinfo<System>>(number::sysinfo);
    table.template set<sys_getrandom<System>>(number::getrandom);
}

} // namespace exo::linux_abi
