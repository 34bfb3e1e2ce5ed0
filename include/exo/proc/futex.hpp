// Futexes: sleeping on a word of user memory (Franke, Russell, Kirkwood 2002). A word in a shared mapping is the same
// futex in every process that maps it.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include <exo/base/address.hpp>
#include <exo/base/errors.hpp>
#include <exo/base/list.hpp>
#include <exo/base/result.hpp>
#include <exo/base/time.hpp>
#include <exo/mm/region.hpp>
#include <exo/sync/any_parker.hpp>
#include <exo/sync/lock_rank.hpp>
#include <exo/sync/spin_lock.hpp>

namespace exo::proc {

// What a word is, whoever looks at it: an object (an address space, or what backs a shared mapping: files by their
// identity, since each opening is an object of its own) and a place in it.
struct futex_key {
    const void* object{};
    std::uint64_t offset{};
    std::uint64_t device{};
    std::uint64_t inode{};

    friend constexpr bool operator==(futex_key, futex_key) = default;
};

// Errors: bad_address, if nothing is mapped there.
template <class Space>
[[nodiscard]] result<futex_key> futex_key_of(Space& space, user_addr word, bool known_private)
{
    if (known_private)
        return futex_key{&space, word.value()};
    const auto region = space.region_at(virt_addr{word.value()});
    if (!region)
        return fail(errors::bad_address, word.value());
    if (region->kind != mm::sharing::shared || !region->backing)
        return futex_key{&space, word.value()};
    const std::uint64_t offset = region->offset + (word.value() - region->range.begin.value());
    const mm::pager_identity identity = region->backing->identity();
    if (identity.inode == 0)
        return futex_key{region->backing.get(), offset};
    return futex_key{nullptr, offset, identity.device, identity.inode};
}

class futex_table {
public:
    // Sleeps until woken, unless `unchanged()` (result<bool>: does the word still hold what the caller expects) says
    // no: then would_block. It is asked after the caller can be woken. Errors: would_block, interrupted, timed_out;
    // those of unchanged.
    template <class Unchanged>
    [[nodiscard]] result<> wait(sync::any_parker& parker, futex_key key, std::uint32_t bits, instant deadline,
                                Unchanged unchanged)
    {
        waiter self{.key = key, .bits = bits, .thread = parker.current()};
        bucket& b = bucket_of(key);
        {
            auto guard = b.lock.lock(parker);
            b.waiters.push_back(self);
        }
        result<> outcome{};
        if (auto same = unchanged(); !same)
            outcome = fail(same.error());
        else if (!*same)
            outcome = fail(errors::would_block);
        while (outcome && !self.woken.load(std::memory_order_acquire)) {
            if (parker.interrupted())
                outcome = fail(errors::interrupted);
            else if (deadline != instant::never() && parker.now() >= deadline)
                outcome = fail(errors::timed_out);
            else
                parker.park(deadline);
        }
        auto guard = b.lock.lock(parker);
        // A wake-up that was meant for this thread is not lost because something else came up as well.
        if (!self.hook.linked())
            return {};
        b.waiters.erase(self);
        return outcome;
    }

    // Wakes up to `count` threads whose bits meet `bits`, the longest waiting first; how many there were.
    std::uint32_t wake(sync::any_parker& parker, futex_key key, std::uint32_t bits, std::uint32_t count)
    {
        bucket& b = bucket_of(key);
        std::uint32_t woken = 0;
        auto guard = b.lock.lock(parker);
        for (auto at = b.waiters.begin(); at != b.waiters.end() && woken < count;) {
            waiter& w = *at;
            ++at;
            if (!(w.key == key) || (w.bits & bits) == 0)
                continue;
            const auto thread = w.thread;
            b.waiters.erase(w);
            w.woken.store(true, std::memory_order_release);
            parker.unpark(thread);
            ++woken;
        }
        return woken;
    }

private:
    struct waiter {
        futex_key key;
        std::uint32_t bits;
        sync::thread_handle thread;
        std::atomic<bool> woken{};
        list_hook hook{};
    };
    struct bucket {
        sync::spin_lock<sync::lock_rank::wait_queue, sync::any_parker> lock;
        list<waiter, &waiter::hook> waiters;
    };
    static constexpr std::size_t bucket_count = 64;

    bucket& bucket_of(futex_key key)
    {
        const auto mixed =
            (reinterpret_cast<std::uintptr_t>(key.object) >> 6 ^ key.offset >> 2 ^ key.inode << 32) *
            0x9e3779b97f4a7c15;
        return buckets_[mixed >> 58];
    }

    bucket buckets_[bucket_count];
};

} // namespace exo::proc
