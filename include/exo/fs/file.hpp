// An open file description: what open returns, and what descriptors (several, after dup and fork) refer to.
//
// It is also the pager of the mappings of the file, so a mapping keeps it open. The defaults of what is virtual come
// back to the inode; pipes, devices and terminals override them. Safe to use from several threads: transfers at the
// file's position take turns.

#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>
#include <utility>

#include <exo/base/allocator.hpp>
#include <exo/base/ref.hpp>
#include <exo/base/result.hpp>
#include <exo/fs/environment.hpp>
#include <exo/fs/inode.hpp>
#include <exo/fs/mount.hpp>
#include <exo/fs/open_options.hpp>
#include <exo/fs/poll.hpp>
#include <exo/fs/stream.hpp>
#include <exo/fs/user_memory.hpp>
#include <exo/mm/pager.hpp>
#include <exo/sync/mutex.hpp>

namespace exo::fs {

class character_device;

enum class seek_from : std::uint8_t { start, current, end, data, hole };

class file : public mm::pager {
public:
    [[nodiscard]] environment& context() const noexcept { return environment_; }
    [[nodiscard]] inode& node() const noexcept { return *node_; }
    // Empty for what has no name: pipes, sockets.
    [[nodiscard]] const location& where() const noexcept { return where_; }
    [[nodiscard]] bool readable() const noexcept { return options_.read; }
    [[nodiscard]] bool writable() const noexcept { return options_.write; }
    [[nodiscard]] bool path_only() const noexcept { return options_.path_only; }

    // What fcntl(F_SETFL) may change.
    [[nodiscard]] bool appends() const noexcept { return append_.load(std::memory_order_relaxed); }
    [[nodiscard]] bool non_blocking() const noexcept { return non_blocking_.load(std::memory_order_relaxed); }
    void set_appends(bool on) noexcept { append_.store(on, std::memory_order_relaxed); }
    void set_non_blocking(bool on) noexcept { non_blocking_.store(on, std::memory_order_relaxed); }

    // At the file's position, which moves on by as much. Errors: bad_descriptor if it is not open for that.
    [[nodiscard, gnu::hot]] result<std::size_t> read(output& into)
    {
        if (!readable())
            return fail(errors::bad_descriptor);
        if (!has_position())
            return do_read(0, into);
        auto guard = position_lock_.lock(environment_.parker);
        const auto count = EXO_TRY(do_read(position_, into));
        position_ += count;
        return count;
    }
    [[nodiscard, gnu::hot]] result<std::size_t> write(input& from)
    {
        if (!writable())
            return fail(errors::bad_descriptor);
        if (!has_position())
            return do_write(0, from);
        auto guard = position_lock_.lock(environment_.parker);
        if (appends())
            return do_append(from, position_);
        const auto count = EXO_TRY(do_write(position_, from));
        position_ += count;
        return count;
    }
    // At `offset`; the position stays. Errors: not_seekable.
    [[nodiscard]] result<std::size_t> read_at(std::uint64_t offset, output& into)
    {
        if (!readable())
            return fail(errors::bad_descriptor);
        if (!has_position())
            return fail(errors::not_seekable);
        return do_read(offset, into);
    }
    [[nodiscard]] result<std::size_t> write_at(std::uint64_t offset, input& from)
    {
        if (!writable())
            return fail(errors::bad_descriptor);
        if (!has_position())
            return fail(errors::not_seekable);
        return do_write(offset, from);
    }
    // The new position. Errors: not_seekable, invalid_argument, no_data.
    [[nodiscard]] result<std::uint64_t> seek(std::int64_t offset, seek_from whence)
    {
        if (path_only())
            return fail(errors::bad_descriptor);
        if (!has_position())
            return fail(errors::not_seekable);
        auto guard = position_lock_.lock(environment_.parker);
        std::int64_t base = 0;
        if (whence == seek_from::current)
            base = static_cast<std::int64_t>(position_);
        else if (whence == seek_from::end)
            base = static_cast<std::int64_t>(EXO_TRY(node_->status()).size);
        std::int64_t sum = 0;
        if (__builtin_add_overflow(base, offset, &sum))
            return fail(errors::overflow);
        if (sum < 0)
            return fail(whence == seek_from::data || whence == seek_from::hole ? errors::no_data
                                                                              : errors::invalid_argument);
        auto target = static_cast<std::uint64_t>(sum);
        if (whence == seek_from::data)
            target = EXO_TRY(node_->seek_data(target));
        else if (whence == seek_from::hole)
            target = EXO_TRY(node_->seek_hole(target));
        return position_ = target;
    }
    [[nodiscard]] result<> truncate(std::uint64_t size)
    {
        return writable() ? node_->truncate(size) : result<>{fail(errors::invalid_argument)};
    }

