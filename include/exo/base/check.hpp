// Assertions that stay on, and the one function that a program which links exo has to define.

#pragma once

namespace exo {

// Called when an invariant is broken; must not return. The kernel stops the machine, a test program aborts.
[[noreturn]] void panic(const char* message, const char* file, int line) noexcept;

} // namespace exo

#define EXO_CHECK(condition)                                                                                           \
    do {                                                                                                               \
        if (!(condition)) [[unlikely]]                                                                                 \
            ::exo::panic(#condition, __FILE__, __LINE__);                                                              \
    } while (false)

#define EXO_PANIC(message) ::exo::panic(message, __FILE__, __LINE__)
