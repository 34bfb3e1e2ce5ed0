// The local APIC of the CPU that runs the call (SDM volume 3, chapter 11), in xAPIC or x2APIC mode: enabling, end of
// interrupt, interrupting other CPUs, and its timer as a DeadlineTimer.

#pragma once

#include <concepts>
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

    // From here on the timer of this CPU raises `vector`; it is not armed. enable() leaves it in one-shot mode, raising
    // nothing.
    void set_timer(x86_64::local_apic_timer_mode mode, std::uint8_t vector) noexcept
    {
        write(x86_64::local_apic_register::lvt_timer, static_cast<std::uint32_t>(mode) << 17 | vector);
        msrs_.fence(); // a deadline that arrives before the mode is lost (11.5.4.1)
    }
    // In one-shot mode; 0 disarms.
    void start_timer(std::uint32_t ticks) noexcept { write(x86_64::local_apic_register::timer_initial, ticks); }
    // In TSC-deadline mode, for when the time-stamp counter reaches `count`; 0 disarms.
    void set_deadline(std::uint64_t count) noexcept { msrs_.write(x86_64::msr::tsc_deadline, count); }
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

struct local_apic_timer_settings {
    x86_64::local_apic_timer_mode mode{};
    tick_rate rate; // of what the mode counts
    std::uint8_t vector{};
    bool keeps_clock{}; // which loses count when it is not read every few seconds: the timer never rests then
};

// A deadline may be further than the counter can tell, and one that is put off may have its interrupt on the way: the
// handler asks due() and passes on only the one that counts. `Counter()` returns the time-stamp counter.
template <class Apic, hal::Clock Clock, std::invocable Counter>
class local_apic_timer {
public:
    // Further deadlines take several interrupts.
    static constexpr duration longest_wait = seconds(2);

    local_apic_timer(Apic& apic, const Clock& clock, Counter counter, const local_apic_timer_settings& settings)
        : apic_{apic}, clock_{clock}, counter_{counter}, settings_{settings}
    {
    }

    // On its CPU, before anything else.
    void enable() noexcept
    {
        apic_.set_timer(settings_.mode, settings_.vector);
        arm(instant::never());
    }

    void arm(instant deadline) noexcept
    {
        deadline_ = deadline;
        if (deadline == instant::never() && !settings_.keeps_clock)
            disarm();
        else
            start();
    }

    // In the handler of the vector: whether the deadline has come. If not, the timer runs again.
    [[nodiscard]] bool due() noexcept
    {
        const bool come = clock_.now() >= deadline_;
        if (come)
            deadline_ = instant::never();
        if (!come || settings_.keeps_clock)
            arm(deadline_);
        return come;
    }

private:
    [[nodiscard]] bool by_deadline() const { return settings_.mode == x86_64::local_apic_timer_mode::tsc_deadline; }

    void start() noexcept
    {
        const instant now = clock_.now();
        const duration wait = deadline_ <= now                 ? duration{}
                              : deadline_ < now + longest_wait ? deadline_ - now
                                                               : longest_wait;
        const std::uint64_t ticks = settings_.rate.ticks(static_cast<std::uint64_t>(wait.nanoseconds())) + 1;
        constexpr std::uint32_t most = 0xffff'ffff;
        if (by_deadline())
            apic_.set_deadline(counter_() + ticks);
        else
            apic_.start_timer(ticks < most ? static_cast<std::uint32_t>(ticks) : most);
    }
    void disarm() noexcept
    {
        if (by_deadline())
            apic_.set_deadline(0);
        else
            apic_.start_timer(0);
    }

    Apic& apic_;
    const Clock& clock_;
    [[no_unique_address]] Counter counter_;
    local_apic_timer_settings settings_;
    instant deadline_{instant::never()};
};

} // namespace exo::drivers
