// System calls that move bytes: read and write in all their forms, lseek, sendfile, the directory's entries.

#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

#include <exo/base/allocator.hpp>
#include <exo/fs/directory.hpp>
#include <exo/fs/file.hpp>
#include <exo/linux/call.hpp>
#include <exo/linux/errors.hpp>
#include <exo/linux/file_structures.hpp>
#include <exo/proc/signals.hpp>

namespace exo::linux_abi {

inline constexpr std::uint64_t longest_transfer = 0x7ffff000; // MAX_RW_COUNT
inline constexpr std::size_t longest_vector = 1024;           // IOV_MAX

// Writing where nobody reads also raises SIGPIPE.
template <class System>
[[nodiscard]] result<std::size_t> with_broken_pipe_signal(call<System>& c, result<std::size_t> outcome)
{
    if (!outcome && outcome.error() == fs::errors::broken_pipe) {
        auto guard = c.system.processes().lock();
        (void)proc::post<System>(
            guard, c.process,
            {.number = proc::signal::sigpipe, .sender = c.process.id(), .user = c.identity().user.real}, &c.thread);
    }
    return outcome;
}

// The memory that an array of struct iovec describes, and how far a transfer has come in it.
template <class System>
class user_vector {
public:
    explicit user_vector(call<System>& c) : call_{c} {}
    user_vector(const user_vector&) = delete;
    user_vector& operator=(const user_vector&) = delete;

    // Errors: invalid_argument, bad_address, out_of_memory.
    [[nodiscard]] result<> read(user_addr vector, std::uint64_t count)
    {
        if (count > longest_vector)
            return fail(errors::invalid_argument, count);
        std::span<io_vector> into{few_};
        if (count > few_.size()) {
            many_ = EXO_TRY(owned_array<io_vector>::create(call_.system.heap(), count));
            into = {many_.data(), many_.size()};
        }
        into = into.first(count);
        EXO_TRY(call_.read(vector, std::as_writable_bytes(into)));
        for (io_vector& piece : into) {
            if (piece.length > static_cast<std::uint64_t>(INT64_MAX))
                return fail(errors::invalid_argument, piece.length);
            if (piece.length > longest_transfer - left_)
                piece.length = longest_transfer - left_;
            left_ += piece.length;
        }
        pieces_ = into;
        return {};
    }

    [[nodiscard]] std::size_t left() const { return left_; }
    // Calls `transfer(address, offset, size)` for piece after piece, up to `limit` bytes in all; it returns how many it
    // moved, and fewer than `size` is the end. Errors: those of the first piece.
    template <class Transfer>
    [[nodiscard]] result<std::size_t> for_each_piece(std::size_t limit, Transfer transfer)
    {
        std::size_t done = 0;
        while (done < limit && left_ != 0) {
            const std::size_t in_piece = pieces_.front().length - within_;
            const std::size_t size = in_piece < limit - done ? in_piece : limit - done;
            if (size != 0) {
                const result<std::size_t> moved = transfer(user_addr{pieces_.front().base + within_}, done, size);
                if (!moved)
                    return done != 0 ? result<std::size_t>{done} : moved;
                done += *moved;
                within_ += *moved;
                left_ -= *moved;
                if (*moved < size)
                    break;
            }
            if (within_ == pieces_.front().length) {
                pieces_ = pieces_.subspan(1);
                within_ = 0;
            }
        }
        return done;
    }

private:
    call<System>& call_;
    std::array<io_vector, 8> few_;
    owned_array<io_vector> many_;
    std::span<const io_vector> pieces_;
    std::size_t within_{};
    std::size_t left_{};
};

template <class System>
class vector_output final : public fs::output {
public:
    vector_output(call<System>& c, user_vector<System>& v) : call_{c}, vector_{v} {}

    [[nodiscard]] std::size_t remaining() const noexcept override { return vector_.left(); }
    [[nodiscard]] result<std::size_t> put(std::span<const std::byte> bytes) override
    {
        return vector_.for_each_piece(bytes.size(), [&](user_addr to, std::size_t offset, std::size_t size) {
            return user_output<System>{call_, to, size}.put(bytes.subspan(offset, size));
        });
    }

private:
    call<System>& call_;
    user_vector<System>& vector_;
};

template <class System>
class vector_input final : public fs::input {
public:
    vector_input(call<System>& c, user_vector<System>& v) : call_{c}, vector_{v} {}

