// Futexes: sleeping on a word of user memory (Franke, Russell, Kirkwood 2002). A word in a shared mapping is the same
// futex in every process that maps it.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

#include <exo/base/address.hpp>
#include <exo/base/errors.hpp>
#include <exo/base/list.hpp>
#include <exo/base/ref.hpp>
#include <exo/base/result.hpp>
#include <exo/base/time.hpp>
#include <exo/mm/pager.hpp>
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

    // Keeps an object without an identity from going, and its place from being another's, while somebody waits.
    ref<mm::pager> kept{};

    friend bool operator==(const futex_key& a, const futex_key& b)
    {
        return a.object == b.object && a.offset == b.offset && a.device == b.device && a.inode == b.inode;
    }
};

[[nodiscard]] inline std::uint64_t futex_hash(const futex_key& key)
{
    const auto mixed =
        (reinterpret_cast<std::uintptr_t>(key.object) >> 6 ^ key.offset >> 2 ^ key.inode << 32) * 0x9e3779b97f4a7c15;
    return mixed >> 32;
}

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
        return futex_key{.object = region->backing.get(), .offset = offset, .kept = region->backing};
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
        bucket& b = bucket_of(key);
        waiter self{.key = key, .bits = bits, .thread = parker.current(), .on = &b};
        {
            auto guard = b.lock.lock(parker);
            b.waiters.push_back(self);
            b.note_change();
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
        for (;;) {
            bucket& last = *self.on.load(std::memory_order_acquire);
            auto guard = last.lock.lock(parker);
            if (self.on.load(std::memory_order_relaxed) != &last)
                continue; // it was moved meanwhile
            // A wake-up that was meant for this thread is not lost because something else came up as well.
            if (!self.hook.linked())
                return {};
            last.waiters.erase(self);
            last.note_change();
            return outcome;
        }
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
            b.wake(parker, w);
            ++woken;
        }
        return woken;
    }

    // Wakes up to `woken` threads that wait for `from`; up to `moved` others wait for `to` from now on. How many there
    // were of both. All this only if `unchanged()` says yes, as it is while nobody begins or ends to wait for `from`:
    // it is asked without a lock, and again if anybody did. Errors: would_block; those of unchanged.
    template <class Unchanged>
    [[nodiscard]] result<std::uint32_t> requeue(sync::any_parker& parker, futex_key from, futex_key to,
                                                std::uint32_t woken, std::uint32_t moved, Unchanged unchanged)
    {
        bucket& source = bucket_of(from);
        bucket& target = bucket_of(to);
        for (;;) {
            const auto before = source.changes.load(std::memory_order_acquire);
            if (!EXO_TRY(unchanged()))
                return fail(errors::would_block);
            auto first = (&source < &target ? source : target).lock.lock(parker);
            std::optional<bucket_guard> second;
            if (&source != &target)
                second.emplace((&source < &target ? target : source).lock.lock_beside(parker));
            if (source.changes.load(std::memory_order_relaxed) == before)
                return move_waiters(parker, source, target, from, to, woken, moved);
        }
    }

private:
    struct bucket;
    struct waiter {
        futex_key key;
        std::uint32_t bits;
        sync::thread_handle thread;
        std::atomic<bucket*> on; // changed with the locks of both buckets, while it is linked
        std::atomic<bool> woken{};
        list_hook hook{};
    };
    struct bucket {
        sync::spin_lock<sync::lock_rank::wait_queue, sync::any_parker> lock; // two of them by ascending address
        list<waiter, &waiter::hook> waiters;
        std::atomic<std::uint64_t> changes{}; // of the list

        void note_change() { changes.store(changes.load(std::memory_order_relaxed) + 1, std::memory_order_release); }
        void wake(sync::any_parker& parker, waiter& w)
        {
            const auto thread = w.thread;
            waiters.erase(w);
            note_change();
            w.woken.store(true, std::memory_order_release);
            parker.unpark(thread); // which comes by here before it goes
        }
    };
    static constexpr std::size_t bucket_count = 64;

    using bucket_guard = sync::spin_lock<sync::lock_rank::wait_queue, sync::any_parker>::guard;

    static std::uint32_t move_waiters(sync::any_parker& parker, bucket& source, bucket& target, futex_key from,
                                      futex_key to, std::uint32_t woken, std::uint32_t moved)
    {
        std::uint32_t count = 0;
        for (auto at = source.waiters.begin(); at != source.waiters.end() && count < woken + std::uint64_t{moved};) {
            waiter& w = *at;
            ++at;
            if (!(w.key == from))
                continue;
            if (count < woken) {
                source.wake(parker, w);
            } else if (!(from == to)) {
                source.waiters.erase(w);
                w.key = to;
                target.waiters.push_back(w);
                w.on.store(&target, std::memory_order_release);
                source.note_change();
                target.note_change();
            }
            ++count;
        }
        return count;
    }

    bucket& bucket_of(const futex_key& key) { return buckets_[futex_hash(key) % bucket_count]; }

    bucket buckets_[bucket_count];
};

} // namespace exo::proc
