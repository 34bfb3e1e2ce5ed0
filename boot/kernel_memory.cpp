#include "kernel_memory.hpp"

#include <cstring>

namespace exo::boot {
namespace {

constexpr std::uint64_t large_page = std::uint64_t{2} << 20;
constexpr unsigned large_level = 1, gibibyte_level = 2;

void require(result<> done, const char* what)
{
    if (!done)
        EXO_PANIC(what);
}

} // namespace

kernel_memory::kernel_memory(frame_supply& frames, std::span<const phys_range> ram, bool gibibyte_pages)
    : frames_{frames}, mapper_{new_root(), memory_, entries_, frames}
{
    auto changes = this->changes();
    map_direct(ram, gibibyte_pages, changes);
    map_image(changes);
    // The windows get their top-level entries now: address spaces copy those, and never look again.
    for (const virt_addr window : {layout::stacks, layout::devices}) {
        const frame_number nothing{};
        require(mapper_.map_page(window, nothing.address(), {.access = mm::kernel_read}, changes),
                "no memory for tables");
        if (!mapper_.unmap_page(window, changes))
            EXO_PANIC("a page just mapped is not there");
    }
    changes.flush();
}

phys_addr kernel_memory::new_root()
{
    const auto table = mm::allocate_table(memory_, frames_);
    if (!table)
        EXO_PANIC("no memory for page tables");
    return *table;
}

// Whole large pages, so that few tables do; what they cover beyond RAM is never touched through them.
void kernel_memory::map_direct(std::span<const phys_range> ram, bool gibibyte_pages, batch& changes)
{
    for (const phys_range& r : ram) {
        phys_range wide{r.begin.align_down(large_page), r.end.align_up(large_page)};
        if (wide.end.value() > layout::direct_map_bytes)
            EXO_PANIC("more memory than the direct map has room for");
        if (!reached_.empty() && wide.begin <= reached_.back().end) {
            wide.begin = reached_.back().end;
            if (wide.begin >= wide.end)
                continue;
            reached_.back().end = wide.end;
        } else {
            EXO_CHECK(reached_.try_push_back(wide));
        }
        require(mapper_.map_range(virt_range::of_size(layout::direct_map + wide.begin.value(), wide.size()), wide.begin,
                                  {.access = mm::kernel_data, .global = true}, changes,
                                  gibibyte_pages ? gibibyte_level : large_level),
                "no memory for the direct map");
    }
}

// Text is executable, data writable, nothing both; also not through the direct map.
void kernel_memory::map_image(batch& changes)
{
    const struct {
        const char* begin;
        const char* end;
        mm::protection access;
    } sections[] = {
        {exo_text_begin, exo_text_end, mm::kernel_code},
        {exo_rodata_begin, exo_rodata_end, mm::kernel_read},
        {exo_data_begin, exo_boot_stack_guard, mm::kernel_data},
        {exo_boot_stack_guard + page_size, exo_data_end, mm::kernel_data},
    };
    for (const auto& s : sections) {
        const virt_range range{layout::address_of(s.begin), layout::address_of(s.end)};
        const phys_addr physical = layout::physical_in_image(range.begin);
        require(mapper_.map_range(range, physical, {.access = s.access, .global = true}, changes),
                "no memory for the image's tables");
        if (s.access != mm::kernel_data)
            require(mapper_.protect_range(virt_range::of_size(layout::direct_map + physical.value(), range.size()),
                                          mm::kernel_read, changes),
                    "no memory for the direct map");
    }
}

result<phys_addr> kernel_memory::make_startup_root(phys_addr page)
{
    const phys_addr root = EXO_TRY(mm::allocate_table(memory_, frames_));
    table_mapper mapper{root, memory_, entries_, frames_};
    auto changes = this->changes();
    const auto mapped = mapper.map_page(virt_addr{page.value()}, page, {.access = mm::kernel_code}, changes);
    changes.flush();
    EXO_TRY(mapped);
    constexpr std::size_t half = page_size / 2;
    std::memcpy(memory_.to_pointer(root) + half, memory_.to_pointer(mapper_.root()) + half, half);
    return root;
}

result<std::span<std::byte>> kernel_memory::allocate_stack()
{
    std::optional<unsigned> slot;
    {
        auto guard = lock_.lock(interrupts_);
        if (!kept_.empty()) {
            const auto stack = kept_.back();
            kept_.pop_back();
            return stack;
        }
        slot = take_slot();
    }
    if (!slot)
        return fail(errors::out_of_memory, stack_bytes);
    const virt_addr bottom = layout::stacks + *slot * slot_bytes + page_size;
    const std::span<std::byte> stack{reinterpret_cast<std::byte*>(bottom.value()), stack_bytes};
    if (const auto mapped = map_stack(stack); !mapped) {
        give_back(stack);
        return fail(mapped.error());
    }
    return stack;
}

void kernel_memory::free_stack(std::span<std::byte> stack)
{
    {
        auto guard = lock_.lock(interrupts_);
        if (kept_.try_push_back(stack))
            return;
    }
    give_back(stack);
}

// Under the lock.
std::optional<unsigned> kernel_memory::take_slot()
{
    for (unsigned word = 0; word < slots / 64; ++word) {
        if (~used_slots_[word] == 0)
            continue;
        const auto bit = static_cast<unsigned>(__builtin_ctzll(~used_slots_[word]));
        used_slots_[word] |= std::uint64_t{1} << bit;
        return word * 64 + bit;
    }
    return std::nullopt;
}

// All of it, or the first pages.
result<> kernel_memory::map_stack(std::span<std::byte> stack)
{
    auto changes = this->changes();
    result<> mapped{};
    for (std::size_t done = 0; done < stack_bytes && mapped; done += page_size) {
        const auto frame = frames_.allocate(0);
        if (!frame) {
            mapped = fail(frame.error());
            break;
        }
        auto guard = lock_.lock(interrupts_);
        mapped = mapper_.map_page(layout::address_of(stack.data()) + done, frame->address(),
                                  {.access = mm::kernel_data, .global = true}, changes);
        if (!mapped)
            frames_.free(*frame, 0);
    }
    changes.flush();
    return mapped ? result<>{} : fail(errors::out_of_memory, stack_bytes);
}

// Of a stack, as far as it is mapped. The frames are free, and the slot, when no CPU can reach them any longer.
void kernel_memory::give_back(std::span<std::byte> stack)
{
    stack_frames frames;
    auto changes = this->changes();
    for (std::size_t done = 0; done < stack_bytes; done += page_size) {
        auto guard = lock_.lock(interrupts_);
        const auto page = mapper_.unmap_page(layout::address_of(stack.data()) + done, changes);
        if (!page)
            break;
        frames.push_back(frame_number{page->address});
    }
    changes.flush();
    for (const frame_number f : frames)
        frames_.free(f, 0);
    auto guard = lock_.lock(interrupts_);
    const unsigned slot = slot_of(stack);
    used_slots_[slot / 64] &= ~(std::uint64_t{1} << slot % 64);
}

result<std::span<std::byte>> kernel_memory::map_device(phys_range physical, mm::memory_type memory,
                                                       mm::protection access)
{
    const phys_range pages{physical.begin.align_down(page_size), physical.end.align_up(page_size)};
    auto guard = lock_.lock(interrupts_);
    const virt_addr at = next_device_;
    if (pages.size() > layout::devices + layout::device_bytes - at)
        return fail(errors::out_of_memory, pages.size());
    auto changes = this->changes();
    auto mapped = mapper_.map_range(virt_range::of_size(at, pages.size()), pages.begin,
                                    {.access = access, .memory = memory, .global = true}, changes);
    if (mapped)
        next_device_ += pages.size();
    guard.unlock();
    changes.flush();
    if (!mapped)
        return fail(mapped.error());
    return std::span{reinterpret_cast<std::byte*>((at + (physical.begin - pages.begin)).value()), physical.size()};
}

std::span<const std::byte> kernel_memory::view(phys_addr at, std::size_t bytes)
{
    if (at.value() + bytes < at.value())
        return {};
    const auto wanted = phys_range::of_size(at, bytes);
    for (const phys_range& r : reached_)
        if (r.contains(wanted))
            return {memory_.to_pointer(at), bytes};
    const auto mapped = map_device(wanted, mm::memory_type::write_back, mm::kernel_read);
    return mapped ? std::span<const std::byte>{*mapped} : std::span<const std::byte>{};
}

} // namespace exo::boot
