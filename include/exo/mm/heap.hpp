// The kernel's heap: objects of up to 2 KiB in slabs of one size class each (Bonwick 1994), larger ones in frames of
// their own. Before the slabs stands a cache per CPU and class, so that the usual pair of calls touches nothing shared.
//
// The caller supplies one heap_cache for each CPU, and a PhysAccess that shows every block of frames in one piece.
// Thread-safe, interrupt-safe. Every allocation is aligned at least to 16 bytes; alignments above a page are those of
// the physical address. What is cached on one CPU serves that CPU only.

#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <utility>

#include <exo/base/address.hpp>
#include <exo/base/allocator.hpp>
#include <exo/base/check.hpp>
#include <exo/base/list.hpp>
#include <exo/base/page.hpp>
#include <exo/hal/cpu_local.hpp>
#include <exo/hal/frame_source.hpp>
#include <exo/hal/interrupt_control.hpp>
#include <exo/hal/phys_access.hpp>
#include <exo/sync/lock_rank.hpp>
#include <exo/sync/spin_lock.hpp>

namespace exo::mm {

// Which slabs there are. Objects follow a header of slab_header bytes.
struct heap_classes {
    static constexpr std::array<std::uint16_t, 14> sizes{16,  32,  48,  64,  96,   128,  192,
                                                         256, 384, 512, 768, 1024, 1536, 2048};
    static constexpr std::size_t count = sizes.size();
    static constexpr std::size_t largest = sizes.back();
    static constexpr std::size_t granule = 16;
    static constexpr std::size_t slab_header = 64;

    // A slab has so many frames that at most an eighth is lost.
    [[nodiscard]] static constexpr unsigned slab_order(std::size_t index)
    {
        return sizes[index] <= 512 ? 0 : sizes[index] <= 1024 ? 1 : 2;
    }
    [[nodiscard]] static constexpr std::uint32_t objects_per_slab(std::size_t index)
    {
        return static_cast<std::uint32_t>(((page_size << slab_order(index)) - slab_header) / sizes[index]);
    }
    // The smallest class for `bytes` (1 to largest) at an alignment of up to 16.
    [[nodiscard]] static constexpr std::size_t index_of(std::size_t bytes)
    {
        return by_granules[(bytes + granule - 1) / granule];
    }

private:
    static constexpr auto by_granules = [] {
        std::array<std::uint8_t, largest / granule + 1> table{};
        for (std::size_t g = 0, index = 0; g < table.size(); ++g) {
            while (sizes[index] < g * granule)
                ++index;
            table[g] = static_cast<std::uint8_t>(index);
        }
        return table;
    }();
};

// Free objects that one CPU keeps at hand. Only that CPU changes it, with interrupts off; others read the sums.
struct alignas(64) heap_cache {
    struct shelf {
        void* first{};
        std::uint32_t count{};
    };
    shelf shelves[heap_classes::count];
    std::atomic<std::int64_t> bytes_in_use{}; // may be negative: objects are freed on other CPUs than they came from
};

// Heap policies: what is done to find misuse.
struct unchecked_heap {
    static constexpr bool checked = false;
};
// Freed objects are filled with a pattern that must be there still when they are allocated again; freeing what is free,
// or what is no object, is found at once.
struct checked_heap {
    static constexpr bool checked = true;
    static constexpr std::byte freed{0xdf};
    static constexpr std::byte fresh{0xa5};
};

template <hal::PhysAccess Phys, hal::FrameSource Frames, hal::InterruptControl Interrupts, hal::CpuLocal Cpu,
          class Policy = unchecked_heap>
class heap final : public allocator {
public:
    heap(const Phys& phys, Frames& frames, Interrupts& interrupts, const Cpu& cpu, std::span<heap_cache> caches)
        : phys_{phys}, frames_{frames}, interrupts_{interrupts}, cpu_{cpu}, caches_{caches}
    {
    }
    heap(const heap&) = delete;
    heap& operator=(const heap&) = delete;
    // Everything was given back.
    ~heap()
    {
        for (heap_cache& cache : caches_)
            for (std::size_t i = 0; i < heap_classes::count; ++i)
                spill(cache.shelves[i], i, 0);
        for (std::size_t i = 0; i < heap_classes::count; ++i)
            if (depots_[i].spare)
                free_slab(*depots_[i].spare);
        EXO_CHECK(frames_held() == 0);
    }

    [[nodiscard]] void* allocate(std::size_t bytes, std::size_t alignment) noexcept override
    {
        const auto wanted = padded(bytes, alignment);
        if (wanted > heap_classes::largest) [[unlikely]]
            return allocate_large(wanted);
        const auto index = heap_classes::index_of(wanted);
        const auto saved = interrupts_.save_and_disable();
        heap_cache& cache = caches_[cpu_.current_cpu()];
        heap_cache::shelf& shelf = cache.shelves[index];
        void* object = shelf.first;
        if (!object) [[unlikely]]
            object = refill(shelf, index);
        if (object) {
            shelf.first = next_of(object);
            --shelf.count;
            count(cache, heap_classes::sizes[index]);
        }
        interrupts_.restore(saved);
        if constexpr (Policy::checked)
            if (object)
                mark_allocated(object, index);
        return object;
    }