    [[nodiscard]] std::size_t remaining() const noexcept override { return vector_.left(); }
    [[nodiscard]] result<std::size_t> get(std::span<std::byte> bytes) override
    {
        return vector_.for_each_piece(bytes.size(), [&](user_addr from, std::size_t offset, std::size_t size) {
            return user_input<System>{call_, from, size}.get(bytes.subspan(offset, size));
        });
    }

private:
    call<System>& call_;
    user_vector<System>& vector_;
};

// An open file as the destination of another one's data (sendfile).
class file_output final : public fs::output {
public:
    file_output(fs::file& to, std::size_t size) : to_{to}, size_{size} {}

    [[nodiscard]] std::size_t remaining() const noexcept override { return size_; }
    [[nodiscard]] result<std::size_t> put(std::span<const std::byte> bytes) override
    {
        fs::memory_input in{bytes.first(bytes.size() < size_ ? bytes.size() : size_)};
        const std::size_t written = EXO_TRY(to_.write(in));
        size_ -= written;
        return written;
    }

private:
    fs::file& to_;
    std::size_t size_;
};

[[nodiscard]] constexpr std::uint64_t cut_transfer(std::uint64_t size)
{
    return size < longest_transfer ? size : longest_transfer;
}

template <class System>
result<std::size_t> sys_read(call<System>& c, std::int32_t descriptor, user_addr to, std::uint64_t size)
{
    const auto opened = EXO_TRY(c.process.files().get(descriptor));
    user_output<System> out{c, to, cut_transfer(size)};
    return opened->read(out);
}

template <class System>
result<std::size_t> sys_write(call<System>& c, std::int32_t descriptor, user_addr from, std::uint64_t size)
{
    const auto opened = EXO_TRY(c.process.files().get(descriptor));
    user_input<System> in{c, from, cut_transfer(size)};
    return with_broken_pipe_signal(c, opened->write(in));
}

template <class System>
result<std::size_t> sys_readv(call<System>& c, std::int32_t descriptor, user_addr vector, std::uint64_t count)
{
    const auto opened = EXO_TRY(c.process.files().get(descriptor));
    user_vector<System> pieces{c};
    EXO_TRY(pieces.read(vector, count));
    vector_output<System> out{c, pieces};
    return opened->read(out);
}

template <class System>
result<std::size_t> sys_writev(call<System>& c, std::int32_t descriptor, user_addr vector, std::uint64_t count)
{
    const auto opened = EXO_TRY(c.process.files().get(descriptor));
    user_vector<System> pieces{c};
    EXO_TRY(pieces.read(vector, count));
    vector_input<System> in{c, pieces};
    return with_broken_pipe_signal(c, opened->write(in));
}

template <class System>
result<std::size_t> sys_pread64(call<System>& c, std::int32_t descriptor, user_addr to, std::uint64_t size,
                                std::int64_t offset)
{
    if (offset < 0)
        return fail(errors::invalid_argument);
    const auto opened = EXO_TRY(c.process.files().get(descriptor));
    user_output<System> out{c, to, cut_transfer(size)};
    return opened->read_at(static_cast<std::uint64_t>(offset), out);
}

template <class System>
result<std::size_t> sys_pwrite64(call<System>& c, std::int32_t descriptor, user_addr from, std::uint64_t size,
                                 std::int64_t offset)
{
    if (offset < 0)
        return fail(errors::invalid_argument);
    const auto opened = EXO_TRY(c.process.files().get(descriptor));
    user_input<System> in{c, from, cut_transfer(size)};
    return with_broken_pipe_signal(c, opened->write_at(static_cast<std::uint64_t>(offset), in));
}

// The offset comes in one register; the second is for 32-bit callers.
template <class System>
result<std::size_t> sys_preadv(call<System>& c, std::int32_t descriptor, user_addr vector, std::uint64_t count,
                               std::int64_t offset)
{
    if (offset < 0)
        return fail(errors::invalid_argument);
    const auto opened = EXO_TRY(c.process.files().get(descriptor));
    user_vector<System> pieces{c};
    EXO_TRY(pieces.read(vector, count));
    vector_output<System> out{c, pieces};
    return opened->read_at(static_cast<std::uint64_t>(offset), out);
}

template <class System>
result<std::size_t> sys_pwritev(call<System>& c, std::int32_t descriptor, user_addr vector, std::uint64_t count,
                                std::int64_t offset)
{
    if (offset < 0)
        return fail(errors::invalid_argument);
    const auto opened = EXO_TRY(c.process.files().get(descriptor));
    user_vector<System> pieces{c};
    EXO_TRY(pieces.read(vector, count));
    vector_input<System> in{c, pieces};
    return with_broken_pipe_signal(c, opened->write_at(static_cast<std::uint64_t>(offset), in));
}

template <class System>
result<std::uint64_t> sys_lseek(call<System>& c, std::int32_t descriptor, std::int64_t offset, std::uint32_t whence)
{
    const auto opened = EXO_TRY(c.process.files().get(descriptor));
    if (whence > static_cast<std::uint32_t>(fs::seek_from::hole))
        return fail(errors::invalid_argument, whence);
    return opened->seek(offset, static_cast<fs::seek_from>(whence));
}

// From a file with a position to any other. Without an offset of the caller's, the file's own moves.
template <class System>
result<std::size_t> sys_sendfile(call<System>& c, std::int32_t to, std::int32_t from, user_addr offset_at,
                                 std::uint64_t size)
{
    const auto source = EXO_TRY(c.process.files().get(from));
    const auto target = EXO_TRY(c.process.files().get(to));
    if (!source->readable() || !target->writable())
        return fail(fs::errors::bad_descriptor);
    if (!source->has_position() || source->node().is_directory() || target->appends())
        return fail(errors::invalid_argument);
    const bool own_offset = offset_at.value() != 0;
    const auto offset = own_offset ? EXO_TRY(c.template read_object<std::int64_t>(offset_at))
                                   : static_cast<std::int64_t>(EXO_TRY(source->seek(0, fs::seek_from::current)));
    if (offset < 0)
        return fail(errors::invalid_argument);
    file_output out{*target, cut_transfer(size)};
    const std::size_t sent =
        EXO_TRY(with_broken_pipe_signal(c, source->read_at(static_cast<std::uint64_t>(offset), out)));
    const std::int64_t end = offset + static_cast<std::int64_t>(sent);
    if (own_offset)
        EXO_TRY(c.write_object(offset_at, end));
    else
        (void)EXO_TRY(source->seek(end, fs::seek_from::start));
    return sent;
}

// Puts entries into a buffer as getdents64 lays them out.
class directory_packer final : public fs::directory_sink {
public:
    explicit directory_packer(std::span<std::byte> into) : into_{into} {}

