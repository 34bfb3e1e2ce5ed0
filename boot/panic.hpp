// The end of the kernel: a report on the kernel log, and the machine stops.

#pragma once

#include <cstdint>
#include <string_view>

#include <exo/arch/x86_64/trap_frame.hpp>
#include <exo/base/address.hpp>

#include "kernel_memory.hpp"
#include "processors.hpp"

namespace exo::boot {

// Ends QEMU with status 2 * code + 1 if it has an isa-debug-exit device; returns otherwise.
void debug_exit(std::uint8_t code) noexcept;
inline constexpr std::uint8_t exit_done = 0, exit_panic = 1;

// From here on there are other CPUs, which a panic stops by an NMI first.
void stop_others_by(local_apic& apic) noexcept;
// For NMIs. If another CPU has panicked this one halts for good; true if this one has, and is not to be disturbed.
[[nodiscard]] bool stop_if_panicking() noexcept;
[[noreturn]] void halt_for_good() noexcept;

// Has a CPU that takes no interrupts tell by an NMI what it is at; it goes on after that.
void interrogate(unsigned cpu, processor_signals& signals) noexcept;
// For NMIs: tells, if this CPU was asked to.
[[nodiscard]] bool answer_if_interrogated(const x86_64::trap_frame& frame) noexcept;

// Reports what was interrupted, too. `about` is the address or number that the reason is about.
[[noreturn]] void panic_in_trap(std::string_view reason, std::uint64_t about, const x86_64::trap_frame& frame) noexcept;

// The same for a page fault at `at`, with what was tried and what the page tables say.
[[noreturn]] void panic_in_page_fault(std::string_view reason, virt_addr at, const x86_64::trap_frame& frame,
                                      const kernel_memory& memory) noexcept;

} // namespace exo::boot
