// A set of CPUs that any CPU changes and reads at once.

#pragma once

#include <atomic>
#include <cstdint>

#include <exo/base/cpu_set.hpp>
#include <exo/hal/atomics.hpp>

namespace exo::sync {

// `Set` is a basic_cpu_set. Members come and go with acquire and release; a snapshot of several words is not one
// moment.
template <class Set, hal::Atomics Atomics = hal::standard_atomics>
class atomic_cpu_set {
public:
    void add(unsigned cpu) noexcept { words_[cpu / 64].fetch_or(bit_of(cpu), std::memory_order_acq_rel); }
    // True for the one caller that took it out.
    bool remove(unsigned cpu) noexcept
    {
        return (words_[cpu / 64].fetch_and(~bit_of(cpu), std::memory_order_acq_rel) & bit_of(cpu)) != 0;
    }
    // Takes all members out, and tells which they were.
    [[nodiscard]] Set take() noexcept
    {
        Set set;
        for (unsigned i = 0; i < Set::word_count; ++i)
            if (words_[i].load(std::memory_order_relaxed) != 0)
                set.set_word(i, words_[i].fetch_and(0, std::memory_order_acq_rel));
        return set;
    }
    [[nodiscard]] bool contains(unsigned cpu) const noexcept
    {
        return (words_[cpu / 64].load(std::memory_order_acquire) & bit_of(cpu)) != 0;
    }
    [[nodiscard]] bool empty() const noexcept
    {
        for (const auto& word : words_)
            if (word.load(std::memory_order_relaxed) != 0)
                return false;
        return true;
    }
    // Of the members those that are in `wanted` too.
    [[nodiscard]] Set among(const Set& wanted) const noexcept
    {
        Set set;
        for (unsigned i = 0; i < Set::word_count; ++i)
            if (wanted.word(i) != 0)
                set.set_word(i, wanted.word(i) & words_[i].load(std::memory_order_acquire));
        return set;
    }

    // The smallest member from `cpu` on that is in `a` and `b` too, or, when there is none, from 0 on; limit when there
    // is none at all.
    [[nodiscard]] unsigned next_around(unsigned cpu, const Set& a, const Set& b) const noexcept
    {
        const unsigned first = cpu / 64;
        const std::uint64_t from_cpu = ~std::uint64_t{0} << (cpu % 64);
        for (unsigned i = first; i < Set::word_count; ++i)
            if (const std::uint64_t word = common(i, a, b) & (i == first ? from_cpu : ~std::uint64_t{0}))
                return i * 64 + static_cast<unsigned>(__builtin_ctzll(word));
        for (unsigned i = 0; i <= first; ++i)
            if (const std::uint64_t word = common(i, a, b))
                return i * 64 + static_cast<unsigned>(__builtin_ctzll(word));
        return Set::limit;
    }

private:
    [[nodiscard]] std::uint64_t common(unsigned i, const Set& a, const Set& b) const noexcept
    {
        return words_[i].load(std::memory_order_acquire) & a.word(i) & b.word(i);
    }
    [[nodiscard]] static std::uint64_t bit_of(unsigned cpu) { return std::uint64_t{1} << (cpu % 64); }

    typename Atomics::template atomic<std::uint64_t> words_[Set::word_count]{};
};

} // namespace exo::sync
