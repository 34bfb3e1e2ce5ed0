// The mapper against the loads and stores that it cannot avoid. Tables lie in prefaulted memory, at physical offset 0,
// and what is compared uses the same; an item is one page.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <vector>

#include "bare_machine.hpp"

namespace {

using namespace bench;
using entry = format::entry;

constexpr std::uint64_t GiB = std::uint64_t{1} << 30;
constexpr std::uint64_t pages_per_GiB = GiB / page_size;
constexpr std::size_t random_pages = 65'536;
constexpr virt_addr start{0x4000'0000'0000};
constexpr phys_addr target{0x1'0000'0000};
constexpr mm::page_attributes attributes{.access = mm::kernel_data};

// Room for the tables of start + [0, 1 GiB), and nothing mapped.
machine& room_for_1GiB()
{
    static machine m{1024};
    return m;
}

std::vector<virt_addr> some_pages()
{
    std::mt19937_64 random{1};
    std::vector<virt_addr> pages;
    while (pages.size() < random_pages) {
        while (pages.size() < random_pages)
            pages.push_back(start + (random() % (256 * GiB) & ~(page_size - 1)));
        std::ranges::sort(pages);
        pages.erase(std::ranges::unique(pages).begin(), pages.end());
    }
    std::ranges::shuffle(pages, random);
    return pages;
}

void entry_stores(benchmark::State& state)
{
    auto& frames = room_for_1GiB().frames;
    std::vector<entry*> tables;
    while (tables.size() < pages_per_GiB / 512)
        tables.push_back(reinterpret_cast<entry*>(identity::to_pointer(frames.allocate(0)->address())));
    for (auto _ : state) {
        entry value = format::leaf(target, 0, attributes);
        for (entry* table : tables)
            for (std::size_t i = 0; i < 512; ++i, value += page_size)
                __atomic_store_n(table + i, value, __ATOMIC_RELAXED); // atomic: one scalar store each
        benchmark::ClobberMemory();
    }
    for (const entry* table : tables)
        frames.free(frame_number{identity::to_physical(table)}, 0);
    state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(pages_per_GiB));
}
BENCHMARK(entry_stores)->Name("mm/limit/entry_stores");

void map_page_seq(benchmark::State& state)
{
    machine& m = room_for_1GiB();
    for (auto _ : state) {
        for (std::uint64_t i = 0; i < pages_per_GiB; ++i)
            if (!m.mapper.map_page(start + i * page_size, target + i * page_size, attributes, m.batch))
                state.SkipWithError("map_page failed");
        state.PauseTiming();
        m.clear();
        state.ResumeTiming();
    }
    state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(pages_per_GiB));
}
BENCHMARK(map_page_seq)->Name("mm/map_page/seq");

void map_page_random(benchmark::State& state)
{
    machine m{70'000};
    const auto pages = some_pages();
    for (auto _ : state) {
        phys_addr a = target;
        for (const virt_addr v : pages) {
            if (!m.mapper.map_page(v, a, attributes, m.batch))
                state.SkipWithError("map_page failed");
            a += page_size;
        }
        state.PauseTiming();
        m.clear();
        state.ResumeTiming();
    }
    state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(random_pages));
}
BENCHMARK(map_page_random)->Name("mm/map_page/random");

void map_range_1GiB(benchmark::State& state)
{
    machine& m = room_for_1GiB();
    for (auto _ : state) {
        if (!m.mapper.map_range(virt_range::of_size(start, GiB), target, attributes, m.batch, 0))
            state.SkipWithError("map_range failed");
        state.PauseTiming();
        m.clear();
        state.ResumeTiming();
    }
    state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(pages_per_GiB));
}
BENCHMARK(map_range_1GiB)->Name("mm/map_range/1GiB");

void unmap_range_1GiB(benchmark::State& state)
{
    machine& m = room_for_1GiB();
    for (auto _ : state) {
        state.PauseTiming();
        if (!m.mapper.map_range(virt_range::of_size(start, GiB), target, attributes, m.batch, 0))
            state.SkipWithError("map_range failed");
        state.ResumeTiming();
        if (!m.mapper.unmap_range(virt_range::of_size(start, GiB), m.batch))
            state.SkipWithError("unmap_range failed");
        m.batch.flush();
    }
    m.clear();
    state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(pages_per_GiB));
}
BENCHMARK(unmap_range_1GiB)->Name("mm/unmap_range/1GiB");

struct random_mappings : machine {
    std::vector<virt_addr> pages = some_pages();

    random_mappings() : machine{70'000}
    {
        phys_addr a = target;
        for (const virt_addr v : pages) {
            if (!mapper.map_page(v, a, attributes, batch))
                std::abort();
            a += page_size;
        }
    }
    ~random_mappings() { clear(); }
};

const random_mappings& some_mappings()
{
    static const random_mappings m;
    return m;
}

// What a walk cannot do without: four loads, each of which needs the one before.
void walk(benchmark::State& state)
{
    const random_mappings& m = some_mappings();
    const auto* root = reinterpret_cast<const entry*>(m.mapper.root().value());
    for (auto _ : state) {
        entry sum = 0;
        for (const virt_addr v : m.pages) {
            const entry* table = root;
            for (unsigned shift = 39; shift > 12; shift -= 9)
                table = reinterpret_cast<const entry*>(table[v.value() >> shift & 511] & format::address_mask);
            sum += table[v.value() >> 12 & 511];
        }
        benchmark::DoNotOptimize(sum);
    }
    state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(random_pages));
}
BENCHMARK(walk)->Name("mm/limit/walk");

void translate_random(benchmark::State& state)
{
    const random_mappings& m = some_mappings();
    for (auto _ : state) {
        std::uint64_t sum = 0;
        bool failed = false;
        for (const virt_addr v : m.pages) {
            if (const auto found = m.mapper.translate(v))
                sum += found->address.value();
            else
                failed = true;
        }
        benchmark::DoNotOptimize(sum);
        if (failed)
            state.SkipWithError("translate failed");
    }
    state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(random_pages));
}
BENCHMARK(translate_random)->Name("mm/translate/random");

} // namespace
