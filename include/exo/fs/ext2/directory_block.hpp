// The records in one block of an ext2 directory, each checked before it is shown.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include <exo/base/result.hpp>
#include <exo/fs/ext2/errors.hpp>
#include <exo/fs/ext2/geometry.hpp>
#include <exo/fs/ext2/layout.hpp>

namespace exo::fs {

struct ext2_record {
    std::uint32_t inode{};
    std::uint8_t file_type{}; // ext2_layout::record_type
    std::string_view name;
    std::size_t begin{}; // in the block
    std::size_t end{};
};

// Calls `visit(const ext2_record&)` for each record in use, until it returns false; whether it never did. Hashed
// directories hide their index in records that are not in use. Errors: bad_directory and bad_inode_number, with
// `owner`, the directory, or the number as context.
template <class Visit>
[[nodiscard]] result<bool> for_each_record(std::span<const std::byte> block, const ext2_geometry& geometry,
                                           std::uint64_t owner, Visit visit)
{
    using ext2_layout::directory_record;
    for (std::size_t at = 0; at < block.size();) {
        if (block.size() - at < sizeof(directory_record))
            return fail(ext2_errors::bad_directory, owner);
        directory_record head;
        std::memcpy(&head, block.data() + at, sizeof head);
        const std::size_t length = head.length;
        const std::size_t name_length =
            geometry.has_file_types ? head.name_length : head.name_length + std::size_t{head.file_type} * 256;
        if (length < sizeof head || length % 4 != 0 || length > block.size() - at ||
            name_length > length - sizeof head)
            return fail(ext2_errors::bad_directory, owner);
        if (head.inode != 0) {
            const std::string_view name{reinterpret_cast<const char*>(block.data()) + at + sizeof head, name_length};
            if (name.empty() || name_length > 255 || name.find('/') != std::string_view::npos ||
                name.find('\0') != std::string_view::npos)
                return fail(ext2_errors::bad_directory, owner);
            if (!geometry.is_inode(head.inode))
                return fail(ext2_errors::bad_inode_number, head.inode);
            const auto type = geometry.has_file_types ? head.file_type : ext2_layout::record_type::unknown;
            if (!visit(ext2_record{head.inode, type, name, at, at + length}))
                return false;
        }
        at += length;
    }
    return true;
}

} // namespace exo::fs
