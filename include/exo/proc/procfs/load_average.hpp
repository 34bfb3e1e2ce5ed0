// How busy the CPUs have been over the last 1, 5 and 15 minutes (/proc/loadavg), by exponential decay.
//
// Linux samples how many threads want to run every five seconds. Here the CPU time that was used since the last look is
// what counts, so nothing runs when nobody asks; threads that waited for a CPU are not in it.

#pragma once

#include <cstdint>

#include <exo/base/time.hpp>

namespace exo::proc {

class load_average {
public:
    static constexpr unsigned fraction_bits = 11; // as Linux's FSHIFT

    // `busy`: CPU time used since boot, by all CPUs together, as of `now`.
    void update(instant now, duration busy)
    {
        constexpr std::int64_t step = 5'000'000'000;
        const auto passed = static_cast<std::int64_t>(now.nanoseconds() - last_.nanoseconds());
        if (passed < step)
            return;
        const auto used = static_cast<std::uint64_t>((busy - busy_).nanoseconds()) >> 10;
        const std::uint64_t active = (used << fraction_bits) / (static_cast<std::uint64_t>(passed) >> 10);
        for (unsigned i = 0; i < 3; ++i) {
            const std::uint64_t kept = power(decay[i], static_cast<std::uint64_t>(passed / step));
            load_[i] = (load_[i] * kept + active * (one - kept)) >> fraction_bits;
        }
        last_ = now;
        busy_ = busy;
    }

    // In hundredths; i: 0, 1, 2.
    [[nodiscard]] std::uint64_t hundredths(unsigned i) const { return (load_[i] * 100 + one / 2) >> fraction_bits; }

private:
    static constexpr std::uint64_t one = std::uint64_t{1} << fraction_bits;
    static constexpr std::uint64_t decay[3] = {1884, 2014, 2037}; // e^(-5 s/1 min), /5 min, /15 min

    static std::uint64_t power(std::uint64_t base, std::uint64_t exponent)
    {
        std::uint64_t product = one;
        for (; exponent != 0; exponent >>= 1) {
            if ((exponent & 1) != 0)
                product = (product * base) >> fraction_bits;
            base = (base * base) >> fraction_bits;
        }
        return product;
    }

    instant last_{};
    duration busy_{};
    std::uint64_t load_[3]{};
};

} // namespace exo::proc
