// The frames of physical memory: a buddy allocator (Knowlton 1965) of blocks of 2^0 to 2^10 frames, with a cache of
// single frames per CPU before it, and the count of references of every block.
//
// The caller supplies the metadata: one frame_info for each frame from the lowest to the highest usable one, and one
// frame_cache for each CPU (or none). The allocator touches no memory but that. Thread-safe, interrupt-safe. Frames in
// the cache of a CPU serve that CPU only, so under exhaustion up to frame_cache::capacity frames of each other CPU stay
// out of reach.

#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include <exo/base/address.hpp>
#include <exo/base/check.hpp>
#include <exo/base/errors.hpp>
#include <exo/base/page.hpp>
#include <exo/base/range.hpp>
#include <exo/base/result.hpp>
#include <exo/hal/atomics.hpp>
#include <exo/hal/cpu_local.hpp>
#include <exo/hal/frame_source.hpp>
#include <exo/hal/interrupt_control.hpp>
#include <exo/mm/frame_info.hpp>
#include <exo/sync/lock_rank.hpp>
#include <exo/sync/spin_lock.hpp>

namespace exo::mm {

// Single frames that one CPU keeps at hand. Only that CPU changes it, with interrupts off; others read the count.
struct alignas(64) frame_cache {
    static constexpr std::uint32_t capacity = 63;
    static constexpr std::uint32_t batch = 32; // moved at once from or to the buddy lists

    std::atomic<std::uint32_t> count{};
    std::uint32_t frames[capacity]; // indexes of records; the last freed is the next allocated: its lines are warm
};

// Marks that free memory falls below as it runs short. Below `low` somebody makes room, until it is above `high`; what
// is left below `min` is for making room.
enum class watermark : std::uint8_t { min, low, high };

template <hal::InterruptControl Interrupts, hal::CpuLocal Cpu, hal::Atomics Atomics = hal::standard_atomics>
class frame_allocator {
public:
    using frame_info = basic_frame_info<Atomics>;

    static constexpr unsigned max_order = 10;

    // `records[i]` describes frame first + i; they and `caches` are value-initialized and outlive the allocator.
    // `caches` is empty or has an element for each CPU. Nothing is free until add().
    frame_allocator(Interrupts& interrupts, const Cpu& cpu, frame_number first, std::span<frame_info> records,
                    std::span<frame_cache> caches)
        : interrupts_{interrupts}, cpu_{cpu}, first_{first}, records_{records}, caches_{caches}
    {
        EXO_CHECK(records.size() < frame_info::none);
        for (auto& head : heads_)
            head = frame_info::none;
    }
    frame_allocator(const frame_allocator&) = delete;
    frame_allocator& operator=(const frame_allocator&) = delete;

    // Gives the allocator the whole frames of `memory`, which nobody uses and which were not given before. Frames
    // without a record are left out.
    void add(phys_range memory)
    {
        const frame_range covered{first_, first_ + records_.size()};
        const frame_range whole{frame_number{memory.begin.align_up(page_size)},
                                frame_number{memory.end.align_down(page_size)}};
        if (whole.begin >= whole.end)
            return;
        const auto usable = whole.intersection(covered);
        auto guard = lock_.lock(interrupts_);
        for (auto at = index(usable.begin), end = at + static_cast<std::uint32_t>(usable.size()); at < end;) {
            // Blocks are aligned by frame number, not by index of the record.
            const auto number = first_.value() + at;
            unsigned order = max_order;
            while ((number & ((std::uint64_t{1} << order) - 1)) != 0 || end - at < (1u << order))
                --order;
            for (std::uint32_t i = 0; i < (1u << order); ++i) {
                EXO_CHECK(records_[at + i].state == frame_info::block_state::absent);
                records_[at + i].state = frame_info::block_state::inside;
            }
            total_ += std::uint64_t{1} << order;
            give_back(at, order);
            at += 1u << order;
        }
    }

    // The FrameSource. A block that it returns has one reference, and free wants it to have just that one.
    [[nodiscard]] result<frame_number> allocate(unsigned order) noexcept
    {
        EXO_CHECK(order <= max_order);
        const auto at = order == 0 && !caches_.empty() ? take_cached() : take_locked(order);
        if (at == frame_info::none) [[unlikely]]
            return fail(errors::out_of_memory, page_size << order);
        records_[at].references.store(1, std::memory_order_relaxed);
        return first_ + at;
    }
    void free(frame_number f, unsigned order) noexcept
    {
        frame_info& info = this->info(f);
        EXO_CHECK(info.references.load(std::memory_order_relaxed) == 1 && info.order == order);
        info.references.store(0, std::memory_order_relaxed);
        put(index(f), order);
    }

