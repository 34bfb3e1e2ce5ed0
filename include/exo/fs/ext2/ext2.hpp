// ext2, read-only: revisions 0 and 1, blocks of 1, 2 and 4 KiB, all levels of the block map, sparse and large files,
// hashed directories read in line.
//
// No byte of the disk is trusted: every number is checked before it is used, and what is wrong becomes one of
// ext2_errors. Data goes from the device to the page cache of its file; the file system's own structures are read
// through a cache of the device, which the kernel may empty at any time.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>

#include <exo/fs/device_cache.hpp>
#include <exo/fs/device_registry.hpp>
#include <exo/fs/environment.hpp>
#include <exo/fs/errors.hpp>
#include <exo/fs/ext2/directory_block.hpp>
#include <exo/fs/ext2/errors.hpp>
#include <exo/fs/ext2/geometry.hpp>
#include <exo/fs/ext2/layout.hpp>
#include <exo/fs/file.hpp>
#include <exo/fs/file_system.hpp>
#include <exo/fs/inode.hpp>
#include <exo/fs/inode_table.hpp>
#include <exo/fs/page_cache.hpp>
#include <exo/fs/page_io.hpp>
#include <exo/fs/pipe.hpp>
#include <exo/hal/block_device.hpp>

namespace exo::fs {

class ext2;

// What of an inode's record is used, in terms of the machine.
struct ext2_inode_data {
    file_type type{};
    permission_bits permissions{};
    std::uint32_t links{};
    std::uint32_t uid{};
    std::uint32_t gid{};
    std::uint64_t size{};
    std::uint32_t sectors{};
    std::uint32_t attributes_block{};
    timestamp accessed{};
    timestamp modified{};
    timestamp changed{};
    std::uint32_t blocks[ext2_layout::block_slots]{};
};

class ext2_inode final : public inode, private page_source {
public:
    ext2_inode(ext2& system, std::uint32_t number, const ext2_inode_data& data);
    ~ext2_inode() override = default;

    [[nodiscard]] result<file_status> status() override;
    [[nodiscard]] result<> change(const attribute_change&) override { return fail(errors::read_only); }
    [[nodiscard]] result<ref<inode>> lookup(std::string_view name) override;
    [[nodiscard]] result<> read_directory(std::uint64_t position, directory_sink& sink) override;
    [[nodiscard]] result<std::size_t> read_link(std::span<char> into) override;
    [[nodiscard]] result<std::size_t> read(std::uint64_t offset, output& into) override;
    [[nodiscard]] result<> truncate(std::uint64_t) override { return fail(errors::read_only); }
    [[nodiscard]] bool can_be_mapped() const noexcept override { return type() == file_type::regular; }
    [[nodiscard]] result<frame_number> get_page(std::uint64_t index, bool for_write) override;
    [[nodiscard]] std::size_t get_present_pages(std::uint64_t first, std::span<mm::object_page> into) override
    {
        return pages_.get_present(first, into);
    }
    [[nodiscard]] result<ref<file>> open(environment& env, const location& where, const open_options& options) override;

    list_hook table_hook;

private:
    void last_reference() noexcept override;

    [[nodiscard]] result<> read_page(std::uint64_t index, std::span<std::byte, page_size> into) override;
    // The block that holds block `index` of the file, or 0 for a hole. Errors: bad_block_number, io_error.
    [[nodiscard]] result<std::uint32_t> map(std::uint64_t index);
    [[nodiscard]] result<std::uint32_t> checked(std::uint32_t block) const;
    [[nodiscard]] bool is_fast_symlink() const;
    [[nodiscard]] device_number special() const;
    // `visit(std::span<const std::byte> block, std::uint64_t offset)` returns result<bool>: whether to go on.
    template <class Visit>
    [[nodiscard]] result<> for_each_block(std::uint64_t first, Visit visit);

    ext2& system_;
    const ext2_inode_data data_;
    page_cache pages_;
    fifo fifo_;
};

class ext2 final : public file_system {
public:
    static constexpr std::uint64_t magic = 0xEF53; // as statfs(2) names it

    ext2(environment& env, hal::block_device& device)
        : environment_{env}, device_{env, device}, inodes_{env.parker}
    {
    }

