// What memory management counts, read by name as a kernel shows it.

#include <doctest/doctest.h>

#include <string_view>
#include <vector>

#include <exo/arch/x86_64/paging.hpp>
#include <exo/mm/metrics.hpp>

#include "space_world.hpp"

using namespace exo;

namespace {

struct counted : space_test::world<x86_64::paging_4_level> {
    counted() : world{1024} { registry.add(source); }
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

} // namespace
