// Segment descriptors, the task-state segment and interrupt gates (SDM volume 3, chapters 3, 6 and 7), as plain values.
//
// The order of the segments is dictated by SYSCALL and SYSRET (SDM volume 3, 5.8.8); the selectors that user code sees
// are those of Linux.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace exo::x86_64 {

namespace selector {
inline constexpr std::uint16_t kernel_code = 0x10;
inline constexpr std::uint16_t kernel_data = 0x18;
inline constexpr std::uint16_t sysret_base = 0x20; // SYSRET takes SS from here + 8 and CS from here + 16
inline constexpr std::uint16_t user_data = 0x28 | 3;
inline constexpr std::uint16_t user_code = 0x30 | 3;
inline constexpr std::uint16_t task_state = 0x38;
} // namespace selector

namespace segment {
inline constexpr std::uint64_t writable_or_readable = std::uint64_t{1} << 41;
inline constexpr std::uint64_t executable = std::uint64_t{1} << 43;
inline constexpr std::uint64_t code_or_data = std::uint64_t{1} << 44;
inline constexpr std::uint64_t user = std::uint64_t{3} << 45;
inline constexpr std::uint64_t present = std::uint64_t{1} << 47;
inline constexpr std::uint64_t long_mode = std::uint64_t{1} << 53;
inline constexpr std::uint64_t available_tss = std::uint64_t{9} << 40;

// Long mode ignores base and limit of these; they stay zero.
inline constexpr std::uint64_t kernel_code = present | code_or_data | executable | writable_or_readable | long_mode;
inline constexpr std::uint64_t kernel_data = present | code_or_data | writable_or_readable;
inline constexpr std::uint64_t user_code = kernel_code | user;
inline constexpr std::uint64_t user_data = kernel_data | user;
} // namespace segment

// 64-bit TSS. Stack pointers straddle alignment, hence the halves.
struct task_state_segment {
    struct pointer {
        std::uint32_t low{};
        std::uint32_t high{};

        constexpr pointer() = default;
        constexpr pointer(std::uint64_t value)
            : low{static_cast<std::uint32_t>(value)}, high{static_cast<std::uint32_t>(value >> 32)}
        {
        }
        [[nodiscard]] constexpr std::uint64_t value() const { return std::uint64_t{high} << 32 | low; }
    };

    std::uint32_t reserved0{};
    pointer stack_of_ring[3]{};
    pointer reserved1{};
    pointer interrupt_stack[7]{}; // IST 1 to 7
    pointer reserved2{};
    std::uint16_t reserved3{};
    std::uint16_t io_map_offset{sizeof(task_state_segment)}; // at the limit: user code has no ports
};
static_assert(sizeof(task_state_segment) == 104);
static_assert(offsetof(task_state_segment, interrupt_stack) == 36);

struct global_descriptor_table {
    std::array<std::uint64_t, 9> entries{};

    // `tss_address` is where the CPU's TSS stands for good.
    [[nodiscard]] static constexpr global_descriptor_table with_tss(std::uint64_t tss_address)
    {
        constexpr std::uint64_t limit = sizeof(task_state_segment) - 1;
        global_descriptor_table gdt;
        gdt.entries[selector::kernel_code / 8] = segment::kernel_code;
        gdt.entries[selector::kernel_data / 8] = segment::kernel_data;
        gdt.entries[selector::user_data / 8] = segment::user_data;
        gdt.entries[selector::user_code / 8] = segment::user_code;
        gdt.entries[selector::task_state / 8] = segment::present | segment::available_tss | limit |
                                                (tss_address & 0xff'ffff) << 16 | (tss_address >> 24 & 0xff) << 56;
        gdt.entries[selector::task_state / 8 + 1] = tss_address >> 32;
        return gdt;
    }
};

// An interrupt gate: entered with interrupts off, from ring 0 or, if `callable_by_user`, by INT from ring 3.
struct interrupt_gate {
    std::uint64_t low{};
    std::uint64_t high{};

    // `stack`: 0 for the stack in use (or that of ring 0), 1 to 7 for an interrupt stack.
    [[nodiscard]] static constexpr interrupt_gate to(std::uint64_t handler, unsigned stack = 0,
                                                     bool callable_by_user = false)
    {
        constexpr std::uint64_t type_interrupt_gate = std::uint64_t{0xe} << 40;
        return {(handler & 0xffff) | std::uint64_t{selector::kernel_code} << 16 | std::uint64_t{stack} << 32 |
                    type_interrupt_gate | (callable_by_user ? segment::user : 0) | segment::present |
                    (handler >> 16 & 0xffff) << 48,
                handler >> 32};
    }
    [[nodiscard]] constexpr std::uint64_t handler() const
    {
        return (low & 0xffff) | (low >> 48) << 16 | high << 32;
    }
};
static_assert(sizeof(interrupt_gate) == 16);

using interrupt_descriptor_table = std::array<interrupt_gate, 256>;

// Operand of LGDT and LIDT.
struct [[gnu::packed]] table_pointer {
    std::uint16_t limit{};
    std::uint64_t base{};
};
static_assert(sizeof(table_pointer) == 10);

} // namespace exo::x86_64
