// What the processor can object to in a program, other than a page fault, and the signal that each objection becomes
// (POSIX signal.h; codes as Linux gives them on x86-64).

#pragma once

#include <cstdint>

namespace exo::proc {

enum class fault : std::uint8_t {
    divide_error,       // SIGFPE, FPE_INTDIV
    floating_point,     // SIGFPE; the x87 or SSE status says which
    debug,              // SIGTRAP, TRAP_TRACE
    breakpoint,         // SIGTRAP, SI_KERNEL
    invalid_opcode,     // SIGILL, ILL_ILLOPN
    alignment,          // SIGBUS, BUS_ADRALN
    stack_segment,      // SIGBUS, SI_KERNEL
    general_protection, // SIGSEGV, SI_KERNEL; also every exception that has no line of its own
};

} // namespace exo::proc
