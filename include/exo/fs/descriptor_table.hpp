// A process's descriptors: small numbers for open files, the lowest free one first.
//
// Shared by the threads of a process (and by what clone(CLONE_FILES) makes). Lookups are one short critical section; no
// file is released, and no memory allocated, with the lock held.

#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include <exo/base/allocator.hpp>
#include <exo/base/ref.hpp>
#include <exo/base/result.hpp>
#include <exo/fs/environment.hpp>
#include <exo/fs/errors.hpp>
#include <exo/fs/file.hpp>
#include <exo/sync/spin_lock.hpp>

namespace exo::fs {

class descriptor_table final : public ref_counted {
public:
    static constexpr std::size_t default_limit = 1024;

    explicit descriptor_table(environment& env, std::size_t limit = default_limit) : environment_{env}, limit_{limit} {}

    [[nodiscard]] static result<ref<descriptor_table>> create(environment& env, std::size_t limit = default_limit)
    {
        return ref<descriptor_table>::adopt(EXO_TRY(new_object<descriptor_table>(env.heap, env, limit)));
    }

    // The lowest free descriptor at or above `lowest`. Errors: too_many_descriptors, invalid_argument (`lowest` is not
    // below the limit), out_of_memory.
    [[nodiscard]] result<int> install(ref<file> opened, bool close_on_exec, int lowest = 0);
    // Errors: bad_descriptor.
    [[nodiscard]] result<ref<file>> get(int descriptor) const;
    // dup, and fcntl(F_DUPFD). Errors: bad_descriptor, and those of install.
    [[nodiscard]] result<int> duplicate(int descriptor, bool close_on_exec = false, int lowest = 0);
    // dup2 and dup3: what `target` stood for is closed. With both the same, nothing happens but the check.
    [[nodiscard]] result<int> duplicate_to(int descriptor, int target, bool close_on_exec = false);
    // The file, which the caller lets go. Errors: bad_descriptor.
    [[nodiscard]] result<ref<file>> close(int descriptor);

    [[nodiscard]] result<bool> close_on_exec(int descriptor) const;
    [[nodiscard]] result<> set_close_on_exec(int descriptor, bool on);

    // fork: another table with the same files and flags. Errors: out_of_memory.
    [[nodiscard]] result<ref<descriptor_table>> copy() const;
    // execve: closes what is marked so.
    void close_marked() noexcept;
    void close_all() noexcept;

    // RLIMIT_NOFILE: new descriptors are below it.
    [[nodiscard]] std::size_t limit() const noexcept;
    void set_limit(std::size_t limit) noexcept;

    // The first open descriptor at or above `from`, or -1: how /proc/PID/fd lists them.
    [[nodiscard]] int next_open(int from) const noexcept;

private:
    struct slot {
        ref<file> opened;
        bool close_on_exec{};
    };
    using lock_type = sync::spin_lock<sync::lock_rank::descriptors, sync::any_parker>;
    static constexpr std::size_t smallest = 16;

    void last_reference() noexcept override
    {
        close_all();
        delete_object(environment_.heap, this);
    }
    [[nodiscard]] slot* find(int descriptor) const noexcept
    {
        return descriptor >= 0 && static_cast<std::size_t>(descriptor) < slots_.size() &&
                       slots_[static_cast<std::size_t>(descriptor)].opened
                   ? &slots_[static_cast<std::size_t>(descriptor)]
                   : nullptr;
    }
    template <class Leaves>
    void close_where(Leaves leaves) noexcept;
    [[nodiscard]] result<> reserve(std::size_t count);

