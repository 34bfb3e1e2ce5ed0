// What the heap holds and did, by name, for a trace::registry; of each size class, how many objects are in use.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string_view>

#include <exo/mm/heap.hpp>
#include <exo/trace/registry.hpp>

namespace exo::mm {

// Heap is a heap.
template <class Heap>
class heap_metrics final : public trace::source {
public:
    explicit heap_metrics(const Heap& heap) : heap_{heap} {}

    std::size_t size() const noexcept override { return std::size(table) + heap_classes::count; }
    trace::metric describe(std::size_t index) const noexcept override
    {
        if (index < std::size(table))
            return table[index].what;
        return {"exo_mm_heap_objects", "Objects in use, by the size of their class", trace::metric_kind::gauge,
                labels[index - std::size(table)].text()};
    }
    std::uint64_t read(std::size_t index) const noexcept override
    {
        return index < std::size(table) ? table[index].read(heap_) : heap_.objects_in_use(index - std::size(table));
    }

private:
    using row = trace::table_row<Heap>;

    static constexpr row table[] = {
        {{"exo_mm_heap_frames", "Frames that the heap holds", trace::metric_kind::gauge},
         [](const Heap& h) noexcept { return h.frames_held(); }},
        {{"exo_mm_heap_large_frames", "Those of objects larger than every class", trace::metric_kind::gauge},
         [](const Heap& h) noexcept { return h.large_frames(); }},
        {{"exo_mm_heap_bytes", "Bytes in objects in use, rounded up to their classes", trace::metric_kind::gauge},
         [](const Heap& h) noexcept { return h.bytes_in_use(); }},
        {{"exo_mm_heap_cached_bytes", "Bytes in free objects that CPUs keep at hand", trace::metric_kind::gauge},
         [](const Heap& h) noexcept {
             std::uint64_t sum = 0;
             for (std::size_t i = 0; i < heap_classes::count; ++i)
                 sum += h.objects_cached(i) * heap_classes::sizes[i];
             return sum;
         }},
        {{"exo_mm_heap_refills_total", "Times that a CPU ran out of free objects of a class and got some",
          trace::metric_kind::counter},
         [](const Heap& h) noexcept { return h.counters().refills; }},
        {{"exo_mm_heap_spills_total", "Times that a CPU had too many of a class and gave half back",
          trace::metric_kind::counter},
         [](const Heap& h) noexcept { return h.counters().spills; }},
        {{"exo_mm_heap_large_allocated_total", "Objects allocated that were larger than every class",
          trace::metric_kind::counter},
         [](const Heap& h) noexcept { return h.counters().large_allocated; }},
        {{"exo_mm_heap_failures_total", "Allocations of objects that failed", trace::metric_kind::counter},
         [](const Heap& h) noexcept { return h.counters().failures; }},
    };

    // {bytes="64"}
    class label {
    public:
        constexpr label() = default;
        explicit constexpr label(std::uint16_t bytes)
        {
            put("{bytes=\"");
            for (std::uint16_t power = 1000; power != 0; power /= 10)
                if (bytes >= power)
                    text_[size_++] = static_cast<char>('0' + bytes / power % 10);
            put("\"}");
        }
        [[nodiscard]] constexpr std::string_view text() const { return {text_, size_}; }

    private:
        constexpr void put(std::string_view part)
        {
            for (const char c : part)
                text_[size_++] = c;
        }

        char text_[16]{};
        std::size_t size_{};
    };
    static constexpr std::array<label, heap_classes::count> labels = [] {
        std::array<label, heap_classes::count> all;
        for (std::size_t i = 0; i < all.size(); ++i)
            all[i] = label{heap_classes::sizes[i]};
        return all;
    }();

    const Heap& heap_;
};

} // namespace exo::mm
