// What memory management counts, read by name as a kernel shows it.

#include <doctest/doctest.h>

#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <exo/arch/x86_64/paging.hpp>
#include <exo/mm/heap_metrics.hpp>
#include <exo/mm/metrics.hpp>
#include <exo/mm/shared_memory.hpp>

#include "plain.hpp"
#include "space_world.hpp"

using namespace exo;

namespace {

struct counted : space_test::world<x86_64::paging_4_level, space_test::large_if_wanted> {
    explicit counted(std::size_t frames = 1024) : world{frames} { registry.add(source); }
    [[nodiscard]] std::uint64_t count(std::string_view name) { return registry.value(name).value(); }

    using memory_system = decltype(world::memory);
    mm::metrics_source<memory_system> source{mm::make_metrics_source(memory)};
    trace::registry registry;
};

TEST_CASE("frames allocated, freed, free by zone and cached, and what the caches did, are counted by name")
{
    counted w;
    const auto allocated = w.count("exo_mm_frames_allocated_total"), freed = w.count("exo_mm_frames_freed_total");
    const auto refills = w.count("exo_mm_frame_cache_refills_total");
    const auto in_use = w.count("exo_mm_frames") - w.count("exo_mm_frames_free");
    CHECK(allocated - freed == in_use);

    std::vector<frame_number> taken;
    while (const auto f = w.frames_.allocate(0))
        taken.push_back(*f);
    CHECK(w.count("exo_mm_frames_free") == 0);
    CHECK(w.count("exo_mm_frames_allocated_total") == allocated + taken.size());
    CHECK(w.count("exo_mm_frame_failures_total") == 1);
    CHECK(w.count("exo_mm_frame_cache_refills_total") >= refills + taken.size() / 256);
    CHECK(w.count("exo_mm_frame_cache_spills_total") == 0);
    CHECK(w.count("exo_mm_frame_cache_drains_total") == 0);

    for (const auto f : taken)
        w.frames_.free(f, 0);
    CHECK(w.count("exo_mm_frames_freed_total") == freed + taken.size());
    CHECK(w.count("exo_mm_frame_cache_spills_total") > 0);
    CHECK(w.count("exo_mm_frames_cached") > 0);
    CHECK(w.count("exo_mm_frames_free") == w.count("exo_mm_frames_cached") + w.count("exo_mm_frames_free_below_4gib"));
    CHECK(w.count("exo_mm_frames_free_above_4gib") == 0);
    w.frames_.drain_caches();
    CHECK(w.count("exo_mm_frame_cache_drains_total") == 1);
    CHECK(w.count("exo_mm_frames_cached") == 0);
}

TEST_CASE("what was done for faults, forks, large pages and want of memory is counted by name, each on its own")
{
    using mm::access;
    struct : mm::reclaimable {
        std::size_t reclaim(std::size_t) noexcept override { return std::exchange(held, 0); }
        std::size_t held{15};
    } holder;
    counted w{4096};
    auto s = w.make_space();
    constexpr virt_addr base{0x4000'0000}, common = base + 32 * page_size, large = base + 512 * page_size;
    const auto fault = [](auto& space, virt_addr first, std::uint64_t count, access tried) {
        for (std::uint64_t i = 0; i < count; ++i)
            CHECK(space->handle_fault(first + i * page_size, tried));
    };

    mm::map_request request{.address = base, .length = 20 * page_size, .where = mm::placement::fixed};
    CHECK(s->map(request));
    fault(s, base, 11, access::write); // zeros
    fault(s, base, 5, access::write);  // there already
    request.address = common;
    request.kind = mm::sharing::shared;
    request.backing = *mm::shared_memory::create(w.heap_, w.pages, w.parker, request.length);
    CHECK(s->map(std::move(request)));
    fault(s, common, 7, access::read);
    fault(s, common, 6, access::write);

    request = {.address = large, .length = 1024 * page_size, .where = mm::placement::fixed};
    CHECK(s->map(request));
    CHECK(
        s->advise({large, large + 1024 * page_size}, [](mm::region_advice& a) { a.large = mm::large_pages::wanted; }));
    fault(s, large, 1, access::write);
    fault(s, large + 512 * page_size, 1, access::write);
    CHECK(s->unmap({large, large + page_size}));

    {
        auto child = *s->fork();
        fault(child, base, 4, access::write); // tables of three levels
    }
    fault(s, base, 8, access::write);
    for (int i = 0; i < 8; ++i)
        CHECK(s->fork());

    w.memory.reclaimer.add(w.parker, holder);
    for (int i = 0; i < 10; ++i)
        (void)w.memory.reclaimer.reclaim(w.parker);
    w.memory.reclaimer.remove(w.parker, holder);
    w.memory.counters().out_of_memory_kills.add(12);

    CHECK(w.count("exo_mm_faults_demand_zero_total") == 11 + 2);
    CHECK(w.count("exo_mm_faults_spurious_total") == 5);
    CHECK(w.count("exo_mm_faults_paged_in_total") == 7);
    CHECK(w.count("exo_mm_faults_made_writable_total") == 6);
    CHECK(w.count("exo_mm_faults_copied_total") == 4);
    CHECK(w.count("exo_mm_faults_reused_total") == 8);
    CHECK(w.count("exo_mm_tables_unshared_total") == 3);
    CHECK(w.count("exo_mm_pages_filled_ahead_total") == 0);
    CHECK(w.count("exo_mm_large_pages_filled_total") == 2);
    CHECK(w.count("exo_mm_large_pages_split_total") == 1);
    CHECK(w.count("exo_mm_forks_total") == 1 + 8);
    CHECK(w.count("exo_mm_reclaims_total") == 10);
    CHECK(w.count("exo_mm_frames_reclaimed_total") == 15);
    CHECK(w.count("exo_mm_out_of_memory_kills_total") == 12);
}

TEST_CASE_TEMPLATE(
    "what the heap holds by class, in caches and beyond the classes, and what it did, is counted by name", Policy,
    mm::unchecked_heap, mm::checked_heap)
{
    using heap_type = mm::heap<plain::memory, plain::frame_allocator, plain::interrupts, plain::cpus, Policy>;
    plain::frames frames{64};
    frames.add_all();
    plain::memory memory{frames.first, 64};
    std::vector<mm::heap_cache> caches(1);
    heap_type heap{memory, frames.allocator, frames.interrupt_control, frames.cpu, caches};
    mm::heap_metrics source{heap};
    trace::registry registry;
    registry.add(source);
    const auto count = [&](std::string_view name) { return registry.value(name).value(); };

    // 1000 bytes and a red zone of 16 take a class of 1024, whose magazine holds 16 objects and is refilled by 8.
    constexpr std::size_t bytes = 1000, batch = 8;
    std::vector<void*> taken;
    const auto take = [&](std::size_t n) {
        for (std::size_t i = 0; i < n; ++i)
            taken.push_back(heap.allocate(bytes, 8));
    };
    const auto give = [&](std::size_t n) {
        for (std::size_t i = 0; i < n; ++i) {
            heap.deallocate(taken.back(), bytes, 8);
            taken.pop_back();
        }
    };
    take(3 * batch + 1);
    CHECK(count("exo_mm_heap_objects{bytes=\"1024\"}") == 3 * batch + 1);
    CHECK(count("exo_mm_heap_bytes") == (3 * batch + 1) * 1024);
    CHECK(count("exo_mm_heap_refills_total") == 4);
    CHECK(count("exo_mm_heap_spills_total") == 0);
    CHECK(count("exo_mm_heap_frames") == frames.records.size() - frames.allocator.free_frames());
    // What is cached at most is a refill less the object that was wanted; a slab may have had fewer.
    const auto cached = count("exo_mm_heap_cached_bytes") / 1024;
    CHECK(cached < batch);

    give(16 - cached);
    CHECK(count("exo_mm_heap_spills_total") == 0);
    CHECK(count("exo_mm_heap_cached_bytes") == 16 * 1024);
    give(1);
    CHECK(count("exo_mm_heap_spills_total") == 1);
    CHECK(count("exo_mm_heap_cached_bytes") == (batch + 1) * 1024);
    CHECK(count("exo_mm_heap_objects{bytes=\"1024\"}") == taken.size());
    CHECK(count("exo_mm_heap_objects{bytes=\"16\"}") == 0);
    CHECK(count("exo_mm_heap_refills_total") == 4);

    const auto large = 5 * page_size, notes = std::is_same_v<Policy, mm::checked_heap> ? std::size_t{1} : 0;
    const auto before = count("exo_mm_heap_frames");
    void* object = heap.allocate(large, 8);
    CHECK(count("exo_mm_heap_large_frames") == 8);
    CHECK(count("exo_mm_heap_large_allocated_total") == 1);
    CHECK(count("exo_mm_heap_frames") == before + 8 + notes);
    heap.deallocate(object, large, 8);
    CHECK(count("exo_mm_heap_large_frames") == 0);
    CHECK(count("exo_mm_heap_large_allocated_total") == 1);

    CHECK(heap.allocate(64 * page_size, 8) == nullptr);
    CHECK(count("exo_mm_heap_failures_total") == 1);
    while (void* at = heap.allocate(bytes, 8))
        taken.push_back(at);
    CHECK(count("exo_mm_heap_failures_total") == 2);
    const auto refills = count("exo_mm_heap_refills_total");
    CHECK(heap.allocate(bytes, 8) == nullptr);
    CHECK(count("exo_mm_heap_refills_total") == refills);
    CHECK(count("exo_mm_heap_objects{bytes=\"1024\"}") == taken.size());
    give(taken.size());
    CHECK(count("exo_mm_heap_bytes") == 0);
}

} // namespace
