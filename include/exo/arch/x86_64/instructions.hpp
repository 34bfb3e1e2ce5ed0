// Instructions that C++ has no word for. Everything here runs in ring 0 only, but for cpuid, rdtsc, pause and RDRAND.

#pragma once

#include <cstdint>

#include <exo/arch/x86_64/cpuid.hpp>
#include <exo/arch/x86_64/descriptors.hpp>
#include <exo/arch/x86_64/tlb.hpp>

namespace exo::x86_64 {

inline std::uint8_t in8(std::uint16_t port) noexcept
{
    std::uint8_t value;
    asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}
inline std::uint16_t in16(std::uint16_t port) noexcept
{
    std::uint16_t value;
    asm volatile("inw %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}
inline std::uint32_t in32(std::uint16_t port) noexcept
{
    std::uint32_t value;
    asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}
inline void out8(std::uint16_t port, std::uint8_t value) noexcept
{
    asm volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}
inline void out16(std::uint16_t port, std::uint16_t value) noexcept
{
    asm volatile("outw %0, %1" : : "a"(value), "Nd"(port) : "memory");
}
inline void out32(std::uint16_t port, std::uint32_t value) noexcept
{
    asm volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

inline std::uint64_t read_msr(std::uint32_t number) noexcept
{
    std::uint32_t low, high;
    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(number) : "memory");
    return std::uint64_t{high} << 32 | low;
}
inline void write_msr(std::uint32_t number, std::uint64_t value) noexcept
{
    asm volatile("wrmsr"
                 :
                 : "c"(number), "a"(static_cast<std::uint32_t>(value)), "d"(static_cast<std::uint32_t>(value >> 32))
                 : "memory");
}

// Waits until earlier stores are visible, before any later instruction starts (SDM volume 3, 11.12.3).
inline void memory_and_load_fence() noexcept { asm volatile("mfence; lfence" : : : "memory"); }

inline cpuid_leaf cpuid(std::uint32_t function, std::uint32_t index = 0) noexcept
{
    cpuid_leaf leaf;
    asm volatile("cpuid"
                 : "=a"(leaf.eax), "=b"(leaf.ebx), "=c"(leaf.ecx), "=d"(leaf.edx)
                 : "a"(function), "c"(index));
    return leaf;
}

// Not before earlier loads: what another CPU read before it stored what these see, is no later (SDM volume 2, RDTSC).
inline std::uint64_t read_tsc() noexcept
{
    std::uint32_t low, high;
    asm volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return std::uint64_t{high} << 32 | low;
}

// False when the generator had nothing to give.
inline bool rdrand(std::uint64_t& value) noexcept
{
    bool valid;
    asm volatile("rdrand %0" : "=r"(value), "=@ccc"(valid));
    return valid;
}

inline std::uint64_t read_cr0() noexcept
{
    std::uint64_t value;
    asm volatile("mov %%cr0, %0" : "=r"(value) : : "memory");
    return value;
}
inline void write_cr0(std::uint64_t value) noexcept { asm volatile("mov %0, %%cr0" : : "r"(value) : "memory"); }
// The address whose access raised the last page fault.
inline std::uint64_t read_cr2() noexcept
{
    std::uint64_t value;
    asm volatile("mov %%cr2, %0" : "=r"(value) : : "memory");
    return value;
}
inline std::uint64_t read_cr3() noexcept
{
    std::uint64_t value;
    asm volatile("mov %%cr3, %0" : "=r"(value) : : "memory");
    return value;
}
inline void write_cr3(std::uint64_t value) noexcept { asm volatile("mov %0, %%cr3" : : "r"(value) : "memory"); }
inline std::uint64_t read_cr4() noexcept
{
    std::uint64_t value;
    asm volatile("mov %%cr4, %0" : "=r"(value) : : "memory");
    return value;
}
inline void write_cr4(std::uint64_t value) noexcept { asm volatile("mov %0, %%cr4" : : "r"(value) : "memory"); }

inline void invalidate_page(std::uint64_t address) noexcept
{
    asm volatile("invlpg (%0)" : : "r"(address) : "memory");
}

inline void invalidate(invpcid_type type, const invpcid_descriptor& what) noexcept
{
    asm volatile("invpcid %0, %1" : : "m"(what), "r"(type) : "memory");
}

inline std::uint64_t read_flags() noexcept
{
    std::uint64_t value;
    asm volatile("pushfq; popq %0" : "=r"(value) : : "memory");
    return value;
}
inline void disable_interrupts() noexcept { asm volatile("cli" : : : "memory"); }
inline void enable_interrupts() noexcept { asm volatile("sti" : : : "memory"); }
// Enables interrupts and waits for one; the CPU takes none between the two instructions (SDM volume 2, STI).
inline void enable_interrupts_and_halt() noexcept { asm volatile("sti; hlt" : : : "memory"); }
inline void halt() noexcept { asm volatile("hlt" : : : "memory"); }

// Between these, ring 0 may touch user pages although SMAP is on.
inline void permit_user_access() noexcept { asm volatile("stac" : : : "memory"); }
inline void forbid_user_access() noexcept { asm volatile("clac" : : : "memory"); }

// Loads the table and reloads every segment register from it.
inline void load_gdt(const table_pointer& gdt) noexcept
{
    asm volatile("lgdt %[gdt]\n\t"
                 "pushq %[code]\n\t"
                 "leaq 1f(%%rip), %%rax\n\t"
                 "pushq %%rax\n\t"
                 "lretq\n"
                 "1:\n\t"
                 "movl %[data], %%eax\n\t"
                 "movl %%eax, %%ds\n\t"
                 "movl %%eax, %%es\n\t"
                 "movl %%eax, %%ss\n\t"
                 "xorl %%eax, %%eax\n\t"
                 "movl %%eax, %%fs\n\t"
                 "movl %%eax, %%gs"
                 :
                 : [gdt] "m"(gdt), [code] "i"(selector::kernel_code), [data] "i"(selector::kernel_data)
                 : "rax", "memory");
}
inline void load_idt(const table_pointer& idt) noexcept { asm volatile("lidt %0" : : "m"(idt) : "memory"); }
inline void load_task_register(std::uint16_t task) noexcept { asm volatile("ltr %0" : : "r"(task) : "memory"); }

} // namespace exo::x86_64
