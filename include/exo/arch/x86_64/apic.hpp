// Registers of the local APIC (SDM volume 3, chapter 11), of the I/O APIC (82093AA datasheet), and message-signalled
// interrupts, as offsets and bits.

#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace exo::x86_64 {

namespace local_apic_register {
inline constexpr std::uint32_t id = 0x20;
inline constexpr std::uint32_t version = 0x30;
inline constexpr std::uint32_t task_priority = 0x80;
inline constexpr std::uint32_t end_of_interrupt = 0xb0;
inline constexpr std::uint32_t logical_destination = 0xd0;
inline constexpr std::uint32_t spurious = 0xf0;
inline constexpr std::uint32_t error_status = 0x280;
inline constexpr std::uint32_t command_low = 0x300;
inline constexpr std::uint32_t command_high = 0x310;
inline constexpr std::uint32_t lvt_timer = 0x320;
inline constexpr std::uint32_t lvt_thermal = 0x330;
inline constexpr std::uint32_t lvt_performance = 0x340;
inline constexpr std::uint32_t lvt_lint0 = 0x350;
inline constexpr std::uint32_t lvt_lint1 = 0x360;
inline constexpr std::uint32_t lvt_error = 0x370;
inline constexpr std::uint32_t timer_initial = 0x380;
inline constexpr std::uint32_t timer_current = 0x390;
inline constexpr std::uint32_t timer_divide = 0x3e0;

// The same register in x2APIC mode (11.12.1.2). The command register is a single one there, of 64 bits.
[[nodiscard]] constexpr std::uint32_t x2apic_msr(std::uint32_t offset) { return 0x800 + (offset >> 4); }
} // namespace local_apic_register

namespace local_apic_bits {
inline constexpr std::uint32_t software_enable = 1u << 8; // in the spurious register
inline constexpr std::uint32_t masked = 1u << 16;         // in each local vector
inline constexpr std::uint32_t deliver_nmi = 4u << 8;
inline constexpr std::uint32_t divide_by_1 = 0xb;
} // namespace local_apic_bits

// What the timer counts (11.5.4): its own counter down to 0, once, or the time-stamp counter up to a deadline.
enum class local_apic_timer_mode : std::uint8_t { one_shot = 0, tsc_deadline = 2 };

// Whether 8 bits can name a CPU, as in xAPIC mode, I/O APICs and message-signalled interrupts: 255 is all.
[[nodiscard]] constexpr bool fits_in_8_bits(std::uint32_t apic_id) { return apic_id < 0xff; }
// The first of the CPUs that devices can interrupt.
[[nodiscard]] constexpr std::optional<std::uint8_t> device_destination(std::span<const std::uint32_t> apic_ids)
{
    for (const std::uint32_t id : apic_ids)
        if (fits_in_8_bits(id))
            return static_cast<std::uint8_t>(id);
    return std::nullopt;
}

// What one CPU sends to others (11.6.1), as the low half of the command register.
struct interprocessor_interrupt {
    enum class delivery : std::uint8_t { fixed = 0, nmi = 4, init = 5, startup = 6 };
    enum class destination : std::uint8_t { one = 0, all_others = 3 };

    static constexpr std::uint32_t pending = 1u << 12; // read: not yet delivered

    delivery how{};
    std::uint8_t vector{}; // of a start-up: the page of the first instruction, which is below 1 MiB
    destination whom{};

    [[nodiscard]] constexpr std::uint32_t low() const
    {
        constexpr std::uint32_t assert_level = 1u << 14;
        return vector | static_cast<std::uint32_t>(how) << 8 | assert_level | static_cast<std::uint32_t>(whom) << 18;
    }
};

inline constexpr std::uint64_t local_apic_default_address = 0xfee00000;

// Where a device writes to interrupt one CPU, and what: edge-triggered, fixed delivery, physical destination.
struct message_signalled_interrupt {
    std::uint64_t address{};
    std::uint32_t data{};

    [[nodiscard]] static constexpr message_signalled_interrupt to(std::uint8_t apic_id, std::uint8_t vector)
    {
        return {local_apic_default_address | std::uint64_t{apic_id} << 12, vector};
    }
};

namespace io_apic_register {
inline constexpr std::uint32_t select = 0x00; // memory-mapped: which register the window shows
inline constexpr std::uint32_t window = 0x10;
inline constexpr std::uint32_t version = 0x01; // behind the window
inline constexpr std::uint32_t redirection = 0x10;
} // namespace io_apic_register

// One input of an I/O APIC.
struct redirection_entry {
    std::uint8_t vector{};
    std::uint8_t destination{}; // APIC id
    bool active_low{};
    bool level_triggered{};
    bool masked{true};

    [[nodiscard]] constexpr std::uint32_t low() const
    {
        return vector | std::uint32_t{active_low} << 13 | std::uint32_t{level_triggered} << 15 |
               std::uint32_t{masked} << 16;
    }
    [[nodiscard]] constexpr std::uint32_t high() const { return std::uint32_t{destination} << 24; }
};

} // namespace exo::x86_64
