// The end of the kernel: a report on the kernel log, and the machine stops.

#pragma once

#include <cstdint>
#include <string_view>

#include <exo/arch/x86_64/trap_frame.hpp>

namespace exo::boot {

// Ends QEMU with status 2 * code + 1 if it has an isa-debug-exit device; returns otherwise.
void debug_exit(std::uint8_t code) noexcept;
inline constexpr std::uint8_t exit_done = 0, exit_panic = 1;

// Reports what was interrupted, too. `about` is the address or number that the reason is about.
[[noreturn]] void panic_in_trap(std::string_view reason, std::uint64_t about, const x86_64::trap_frame& frame) noexcept;

} // namespace exo::boot
