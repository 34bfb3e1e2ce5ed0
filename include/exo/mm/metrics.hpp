// What memory management counts, by name, for a trace::registry.

#pragma once

#include <exo/mm/fault.hpp>
#include <exo/mm/frame_allocator.hpp>
#include <exo/mm/memory_system.hpp>
#include <exo/trace/registry.hpp>

namespace exo::mm {

// Memory is a memory_system.
template <class Memory>
struct metrics {
    using row = trace::table_row<Memory>;

    template <fault_kind Kind>
    static constexpr row faults(std::string_view name, std::string_view help)
    {
        return {{name, help, trace::metric_kind::counter}, [](const Memory& m) noexcept { return m.faults(Kind); }};
    }

    static constexpr row table[] = {
        {{"exo_mm_frames", "Frames of memory that the kernel hands out", trace::metric_kind::gauge},
         [](const Memory& m) noexcept { return m.frames.total_frames(); }},
        {{"exo_mm_frames_free", "Those that nobody uses", trace::metric_kind::gauge},
         [](const Memory& m) noexcept { return m.frames.free_frames(); }},
        {{"exo_mm_frames_free_below_4gib", "Those of them below 4 GiB, and in no cache of a CPU",
          trace::metric_kind::gauge},
         [](const Memory& m) noexcept { return m.frames.free_frames(frame_zone::below_4gib); }},
        {{"exo_mm_frames_free_above_4gib", "Those above", trace::metric_kind::gauge},
         [](const Memory& m) noexcept { return m.frames.free_frames(frame_zone::above); }},
        {{"exo_mm_frames_cached", "Those in the caches of CPUs", trace::metric_kind::gauge},
         [](const Memory& m) noexcept { return m.frames.cached_frames(); }},
        {{"exo_mm_frames_allocated_total", "Frames allocated, singly or in blocks", trace::metric_kind::counter},
         [](const Memory& m) noexcept { return m.frames.frames_allocated(); }},
        {{"exo_mm_frames_freed_total", "Frames freed", trace::metric_kind::counter},
         [](const Memory& m) noexcept { return m.frames.frames_freed(); }},
        {{"exo_mm_frame_failures_total", "Allocations of frames that failed", trace::metric_kind::counter},
         [](const Memory& m) noexcept { return m.frames.counters().failures.value(); }},
        {{"exo_mm_frame_cache_refills_total", "Times that a CPU's cache ran out of single frames and got some",
          trace::metric_kind::counter},
         [](const Memory& m) noexcept { return m.frames.counters().refills.value(); }},
        {{"exo_mm_frame_cache_spills_total", "Times that a CPU's cache was full and gave half back",
          trace::metric_kind::counter},
         [](const Memory& m) noexcept { return m.frames.counters().spills.value(); }},
        {{"exo_mm_frame_cache_drains_total", "Times that all caches were emptied for want of frames",
          trace::metric_kind::counter},
         [](const Memory& m) noexcept { return m.frames.counters().drains.value(); }},
        {{"exo_mm_page_tables", "Page tables of address spaces", trace::metric_kind::gauge},
         [](const Memory& m) noexcept { return m.counted(&memory_counters::tables); }},
        {{"exo_mm_tables_unshared_total", "Page tables copied because one of several users changed something below",
          trace::metric_kind::counter},
         [](const Memory& m) noexcept { return m.counted(&memory_counters::tables_unshared); }},
        {{"exo_mm_pages_filled_ahead_total", "Pages mapped by a fault beside the one that was touched",
          trace::metric_kind::counter},
         [](const Memory& m) noexcept { return m.counted(&memory_counters::pages_filled_ahead); }},
        {{"exo_mm_large_pages_filled_total", "Faults answered with a large page of zeros", trace::metric_kind::counter},
         [](const Memory& m) noexcept { return m.counted(&memory_counters::large_pages_filled); }},
        {{"exo_mm_large_pages_split_total", "Large pages split because a part was to change",
          trace::metric_kind::counter},
         [](const Memory& m) noexcept { return m.counted(&memory_counters::large_pages_split); }},
        {{"exo_mm_forks_total", "Address spaces forked", trace::metric_kind::counter},
         [](const Memory& m) noexcept { return m.counted(&memory_counters::forks); }},
        {{"exo_mm_reclaims_total", "Times that holders of reclaimable frames were asked", trace::metric_kind::counter},
         [](const Memory& m) noexcept { return m.reclaimer.runs.value(); }},
        {{"exo_mm_frames_reclaimed_total", "Frames that they gave back", trace::metric_kind::counter},
         [](const Memory& m) noexcept { return m.reclaimer.reclaimed.value(); }},
        {{"exo_mm_out_of_memory_kills_total", "Processes ended because memory ran out", trace::metric_kind::counter},
         [](const Memory& m) noexcept { return m.counted(&memory_counters::out_of_memory_kills); }},
        faults<fault_kind::spurious>("exo_mm_faults_spurious_total", "Faults whose translation was there already"),
        faults<fault_kind::demand_zero>("exo_mm_faults_demand_zero_total", "Faults answered with a zeroed page"),
        faults<fault_kind::paged_in>("exo_mm_faults_paged_in_total", "Faults answered with a page of a file"),
        faults<fault_kind::copied>("exo_mm_faults_copied_total", "Copy-on-write faults that copied the page"),
        faults<fault_kind::reused>("exo_mm_faults_reused_total", "Copy-on-write faults by a page's last user"),
        faults<fault_kind::made_writable>("exo_mm_faults_made_writable_total", "First writes to shared pages"),
    };
    static_assert(fault_kind_count == 6);
};

template <class Memory>
using metrics_source = trace::table_source<Memory>;

template <class Memory>
[[nodiscard]] metrics_source<Memory> make_metrics_source(const Memory& memory)
{
    return {metrics<Memory>::table, memory};
}

} // namespace exo::mm
