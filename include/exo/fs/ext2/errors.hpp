// What can be wrong with an ext2 image. A kind's message is what a kernel logs when it refuses a disk.

#pragma once

#include <cstdint>

#include <exo/base/error.hpp>
#include <exo/fs/ext2/layout.hpp>

namespace exo::fs::ext2_errors {

// Context: the magic number found instead.
inline constexpr error_kind no_magic{
    "ext2", "no_magic", "no ext2 file system: the superblock's magic number is wrong", posix::inval, severity::caller,
    recovery::fix_input};
// Context: the device's size in bytes.
inline constexpr error_kind too_small{
    "ext2", "too_small", "no ext2 file system: the device ends before the superblock", posix::inval, severity::caller,
    recovery::fix_input};
// Context: the revision.
inline constexpr error_kind unknown_revision{
    "ext2", "unknown_revision", "the ext2 revision is not known", posix::inval, severity::caller, recovery::fix_input};
// Context: its logarithm as the superblock has it.
inline constexpr error_kind bad_block_size{
    "ext2", "bad_block_size", "the ext2 block size is not 1, 2 or 4 KiB", posix::inval, severity::caller,
    recovery::fix_input};
// Context: the device's sector size.
inline constexpr error_kind bad_sector_size{
    "ext2", "bad_sector_size", "the device's sectors are larger than an ext2 block", posix::inval, severity::caller,
    recovery::fix_input};
// Context: the value.
inline constexpr error_kind bad_inode_size{
    "ext2", "bad_inode_size", "the ext2 superblock's inode size is impossible", posix::inval, severity::caller,
    recovery::fix_input};
inline constexpr error_kind bad_block_count{
    "ext2", "bad_block_count", "the ext2 superblock's block count is impossible", posix::inval, severity::caller,
    recovery::fix_input};
inline constexpr error_kind bad_inode_count{
    "ext2", "bad_inode_count", "the ext2 superblock's inode count is impossible", posix::inval, severity::caller,
    recovery::fix_input};
inline constexpr error_kind bad_first_block{
    "ext2", "bad_first_block", "the ext2 superblock's first data block is wrong", posix::inval, severity::caller,
    recovery::fix_input};
inline constexpr error_kind bad_group_size{
    "ext2", "bad_group_size", "the ext2 superblock's blocks or inodes per group are impossible", posix::inval,
    severity::caller, recovery::fix_input};
// Context: the blocks that the file system has.
inline constexpr error_kind device_too_short{
    "ext2", "device_too_short", "the device is shorter than the ext2 file system on it", posix::inval, severity::caller,
    recovery::fix_input};
// Context: the group.
inline constexpr error_kind bad_group_descriptor{
    "ext2", "bad_group_descriptor", "an ext2 group descriptor points outside of the file system", posix::uclean,
    severity::degraded, recovery::remount_read_only};
inline constexpr error_kind bad_root{
    "ext2", "bad_root", "the root inode of the ext2 file system is no directory", posix::uclean, severity::degraded,
    recovery::give_up};
// Context: the inode number.
inline constexpr error_kind bad_inode_number{
    "ext2", "bad_inode_number", "an ext2 directory names an inode that cannot be", posix::uclean, severity::degraded,
    recovery::remount_read_only};
inline constexpr error_kind bad_inode{
    "ext2", "bad_inode", "an ext2 inode is damaged", posix::uclean, severity::degraded, recovery::remount_read_only};
inline constexpr error_kind bad_directory{
    "ext2", "bad_directory", "an ext2 directory is damaged", posix::uclean, severity::degraded,
    recovery::remount_read_only};
inline constexpr error_kind bad_symlink{
    "ext2", "bad_symlink", "an ext2 symbolic link is damaged", posix::uclean, severity::degraded,
    recovery::remount_read_only};
// Context: the block number.
inline constexpr error_kind bad_block_number{
    "ext2", "bad_block_number", "an ext2 block number points outside of the file system", posix::uclean,
    severity::degraded, recovery::remount_read_only};

// The features that keep an image from being mounted, each by the name that e2fsprogs gives it. Context: the bit.
inline constexpr error_kind has_compression{
    "ext2", "has_compression", "the file system needs the feature compression, which is not supported", posix::inval,
    severity::caller, recovery::fix_input};
inline constexpr error_kind has_needs_recovery{
    "ext2", "has_needs_recovery",
    "the file system needs the feature needs_recovery (a journal to be replayed), which is not supported", posix::inval,
    severity::caller, recovery::fix_input};
inline constexpr error_kind has_journal_device{
    "ext2", "has_journal_device", "the file system needs the feature journal_dev, which is not supported", posix::inval,
    severity::caller, recovery::fix_input};
inline constexpr error_kind has_meta_block_groups{
    "ext2", "has_meta_block_groups", "the file system needs the feature meta_bg, which is not supported", posix::inval,
    severity::caller, recovery::fix_input};
inline constexpr error_kind has_extents{
    "ext2", "has_extents", "the file system needs the feature extents, which is not supported", posix::inval,
    severity::caller, recovery::fix_input};
inline constexpr error_kind has_bits_64{
    "ext2", "has_bits_64", "the file system needs the feature 64bit, which is not supported", posix::inval,
    severity::caller, recovery::fix_input};
inline constexpr error_kind has_multiple_mount_protection{
    "ext2", "has_multiple_mount_protection", "the file system needs the feature mmp, which is not supported",
    posix::inval, severity::caller, recovery::fix_input};
inline constexpr error_kind has_flexible_groups{
    "ext2", "has_flexible_groups", "the file system needs the feature flex_bg, which is not supported", posix::inval,
    severity::caller, recovery::fix_input};
inline constexpr error_kind has_attributes_in_inodes{
    "ext2", "has_attributes_in_inodes", "the file system needs the feature ea_inode, which is not supported",
    posix::inval, severity::caller, recovery::fix_input};
inline constexpr error_kind has_data_in_directories{
    "ext2", "has_data_in_directories", "the file system needs the feature dirdata, which is not supported",
    posix::inval, severity::caller, recovery::fix_input};
inline constexpr error_kind has_checksum_seed{
    "ext2", "has_checksum_seed", "the file system needs the feature metadata_csum_seed, which is not supported",
    posix::inval, severity::caller, recovery::fix_input};
inline constexpr error_kind has_large_directories{
    "ext2", "has_large_directories", "the file system needs the feature large_dir, which is not supported",
    posix::inval, severity::caller, recovery::fix_input};
inline constexpr error_kind has_inline_data{
    "ext2", "has_inline_data", "the file system needs the feature inline_data, which is not supported", posix::inval,
    severity::caller, recovery::fix_input};
inline constexpr error_kind has_encryption{
    "ext2", "has_encryption", "the file system needs the feature encrypt, which is not supported", posix::inval,
    severity::caller, recovery::fix_input};
inline constexpr error_kind has_case_folding{
    "ext2", "has_case_folding", "the file system needs the feature casefold, which is not supported", posix::inval,
    severity::caller, recovery::fix_input};
inline constexpr error_kind has_unknown_feature{
    "ext2", "has_unknown_feature", "the file system needs a feature that is not known", posix::inval, severity::caller,
    recovery::fix_input};

inline constexpr struct {
    std::uint32_t bit;
    const error_kind& kind;
} unsupported_features[]{
    {ext2_layout::incompatible::compression, has_compression},
    {ext2_layout::incompatible::needs_recovery, has_needs_recovery},
    {ext2_layout::incompatible::journal_device, has_journal_device},
    {ext2_layout::incompatible::meta_block_groups, has_meta_block_groups},
    {ext2_layout::incompatible::extents, has_extents},
    {ext2_layout::incompatible::bits_64, has_bits_64},
    {ext2_layout::incompatible::multiple_mount_protection, has_multiple_mount_protection},
    {ext2_layout::incompatible::flexible_groups, has_flexible_groups},
    {ext2_layout::incompatible::attributes_in_inodes, has_attributes_in_inodes},
    {ext2_layout::incompatible::data_in_directories, has_data_in_directories},
    {ext2_layout::incompatible::checksum_seed, has_checksum_seed},
    {ext2_layout::incompatible::large_directories, has_large_directories},
    {ext2_layout::incompatible::inline_data, has_inline_data},
    {ext2_layout::incompatible::encryption, has_encryption},
    {ext2_layout::incompatible::case_folding, has_case_folding},
};

} // namespace exo::fs::ext2_errors