    // Entries from the position on; the position moves behind the last one that the sink took.
    [[nodiscard]] result<> read_directory(directory_sink& sink)
    {
        if (path_only())
            return fail(errors::bad_descriptor);
        if (!node_->is_directory())
            return fail(errors::not_directory);
        struct recorder final : directory_sink {
            recorder(directory_sink& s, std::uint64_t& p) : sink{s}, position{p} {}
            bool add(const directory_entry& entry) override
            {
                if (!sink.add(entry))
                    return false;
                position = entry.next;
                return true;
            }
            directory_sink& sink;
            std::uint64_t& position;
        };
        auto guard = position_lock_.lock(environment_.parker);
        auto entries = node_->entries().lock(environment_.parker);
        if (node_->removed())
            return fail(errors::not_found);
        recorder record{sink, position_};
        return node_->read_directory(position_, record);
    }

    // ioctl(2): `argument` is a number or an address in `memory`, as the request defines. Errors: not_terminal for a
    // request that the file does not know.
    [[nodiscard]] virtual result<std::uint64_t> control(std::uint64_t /*request*/, std::uint64_t /*argument*/,
                                                        user_memory& /*memory*/)
    {
        return fail(errors::not_terminal);
    }
    // What is ready now; see poll.hpp for what happens to `table`, which may be null.
    [[nodiscard]] virtual poll_events poll(poll_table* /*table*/) { return poll::always_ready; }
    // Makes written data survive a loss of power.
    [[nodiscard]] result<> sync() override { return node_->sync(); }
    // The device behind the file, if it is one.
    [[nodiscard]] virtual character_device* device() const noexcept { return nullptr; }
    // False for streams: pipes, terminals.
    [[nodiscard]] virtual bool has_position() const noexcept { return true; }

    [[nodiscard]] result<frame_number> get_page(std::uint64_t page_index, bool for_write) override
    {
        if (for_write && !writable())
            return fail(mm::access_denied, page_index);
        return node_->get_page(page_index, for_write);
    }
    [[nodiscard]] std::size_t get_present_pages(std::uint64_t first, std::span<mm::object_page> into) override
    {
        return node_->get_present_pages(first, into);
    }
    [[nodiscard]] mm::object_mappings* mappings() noexcept override { return node_->mappings(); }
    [[nodiscard]] bool allows_writing() const noexcept override { return writable(); }
    // Not so on a mount without execution.
    [[nodiscard]] bool allows_executing() const noexcept { return !where_.on || !where_.on->options().no_execute; }
    [[nodiscard]] mm::pager_identity identity() const noexcept override
    {
        const auto status = node_->status();
        return status ? mm::pager_identity{status->device, status->inode} : mm::pager_identity{};
    }
    // The path that vfs::remember_path has stored; else empty.
    [[nodiscard]] std::string_view name() const noexcept override { return {path_.data(), path_.size()}; }
    // Once, before the file is mapped.
    void set_path(owned_array<char> path) noexcept { path_ = std::move(path); }

protected:
    file(environment& env, location where, ref<inode> node, const open_options& options)
        : environment_{env}, options_{options}, append_{options.append}, non_blocking_{options.non_blocking},
          where_{std::move(where)}, node_{std::move(node)}
    {
    }
    ~file() override = default;

    [[nodiscard]] virtual result<std::size_t> do_read(std::uint64_t offset, output& into)
    {
        return node_->read(offset, into);
    }
    [[nodiscard]] virtual result<std::size_t> do_write(std::uint64_t offset, input& from)
    {
        return node_->write(offset, from);
    }
    [[nodiscard]] virtual result<std::size_t> do_append(input& from, std::uint64_t& end_after)
    {
        return node_->append(from, end_after);
    }

private:
    environment& environment_;
    const open_options options_;
    std::atomic<bool> append_;
    std::atomic<bool> non_blocking_;
    location where_;
    ref<inode> node_;
    owned_array<char> path_;
    sync::mutex<sync::lock_rank::file_position> position_lock_;
    std::uint64_t position_{};
};

class plain_file final : public file {
public:
    plain_file(environment& env, location where, ref<inode> node, const open_options& options)
        : file{env, std::move(where), std::move(node), options}
    {
    }

private:
    void last_reference() noexcept override { delete_object(context().heap, this); }
};

// Errors: out_of_memory.
[[nodiscard]] inline result<ref<file>> open_plain(environment& env, const location& where, inode& node,
                                                  const open_options& options)
{
    return ref<file>{ref<plain_file>::adopt(EXO_TRY(
        new_object<plain_file>(env.heap, env, where, ref<inode>{node}, options)))};
}

} // namespace exo::fs
