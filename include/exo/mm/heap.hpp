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
#include <type_traits>
#include <utility>

#include <exo/base/address.hpp>
#include <exo/base/allocator.hpp>
#include <exo/base/check.hpp>
#include <exo/base/list.hpp>
#include <exo/base/page.hpp>
#include <exo/base/tree.hpp>
#include <exo/hal/cpu_local.hpp>
#include <exo/hal/frame_source.hpp>
#include <exo/hal/interrupt_control.hpp>
#include <exo/hal/phys_access.hpp>
#include <exo/mm/heap_policy.hpp>
#include <exo/sync/lock_rank.hpp>
#include <exo/sync/per_cpu.hpp>
#include <exo/sync/spin_lock.hpp>
#include <exo/trace/counter.hpp>

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
    // The smallest class for `bytes` (up to largest) at an alignment of up to 16.
    [[nodiscard]] static constexpr std::size_t index_of(std::size_t bytes)
    {
        return by_granules[(bytes + granule - 1) / granule];
    }
    // How many objects a CPU may keep at hand: as many as make 16 KiB, within limits.
    [[nodiscard]] static constexpr std::uint32_t magazine_size(std::size_t index) { return magazine_sizes[index]; }
    static constexpr std::uint32_t largest_magazine = 63;

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
    static constexpr auto magazine_sizes = [] {
        std::array<std::uint8_t, count> table{};
        for (std::size_t index = 0; index < count; ++index) {
            const auto fitting = 4 * page_size / sizes[index];
            table[index] = static_cast<std::uint8_t>(fitting < largest_magazine ? fitting : largest_magazine);
        }
        return table;
    }();
};

// Free objects that one CPU keeps at hand. Only that CPU changes it, with interrupts off; others read the counts.
struct alignas(64) heap_cache {
    // The object freed last is the next to be allocated: its lines are warm.
    struct magazine {
        std::atomic<std::uint32_t> count{};
        void* objects[heap_classes::largest_magazine];
    };
    magazine magazines[heap_classes::count];
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
        for (heap_cache& cache : caches_.at_rest())
            for (std::size_t i = 0; i < heap_classes::count; ++i)
                spill(cache.magazines[i], i, 0);
        for (std::size_t i = 0; i < heap_classes::count; ++i)
            if (depots_[i].spare)
                free_slab(*depots_[i].spare);
        EXO_CHECK(frames_held() == 0);
    }

    [[nodiscard]] void* allocate(std::size_t bytes, std::size_t alignment) noexcept override
    {
        const auto wanted = padded(bytes + Policy::red_zone, alignment);
        if (wanted > heap_classes::largest) [[unlikely]]
            return allocate_large(bytes, alignment);
        const auto index = heap_classes::index_of(wanted);
        const auto saved = interrupts_.save_and_disable();
        magazine& here = caches_.local(sync::already_pinned{interrupts_, cpu_}).magazines[index];
        const auto count = here.count.load(std::memory_order_relaxed);
        if (count == 0) [[unlikely]]
            return marked(allocate_past(here, index, saved), bytes, index);
        void* object = here.objects[count - 1];
        here.count.store(count - 1, std::memory_order_relaxed);
        interrupts_.restore(saved);
        return marked(object, bytes, index);
    }

    void deallocate(void* memory, std::size_t bytes, std::size_t alignment) noexcept override
    {
        const auto wanted = padded(bytes + Policy::red_zone, alignment);
        if (wanted > heap_classes::largest) [[unlikely]]
            return free_large(memory, bytes, alignment);
        const auto index = heap_classes::index_of(wanted);
        if constexpr (Policy::checked) {
            unmark(memory, bytes, index);
            Policy::take_back(memory, bytes, heap_classes::sizes[index]);
        }
        const auto saved = interrupts_.save_and_disable();
        magazine& here = caches_.local(sync::already_pinned{interrupts_, cpu_}).magazines[index];
        const auto count = here.count.load(std::memory_order_relaxed);
        if (count == heap_classes::magazine_size(index)) [[unlikely]]
            return free_past(memory, here, index, saved);
        here.objects[count] = memory;
        here.count.store(count + 1, std::memory_order_relaxed);
        interrupts_.restore(saved);
    }

    // Bytes in objects allocated, rounded up to their classes; a snapshot.
    [[nodiscard]] std::uint64_t bytes_in_use() const noexcept
    {
        auto sum = large_frames() * page_size;
        for (std::size_t i = 0; i < heap_classes::count; ++i)
            sum += objects_in_use(i) * heap_classes::sizes[i];
        return sum;
    }
    // Objects allocated of one class, and those that CPUs keep at hand.
    [[nodiscard]] std::uint64_t objects_in_use(std::size_t index) const noexcept
    {
        return depots_[index].lent.load(std::memory_order_relaxed) - objects_cached(index);
    }
    [[nodiscard]] std::uint64_t objects_cached(std::size_t index) const noexcept
    {
        std::uint64_t sum = 0;
        for (const heap_cache& cache : caches_.all())
            sum += cache.magazines[index].count.load(std::memory_order_relaxed);
        return sum;
    }
    // Those in objects that are larger than every class.
    [[nodiscard]] std::uint64_t large_frames() const noexcept { return large_frames_.load(std::memory_order_relaxed); }

    // What happened beside the usual pair of calls, which counts nothing.
    struct counts {
        std::uint64_t refills, spills; // of magazines
        std::uint64_t large_allocated, failures;
    };
    [[nodiscard]] counts counters() const noexcept
    {
        counts all{0, 0, large_allocated_.value(), failures_.value()};
        for (const depot& d : depots_) {
            all.refills += d.refills.value();
            all.spills += d.spills.value();
        }
        return all;
    }
    // Frames that the heap holds, in use or not.
    [[nodiscard]] std::uint64_t frames_held() const noexcept { return frames_held_.load(std::memory_order_relaxed); }

