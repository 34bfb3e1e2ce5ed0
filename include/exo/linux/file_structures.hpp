// The structures and constants of the file calls, as Linux lays them out on x86-64 (uapi/asm/stat.h, linux/stat.h,
// dirent.h, statfs.h, fcntl.h).

#pragma once

#include <cstddef>
#include <cstdint>

#include <exo/fs/file_system.hpp>
#include <exo/fs/open_options.hpp>
#include <exo/fs/status.hpp>
#include <exo/linux/time_structures.hpp>

namespace exo::linux_abi {

namespace open_flag {
inline constexpr std::uint32_t access_mode = 3, write_only = 1, read_write = 2, create = 0100, exclusive = 0200,
                               no_controlling_terminal = 0400, truncate = 01000, append = 02000,
                               non_blocking = 04000, data_sync = 010000, direct = 040000, large_file = 0100000,
                               directory = 0200000, no_follow = 0400000, no_access_time = 01000000,
                               close_on_exec = 02000000, sync = 04000000, path = 010000000, temporary = 020000000;
} // namespace open_flag

namespace at_flag {
inline constexpr std::int32_t working_directory = -100; // as the descriptor
inline constexpr std::uint32_t symlink_no_follow = 0x100, remove_directory = 0x200, effective_access = 0x200,
                               symlink_follow = 0x400, no_automount = 0x800, empty_path = 0x1000, sync_type = 0x6000;
} // namespace at_flag

// Of `permissions` only; what O_CREAT may set.
[[nodiscard]] constexpr fs::open_options to_open_options(std::uint32_t flags, std::uint32_t mode)
{
    const auto has = [flags](std::uint32_t flag) { return (flags & flag) != 0; };
    fs::open_options o;
    o.directory = has(open_flag::directory);
    o.no_follow = has(open_flag::no_follow);
    if (has(open_flag::path)) {
        o.path_only = true;
        return o;
    }
    o.read = (flags & open_flag::access_mode) == 0 || (flags & open_flag::access_mode) == open_flag::read_write;
    o.write = (flags & open_flag::access_mode) == open_flag::write_only ||
              (flags & open_flag::access_mode) == open_flag::read_write;
    o.append = has(open_flag::append);
    o.non_blocking = has(open_flag::non_blocking);
    o.create = has(open_flag::create);
    o.exclusive = has(open_flag::exclusive);
    o.truncate = has(open_flag::truncate);
    o.synchronous = has(open_flag::sync | open_flag::data_sync);
    o.permissions = static_cast<fs::permission_bits>(mode & fs::permission::all);
    return o;
}

// S_IFMT and below.
namespace mode_type {
inline constexpr std::uint32_t mask = 0170000, fifo = 0010000, character_device = 0020000, directory = 0040000,
                               block_device = 0060000, regular = 0100000, symlink = 0120000, socket = 0140000;
} // namespace mode_type

[[nodiscard]] constexpr std::uint32_t to_mode_type(fs::file_type t)
{
    switch (t) {
    case fs::file_type::regular: return mode_type::regular;
    case fs::file_type::directory: return mode_type::directory;
    case fs::file_type::symlink: return mode_type::symlink;
    case fs::file_type::character_device: return mode_type::character_device;
    case fs::file_type::block_device: return mode_type::block_device;
    case fs::file_type::fifo: return mode_type::fifo;
    case fs::file_type::socket: return mode_type::socket;
    }
    return 0;
}

[[nodiscard]] constexpr std::uint64_t encode_device(fs::device_number d)
{
    return (d.minor & 0xffu) | (std::uint64_t{d.major} & 0xfffu) << 8 | (std::uint64_t{d.minor} & ~0xffull) << 12 |
           (std::uint64_t{d.major} & ~0xfffull) << 32;
}

[[nodiscard]] constexpr fs::device_number decode_device(std::uint64_t d)
{
    return {static_cast<std::uint32_t>((d >> 8 & 0xfff) | (d >> 32 & ~0xfffull)),
            static_cast<std::uint32_t>((d & 0xff) | (d >> 12 & 0xffffff00))};
}

[[nodiscard]] constexpr time_record to_time_record(fs::timestamp t)
{
    return {t.seconds, t.nanoseconds};
}

struct stat {
    std::uint64_t device;
    std::uint64_t inode;
    std::uint64_t links;
    std::uint32_t mode;
    std::uint32_t uid;
    std::uint32_t gid;
    std::uint32_t padding;
    std::uint64_t special;
    std::int64_t size;
    std::int64_t block_size;
    std::int64_t blocks;
    time_record accessed;
    time_record modified;
    time_record changed;
    std::int64_t unused[3];
};
static_assert(sizeof(stat) == 144);

[[nodiscard]] constexpr stat to_stat(const fs::file_status& s)
{
    return {.device = s.device,
            .inode = s.inode,
            .links = s.links,
            .mode = to_mode_type(s.type) | s.permissions,
            .uid = s.uid,
            .gid = s.gid,
            .padding = 0,
            .special = encode_device(s.special),
            .size = static_cast<std::int64_t>(s.size),
            .block_size = s.block_size,
            .blocks = static_cast<std::int64_t>(s.blocks),
            .accessed = to_time_record(s.accessed),
            .modified = to_time_record(s.modified),
            .changed = to_time_record(s.changed),
            .unused = {}};
}

struct statx_time {
    std::int64_t seconds;
    std::uint32_t nanoseconds;
    std::int32_t padding;
};

struct statx {
    std::uint32_t mask;
    std::uint32_t block_size;
    std::uint64_t attributes;
    std::uint32_t links;
    std::uint32_t uid;
    std::uint32_t gid;
    std::uint16_t mode;
    std::uint16_t padding;
    std::uint64_t inode;
    std::uint64_t size;
    std::uint64_t blocks;
    std::uint64_t attributes_mask;
    statx_time accessed;
    statx_time created;
    statx_time changed;
    statx_time modified;
    std::uint32_t special_major;
    std::uint32_t special_minor;
    std::uint32_t device_major;
    std::uint32_t device_minor;
    std::uint64_t mount;
    std::uint64_t spare[13];
};
static_assert(sizeof(statx) == 256);

[[nodiscard]] constexpr statx to_statx(const fs::file_status& s)
{
    constexpr auto time = [](fs::timestamp t) { return statx_time{t.seconds, t.nanoseconds, 0}; };
    constexpr std::uint32_t basic = 0x7ff; // all but the time of birth
    statx x{};
    x.mask = basic;
    x.block_size = s.block_size;
    x.links = s.links;
    x.uid = s.uid;
    x.gid = s.gid;
    x.mode = static_cast<std::uint16_t>(to_mode_type(s.type) | s.permissions);
    x.inode = s.inode;
    x.size = s.size;
    x.blocks = s.blocks;
    x.accessed = time(s.accessed);
    x.changed = time(s.changed);
    x.modified = time(s.modified);
    x.special_major = s.special.major;
    x.special_minor = s.special.minor;
    const auto device = decode_device(s.device);
    x.device_major = device.major;
    x.device_minor = device.minor;
    return x;
}

struct statfs {
    std::int64_t type;
    std::int64_t block_size;
    std::int64_t blocks;
    std::int64_t free_blocks;
    std::int64_t available_blocks;
    std::int64_t files;
    std::int64_t free_files;
    std::int32_t id[2];
    std::int64_t longest_name;
    std::int64_t fragment_size;
    std::int64_t flags;
    std::int64_t spare[4];
};
static_assert(sizeof(statfs) == 120);

// struct linux_dirent64: this, then the name with its zero, rounded up to 8 bytes.
struct directory_record {
    std::uint64_t inode;
    std::int64_t next;
    std::uint16_t length;
    std::uint8_t type;
};
inline constexpr std::size_t directory_record_head = 19;

[[nodiscard]] constexpr std::uint8_t to_record_type(fs::file_type t)
{
    return static_cast<std::uint8_t>(to_mode_type(t) >> 12);
}

struct io_vector {
    std::uint64_t base;
    std::uint64_t length;
};

struct poll_record {
    std::int32_t descriptor;
    std::int16_t wanted;
    std::int16_t ready;
};

} // namespace exo::linux_abi
