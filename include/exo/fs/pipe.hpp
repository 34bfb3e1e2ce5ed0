// Pipes and FIFOs (POSIX pipe, pipe(7)): bytes in order from those who write to those who read.
//
// 64 KiB are held; a write of up to 4096 bytes goes in whole or waits. Reading an empty pipe without writers gives end
// of file; writing one without readers gives broken_pipe (the caller sends the signal). A page of memory comes when it
// is first needed, and stays until the pipe ends.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include <exo/base/page.hpp>
#include <exo/base/result.hpp>
#include <exo/fs/environment.hpp>
#include <exo/fs/errors.hpp>
#include <exo/fs/file.hpp>
#include <exo/fs/inode.hpp>
#include <exo/sync/mutex.hpp>
#include <exo/sync/wait_queue.hpp>

namespace exo::fs {

inline constexpr std::size_t pipe_capacity = 64 * 1024;
inline constexpr std::size_t pipe_atomic = 4096; // PIPE_BUF

// What is between the two ends. It is its own inode, unless it belongs to a FIFO, which has one with a name.
class pipe final : public inode {
public:
    pipe(environment& env, std::uint64_t number, const credentials& who)
        : inode{number, file_type::fifo, 0600, who.uid, who.gid}, environment_{env}, created_{env.clock.now()}
    {
    }

    [[nodiscard]] static result<ref<pipe>> create(environment& env, const credentials& who)
    {
        const auto number = env.next_anonymous_inode.fetch_add(1, std::memory_order_relaxed);
        return ref<pipe>::adopt(EXO_TRY(new_object<pipe>(env.heap, env, number, who)));
    }

    [[nodiscard]] result<file_status> status() override
    {
        return file_status{.inode = number(),
                           .type = type(),
                           .permissions = permissions(),
                           .links = 1,
                           .uid = uid(),
                           .gid = gid(),
                           .block_size = page_size,
                           .accessed = created_,
                           .modified = created_,
                           .changed = created_};
    }
    [[nodiscard]] result<> change(const attribute_change& change) override
    {
        apply(change);
        return {};
    }
    // Once more, through /proc/PID/fd: it still has no name.
    [[nodiscard]] result<ref<file>> open(environment&, const location&, const open_options& options) override
    {
        return open_end({}, *this, options);
    }

    // A file on one end, or on both. Opening a FIFO waits for somebody at the other end, unless `options` say not to.
    // Errors: no_data (write only, not waiting, nobody reads), interrupted, out_of_memory.
    [[nodiscard]] result<ref<file>> open_end(const location& where, inode& node, const open_options& options);
    [[nodiscard]] result<ref<file>> open_fifo(const location& where, inode& node, const open_options& options)
    {
        const bool alone = readers_.load() == 0;
        if (options.write && !options.read && options.non_blocking && alone)
            return fail(errors::no_data);
        const auto writers_before = writers_ever_.load();
        const auto readers_before = readers_ever_.load();
        auto opened = EXO_TRY(open_end(where, node, options));
        if (options.non_blocking || options.read == options.write)
            return opened;
        if (options.read)
            EXO_TRY(changed_.wait_interruptible(environment_.parker, [&] {
                return writers_.load() != 0 || writers_ever_.load() != writers_before;
            }));
        else
            EXO_TRY(changed_.wait_interruptible(environment_.parker, [&] {
                return readers_.load() != 0 || readers_ever_.load() != readers_before;
            }));
        return opened;
    }

    [[nodiscard, gnu::hot]] result<std::size_t> take(output& into, bool non_blocking)
    {
        if (into.remaining() == 0)
            return std::size_t{0};
        for (;;) {
            {
                auto guard = transfer_.lock(environment_.parker);
                if (held() != 0) {
                    const auto outcome = take_locked(into);
                    guard.unlock();
                    changed_.wake_all(environment_.parker);
                    return outcome;
                }
            }
            if (writers_.load() == 0 && held() == 0)
                return std::size_t{0};
            if (non_blocking)
                return fail(errors::would_block);
            EXO_TRY(changed_.wait_interruptible(environment_.parker,
                                                [this] { return held() != 0 || writers_.load() == 0; }));
        }
    }

