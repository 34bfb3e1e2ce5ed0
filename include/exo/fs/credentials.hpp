// In whose name a file is used, and what its permission bits allow them (POSIX, File Access Permissions).

#pragma once

#include <cstdint>
#include <span>

#include <exo/fs/status.hpp>

namespace exo::fs {

struct credentials {
    std::uint32_t uid{};
    std::uint32_t gid{};
    std::span<const std::uint32_t> groups{}; // supplementary; owned by the process

    [[nodiscard]] constexpr bool privileged() const { return uid == 0; }
    [[nodiscard]] constexpr bool in_group(std::uint32_t group) const
    {
        if (group == gid)
            return true;
        for (const auto g : groups)
            if (g == group)
                return true;
        return false;
    }
    // The owner of a file, and who may act as one.
    [[nodiscard]] constexpr bool owns(std::uint32_t file_uid) const { return privileged() || uid == file_uid; }
};

// `wanted`: bits of fs::access. The privileged may do everything, but execute only what somebody may execute.
[[nodiscard]] constexpr bool allows(const credentials& who, file_type type, permission_bits permissions,
                                    std::uint32_t uid, std::uint32_t gid, unsigned wanted)
{
    if (who.privileged())
        return (wanted & access::execute) == 0 || type == file_type::directory || (permissions & 0111) != 0;
    const unsigned shift = who.uid == uid ? 6 : who.in_group(gid) ? 3 : 0;
    return (wanted & ~(static_cast<unsigned>(permissions) >> shift) & 7u) == 0;
}

} // namespace exo::fs
