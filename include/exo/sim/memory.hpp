// Physical memory of the simulated machine, and a frame source over it that enforces the law and fails on demand.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <mutex>
#include <vector>

#include <exo/base/address.hpp>
#include <exo/base/check.hpp>
#include <exo/base/errors.hpp>
#include <exo/base/range.hpp>
#include <exo/base/result.hpp>
#include <exo/hal/frame_source.hpp>
#include <exo/hal/phys_access.hpp>

namespace exo::sim {

// RAM from `first` on. Models PhysAccess; an address outside is a failed check.
class physical_memory {
public:
    explicit physical_memory(std::size_t frame_count, frame_number first = frame_number{0x100})
        : frames_{first, first + frame_count},
          bytes_{static_cast<std::byte*>(std::aligned_alloc(page_size, frame_count * page_size))}
    {
        EXO_CHECK(bytes_);
        std::memset(bytes_, poison, frame_count * page_size);
    }
    physical_memory(const physical_memory&) = delete;
    physical_memory& operator=(const physical_memory&) = delete;
    ~physical_memory() { std::free(bytes_); }

    // What nobody has written yet, and what was freed, reads as this: absent in every PteFormat.
    static constexpr unsigned char poison = 0xa4;

    [[nodiscard]] frame_range frames() const noexcept { return frames_; }
    [[nodiscard]] bool contains(phys_addr a) const noexcept { return frames_.contains(frame_number{a}); }

    [[nodiscard]] std::byte* to_pointer(phys_addr a) const noexcept
    {
        EXO_CHECK(contains(a));
        return bytes_ + (a - frames_.begin.address());
    }
    [[nodiscard]] phys_addr to_physical(const void* p) const noexcept
    {
        const auto offset = static_cast<std::uint64_t>(static_cast<const std::byte*>(p) - bytes_);
        EXO_CHECK(offset < frames_.size() * page_size);
        return frames_.begin.address() + offset;
    }

private:
    frame_range frames_;
    std::byte* bytes_;
};
static_assert(hal::PhysAccess<physical_memory>);

// Frames of a physical_memory. Blocks come back poisoned and exactly as they were handed out, or a check fails.
// Any thread may call.
class frame_pool {
public:
    static constexpr unsigned largest_order = 10;

    explicit frame_pool(physical_memory& memory) : frame_pool{memory, memory.frames()} {}
    frame_pool(physical_memory& memory, frame_range frames)
        : memory_{memory}, frames_{frames}, order_of_block_(frames.size(), not_a_block), used_(frames.size())
    {
    }

    [[nodiscard]] result<frame_number> allocate(unsigned order) noexcept
    {
        const std::lock_guard guard{mutex_};
        const std::size_t count = std::size_t{1} << order;
        ++asked_;
        if (asked_ == fails_at_ || in_use_ + count > limit_ || order > largest_order)
            return fail(errors::out_of_memory, count * page_size);
        // Blocks are aligned by their frame number, not by their place in the pool.
        const std::size_t first = (count - frames_.begin.value() % count) % count;
        const std::size_t places = first < used_.size() ? (used_.size() - first) / count : 0;
        for (std::size_t i = 0; i < places; ++i) {
            const std::size_t at = first + (next_ / count + i) % places * count;
            if (is_free(at, count)) {
                for (std::size_t f = at; f < at + count; ++f)
                    used_[f] = true;
                order_of_block_[at] = static_cast<unsigned char>(order);
                in_use_ += count;
                next_ = at + count - first;
                return frames_.begin + at;
            }
        }
        return fail(errors::out_of_memory, count * page_size);
    }
    void free(frame_number f, unsigned order) noexcept
    {
        const std::lock_guard guard{mutex_};
        EXO_CHECK(frames_.contains(f));
        const std::size_t at = f - frames_.begin;
        const std::size_t count = std::size_t{1} << order;
        EXO_CHECK(order_of_block_[at] == order); // handed out so, and not given back yet
        order_of_block_[at] = not_a_block;
        for (std::size_t i = at; i < at + count; ++i)
            used_[i] = false;
        in_use_ -= count;
        std::memset(memory_.to_pointer(f.address()), physical_memory::poison, count * page_size);
    }

    // From now on, fails when more than `frames` would be in use.
    void set_limit(std::size_t frames) { limit_ = frames; }
    // The `n`th allocation from now on fails (1: the next), once. 0: none.
    void fail_nth(std::size_t n) { fails_at_ = n == 0 ? 0 : asked_ + n; }
    [[nodiscard]] std::size_t in_use() const { return in_use_; }
    [[nodiscard]] std::size_t allocations() const { return asked_; }

private:
    static constexpr unsigned char not_a_block = 0xff;

    [[nodiscard]] bool is_free(std::size_t at, std::size_t count) const
    {
        for (std::size_t f = at; f < at + count; ++f)
            if (used_[f])
                return false;
        return true;
    }

    physical_memory& memory_;
    frame_range frames_;
    std::mutex mutex_;
    std::vector<unsigned char> order_of_block_;
    std::vector<bool> used_;
    std::size_t next_{};
    std::size_t in_use_{};
    std::size_t limit_{std::numeric_limits<std::size_t>::max()};
    std::size_t asked_{};
    std::size_t fails_at_{};
};
static_assert(hal::FrameSource<frame_pool>);

} // namespace exo::sim
