// The frames of physical memory: a buddy allocator (Knowlton 1965) of blocks of 2^0 to 2^10 frames, with caches per CPU
// before it, and the count of references of every block.
//
// The caller supplies the metadata: one frame_info for each frame from the lowest to the highest usable one, and one
// frame_cache for each CPU. The allocator touches no memory but that. Thread-safe, interrupt-safe; what the caches can
// serve takes neither a lock nor interrupts off. No allocation fails for what lies in a cache, whichever CPU's.
// Of single frames the caches of all CPUs keep no more than a 32nd of those that have records, or sixteen a CPU if that
// is more.
//
// Memory below 4 GiB, which is all that some devices reach, is kept for last.

#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
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
#include <exo/mm/frame_cache.hpp>
#include <exo/mm/frame_info.hpp>
#include <exo/sync/lock_observer.hpp>
#include <exo/sync/lock_rank.hpp>
#include <exo/sync/spin_lock.hpp>
#include <exo/trace/counter.hpp>

namespace exo::mm {

// Marks that free memory falls below as it runs short: below `low` somebody had better make room, up to `high`; below
// `min` next to nothing is left.
enum class watermark : std::uint8_t { min, low, high };

enum class frame_zone : std::uint8_t { below_4gib, above };

// What the allocator counts, under its lock.
struct frame_counters {
    using counter = trace::counter<trace::recording>;

    counter refills;  // of a cache
    counter spills;   // the oldest of a full cache went back
    counter drains;   // all caches emptied, because something was not to be had otherwise
    counter failures; // allocations, in bulk or not
    counter uncached; // frames freed past the caches
};

template <hal::InterruptControl Interrupts, hal::CpuLocal Cpu, hal::Atomics Atomics = hal::standard_atomics>
class frame_allocator {
public:
    using frame_info = basic_frame_info<Atomics>;
    using frame_cache = basic_frame_cache<Atomics>;

    static constexpr unsigned max_order = frame_cache::max_order;

    // `records[i]` describes frame first + i; they and `caches`, one for each CPU, are value-initialized and outlive the
    // allocator. Nothing is free until add().
    frame_allocator(Interrupts& interrupts, const Cpu& cpu, frame_number first, std::span<frame_info> records,
                    std::span<frame_cache> caches)
        : interrupts_{interrupts}, cpu_{cpu}, first_{first}, records_{records}, caches_{caches}
    {
        EXO_CHECK(records.size() < frame_info::none && caches.size() == cpu.cpu_limit());
        for (frame_cache& c : caches)
            c.limit_singles(2 * refill_);
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
        frame_cache& here = cache_nearby();
        auto at = here.take(order);
        if (at == frame_info::none) [[unlikely]]
            at = take_past_cache(here, order);
        if (at == frame_info::none) [[unlikely]]
            return fail(errors::out_of_memory, page_size << order);
        return hand_out(at);
    }
    // For who can do without: what other CPUs have in their caches stays there, and nothing counts as a failure.
    [[nodiscard]] result<frame_number> try_allocate(unsigned order) noexcept
    {
        EXO_CHECK(order <= max_order);
        auto at = cache_nearby().take(order);
        if (at == frame_info::none) {
            auto guard = lock_.lock(interrupts_);
            at = take(order);
        }
        if (at == frame_info::none)
            return fail(errors::out_of_memory, page_size << order);
        return hand_out(at);
    }
    void free(frame_number f, unsigned order) noexcept
    {
        const auto at = take_in(f, order);
        frame_cache& here = cache_nearby();
        if (const auto oldest = here.put(order, at); oldest != frame_info::none) [[unlikely]]
            spill(here, order, oldest);
    }

    // For devices that do not reach all memory. Freed as others are. Errors: out_of_memory.
    [[nodiscard]] result<frame_number> allocate_below_4gib(unsigned order) noexcept
    {
        EXO_CHECK(order <= max_order);
        auto guard = lock_.lock(interrupts_);
        buddy_lists& below = lists_of(frame_zone::below_4gib);
        const auto at = or_drained(frame_info::none, [&] { return take_from(below, order); });
        if (at == frame_info::none)
            return fail(errors::out_of_memory, page_size << order);
        return hand_out(at);
    }

