// With the word `provoke` on the kernel command line, a program may have the kernel misbehave by INT 4: read (RAX 0),
// write (1) or call (2) the address in RDI, use up its stack (3), spin with interrupts off for the cycles in RDI (4), or
// interrupt another CPU, RDI, by an NMI, and wait until that has taken it (5). To see what stops it, what a panic or the
// watchdog tells, and that an NMI may come between any two instructions.

#pragma once

#include <exo/arch/x86_64/trap_frame.hpp>

#include "processors.hpp"

namespace exo::boot {

// Returns if nothing stopped it.
void provoke(const x86_64::trap_frame& wanted, processor_signals& signals);

// For NMIs: whether a program provoked the one that this CPU has taken.
[[nodiscard]] bool is_provoked_nmi() noexcept;

} // namespace exo::boot