    // More references to a block that somebody refers to.
    void acquire(frame_number f, std::uint32_t count = 1) noexcept
    {
        const auto before = info(f).references.fetch_add(count, std::memory_order_relaxed);
        EXO_CHECK(before != 0);
    }
    // One less, with the last of which the block is free again.
    void release(frame_number f) noexcept
    {
        if (drop(f))
            free(f, info(f).order);
    }
    // One less, except that the last stays with the caller, who is told so: to free the block, after what it refers to.
    [[nodiscard]] bool drop(frame_number f) noexcept
    {
        auto& references = info(f).references;
        if (references.load(std::memory_order_acquire) == 1)
            return true;
        const auto before = references.fetch_sub(1, std::memory_order_acq_rel);
        EXO_CHECK(before != 0);
        if (before != 1)
            return false;
        references.store(1, std::memory_order_relaxed); // two dropped at once, and this was the last
        return true;
    }
    [[nodiscard]] std::uint32_t references(frame_number f) const noexcept
    {
        return info(f).references.load(std::memory_order_acquire);
    }

    // The first frame of the block in use that `f` lies in.
    [[nodiscard]] frame_number block_of(frame_number f) const noexcept
    {
        std::uint64_t number = f.value();
        for (unsigned order = 1; info(frame_number{number}).state == frame_info::block_state::inside; ++order)
            number = number >> order << order;
        return frame_number{number};
    }
    // Makes every frame of a block a block of its own, with one reference. The caller holds all references to the block.
    void split(frame_number block) noexcept
    {
        frame_info* first = &info(block);
        EXO_CHECK(first->state == frame_info::block_state::taken);
        for (std::uint32_t i = 0, count = 1u << std::exchange(first->order, std::uint8_t{}); i < count; ++i) {
            first[i].state = frame_info::block_state::taken;
            first[i].order = 0;
            first[i].references.store(1, std::memory_order_relaxed);
        }
    }

    [[nodiscard]] bool manages(frame_number f) const noexcept
    {
        return first_ <= f && f - first_ < records_.size() &&
               records_[index(f)].state != frame_info::block_state::absent;
    }
    // `f` lies within the records.
    [[nodiscard]] frame_info& info(frame_number f) noexcept { return records_[checked_index(f)]; }
    [[nodiscard]] const frame_info& info(frame_number f) const noexcept { return records_[checked_index(f)]; }

    // Frames that can be allocated, those in caches included; a snapshot.
    [[nodiscard]] std::uint64_t free_frames() const noexcept
    {
        auto sum = free_.load(std::memory_order_relaxed);
        for (const frame_cache& c : caches_)
            sum += c.count.load(std::memory_order_relaxed);
        return sum;
    }
    [[nodiscard]] std::uint64_t total_frames() const noexcept { return total_; }

    // In frames. A 64th of memory is low, but no more than 64 MiB.
    [[nodiscard]] std::uint64_t mark(watermark which) const noexcept
    {
        constexpr std::uint64_t most = (std::uint64_t{64} << 20) / page_size;
        const auto low = total_ / 64 < most ? total_ / 64 : most;
        return which == watermark::min ? low / 4 : which == watermark::low ? low : 2 * low;
    }
    // Whether fewer frames than that are free: a load, a comparison, and a sum over the caches when it is close.
    [[nodiscard]] bool below(watermark which) const noexcept
    {
        const auto wanted = mark(which);
        return free_.load(std::memory_order_relaxed) < wanted && free_frames() < wanted;
    }

    // Returns the cached frames of the calling CPU to the buddy lists, where they join into blocks.
    void drain_cache() noexcept
    {
        if (caches_.empty())
            return;
        const auto saved = interrupts_.save_and_disable();
        spill(caches_[cpu_.current_cpu()], frame_cache::capacity);
        interrupts_.restore(saved);
    }

private:
    [[nodiscard]] std::uint32_t index(frame_number f) const { return static_cast<std::uint32_t>(f - first_); }
    [[nodiscard]] std::uint32_t checked_index(frame_number f) const
    {
        EXO_CHECK(f - first_ < records_.size()); // wraps below first_
        return index(f);
    }

    std::uint32_t take_cached() noexcept
    {
        const auto saved = interrupts_.save_and_disable();
        frame_cache& cache = caches_[cpu_.current_cpu()];
        auto count = cache.count.load(std::memory_order_relaxed);
        if (count == 0) [[unlikely]]
            count = refill(cache);
        auto at = frame_info::none;
        if (count != 0) {
            at = cache.frames[--count];
            cache.count.store(count, std::memory_order_relaxed);
        }
        interrupts_.restore(saved);
        return at;
    }

    std::uint32_t take_locked(unsigned order) noexcept
    {
        {
            auto guard = lock_.lock(interrupts_);
            if (const auto at = take(order); at != frame_info::none)
                return at;
        }
        // Frames in this CPU's cache may be what keeps a block apart.
        drain_cache();
        auto guard = lock_.lock(interrupts_);
        return take(order);
    }