    [[nodiscard, gnu::hot]] result<std::size_t> give(input& from, bool non_blocking)
    {
        std::size_t total = 0;
        const auto outcome = [&](const error_kind& kind) {
            return total != 0 ? result<std::size_t>{total} : fail(kind);
        };
        const std::size_t least = from.remaining() <= pipe_atomic ? from.remaining() : 1;
        while (from.remaining() != 0) {
            if (readers_.load() == 0)
                return outcome(errors::broken_pipe);
            {
                auto guard = transfer_.lock(environment_.parker);
                if (room() >= least) {
                    const auto given = give_locked(from);
                    guard.unlock();
                    changed_.wake_all(environment_.parker);
                    if (!given)
                        return total != 0 ? result<std::size_t>{total} : given;
                    total += *given;
                    if (*given == 0)
                        return total;
                    continue;
                }
            }
            if (non_blocking)
                return outcome(errors::would_block);
            const auto waited = changed_.wait_interruptible(
                environment_.parker, [&] { return room() >= least || readers_.load() == 0; });
            if (!waited)
                return outcome(waited.error().kind());
        }
        return total;
    }

    [[nodiscard]] poll_events poll(const file& end, poll_table* table)
    {
        if (table)
            table->watch(changed_);
        poll_events ready = 0;
        if (end.readable()) {
            if (held() != 0)
                ready |= poll::in | poll::in_normal;
            if (writers_.load() == 0)
                ready |= poll::hang_up;
        }
        if (end.writable()) {
            if (room() >= pipe_atomic)
                ready |= poll::out | poll::out_normal;
            if (readers_.load() == 0)
                ready |= poll::error;
        }
        return ready;
    }

    // How many bytes wait to be read.
    [[nodiscard]] std::size_t held() const noexcept { return held_.load(); }

private:
    friend class pipe_file;
    static constexpr std::size_t pages = pipe_capacity / page_size;

    void last_reference() noexcept override { delete_object(environment_.heap, this); }

    [[nodiscard]] std::size_t room() const noexcept { return pipe_capacity - held(); }

    void attach(const open_options& options) noexcept
    {
        if (options.read) {
            readers_.fetch_add(1);
            readers_ever_.fetch_add(1);
        }
        if (options.write) {
            writers_.fetch_add(1);
            writers_ever_.fetch_add(1);
        }
        changed_.wake_all(environment_.parker);
    }
    void detach(const file& end) noexcept
    {
        if (end.readable())
            readers_.fetch_sub(1);
        if (end.writable())
            writers_.fetch_sub(1);
        changed_.wake_all(environment_.parker);
    }

    // Something is held. Errors: those of `into`, if it took nothing.
    [[gnu::hot]] result<std::size_t> take_locked(output& into)
    {
        std::size_t total = 0;
        while (held() != 0 && into.remaining() != 0) {
            const auto at = first_ % page_size;
            std::size_t count = page_size - at;
            count = count < held() ? count : held();
            count = count < into.remaining() ? count : into.remaining();
            const auto taken = into.put({pages_[first_ / page_size].data() + at, count});
            if (!taken)
                return total != 0 ? result<std::size_t>{total} : taken;
            total += *taken;
            first_ = (first_ + *taken) % pipe_capacity;
            if (held_.fetch_sub(*taken) == *taken)
                first_ = 0; // empty: the pages at hand are used again first
            if (*taken < count)
                break;
        }
        return total;
    }

