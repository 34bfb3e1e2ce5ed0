// Two counters beside each other: how far each comes while something else goes on, to tell the rate of one by that of
// the other.

#pragma once

#include <concepts>
#include <cstdint>

namespace exo::drivers {

// `Fine()` and `Coarse()` return counts that never go backward.
template <std::invocable Fine, std::invocable Coarse>
class counter_comparison {
public:
    struct ticks {
        std::uint64_t fine{};
        std::uint64_t coarse{};
    };

    // Starts to compare.
    counter_comparison(Fine fine, Coarse coarse) : fine_{fine}, coarse_{coarse}, begin_{read()} {}

    // What both have counted since the start.
    [[nodiscard]] ticks elapsed()
    {
        const ticks now = read();
        return {now.fine - begin_.fine, now.coarse - begin_.coarse};
    }

private:
    // Of several readings of both the one that took least time: in a virtual machine others may have a millisecond
    // between them.
    [[nodiscard]] ticks read()
    {
        constexpr unsigned readings = 8;
        ticks best;
        std::uint64_t least = ~std::uint64_t{0};
        for (unsigned i = 0; i < readings; ++i) {
            const std::uint64_t before = fine_();
            const std::uint64_t coarse = coarse_();
            const std::uint64_t width = fine_() - before;
            if (width < least) {
                least = width;
                best = {before + width / 2, coarse};
            }
        }
        return best;
    }

    [[no_unique_address]] Fine fine_;
    [[no_unique_address]] Coarse coarse_;
    ticks begin_;
};

} // namespace exo::drivers
