// The numbers that an ext2 superblock states, checked against each other and against the device, so that what follows
// can compute with them without fear.

#pragma once

#include <cstdint>

#include <exo/base/result.hpp>
#include <exo/fs/ext2/errors.hpp>
#include <exo/fs/ext2/layout.hpp>

namespace exo::fs {

struct ext2_geometry {
    std::uint32_t block_size{};
    std::uint32_t blocks{};
    std::uint32_t first_data_block{};
    std::uint32_t blocks_per_group{};
    std::uint32_t inodes{};
    std::uint32_t inodes_per_group{};
    std::uint32_t inode_size{};
    std::uint32_t groups{};
    std::uint32_t revision{};
    std::uint32_t creator{};
    bool has_file_types{};
    bool sparse_super{};
    std::uint64_t largest_file{}; // in bytes: what the block map can address

    [[nodiscard]] bool is_data_block(std::uint32_t block) const { return block > first_data_block && block < blocks; }
    [[nodiscard]] bool is_inode(std::uint32_t number) const { return number != 0 && number <= inodes; }
    [[nodiscard]] std::uint64_t offset_of(std::uint32_t block) const { return std::uint64_t{block} * block_size; }

    // Errors: those of ext2_errors that concern the superblock.
    [[nodiscard]] static result<ext2_geometry> check(const ext2_layout::superblock& s, std::uint64_t device_size,
                                                     std::size_t sector_size)
    {
        using namespace ext2_layout;
        if (s.magic != magic)
            return fail(ext2_errors::no_magic, s.magic);
        if (s.revision > 1)
            return fail(ext2_errors::unknown_revision, s.revision);
        const std::uint32_t features = s.revision == 0 ? 0 : s.feature_incompatible.value();
        for (const auto& unsupported : ext2_errors::unsupported_features)
            if ((features & unsupported.bit) != 0)
                return fail(unsupported.kind, unsupported.bit);
        if (const auto unknown = features & ~incompatible::file_type; unknown != 0)
            return fail(ext2_errors::has_unknown_feature, unknown);

        if (s.log_block_size > 2)
            return fail(ext2_errors::bad_block_size, s.log_block_size);
        ext2_geometry g{.block_size = 1024u << s.log_block_size,
                        .blocks = s.blocks_count,
                        .first_data_block = s.first_data_block,
                        .blocks_per_group = s.blocks_per_group,
                        .inodes = s.inodes_count,
                        .inodes_per_group = s.inodes_per_group,
                        .inode_size = s.revision == 0 ? inode_size_revision_0 : s.inode_size.value(),
                        .revision = s.revision,
                        .creator = s.creator_os,
                        .has_file_types = (features & incompatible::file_type) != 0,
                        .sparse_super = s.revision != 0 && (s.feature_read_only_compatible &
                                                            read_only_compatible::sparse_super) != 0};
        if (sector_size > g.block_size)
            return fail(ext2_errors::bad_sector_size, sector_size);
        if (g.inode_size < sizeof(inode_record) || g.inode_size > g.block_size ||
            (g.inode_size & (g.inode_size - 1)) != 0)
            return fail(ext2_errors::bad_inode_size, g.inode_size);
        if (g.first_data_block != (g.block_size == 1024 ? 1u : 0u))
            return fail(ext2_errors::bad_first_block, g.first_data_block);
        if (g.blocks <= g.first_data_block)
            return fail(ext2_errors::bad_block_count, g.blocks);
        const std::uint32_t most = 8 * g.block_size; // one block of bitmap tells of this many
        if (g.blocks_per_group == 0 || g.blocks_per_group > most)
            return fail(ext2_errors::bad_group_size, g.blocks_per_group);
        if (g.inodes_per_group == 0 || g.inodes_per_group > most)
            return fail(ext2_errors::bad_group_size, g.inodes_per_group);
        g.groups = (g.blocks - g.first_data_block - 1) / g.blocks_per_group + 1;
        if (g.inodes < first_inode_revision_0 || g.inodes > std::uint64_t{g.groups} * g.inodes_per_group)
            return fail(ext2_errors::bad_inode_count, g.inodes);
        if (g.first_table_block() + g.table_blocks() > g.blocks)
            return fail(ext2_errors::bad_block_count, g.blocks);
        if (std::uint64_t{g.blocks} * g.block_size > device_size)
            return fail(ext2_errors::device_too_short, g.blocks);
        const std::uint64_t fan_out = g.block_size / 4;
        g.largest_file = (direct_blocks + fan_out + fan_out * fan_out + fan_out * fan_out * fan_out) * g.block_size;
        return g;
    }

    // Where the group descriptors are.
    [[nodiscard]] std::uint64_t first_table_block() const { return std::uint64_t{first_data_block} + 1; }
    [[nodiscard]] std::uint64_t table_blocks() const
    {
        return (std::uint64_t{groups} * sizeof(ext2_layout::group_descriptor) + block_size - 1) / block_size;
    }
    [[nodiscard]] std::uint64_t inode_table_blocks() const
    {
        return (std::uint64_t{inodes_per_group} * inode_size + block_size - 1) / block_size;
    }
    // Groups 0 and 1, and powers of 3, 5 and 7, if not all.
    [[nodiscard]] bool has_superblock(std::uint32_t group) const
    {
        if (!sparse_super || group <= 1)
            return true;
        for (const std::uint32_t base : {3u, 5u, 7u}) {
            std::uint64_t power = base;
            while (power < group)
                power *= base;
            if (power == group)
                return true;
        }
        return false;
    }
    // Blocks that never hold data.
    [[nodiscard]] std::uint64_t overhead() const
    {
        std::uint64_t total = first_data_block;
        for (std::uint32_t group = 0; group < groups; ++group)
            total += has_superblock(group) ? 1 + table_blocks() : 0;
        return total + groups * (2 + inode_table_blocks());
    }
};

} // namespace exo::fs