    // As much as there is room for. Errors: those of `from`, and out_of_memory, if nothing was stored.
    [[gnu::hot]] result<std::size_t> give_locked(input& from)
    {
        std::size_t total = 0;
        while (room() != 0 && from.remaining() != 0) {
            const auto last = (first_ + held()) % pipe_capacity;
            const auto at = last % page_size;
            mm::page& p = pages_[last / page_size];
            if (!p) {
                auto fresh = environment_.allocate_page(mm::page_contents::indeterminate);
                if (!fresh)
                    return total != 0 ? result<std::size_t>{total} : fail(fresh.error());
                p = std::move(*fresh);
            }
            std::size_t count = page_size - at;
            count = count < room() ? count : room();
            count = count < from.remaining() ? count : from.remaining();
            const auto given = from.get({p.data() + at, count});
            if (!given)
                return total != 0 ? result<std::size_t>{total} : given;
            total += *given;
            held_.fetch_add(*given);
            if (*given < count)
                break;
        }
        return total;
    }

    environment& environment_;
    const timestamp created_;
    // Held while user memory is copied, as a file's is.
    sync::mutex<sync::lock_rank::file_content> transfer_;
    sync::wait_queue changed_;
    mm::page pages_[pages];
    std::size_t first_{}; // where the oldest byte is
    std::atomic<std::size_t> held_{};
    std::atomic<unsigned> readers_{};
    std::atomic<unsigned> writers_{};
    std::atomic<std::uint64_t> readers_ever_{};
    std::atomic<std::uint64_t> writers_ever_{};
};

class pipe_file final : public file {
public:
    pipe_file(environment& env, location where, ref<inode> node, const open_options& options, ref<pipe> between)
        : file{env, std::move(where), std::move(node), options}, pipe_{std::move(between)}
    {
        pipe_->attach(options);
    }

    [[nodiscard, gnu::hot]] bool has_position() const noexcept override { return false; }
    [[nodiscard]] poll_events poll(poll_table* table) override { return pipe_->poll(*this, table); }
    [[nodiscard]] result<> sync() override { return fail(errors::invalid_argument); }
    [[nodiscard]] pipe& between() const noexcept { return *pipe_; }

private:
    [[nodiscard, gnu::hot]] result<std::size_t> do_read(std::uint64_t, output& into) override
    {
        return pipe_->take(into, non_blocking());
    }
    [[nodiscard, gnu::hot]] result<std::size_t> do_write(std::uint64_t, input& from) override
    {
        return pipe_->give(from, non_blocking());
    }
    void last_reference() noexcept override
    {
        pipe_->detach(*this);
        delete_object(context().heap, this);
    }

    ref<pipe> pipe_;
};

inline result<ref<file>> pipe::open_end(const location& where, inode& node, const open_options& options)
{
    return ref<file>{ref<pipe_file>::adopt(EXO_TRY(new_object<pipe_file>(
        environment_.heap, environment_, where, ref<inode>{node}, options, ref<pipe>{*this})))};
}

// The pipe behind a FIFO's inode, there from its first opening on.
class fifo {
public:
    // Errors: out_of_memory.
    [[nodiscard]] result<ref<pipe>> bytes(environment& env)
    {
        auto guard = opening_.lock(env.parker);
        if (!pipe_)
            pipe_ = EXO_TRY(pipe::create(env, {}));
        return pipe_;
    }

private:
    sync::mutex<sync::lock_rank::inode> opening_;
    ref<pipe> pipe_;
};

struct pipe_ends {
    ref<file> reader;
    ref<file> writer;
};

// Errors: out_of_memory.
[[nodiscard]] inline result<pipe_ends> make_pipe(environment& env, const credentials& who, bool non_blocking = false)
{
    auto between = EXO_TRY(pipe::create(env, who));
    auto reader = EXO_TRY(between->open_end({}, *between, {.read = true, .non_blocking = non_blocking}));
    auto writer = EXO_TRY(between->open_end({}, *between, {.write = true, .non_blocking = non_blocking}));
    return pipe_ends{std::move(reader), std::move(writer)};
}

} // namespace exo::fs