    // Single frames for all of `into`, or for none; for larger numbers mostly in runs. Errors: out_of_memory.
    [[nodiscard]] result<> allocate_bulk(std::span<frame_number> into) noexcept
    {
        for (std::size_t done = 0; done < into.size();) {
            std::uint32_t taken[bulk_batch];
            const auto left = into.size() - done;
            const auto wanted = left < bulk_batch ? left : bulk_batch;
            const auto count = [&] {
                auto guard = lock_.lock(interrupts_);
                return or_drained(std::size_t{}, [&] { return take_singles({taken, wanted}); });
            }();
            if (count == 0) {
                free_bulk(into.first(done));
                return fail(errors::out_of_memory, into.size() * page_size);
            }
            for (std::size_t i = 0; i < count; ++i)
                into[done++] = hand_out(taken[i]);
        }
        return {};
    }
    // Single frames, each with one reference.
    void free_bulk(std::span<const frame_number> frames) noexcept
    {
        while (!frames.empty()) {
            const auto batch = frames.first(frames.size() < bulk_batch ? frames.size() : bulk_batch);
            auto guard = lock_.lock(interrupts_);
            for (const auto f : batch)
                give_back(take_in(f, 0), 0);
            counters_.uncached.add(batch.size());
            frames = frames.subspan(batch.size());
        }
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
        EXO_CHECK(info(block).state == frame_info::block_state::taken);
        const auto first = index(block), count = 1u << info(block).order;
        cut(first); // without the lock: of a block in use, others look at the state of its first frame only
        for (std::uint32_t i = 0; i < count; ++i)
            records_[first + i].references.store(1, std::memory_order_relaxed);
    }

    [[nodiscard]] bool manages(frame_number f) const noexcept
    {
        return first_ <= f && f - first_ < records_.size() &&
               records_[index(f)].state != frame_info::block_state::absent;
    }
    // `f` lies within the records.
    [[nodiscard]] frame_info& info(frame_number f) noexcept { return records_[checked_index(f)]; }
    [[nodiscard]] const frame_info& info(frame_number f) const noexcept { return records_[checked_index(f)]; }

    // The calling CPU, unless it is moved just now: where any will do.
    [[nodiscard]] unsigned cpu_nearby() const noexcept { return cpu_.current_cpu(); }

    [[nodiscard]] std::uint64_t total_frames() const noexcept { return total_; }

    // Snapshots, in frames unless said. What can be allocated, and how much of that is in caches.
    [[nodiscard]] std::uint64_t free_frames() const noexcept { return listed() + cached_frames(); }
    [[nodiscard]] std::uint64_t cached_frames() const noexcept
    {
        return over_caches([](const frame_cache& c, unsigned order) { return c.count(order); });
    }
    // Outside of caches: by zone, and how many blocks of an order.
    [[nodiscard]] std::uint64_t free_frames(frame_zone zone) const noexcept
    {
        return lists_of(zone).frames.load(std::memory_order_relaxed);
    }
    [[nodiscard]] std::uint64_t free_blocks(frame_zone zone, unsigned order) const noexcept
    {
        return lists_of(zone).blocks[order].load(std::memory_order_relaxed);
    }
    // Since the start. Interrupts may cost a count; a failed allocation in bulk may count as some that were freed again.
    [[nodiscard]] std::uint64_t frames_freed() const noexcept
    {
        return over_caches([](const frame_cache& c, unsigned order) { return c.puts(order); }) +
               counters_.uncached.value();
    }
    [[nodiscard]] std::uint64_t frames_allocated() const noexcept { return frames_freed() + total_ - free_frames(); }
    [[nodiscard]] const frame_counters& counters() const noexcept { return counters_; }

    // In frames. A 64th of memory is low, but no more than 64 MiB.
    [[nodiscard]] std::uint64_t mark(watermark which) const noexcept
    {
        constexpr std::uint64_t most = (std::uint64_t{64} << 20) / page_size;
        const auto low = total_ / 64 < most ? total_ / 64 : most;
        return which == watermark::min ? low / 4 : which == watermark::low ? low : 2 * low;
    }
    // Whether fewer frames than that are free. Cheap while enough of them are outside of caches: if not, but with those
    // in caches, they leave the caches.
    [[nodiscard]] bool below(watermark which) noexcept
    {
        const auto wanted = mark(which);
        if (listed() >= wanted) [[likely]]
            return false;
        if (free_frames() < wanted)
            return true;
        drain_caches();
        return false;
    }

    // Returns the cached frames of all CPUs to the buddy lists, where they join into blocks.
    void drain_caches() noexcept
    {
        auto guard = lock_.lock(interrupts_);
        drain();
    }

private:
    static constexpr std::size_t bulk_batch = 64;  // frames moved under the lock at once
    static constexpr std::size_t least_refill = 8;
    static constexpr std::size_t most_refill = frame_cache::most(0) / 2;
    static constexpr std::uint32_t spill_batch = 32;

    // The free blocks of a zone, by order.
    struct alignas(64) buddy_lists {
        std::uint32_t heads[max_order + 1]{};
        std::uint32_t nonempty{}; // a bit per order
        std::atomic<std::uint64_t> frames{};
        std::atomic<std::uint32_t> blocks[max_order + 1]{};
    };