    // The file system on `device`, which outlives it. Errors: those of ext2_errors, io_error, out_of_memory.
    [[nodiscard]] static result<ref<ext2>> create(environment& env, hal::block_device& device)
    {
        auto system = ref<ext2>::adopt(EXO_TRY(new_object<ext2>(env.heap, env, device)));
        EXO_TRY(system->examine());
        return system;
    }

    [[nodiscard]] std::string_view type_name() const noexcept override { return "ext2"; }
    [[nodiscard]] bool read_only() const noexcept override { return true; }
    [[nodiscard]] result<ref<inode>> root() override
    {
        auto top = EXO_TRY(find(ext2_layout::root_inode));
        if (!top->is_directory())
            return fail(ext2_errors::bad_root);
        return top;
    }
    [[nodiscard]] result<file_system_status> status() override
    {
        const auto s = EXO_TRY(device_.read_object<ext2_layout::superblock>(ext2_layout::superblock_offset));
        const std::uint64_t free = s.free_blocks_count;
        const std::uint64_t reserved = s.reserved_blocks_count;
        const auto overhead = geometry_.overhead();
        return file_system_status{.type = magic,
                                  .block_size = geometry_.block_size,
                                  .blocks = geometry_.blocks > overhead ? geometry_.blocks - overhead : 0,
                                  .free_blocks = free,
                                  .available_blocks = free > reserved ? free - reserved : 0,
                                  .files = geometry_.inodes,
                                  .free_files = s.free_inodes_count,
                                  .longest_name = longest_name};
    }

    [[nodiscard]] const ext2_geometry& geometry() const noexcept { return geometry_; }

private:
    friend class ext2_inode;

    void last_reference() noexcept override { delete_object(environment_.heap, this); }

    [[nodiscard]] result<> examine()
    {
        using ext2_layout::superblock;
        if (device_.size() < ext2_layout::superblock_offset + sizeof(superblock))
            return fail(ext2_errors::too_small, device_.size());
        if (device_.device().sector_size() > page_size)
            return fail(ext2_errors::bad_sector_size, device_.device().sector_size());
        const auto s = EXO_TRY(device_.read_object<superblock>(ext2_layout::superblock_offset));
        geometry_ = EXO_TRY(ext2_geometry::check(s, device_.size(), device_.device().sector_size()));
        EXO_TRY(root());
        return {};
    }

    // Errors: bad_inode_number, bad_inode, bad_group_descriptor, io_error, out_of_memory.
    [[nodiscard]] result<ref<inode>> find(std::uint32_t number)
    {
        if (auto known = inodes_.find(number))
            return ref<inode>{std::move(known)};
        const auto data = EXO_TRY(load(number));
        auto fresh = ref<ext2_inode>::adopt(
            EXO_TRY(new_object<ext2_inode>(environment_.heap, *this, number, data)));
        return ref<inode>{inodes_.insert(std::move(fresh))};
    }
    [[nodiscard]] result<ext2_inode_data> load(std::uint32_t number);
    // Where the inode's record begins on the device.
    [[nodiscard]] result<std::uint64_t> place_of(std::uint32_t number)
    {
        using ext2_layout::group_descriptor;
        if (!geometry_.is_inode(number))
            return fail(ext2_errors::bad_inode_number, number);
        const std::uint32_t group = (number - 1) / geometry_.inodes_per_group;
        const std::uint32_t index = (number - 1) % geometry_.inodes_per_group;
        const auto descriptor = EXO_TRY(device_.read_object<group_descriptor>(
            geometry_.first_table_block() * geometry_.block_size + std::uint64_t{group} * sizeof(group_descriptor)));
        const std::uint32_t table = descriptor.inode_table;
        if (!geometry_.is_data_block(table) || geometry_.inode_table_blocks() > geometry_.blocks - table)
            return fail(ext2_errors::bad_group_descriptor, group);
        return geometry_.offset_of(table) + std::uint64_t{index} * geometry_.inode_size;
    }
    [[nodiscard]] static result<file_type> type_of(std::uint16_t mode, std::uint32_t number)
    {
        switch (mode & ext2_layout::mode::type_mask) {
        case ext2_layout::mode::fifo:
            return file_type::fifo;
        case ext2_layout::mode::character_device:
            return file_type::character_device;
        case ext2_layout::mode::directory:
            return file_type::directory;
        case ext2_layout::mode::block_device:
            return file_type::block_device;
        case ext2_layout::mode::regular:
            return file_type::regular;
        case ext2_layout::mode::symlink:
            return file_type::symlink;
        case ext2_layout::mode::socket:
            return file_type::socket;
        default:
            return fail(ext2_errors::bad_inode, number);
        }
    }
    // A record that does not say is answered by its inode.
    [[nodiscard]] result<file_type> type_of(const ext2_record& record)
    {
        switch (record.file_type) {
        case ext2_layout::record_type::regular:
            return file_type::regular;
        case ext2_layout::record_type::directory:
            return file_type::directory;
        case ext2_layout::record_type::character_device:
            return file_type::character_device;
        case ext2_layout::record_type::block_device:
            return file_type::block_device;
        case ext2_layout::record_type::fifo:
            return file_type::fifo;
        case ext2_layout::record_type::socket:
            return file_type::socket;
        case ext2_layout::record_type::symlink:
            return file_type::symlink;
        default:
            return EXO_TRY(load(record.inode)).type;
        }
    }

