// The CPUs of the machine by number, and how they interrupt each other.

#pragma once

#include <cstdint>
#include <span>

#include <exo/arch/x86_64/apic.hpp>
#include <exo/arch/x86_64/register_access.hpp>
#include <exo/base/check.hpp>
#include <exo/drivers/local_apic.hpp>
#include <exo/hal/cpu_local.hpp>
#include <exo/hal/deadline_timer.hpp>
#include <exo/sync/cross_calls.hpp>

#include "cpu.hpp"

namespace exo::boot {

// Vectors of what CPUs send each other.
namespace vector {
inline constexpr std::uint8_t kick = 0x38; // the scheduler has mail
inline constexpr std::uint8_t call = 0x39; // a call has to be served
} // namespace vector

struct this_cpu_number {
    [[nodiscard]] unsigned current_cpu() const noexcept { return cpu_number(); }
    [[nodiscard]] unsigned cpu_limit() const noexcept { return cpu_count(); }
};
static_assert(hal::CpuLocal<this_cpu_number>);

using local_apic = drivers::local_apic<x86_64::mmio_registers, x86_64::processor_msrs>;

// Interrupts are off in each call.
class processor_signals {
public:
    processor_signals(local_apic& apic, std::span<const std::uint32_t> apic_ids) : apic_{apic}, apic_ids_{apic_ids} {}

    void signal(unsigned cpu) noexcept { send(cpu, vector::call); }
    void kick(unsigned cpu) noexcept { send(cpu, vector::kick); }
    // By an NMI: even if it has interrupts off.
    void interrupt_always(unsigned cpu) noexcept
    {
        apic_.send({.how = x86_64::interprocessor_interrupt::delivery::nmi}, apic_ids_[cpu]);
    }

private:
    void send(unsigned cpu, std::uint8_t vector) noexcept { apic_.send({.vector = vector}, apic_ids_[cpu]); }

    local_apic& apic_;
    std::span<const std::uint32_t> apic_ids_; // by number
};
using processor_calls = sync::cross_calls<processor_signals, this_cpu_number>;
static_assert(hal::Ipi<processor_calls>);

// The timer of the CPU that runs the call.
template <hal::DeadlineTimer Timer>
class timer_of_each_cpu {
public:
    // By number.
    explicit timer_of_each_cpu(std::span<Timer> timers) : timers_{timers} {}

    void enable() noexcept { here().enable(); }
    void arm(instant deadline) noexcept { here().arm(deadline); }
    [[nodiscard]] bool due() noexcept { return here().due(); }

private:
    [[nodiscard]] Timer& here() noexcept { return timers_[cpu_number()]; }

    std::span<Timer> timers_;
};

} // namespace exo::boot
