// How long it takes to check every program header of a real program: the library's parser, beside a bare bounds check
// and cast that trusts the rest.

#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstring>
#include <vector>

#include <exo/elf/parser.hpp>

namespace {

std::vector<std::byte> read_busybox()
{
    std::vector<std::byte> bytes;
    if (std::FILE* f = std::fopen("/bin/busybox", "rb")) {
        std::byte block[65536];
        while (const auto n = std::fread(block, 1, sizeof(block), f))
            bytes.insert(bytes.end(), block, block + n);
        std::fclose(f);
    }
    return bytes;
}

void headers(benchmark::State& state)
{
    const auto bytes = read_busybox();
    if (bytes.empty()) {
        state.SkipWithError("no /bin/busybox");
        return;
    }
    const exo::elf::requirements needs{exo::elf::machine::x86_64, 0x7fff'ffff'f000};
    exo::elf::stop_at_first strict;
    for (auto _ : state) {
        exo::elf::memory_source source{bytes};
        auto parsed = exo::elf::parse<exo::elf::layout64>(source, needs, strict);
        benchmark::DoNotOptimize(parsed);
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(headers)->Name("elf/headers/busybox");

void limit(benchmark::State& state)
{
    using layout = exo::elf::layout64;
    const auto bytes = read_busybox();
    if (bytes.size() < sizeof(layout::header)) {
        state.SkipWithError("no /bin/busybox");
        return;
    }
    for (auto _ : state) {
        const auto h = exo::elf::load<layout::header>(bytes, 0);
        const std::size_t size = h.program_header_count * sizeof(layout::program_header);
        if (h.program_headers > bytes.size() || size > bytes.size() - h.program_headers)
            break;
        std::uint64_t memory = 0;
        for (const auto s : exo::elf::segment_table<layout>{std::span{bytes}.subspan(h.program_headers, size)})
            memory += s.memory_size;
        benchmark::DoNotOptimize(memory);
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(limit)->Name("elf/limit/headers_cast/busybox");

} // namespace
