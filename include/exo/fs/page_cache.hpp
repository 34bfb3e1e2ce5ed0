// The pages of one file that were read, for read and mmap alike: each is read once, and there is one of each.
//
// A page is handed out as a reference of its own; nothing is held while a caller uses it. Threads that want a page
// which is being read wait for the one that reads it. Pages that nobody uses are given back when memory is short.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include <exo/base/page.hpp>
#include <exo/base/result.hpp>
#include <exo/fs/environment.hpp>
#include <exo/fs/page_tree.hpp>
#include <exo/mm/page_supply.hpp>
#include <exo/mm/pager.hpp>
#include <exo/mm/reclaim.hpp>
#include <exo/sync/spin_lock.hpp>
#include <exo/sync/wait_queue.hpp>

namespace exo::fs {

// Where a page's contents come from.
class page_source {
public:
    // Fills every byte. May sleep.
    [[nodiscard]] virtual result<> read_page(std::uint64_t index, std::span<std::byte, page_size> into) = 0;

protected:
    ~page_source() = default;
};

class page_cache final : private mm::reclaimable {
public:
    page_cache(environment& env, page_source& source) : environment_{env}, source_{source}, pages_{env.heap}
    {
        environment_.reclaimer.add(environment_.parker, *this);
    }
    page_cache(const page_cache&) = delete;
    page_cache& operator=(const page_cache&) = delete;
    ~page_cache()
    {
        environment_.reclaimer.remove(environment_.parker, *this);
        pages_.for_each(0, [this](std::uint64_t, page_tree::word& w) {
            drop(w);
            return true;
        });
    }

    // Page `index` of the file, read if it has to be. Errors: out_of_memory, and the source's.
    [[nodiscard]] result<mm::page> get(std::uint64_t index)
    {
        for (;;) {
            bool being_read = false;
            {
                auto guard = lock_.lock(environment_.parker);
                page_tree::word* const w = pages_.find(index);
                if (w && *w != 0 && (*w & reading) == 0) {
                    *w |= used;
                    return share(*w);
                }
                being_read = w && *w != 0;
            }
            if (!being_read) {
                auto fresh = EXO_TRY(read(index));
                if (fresh)
                    return fresh;
                continue; // another thread has begun to read it
            }
            read_done_.wait(environment_.parker, [&] {
                auto guard = lock_.lock(environment_.parker);
                const page_tree::word* const w = pages_.find(index);
                return !w || (*w & reading) == 0;
            });
        }
    }

    // As mm::pager::get_present_pages.
    [[nodiscard]] std::size_t get_present(std::uint64_t first, std::span<mm::object_page> into)
    {
        std::size_t count = 0;
        auto guard = lock_.lock(environment_.parker);
        pages_.for_each(first, [&](std::uint64_t index, page_tree::word& w) {
            if (index - first >= into.size())
                return false;
            if ((w & reading) == 0) {
                w |= used;
                into[count++] = {index, share(w).leak()};
            }
            return true;
        });
        return count;
    }

private:
    // A word of the tree is a page's address with these in its low bits.
    static constexpr page_tree::word reading = 1;
    static constexpr page_tree::word used = 2; // since it was last looked at for reclaim
    static constexpr page_tree::word flags = page_size - 1;

    [[nodiscard]] static std::byte* data_of(page_tree::word w) { return reinterpret_cast<std::byte*>(w & ~flags); }
    [[nodiscard]] mm::page share(page_tree::word w) const
    {
        const auto frame = environment_.pages.frame_of(data_of(w));
        environment_.pages.acquire(frame);
        return mm::page::adopt(environment_.pages, frame);
    }
    void drop(page_tree::word& w) noexcept
    {
        environment_.pages.release(environment_.pages.frame_of(data_of(w)));
        environment_.cached_pages.fetch_sub(1, std::memory_order_relaxed);
        w = 0;
    }

    // Nothing if another thread came first.
    [[nodiscard]] result<mm::page> read(std::uint64_t index)
    {
        auto fresh = EXO_TRY(environment_.allocate_page(mm::page_contents::indeterminate));
        {
            auto guard = lock_.lock(environment_.parker);
            page_tree::word* const w = EXO_TRY(pages_.make(index));
            if (*w != 0)
                return mm::page{};
            // The cache's reference, and ours to read into.
            *w = reinterpret_cast<page_tree::word>(fresh.data()) | reading | used;
            (void)fresh.share().leak();
            environment_.cached_pages.fetch_add(1, std::memory_order_relaxed);
        }
        const auto outcome = source_.read_page(index, fresh.bytes());
        {
            auto guard = lock_.lock(environment_.parker);
            page_tree::word& w = *pages_.find(index);
            if (outcome)
                w &= ~reading;
            else
                drop(w);
        }
        read_done_.wake_all(environment_.parker);
        if (!outcome)
            return fail(outcome.error());
        return fresh;
    }

    std::size_t reclaim(std::size_t wanted) noexcept override
    {
        std::size_t freed = 0;
        auto guard = lock_.lock(environment_.parker);
        const auto look_at = [&](std::uint64_t index, page_tree::word& w) {
            look_next_ = index + 1;
            if ((w & reading) != 0)
                return true;
            if ((w & used) != 0) {
                w &= ~used;
            } else if (environment_.pages.references(environment_.pages.frame_of(data_of(w))) == 1) {
                drop(w);
                ++freed;
            }
            return freed < wanted;
        };
        // All of them, from where the last call stopped.
        const auto first = look_next_;
        pages_.for_each(first, look_at);
        if (freed < wanted)
            pages_.for_each(0, [&](std::uint64_t index, page_tree::word& w) {
                return index < first && look_at(index, w);
            });
        return freed;
    }

    environment& environment_;
    page_source& source_;
    sync::spin_lock<sync::lock_rank::page_cache, sync::any_parker> lock_;
    page_tree pages_;
    std::uint64_t look_next_{}; // by reclaim
    sync::wait_queue read_done_;
};

} // namespace exo::fs
