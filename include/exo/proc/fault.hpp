// What the processor can object to in a program, other than a page fault, and the signal that each objection becomes
// (POSIX signal.h; codes as Linux gives them on x86-64).

#pragma once

#include <cstdint>

#include <exo/proc/signal.hpp>

namespace exo::proc {

enum class fault : std::uint8_t {
    divide_error,       // SIGFPE, FPE_INTDIV
    floating_point,     // SIGFPE, FPE_FLTINV: of the x87 or SSE unit
    debug,              // SIGTRAP, TRAP_TRACE
    breakpoint,         // SIGTRAP, SI_KERNEL
    invalid_opcode,     // SIGILL, ILL_ILLOPN
    alignment,          // SIGBUS, BUS_ADRALN
    stack_segment,      // SIGBUS, SI_KERNEL
    general_protection, // SIGSEGV, SI_KERNEL; also every exception that has no line of its own
};

// `instruction` is the address of the one that the processor objects to.
[[nodiscard]] constexpr signal_info signal_of_fault(fault what, std::uint64_t instruction)
{
    switch (what) {
    case fault::divide_error:
        return {.number = signal::sigfpe, .code = signal_code::integer_divide, .value = instruction};
    case fault::floating_point:
        return {.number = signal::sigfpe, .code = signal_code::float_invalid, .value = instruction};
    case fault::debug:
        return {.number = signal::sigtrap, .code = signal_code::trace, .value = instruction};
    case fault::breakpoint:
        return {.number = signal::sigtrap, .code = signal_code::kernel};
    case fault::invalid_opcode:
        return {.number = signal::sigill, .code = signal_code::illegal_operand, .value = instruction};
    case fault::alignment:
        return {.number = signal::sigbus, .code = signal_code::alignment};
    case fault::stack_segment:
        return {.number = signal::sigbus, .code = signal_code::kernel};
    case fault::general_protection:
        break;
    }
    return {.number = signal::sigsegv, .code = signal_code::kernel};
}

} // namespace exo::proc
