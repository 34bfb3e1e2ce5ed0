// Where things are in the kernel half of every address space. Each window has top-level entries of its own, filled at
// boot.

#pragma once

#include <cstdint>

#include <exo/base/address.hpp>
#include <exo/base/range.hpp>

namespace exo::boot::layout {

// All RAM, at its physical address plus this.
inline constexpr virt_addr direct_map{0xffff'8000'0000'0000};
inline constexpr std::uint64_t direct_map_bytes = std::uint64_t{1} << 39;
// Kernel stacks, each above an unmapped page.
inline constexpr virt_addr stacks{0xffff'c000'0000'0000};
// Registers of devices, and firmware's tables outside of RAM.
inline constexpr virt_addr devices{0xffff'd000'0000'0000};
inline constexpr std::uint64_t device_bytes = std::uint64_t{1} << 30;
// The kernel's image, at its physical address plus this.
inline constexpr virt_addr image{0xffff'ffff'8000'0000};

// What the tables of the 32-bit entry map of the direct map.
inline constexpr phys_addr entry_map_end{std::uint64_t{1} << 30};

} // namespace exo::boot::layout

// Symbols of the linker script: physical ones before .text, virtual ones from there on.
extern "C" {
extern char exo_text_begin[], exo_text_end[];
extern char exo_rodata_begin[], exo_rodata_end[];
extern char exo_data_begin[], exo_data_end[];
extern char exo_boot_stack_guard[]; // the page below the stack that exo_main runs on
}

namespace exo::boot::layout {

[[nodiscard]] inline virt_addr address_of(const void* p) { return virt_addr{reinterpret_cast<std::uint64_t>(p)}; }
[[nodiscard]] inline phys_addr physical_in_image(virt_addr v) { return phys_addr{v - image}; }

} // namespace exo::boot::layout
