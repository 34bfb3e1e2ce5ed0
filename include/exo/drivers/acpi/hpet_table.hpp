// The HPET description table (IA-PC HPET specification 1.0a, 3.2.4): where the registers of the event timer are.

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include <exo/base/address.hpp>
#include <exo/drivers/acpi/tables.hpp>

namespace exo::drivers::acpi {

inline constexpr std::uint64_t hpet_bytes = 1024;

// `hpet` is the whole table, as tables::find returns it. Empty when it names no place in memory where they can be.
[[nodiscard]] inline std::optional<phys_addr> hpet_registers(std::span<const std::byte> hpet)
{
    using detail::load;
    constexpr std::size_t bytes = 56;
    constexpr std::uint8_t in_memory = 0;
    constexpr std::uint64_t end = std::uint64_t{1} << 52;
    if (hpet.size() < bytes || load<std::uint8_t>(hpet, 40) != in_memory)
        return std::nullopt;
    const auto address = load<std::uint64_t>(hpet, 44);
    if (address == 0 || address % hpet_bytes != 0 || address >= end)
        return std::nullopt;
    return phys_addr{address};
}

} // namespace exo::drivers::acpi
