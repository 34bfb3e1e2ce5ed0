// Which ranges of physical memory are free to use while a kernel starts: what the firmware reports, less what is taken.
//
// A list of disjoint ranges in ascending order, of fixed capacity, for the time before there is an allocator: it finds
// room for the frame records, and what is left then goes to the frame allocator.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <exo/base/address.hpp>
#include <exo/base/errors.hpp>
#include <exo/base/range.hpp>
#include <exo/base/result.hpp>
#include <exo/base/static_vector.hpp>

namespace exo::mm {

class memory_map {
public:
    static constexpr std::size_t capacity = 128;

    // Adds memory; what is there already stays. Errors: out_of_memory when the list is full, and then nothing changed.
    [[nodiscard]] result<> add(phys_range memory)
    {
        if (memory.begin >= memory.end)
            return {};
        list merged;
        for (const phys_range& r : ranges_) {
            if (r.end < memory.begin || memory.end < r.begin) {
                EXO_TRY(append(merged, r));
            } else {
                memory.begin = r.begin < memory.begin ? r.begin : memory.begin;
                memory.end = memory.end < r.end ? r.end : memory.end;
            }
        }
        EXO_TRY(append(merged, memory));
        for (std::size_t i = merged.size() - 1; i > 0 && merged[i].begin < merged[i - 1].begin; --i)
            std::swap(merged[i], merged[i - 1]);
        ranges_ = merged;
        return {};
    }

    // Takes memory out, whether it is there or not. Errors: as add.
    [[nodiscard]] result<> remove(phys_range memory)
    {
        if (memory.begin >= memory.end)
            return {};
        list rest;
        for (const phys_range& r : ranges_) {
            const auto taken = r.intersection(memory);
            if (taken.empty()) {
                EXO_TRY(append(rest, r));
                continue;
            }
            if (r.begin < taken.begin)
                EXO_TRY(append(rest, {r.begin, taken.begin}));
            if (taken.end < r.end)
                EXO_TRY(append(rest, {taken.end, r.end}));
        }
        ranges_ = rest;
        return {};
    }

    // Takes out `bytes` bytes aligned to `alignment` (a power of two), as low as possible and below `limit`: boot
    // loaders run at the top of memory, and an emulator is slow to write where code has run. Errors: out_of_memory.
    [[nodiscard]] result<phys_addr> take(std::uint64_t bytes, std::uint64_t alignment,
                                         phys_addr limit = phys_addr{~std::uint64_t{0}})
    {
        for (const phys_range& r : ranges_) {
            const auto at = r.begin.align_up(alignment);
            const auto end = limit < r.end ? limit : r.end;
            if (at < r.begin || end < at || end - at < bytes)
                continue;
            EXO_TRY(remove(phys_range::of_size(at, bytes)));
            return at;
        }
        return fail(errors::out_of_memory, bytes);
    }

    [[nodiscard]] std::span<const phys_range> ranges() const { return ranges_; }
    // From the lowest byte to behind the highest.
    [[nodiscard]] phys_range extent() const
    {
        return ranges_.empty() ? phys_range{} : phys_range{ranges_[0].begin, ranges_.back().end};
    }

private:
    using list = static_vector<phys_range, capacity>;

    static result<> append(list& to, phys_range r)
    {
        if (!to.try_push_back(r))
            return fail(errors::out_of_memory, capacity);
        return {};
    }

    list ranges_;
};

} // namespace exo::mm