    [[nodiscard]] std::uint32_t index(frame_number f) const { return static_cast<std::uint32_t>(f - first_); }
    [[nodiscard]] std::uint32_t checked_index(frame_number f) const
    {
        EXO_CHECK(f - first_ < records_.size()); // wraps below first_
        return index(f);
    }

    // How many single frames a cache gets at once, half of what it keeps: for all CPUs together a 64th of memory, which
    // is the low mark.
    [[nodiscard]] static std::uint32_t refill_for(std::size_t frames, std::size_t cpus)
    {
        const auto share = frames / (cpus * 64);
        return static_cast<std::uint32_t>(share < least_refill  ? least_refill
                                          : share > most_refill ? most_refill
                                                                : std::bit_floor(share));
    }

    [[nodiscard]] frame_cache& cache_nearby() noexcept { return caches_[cpu_nearby()]; }

    [[nodiscard]] frame_number hand_out(std::uint32_t at) noexcept
    {
        records_[at].references.store(1, std::memory_order_relaxed);
        return first_ + at;
    }
    [[nodiscard]] std::uint32_t take_in(frame_number f, unsigned order) noexcept
    {
        frame_info& info = this->info(f);
        EXO_CHECK(info.references.load(std::memory_order_relaxed) == 1 && info.order == order);
        info.references.store(0, std::memory_order_relaxed);
        return index(f);
    }

    template <class Read>
    [[nodiscard]] std::uint64_t over_caches(Read read) const noexcept
    {
        std::uint64_t sum = 0;
        for (const frame_cache& c : caches_)
            for (unsigned order = 0; order <= max_order; ++order)
                sum += std::uint64_t{read(c, order)} << order;
        return sum;
    }

    [[gnu::noinline]] std::uint32_t take_past_cache(frame_cache& here, unsigned order) noexcept
    {
        auto guard = lock_.lock(interrupts_);
        return or_drained(frame_info::none, [&] { return order == 0 ? refill(here) : take(order); });
    }

    // A full cache, and the block that had to leave: the oldest follow.
    [[gnu::noinline]] void spill(frame_cache& here, unsigned order, std::uint32_t oldest) noexcept
    {
        auto guard = lock_.lock(interrupts_);
        counters_.spills.add();
        give_back(oldest, order);
        const auto half = here.capacity(order) / 2;
        for (std::uint32_t n = 0; n + 1 < (half < spill_batch ? half : spill_batch); ++n)
            if (const auto old = here.take_old(order, n); old != frame_info::none)
                give_back(old, order);
    }

    // The rest is under the lock.

    // What `take` returns; if that is `nothing`, then what it returns with all caches drained.
    template <class Take>
    auto or_drained(decltype(std::declval<Take>()()) nothing, Take take) noexcept
    {
        auto got = take();
        if (got == nothing && drain())
            got = take();
        if (got == nothing)
            counters_.failures.add();
        return got;
    }

    // Whether there was anything.
    bool drain() noexcept
    {
        bool any = false;
        for (frame_cache& c : caches_) {
            for (unsigned order = 0; order <= max_order; ++order) {
                for (std::uint32_t n = 0; n < c.capacity(order); ++n) {
                    if (const auto at = c.take_out(order, n); at != frame_info::none) {
                        give_back(at, order);
                        any = true;
                    }
                }
            }
        }
        if (any)
            counters_.drains.add();
        return any;
    }

    // A single frame; some more go into the cache. Of what lies above the low mark each CPU takes its share and no
    // more: if refills took the lists below the mark, below() would drain the caches again and again.
    std::uint32_t refill(frame_cache& here) noexcept
    {
        std::uint32_t taken[most_refill];
        const auto low = mark(watermark::low), left = listed();
        const auto share = left > low ? (left - low) / caches_.size() : 0;
        const auto wanted = share < 1 ? 1 : share < refill_ ? share : refill_;
        const auto count = static_cast<std::uint32_t>(take_singles(std::span{taken}.first(wanted)));
        if (count == 0)
            return frame_info::none;
        counters_.refills.add();
        for (std::uint32_t n = 1; n < count; ++n)
            if (!here.stock(0, n - 1, taken[n])) [[unlikely]]
                give_back(taken[n], 0);
        return taken[0];
    }

    // The buddy lists. A block belongs to the record of its first frame.

    [[nodiscard]] buddy_lists& lists_of(frame_zone z) noexcept { return lists_[static_cast<unsigned>(z)]; }
    [[nodiscard]] const buddy_lists& lists_of(frame_zone z) const noexcept { return lists_[static_cast<unsigned>(z)]; }
    // Of the block at an index: the border is one of blocks of every order.
    [[nodiscard]] buddy_lists& lists_of(std::uint32_t at) noexcept
    {
        const bool above = first_.value() + at >= (std::uint64_t{4} << 30) / page_size;
        return lists_of(above ? frame_zone::above : frame_zone::below_4gib);
    }
    [[nodiscard]] std::uint64_t listed() const noexcept
    {
        return free_frames(frame_zone::below_4gib) + free_frames(frame_zone::above);
    }

