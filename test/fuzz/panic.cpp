// A check that fails ends the run of a fuzz target.

#include <cstdio>
#include <cstdlib>

#include <exo/base/check.hpp>

void exo::panic(const char* message, const char* file, int line) noexcept
{
    std::fprintf(stderr, "%s:%d: check failed: %s\n", file, line, message);
    std::abort();
}
