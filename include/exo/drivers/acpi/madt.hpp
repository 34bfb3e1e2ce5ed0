// The multiple APIC description table (MADT; ACPI specification 6.5, 5.2.12): the CPUs that can be started, and how
// interrupts reach them.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <exo/base/address.hpp>
#include <exo/base/static_vector.hpp>
#include <exo/drivers/acpi/tables.hpp>

namespace exo::drivers::acpi {

struct interrupt_controllers {
    struct io_apic_entry {
        phys_addr registers;
        std::uint32_t first_input{};
    };
    // An ISA interrupt that is not wired to the input of its own number, active high and edge-triggered.
    struct source_override {
        std::uint8_t isa{};
        std::uint32_t input{};
        bool active_low{};
        bool level_triggered{};
    };

    phys_addr local_apic;
    static_vector<std::uint32_t, 256> cpus; // APIC ids of those that may be started
    static_vector<io_apic_entry, 8> io_apics;
    static_vector<source_override, 16> overrides;

    // `madt` is the whole table, as tables::find returns it. Entries that do not fit are left out; the walk stops at
    // one whose length is wrong.
    [[nodiscard]] static interrupt_controllers parse(std::span<const std::byte> madt)
    {
        using detail::load;
        constexpr std::size_t first_entry = 44;
        interrupt_controllers found;
        if (madt.size() < first_entry)
            return found;
        found.local_apic = phys_addr{load<std::uint32_t>(madt, 36)};
        for (std::size_t at = first_entry; madt.size() - at >= 2;) {
            const auto type = load<std::uint8_t>(madt, at);
            const std::size_t size = load<std::uint8_t>(madt, at + 1);
            if (size < 2 || size > madt.size() - at)
                break;
            found.take(type, madt.subspan(at, size));
            at += size;
        }
        return found;
    }

    // How the ISA interrupt `isa` reaches the I/O APICs.
    [[nodiscard]] source_override route_of(std::uint8_t isa) const
    {
        for (const auto& o : overrides)
            if (o.isa == isa)
                return o;
        return {isa, isa, false, false};
    }

private:
    void take(std::uint8_t type, std::span<const std::byte> entry)
    {
        using detail::load;
        constexpr std::uint32_t enabled = 1, online_capable = 2;
        if (type == 0 && entry.size() >= 8) {
            if (load<std::uint32_t>(entry, 4) & (enabled | online_capable))
                (void)cpus.try_push_back(load<std::uint8_t>(entry, 3));
        } else if (type == 1 && entry.size() >= 12) {
            (void)io_apics.try_push_back({phys_addr{load<std::uint32_t>(entry, 4)}, load<std::uint32_t>(entry, 8)});
        } else if (type == 2 && entry.size() >= 10) {
            const auto flags = load<std::uint16_t>(entry, 8);
            (void)overrides.try_push_back(
                {load<std::uint8_t>(entry, 3), load<std::uint32_t>(entry, 4), (flags & 3) == 3, (flags >> 2 & 3) == 3});
        } else if (type == 5 && entry.size() >= 12) {
            local_apic = phys_addr{load<std::uint64_t>(entry, 4)};
        } else if (type == 9 && entry.size() >= 16) {
            if (load<std::uint32_t>(entry, 8) & (enabled | online_capable))
                (void)cpus.try_push_back(load<std::uint32_t>(entry, 4));
        }
    }
};

} // namespace exo::drivers::acpi