    void deallocate(void* memory, std::size_t bytes, std::size_t alignment) noexcept override
    {
        const auto wanted = padded(bytes, alignment);
        if (wanted > heap_classes::largest) [[unlikely]]
            return free_large(memory, wanted);
        const auto index = heap_classes::index_of(wanted);
        if constexpr (Policy::checked)
            mark_freed(memory, index);
        const auto saved = interrupts_.save_and_disable();
        heap_cache& cache = caches_[cpu_.current_cpu()];
        heap_cache::shelf& shelf = cache.shelves[index];
        if (shelf.count >= shelf_limit(index)) [[unlikely]]
            spill(shelf, index, shelf_limit(index) / 2);
        next_of(memory) = shelf.first;
        shelf.first = memory;
        ++shelf.count;
        count(cache, -std::int64_t{heap_classes::sizes[index]});
        interrupts_.restore(saved);
    }

    // Bytes in objects allocated, rounded up to their classes; a snapshot.
    [[nodiscard]] std::uint64_t bytes_in_use() const noexcept
    {
        std::int64_t sum = 0;
        for (const heap_cache& cache : caches_)
            sum += cache.bytes_in_use.load(std::memory_order_relaxed);
        return static_cast<std::uint64_t>(sum);
    }
    // Frames that the heap holds, in use or not.
    [[nodiscard]] std::uint64_t frames_held() const noexcept { return frames_held_.load(std::memory_order_relaxed); }

private:
    static constexpr unsigned largest_order = 10;

    // At the start of each slab's first frame.
    struct slab {
        list_hook hook; // among those with free objects
        void* first{};  // of its free objects
        std::uint32_t free{};
        std::uint32_t index{};
        std::atomic<std::uint64_t> allocated[4]{}; // when checked: a bit per object
    };
    static_assert(sizeof(slab) <= heap_classes::slab_header && heap_classes::objects_per_slab(0) <= 256);

    // What all CPUs share of one class.
    struct alignas(64) depot {
        sync::spin_lock<sync::lock_rank::heap, Interrupts> lock;
        list<slab, &slab::hook> usable; // slabs with some objects free and some not
        slab* spare{}; // one with all of them free, so that a single object does not cost a frame each time
    };

    // How many bytes the class must have, so that the alignment follows: up to that of the header, an object of a class
    // is aligned to every power of two that divides the size of the class.
    [[nodiscard]] static std::size_t padded(std::size_t bytes, std::size_t alignment)
    {
        if (alignment <= heap_classes::granule) [[likely]]
            return bytes == 0 ? 1 : bytes;
        if (alignment <= heap_classes::slab_header)
            return bytes == 0 ? alignment : (bytes + alignment - 1) & ~(alignment - 1);
        const auto in_frames = alignment > heap_classes::largest ? alignment : heap_classes::largest + 1;
        return bytes < in_frames ? in_frames : bytes;
    }
    [[nodiscard]] static void*& next_of(void* object) { return *static_cast<void**>(object); }
    [[nodiscard]] static constexpr std::uint32_t shelf_limit(std::size_t index)
    {
        const auto fitting = 4 * page_size / heap_classes::sizes[index];
        return static_cast<std::uint32_t>(fitting > 64 ? 64 : fitting);
    }
    static void count(heap_cache& cache, std::int64_t bytes)
    {
        cache.bytes_in_use.store(cache.bytes_in_use.load(std::memory_order_relaxed) + bytes, std::memory_order_relaxed);
    }

    // Frames.

    [[nodiscard]] static unsigned order_of(std::size_t bytes)
    {
        return static_cast<unsigned>(std::bit_width((bytes - 1) >> page_shift));
    }
    [[nodiscard]] frame_number frame_of(const void* memory) const { return frame_number{phys_.to_physical(memory)}; }
    [[nodiscard]] std::byte* take_frames(unsigned order) noexcept
    {
        if (order > largest_order)
            return nullptr;
        const auto first = frames_.allocate(order);
        if (!first)
            return nullptr;
        frames_held_.fetch_add(std::uint64_t{1} << order, std::memory_order_relaxed);
        return phys_.to_pointer(first->address());
    }
    void give_frames(void* memory, unsigned order) noexcept
    {
        frames_held_.fetch_sub(std::uint64_t{1} << order, std::memory_order_relaxed);
        frames_.free(frame_of(memory), order);
    }
    void count_here(std::int64_t bytes) noexcept
    {
        const auto saved = interrupts_.save_and_disable();
        count(caches_[cpu_.current_cpu()], bytes);
        interrupts_.restore(saved);
    }
    [[gnu::noinline]] void* allocate_large(std::size_t bytes) noexcept
    {
        std::byte* memory = take_frames(order_of(bytes));
        if (memory)
            count_here(static_cast<std::int64_t>(page_size << order_of(bytes)));
        return memory;
    }
    [[gnu::noinline]] void free_large(void* memory, std::size_t bytes) noexcept
    {
        count_here(-static_cast<std::int64_t>(page_size << order_of(bytes)));
        give_frames(memory, order_of(bytes));
    }

