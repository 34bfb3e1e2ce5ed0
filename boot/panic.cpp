#include "panic.hpp"

#include <atomic>

#include <exo/arch/x86_64/instructions.hpp>
#include <exo/arch/x86_64/paging.hpp>
#include <exo/arch/x86_64/registers.hpp>
#include <exo/base/check.hpp>
#include <exo/base/cpu_set.hpp>
#include <exo/mm/walk_report.hpp>
#include <exo/sync/atomic_cpu_set.hpp>

#include "layout.hpp"
#include "log.hpp"
#include "models.hpp"
#include "processors.hpp"

// The symbol table, made from the linked image by src/symbol_table.cpp: addresses as offsets from exo_text_begin in
// ascending order, the place of each name, and the names, each ended by a zero. The first link has an empty one.
extern "C" {
[[gnu::weak]] extern const std::uint32_t exo_symbol_count;
[[gnu::weak]] extern const std::uint32_t exo_symbol_offsets[];
[[gnu::weak]] extern const std::uint32_t exo_symbol_names[];
[[gnu::weak]] extern const char exo_symbol_text[];
}

namespace exo::boot {
namespace {

constexpr std::uint16_t debug_exit_port = 0xf4;
constexpr unsigned deepest_call = 48;

bool in_text(std::uint64_t address)
{
    return address >= layout::address_of(exo_text_begin).value() && address < layout::address_of(exo_text_end).value();
}

// Prints where in which function `address` is.
void print_location(std::uint64_t address)
{
    log("    ", hexadecimal{address});
    if (in_text(address) && &exo_symbol_count && exo_symbol_count > 0) {
        const auto offset = static_cast<std::uint32_t>(address - layout::address_of(exo_text_begin).value());
        std::uint32_t low = 0, high = exo_symbol_count; // the last symbol at or before offset is in [low, high)
        while (high - low > 1) {
            const std::uint32_t middle = low + (high - low) / 2;
            (exo_symbol_offsets[middle] <= offset ? low : high) = middle;
        }
        if (exo_symbol_offsets[low] <= offset)
            log(" ", exo_symbol_text + exo_symbol_names[low], " + ", decimal{offset - exo_symbol_offsets[low]});
    }
    log("\n");
}

// Follows the chain of frame pointers as long as it climbs within one stack.
void print_calls(std::uint64_t frame_pointer)
{
    constexpr std::uint64_t largest_frame = 16 * 1024;
    for (unsigned depth = 0; depth < deepest_call; ++depth) {
        if (frame_pointer < layout::direct_map.value() || frame_pointer % sizeof(std::uint64_t) != 0)
            return;
        const auto* words = reinterpret_cast<const std::uint64_t*>(frame_pointer);
        if (!in_text(words[1]))
            return;
        print_location(words[1] - 1);
        if (words[0] <= frame_pointer || words[0] - frame_pointer > largest_frame)
            return;
        frame_pointer = words[0];
    }
}

void print_registers(const x86_64::trap_frame& f)
{
    const struct {
        const char* name;
        std::uint64_t value;
    } registers[] = {
        {"rax", f.rax}, {"rbx", f.rbx}, {"rcx", f.rcx}, {"rdx", f.rdx},       {"rsi", f.rsi},    {"rdi", f.rdi},
        {"rbp", f.rbp}, {"rsp", f.rsp}, {"r8 ", f.r8},  {"r9 ", f.r9},        {"r10", f.r10},    {"r11", f.r11},
        {"r12", f.r12}, {"r13", f.r13}, {"r14", f.r14}, {"r15", f.r15},       {"rip", f.rip},    {"cs ", f.cs},
        {"flg", f.rflags}, {"err", f.error_code}, {"cr2", x86_64::read_cr2()}, {"cr3", x86_64::read_cr3()},
    };
    unsigned column = 0;
    for (const auto& r : registers) {
        log(column % 4 == 0 ? "    " : "  ", r.name, " ", hexadecimal{r.value}, column % 4 == 3 ? "\n" : "");
        ++column;
    }
    if (column % 4 != 0)
        log("\n");
}

constexpr unsigned nobody = ~0u;
constinit std::atomic<unsigned> reporter{nobody}; // the CPU that reports a panic
constinit local_apic* way_to_others = nullptr;
constinit sync::atomic_cpu_set<cpu_set> stopped; // others
unsigned count_stopped() { return stopped.among(cpu_set::first(cpu_count())).size(); }

// What the machine-check registers of a CPU said when it panicked or was stopped (SDM volume 3, 16.3): of the banks
// with an error, the first with one that was not corrected, else the first.
struct machine_check {
    std::uint64_t global, error, address, misc;
    unsigned bank;
};
constinit machine_check machine_checks[cpu_set::limit]{};

// On the way to a halt: without a word.
void record_machine_check(machine_check& found)
{
    using namespace x86_64;
    found.global = features().machine_check_banks ? read_msr(msr::mcg_status) : 0;
    if (!(found.global & mcg_status::in_progress))
        return;
    for (std::uint32_t bank = 0, banks = read_msr(msr::mcg_cap) & mcg_cap::banks; bank < banks; ++bank) {
        const std::uint64_t error = read_msr(msr::mc0_status + 4 * bank);
        if (!(error & mci_status::valid) ||
            (found.error & mci_status::valid && (found.error | ~error) & mci_status::uncorrected))
            continue;
        found.bank = bank;
        found.error = error;
        found.address = error & mci_status::addr_valid ? read_msr(msr::mc0_addr + 4 * bank) : 0;
        found.misc = error & mci_status::misc_valid ? read_msr(msr::mc0_misc + 4 * bank) : 0;
    }
}
void print_machine_checks()
{
    using namespace x86_64;
    for (unsigned cpu = 0; cpu < cpu_set::limit; ++cpu) {
        const machine_check& found = machine_checks[cpu];
        if (!(found.global & mcg_status::in_progress) || !(stopped.contains(cpu) || cpu == reporter.load()))
            continue;
        log("\nexo: CPU ", decimal{cpu}, " is in a machine check, status ", hexadecimal{found.global});
        if (found.error & mci_status::valid)
            log(", bank ", decimal{found.bank}, " ", hexadecimal{found.error});
        if (found.error & mci_status::addr_valid)
            log(", address ", hexadecimal{found.address});
        if (found.error & mci_status::misc_valid)
            log(", misc ", hexadecimal{found.misc});
    }
}

[[noreturn]] void stop()
{
    debug_exit(exit_panic);
    halt_for_good();
}

// Whatever interrupts it comes here too, and does the same.
[[noreturn]] void stop_for_report()
{
    const unsigned self = cpu_number();
    record_machine_check(machine_checks[self]);
    stopped.add(self);
    halt_for_good();
}

// The first CPU to panic stops the others and reports. A panic inside of the report ends it.
void enter_panic()
{
    x86_64::disable_interrupts();
    const unsigned self = way_to_others ? cpu_number() : 0;
    unsigned expected = nobody;
    if (!reporter.compare_exchange_strong(expected, self)) {
        if (expected != self)
            stop_for_report();
        log("\nexo: panic while reporting a panic\n");
        stop();
    }
    record_machine_check(machine_checks[self]);
    if (!way_to_others)
        return print_machine_checks();
    way_to_others->send({.how = x86_64::interprocessor_interrupt::delivery::nmi,
                         .whom = x86_64::interprocessor_interrupt::destination::all_others});
    constexpr std::uint64_t patience = std::uint64_t{1} << 31; // of the time-stamp counter: about a second
    const std::uint64_t since = x86_64::read_tsc();
    while (count_stopped() + 1 < cpu_count() && x86_64::read_tsc() - since < patience)
        __builtin_ia32_pause();
    log("\nexo: CPU ", decimal{self}, " of ", decimal{cpu_count()}, " panics, ", decimal{count_stopped()},
        " others have stopped");
    print_machine_checks();
}

// Tells of the registers and calls that led to a trap.
void print_trap(const x86_64::trap_frame& frame)
{
    log("  registers\n");
    print_registers(frame);
    log("  calls\n");
    print_location(frame.rip);
    print_calls(frame.rbp);
}
[[noreturn]] void stop_in(const x86_64::trap_frame& frame)
{
    print_trap(frame);
    stop();
}

constinit sync::atomic_cpu_set<cpu_set> interrogated;

} // namespace

void stop_others_by(local_apic& apic) noexcept
{
    way_to_others = &apic;
}

bool stop_if_panicking() noexcept
{
    const unsigned by = reporter.load();
    if (by != nobody && by != (way_to_others ? cpu_number() : 0))
        stop_for_report();
    return by != nobody;
}

void interrogate(unsigned cpu, processor_signals& signals) noexcept
{
    interrogated.add(cpu);
    signals.interrupt_always(cpu);
}

bool answer_if_interrogated(const x86_64::trap_frame& frame) noexcept
{
    if (!way_to_others || !interrogated.remove(cpu_number()))
        return false;
    log("exo: CPU ", decimal{cpu_number()}, " is at\n");
    print_trap(frame);
    return true;
}

void halt_for_good() noexcept
{
    x86_64::disable_interrupts();
    for (;;)
        x86_64::halt();
}

void debug_exit(std::uint8_t code) noexcept
{
    x86_64::out32(debug_exit_port, code);
}

void panic_in_trap(std::string_view reason, std::uint64_t about, const x86_64::trap_frame& frame) noexcept
{
    enter_panic();
    log("\nexo: panic: ", reason, " (", hexadecimal{about}, ")\n");
    stop_in(frame);
}

void panic_in_page_fault(std::string_view reason, virt_addr at, const x86_64::trap_frame& frame,
                         const kernel_memory& memory) noexcept
{
    enter_panic();
    const x86_64::page_fault_code code{frame.error_code};
    log("\nexo: panic: ", reason, " (", hexadecimal{at.value()}, ")\n  ",
        code.fetch()   ? "instruction fetch"
        : code.write() ? "write"
                       : "read",
        code.user() ? " in user mode, " : " in the kernel, ",
        code.reserved_bit() ? "of an entry with reserved bits"
        : code.present()    ? "which the page's protection forbids"
                            : "of a page that is not there",
        "\n  page tables\n");
    mm::report_walk<x86_64::paging_4_level>(
        direct_map{}, page_table_root{}.current().table, at, [&](phys_addr table) { return memory.reaches(table); },
        [](const auto&... text) { log(text...); });
    stop_in(frame);
}

} // namespace exo::boot

void exo::panic(const char* message, const char* file, int line) noexcept
{
    using namespace boot;
    enter_panic();
    log("\nexo: panic: ", message, "\n  at ", file, ":", decimal{static_cast<std::uint64_t>(line)}, "\n  calls\n");
    print_calls(reinterpret_cast<std::uint64_t>(__builtin_frame_address(0)));
    stop();
}
