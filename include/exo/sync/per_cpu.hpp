// Data of which each CPU has its own, so that CPUs do not wait for each other: reached through a pin, the proof that
// the caller cannot be moved while it uses it.

#pragma once

#include <cstddef>
#include <span>

#include <exo/base/check.hpp>
#include <exo/hal/cpu_local.hpp>
#include <exo/hal/interrupt_control.hpp>
#include <exo/sync/lock_observer.hpp>

namespace exo::sync {

// While it lives the calling thread stays on the CPU that it names, and nothing else runs there: interrupts are off.
class pinned {
public:
    pinned(const pinned&) = delete;
    pinned& operator=(const pinned&) = delete;

    [[nodiscard]] unsigned cpu() const noexcept { return cpu_; }

protected:
    explicit pinned(unsigned cpu) noexcept : cpu_{cpu} {}

private:
    const unsigned cpu_;
};

// Turns interrupts off for as long as it lives.
template <hal::InterruptControl Interrupts, hal::CpuLocal Cpu>
class [[nodiscard]] pin : public pinned {
public:
    pin(Interrupts& interrupts, const Cpu& cpu) noexcept : pin{interrupts, interrupts.save_and_disable(), cpu} {}
    ~pin() { interrupts_.restore(saved_); }

private:
    using state = typename Interrupts::state;
    pin(Interrupts& interrupts, const state& saved, const Cpu& cpu) noexcept
        : pinned{cpu.current_cpu()}, interrupts_{interrupts}, saved_{saved}
    {
    }

    Interrupts& interrupts_;
    const state saved_;
};

// Where interrupts are off anyway for as long as it lives; that they are is checked where locks are.
template <hal::InterruptControl Interrupts, hal::CpuLocal Cpu>
class [[nodiscard]] already_pinned : public pinned {
public:
    already_pinned(Interrupts& interrupts, const Cpu& cpu) noexcept : pinned{cpu.current_cpu()}
    {
        if constexpr (locks_are_checked)
            EXO_CHECK(!interrupts.enabled());
    }
};

// A T for each CPU, in memory that outlives this. T has cache lines of its own.
template <class T>
class per_cpu {
    static constexpr std::size_t cache_line = 64;
    static_assert(alignof(T) % cache_line == 0);

public:
    // By number.
    explicit per_cpu(std::span<T> each) noexcept : each_{each} {}

    [[nodiscard]] T& local(const pinned& here) const noexcept { return each_[here.cpu()]; }
    // Another CPU's, which may be changing it: what T lets others read.
    [[nodiscard]] const T& of(unsigned cpu) const noexcept
    {
        EXO_CHECK(cpu < each_.size());
        return each_[cpu];
    }
    [[nodiscard]] std::span<const T> all() const noexcept { return each_; }
    // All, before the CPUs use theirs and after.
    [[nodiscard]] std::span<T> at_rest() const noexcept { return each_; }

private:
    std::span<T> each_;
};

} // namespace exo::sync