    [[nodiscard]] bool add(const fs::directory_entry& entry) override
    {
        const std::size_t length = (directory_record_head + entry.name.size() + 1 + 7) & ~std::size_t{7};
        if (length > into_.size() - used_) {
            full_ = true;
            return false;
        }
        directory_record head{};
        head.inode = entry.inode;
        head.next = static_cast<std::int64_t>(entry.next);
        head.length = static_cast<std::uint16_t>(length);
        head.type = to_record_type(entry.type);
        std::byte* const at = into_.data() + used_;
        std::memset(at, 0, length);
        std::memcpy(at, &head, directory_record_head);
        std::memcpy(at + directory_record_head, entry.name.data(), entry.name.size());
        used_ += length;
        return true;
    }
    [[nodiscard]] std::span<const std::byte> packed() const { return into_.first(used_); }
    // Whether an entry found no room.
    [[nodiscard]] bool full() const { return full_; }

private:
    std::span<std::byte> into_;
    std::size_t used_{};
    bool full_{};
};

using entries_buffer = std::array<std::byte, page_size>;

template <class System>
result<std::size_t> sys_getdents64(call<System>& c, std::int32_t descriptor, user_addr to, std::uint32_t size)
{
    const auto opened = EXO_TRY(c.process.files().get(descriptor));
    auto page = EXO_TRY(make_owned<entries_buffer>(c.system.heap()));
    std::size_t done = 0;
    for (;;) {
        const std::size_t room = size - done < page_size ? size - done : page_size;
        directory_packer packer{std::span{*page}.first(room)};
        const auto listed = opened->read_directory(packer);
        if (!listed && done == 0)
            return fail(listed.error());
        if (!listed)
            return done;
        if (packer.packed().empty() && packer.full() && done == 0)
            return fail(errors::invalid_argument, size);
        EXO_TRY(c.write(to + done, packer.packed()));
        done += packer.packed().size();
        if (!packer.full() || packer.packed().empty())
            return done;
    }
}

} // namespace exo::linux_abi
