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

private:
    [[nodiscard]] static std::uint64_t bit_of(unsigned cpu) { return std::uint64_t{1} << (cpu % 64); }

    typename Atomics::template atomic<std::uint64_t> words_[Set::word_count]{};
};

} // namespace exo::sync
