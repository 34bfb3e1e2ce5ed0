// The power management timer (ACPI specification 6.5, 4.8.3.3): a counter at a port that the FADT names.

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include <exo/base/time.hpp>
#include <exo/drivers/acpi/tables.hpp>
#include <exo/drivers/counter_clock.hpp>
#include <exo/hal/register_access.hpp>

namespace exo::drivers::acpi {

struct pm_timer {
    static constexpr std::uint64_t hertz = 3'579'545;

    std::uint16_t port{};
    unsigned bits{24}; // of the counter, which wraps

    // `fadt` is the whole table. Empty when the machine has none, or has it in memory.
    [[nodiscard]] static std::optional<pm_timer> find(std::span<const std::byte> fadt)
    {
        using detail::load;
        constexpr std::size_t bytes = 116, bytes_with_extended_address = 220;
        constexpr std::uint8_t at_ports = 1;
        constexpr std::uint32_t has_32_bits = 1u << 8;
        constexpr std::uint64_t last_port = 0xffff - 3;
        if (fadt.size() < bytes || load<std::uint8_t>(fadt, 91) != 4)
            return std::nullopt;
        std::uint64_t port = load<std::uint32_t>(fadt, 76);
        if (fadt.size() >= bytes_with_extended_address && load<std::uint64_t>(fadt, 212) != 0) {
            if (load<std::uint8_t>(fadt, 208) != at_ports)
                return std::nullopt;
            port = load<std::uint64_t>(fadt, 212);
        }
        if (port == 0 || port > last_port)
            return std::nullopt;
        return pm_timer{static_cast<std::uint16_t>(port), load<std::uint32_t>(fadt, 112) & has_32_bits ? 32u : 24u};
    }

    // `ports` starts at port 0. Bits above the counter's are undefined.
    template <hal::RegisterAccess Ports>
    [[nodiscard]] std::uint64_t count(Ports ports) const noexcept
    {
        return ports.read32(port);
    }
    [[nodiscard]] static constexpr tick_rate rate() { return {hertz, seconds(1)}; }
};

} // namespace exo::drivers::acpi
