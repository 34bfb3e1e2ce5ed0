// The reference kernel: exo::kernel over an x86_64 PC that GRUB started, and the handlers that lead to it.

#include <cstddef>
#include <cstdint>
#include <new>

#include <exo/arch/x86_64/instructions.hpp>
#include <exo/arch/x86_64/multiboot2.hpp>
#include <exo/arch/x86_64/trap_frame.hpp>
#include <exo/drivers/fw_cfg.hpp>
#include <exo/kernel.hpp>
#include <exo/mm/memory_map.hpp>

#include "cpu.hpp"
#include "kernel_memory.hpp"
#include "log.hpp"
#include "machine.hpp"
#include "panic.hpp"
#include "provoke.hpp"
#include "user_mode.hpp"

using namespace exo;
using reference_kernel = kernel<boot::machine>;

// traps.S: instructions that may fault at a user address.
struct exception_table_entry {
    std::uint64_t begin;
    std::uint64_t end;
    std::uint64_t fixup;
};
extern "C" const exception_table_entry exo_exception_table_begin[], exo_exception_table_end[];

namespace {

constinit boot::kernel_memory* the_memory;
constinit boot::machine* the_machine;
constinit reference_kernel* the_kernel;

// Storage for an object that is made once and never ends.
template <class T>
class once {
public:
    template <class... Args>
    T& emplace(Args&&... args)
    {
        return *::new (static_cast<void*>(storage_)) T(std::forward<Args>(args)...);
    }

private:
    alignas(T) std::byte storage_[sizeof(T)]{};
};

constinit once<mm::memory_map> free_memory_storage;
constinit once<boot::frame_supply> frames_storage;
constinit once<boot::kernel_memory> memory_storage;
constinit once<boot::machine> machine_storage;
constinit once<reference_kernel> kernel_storage;

[[nodiscard]] mm::access access_of(x86_64::page_fault_code code)
{
    return code.fetch() ? mm::access::execute : code.write() ? mm::access::write : mm::access::read;
}

[[nodiscard]] const exception_table_entry* recovery_of(std::uint64_t rip)
{
    for (const auto* e = exo_exception_table_begin; e < exo_exception_table_end; ++e)
        if (rip >= e->begin && rip < e->end)
            return e;
    return nullptr;
}

[[nodiscard]] proc::fault fault_of(std::uint64_t vector)
{
    switch (vector) {
    case x86_64::vector::divide_error:
        return proc::fault::divide_error;
    case x86_64::vector::debug:
        return proc::fault::debug;
    case x86_64::vector::breakpoint:
        return proc::fault::breakpoint;
    case x86_64::vector::invalid_opcode:
        return proc::fault::invalid_opcode;
    case x86_64::vector::stack_fault:
        return proc::fault::stack_segment;
    case x86_64::vector::x87_error:
    case x86_64::vector::simd_error:
        return proc::fault::floating_point;
    case x86_64::vector::alignment_check:
        return proc::fault::alignment;
    default:
        return proc::fault::general_protection;
    }
}

[[nodiscard]] std::string_view name_of(std::uint64_t vector)
{
    constexpr std::string_view names[] = {
        "divide error", "debug exception", "non-maskable interrupt", "breakpoint", "overflow", "bound range exceeded",
        "invalid opcode", "device not available", "double fault", "coprocessor overrun", "invalid TSS",
        "segment not present", "stack fault", "general protection fault", "page fault", "exception 15", "x87 error",
        "alignment check", "machine check", "SIMD error"};
    return vector < std::size(names) ? names[vector] : "unexpected interrupt";
}

void on_kernel_page_fault(x86_64::trap_frame& f, virt_addr at)
{
    const x86_64::page_fault_code code{f.error_code};
    const auto* recovery = recovery_of(f.rip);
    if (!recovery || at.value() >= boot::ring3_mode::limit.value() || code.reserved_bit() ||
        !(f.rflags & x86_64::rflags::interrupt))
        boot::panic_in_page_fault(boot::kernel_memory::is_stack_guard(at) ? "kernel stack overflow"
                                  : at.value() < page_size                ? "null pointer in the kernel"
                                                                          : "page fault in the kernel",
                                  at, f, *the_memory);
    x86_64::enable_interrupts();
    const bool resolved = the_kernel->resolve_fault(at, access_of(code));
    x86_64::disable_interrupts();
    if (!resolved)
        f.rip = recovery->fixup;
}

void on_exception(x86_64::trap_frame& f)
{
    const virt_addr at{x86_64::read_cr2()};
    switch (f.vector) {
    case x86_64::vector::double_fault:
        boot::panic_in_trap(boot::kernel_memory::is_stack_guard(at) ? "kernel stack overflow" : "double fault",
                            at.value(), f);
    case x86_64::vector::nmi:
        if (boot::stop_if_panicking() || boot::answer_if_interrogated(f) || boot::is_provoked_nmi())
            return;
        [[fallthrough]];
    case x86_64::vector::machine_check:
        boot::panic_in_trap(name_of(f.vector), f.vector, f);
    default:
        break;
    }
    if (f.from_user()) {
        x86_64::enable_interrupts();
        if (f.vector == x86_64::vector::page_fault)
            the_kernel->on_page_fault(f, at, access_of({f.error_code}));
        else if (f.vector == x86_64::vector::overflow && the_kernel->boot_options().has("provoke"))
            boot::provoke(f, the_machine->signals());
        else
            the_kernel->on_exception(f, fault_of(f.vector));
        x86_64::disable_interrupts();
    } else if (f.vector == x86_64::vector::page_fault) {
        on_kernel_page_fault(f, at);
    } else if (f.vector != x86_64::vector::debug) {
        boot::panic_in_trap(name_of(f.vector), f.error_code, f);
    }
}

void on_interrupt(std::uint64_t vector, proc::processor_mode interrupted)
{
    if (vector == boot::vector::spurious || vector < boot::vector::timer) {
        the_machine->on_spurious_interrupt(); // neither is acknowledged
        return;
    }
    the_machine->end_of_interrupt();
    if (vector == boot::vector::timer) {
        if (the_machine->timer().due())
            the_kernel->on_timer(interrupted);
    } else if (vector == boot::vector::kick) {
        the_kernel->on_kick();
    } else if (vector == boot::vector::call) {
        the_machine->ipi().serve();
    } else if (vector == boot::vector::console) {
        std::byte typed[64];
        for (auto bytes = the_machine->read_console(typed); !bytes.empty(); bytes = the_machine->read_console(typed))
            the_kernel->on_console_input(bytes);
    } else if (vector == boot::vector::apic_error) {
        the_machine->on_apic_error();
    } else {
        the_machine->on_disk_interrupt(vector - boot::vector::first_disk);
    }
    the_kernel->preempt_if_needed();
}

// QEMU takes many times as long for a store to a page of which it has translated instructions, as of many where
// firmware and loader ran, until these are overwritten. So the frames that are handed out first are overwritten before
// that, by QEMU's own device: it forgets a page's instructions at once, and not store by store.
void overwrite_leftover_code(reference_kernel::frames_type& frames)
{
    drivers::fw_cfg config{x86_64::port_registers{boot::fw_cfg_port}, boot::direct_map{}};
    if (!config.present())
        return;
    constexpr std::uint64_t most = (2u << 20) >> page_shift;
    struct link {
        link* next;
    };
    link* taken = nullptr;
    for (std::uint64_t i = 0; i < most; ++i) {
        const auto f = frames.allocate(0);
        if (!f)
            break;
        std::byte* const memory = boot::direct_map{}.to_pointer(f->address());
        (void)config.overwrite({memory, page_size});
        taken = ::new (static_cast<void*>(memory)) link{taken};
    }
    while (taken) {
        link* const next = taken->next;
        frames.free(frame_number{boot::direct_map{}.to_physical(taken)}, 0);
        taken = next;
    }
}

} // namespace

