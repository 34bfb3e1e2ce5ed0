// Platform: what exo::kernel asks of the machine that it is to run on. boot/ models it with x86-64, sim/ with the
// simulated machine; a third party's kernel that takes everything models it once more.
//
// A platform is an object that outlives its kernel. Its accessors return the models of the traits (laws: hal/), the
// same objects each time. What happens when:
//  1. The platform finds its memory and builds kernel<Platform>{platform}: frames, heap and scheduler stand afterwards.
//     Interrupts are off; only traits, usable_memory, kernel_root and image_bytes have been used.
//  2. kernel.run(), with interrupts on, calls attach(kernel) first: now stacks can be allocated, and the interrupt
//     handlers may be pointed at the kernel's entry points. Then it turns into the boot CPU's idle thread, and starts a
//     thread, in which start_devices(kernel) finds disks and console; it may sleep.
//     Each other CPU calls run_processor() when attach() has begun, on a stack of its own, interrupts on.
//  3. That thread mounts the root and becomes PID 1.
//
// What a platform may leave out: kick(cpu), which makes another CPU call on_kick(), if it has one CPU; topology_type
// and topology() -> const topology_type& (hal/topology.hpp), where all CPUs are alike; filter_heap(allocator&) ->
// allocator&, put before the kernel's heap, to fail on purpose; heap_policy_type (mm/heap_policy.hpp), if misuse of the
// heap is to be found; atomics_type (hal/atomics.hpp), if somebody has to know where a CPU waits for others;
// interrogate(cpu), which has a CPU that takes no interrupts any more tell on the log where it is, without which nobody
// looks for such CPUs; and root_file_system(kernel&) -> result<ref<fs::file_system>>, if the root is not an ext2 on
// disk 0.
//
// Entry points of the kernel that the platform's handlers call (`frame` is UserMode::frame):
//  - on_system_call(frame&): a thread made a system call; interrupts on. The result is in the frame.
//  - on_page_fault(frame&, virt_addr, mm::access): a fault in user mode; interrupts on.
//  - resolve_fault(virt_addr, mm::access) -> bool: a fault in the kernel, at an address of the user half, at one of the
//    instructions of UserMode's copies; interrupts on. False: the copy ends there.
//  - on_exception(frame&, proc::fault): any other exception in user mode; interrupts on.
//  - on_return_to_user(frame&): interrupts on, the last thing before every return to user mode but one: with interrupts
//    off, return_work_pending() tells whether more came up meanwhile; then the platform turns interrupts on and
//    repeats.
//  - on_timer(proc::processor_mode): the deadline timer fired, and what it came upon; on_kick(): another CPU called;
//    interrupts off. Then, as after every interrupt, preempt_if_needed() on the way out to what was interrupted, user
//    or kernel, if that had interrupts on.
//  - on_console_input(bytes): what the console's user typed; from an interrupt handler, interrupts off.

#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include <exo/base/address.hpp>
#include <exo/base/range.hpp>
#include <exo/base/result.hpp>
#include <exo/hal/block_device.hpp>
#include <exo/hal/clock.hpp>
#include <exo/hal/console_sink.hpp>
#include <exo/hal/cpu_local.hpp>
#include <exo/hal/entropy_source.hpp>
#include <exo/hal/idle.hpp>
#include <exo/hal/interrupt_control.hpp>
#include <exo/hal/phys_access.hpp>
#include <exo/hal/user_mode.hpp>

namespace exo {

// What was asked of this boot. The views live as long as the platform.
struct boot_options {
    std::string_view command_line;
    // A shell command to run instead of an interactive shell.
    std::optional<std::string_view> command;
    // Written to the console, with a newline, just before the first program starts.
    std::optional<std::string_view> marker;