    environment& environment_;
    device_cache device_;
    ext2_geometry geometry_{};
    inode_table<ext2_inode> inodes_;
    const std::uint32_t number_{environment_.next_device.fetch_add(1, std::memory_order_relaxed)};
};

inline result<ext2_inode_data> ext2::load(std::uint32_t number)
{
    using namespace ext2_layout;
    const auto place = EXO_TRY(place_of(number));
    const auto r = EXO_TRY(device_.read_object<inode_record>(place));
    const auto seconds = [](std::uint32_t disk) { return timestamp{static_cast<std::int32_t>(disk), 0}; };
    ext2_inode_data data{.type = EXO_TRY(type_of(r.mode, number)),
                         .permissions = static_cast<permission_bits>(r.mode & permission::all),
                         .links = r.links_count,
                         .uid = r.uid,
                         .gid = r.gid,
                         .size = r.size,
                         .sectors = r.sectors,
                         .attributes_block = r.attributes_block,
                         .accessed = seconds(r.access_time),
                         .modified = seconds(r.modification_time),
                         .changed = seconds(r.change_time)};
    if (data.links == 0)
        return fail(ext2_errors::bad_inode, number); // deleted, yet a directory names it
    if (geometry_.creator == creator_linux) {
        data.uid |= std::uint32_t{r.uid_high} << 16;
        data.gid |= std::uint32_t{r.gid_high} << 16;
    }
    if (data.type == file_type::regular && geometry_.revision != 0)
        data.size |= std::uint64_t{r.size_high} << 32;
    // A directory has no holes, so it is not larger than the file system.
    if (data.size > geometry_.largest_file ||
        (data.type == file_type::directory && data.size > geometry_.offset_of(geometry_.blocks)))
        return fail(ext2_errors::bad_inode, number);
    for (std::size_t i = 0; i < block_slots; ++i)
        data.blocks[i] = r.blocks[i];

    if (geometry_.inode_size >= sizeof(inode_record) + sizeof(inode_extra)) {
        const auto extra = EXO_TRY(device_.read_object<inode_extra>(place + sizeof(inode_record)));
        const auto refine = [](timestamp& t, std::uint32_t bits) {
            if (bits >> 2 >= 1'000'000'000)
                return;
            t.nanoseconds = bits >> 2;
            t.seconds += std::int64_t{bits & 3} << 32;
        };
        if (extra.size >= sizeof(inode_extra)) {
            refine(data.accessed, extra.access_time);
            refine(data.modified, extra.modification_time);
            refine(data.changed, extra.change_time);
        }
    }
    return data;
}

inline ext2_inode::ext2_inode(ext2& system, std::uint32_t number, const ext2_inode_data& data)
    : inode{number, data.type, data.permissions, data.uid, data.gid}, system_{system}, data_{data},
      pages_{system.environment_, *this}
{
}

inline void ext2_inode::last_reference() noexcept
{
    system_.inodes_.remove(*this);
    delete_object(system_.environment_.heap, this);
}

inline result<file_status> ext2_inode::status()
{
    return file_status{.device = system_.number_,
                       .inode = number(),
                       .type = type(),
                       .permissions = permissions(),
                       .links = data_.links,
                       .uid = uid(),
                       .gid = gid(),
                       .special = special(),
                       .size = data_.size,
                       .block_size = system_.geometry_.block_size,
                       .blocks = data_.sectors,
                       .accessed = data_.accessed,
                       .modified = data_.modified,
                       .changed = data_.changed};
}

// The old encoding has 8 bits for each number, the new one 12 and 20.
inline device_number ext2_inode::special() const
{
    if (type() != file_type::character_device && type() != file_type::block_device)
        return {};
    if (const auto old = data_.blocks[0]; old != 0)
        return {(old >> 8) & 0xFF, old & 0xFF};
    const auto fresh = data_.blocks[1];
    return {(fresh >> 8) & 0xFFF, (fresh & 0xFF) | ((fresh >> 12) & 0xFFF00)};
}

inline result<std::uint32_t> ext2_inode::checked(std::uint32_t block) const
{
    if (block != 0 && !system_.geometry_.is_data_block(block))
        return fail(ext2_errors::bad_block_number, block);
    return block;
}

inline result<std::uint32_t> ext2_inode::map(std::uint64_t index)
{
    using namespace ext2_layout;
    if (index < direct_blocks)
        return checked(data_.blocks[index]);
    index -= direct_blocks;
    const std::uint64_t fan_out = system_.geometry_.block_size / sizeof(le32);
    std::uint64_t reach = fan_out; // of the tree that is looked at
    for (std::size_t slot = direct_blocks; slot < block_slots; ++slot, reach *= fan_out) {
        if (index >= reach) {
            index -= reach;
            continue;
        }
        auto block = EXO_TRY(checked(data_.blocks[slot]));
        for (std::uint64_t below = reach / fan_out; block != 0 && below != 0; below /= fan_out) {
            const auto entry = EXO_TRY(system_.device_.read_object<le32>(
                system_.geometry_.offset_of(block) + index / below * sizeof(le32)));
            block = EXO_TRY(checked(entry));
            index %= below;
        }
        return block;
    }
    return fail(ext2_errors::bad_inode, number()); // behind what a map can address: sizes are checked, so never here
}

// Neighbours on the disk are read together.
inline result<> ext2_inode::read_page(std::uint64_t index, std::span<std::byte, page_size> into)
{
    const std::size_t block_size = system_.geometry_.block_size;
    const std::uint64_t begin = index * page_size;
    const std::uint64_t end = data_.size;
    const std::uint64_t left = begin < end ? end - begin : 0;
    const auto wanted = static_cast<std::size_t>(left < page_size ? left : page_size);
    hal::block_device& device = system_.device_.device();
    const std::uint64_t sectors_per_block = block_size / device.sector_size();

    std::uint32_t run_block = 0;
    std::size_t run_begin = 0;
    std::size_t run_end = 0;
    const auto read_run = [&]() -> result<> {
        if (run_begin != run_end)
            EXO_TRY(device.read(run_block * sectors_per_block, into.subspan(run_begin, run_end - run_begin)));
        run_begin = run_end;
        return {};
    };
    std::size_t at = 0;
    for (; at < wanted; at += block_size) {
        const auto block = EXO_TRY(map((begin + at) / block_size));
        const std::uint64_t next_in_run = run_block + (run_end - run_begin) / block_size;
        if (block == 0 || run_begin == run_end || block != next_in_run) {
            EXO_TRY(read_run());
            run_block = block;
            run_begin = run_end = at;
        }
        if (block == 0) {
            std::memset(into.data() + at, 0, block_size);
            run_begin = run_end = at + block_size;
        } else {
            run_end = at + block_size;
        }
    }
    EXO_TRY(read_run());
    std::memset(into.data() + wanted, 0, page_size - wanted);
    return {};
}

inline result<std::size_t> ext2_inode::read(std::uint64_t offset, output& into)
{
    if (type() != file_type::regular)
        return fail(is_directory() ? errors::is_directory : errors::invalid_argument);
    return read_pages(
        offset, into, [this] { return data_.size; }, [this](std::uint64_t index) { return pages_.get(index); });
}

inline result<frame_number> ext2_inode::get_page(std::uint64_t index, bool for_write)
{
    if (!can_be_mapped())
        return fail(errors::no_device);
    if (for_write)
        return fail(errors::read_only);
    if (index >= pages_for(data_.size))
        return fail(mm::beyond_end, index);
    return EXO_TRY(pages_.get(index)).leak();
}

inline bool ext2_inode::is_fast_symlink() const
{
    const auto attributes = data_.attributes_block != 0 ? system_.geometry_.block_size / 512 : 0;
    return data_.sectors == attributes;
}

inline result<std::size_t> ext2_inode::read_link(std::span<char> into)
{
    if (type() != file_type::symlink)
        return fail(errors::invalid_argument);
    const auto length = static_cast<std::size_t>(data_.size);
    const auto count = length < into.size() ? length : into.size();
    if (is_fast_symlink()) {
        if (length == 0 || length >= sizeof data_.blocks)
            return fail(ext2_errors::bad_symlink, number());
        for (std::size_t i = 0; i < count; ++i)
            into[i] = static_cast<char>(data_.blocks[i / 4] >> (i % 4 * 8) & 0xFF);
    } else {
        if (length == 0 || length > longest_path || length > system_.geometry_.block_size)
            return fail(ext2_errors::bad_symlink, number());
        const auto p = EXO_TRY(pages_.get(0));
        std::memcpy(into.data(), p.data(), count);
    }
    return length;
}

template <class Visit>
result<> ext2_inode::for_each_block(std::uint64_t first, Visit visit)
{
    const std::size_t block_size = system_.geometry_.block_size;
    if (data_.size % block_size != 0)
        return fail(ext2_errors::bad_directory, number());
    for (std::uint64_t offset = first / block_size * block_size; offset < data_.size; offset += block_size) {
        // A directory has no holes; one that claims to be huge ends here.
        if (EXO_TRY(map(offset / block_size)) == 0)
            return fail(ext2_errors::bad_directory, number());
        const auto p = EXO_TRY(pages_.get(offset / page_size));
        if (!EXO_TRY(visit(std::span<const std::byte>{p.data() + offset % page_size, block_size}, offset)))
            return {};
    }
    return {};
}

inline result<ref<inode>> ext2_inode::lookup(std::string_view name)
{
    if (!is_directory())
        return fail(errors::not_directory);
    std::uint32_t found = 0;
    EXO_TRY(for_each_block(0, [&](std::span<const std::byte> block, std::uint64_t) {
        return for_each_record(block, system_.geometry_, number(), [&](const ext2_record& record) {
            if (record.name == name)
                found = record.inode;
            return found == 0;
        });
    }));
    if (found == 0)
        return fail(errors::not_found);
    return system_.find(found);
}

// A position is an offset in the directory: records do not move.
inline result<> ext2_inode::read_directory(std::uint64_t position, directory_sink& sink)
{
    if (!is_directory())
        return fail(errors::not_directory);
    return for_each_block(position, [&](std::span<const std::byte> block, std::uint64_t offset) -> result<bool> {
        result<> typed{};
        const auto all = EXO_TRY(for_each_record(block, system_.geometry_, number(), [&](const ext2_record& record) {
            if (offset + record.begin < position)
                return true;
            const auto type = system_.type_of(record);
            if (!type) {
                typed = fail(type.error());
                return false;
            }
            return sink.add({record.name, record.inode, *type, offset + record.end});
        }));
        if (!typed)
            return fail(typed.error());
        return all;
    });
}

inline result<ref<file>> ext2_inode::open(environment& env, const location& where, const open_options& options)
{
    switch (type()) {
    case file_type::regular:
    case file_type::directory:
        return open_plain(env, where, *this, options);
    case file_type::fifo:
        return EXO_TRY(fifo_.bytes(env))->open_fifo(where, *this, options);
    case file_type::symlink:
        return fail(errors::too_many_symlinks);
    default:
        return open_device(env, where, *this, special(), options);
    }
}

} // namespace exo::fs