    environment& environment_;
    mutable lock_type lock_;
    owned_array<slot> slots_;
    std::size_t limit_;
};

// Room for descriptors below `count`. Errors: out_of_memory.
inline result<> descriptor_table::reserve(std::size_t count)
{
    std::size_t size = smallest;
    while (size < count)
        size *= 2;
    owned_array<slot> larger;
    {
        auto guard = lock_.lock(environment_.parker);
        if (slots_.size() >= count)
            return {};
    }
    larger = EXO_TRY(owned_array<slot>::create(environment_.heap, size));
    auto guard = lock_.lock(environment_.parker);
    if (slots_.size() >= count)
        return {}; // another thread was faster
    for (std::size_t i = 0; i < slots_.size(); ++i) {
        larger[i].opened = std::move(slots_[i].opened);
        larger[i].close_on_exec = slots_[i].close_on_exec;
    }
    std::swap(slots_, larger);
    guard.unlock();
    return {};
}

inline result<int> descriptor_table::install(ref<file> opened, bool close_on_exec, int lowest)
{
    if (lowest < 0 || static_cast<std::size_t>(lowest) >= limit())
        return fail(errors::invalid_argument, static_cast<std::uint64_t>(lowest));
    for (;;) {
        std::size_t wanted = 0;
        {
            auto guard = lock_.lock(environment_.parker);
            auto at = static_cast<std::size_t>(lowest);
            while (at < slots_.size() && slots_[at].opened)
                ++at;
            if (at >= limit_)
                return fail(errors::too_many_descriptors, at);
            if (at < slots_.size()) {
                slots_[at].opened = std::move(opened);
                slots_[at].close_on_exec = close_on_exec;
                return static_cast<int>(at);
            }
            wanted = at + 1;
        }
        EXO_TRY(reserve(wanted));
    }
}

[[gnu::hot]] inline result<ref<file>> descriptor_table::get(int descriptor) const
{
    auto guard = lock_.lock(environment_.parker);
    if (const slot* s = find(descriptor))
        return s->opened;
    return fail(errors::bad_descriptor, static_cast<std::uint64_t>(descriptor));
}

inline result<int> descriptor_table::duplicate(int descriptor, bool close_on_exec, int lowest)
{
    return install(EXO_TRY(get(descriptor)), close_on_exec, lowest);
}

inline result<int> descriptor_table::duplicate_to(int descriptor, int target, bool close_on_exec)
{
    auto opened = EXO_TRY(get(descriptor));
    if (target < 0 || static_cast<std::size_t>(target) >= limit())
        return fail(errors::bad_descriptor, static_cast<std::uint64_t>(target));
    if (descriptor == target)
        return target;
    EXO_TRY(reserve(static_cast<std::size_t>(target) + 1));
    auto guard = lock_.lock(environment_.parker);
    slot& s = slots_[static_cast<std::size_t>(target)];
    std::swap(s.opened, opened);
    s.close_on_exec = close_on_exec;
    guard.unlock();
    return target;
}

inline result<ref<file>> descriptor_table::close(int descriptor)
{
    auto guard = lock_.lock(environment_.parker);
    if (slot* s = find(descriptor)) {
        s->close_on_exec = false;
        return std::exchange(s->opened, {});
    }
    return fail(errors::bad_descriptor, static_cast<std::uint64_t>(descriptor));
}

inline result<bool> descriptor_table::close_on_exec(int descriptor) const
{
    auto guard = lock_.lock(environment_.parker);
    if (const slot* s = find(descriptor))
        return s->close_on_exec;
    return fail(errors::bad_descriptor, static_cast<std::uint64_t>(descriptor));
}

inline result<> descriptor_table::set_close_on_exec(int descriptor, bool on)
{
    auto guard = lock_.lock(environment_.parker);
    slot* s = find(descriptor);
    if (!s)
        return fail(errors::bad_descriptor, static_cast<std::uint64_t>(descriptor));
    s->close_on_exec = on;
    return {};
}

inline result<ref<descriptor_table>> descriptor_table::copy() const
{
    auto twin = EXO_TRY(create(environment_, limit()));
    for (;;) {
        std::size_t size = 0;
        {
            auto guard = lock_.lock(environment_.parker);
            if (twin->slots_.size() >= slots_.size()) {
                for (std::size_t i = 0; i < slots_.size(); ++i) {
                    twin->slots_[i].opened = slots_[i].opened;
                    twin->slots_[i].close_on_exec = slots_[i].close_on_exec;
                }
                return twin;
            }
            size = slots_.size();
        }
        EXO_TRY(twin->reserve(size));
    }
}

template <class Leaves>
void descriptor_table::close_where(Leaves leaves) noexcept
{
    for (std::size_t i = 0;; ++i) {
        ref<file> closed;
        auto guard = lock_.lock(environment_.parker);
        while (i < slots_.size() && !(slots_[i].opened && leaves(slots_[i])))
            ++i;
        if (i >= slots_.size())
            return;
        slots_[i].close_on_exec = false;
        std::swap(closed, slots_[i].opened);
        guard.unlock();
    }
}

inline void descriptor_table::close_marked() noexcept
{
    close_where([](const slot& s) { return s.close_on_exec; });
}

inline void descriptor_table::close_all() noexcept
{
    close_where([](const slot&) { return true; });
}

inline std::size_t descriptor_table::limit() const noexcept
{
    auto guard = lock_.lock(environment_.parker);
    return limit_;
}

inline void descriptor_table::set_limit(std::size_t limit) noexcept
{
    auto guard = lock_.lock(environment_.parker);
    limit_ = limit;
}

inline int descriptor_table::next_open(int from) const noexcept
{
    auto guard = lock_.lock(environment_.parker);
    for (auto i = static_cast<std::size_t>(from < 0 ? 0 : from); i < slots_.size(); ++i)
        if (slots_[i].opened)
            return static_cast<int>(i);
    return -1;
}

} // namespace exo::fs
