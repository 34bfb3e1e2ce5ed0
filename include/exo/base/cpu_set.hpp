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

    // The smallest member from `cpu` on; limit when there is none.
    [[nodiscard]] constexpr unsigned next(unsigned cpu) const
    {
        for (unsigned i = cpu / 64; i < word_count; ++i) {
            const auto word = i == cpu / 64 ? words_[i] & (~std::uint64_t{0} << (cpu % 64)) : words_[i];
            if (word != 0)
                return i * 64 + static_cast<unsigned>(__builtin_ctzll(word));
        }
        return Limit;
    }
    // The same, and from 0 on when there is none.
    [[nodiscard]] constexpr unsigned next_around(unsigned cpu) const
    {
        const unsigned found = next(cpu);
        return found == Limit ? next(0) : found;
    }

    // Calls `visit(cpu)` for each member, in ascending order.
    template <class Visit>
    constexpr void for_each(Visit visit) const
    {
        for (unsigned i = 0; i < word_count; ++i)
            for (auto word = words_[i]; word != 0; word &= word - 1)
                visit(i * 64 + static_cast<unsigned>(__builtin_ctzll(word)));
    }

    // CPUs 64 * i to 64 * i + 63, the lowest bit for the first.
    static constexpr unsigned word_count = (Limit + 63) / 64;
    [[nodiscard]] constexpr std::uint64_t word(unsigned i) const { return words_[i]; }
    constexpr void set_word(unsigned i, std::uint64_t bits)
    {
        words_[i] = bits;
        if (i == word_count - 1 && Limit % 64 != 0)
            words_[i] &= (std::uint64_t{1} << (Limit % 64)) - 1;
    }

    [[nodiscard]] friend constexpr basic_cpu_set operator&(basic_cpu_set a, const basic_cpu_set& b)
    {
        for (unsigned i = 0; i < word_count; ++i)
            a.words_[i] &= b.words_[i];
        return a;
    }
    friend constexpr bool operator==(const basic_cpu_set&, const basic_cpu_set&) = default;

private:
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
