// A counter of few bits as one of 64, on all CPUs: it never goes backward, and loses nothing as long as somebody reads
// it at least once in each of its rounds.

#pragma once

#include <concepts>
#include <cstdint>

#include <exo/hal/atomics.hpp>

namespace exo::drivers {

// `Counter()` counts up, and starts from 0 after 2^bits - 1; what is above these bits is ignored.
template <std::invocable Counter, hal::Atomics Atomics = hal::standard_atomics>
class wrapping_counter {
public:
    wrapping_counter(Counter counter, unsigned bits) : counter_{counter}, bits_{bits} {}
    wrapping_counter(const wrapping_counter&) = delete;
    wrapping_counter& operator=(const wrapping_counter&) = delete;

    [[nodiscard]] bool wraps() const { return bits_ < 64; }

    [[nodiscard]] std::uint64_t operator()() noexcept
    {
        if (!wraps())
            return counter_();
        // What was read before `last` was published is older than it and would pass for a round: it is read again.
        std::uint64_t last = last_.load(std::memory_order_acquire);
        for (;;) {
            const std::uint64_t now = last + ((counter_() - last) & ((std::uint64_t{1} << bits_) - 1));
            if (last_.compare_exchange_weak(last, now, std::memory_order_acq_rel, std::memory_order_acquire))
                return now;
        }
    }

private:
    [[no_unique_address]] Counter counter_;
    unsigned bits_;
    typename Atomics::template atomic<std::uint64_t> last_{};
};

} // namespace exo::drivers
