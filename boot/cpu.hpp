// One CPU as the entry code knows it: the block that GS leads to, and the descriptor tables.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <exo/arch/x86_64/cpuid.hpp>
#include <exo/arch/x86_64/descriptors.hpp>
#include <exo/sync/lock_observer.hpp>

namespace exo::boot {

// Offsets are known to traps.S.
struct cpu_block {
    cpu_block* self{};
    std::uint64_t kernel_stack{}; // of the thread that runs: where it enters from user mode
    std::uint64_t user_stack{};   // where SYSCALL keeps the user's RSP for an instant
    std::uint64_t user_gs_base{}; // what SWAPGS finds on the way out
    unsigned number{~0u}; // none yet
    x86_64::global_descriptor_table descriptors;
    x86_64::task_state_segment task;
    [[no_unique_address]] sync::held_locks_if_checked locks; // spinning ones that the CPU holds
    [[no_unique_address]] sync::lock_counters_if_counted lock_counts;
};
static_assert(offsetof(cpu_block, kernel_stack) == 8 && offsetof(cpu_block, user_stack) == 16);

// Stacks of their own (SDM volume 3, 6.14.5) for what may arrive when the current stack is not to be trusted.
enum class interrupt_stack : unsigned { double_fault = 1, nmi, machine_check, debug };
inline constexpr unsigned interrupt_stacks = 4;

// Features of the CPU that this kernel uses, and whether it turned them on.
[[nodiscard]] const x86_64::cpu_features& features() noexcept;

// Reads them, on the boot CPU: the others are expected to have the same.
void find_features() noexcept;
// Turns on, on this CPU, what it has to offer for protection and floating point. Before the kernel's own tables are
// loaded.
void enable_features() noexcept;

// Has GS lead to the boot CPU's block, before any lock is taken.
void find_boot_cpu() noexcept;
// Takes the descriptor tables, GS and the SYSCALL entry into use on this CPU. `stacks[i]` is for interrupt stack i + 1.
void install_descriptors(cpu_block& cpu, std::span<const std::span<std::byte>, interrupt_stacks> stacks) noexcept;

[[nodiscard]] cpu_block& boot_cpu() noexcept;

[[nodiscard]] inline cpu_block& this_cpu() noexcept
{
    cpu_block* block;
    asm volatile("movq %%gs:0, %0" : "=r"(block));
    return *block;
}
[[nodiscard]] inline unsigned cpu_number() noexcept
{
    unsigned number;
    asm volatile("movl %%gs:%c1, %0" : "=r"(number) : "i"(offsetof(cpu_block, number)));
    return number;
}
// How many there are, numbered from 0: set once, before any but the boot CPU does more than wait.
[[nodiscard]] unsigned cpu_count() noexcept;
void set_cpu_count(unsigned count) noexcept;

} // namespace exo::boot
