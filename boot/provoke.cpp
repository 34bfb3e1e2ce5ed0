#include "provoke.hpp"

#include <cstdint>

#include <exo/arch/x86_64/instructions.hpp>
#include <exo/base/cpu_set.hpp>
#include <exo/sync/atomic_cpu_set.hpp>

#include "cpu.hpp"

namespace exo::boot {
namespace {

[[gnu::noinline]] std::uint64_t use_up_stack(std::uint64_t depth)
{
    volatile std::uint64_t frame[64];
    frame[depth % 64] = depth;
    return depth == ~std::uint64_t{0} ? 0 : use_up_stack(depth + 1) + frame[depth % 64];
}

[[gnu::noinline]] void spin_with_interrupts_off(std::uint64_t cycles)
{
    x86_64::disable_interrupts();
    for (const std::uint64_t since = x86_64::read_tsc(); x86_64::read_tsc() - since < cycles;)
        __builtin_ia32_pause();
    x86_64::enable_interrupts();
}

constinit sync::atomic_cpu_set<cpu_set> provoked;

void interrupt_by_nmi(std::uint64_t cpu, processor_signals& signals)
{
    if (cpu >= cpu_count())
        return;
    const auto target = static_cast<unsigned>(cpu);
    provoked.add(target);
    x86_64::disable_interrupts();
    signals.interrupt_always(target);
    x86_64::enable_interrupts();
    while (provoked.contains(target))
        __builtin_ia32_pause();
}

} // namespace

bool is_provoked_nmi() noexcept
{
    return provoked.remove(cpu_number());
}

void provoke(const x86_64::trap_frame& wanted, processor_signals& signals)
{
    auto* const at = reinterpret_cast<volatile std::uint64_t*>(wanted.rdi);
    switch (wanted.rax) {
    case 0:
        (void)*at;
        return;
    case 1:
        *at = 0;
        return;
    case 2:
        reinterpret_cast<void (*)()>(wanted.rdi)();
        return;
    case 3:
        (void)use_up_stack(0);
        return;
    case 4:
        spin_with_interrupts_off(wanted.rdi);
        return;
    case 5:
        interrupt_by_nmi(wanted.rdi, signals);
        return;
    default:
        return;
    }
}

} // namespace exo::boot
