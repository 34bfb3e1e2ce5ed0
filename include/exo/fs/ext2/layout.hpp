// What ext2 looks like on a disk: superblock, group descriptors, inodes, directory records, revisions 0 and 1 ("The
// Second Extended Filesystem: Internal Layout", D. Poirier; e2fsprogs). All integers are little-endian.

#pragma once

#include <cstddef>
#include <cstdint>

#include <exo/base/endian.hpp>

namespace exo::fs::ext2_layout {

inline constexpr std::uint64_t superblock_offset = 1024;
inline constexpr std::uint16_t magic = 0xEF53;
inline constexpr std::uint32_t root_inode = 2;
inline constexpr std::uint32_t first_inode_revision_0 = 11;
inline constexpr std::uint32_t inode_size_revision_0 = 128;
inline constexpr std::uint32_t creator_linux = 0;

struct superblock {
    le32 inodes_count;
    le32 blocks_count;
    le32 reserved_blocks_count;
    le32 free_blocks_count;
    le32 free_inodes_count;
    le32 first_data_block;
    le32 log_block_size;
    le32 log_fragment_size;
    le32 blocks_per_group;
    le32 fragments_per_group;
    le32 inodes_per_group;
    le32 mount_time;
    le32 write_time;
    le16 mount_count;
    le16 max_mount_count;
    le16 magic;
    le16 state;
    le16 errors;
    le16 minor_revision;
    le32 last_check;
    le32 check_interval;
    le32 creator_os;
    le32 revision;
    le16 reserved_uid;
    le16 reserved_gid;
    // From revision 1 on:
    le32 first_inode;
    le16 inode_size;
    le16 block_group;
    le32 feature_compatible;
    le32 feature_incompatible;
    le32 feature_read_only_compatible;
    std::uint8_t uuid[16];
    char volume_name[16];
    char last_mounted[64];
    le32 algorithm_bitmap;
    std::uint8_t unused[820];
};
static_assert(sizeof(superblock) == 1024);
static_assert(offsetof(superblock, magic) == 56);
static_assert(offsetof(superblock, feature_incompatible) == 96);

namespace incompatible {
inline constexpr std::uint32_t compression = 0x1;
inline constexpr std::uint32_t file_type = 0x2;
inline constexpr std::uint32_t needs_recovery = 0x4;
inline constexpr std::uint32_t journal_device = 0x8;
inline constexpr std::uint32_t meta_block_groups = 0x10;
inline constexpr std::uint32_t extents = 0x40;
inline constexpr std::uint32_t bits_64 = 0x80;
inline constexpr std::uint32_t multiple_mount_protection = 0x100;
inline constexpr std::uint32_t flexible_groups = 0x200;
inline constexpr std::uint32_t attributes_in_inodes = 0x400;
inline constexpr std::uint32_t data_in_directories = 0x1000;
inline constexpr std::uint32_t checksum_seed = 0x2000;
inline constexpr std::uint32_t large_directories = 0x4000;
inline constexpr std::uint32_t inline_data = 0x8000;
inline constexpr std::uint32_t encryption = 0x10000;
inline constexpr std::uint32_t case_folding = 0x20000;
} // namespace incompatible

namespace read_only_compatible {
inline constexpr std::uint32_t sparse_super = 0x1;
} // namespace read_only_compatible

struct group_descriptor {
    le32 block_bitmap;
    le32 inode_bitmap;
    le32 inode_table;
    le16 free_blocks_count;
    le16 free_inodes_count;
    le16 used_directories_count;
    le16 pad;
    std::uint8_t reserved[12];
};
static_assert(sizeof(group_descriptor) == 32);

inline constexpr std::size_t direct_blocks = 12;
inline constexpr std::size_t block_slots = direct_blocks + 3;

struct inode_record {
    le16 mode;
    le16 uid;
    le32 size;
    le32 access_time;
    le32 change_time;
    le32 modification_time;
    le32 deletion_time;
    le16 gid;
    le16 links_count;
    le32 sectors; // of 512 bytes, those of the block map and of attributes included
    le32 flags;
    le32 os_dependent_1;
    le32 blocks[block_slots];
    le32 generation;
    le32 attributes_block;
    le32 size_high; // of a regular file
    le32 fragment;
    std::uint8_t fragment_number;
    std::uint8_t fragment_size;
    le16 pad;
    le16 uid_high;
    le16 gid_high;
    le32 reserved;
};
static_assert(sizeof(inode_record) == 128);

// Behind the record, where inodes are larger than that; `size` says how much of it is there.
struct inode_extra {
    le16 size;
    le16 checksum_high;
    le32 change_time;
    le32 modification_time;
    le32 access_time;
};
static_assert(sizeof(inode_extra) == 16);

namespace mode {
inline constexpr std::uint16_t type_mask = 0xF000;
inline constexpr std::uint16_t fifo = 0x1000;
inline constexpr std::uint16_t character_device = 0x2000;
inline constexpr std::uint16_t directory = 0x4000;
inline constexpr std::uint16_t block_device = 0x6000;
inline constexpr std::uint16_t regular = 0x8000;
inline constexpr std::uint16_t symlink = 0xA000;
inline constexpr std::uint16_t socket = 0xC000;
} // namespace mode

struct directory_record {
    le32 inode;
    le16 length;
    std::uint8_t name_length;
    std::uint8_t file_type; // without the feature: the high byte of the name's length
};
static_assert(sizeof(directory_record) == 8);

namespace record_type {
inline constexpr std::uint8_t unknown = 0;
inline constexpr std::uint8_t regular = 1;
inline constexpr std::uint8_t directory = 2;
inline constexpr std::uint8_t character_device = 3;
inline constexpr std::uint8_t block_device = 4;
inline constexpr std::uint8_t fifo = 5;
inline constexpr std::uint8_t socket = 6;
inline constexpr std::uint8_t symlink = 7;
} // namespace record_type

} // namespace exo::fs::ext2_layout