    // Slabs.

    [[nodiscard]] slab& slab_of(void* object, std::size_t index) const
    {
        const auto begin = phys_.to_physical(object).align_down(page_size << heap_classes::slab_order(index));
        return *reinterpret_cast<slab*>(phys_.to_pointer(begin));
    }

    // Interrupts are off. Returns the first object of the shelf, or null when memory is out.
    [[gnu::noinline]] void* refill(heap_cache::shelf& shelf, std::size_t index) noexcept
    {
        depot& from = depots_[index];
        auto guard = from.lock.lock(interrupts_);
        while (shelf.count < shelf_limit(index) / 2) {
            slab* source = from.usable.front();
            if (!source) {
                // Memory for one object is reason enough to go on; for stocking up, what there is will do.
                source = from.spare         ? std::exchange(from.spare, nullptr)
                         : shelf.count == 0 ? make_slab(index)
                                            : nullptr;
                if (!source)
                    break;
                from.usable.push_front(*source);
            }
            void* object = std::exchange(source->first, next_of(source->first));
            if (--source->free == 0)
                from.usable.erase(*source);
            next_of(object) = shelf.first;
            shelf.first = object;
            ++shelf.count;
        }
        return shelf.first;
    }

    // Takes all but the `kept` objects that were freed last off the shelf. Interrupts are off.
    [[gnu::noinline]] void spill(heap_cache::shelf& shelf, std::size_t index, std::uint32_t kept) noexcept
    {
        void** cut = &shelf.first;
        for (std::uint32_t i = 0; i < kept && *cut; ++i)
            cut = &next_of(*cut);
        void* object = std::exchange(*cut, nullptr);
        depot& to = depots_[index];
        auto guard = to.lock.lock(interrupts_);
        while (object) {
            void* next = next_of(object);
            give_back(to, object, index);
            --shelf.count;
            object = next;
        }
    }

    void give_back(depot& to, void* object, std::size_t index) noexcept
    {
        slab& home = slab_of(object, index);
        next_of(object) = home.first;
        home.first = object;
        if (++home.free == 1)
            to.usable.push_front(home);
        if (home.free < heap_classes::objects_per_slab(index))
            return;
        to.usable.erase(home);
        if (to.spare)
            free_slab(home);
        else
            to.spare = &home;
    }

    [[nodiscard]] slab* make_slab(std::size_t index) noexcept
    {
        std::byte* memory = take_frames(heap_classes::slab_order(index));
        if (!memory)
            return nullptr;
        auto* made = ::new (memory) slab;
        made->index = static_cast<std::uint32_t>(index);
        made->free = heap_classes::objects_per_slab(index);
        const std::size_t size = heap_classes::sizes[index];
        for (std::uint32_t i = made->free; i-- > 0;) {
            std::byte* object = memory + heap_classes::slab_header + i * size;
            if constexpr (Policy::checked)
                fill(object, Policy::freed, size);
            next_of(object) = made->first;
            made->first = object;
        }
        return made;
    }
    void free_slab(slab& s) noexcept
    {
        const auto order = heap_classes::slab_order(s.index);
        s.~slab();
        give_frames(&s, order);
    }

    // Checks.

    static void fill(void* memory, std::byte with, std::size_t bytes)
    {
        __builtin_memset(memory, static_cast<int>(with), bytes);
    }
    // The bit that stands for an object, flipped; whether it was set.
    bool flip(void* object, std::size_t index) const noexcept
    {
        slab& home = slab_of(object, index);
        EXO_CHECK(home.index == index); // else it was allocated with another size
        const auto offset =
            static_cast<std::size_t>(static_cast<std::byte*>(object) - reinterpret_cast<std::byte*>(&home)) -
            heap_classes::slab_header;
        const auto place = offset / heap_classes::sizes[index];
        EXO_CHECK(offset % heap_classes::sizes[index] == 0 && place < heap_classes::objects_per_slab(index));
        const auto bit = std::uint64_t{1} << (place % 64);
        return (home.allocated[place / 64].fetch_xor(bit, std::memory_order_relaxed) & bit) != 0;
    }
    void mark_allocated(void* object, std::size_t index) const noexcept
    {
        EXO_CHECK(!flip(object, index));
        const auto* bytes = static_cast<const std::byte*>(object);
        for (std::size_t i = sizeof(void*); i < heap_classes::sizes[index]; ++i)
            EXO_CHECK(bytes[i] == Policy::freed); // else somebody wrote to it after it was freed
        fill(object, Policy::fresh, heap_classes::sizes[index]);
    }
    void mark_freed(void* object, std::size_t index) const noexcept
    {
        EXO_CHECK(flip(object, index)); // else it is freed for the second time
        fill(object, Policy::freed, heap_classes::sizes[index]);
    }

    const Phys& phys_;
    Frames& frames_;
    Interrupts& interrupts_;
    const Cpu& cpu_;
    std::span<heap_cache> caches_;
    depot depots_[heap_classes::count];
    std::atomic<std::uint64_t> frames_held_{};
};

} // namespace exo::mm