private:
    static constexpr unsigned largest_order = 10;

    using magazine = heap_cache::magazine;
    using counter = trace::counter<trace::recording>;
    using shared_counter = trace::shared_counter<trace::recording>;

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
        std::atomic<std::uint64_t> lent{}; // objects in no slab: allocated, or in a magazine
        counter refills, spills;           // of magazines
    };

    // When checked, of each large object.
    struct large_object {
        tree_hook hook{};
        std::byte* begin;
        std::size_t bytes;
        std::size_t size; // of its frames
    };
    struct large_objects {
        sync::spin_lock<sync::lock_rank::heap, Interrupts> lock;
        tree<large_object, &large_object::hook, &large_object::begin> objects;
    };
    struct nothing {};

    // How many bytes the class must have, so that the alignment follows: up to that of the header, an object of a class
    // is aligned to every power of two that divides the size of the class.
    [[nodiscard]] static std::size_t padded(std::size_t bytes, std::size_t alignment)
    {
        if (alignment <= heap_classes::granule) [[likely]]
            return bytes;
        if (alignment <= heap_classes::slab_header)
            return bytes == 0 ? alignment : (bytes + alignment - 1) & ~(alignment - 1);
        const auto in_frames = alignment > heap_classes::largest ? alignment : heap_classes::largest + 1;
        return bytes < in_frames ? in_frames : bytes;
    }
    [[nodiscard]] static void*& next_of(void* object) { return *static_cast<void**>(object); }
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
    // A red zone of their own would double the blocks of a whole power of two: when checked, what is left has to do.
    [[gnu::noinline]] void* allocate_large(std::size_t bytes, std::size_t alignment) noexcept
    {
        const auto order = order_of(large(bytes, alignment));
        std::byte* memory = take_frames(order);
        if constexpr (Policy::checked) {
            if (memory && !mark_large(memory, bytes, page_size << order)) {
                give_frames(memory, order);
                memory = nullptr;
            }
        }
        if (!memory) {
            failures_.add();
            return nullptr;
        }
        large_allocated_.add();
        large_frames_.fetch_add(std::uint64_t{1} << order, std::memory_order_relaxed);
        return memory;
    }
    [[gnu::noinline]] void free_large(void* memory, std::size_t bytes, std::size_t alignment) noexcept
    {
        const auto order = order_of(large(bytes, alignment));
        if constexpr (Policy::checked)
            unmark_large(static_cast<std::byte*>(memory), bytes, page_size << order);
        large_frames_.fetch_sub(std::uint64_t{1} << order, std::memory_order_relaxed);
        give_frames(memory, order);
    }
    [[nodiscard]] static std::size_t large(std::size_t bytes, std::size_t alignment)
    {
        const auto wanted = padded(bytes, alignment);
        return wanted > heap_classes::largest ? wanted : heap_classes::largest + 1;
    }

    // Slabs.

    [[nodiscard]] slab& slab_of(void* object, std::size_t index) const
    {
        const auto begin = phys_.to_physical(object).align_down(page_size << heap_classes::slab_order(index));
        return *reinterpret_cast<slab*>(phys_.to_pointer(begin));
    }

    using interrupt_state = typename Interrupts::state;

    // The rest of allocate, from an empty magazine, and of deallocate, to a full one.
    [[gnu::noinline]] void* allocate_past(magazine& here, std::size_t index, interrupt_state saved) noexcept
    {
        void* object = nullptr;
        if (auto count = refill(here, index); count != 0) {
            object = here.objects[--count];
            here.count.store(count, std::memory_order_relaxed);
        } else {
            failures_.add();
        }
        interrupts_.restore(saved);
        return object;
    }
    [[gnu::noinline]] void free_past(void* memory, magazine& here, std::size_t index, interrupt_state saved) noexcept
    {
        const auto count = spill(here, index, heap_classes::magazine_size(index) / 2);
        here.objects[count] = memory;
        here.count.store(count + 1, std::memory_order_relaxed);
        interrupts_.restore(saved);
    }

    // Fills half of an empty magazine, if there is memory; the new count. Interrupts are off.
    std::uint32_t refill(magazine& to, std::size_t index) noexcept
    {
        depot& from = depots_[index];
        auto guard = from.lock.lock(interrupts_);
        std::uint32_t count = 0;
        for (; count < heap_classes::magazine_size(index) / 2; ++count) {
            slab* source = from.usable.front();
            if (!source) {
                // Memory for one object is reason enough to go on; for stocking up, what there is will do.
                source = from.spare ? std::exchange(from.spare, nullptr) : count == 0 ? make_slab(index) : nullptr;
                if (!source)
                    break;
                from.usable.push_front(*source);
            }
            to.objects[count] = take(*source);
            if (source->free == 0)
                from.usable.erase(*source);
        }
        lend(from, count);
        from.refills.add(count != 0);
        to.count.store(count, std::memory_order_relaxed);
        return count;
    }

    // Takes all but the `kept` objects that were freed last out of the magazine; the new count. Interrupts are off.
    std::uint32_t spill(magazine& from, std::size_t index, std::uint32_t kept) noexcept
    {
        depot& to = depots_[index];
        auto guard = to.lock.lock(interrupts_);
        const auto leaving = from.count.load(std::memory_order_relaxed) - kept;
        for (std::uint32_t i = 0; i < leaving; ++i)
            give_back(to, from.objects[i], index);
        for (std::uint32_t i = 0; i < kept; ++i)
            from.objects[i] = from.objects[leaving + i];
        lend(to, -std::uint64_t{leaving});
        to.spills.add();
        from.count.store(kept, std::memory_order_relaxed);
        return kept;
    }

    // Under the lock; others read it meanwhile.
    static void lend(depot& d, std::uint64_t objects) noexcept
    {
        d.lent.store(d.lent.load(std::memory_order_relaxed) + objects, std::memory_order_relaxed);
    }
    void* take(slab& from) noexcept
    {
        void* object = from.first;
        void* next = next_of(object);
        if constexpr (Policy::checked) {
            if (next && !is_object(from, next))
                Policy::report("was written to after it was freed", object, heap_classes::sizes[from.index]);
            Policy::release(object, sizeof next); // what it holds, but for the link
        }
        from.first = next;
        --from.free;
        return object;
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
                Policy::release(object, size);
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

    [[nodiscard]] static std::size_t offset_in(const slab& s, const void* object) noexcept
    {
        return static_cast<std::size_t>(static_cast<const std::byte*>(object) - reinterpret_cast<const std::byte*>(&s)) -
               heap_classes::slab_header;
    }
    [[nodiscard]] static bool is_object(const slab& s, const void* object) noexcept
    {
        const auto size = heap_classes::sizes[s.index];
        const auto offset = offset_in(s, object);
        return offset % size == 0 && offset / size < heap_classes::objects_per_slab(s.index);
    }
    // Of the bit that says whether an object is allocated: inverts it; what it was.
    static bool flip(slab& home, const void* object) noexcept
    {
        const auto place = offset_in(home, object) / heap_classes::sizes[home.index];
        const auto bit = std::uint64_t{1} << (place % 64);
        return (home.allocated[place / 64].fetch_xor(bit, std::memory_order_relaxed) & bit) != 0;
    }
    [[nodiscard]] void* marked(void* object, [[maybe_unused]] std::size_t bytes,
                               [[maybe_unused]] std::size_t index) const noexcept
    {
        if constexpr (Policy::checked) {
            if (object) {
                flip(slab_of(object, index), object);
                Policy::hand_out(object, bytes, heap_classes::sizes[index]);
            }
        }
        return object;
    }
    void unmark(void* object, std::size_t bytes, std::size_t index) const noexcept
    {
        slab& home = slab_of(object, index);
        if (home.index != index) [[unlikely]]
            Policy::report("is freed with another size than it was allocated with", object, bytes);
        if (!is_object(home, object)) [[unlikely]]
            Policy::report("is freed, but begins elsewhere", object, bytes);
        if (!flip(home, object)) [[unlikely]]
            Policy::report("is freed twice", object, bytes);
    }

    // Whether there was memory to note the object.
    [[nodiscard]] bool mark_large(std::byte* memory, std::size_t bytes, std::size_t size) noexcept
    {
        void* place = allocate(sizeof(large_object), alignof(large_object));
        if (!place)
            return false;
        auto* note = ::new (place) large_object{.begin = memory, .bytes = bytes, .size = size};
        Policy::hand_out_large(memory, bytes, size);
        auto guard = large_.lock.lock(interrupts_);
        large_.objects.insert(*note);
        return true;
    }
    void unmark_large(std::byte* memory, std::size_t bytes, std::size_t size) noexcept
    {
        large_object* note = take_note(memory, bytes, size);
        Policy::take_back_large(memory, bytes, size);
        note->~large_object();
        deallocate(note, sizeof(large_object), alignof(large_object));
    }
    [[nodiscard]] large_object* take_note(std::byte* memory, std::size_t bytes, std::size_t size) noexcept
    {
        auto guard = large_.lock.lock(interrupts_);
        auto* const behind = large_.objects.upper_bound(memory);
        large_object* const found = behind ? large_.objects.previous(*behind) : large_.objects.last();
        if (!found || memory >= found->begin + found->size) [[unlikely]]
            // Small objects never begin with a page.
            Policy::report(phys_.to_physical(memory).is_aligned(page_size)
                               ? "is freed twice"
                               : "is freed with another size than it was allocated with",
                           memory, bytes);
        if (memory != found->begin) [[unlikely]]
            Policy::report("is freed, but begins elsewhere", memory, bytes);
        if (bytes != found->bytes || size != found->size) [[unlikely]]
            Policy::report("is freed with another size than it was allocated with", memory, bytes);
        large_.objects.erase(*found);
        return found;
    }

    const Phys& phys_;
    Frames& frames_;
    Interrupts& interrupts_;
    const Cpu& cpu_;
    const sync::per_cpu<heap_cache> caches_;
    depot depots_[heap_classes::count];
    std::atomic<std::uint64_t> frames_held_{};
    std::atomic<std::uint64_t> large_frames_{};
    shared_counter large_allocated_;
    shared_counter failures_;
    [[no_unique_address]] std::conditional_t<Policy::checked, large_objects, nothing> large_;
};

} // namespace exo::mm
