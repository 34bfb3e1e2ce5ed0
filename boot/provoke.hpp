// With the word `provoke` on the kernel command line, a program may have the kernel misbehave by INT 4: read (RAX 0),
// write (1) or call (2) the address in RDI, use up its stack (3), or spin with interrupts off for the cycles in RDI (4).
// To see what stops it, and what a panic or the watchdog tells.

#pragma once

#include <exo/arch/x86_64/trap_frame.hpp>

namespace exo::boot {

// Returns if nothing stopped it.
void provoke(const x86_64::trap_frame& wanted);

} // namespace exo::boot
