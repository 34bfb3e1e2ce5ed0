// The local APIC of the CPU that runs the call (SDM volume 3, chapter 11), in xAPIC mode: enabling, end of interrupt,
// and its timer as a DeadlineTimer.

#pragma once

#include <cstdint>

#include <exo/arch/x86_64/apic.hpp>
#include <exo/base/time.hpp>
#include <exo/drivers/counter_clock.hpp>
#include <exo/hal/clock.hpp>
#include <exo/hal/deadline_timer.hpp>
#include <exo/hal/register_access.hpp>

namespace exo::drivers {

template <hal::RegisterAccess Registers>
class local_apic {
public:
    explicit local_apic(Registers registers) : registers_{registers} {}

    // Accepts interrupts; masks every local source but NMI, which LINT1 carries on a PC.
    void initialize(std::uint8_t spurious_vector, std::uint8_t error_vector) noexcept
    {
        using namespace x86_64;
        registers_.write32(local_apic_register::task_priority, 0);
        registers_.write32(local_apic_register::lvt_timer, local_apic_bits::masked);
        registers_.write32(local_apic_register::lvt_lint0, local_apic_bits::masked);
        registers_.write32(local_apic_register::lvt_lint1, local_apic_bits::deliver_nmi);
        registers_.write32(local_apic_register::lvt_error, error_vector);
        registers_.write32(local_apic_register::error_status, 0);
        registers_.write32(local_apic_register::timer_divide, local_apic_bits::divide_by_1);
        registers_.write32(local_apic_register::spurious, local_apic_bits::software_enable | spurious_vector);
        end_of_interrupt();
    }

    void end_of_interrupt() noexcept { registers_.write32(x86_64::local_apic_register::end_of_interrupt, 0); }

    [[nodiscard]] std::uint8_t id() noexcept
    {
        return static_cast<std::uint8_t>(registers_.read32(x86_64::local_apic_register::id) >> 24);
    }
    // Interrupts the CPU with that id, or, if `what` says so, all others but this one. Returns when the one before has
    // been accepted. Interrupts are off, or nobody else sends here.
    void send(x86_64::interprocessor_interrupt what, std::uint8_t to = 0) noexcept
    {
        using namespace x86_64;
        while (registers_.read32(local_apic_register::command_low) & interprocessor_interrupt::pending) {
        }
        registers_.write32(local_apic_register::command_high, std::uint32_t{to} << 24);
        registers_.write32(local_apic_register::command_low, what.low());
    }
    // The errors since the last call.
    [[nodiscard]] std::uint32_t take_errors() noexcept
    {
        registers_.write32(x86_64::local_apic_register::error_status, 0);
        return registers_.read32(x86_64::local_apic_register::error_status);
    }

    // Counts down from `ticks` once and then raises `vector`; 0 stops.
    void start_timer(std::uint32_t ticks, std::uint8_t vector) noexcept
    {
        registers_.write32(x86_64::local_apic_register::lvt_timer, vector);
        registers_.write32(x86_64::local_apic_register::timer_initial, ticks);
    }
    // Counts down with no interrupt, to be measured.
    void start_silent_timer(std::uint32_t ticks) noexcept
    {
        registers_.write32(x86_64::local_apic_register::lvt_timer, x86_64::local_apic_bits::masked);
        registers_.write32(x86_64::local_apic_register::timer_initial, ticks);
    }
    [[nodiscard]] std::uint32_t timer_ticks_left() noexcept
    {
        return registers_.read32(x86_64::local_apic_register::timer_current);
    }

private:
    [[no_unique_address]] Registers registers_;
};

// The timer of the local APIC. Its counter has 32 bits, so a far deadline takes several interrupts: the handler asks
// due() and passes on only the one that counts.
template <hal::RegisterAccess Registers, hal::Clock Clock>
class local_apic_timer {
public:
    local_apic_timer(local_apic<Registers>& apic, const Clock& clock, tick_rate rate, std::uint8_t vector)
        : apic_{apic}, clock_{clock}, rate_{rate}, vector_{vector}
    {
    }

    void arm(instant deadline) noexcept
    {
        deadline_ = deadline;
        if (deadline == instant::never())
            apic_.start_timer(0, vector_);
        else
            start();
    }

    // In the handler of the vector: whether the deadline has come. If not, the counter runs again.
    [[nodiscard]] bool due() noexcept
    {
        if (deadline_ == instant::never())
            return false;
        if (clock_.now() < deadline_) {
            start();
            return false;
        }
        return true;
    }

private:
    void start() noexcept
    {
        constexpr std::uint64_t most = 0xffff'ffff;
        const instant now = clock_.now();
        const std::uint64_t wait = now < deadline_ ? deadline_.nanoseconds() - now.nanoseconds() : 0;
        const std::uint64_t ticks = wait < most ? rate_.ticks(wait) + 1 : most;
        apic_.start_timer(static_cast<std::uint32_t>(ticks < most ? ticks : most), vector_);
    }

    local_apic<Registers>& apic_;
    const Clock& clock_;
    tick_rate rate_;
    std::uint8_t vector_;
    instant deadline_{instant::never()};
};

} // namespace exo::drivers
