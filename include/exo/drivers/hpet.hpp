// The high precision event timer (IA-PC HPET specification 1.0a): its main counter, which all CPUs see alike. Its
// timers and their interrupts are not used.

#pragma once

#include <cstdint>

#include <exo/base/errors.hpp>
#include <exo/base/result.hpp>
#include <exo/base/time.hpp>
#include <exo/drivers/counter_clock.hpp>
#include <exo/hal/register_access.hpp>

namespace exo::drivers {

template <hal::RegisterAccess Registers>
class hpet {
public:
    // Has the counter run, from whatever it stands at. Errors: no_device, when the registers make no sense.
    [[nodiscard]] static result<hpet> open(Registers registers) noexcept
    {
        constexpr std::uint32_t longest_period = 100'000'000; // 2.3.4: 10 MHz at least
        constexpr std::uint32_t absent = 0xffff'ffff;
        const std::uint32_t capabilities = registers.read32(capabilities_register);
        const std::uint32_t period = registers.read32(period_register);
        if (capabilities == absent || period == 0 || period > longest_period)
            return fail(errors::no_device, period);
        const std::uint32_t configuration = registers.read32(configuration_register);
        registers.write32(configuration_register, (configuration & ~legacy_replacement) | enable);
        return hpet{registers, period, (capabilities & counts_64_bits) != 0};
    }

    [[nodiscard]] unsigned bits() const { return wide_ ? 64 : 32; }
    [[nodiscard]] tick_rate rate() const
    {
        return {1'000'000, nanoseconds(period_)}; // a million times so many femtoseconds
    }
    // Never goes backward, but where a counter of 32 bits wraps.
    [[nodiscard]] std::uint64_t count() noexcept
    {
        if (!wide_)
            return registers_.read32(counter_low);
        // Halves of the same moment: the upper one did not change meanwhile. An access of 64 bits may be split by what
        // lies between.
        for (std::uint32_t high = registers_.read32(counter_high);;) {
            const std::uint32_t low = registers_.read32(counter_low);
            const std::uint32_t again = registers_.read32(counter_high);
            if (again == high)
                return std::uint64_t{high} << 32 | low;
            high = again;
        }
    }

private:
    static constexpr std::uint32_t capabilities_register = 0x000, period_register = 0x004;
    static constexpr std::uint32_t configuration_register = 0x010;
    static constexpr std::uint32_t counter_low = 0x0f0, counter_high = 0x0f4;
    static constexpr std::uint32_t counts_64_bits = 1u << 13;
    static constexpr std::uint32_t enable = 1u << 0, legacy_replacement = 1u << 1;

    hpet(Registers registers, std::uint32_t period, bool wide) : registers_{registers}, period_{period}, wide_{wide} {}

    [[no_unique_address]] Registers registers_;
    std::uint32_t period_; // femtoseconds
    bool wide_;
};

} // namespace exo::drivers