extern "C" {

// From traps.S: interrupts are off, before and after.
[[gnu::hot]] void exo_on_trap(x86_64::trap_frame* frame)
{
    if (boot::features().smap)
        x86_64::forbid_user_access();
    if (!the_kernel)
        boot::panic_in_trap(name_of(frame->vector), x86_64::read_cr2(), *frame);
    if (frame->vector < x86_64::vector::exceptions)
        on_exception(*frame);
    else
        on_interrupt(frame->vector, frame->from_user() ? proc::processor_mode::user : proc::processor_mode::kernel);
    // Not from the NMI's own stack, on which nothing may sleep: an interrupt that was held back comes right after it.
    if (frame->from_user() && frame->vector != x86_64::vector::nmi)
        exo_prepare_user_return(frame);
}

[[gnu::hot]] void exo_on_system_call(x86_64::trap_frame* frame)
{
    x86_64::enable_interrupts();
    the_kernel->on_system_call(*frame);
    exo_prepare_user_return(frame);
}

[[gnu::hot]] void exo_prepare_user_return(x86_64::trap_frame* frame)
{
    do {
        x86_64::enable_interrupts();
        the_kernel->on_return_to_user(*frame);
        x86_64::disable_interrupts();
    } while (the_kernel->return_work_pending());
}

// From entry.S: where the loader's information is, and the time-stamp counter at entry.
[[noreturn]] void exo_main(std::uint64_t information_at, std::uint64_t entry_tsc)
{
    namespace multiboot2 = x86_64::multiboot2;
    boot::serial_port{x86_64::port_registers{boot::console_port}}.initialize();
    boot::serial_port{x86_64::port_registers{boot::log_port}}.initialize();
    boot::find_boot_cpu();
    boot::find_features();
    boot::enable_features();
    boot::clock_calibration calibration{x86_64::port_registers{0}, {}};

    // Nothing is allocated before all that the loader said is copied: its memory is free like any other.
    if (information_at >= boot::layout::entry_map_end.value())
        EXO_PANIC("the boot loader's information is beyond the first GiB");
    const std::byte* information = boot::direct_map{}.to_pointer(phys_addr{information_at});
    const auto loader =
        multiboot2::information::parse({information, boot::layout::entry_map_end.value() - information_at});
    if (!loader)
        EXO_PANIC("the boot loader's information contradicts itself");
    static char command_line[1024];
    const auto options = loader->command_line.substr(0, sizeof command_line);
    std::memcpy(command_line, options.data(), options.size());
    static std::byte rsdp[36];
    const auto root_pointer = loader->rsdp.first(loader->rsdp.size() < sizeof rsdp ? loader->rsdp.size() : sizeof rsdp);
    std::memcpy(rsdp, root_pointer.data(), root_pointer.size());

    mm::memory_map& free_memory = free_memory_storage.emplace();
    std::uint64_t memory_bytes = 0;
    const auto require = [](const result<>& done) {
        if (!done)
            EXO_PANIC("the firmware's memory map has too many entries");
    };
    loader->for_each_memory([&](phys_range r, multiboot2::memory_kind kind) {
        if (kind == multiboot2::memory_kind::available) {
            require(free_memory.add({r.begin.align_up(page_size), r.end.align_down(page_size)}));
            memory_bytes += r.size();
        }
    });
    loader->for_each_memory([&](phys_range r, multiboot2::memory_kind kind) {
        if (kind != multiboot2::memory_kind::available)
            require(free_memory.remove({r.begin.align_down(page_size), r.end.align_up(page_size)}));
    });
    for (const phys_range& module : loader->modules)
        require(free_memory.remove({module.begin.align_down(page_size), module.end.align_up(page_size)}));
    const mm::memory_map ram = free_memory;
    // The first MiB is left to firmware, and to processors that start in real mode.
    constexpr phys_addr low_end{1u << 20};
    const phys_addr image_end = boot::layout::physical_in_image(boot::layout::address_of(exo_data_end));
    require(free_memory.remove({phys_addr{}, image_end}));

    boot::frame_supply& frames = frames_storage.emplace(free_memory);
    boot::kernel_memory& memory = memory_storage.emplace(frames, ram.ranges(), boot::features().gibibyte_pages);
    boot::page_table_root{}.load({memory.root()}, hal::remembered::forget);
    the_memory = &memory;
    // Now nobody needs the 32-bit entry and its tables any longer.
    require(free_memory.add({low_end, boot::layout::physical_in_image(boot::layout::address_of(exo_text_begin))}));
    std::span<std::byte> stacks[boot::interrupt_stacks];
    for (auto& stack : stacks) {
        const auto allocated = memory.allocate_stack();
        if (!allocated)
            EXO_PANIC("no memory for the interrupt stacks");
        stack = *allocated;
    }
    boot::install_descriptors(boot::boot_cpu(), stacks);

    the_machine = &machine_storage.emplace(
        memory, frames, free_memory, memory_bytes, std::string_view{command_line, options.size()},
        std::span<const std::byte>{rsdp, root_pointer.size()}, entry_tsc, calibration);
    the_machine->start_processors(drivers::find_startup_page(ram.ranges()));
    the_kernel = &kernel_storage.emplace(*the_machine);
    overwrite_leftover_code(the_kernel->frames());
    x86_64::enable_interrupts();
    the_kernel->run();
}

// From startup.S: the tables are the startup ones, interrupts are off.
[[noreturn]] void exo_processor_main()
{
    boot::enable_features();
    boot::page_table_root{}.load({the_memory->root()}, hal::remembered::forget);
    the_machine->join();
    x86_64::enable_interrupts();
    the_kernel->run_processor();
}

} // extern "C"
