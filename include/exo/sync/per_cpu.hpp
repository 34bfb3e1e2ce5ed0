// Data of which each CPU has its own, so that CPUs do not wait for each other: reached through a pin, the proof that
// the caller cannot be moved while it uses it.

#pragma once

#include <array>
#include <cstddef>

#include <exo/base/check.hpp>
#include <exo/hal/cpu_local.hpp>
#include <exo/hal/interrupt_control.hpp>

namespace exo::sync {

// While it lives the calling thread stays on its CPU, and nothing else runs there: interrupts are off.
template <hal::InterruptControl Interrupts, hal::CpuLocal Cpu>
class [[nodiscard]] pin {
public:
    pin(Interrupts& interrupts, const Cpu& cpu) noexcept
        : interrupts_{interrupts}, saved_{interrupts.save_and_disable()}, cpu_{cpu.current_cpu()}
    {
    }
    pin(const pin&) = delete;
    pin& operator=(const pin&) = delete;
    ~pin() { interrupts_.restore(saved_); }

    [[nodiscard]] unsigned cpu() const noexcept { return cpu_; }

private:
    Interrupts& interrupts_;
    typename Interrupts::state saved_;
    unsigned cpu_;
};

template <class T, std::size_t Limit>
class per_cpu {
public:
    template <hal::InterruptControl Interrupts, hal::CpuLocal Cpu>
    [[nodiscard]] T& local(const pin<Interrupts, Cpu>& here) noexcept
    {
        return of(here.cpu());
    }

    // Another CPU's, which may be changing it: what T lets others read.
    [[nodiscard]] T& of(unsigned cpu) noexcept
    {
        EXO_CHECK(cpu < Limit);
        return slots_[cpu].value;
    }
    [[nodiscard]] const T& of(unsigned cpu) const noexcept
    {
        EXO_CHECK(cpu < Limit);
        return slots_[cpu].value;
    }

    [[nodiscard]] static constexpr std::size_t limit() { return Limit; }

private:
    static constexpr std::size_t cache_line = 64;
    struct alignas(cache_line) slot {
        T value{};
    };
    std::array<slot, Limit> slots_{};
};

} // namespace exo::sync
