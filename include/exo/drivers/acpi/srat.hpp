// The system resource affinity table (SRAT; ACPI specification 6.5, 5.2.16): which CPUs are near each other's memory.

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include <exo/drivers/acpi/tables.hpp>

namespace exo::drivers::acpi {

// The proximity domain of a CPU, if the table names it; the first entry that does counts. `srat` is the whole table, as
// tables::find returns it.
[[nodiscard]] inline std::optional<std::uint32_t> proximity_domain(std::span<const std::byte> srat,
                                                                   std::uint32_t apic_id)
{
    using detail::load;
    constexpr std::size_t first_entry = 48;
    constexpr std::uint32_t enabled = 1;
    std::optional<std::uint32_t> domain;
    if (srat.size() < first_entry)
        return domain;
    const bool wide = load<std::uint8_t>(srat, 8) >= 2; // before revision 2, type 0 had 8 bits for it
    detail::for_each_entry(srat, first_entry, [&](std::uint8_t type, std::span<const std::byte> entry) {
        if (domain)
            return;
        if (type == 0 && entry.size() >= 16) {
            if (load<std::uint8_t>(entry, 3) == apic_id && (load<std::uint32_t>(entry, 4) & enabled))
                domain = load<std::uint8_t>(entry, 2) | (wide ? load<std::uint32_t>(entry, 8) & 0xffff'ff00 : 0);
        } else if (type == 2 && entry.size() >= 24) {
            if (load<std::uint32_t>(entry, 8) == apic_id && (load<std::uint32_t>(entry, 12) & enabled))
                domain = load<std::uint32_t>(entry, 4);
        }
    });
    return domain;
}

} // namespace exo::drivers::acpi
