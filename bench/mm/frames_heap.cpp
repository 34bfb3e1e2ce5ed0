// Frame allocator and heap: an item is one allocation and its release.

#include <benchmark/benchmark.h>

#include <cstdlib>
#include <vector>

#include <exo/mm/frame_allocator.hpp>
#include <exo/mm/heap.hpp>

namespace {

using namespace exo;

// The cost of hardware traits is not what these cases measure: masking interrupts is a flag, and there is one CPU.
struct interrupts {
    using state = bool;
    state save_and_disable() noexcept
    {
        const bool before = enabled_;
        enabled_ = false;
        asm volatile("" ::: "memory");
        return before;
    }
    void restore(const state& saved) noexcept
    {
        asm volatile("" ::: "memory");
        enabled_ = saved;
    }
    bool enabled() noexcept { return enabled_; }

private:
    bool enabled_ = true;
};
struct one_cpu {
    unsigned current_cpu() const noexcept { return 0; }
    unsigned cpu_limit() const noexcept { return 1; }
};
constexpr std::size_t frame_count = std::size_t{1} << 18;

struct frames {
    interrupts interrupt_control;
    one_cpu cpu;
    std::vector<mm::frame_info> records{frame_count};
    std::vector<mm::frame_cache> caches{1};
    mm::frame_allocator<interrupts, one_cpu> allocator{interrupt_control, cpu, frame_number{}, records, caches};

    frames() { allocator.add({phys_addr{}, frame_number{frame_count}.address()}); }
};

void frame_pair(benchmark::State& state, unsigned order)
{
    frames f;
    for (auto _ : state) {
        const auto block = f.allocator.allocate(order);
        benchmark::DoNotOptimize(block->value());
        f.allocator.free(*block, order);
    }
    state.SetItemsProcessed(state.iterations());
}

// Takes many before it gives them back, so that every frame passes through the buddy lists.
void frame_many(benchmark::State& state)
{
    constexpr std::size_t many = 1024;
    frames f;
    std::vector<frame_number> taken(many);
    for (auto _ : state) {
        for (auto& frame : taken)
            frame = *f.allocator.allocate(0);
        for (const auto frame : taken)
            f.allocator.free(frame, 0);
    }
    state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(many));
}

struct host_memory {
    std::byte* begin = static_cast<std::byte*>(std::aligned_alloc(page_size << 10, frame_count* page_size));

    host_memory() = default;
    host_memory(const host_memory&) = delete;
    host_memory& operator=(const host_memory&) = delete;
    ~host_memory() { std::free(begin); }

    std::byte* to_pointer(phys_addr a) const noexcept { return begin + a.value(); }
    phys_addr to_physical(const void* p) const noexcept
    {
        return phys_addr{static_cast<std::uint64_t>(static_cast<const std::byte*>(p) - begin)};
    }
};

struct heap_world {
    frames f;
    host_memory memory;
    std::vector<mm::heap_cache> caches{1};
    mm::heap<host_memory, decltype(f.allocator), interrupts, one_cpu> heap{memory, f.allocator, f.interrupt_control,
                                                                           f.cpu, caches};
};

void heap_pair(benchmark::State& state, std::size_t bytes)
{
    heap_world w;
    allocator& heap = w.heap; // as the rooms above see it
    benchmark::DoNotOptimize(&heap);
    for (auto _ : state) {
        void* object = heap.allocate(bytes, 8);
        benchmark::DoNotOptimize(object);
        heap.deallocate(object, bytes, 8);
    }
    state.SetItemsProcessed(state.iterations());
}

void malloc_pair(benchmark::State& state, std::size_t bytes)
{
    for (auto _ : state) {
        void* object = std::malloc(bytes);
        benchmark::DoNotOptimize(object);
        std::free(object);
    }
    state.SetItemsProcessed(state.iterations());
}

} // namespace

BENCHMARK_CAPTURE(frame_pair, order0, 0)->Name("mm/frame/order0");
BENCHMARK_CAPTURE(frame_pair, order9, 9)->Name("mm/frame/order9");
BENCHMARK(frame_many)->Name("mm/frame/order0_many");
BENCHMARK_CAPTURE(heap_pair, 64, 64)->Name("mm/heap/64B");
BENCHMARK_CAPTURE(heap_pair, 1024, 1024)->Name("mm/heap/1KiB");
BENCHMARK_CAPTURE(malloc_pair, 64, 64)->Name("mm/peer/malloc/64B");
