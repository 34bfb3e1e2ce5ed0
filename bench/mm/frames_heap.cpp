// Frame allocator and heap: an item is one allocation and its release. With two threads, each a CPU of its own, the time
// of a pair is in the column of CPU time.

#include <benchmark/benchmark.h>

#include <atomic>
#include <cstdlib>
#include <optional>
#include <vector>

#include <exo/mm/frame_allocator.hpp>
#include <exo/mm/heap.hpp>

namespace {

using namespace exo;

thread_local unsigned cpu_of_thread = 0;
thread_local bool interrupts_of_thread = true;

// The cost of hardware traits is not what these cases measure: masking interrupts is a flag.
struct interrupts {
    using state = bool;
    state save_and_disable() noexcept
    {
        const bool before = interrupts_of_thread;
        interrupts_of_thread = false;
        asm volatile("" ::: "memory");
        return before;
    }
    void restore(const state& saved) noexcept
    {
        asm volatile("" ::: "memory");
        interrupts_of_thread = saved;
    }
    bool enabled() noexcept { return interrupts_of_thread; }
};
constexpr unsigned cpu_count = 2;
struct cpus {
    unsigned current_cpu() const noexcept { return cpu_of_thread; }
    unsigned cpu_limit() const noexcept { return cpu_count; }
};
constexpr std::size_t frame_count = std::size_t{1} << 18;

struct frames {
    interrupts interrupt_control;
    cpus cpu;
    std::vector<mm::frame_info> records{frame_count};
    std::vector<mm::frame_cache> caches{cpu_count};
    mm::frame_allocator<interrupts, cpus> allocator{interrupt_control, cpu, frame_number{}, records, caches};

    frames() { allocator.add({phys_addr{}, frame_number{frame_count}.address()}); }
};

// What the threads of a case share.
template <class World>
struct shared {
    static inline std::optional<World> world;

    static void set_up(const benchmark::State&) { world.emplace(); }
    static void tear_down(const benchmark::State&) { world.reset(); }
};

void frame_pair(benchmark::State& state, unsigned order)
{
    cpu_of_thread = static_cast<unsigned>(state.thread_index());
    auto& allocator = shared<frames>::world->allocator;
    for (auto _ : state) {
        const auto block = allocator.allocate(order);
        benchmark::DoNotOptimize(block->value());
        allocator.free(*block, order);
    }
    state.SetItemsProcessed(state.iterations());
}

// What no allocator can do without that takes no lock, masks no interrupts and lets CPUs reach what others keep.
void two_exchanges(benchmark::State& state)
{
    std::atomic<std::uint32_t> slot{1};
    benchmark::DoNotOptimize(&slot);
    for (auto _ : state) {
        const auto block = slot.exchange(0, std::memory_order_acquire);
        benchmark::DoNotOptimize(slot.exchange(block, std::memory_order_release));
    }
    state.SetItemsProcessed(state.iterations());
}

// Takes many before it gives them back, so that every frame passes through the buddy lists.
constexpr std::size_t many = 1024;
void frame_many(benchmark::State& state)
{
    cpu_of_thread = static_cast<unsigned>(state.thread_index());
    auto& allocator = shared<frames>::world->allocator;
    std::vector<frame_number> taken(many);
    for (auto _ : state) {
        for (auto& frame : taken)
            frame = *allocator.allocate(0);
        for (const auto frame : taken)
            allocator.free(frame, 0);
    }
    state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(many));
}
void frame_bulk(benchmark::State& state)
{
    cpu_of_thread = static_cast<unsigned>(state.thread_index());
    auto& allocator = shared<frames>::world->allocator;
    std::vector<frame_number> taken(static_cast<std::size_t>(state.range(0)));
    for (auto _ : state) {
        benchmark::DoNotOptimize(allocator.allocate_bulk(taken));
        allocator.free_bulk(taken);
    }
    state.SetItemsProcessed(state.iterations() * state.range(0));
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
    std::vector<mm::heap_cache> caches{cpu_count};
    mm::heap<host_memory, decltype(f.allocator), interrupts, cpus> heap{memory, f.allocator, f.interrupt_control, f.cpu,
                                                                        caches};
};

void heap_pair(benchmark::State& state, std::size_t bytes)
{
    cpu_of_thread = static_cast<unsigned>(state.thread_index());
    allocator& heap = shared<heap_world>::world->heap; // as the rooms above see it
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

template <class World>
void alone(benchmark::internal::Benchmark* b)
{
    b->Setup(shared<World>::set_up)->Teardown(shared<World>::tear_down);
}
template <class World>
void two_threads(benchmark::internal::Benchmark* b)
{
    alone<World>(b);
    b->Threads(2);
}

BENCHMARK_CAPTURE(frame_pair, order0, 0)->Name("mm/frame/order0")->Apply(alone<frames>);
BENCHMARK_CAPTURE(frame_pair, order0, 0)->Name("mm/frame/order0")->Apply(two_threads<frames>);
BENCHMARK_CAPTURE(frame_pair, order9, 9)->Name("mm/frame/order9")->Apply(alone<frames>);
BENCHMARK_CAPTURE(frame_pair, order9, 9)->Name("mm/frame/order9")->Apply(two_threads<frames>);
BENCHMARK(two_exchanges)->Name("mm/limit/two_exchanges");
BENCHMARK(frame_many)->Name("mm/frame/order0_many")->Apply(alone<frames>);
BENCHMARK(frame_bulk)->Name("mm/frame/bulk")->Arg(16)->Arg(512)->Apply(alone<frames>);
BENCHMARK_CAPTURE(heap_pair, 64, 64)->Name("mm/heap/64B")->Apply(alone<heap_world>);
BENCHMARK_CAPTURE(heap_pair, 64, 64)->Name("mm/heap/64B")->Apply(two_threads<heap_world>);
BENCHMARK_CAPTURE(heap_pair, 1024, 1024)->Name("mm/heap/1KiB")->Apply(alone<heap_world>);
BENCHMARK_CAPTURE(malloc_pair, 64, 64)->Name("mm/peer/malloc/64B");
BENCHMARK_CAPTURE(malloc_pair, 64, 64)->Name("mm/peer/malloc/64B")->Threads(2);