    // Whether `word` is one of the words of the command line.
    [[nodiscard]] constexpr bool has(std::string_view word) const
    {
        for (std::size_t at = 0; at < command_line.size();) {
            const auto end = command_line.find(' ', at);
            if (command_line.substr(at, end - at) == word)
                return true;
            at = end == command_line.npos ? end : end + 1;
        }
        return false;
    }
};

// What /proc/cpuinfo tells about one CPU.
struct processor_description {
    std::string_view vendor;
    std::string_view model_name;
    unsigned family{};
    unsigned model{};
    unsigned stepping{};
    std::uint64_t hertz{};
    std::string_view flags; // separated by spaces
};

template <class P>
concept Platform = requires(P& platform, std::span<std::byte> stack, std::uint8_t status, std::size_t index) {
    // Traits by value type and accessor.
    requires hal::InterruptControl<typename P::interrupts_type>;
    requires hal::CpuLocal<typename P::cpu_type>;
    requires hal::PhysAccess<typename P::phys_type>;
    requires hal::Clock<typename P::clock_type>;
    requires hal::UserMode<typename P::user_mode_type>;
    requires hal::EntropySource<typename P::entropy_type>;
    typename P::format_type;           // hal::PteFormat
    typename P::entries_type;          // hal::EntryStore
    typename P::tlb_type;              // hal::Tlb
    typename P::ipi_type;              // hal::Ipi
    typename P::translation_root_type; // hal::TranslationRoot
    typename P::context_type;          // hal::Context
    typename P::timer_type;            // hal::DeadlineTimer
    requires hal::Idle<typename P::cpu_control_type>;
    { platform.interrupts() } noexcept -> std::same_as<typename P::interrupts_type&>;
    { platform.cpu() } noexcept -> std::same_as<typename P::cpu_type&>;
    { platform.phys() } noexcept -> std::same_as<typename P::phys_type&>;
    { platform.clock() } noexcept -> std::same_as<typename P::clock_type&>;
    { platform.user_mode() } noexcept -> std::same_as<typename P::user_mode_type&>;
    { platform.entropy() } noexcept -> std::same_as<typename P::entropy_type&>;
    { platform.entries() } noexcept -> std::same_as<typename P::entries_type&>;
    { platform.tlb() } noexcept -> std::same_as<typename P::tlb_type&>;
    { platform.ipi() } noexcept -> std::same_as<typename P::ipi_type&>;
    { platform.translation_root() } noexcept -> std::same_as<typename P::translation_root_type&>;
    { platform.context() } noexcept -> std::same_as<typename P::context_type&>;
    { platform.timer() } noexcept -> std::same_as<typename P::timer_type&>;
    { platform.cpu_control() } noexcept -> std::same_as<typename P::cpu_control_type&>;

    // Kernel log and console output: written at once, in every context.
    requires hal::ConsoleSink<std::remove_reference_t<decltype(platform.log())>>;
    requires hal::ConsoleSink<std::remove_reference_t<decltype(platform.console())>>;

    // RAM that is free for the kernel to hand out: whole pages, ascending, disjoint; not the image, nor tables in use.
    { platform.usable_memory() } noexcept -> std::same_as<std::span<const phys_range>>;
    // RAM that the image and the tables made at boot take; RAM altogether.
    { platform.image_bytes() } noexcept -> std::same_as<std::uint64_t>;
    { platform.memory_bytes() } noexcept -> std::same_as<std::uint64_t>;
    // The table whose kernel half every address space shares; its entries there never change again.
    { platform.kernel_root() } noexcept -> std::same_as<frame_number>;
    // Clock reading when the kernel was entered, and the wall-clock time (ns since 1970 UTC) at the clock's zero.
    { platform.entry_time() } noexcept -> std::same_as<instant>;
    { platform.wall_clock_base() } noexcept -> std::same_as<std::int64_t>;

    // 16 KiB each, page-aligned, with an unmapped page below. free_stack may be called with interrupts off, and does
    // not sleep. Errors: out_of_memory.
    { platform.allocate_stack() } -> std::same_as<result<std::span<std::byte>>>;
    { platform.free_stack(stack) } -> std::same_as<void>;

    // After start_devices. Disk 0 is the root.
    { platform.disk_count() } noexcept -> std::same_as<std::size_t>;
    { platform.disk(index) } noexcept -> std::same_as<hal::block_device&>;
    { platform.processor(index) } noexcept -> std::same_as<processor_description>;
    { platform.options() } noexcept -> std::same_as<const boot_options&>;

    // Ends the machine; never returns. The status is that of PID 1.
    { platform.power_off(status) } -> std::same_as<void>;
    // And the templates attach(kernel<P>&) -> void and start_devices(kernel<P>&) -> result<>, called as told above.
};

} // namespace exo
