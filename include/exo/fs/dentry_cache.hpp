// The names that were looked up lately, found by directory and name without asking the file system, those known not to
// exist among them.
//
// Every dentry that is cached has one reference from here. What is beyond the limit goes when nobody else uses it,
// names not used lately first. The owner of the cache keeps it true: names change under the entries() lock of their
// directory only.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <exo/base/allocator.hpp>
#include <exo/base/check.hpp>
#include <exo/base/list.hpp>
#include <exo/base/ref.hpp>
#include <exo/fs/dentry.hpp>
#include <exo/sync/spin_lock.hpp>
#include <exo/sync/wait_queue.hpp>

namespace exo::fs {

class dentry_cache {
public:
    dentry_cache(allocator& heap, sync::any_parker& parker, std::size_t limit)
        : heap_{heap}, parker_{parker}, limit_{limit}
    {
    }
    dentry_cache(const dentry_cache&) = delete;
    dentry_cache& operator=(const dentry_cache&) = delete;
    ~dentry_cache() { prune_all(); }

    // Null if nothing is known about the name.
    [[nodiscard]] ref<dentry> find(dentry& directory, std::string_view name) noexcept
    {
        const auto hash = hash_of(directory, name);
        auto guard = lock_.lock(parker_);
        for (dentry* d = bucket(hash); d; d = d->next_in_bucket_)
            if (d->hash_ == hash && d->parent_.get() == &directory && d->name() == name) {
                d->used_ = true;
                return ref<dentry>{*d};
            }
        return {};
    }

    // Errors: out_of_memory.
    [[nodiscard]] result<owned_array<char>> copy_of(std::string_view text)
    {
        auto copy = EXO_TRY(owned_array<char>::create(heap_, text.size()));
        for (std::size_t i = 0; i < text.size(); ++i)
            copy[i] = text[i];
        return copy;
    }

    // A dentry that is not in the cache. Errors: out_of_memory.
    [[nodiscard]] result<ref<dentry>> make(ref<dentry> directory, std::string_view name, ref<inode> node)
    {
        auto copy = EXO_TRY(copy_of(name));
        return ref<dentry>::adopt(
            EXO_TRY(new_object<dentry>(heap_, heap_, std::move(directory), std::move(copy), std::move(node))));
    }

    // `d` is not cached, and neither is another of its name.
    void insert(dentry& d) noexcept
    {
        age_list evicted;
        {
            auto guard = lock_.lock(parker_);
            d.acquire();
            d.hash_ = hash_of(*d.parent_, d.name());
            link(d);
            for (int tries = 0; count_ > limit_ && tries < eviction_tries; ++tries)
                evict_oldest(evicted);
            if (evicted.empty())
                return;
            releasing_.fetch_add(1, std::memory_order_relaxed);
        }
        release_all(evicted);
    }

    // The name no longer stands for this: whoever holds the dentry keeps it, lookups no longer find it.
    void remove(dentry& d) noexcept
    {
        auto guard = lock_.lock(parker_);
        if (!d.cached_)
            return;
        unlink(d);
        guard.unlock();
        d.release();
    }

    // What a name that stood for nothing stands for now.
    static void set_node(dentry& d, ref<inode> node) noexcept
    {
        EXO_CHECK(!d.node());
        d.node_.store(node.leak(), std::memory_order_release);
    }

    // `d` moves to another name; what stood there was removed before. `name` is `d`'s name to be. The old directory and
    // name are given back for the caller to release.
    void move(dentry& d, ref<dentry>& directory, owned_array<char>& name) noexcept
    {
        auto guard = lock_.lock(parker_);
        const bool cached = d.cached_;
        if (cached)
            unlink(d);
        std::swap(d.parent_, directory);
        std::swap(d.name_, name);
        if (cached) {
            d.hash_ = hash_of(*d.parent_, d.name());
            link(d);
        }
        guard.unlock();
    }

