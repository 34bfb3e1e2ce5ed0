#include <exo/arch/x86_64/multiboot2.hpp>
#include <exo/mm/memory_map.hpp>

#include "kernel_memory.hpp"
#include "log.hpp"
#include "panic.hpp"
#include "user_mode.hpp"

using namespace exo;


extern "C" {
void exo_on_trap(x86_64::trap_frame* f) { boot::panic_in_trap("trap", f->vector, *f); }
void exo_on_system_call(x86_64::trap_frame* f) { boot::panic_in_trap("syscall", f->vector, *f); }
void exo_prepare_user_return(x86_64::trap_frame*) {}

[[noreturn]] void exo_main(std::uint64_t info_at, std::uint64_t)
{
    boot::serial_port{x86_64::port_registers{boot::console_port}}.initialize();
    boot::serial_port{x86_64::port_registers{boot::log_port}}.initialize();
    boot::log("exo: entered\n");
    boot::direct_map memory;
    const auto* at = memory.to_pointer(phys_addr{info_at});
    const auto info = x86_64::multiboot2::information::parse({at, x86_64::multiboot2::information::total_size(at)});
    if (!info) EXO_PANIC("no info");
    mm::memory_map map;
    info->for_each_memory([&](phys_range r, x86_64::multiboot2::memory_kind k) {
        boot::log("  ", boot::hexadecimal{r.begin.value()}, " ", boot::hexadecimal{r.end.value()}, " ", boot::decimal{static_cast<unsigned>(k)}, "\n");
        if (k == x86_64::multiboot2::memory_kind::available) (void)map.add({r.begin.align_up(page_size), r.end.align_down(page_size)});
    });
    boot::enable_features();
    static boot::frame_supply frames{map};
    phys_range ram[] = {{phys_addr{0}, map.extent().end}};
    (void)map.remove({phys_addr{0}, phys_addr{reinterpret_cast<std::uint64_t>(exo_image_end)}});
    alignas(boot::kernel_memory) static std::byte storage[sizeof(boot::kernel_memory)];
    auto& km = *new (storage) boot::kernel_memory{frames, ram, boot::features().gibibyte_pages};
    boot::page_table_root{}.load({km.root()}, hal::remembered::forget);
    std::span<std::byte> stacks[4];
    for (auto& s : stacks) s = *km.allocate_stack();
    boot::install_descriptors(stacks);
    boot::log("exo: mapped; early bytes ", boot::decimal{frames.taken_early()}, "\n");
    *reinterpret_cast<volatile int*>(stacks[0].data() - 8) = 1;
    for (;;) x86_64::halt();
}
}
