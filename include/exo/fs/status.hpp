// What is known about a file beside its contents, and the small types that say so. Values of the permission bits are
// those of POSIX.

#pragma once

#include <cstdint>
#include <optional>

#include <exo/fs/timestamp.hpp>

namespace exo::fs {

enum class file_type : std::uint8_t { regular, directory, symlink, character_device, block_device, fifo, socket };

using permission_bits = std::uint16_t; // 07777: set-uid, set-gid, sticky, and rwx for owner, group, others

namespace permission {
inline constexpr permission_bits set_uid = 04000;
inline constexpr permission_bits set_gid = 02000;
inline constexpr permission_bits sticky = 01000;
inline constexpr permission_bits all = 07777;
} // namespace permission

// What a caller wants to do with a file: the bits of one rwx group.
namespace access {
inline constexpr unsigned execute = 1; // for a directory: search
inline constexpr unsigned write = 2;
inline constexpr unsigned read = 4;
} // namespace access

struct device_number {
    std::uint32_t major{};
    std::uint32_t minor{};

    friend constexpr bool operator==(device_number, device_number) = default;
};

struct file_status {
    std::uint64_t device{}; // which file system
    std::uint64_t inode{};
    file_type type{};
    permission_bits permissions{};
    std::uint32_t links{};
    std::uint32_t uid{};
    std::uint32_t gid{};
    device_number special{}; // of a character or block device
    std::uint64_t size{};
    std::uint32_t block_size{};
    std::uint64_t blocks{}; // of 512 bytes, allocated
    timestamp accessed{};
    timestamp modified{};
    timestamp changed{};
};

// What to change; what is absent stays. Callers have checked that it is allowed.
struct attribute_change {
    std::optional<permission_bits> permissions{};
    std::optional<std::uint32_t> uid{};
    std::optional<std::uint32_t> gid{};
    std::optional<timestamp> accessed{};
    std::optional<timestamp> modified{};
};

struct file_system_status {
    std::uint64_t type{}; // the magic number that statfs returns
    std::uint32_t block_size{};
    std::uint64_t blocks{};
    std::uint64_t free_blocks{};
    std::uint64_t available_blocks{}; // to the unprivileged
    std::uint64_t files{};
    std::uint64_t free_files{};
    std::uint32_t longest_name{};
};

inline constexpr std::size_t longest_name = 255;
inline constexpr std::size_t longest_path = 4095; // without the terminating zero that C callers count
inline constexpr unsigned deepest_symlinks = 40;

} // namespace exo::fs
