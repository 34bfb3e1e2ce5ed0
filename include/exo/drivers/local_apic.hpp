// The local APIC of the CPU that runs the call (SDM volume 3, chapter 11), in xAPIC or x2APIC mode: enabling, end of
// interrupt, interrupting other CPUs, and its timer as a DeadlineTimer.

#pragma once

#include <cstdint>
#include <optional>

#include <exo/arch/x86_64/apic.hpp>
#include <exo/arch/x86_64/msr_access.hpp>
#include <exo/arch/x86_64/registers.hpp>
#include <exo/base/time.hpp>
#include <exo/drivers/counter_clock.hpp>
#include <exo/hal/clock.hpp>
#include <exo/hal/deadline_timer.hpp>
#include <exo/hal/register_access.hpp>

namespace exo::drivers {

template <hal::RegisterAccess Window, x86_64::MsrAccess Msrs>
class local_apic {
public:
    // In x2APIC mode, where registers are MSRs and ids have 32 bits.
    explicit local_apic(Msrs msrs) : msrs_{msrs} {}
    // In xAPIC mode, for a machine that has no other: registers are in memory, and ids have 8 bits.
    local_apic(Msrs msrs, Window window) : msrs_{msrs}, window_{window} {}

    // On each CPU, before anything else there. Accepts interrupts; masks every local source but NMI, which LINT1
    // carries on a PC.
    void enable(std::uint8_t spurious_vector, std::uint8_t error_vector) noexcept
    {
        using namespace x86_64;
        enter_mode();
        write(local_apic_register::task_priority, 0);
        write(local_apic_register::lvt_timer, local_apic_bits::masked);
        write(local_apic_register::lvt_lint0, local_apic_bits::masked);
        write(local_apic_register::lvt_lint1, local_apic_bits::deliver_nmi);
        write(local_apic_register::lvt_error, error_vector);
        write(local_apic_register::error_status, 0);
        write(local_apic_register::timer_divide, local_apic_bits::divide_by_1);
        write(local_apic_register::spurious, local_apic_bits::software_enable | spurious_vector);
        end_of_interrupt();
    }

    void end_of_interrupt() noexcept { write(x86_64::local_apic_register::end_of_interrupt, 0); }

    [[nodiscard]] std::uint32_t id() noexcept
    {
        const std::uint32_t value = read(x86_64::local_apic_register::id);
        return window_ ? value >> 24 : value;
    }
    // Whether send() can name a CPU with that id.
    [[nodiscard]] bool reaches(std::uint32_t apic_id) const
    {
        constexpr std::uint32_t all = 0xffff'ffff;
        return window_ ? x86_64::fits_in_8_bits(apic_id) : apic_id != all;
    }
    // Interrupts the CPU with that id, or, if `what` says so, all others but this one. They see what this CPU stored
    // before. In xAPIC mode, returns when the one before has been accepted; interrupts are off, or nobody else sends
    // here.
    void send(x86_64::interprocessor_interrupt what, std::uint32_t to = 0) noexcept
    {
        using namespace x86_64;
        if (!window_) {
            msrs_.fence();
            msrs_.write(local_apic_register::x2apic_msr(local_apic_register::command_low),
                        std::uint64_t{to} << 32 | what.low());
            return;
        }
        while (read(local_apic_register::command_low) & interprocessor_interrupt::pending) {}
        write(local_apic_register::command_high, to << 24);
        write(local_apic_register::command_low, what.low());
    }
    // The errors since the last call.
    [[nodiscard]] std::uint32_t take_errors() noexcept
    {
        write(x86_64::local_apic_register::error_status, 0);
        return read(x86_64::local_apic_register::error_status);
    }

    // Counts down from `ticks` once and then raises `vector`; 0 stops.
    void start_timer(std::uint32_t ticks, std::uint8_t vector) noexcept
    {
        write(x86_64::local_apic_register::lvt_timer, vector);
        write(x86_64::local_apic_register::timer_initial, ticks);
    }
    // Counts down with no interrupt, to be measured.
    void start_silent_timer(std::uint32_t ticks) noexcept
    {
        write(x86_64::local_apic_register::lvt_timer, x86_64::local_apic_bits::masked);
        write(x86_64::local_apic_register::timer_initial, ticks);
    }
    [[nodiscard]] std::uint32_t timer_ticks_left() noexcept { return read(x86_64::local_apic_register::timer_current); }

private:
    // The way from off to x2APIC leads through xAPIC, and none leads back from there but through off (11.12.5).
    // Firmware may have chosen x2APIC, and INIT keeps it.
    void enter_mode() noexcept
    {
        namespace bits = x86_64::apic_base_msr;
        const std::uint64_t base = msrs_.read(x86_64::msr::apic_base);
        if (!(base & bits::enable))
            msrs_.write(x86_64::msr::apic_base, base | bits::enable);
        if (!window_)
            msrs_.write(x86_64::msr::apic_base, base | bits::enable | bits::x2apic);
    }
    [[nodiscard]] std::uint32_t read(std::uint32_t offset) noexcept
    {
        if (window_)
            return window_->read32(offset);
        return static_cast<std::uint32_t>(msrs_.read(x86_64::local_apic_register::x2apic_msr(offset)));
    }
    void write(std::uint32_t offset, std::uint32_t value) noexcept
    {
        if (window_)
            window_->write32(offset, value);
        else
            msrs_.write(x86_64::local_apic_register::x2apic_msr(offset), value);
    }

    [[no_unique_address]] Msrs msrs_;
    std::optional<Window> window_; // none in x2APIC mode
};

// The timer of the local APIC. Its counter has 32 bits, so a far deadline takes several interrupts: the handler asks
// due() and passes on only the one that counts.
template <class Apic, hal::Clock Clock>
class local_apic_timer {
public:
    local_apic_timer(Apic& apic, const Clock& clock, tick_rate rate, std::uint8_t vector)
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

    Apic& apic_;
    const Clock& clock_;
    tick_rate rate_;
    std::uint8_t vector_;
    instant deadline_{instant::never()};
};

} // namespace exo::drivers
