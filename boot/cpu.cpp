#include "cpu.hpp"

#include <exo/arch/x86_64/fpu.hpp>
#include <exo/arch/x86_64/instructions.hpp>
#include <exo/arch/x86_64/paging.hpp>
#include <exo/arch/x86_64/registers.hpp>
#include <exo/arch/x86_64/tlb.hpp>
#include <exo/arch/x86_64/trap_frame.hpp>

extern "C" {
extern char exo_trap_stubs[];
extern char exo_system_call_entry[];
}

namespace exo::boot {
namespace {

constexpr std::size_t stub_bytes = 16;
constexpr std::uint32_t pat_msr = 0x277;

constinit x86_64::cpu_features found;
constinit cpu_block first_cpu;
constinit unsigned count_of_cpus = 1;
constinit x86_64::interrupt_descriptor_table interrupts;

unsigned stack_of(unsigned vector)
{
    switch (vector) {
    case x86_64::vector::double_fault:
        return static_cast<unsigned>(interrupt_stack::double_fault);
    case x86_64::vector::nmi:
        return static_cast<unsigned>(interrupt_stack::nmi);
    case x86_64::vector::machine_check:
        return static_cast<unsigned>(interrupt_stack::machine_check);
    case x86_64::vector::debug:
        return static_cast<unsigned>(interrupt_stack::debug);
    default:
        return 0;
    }
}

// Every error of every bank is to be told, and none from before (SDM volume 3, 16.8).
void enable_machine_checks()
{
    using namespace x86_64;
    const std::uint64_t capabilities = read_msr(msr::mcg_cap);
    if (capabilities & mcg_cap::has_control)
        write_msr(msr::mcg_control, ~std::uint64_t{0});
    for (std::uint32_t bank = 0; bank < (capabilities & mcg_cap::banks); ++bank) {
        if (bank != 0 || found.family() != 6 || found.model() >= 0x1a) // else it is the firmware's
            write_msr(msr::mc0_control + 4 * bank, ~std::uint64_t{0});
        write_msr(msr::mc0_status + 4 * bank, 0);
    }
}

} // namespace

[[gnu::hot]] const x86_64::cpu_features& features() noexcept
{
    return found;
}

void find_features() noexcept
{
    found = x86_64::cpu_features::read(x86_64::cpuid);
}

cpu_block& boot_cpu() noexcept
{
    return first_cpu;
}

[[gnu::hot]] unsigned cpu_count() noexcept
{
    return count_of_cpus;
}

void set_cpu_count(unsigned count) noexcept
{
    count_of_cpus = count;
}

void enable_features() noexcept
{
    if (found.machine_check_banks)
        enable_machine_checks();
    std::uint64_t bits = x86_64::read_cr4() | x86_64::cr4::fxsave | x86_64::cr4::simd_exceptions;
    bits |= found.machine_check ? x86_64::cr4::machine_check : 0;
    bits |= found.global_pages ? x86_64::cr4::global_pages : 0;
    bits |= found.umip ? x86_64::cr4::umip : 0;
    bits |= found.smep ? x86_64::cr4::smep : 0;
    bits |= found.smap ? x86_64::cr4::smap : 0;
    bits |= found.xsave ? x86_64::cr4::xsave : 0;
    bits |= x86_64::uses_ids(found) ? x86_64::cr4::pcid : 0; // entry.S left CR3[11:0] clear
    x86_64::write_cr4(bits);
    if (found.xsave)
        x86_64::write_xcr0(x86_64::fpu_layout::for_cpu(found).components);
    x86_64::write_msr(pat_msr, x86_64::pat_value);
}

void find_boot_cpu() noexcept
{
    first_cpu.self = &first_cpu;
    first_cpu.number = 0;
    x86_64::write_msr(x86_64::msr::gs_base, reinterpret_cast<std::uint64_t>(&first_cpu));
}

void install_descriptors(cpu_block& cpu, std::span<const std::span<std::byte>, interrupt_stacks> stacks) noexcept
{
    using namespace x86_64;
    cpu.self = &cpu;
    for (unsigned i = 0; i < interrupt_stacks; ++i)
        cpu.task.interrupt_stack[i] = reinterpret_cast<std::uint64_t>(stacks[i].data() + stacks[i].size());
    cpu.descriptors = global_descriptor_table::with_tss(reinterpret_cast<std::uint64_t>(&cpu.task));
    load_gdt({sizeof cpu.descriptors - 1, reinterpret_cast<std::uint64_t>(&cpu.descriptors)});
    load_task_register(selector::task_state);
    write_msr(msr::gs_base, reinterpret_cast<std::uint64_t>(&cpu));
    write_msr(msr::kernel_gs_base, 0);

    for (unsigned v = 0; &cpu == &first_cpu && v < interrupts.size(); ++v)
        interrupts[v] = interrupt_gate::to(reinterpret_cast<std::uint64_t>(exo_trap_stubs) + v * stub_bytes,
                                           stack_of(v), v == vector::breakpoint || v == vector::overflow);
    load_idt({sizeof interrupts - 1, reinterpret_cast<std::uint64_t>(&interrupts)});

    write_msr(msr::star, std::uint64_t{selector::sysret_base | 3} << 48 | std::uint64_t{selector::kernel_code} << 32);
    write_msr(msr::lstar, reinterpret_cast<std::uint64_t>(exo_system_call_entry));
    write_msr(msr::syscall_mask, rflags::trap | rflags::interrupt | rflags::direction | rflags::io_privilege |
                                     rflags::nested_task | rflags::alignment_check);
}

} // namespace exo::boot