    void put(std::uint32_t at, unsigned order) noexcept
    {
        if (order != 0 || caches_.empty()) {
            auto guard = lock_.lock(interrupts_);
            give_back(at, order);
            return;
        }
        const auto saved = interrupts_.save_and_disable();
        frame_cache& cache = caches_[cpu_.current_cpu()];
        if (cache.count.load(std::memory_order_relaxed) == frame_cache::capacity) [[unlikely]]
            spill(cache, frame_cache::batch);
        const auto count = cache.count.load(std::memory_order_relaxed);
        cache.frames[count] = at;
        cache.count.store(count + 1, std::memory_order_relaxed);
        interrupts_.restore(saved);
    }

    // The cache's new count. Interrupts are off.
    [[gnu::noinline]] std::uint32_t refill(frame_cache& cache) noexcept
    {
        auto guard = lock_.lock(interrupts_);
        std::uint32_t count = 0;
        for (; count < frame_cache::batch; ++count) {
            const auto at = take(0);
            if (at == frame_info::none)
                break;
            cache.frames[frame_cache::batch - 1 - count] = at;
        }
        // The lowest frame lies on top; a short batch moves down to the bottom.
        for (std::uint32_t i = 0; count < frame_cache::batch && i < count; ++i)
            cache.frames[i] = cache.frames[frame_cache::batch - count + i];
        cache.count.store(count, std::memory_order_relaxed);
        return count;
    }
    // The frames that lay longest leave. Interrupts are off.
    [[gnu::noinline]] void spill(frame_cache& cache, std::uint32_t wanted) noexcept
    {
        auto guard = lock_.lock(interrupts_);
        const auto count = cache.count.load(std::memory_order_relaxed);
        const auto leaving = wanted < count ? wanted : count;
        for (std::uint32_t i = 0; i < leaving; ++i)
            give_back(cache.frames[i], 0);
        for (std::uint32_t i = leaving; i < count; ++i)
            cache.frames[i - leaving] = cache.frames[i];
        cache.count.store(count - leaving, std::memory_order_relaxed);
    }

    // The buddy lists, under the lock. A block belongs to the record of its first frame.

    std::uint32_t take(unsigned order) noexcept
    {
        const auto fitting = nonempty_ >> order << order;
        if (fitting == 0)
            return frame_info::none;
        auto from = static_cast<unsigned>(std::countr_zero(fitting));
        const auto at = heads_[from];
        unlink(at, from);
        while (from > order) {
            --from;
            link(at + (1u << from), from);
        }
        records_[at].state = frame_info::block_state::taken;
        records_[at].order = static_cast<std::uint8_t>(order);
        free_.store(free_.load(std::memory_order_relaxed) - (std::uint64_t{1} << order), std::memory_order_relaxed);
        return at;
    }

    void give_back(std::uint32_t at, unsigned order) noexcept
    {
        free_.store(free_.load(std::memory_order_relaxed) + (std::uint64_t{1} << order), std::memory_order_relaxed);
        for (; order < max_order; ++order) {
            const auto number = (first_.value() + at) ^ (std::uint64_t{1} << order);
            if (number - first_.value() >= records_.size())
                break;
            const auto buddy = index(frame_number{number});
            if (records_[buddy].state != frame_info::block_state::free || records_[buddy].order != order)
                break;
            unlink(buddy, order);
            const auto upper = buddy > at ? buddy : at;
            records_[upper].state = frame_info::block_state::inside;
            at = buddy < at ? buddy : at;
        }
        link(at, order);
    }

    void link(std::uint32_t at, unsigned order) noexcept
    {
        frame_info& info = records_[at];
        info.state = frame_info::block_state::free;
        info.order = static_cast<std::uint8_t>(order);
        info.free = {.next = heads_[order], .previous = frame_info::none};
        if (info.free.next != frame_info::none)
            records_[info.free.next].free.previous = at;
        heads_[order] = at;
        nonempty_ |= 1u << order;
    }
    void unlink(std::uint32_t at, unsigned order) noexcept
    {
        const auto [next, previous] = records_[at].free;
        (previous == frame_info::none ? heads_[order] : records_[previous].free.next) = next;
        if (next != frame_info::none)
            records_[next].free.previous = previous;
        if (heads_[order] == frame_info::none)
            nonempty_ &= ~(1u << order);
    }

    Interrupts& interrupts_;
    const Cpu& cpu_;
    frame_number first_;
    std::span<frame_info> records_;
    std::span<frame_cache> caches_;

    sync::spin_lock<sync::lock_rank::frames, Interrupts, sync::unobserved, Atomics> lock_;
    std::uint32_t heads_[max_order + 1];
    std::uint32_t nonempty_{}; // a bit per order
    std::atomic<std::uint64_t> free_{};
    std::uint64_t total_{};
};

} // namespace exo::mm
