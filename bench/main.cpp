#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>

#include <exo/base/check.hpp>

namespace exo {

void panic(const char* message, const char* file, int line) noexcept
{
    std::fprintf(stderr, "%s:%d: check failed: %s\n", file, line, message);
    std::abort();
}

} // namespace exo

BENCHMARK_MAIN();