    // Reads a dentry's place in the tree while renames may be going on.
    [[nodiscard]] ref<dentry> parent_of(const dentry& d) noexcept
    {
        auto guard = lock_.lock(parker_);
        return d.parent_;
    }
    // Copies the name to the end of `into`; false if it does not fit.
    [[nodiscard]] bool prepend_name(const dentry& d, char* begin, char*& end) noexcept
    {
        auto guard = lock_.lock(parker_);
        const auto name = d.name();
        if (static_cast<std::size_t>(end - begin) < name.size())
            return false;
        end -= name.size();
        for (std::size_t i = 0; i < name.size(); ++i)
            end[i] = name[i];
        return true;
    }

    // Forgets every name below `top` that nobody uses. Children go before their directories, so it goes round until
    // there is nothing left to take.
    void prune_below(const dentry& top) noexcept
    {
        prune([&top](const dentry& d) {
            for (const dentry* at = &d; at; at = at->parent_.get())
                if (at == &top)
                    return true;
            return false;
        });
    }
    void prune_all() noexcept
    {
        prune([](const dentry&) { return true; });
    }

    // Returns when every name that was forgotten before the call has let go of its inode.
    void settle() noexcept
    {
        settled_.wait(parker_, [this] { return releasing_.load(std::memory_order_acquire) == 0; });
    }

    [[nodiscard]] std::size_t size() const noexcept { return count_; }

private:
    using age_list = list<dentry, &dentry::age_hook_>;
    static constexpr std::size_t buckets = 512;
    static constexpr int eviction_tries = 16;

    [[nodiscard]] static std::uint32_t hash_of(const dentry& directory, std::string_view name) noexcept
    {
        std::uint64_t h = reinterpret_cast<std::uintptr_t>(&directory) * 0x9E3779B97F4A7C15ULL;
        for (const char c : name)
            h = (h ^ static_cast<unsigned char>(c)) * 0x100000001B3ULL;
        return static_cast<std::uint32_t>(h ^ (h >> 32));
    }
    [[nodiscard]] dentry*& bucket(std::uint32_t hash) noexcept { return table_[hash & (buckets - 1)]; }

    void link(dentry& d) noexcept
    {
        dentry*& head = bucket(d.hash_);
        d.next_in_bucket_ = head;
        head = &d;
        by_age_.push_back(d);
        d.cached_ = true;
        d.used_ = true;
        ++count_;
    }
    void unlink(dentry& d) noexcept
    {
        dentry** at = &bucket(d.hash_);
        while (*at != &d)
            at = &(*at)->next_in_bucket_;
        *at = d.next_in_bucket_;
        by_age_.erase(d);
        d.cached_ = false;
        --count_;
    }

    // Nobody but the cache refers to it, and without the lock nobody can begin to.
    [[nodiscard]] static bool idle(const dentry& d) noexcept { return d.reference_count() == 1; }

    void evict_oldest(age_list& evicted) noexcept
    {
        dentry& d = *by_age_.front();
        if (idle(d) && !d.used_) {
            unlink(d);
            evicted.push_back(d);
        } else {
            d.used_ = false;
            by_age_.erase(d);
            by_age_.push_back(d);
        }
    }
    // With no lock held: an inode that goes may take its time.
    void release_all(age_list& evicted) noexcept
    {
        while (dentry* d = evicted.pop_front())
            d->release();
        releasing_.fetch_sub(1, std::memory_order_release);
        settled_.wake_all(parker_);
    }
    template <class Goes>
    void prune(Goes goes) noexcept
    {
        for (;;) {
            age_list evicted;
            {
                auto guard = lock_.lock(parker_);
                for (auto at = by_age_.begin(); at != by_age_.end();) {
                    dentry& d = *at++;
                    if (idle(d) && goes(d)) {
                        unlink(d);
                        evicted.push_back(d);
                    }
                }
                if (!evicted.empty())
                    releasing_.fetch_add(1, std::memory_order_relaxed);
            }
            if (evicted.empty())
                return;
            release_all(evicted);
        }
    }

    age_list by_age_;
    dentry* table_[buckets]{};
    std::size_t count_{};
    std::atomic<unsigned> releasing_{}; // threads that are letting go of forgotten names
    sync::wait_queue settled_;
    sync::spin_lock<sync::lock_rank::dentries, sync::any_parker> lock_;
    allocator& heap_;
    sync::any_parker& parker_;
    std::size_t limit_;
};

} // namespace exo::fs
