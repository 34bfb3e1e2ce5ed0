// An I/O APIC: which vector on which CPU each of its inputs raises.

#pragma once

#include <cstdint>

#include <exo/arch/x86_64/apic.hpp>
#include <exo/base/errors.hpp>
#include <exo/base/result.hpp>
#include <exo/hal/register_access.hpp>

namespace exo::drivers {

template <hal::RegisterAccess Registers>
class io_apic {
public:
    // Its first input is number `first_input` among those of all I/O APICs (a "global system interrupt").
    io_apic(Registers registers, std::uint32_t first_input) : registers_{registers}, first_input_{first_input} {}

    // Masks every input.
    void initialize() noexcept
    {
        inputs_ = (read(x86_64::io_apic_register::version) >> 16 & 0xff) + 1;
        for (std::uint32_t i = 0; i < inputs_; ++i)
            write(redirection(i), x86_64::redirection_entry{}.low());
    }

    [[nodiscard]] bool has(std::uint32_t input) const { return input - first_input_ < inputs_; }

    // Errors: invalid_argument when the input is not one of this controller.
    [[nodiscard]] result<> route(std::uint32_t input, const x86_64::redirection_entry& entry) noexcept
    {
        if (!has(input))
            return fail(errors::invalid_argument, input);
        store(input - first_input_, entry);
        return {};
    }

private:
    [[nodiscard]] static constexpr std::uint32_t redirection(std::uint32_t index)
    {
        return x86_64::io_apic_register::redirection + 2 * index;
    }
    [[nodiscard]] std::uint32_t read(std::uint32_t index) noexcept
    {
        registers_.write32(x86_64::io_apic_register::select, index);
        return registers_.read32(x86_64::io_apic_register::window);
    }
    void write(std::uint32_t index, std::uint32_t value) noexcept
    {
        registers_.write32(x86_64::io_apic_register::select, index);
        registers_.write32(x86_64::io_apic_register::window, value);
    }
    // The half with the mask bit goes last when it unmasks, and first when it masks.
    void store(std::uint32_t index, const x86_64::redirection_entry& entry) noexcept
    {
        const std::uint32_t at = redirection(index);
        write(at, x86_64::redirection_entry{}.low());
        write(at + 1, entry.high());
        write(at, entry.low());
    }

    [[no_unique_address]] Registers registers_;
    std::uint32_t first_input_;
    std::uint32_t inputs_{};
};

} // namespace exo::drivers
