// The x86_64 PC as a Platform (platform.hpp): the models of the traits, and the devices that it found.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include <exo/arch/x86_64/cpu_topology.hpp>
#include <exo/arch/x86_64/instructions.hpp>
#include <exo/arch/x86_64/paging.hpp>
#include <exo/arch/x86_64/paging_entries.hpp>
#include <exo/arch/x86_64/register_access.hpp>
#include <exo/base/allocator.hpp>
#include <exo/base/static_vector.hpp>
#include <exo/drivers/acpi/madt.hpp>
#include <exo/drivers/acpi/pm_timer.hpp>
#include <exo/drivers/acpi/soft_off.hpp>
#include <exo/drivers/acpi/srat.hpp>
#include <exo/drivers/acpi/tables.hpp>
#include <exo/drivers/calibration.hpp>
#include <exo/drivers/counter_clock.hpp>
#include <exo/drivers/hpet.hpp>
#include <exo/drivers/io_apic.hpp>
#include <exo/drivers/local_apic.hpp>
#include <exo/drivers/processor_startup.hpp>
#include <exo/drivers/stray_interrupts.hpp>
#include <exo/drivers/time_source.hpp>
#include <exo/drivers/virtio_blk.hpp>
#include <exo/drivers/wrapping_counter.hpp>
#include <exo/mm/heap_policy.hpp>
#include <exo/platform.hpp>

#include "kernel_memory.hpp"
#include "log.hpp"
#include "models.hpp"
#include "processors.hpp"
#include "user_mode.hpp"

namespace exo::boot {

// Interrupt vectors beyond the exceptions.
namespace vector {
inline constexpr std::uint8_t pic = 0x20; // sixteen, for what the PIC may raise while it is turned off
inline constexpr std::uint8_t timer = 0x30;
inline constexpr std::uint8_t console = 0x31;
inline constexpr std::uint8_t first_disk = 0x40;
inline constexpr std::uint8_t apic_error = 0xfe;
inline constexpr std::uint8_t spurious = 0xff;
} // namespace vector

// RDRAND; without it, the timing of port accesses, which is weak where somebody can model the machine's timing.
class processor_entropy {
public:
    [[nodiscard]] result<> fill(std::span<std::byte> into) noexcept;

private:
    std::uint64_t pool_{};
};
static_assert(hal::EntropySource<processor_entropy>);

inline constexpr std::uint16_t fw_cfg_port = 0x510;

struct time_stamp_counter {
    std::uint64_t operator()() const noexcept { return x86_64::read_tsc(); }
};

// The HPET, or the PM timer where there is none.
struct shared_registers {
    std::optional<drivers::hpet<x86_64::mmio_registers>> hpet;
    drivers::acpi::pm_timer pm_timer;

    std::uint64_t operator()() noexcept { return hpet ? hpet->count() : pm_timer.count(x86_64::port_registers{0}); }
};
using shared_counter = drivers::wrapping_counter<shared_registers>;

// What the clock reads: a counter that the CPUs share, or each its own.
struct system_counter {
    shared_counter* shared{};

    std::uint64_t operator()() const noexcept { return shared ? (*shared)() : time_stamp_counter{}(); }
};
using clock_calibration = drivers::calibration<x86_64::port_registers, time_stamp_counter, system_counter>;

class machine {
public:
    using interrupts_type = interrupt_flag;
    using cpu_type = this_cpu_number;
    using phys_type = direct_map;
    using clock_type = drivers::counter_clock<system_counter>;
    using user_mode_type = ring3_mode;
    using entropy_type = processor_entropy;
    using format_type = x86_64::paging_4_level;
    using entries_type = x86_64::paging_entries;
    using tlb_type = local_tlb;
    using ipi_type = processor_calls;
    using translation_root_type = page_table_root;
    using context_type = stack_switch;
    using local_timer = drivers::local_apic_timer<local_apic, clock_type, time_stamp_counter>;
    using timer_type = timer_of_each_cpu<local_timer>;
    using cpu_control_type = processor_control;
    using topology_type = x86_64::cpu_topology<>;
#ifdef NDEBUG
    using heap_policy_type = mm::unchecked_heap;
#else
    using heap_policy_type = mm::checked_heap;
#endif
    using disk_type = drivers::virtio_blk<x86_64::mmio_registers, direct_map>;