    std::uint32_t take(unsigned order) noexcept
    {
        const auto at = take_from(lists_of(frame_zone::above), order);
        return at != frame_info::none ? at : take_from(lists_of(frame_zone::below_4gib), order);
    }
    std::uint32_t take_from(buddy_lists& lists, unsigned order) noexcept
    {
        const auto fitting = lists.nonempty >> order << order;
        if (fitting == 0)
            return frame_info::none;
        auto from = static_cast<unsigned>(std::countr_zero(fitting));
        const auto at = lists.heads[from];
        unlink(lists, at, from);
        while (from > order) {
            --from;
            link(lists, at + (1u << from), from);
        }
        records_[at].state = frame_info::block_state::taken;
        records_[at].order = static_cast<std::uint8_t>(order);
        change(lists.frames, -(std::uint64_t{1} << order));
        return at;
    }
    // As many single frames as there are, up to the size of `into`.
    std::size_t take_singles(std::span<std::uint32_t> into) noexcept
    {
        std::size_t count = 0;
        while (count < into.size()) {
            buddy_lists& above = lists_of(frame_zone::above);
            buddy_lists& lists = above.nonempty != 0 ? above : lists_of(frame_zone::below_4gib);
            if (lists.nonempty == 0)
                break;
            // Small blocks first, so that large ones last; of a large one at once what is wanted of it.
            const auto smallest = static_cast<unsigned>(std::countr_zero(lists.nonempty));
            const auto wanted = static_cast<unsigned>(std::bit_width(into.size() - count)) - 1;
            const auto order = smallest < wanted ? smallest : wanted;
            const auto at = take_from(lists, order);
            cut(at);
            for (std::uint32_t i = 0; i < (1u << order); ++i)
                into[count++] = at + i;
        }
        return count;
    }
    // Makes a block in use into single frames.
    void cut(std::uint32_t at) noexcept
    {
        for (const auto end = at + (1u << records_[at].order); at < end; ++at) {
            records_[at].state = frame_info::block_state::taken;
            records_[at].order = 0;
        }
    }

    void give_back(std::uint32_t at, unsigned order) noexcept
    {
        buddy_lists& lists = lists_of(at);
        change(lists.frames, std::uint64_t{1} << order);
        for (; order < max_order; ++order) {
            const auto number = (first_.value() + at) ^ (std::uint64_t{1} << order);
            if (number - first_.value() >= records_.size())
                break;
            const auto buddy = index(frame_number{number});
            if (records_[buddy].state != frame_info::block_state::free || records_[buddy].order != order)
                break;
            unlink(lists, buddy, order);
            const auto upper = buddy > at ? buddy : at;
            records_[upper].state = frame_info::block_state::inside;
            at = buddy < at ? buddy : at;
        }
        link(lists, at, order);
    }

    void link(buddy_lists& lists, std::uint32_t at, unsigned order) noexcept
    {
        frame_info& info = records_[at];
        const auto next = (lists.nonempty & (1u << order)) != 0 ? lists.heads[order] : frame_info::none;
        info.state = frame_info::block_state::free;
        info.order = static_cast<std::uint8_t>(order);
        info.free = {.next = next, .previous = frame_info::none};
        if (next != frame_info::none)
            records_[next].free.previous = at;
        lists.heads[order] = at;
        lists.nonempty |= 1u << order;
        change(lists.blocks[order], 1u);
    }
    void unlink(buddy_lists& lists, std::uint32_t at, unsigned order) noexcept
    {
        const auto [next, previous] = records_[at].free;
        if (next != frame_info::none)
            records_[next].free.previous = previous;
        if (previous != frame_info::none)
            records_[previous].free.next = next;
        else if (next != frame_info::none)
            lists.heads[order] = next;
        else
            lists.nonempty &= ~(1u << order);
        change(lists.blocks[order], ~0u);
    }
    // Others read it meanwhile.
    template <class T>
    static void change(std::atomic<T>& count, std::type_identity_t<T> by) noexcept
    {
        count.store(count.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
    }

    Interrupts& interrupts_;
    const Cpu& cpu_;
    frame_number first_;
    std::span<frame_info> records_;
    std::span<frame_cache> caches_;
    std::uint32_t refill_{refill_for(records_.size(), caches_.size())};
    std::uint64_t total_{};

    // What changes with the lock lies beside it, and away from what every allocation reads.
    alignas(64) sync::spin_lock<sync::lock_rank::frames, Interrupts, sync::lock_observer, Atomics> lock_;
    frame_counters counters_;
    buddy_lists lists_[2];
};

} // namespace exo::mm
