// A set of CPUs, by the numbers that hal/cpu_local.hpp gives them.

#pragma once

#include <cstdint>

#include <exo/base/check.hpp>

namespace exo {

template <unsigned Limit>
class basic_cpu_set {
public:
    static constexpr unsigned limit = Limit;

    constexpr basic_cpu_set() = default;

    [[nodiscard]] static constexpr basic_cpu_set of(unsigned cpu)
    {
        basic_cpu_set set;
        set.add(cpu);
        return set;
    }
    // CPUs 0 to count - 1.
    [[nodiscard]] static constexpr basic_cpu_set first(unsigned count)
    {
        basic_cpu_set set;
        for (unsigned cpu = 0; cpu < count; ++cpu)
            set.add(cpu);
        return set;
    }

    constexpr void add(unsigned cpu) { word_of(cpu) |= bit_of(cpu); }
    constexpr void remove(unsigned cpu) { word_of(cpu) &= ~bit_of(cpu); }
    [[nodiscard]] constexpr bool contains(unsigned cpu) const
    {
        return cpu < Limit && (words_[cpu / 64] & bit_of(cpu)) != 0;
    }
    [[nodiscard]] constexpr bool empty() const
    {
        for (const auto word : words_)
            if (word != 0)
                return false;
        return true;
    }

    [[nodiscard]] constexpr unsigned size() const
    {
        unsigned sum = 0;
        for_each([&](unsigned) { ++sum; });
        return sum;
    }

    // Calls `visit(cpu)` for each member, in ascending order.
    template <class Visit>
    constexpr void for_each(Visit visit) const
    {
        for (unsigned i = 0; i < word_count; ++i)
            for (auto word = words_[i]; word != 0; word &= word - 1)
                visit(i * 64 + static_cast<unsigned>(__builtin_ctzll(word)));
    }

    friend constexpr bool operator==(const basic_cpu_set&, const basic_cpu_set&) = default;

private:
    static constexpr unsigned word_count = (Limit + 63) / 64;
    [[nodiscard]] static constexpr std::uint64_t bit_of(unsigned cpu) { return std::uint64_t{1} << (cpu % 64); }
    [[nodiscard]] constexpr std::uint64_t& word_of(unsigned cpu)
    {
        EXO_CHECK(cpu < Limit);
        return words_[cpu / 64];
    }

    std::uint64_t words_[word_count]{};
};

using cpu_set = basic_cpu_set<256>;

} // namespace exo
