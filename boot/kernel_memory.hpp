// The kernel half of the address space: built once at boot, then changed only inside of its windows, where kernel
// stacks and device registers come and go.

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include <exo/arch/x86_64/paging.hpp>
#include <exo/arch/x86_64/paging_entries.hpp>
#include <exo/base/errors.hpp>
#include <exo/base/static_vector.hpp>
#include <exo/mm/flush_batch.hpp>
#include <exo/mm/kernel_half_flusher.hpp>
#include <exo/mm/mapper.hpp>
#include <exo/mm/memory_map.hpp>
#include <exo/sync/lock_rank.hpp>
#include <exo/sync/spin_lock.hpp>

#include "layout.hpp"
#include "models.hpp"
#include "processors.hpp"

namespace exo::boot {

// A FrameSource that starts with the memory map and moves over to the kernel's allocator once that stands.
class frame_supply {
public:
    explicit frame_supply(mm::memory_map& early) : early_{&early} {}

    template <hal::FrameSource Frames>
    void switch_to(Frames& frames) noexcept
    {
        frames_ = &frames;
        allocate_ = [](void* from, unsigned order) { return static_cast<Frames*>(from)->allocate(order); };
        free_ = [](void* to, frame_number f, unsigned order) { static_cast<Frames*>(to)->free(f, order); };
    }

    [[nodiscard]] result<frame_number> allocate(unsigned order) noexcept
    {
        if (frames_)
            return allocate_(frames_, order);
        const std::uint64_t bytes = page_size << order;
        const phys_addr taken = EXO_TRY(early_->take(bytes, bytes, layout::entry_map_end));
        taken_early_ += bytes;
        return frame_number{taken};
    }
    void free(frame_number f, unsigned order) noexcept
    {
        if (frames_) {
            free_(frames_, f, order);
        } else {
            EXO_CHECK(early_->add(phys_range::of_size(f.address(), page_size << order)));
            taken_early_ -= page_size << order;
        }
    }

    // What boot took of the memory map and keeps.
    [[nodiscard]] std::uint64_t taken_early() const { return taken_early_; }

private:
    mm::memory_map* early_;
    std::uint64_t taken_early_{};
    void* frames_{};
    result<frame_number> (*allocate_)(void*, unsigned){};
    void (*free_)(void*, frame_number, unsigned){};
};

class kernel_memory {
public:
    static constexpr std::size_t stack_bytes = 4 * page_size;

    // `ram` is what the direct map has to reach; tables come from `frames`. The tables are not loaded yet.
    kernel_memory(frame_supply& frames, std::span<const phys_range> ram, bool gibibyte_pages);
    kernel_memory(const kernel_memory&) = delete;
    kernel_memory& operator=(const kernel_memory&) = delete;

    [[nodiscard]] phys_addr root() const { return mapper_.root(); }

    // A stack above an unmapped page. Errors: out_of_memory.
    [[nodiscard]] result<std::span<std::byte>> allocate_stack();
    void free_stack(std::span<std::byte> stack);
    // Whether `v` is in the page below a stack: whoever faults there has overflown it.
    [[nodiscard]] static bool is_stack_guard(virt_addr v)
    {
        return v.align_down(page_size) == layout::address_of(exo_boot_stack_guard) ||
               (v >= layout::stacks && v < layout::stacks + slots * slot_bytes &&
                (v - layout::stacks) % slot_bytes < page_size);
    }

    // Registers or tables of a device, for good. Errors: out_of_memory.
    [[nodiscard]] result<std::span<std::byte>> map_device(phys_range physical, mm::memory_type memory,
                                                          mm::protection access = mm::kernel_data);

    // From here on other CPUs use what is mapped, too.
    void call_others(processor_calls& calls) noexcept { flusher_.call_others(calls); }
    // A table that translates as root() does, and `page` to itself, for who turns paging on there. Before there are
    // others. Errors: out_of_memory.
    [[nodiscard]] result<phys_addr> make_startup_root(phys_addr page);

    // Whether the direct map has the page at `at`.
    [[nodiscard]] bool reaches(phys_addr at) const
    {
        for (const phys_range& r : reached_)
            if (r.contains(phys_range::of_size(at, page_size)))
                return true;
        return false;
    }
    // Physical memory to be read: through the direct map where it reaches, or mapped for good. Empty if out of memory.
    [[nodiscard]] std::span<const std::byte> view(phys_addr at, std::size_t bytes);

private:
    using format = x86_64::paging_4_level;
    using table_mapper = mm::mapper<format, direct_map, x86_64::paging_entries, frame_supply>;
    using retired = mm::retired_tables<format, direct_map, x86_64::paging_entries, frame_supply>;
    using flusher = mm::kernel_half_flusher<local_tlb, processor_calls, this_cpu_number, interrupt_flag>;
    using batch = mm::flush_batch<flusher, retired>;

    static constexpr std::uint64_t slot_bytes = stack_bytes + page_size;
    static constexpr unsigned slots = 4096;
    static constexpr unsigned kept_stacks = 8; // free ones that stay mapped, for the next thread

    [[nodiscard]] phys_addr new_root();
    void map_direct(std::span<const phys_range> ram, bool gibibyte_pages, batch& changes);
    void map_image(batch& changes);
    using stack_frames = static_vector<frame_number, stack_bytes / page_size>;
    [[nodiscard]] std::optional<unsigned> take_slot();
    [[nodiscard]] result<> map_stack(std::span<std::byte> stack);
    void give_back(std::span<std::byte> stack);
    [[nodiscard]] batch changes() { return batch{flusher_, retired{memory_, entries_, frames_}}; }
    [[nodiscard]] static unsigned slot_of(std::span<std::byte> stack)
    {
        return static_cast<unsigned>((layout::address_of(stack.data()) - layout::stacks) / slot_bytes);
    }

    [[no_unique_address]] direct_map memory_;
    [[no_unique_address]] x86_64::paging_entries entries_;
    [[no_unique_address]] local_tlb tlb_;
    [[no_unique_address]] this_cpu_number cpu_;
    [[no_unique_address]] interrupt_flag interrupts_;
    flusher flusher_{tlb_, cpu_, interrupts_};
    frame_supply& frames_;
    table_mapper mapper_;
    static_vector<phys_range, mm::memory_map::capacity> reached_; // by the direct map
    virt_addr next_device_{layout::devices};

    sync::spin_lock<sync::lock_rank::page_table, interrupt_flag> lock_;
    std::uint64_t used_slots_[slots / 64]{};
    static_vector<std::span<std::byte>, kept_stacks> kept_;
};

} // namespace exo::boot