    // `free_memory` is what boot left over; `loader_options` and `rsdp` come from the boot loader, and are copied.
    // The kernel's tables and descriptors are loaded. Takes the interrupt controllers over and finishes `calibration`.
    machine(kernel_memory& memory, frame_supply& frames, mm::memory_map& free_memory, std::uint64_t memory_bytes,
            std::string_view loader_options, std::span<const std::byte> rsdp, std::uint64_t entry_tsc,
            clock_calibration& calibration);
    machine(const machine&) = delete;
    machine& operator=(const machine&) = delete;

    [[nodiscard]] interrupts_type& interrupts() noexcept { return interrupts_; }
    [[nodiscard]] cpu_type& cpu() noexcept { return cpu_; }
    [[nodiscard]] phys_type& phys() noexcept { return phys_; }
    [[nodiscard]] clock_type& clock() noexcept { return timing_.clock; }
    [[nodiscard]] user_mode_type& user_mode() noexcept { return user_mode_; }
    [[nodiscard]] entropy_type& entropy() noexcept { return entropy_; }
    [[nodiscard]] entries_type& entries() noexcept { return entries_; }
    [[nodiscard]] tlb_type& tlb() noexcept { return tlb_; }
    [[nodiscard]] ipi_type& ipi() noexcept { return *calls_; }
    [[nodiscard]] translation_root_type& translation_root() noexcept { return root_; }
    [[nodiscard]] context_type& context() noexcept { return context_; }
    [[nodiscard]] timer_type& timer() noexcept { return *timer_; }
    [[nodiscard]] cpu_control_type& cpu_control() noexcept { return cpu_control_; }
    [[nodiscard]] const topology_type& topology() noexcept { return *topology_; }
    [[nodiscard]] log_sink& log() noexcept { return log_; }
    [[nodiscard]] console_sink& console() noexcept { return console_; }

    [[nodiscard]] std::span<const phys_range> usable_memory() noexcept { return free_memory_.ranges(); }
    [[nodiscard]] std::uint64_t image_bytes() noexcept;
    [[nodiscard]] std::uint64_t memory_bytes() noexcept { return memory_bytes_; }
    [[nodiscard]] frame_number kernel_root() noexcept { return frame_number{memory_.root()}; }
    [[nodiscard]] instant entry_time() noexcept { return instant{}; }
    [[nodiscard]] std::int64_t wall_clock_base() noexcept { return wall_clock_base_; }
    [[nodiscard]] result<std::span<std::byte>> allocate_stack() { return memory_.allocate_stack(); }
    void free_stack(std::span<std::byte> stack) { memory_.free_stack(stack); }
    [[nodiscard]] std::size_t disk_count() noexcept { return disks_.size(); }
    [[nodiscard]] hal::block_device& disk(std::size_t index) noexcept { return *disks_[index]; }
    [[nodiscard]] processor_description processor(std::size_t index) noexcept;
    [[nodiscard]] const boot_options& options() noexcept { return options_; }
    [[nodiscard]] sync::lock_counters* lock_counters(unsigned cpu) noexcept
    {
        for (coming_processor& other : coming_)
            if (other.block.number == cpu)
                return sync::kept_in(other.block.lock_counts);
        return sync::kept_in(boot_cpu().lock_counts);
    }
    [[noreturn]] void power_off(std::uint8_t status);

    // Starts the other CPUs that the firmware names, all at once, in the page `startup`, if there is one. Those that
    // come have numbers then, and wait until attach(). Once, before the kernel is made.
    void start_processors(std::optional<phys_addr> startup);
    // What each of them does then, on a stack of its own: returns when the kernel may have it.
    void join() noexcept;
    // Calls on_kick() on another CPU.
    void kick(unsigned cpu) noexcept { signals_->kick(cpu); }
    // Has another CPU, which is stuck, tell on the log where.
    void interrogate(unsigned cpu) noexcept;
    [[nodiscard]] processor_signals& signals() noexcept { return *signals_; }
    // From here on frames come from the kernel's allocator, and the other CPUs run threads.
    template <class Kernel>
    void attach(Kernel& kernel)
    {
        frames_.switch_to(kernel.frames());
        kernel.metrics().add(stray_metrics_);
        if (cpu_count() > 1)
            memory_.call_others(*calls_);
        released_.store(true, std::memory_order_release);
        const sync::pin pinned{interrupts_, cpu_};
        for (unsigned cpu = 1; cpu < cpu_count(); ++cpu)
            kick(cpu);
    }

