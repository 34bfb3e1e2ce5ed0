// How often values fell into which range: ranges double, from one that ends at 2^First to one without end.

#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include <exo/trace/counter.hpp>

namespace exo::trace {

// One writer at a time, as for a counter. One that does not record is empty, and record() has no effect.
template <class Recording, unsigned First, std::size_t Ranges>
class histogram {
public:
    static constexpr std::size_t ranges = Ranges;

    void record(std::uint64_t value) noexcept
    {
        const std::size_t range = value == 0 ? 0 : static_cast<std::size_t>(std::bit_width((value - 1) >> First));
        counts_[range < Ranges ? range : Ranges - 1].add();
        sum_.add(value);
    }

    // How many were at most 2^(First + range), or in the last range whatever they were; the sum of all.
    [[nodiscard]] std::uint64_t up_to(std::size_t range) const noexcept
    {
        std::uint64_t count = 0;
        for (std::size_t i = 0; i <= range; ++i)
            count += counts_[i].value();
        return count;
    }
    [[nodiscard]] std::uint64_t count() const noexcept { return up_to(Ranges - 1); }
    [[nodiscard]] std::uint64_t sum() const noexcept { return sum_.value(); }

private:
    counter<Recording> counts_[Ranges];
    counter<Recording> sum_;
};

template <unsigned First, std::size_t Ranges>
class histogram<not_recording, First, Ranges> {
public:
    static constexpr std::size_t ranges = Ranges;

    void record(std::uint64_t) noexcept {}
    [[nodiscard]] std::uint64_t up_to(std::size_t) const noexcept { return 0; }
    [[nodiscard]] std::uint64_t count() const noexcept { return 0; }
    [[nodiscard]] std::uint64_t sum() const noexcept { return 0; }
};

} // namespace exo::trace
