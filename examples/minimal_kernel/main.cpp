// A kernel that is not exo's, with exo's mapper: maps a fresh frame at 0x10000000, uses it, unmaps it, and shows that
// the next access faults. Tells COM1; QEMU exits with 33 if all went well.
#include <exo/arch/x86_64/instructions.hpp>
#include <exo/arch/x86_64/multiboot2.hpp>
#include <exo/arch/x86_64/paging.hpp>
#include <exo/arch/x86_64/paging_entries.hpp>
#include <exo/arch/x86_64/register_access.hpp>
#include <exo/arch/x86_64/trap_frame.hpp>
#include <exo/drivers/uart.hpp>
#include <exo/mm/flush_batch.hpp>
#include <exo/mm/mapper.hpp>
#include <exo/mm/memory_map.hpp>

using namespace exo;
using namespace exo::x86_64;

extern "C" void* memset(void* to, int value, std::size_t size)
{
    void* at = to;
    asm volatile("rep stosb" : "+D"(at), "+c"(size) : "a"(value) : "memory");
    return to;
}

[[noreturn]] void leave(const char* last_words, bool good)
{
    for (; *last_words != '\0'; ++last_words)
        drivers::uart{port_registers{0x3f8}}.write({last_words, 1});
    out32(0xf4, good ? 0x10 : 0x11);
    for (;;)
        halt();
}
void exo::panic(const char* message, const char*, int) noexcept { leave(message, false); }

// The traits that the mapper asks for.
struct identity_map {
    std::byte* to_pointer(phys_addr a) const noexcept { return reinterpret_cast<std::byte*>(a.value()); }
    phys_addr to_physical(const void* p) const noexcept { return phys_addr{reinterpret_cast<std::uint64_t>(p)}; }
};
struct this_cpu_tlb {
    void invalidate_page(virt_addr a) noexcept { x86_64::invalidate_page(a.value()); }
    void invalidate_range(const virt_range& r, std::uint64_t step) noexcept
    {
        for (virt_addr a = r.begin; a != r.end; a += step)
            invalidate_page(a);
    }
    void invalidate_space(hal::address_space_id) noexcept { write_cr3(read_cr3()); }
    void invalidate_all() noexcept { write_cr3(read_cr3()); }
};
struct free_frames {
    mm::memory_map memory;
    result<frame_number> allocate(unsigned) noexcept
    {
        return frame_number{EXO_TRY(memory.take(page_size, page_size, phys_addr{128u << 20}))}; // start.S maps so much
    }
    void free(frame_number f, unsigned) noexcept { (void)memory.add(phys_range::of_size(f.address(), page_size)); }
};

constexpr virt_addr place{0x1000'0000};
constinit bool unmapped = false;
[[gnu::interrupt]] void on_page_fault(void*, unsigned long)
{
    const bool good = unmapped && read_cr2() == place.value();
    leave(good ? "unmapped: the next access faults\n" : "an unexpected page fault\n", good);
}

extern "C" char image_end[];
extern "C" void kernel_main(const std::byte* information)
{
    static interrupt_descriptor_table interrupts;
    interrupts[vector::page_fault] = interrupt_gate::to(reinterpret_cast<std::uint64_t>(&on_page_fault));
    load_idt({sizeof interrupts - 1, reinterpret_cast<std::uint64_t>(&interrupts)});

    const auto loader = multiboot2::information::parse({information, multiboot2::information::total_size(information)});
    EXO_CHECK(loader);
    free_frames frames;
    loader->for_each_memory([&](phys_range r, multiboot2::memory_kind kind) {
        EXO_CHECK(kind != multiboot2::memory_kind::available || frames.memory.add(r));
    });
    EXO_CHECK(frames.memory.remove({phys_addr{}, phys_addr{reinterpret_cast<std::uint64_t>(image_end)}}));

    identity_map memory;
    paging_entries entries;
    this_cpu_tlb tlb;
    mm::local_flusher flusher{tlb};
    mm::flush_batch changes{flusher, mm::retired_tables<paging_4_level, identity_map, paging_entries, free_frames>{
                                         memory, entries, frames}};
    mm::mapper<paging_4_level, identity_map, paging_entries, free_frames> mapper{phys_addr{read_cr3()}, memory, entries,
                                                                                frames};
    const auto frame = frames.allocate(0);
    EXO_CHECK(frame && mapper.map_page(place, frame->address(), {.access = mm::kernel_data}, changes));
    auto& word = *reinterpret_cast<volatile std::uint32_t*>(place.value());
    word = 0xdeadbeef;
    EXO_CHECK(word == 0xdeadbeef && *reinterpret_cast<std::uint32_t*>(memory.to_pointer(frame->address())) == word);
    drivers::uart{port_registers{0x3f8}}.write("mapped: 0xDEADBEEF written and read back\n");
    EXO_CHECK(mapper.unmap_page(place, changes));
    changes.flush();
    unmapped = true;
    word = 0;
    EXO_PANIC("unmapped, but the page can still be written");
}
