#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include <exo/base/check.hpp>
#include <exo/sim/explorer.hpp>

namespace exo {

void panic(const char* message, const char* file, int line) noexcept
{
    if (auto* explorer = sim::explorer::here()) // what the run was for
        explorer->fail(std::string{file} + ":" + std::to_string(line) + ": check failed: " + message);
    std::fprintf(stderr, "%s:%d: check failed: %s\n", file, line, message);
    std::abort();
}

} // namespace exo
