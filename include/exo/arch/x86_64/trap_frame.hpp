// What the entry code saves of the interrupted program, in the order in which it lies on the kernel stack.
//
// The last five words are pushed by the CPU (SDM volume 3, 6.14.2) or by the SYSCALL entry in their likeness; `vector`
// and `error_code` by the stub of the vector. Code that is not x86_64's own uses the members by name only.

#pragma once

#include <cstddef>
#include <cstdint>

namespace exo::x86_64 {

struct trap_frame {
    std::uint64_t r15{}, r14{}, r13{}, r12{}, r11{}, r10{}, r9{}, r8{};
    std::uint64_t rdi{}, rsi{}, rbp{}, rbx{}, rdx{}, rcx{}, rax{};
    std::uint64_t vector{};
    std::uint64_t error_code{};
    std::uint64_t rip{}, cs{}, rflags{}, rsp{}, ss{};

    [[nodiscard]] constexpr bool from_user() const { return (cs & 3) == 3; }

    friend constexpr bool operator==(const trap_frame&, const trap_frame&) = default;
};
static_assert(sizeof(trap_frame) == 22 * 8);
static_assert(offsetof(trap_frame, vector) == 15 * 8 && offsetof(trap_frame, rip) == 17 * 8);

// Exception vectors (SDM volume 3, table 6-1) and those that exo assigns.
namespace vector {
inline constexpr std::uint8_t divide_error = 0;
inline constexpr std::uint8_t debug = 1;
inline constexpr std::uint8_t nmi = 2;
inline constexpr std::uint8_t breakpoint = 3;
inline constexpr std::uint8_t overflow = 4;
inline constexpr std::uint8_t bound_range = 5;
inline constexpr std::uint8_t invalid_opcode = 6;
inline constexpr std::uint8_t device_not_available = 7;
inline constexpr std::uint8_t double_fault = 8;
inline constexpr std::uint8_t invalid_tss = 10;
inline constexpr std::uint8_t segment_not_present = 11;
inline constexpr std::uint8_t stack_fault = 12;
inline constexpr std::uint8_t general_protection = 13;
inline constexpr std::uint8_t page_fault = 14;
inline constexpr std::uint8_t x87_error = 16;
inline constexpr std::uint8_t alignment_check = 17;
inline constexpr std::uint8_t machine_check = 18;
inline constexpr std::uint8_t simd_error = 19;
inline constexpr std::uint8_t exceptions = 32; // how many vectors the architecture keeps for exceptions
} // namespace vector

// Whether the CPU pushes an error code for this exception.
[[nodiscard]] constexpr bool pushes_error_code(unsigned v)
{
    constexpr std::uint32_t with_code = 1u << 8 | 1u << 10 | 1u << 11 | 1u << 12 | 1u << 13 | 1u << 14 | 1u << 17 |
                                        1u << 21 | 1u << 29 | 1u << 30;
    return v < vector::exceptions && (with_code >> v & 1) != 0;
}

// Error code of a page fault (SDM volume 3, 4.7).
struct page_fault_code {
    std::uint64_t value;

    [[nodiscard]] constexpr bool present() const { return value & 1; } // a protection was violated, not an absence
    [[nodiscard]] constexpr bool write() const { return value & 2; }
    [[nodiscard]] constexpr bool user() const { return value & 4; }
    [[nodiscard]] constexpr bool reserved_bit() const { return value & 8; }
    [[nodiscard]] constexpr bool fetch() const { return value & 16; }
};

namespace rflags {
inline constexpr std::uint64_t carry = 1u << 0;
inline constexpr std::uint64_t fixed = 1u << 1; // always one
inline constexpr std::uint64_t trap = 1u << 8;
inline constexpr std::uint64_t interrupt = 1u << 9;
inline constexpr std::uint64_t direction = 1u << 10;
inline constexpr std::uint64_t io_privilege = 3u << 12;
inline constexpr std::uint64_t nested_task = 1u << 14;
inline constexpr std::uint64_t resume = 1u << 16;
inline constexpr std::uint64_t virtual_8086 = 1u << 17;
inline constexpr std::uint64_t alignment_check = 1u << 18;
// What a program may choose of its own flags: the arithmetic ones, TF, DF, AC and ID.
inline constexpr std::uint64_t user_settable = 0x240dd5;
} // namespace rflags

} // namespace exo::x86_64
