// A set of addresses kept as few disjoint ranges in ascending order, in place: memory maps at boot, before any heap.
//
// Operations that would need more than Capacity ranges are refused and change nothing.

#pragma once

#include <cstddef>

#include <exo/base/check.hpp>
#include <exo/base/range.hpp>

namespace exo {

template <class T, std::size_t Capacity>
class range_set {
public:
    // Adds every address of `added`. False when full.
    [[nodiscard]] bool insert(range<T> added)
    {
        if (added.begin >= added.end)
            return true;
        // Ranges [first, last) touch the new one and merge with it.
        std::size_t first = 0;
        while (first < size_ && ranges_[first].end < added.begin)
            ++first;
        std::size_t last = first;
        for (; last < size_ && ranges_[last].begin <= added.end; ++last) {
            added.begin = ranges_[last].begin < added.begin ? ranges_[last].begin : added.begin;
            added.end = ranges_[last].end > added.end ? ranges_[last].end : added.end;
        }
        return replace(first, last, &added, 1);
    }

    // Takes every address of `removed` out. False when full (a hole makes two ranges of one).
    [[nodiscard]] bool erase(range<T> removed)
    {
        if (removed.begin >= removed.end)
            return true;
        std::size_t first = 0;
        while (first < size_ && ranges_[first].end <= removed.begin)
            ++first;
        std::size_t last = first;
        range<T> rest[2];
        std::size_t rests = 0;
        for (; last < size_ && ranges_[last].begin < removed.end; ++last) {
            if (ranges_[last].begin < removed.begin)
                rest[rests++] = {ranges_[last].begin, removed.begin};
            if (ranges_[last].end > removed.end)
                rest[rests++] = {removed.end, ranges_[last].end};
        }
        return replace(first, last, rest, rests);
    }

    [[nodiscard]] bool contains(range<T> all) const
    {
        for (const auto& r : *this)
            if (r.contains(all))
                return true;
        return false;
    }

    [[nodiscard]] std::size_t size() const { return size_; }
    [[nodiscard]] bool empty() const { return size_ == 0; }
    [[nodiscard]] const range<T>& operator[](std::size_t i) const
    {
        EXO_CHECK(i < size_);
        return ranges_[i];
    }
    [[nodiscard]] const range<T>* begin() const { return ranges_; }
    [[nodiscard]] const range<T>* end() const { return ranges_ + size_; }

private:
    // Puts `count` ranges in the place of those in [first, last).
    bool replace(std::size_t first, std::size_t last, const range<T>* with, std::size_t count)
    {
        const std::size_t gone = last - first;
        if (size_ - gone + count > Capacity)
            return false;
        if (count > gone) {
            for (std::size_t i = size_; i-- > last;)
                ranges_[i + count - gone] = ranges_[i];
        } else {
            for (std::size_t i = last; i < size_; ++i)
                ranges_[i + count - gone] = ranges_[i];
        }
        for (std::size_t i = 0; i < count; ++i)
            ranges_[first + i] = with[i];
        size_ = size_ - gone + count;
        return true;
    }

    range<T> ranges_[Capacity];
    std::size_t size_{};
};

} // namespace exo
