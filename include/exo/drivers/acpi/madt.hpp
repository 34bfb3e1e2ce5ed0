// The multiple APIC description table (MADT; ACPI specification 6.5, 5.2.12): the CPUs that can be started, and how
// interrupts reach them.

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include <exo/base/address.hpp>
#include <exo/base/cpu_set.hpp>
#include <exo/base/static_vector.hpp>
#include <exo/drivers/acpi/tables.hpp>

namespace exo::drivers::acpi {

struct interrupt_controllers {
    // The input of a local APIC that carries NMI: LINT0 or LINT1.
    struct nmi_input {
        std::uint8_t lint{};
        bool active_low{};
    };
    struct processor {
        std::uint32_t apic_id{};
        std::uint32_t uid{no_uid}; // what other parts of ACPI call it
        std::optional<nmi_input> nmi{};
    };
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
    static constexpr std::uint32_t no_uid = 0xffff'ffff;
    static constexpr unsigned isa_interrupts = 16;

    phys_addr local_apic{0xfee0'0000};                        // the address after reset, if the table names no other
    static_vector<processor, cpu_set::limit> cpus;            // each once, by number: CPU 0 is the one that boots
    std::size_t left_out{};                                   // CPUs beyond those
    static_vector<io_apic_entry, 8> io_apics;                 // each once
    static_vector<source_override, isa_interrupts> overrides; // one for an interrupt at most

    // `madt` is the whole table, as tables::find returns it; `boot_apic_id` is that of the CPU that runs, which has
    // number 0 wherever the table lists it. The others follow in the table's order, if they are enabled: one that is
    // merely online capable is not there yet. Of entries that contradict each other the first counts; one that makes no
    // sense is ignored, and the walk stops at one whose length is wrong.
    [[nodiscard]] static interrupt_controllers parse(std::span<const std::byte> madt, std::uint32_t boot_apic_id)
    {
        constexpr std::size_t first_entry = 44;
        interrupt_controllers found;
        found.cpus.push_back({.apic_id = boot_apic_id});
        if (madt.size() < first_entry)
            return found;
        found.take_local_apic(detail::load<std::uint32_t>(madt, 36));
        detail::for_each_entry(madt, first_entry,
                               [&](std::uint8_t type, std::span<const std::byte> entry) { found.take(type, entry); });
        detail::for_each_entry(madt, first_entry, [&](std::uint8_t type, std::span<const std::byte> entry) {
            found.take_nmi(type, entry); // which may stand before the CPUs it is for
        });
        return found;
    }

    // What a machine without a valid table most likely has: the CPU that runs, and an I/O APIC where the default
    // configurations of the MultiProcessor Specification 1.4 (chapter 5) have it.
    [[nodiscard]] static interrupt_controllers conventional(std::uint32_t boot_apic_id)
    {
        interrupt_controllers assumed;
        assumed.cpus.push_back({.apic_id = boot_apic_id});
        assumed.io_apics.push_back({.registers = phys_addr{0xfec0'0000}});
        assumed.overrides.push_back({.isa = 0, .input = 2});
        return assumed;
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
    // Flags of an interrupt's wiring (table 5.26); those that "conform to the bus" are active high and edge-triggered.
    [[nodiscard]] static bool active_low(std::uint16_t flags) { return (flags & 3) == 3; }
    [[nodiscard]] static bool level_triggered(std::uint16_t flags) { return (flags >> 2 & 3) == 3; }

    void take(std::uint8_t type, std::span<const std::byte> entry)
    {
        using detail::load;
        constexpr std::uint8_t old_broadcast = 0xff;
        constexpr std::uint32_t broadcast = 0xffff'ffff;
        if (type == 0 && entry.size() >= 8) {
            if (const auto id = load<std::uint8_t>(entry, 3); id != old_broadcast)
                take_cpu(id, load<std::uint8_t>(entry, 2), load<std::uint32_t>(entry, 4));
        } else if (type == 1 && entry.size() >= 12) {
            take_io_apic({phys_addr{load<std::uint32_t>(entry, 4)}, load<std::uint32_t>(entry, 8)});
        } else if (type == 2 && entry.size() >= 10) {
            const auto flags = load<std::uint16_t>(entry, 8);
            if (const auto bus = load<std::uint8_t>(entry, 2); bus == 0)
                take_override({load<std::uint8_t>(entry, 3), load<std::uint32_t>(entry, 4), active_low(flags),
                               level_triggered(flags)});
        } else if (type == 5 && entry.size() >= 12) {
            take_local_apic(load<std::uint64_t>(entry, 4));
        } else if (type == 9 && entry.size() >= 16) {
            if (const auto id = load<std::uint32_t>(entry, 4); id != broadcast)
                take_cpu(id, load<std::uint32_t>(entry, 12), load<std::uint32_t>(entry, 8));
        }
    }

    void take_local_apic(std::uint64_t address)
    {
        constexpr std::uint64_t page = 4096, end = std::uint64_t{1} << 52;
        if (address != 0 && address % page == 0 && address < end)
            local_apic = phys_addr{address};
    }

    void take_cpu(std::uint32_t apic_id, std::uint32_t uid, std::uint32_t flags)
    {
        constexpr std::uint32_t enabled = 1;
        if (!(flags & enabled))
            return;
        for (auto& cpu : cpus)
            if (cpu.apic_id == apic_id) {
                if (cpu.uid == no_uid)
                    cpu.uid = uid;
                return;
            }
        if (!cpus.try_push_back({apic_id, uid}))
            ++left_out;
    }

    void take_io_apic(const io_apic_entry& found)
    {
        for (const auto& known : io_apics)
            if (known.registers == found.registers || known.first_input == found.first_input)
                return;
        if (found.registers != phys_addr{})
            (void)io_apics.try_push_back(found);
    }

    void take_override(const source_override& found)
    {
        if (found.isa >= isa_interrupts)
            return;
        for (const auto& known : overrides)
            if (known.isa == found.isa)
                return;
        overrides.push_back(found);
    }

    void take_nmi(std::uint8_t type, std::span<const std::byte> entry)
    {
        using detail::load;
        if (type == 4 && entry.size() >= 6) {
            const auto uid = load<std::uint8_t>(entry, 2);
            wire_nmi(uid == 0xff, uid, load<std::uint16_t>(entry, 3), load<std::uint8_t>(entry, 5));
        } else if (type == 10 && entry.size() >= 12) {
            const auto uid = load<std::uint32_t>(entry, 4);
            wire_nmi(uid == 0xffff'ffff, uid, load<std::uint16_t>(entry, 2), load<std::uint8_t>(entry, 8));
        }
    }

    void wire_nmi(bool all, std::uint32_t uid, std::uint16_t flags, std::uint8_t lint)
    {
        constexpr std::uint8_t inputs = 2;
        if (lint >= inputs)
            return;
        for (auto& cpu : cpus)
            if ((all || cpu.uid == uid) && !cpu.nmi)
                cpu.nmi = nmi_input{lint, active_low(flags)};
    }
};

} // namespace exo::drivers::acpi
