// Free blocks of frames that one CPU keeps at hand, by order, so that the usual allocation takes no lock and touches
// nothing that CPUs share.
//
// A slot holds a block or nothing. Whoever exchanges what it holds owns what it held, so any CPU may use any cache at
// any time, and the one that uses its own may be interrupted, or moved to another, in the middle. The slots of an order
// form a ring: puts and takes tell where the last block was put. They are not exact, since an interrupt may come
// between reading and writing them; then the next block to be taken is not the last that was put, and nothing is lost.
//
// Blocks go by the index of their record.

#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include <exo/hal/atomics.hpp>
#include <exo/mm/frame_info.hpp>

namespace exo::mm {

template <hal::Atomics Atomics>
class alignas(64) basic_frame_cache {
public:
    static constexpr unsigned max_order = 10;
    static constexpr std::uint32_t none = frame_info::none;

    basic_frame_cache() noexcept
    {
        for (auto& slot : slots_)
            slot.store(none, std::memory_order_relaxed);
    }

    // What there are slots for: as many blocks of an order as make 64 frames, but at least one; of single frames, which
    // faults need on all CPUs at once, as many as make it rare that CPUs meet at what they share.
    [[nodiscard]] static constexpr std::uint32_t most(unsigned order)
    {
        return order == 0 ? 512 : order < 6 ? 64u >> order : 1;
    }
    // What is kept of them. Of single frames, memory may be too small for that many (a power of two; before any is
    // put).
    [[nodiscard]] std::uint32_t capacity(unsigned order) const noexcept { return order == 0 ? singles_ : most(order); }
    void limit_singles(std::uint32_t capacity) noexcept { singles_ = capacity; }

    // The block put last, or none.
    [[nodiscard]] std::uint32_t take(unsigned order) noexcept
    {
        ring& r = rings_[order];
        const auto takes = r.takes.load(std::memory_order_relaxed);
        const auto puts = r.puts.load(std::memory_order_relaxed);
        const auto at = slot(order, puts - takes - 1).exchange(none, std::memory_order_acquire);
        if (at != none) [[likely]]
            r.takes.store(takes + 1, std::memory_order_relaxed);
        return at;
    }
    // None, or the block that had to make room: the one put longest ago.
    [[nodiscard]] std::uint32_t put(unsigned order, std::uint32_t at) noexcept
    {
        ring& r = rings_[order];
        const auto takes = r.takes.load(std::memory_order_relaxed);
        const auto puts = r.puts.load(std::memory_order_relaxed);
        r.puts.store(puts + 1, std::memory_order_relaxed);
        return slot(order, puts - takes).exchange(at, std::memory_order_acq_rel);
    }

    // What the n-th slot (below the capacity) holds, taken out. Slots stay where they are while blocks come and go: who
    // goes through them all misses no block that lies still.
    [[nodiscard]] std::uint32_t take_out(unsigned order, std::uint32_t n) noexcept
    {
        auto& from = slot(order, n);
        return from.load(std::memory_order_relaxed) == none ? none : from.exchange(none, std::memory_order_acquire);
    }
    // The same, counted from the slot of the block put longest ago.
    [[nodiscard]] std::uint32_t take_old(unsigned order, std::uint32_t n) noexcept
    {
        return take_out(order, static_cast<std::uint32_t>(position(order)) + n);
    }
    // Puts a block where it is the n-th to be taken. False: a block is there.
    [[nodiscard]] bool stock(unsigned order, std::uint32_t n, std::uint32_t at) noexcept
    {
        auto empty = none;
        return slot(order, position(order) - 1 - n)
            .compare_exchange_weak(empty, at, std::memory_order_release, std::memory_order_relaxed);
    }

    // Snapshots: how many blocks there are, and how often put was called.
    [[nodiscard]] std::uint32_t count(unsigned order) const noexcept
    {
        std::uint32_t sum = 0;
        for (std::uint32_t i = 0; i < capacity(order); ++i)
            sum += slots_[first_slot[order] + i].load(std::memory_order_relaxed) != none;
        return sum;
    }
    [[nodiscard]] std::uint64_t puts(unsigned order) const noexcept
    {
        return rings_[order].puts.load(std::memory_order_relaxed);
    }

private:
    template <class T>
    using atomic = typename Atomics::template atomic<T>;

    struct ring {
        atomic<std::uint64_t> puts{};
        atomic<std::uint64_t> takes{};
    };

    // By order, and where the last ends.
    static constexpr auto first_slot = [] {
        std::array<std::uint16_t, max_order + 2> first{};
        for (unsigned order = 0; order <= max_order; ++order)
            first[order + 1] = static_cast<std::uint16_t>(first[order] + most(order));
        return first;
    }();

    [[nodiscard]] atomic<std::uint32_t>& slot(unsigned order, std::uint64_t position) noexcept
    {
        return slots_[first_slot[order] + (position & (capacity(order) - 1))];
    }
    // Of the next put.
    [[nodiscard]] std::uint64_t position(unsigned order) const noexcept
    {
        return rings_[order].puts.load(std::memory_order_relaxed) - rings_[order].takes.load(std::memory_order_relaxed);
    }

    std::uint32_t singles_{most(0)};
    ring rings_[max_order + 1];
    atomic<std::uint32_t> slots_[first_slot[max_order + 1]];
};

using frame_cache = basic_frame_cache<hal::standard_atomics>;

} // namespace exo::mm