    template <class Kernel>
    [[nodiscard]] result<> start_devices(Kernel& kernel)
    {
        find_disks({kernel.heap(), kernel.pages(), phys_, kernel.parker()});
        start_console();
        return {};
    }

    // For the interrupt handlers.
    void end_of_interrupt() noexcept { apic_.end_of_interrupt(); }
    void on_disk_interrupt(std::size_t index) noexcept
    {
        if (index < disks_.size())
            disks_[index]->on_interrupt();
    }
    void on_apic_error() noexcept;
    void on_spurious_interrupt() noexcept { stray_interrupts_.on_spurious(); }
    // What was typed on the console, up to the size of `into`.
    [[nodiscard]] std::span<const std::byte> read_console(std::span<std::byte> into) noexcept;

private:
    static constexpr std::size_t most_disks = 8;

    struct timing {
        drivers::counter_rates rates;
        clock_type clock;
    };
    struct memory_view {
        kernel_memory* memory;
        std::span<const std::byte> operator()(phys_addr at, std::size_t bytes) const { return memory->view(at, bytes); }
    };

    using acpi_tables = drivers::acpi::tables<memory_view>;
    [[nodiscard]] drivers::acpi::interrupt_controllers read_acpi(std::span<const std::byte> rsdp,
                                                                 clock_calibration& calibration);
    // The rate of the shared counter, if there is one.
    [[nodiscard]] std::optional<drivers::tick_rate> find_shared_counter(acpi_tables& tables);
    [[nodiscard]] local_apic take_over_interrupts();
    template <class T, class... Args>
    [[nodiscard]] std::span<T> take(std::size_t count, Args&&... args);
    void start_processors(phys_addr startup, std::span<const std::uint32_t> others);
    void number_processors(instant since);
    [[nodiscard]] timing finish(clock_calibration& calibration, std::uint64_t entry_tsc);
    void choose_time_source(bool cpus_are_in_step);
    void read_options(std::string_view loader_options);
    void describe_processor();
    void find_disks(const disk_type::environment& around);
    void start_console();
    [[nodiscard]] result<x86_64::mmio_registers> map_registers(phys_range where);

    kernel_memory& memory_;
    frame_supply& frames_;
    mm::memory_map& free_memory_;
    std::uint64_t memory_bytes_;

    interrupts_type interrupts_;
    cpu_type cpu_;
    phys_type phys_;
    user_mode_type user_mode_;
    entropy_type entropy_;
    entries_type entries_;
    tlb_type tlb_;
    translation_root_type root_;
    context_type context_;
    cpu_control_type cpu_control_;
    log_sink log_;
    console_sink console_;

    // In this order: what fills controllers_ also fills what is before it, and what makes apic_ fills io_apics_.
    std::optional<shared_counter> shared_counter_;
    drivers::tick_rate shared_rate_;
    std::string_view shared_counter_name_;
    std::optional<drivers::acpi::soft_off> soft_off_;
    std::span<const std::byte> affinities_; // the SRAT, if there is one
    drivers::acpi::interrupt_controllers controllers_;
    static_vector<drivers::io_apic<x86_64::mmio_registers>, 8> io_apics_;
    local_apic apic_;
    timing timing_;
    drivers::time_source time_source_{drivers::time_source::tsc};
    std::int64_t wall_clock_base_;
    boot_options options_;
    static_vector<owned<disk_type>, most_disks> disks_;

    // What a CPU has before it has a number.
    struct coming_processor {
        cpu_block block;
        std::span<std::byte> interrupt_stacks[boot::interrupt_stacks];
    };
    std::span<drivers::starting_processor<>> starting_; // all but this one
    drivers::shown_count<> boot_count_{};
    std::span<coming_processor> coming_; // of the same
    std::span<std::uint32_t> apic_ids_;  // by number
    std::uint8_t device_destination_{};  // the APIC id of the CPU that devices interrupt
    std::optional<topology_type> topology_;
    std::optional<processor_signals> signals_;
    std::optional<ipi_type> calls_;
    std::optional<timer_type> timer_;
    using strays = drivers::stray_interrupts<trace::recording>;
    strays stray_interrupts_;
    trace::table_source<strays> stray_metrics_{strays::table, stray_interrupts_};
    std::atomic<bool> released_{};
};
static_assert(Platform<machine>);

} // namespace exo::boot
