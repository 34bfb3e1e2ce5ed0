// What a CPU watches instead of being interrupted, while it has nothing to run: whoever has left something for it
// rings, and interrupts it only if it does not listen.

#pragma once

#include <atomic>
#include <cstdint>

#include <exo/hal/atomics.hpp>

namespace exo::sched {

template <hal::Atomics Atomics = hal::standard_atomics>
class doorbell {
public:
    // By any CPU. True when the owner listens: it will look, and see what the caller did before.
    [[nodiscard]] bool ring() noexcept { return (state_.fetch_or(rung_bit, std::memory_order_acq_rel) & listens) != 0; }

    // By the owner. It stops listening before it does anything but wait, and looks if stop_listening() is true.
    void listen() noexcept { state_.store(listens, std::memory_order_relaxed); }
    [[nodiscard]] bool rung() const noexcept { return (state_.load(std::memory_order_relaxed) & rung_bit) != 0; }
    [[nodiscard]] bool stop_listening() noexcept
    {
        return (state_.exchange(0, std::memory_order_acq_rel) & rung_bit) != 0;
    }

private:
    static constexpr std::uint64_t listens = 1, rung_bit = 2;
    typename Atomics::template atomic<std::uint64_t> state_{};
};

} // namespace exo::sched
