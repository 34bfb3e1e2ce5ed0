// System: what proc and linux need of the kernel that they are part of. The composition (kernel.hpp) is one; every
// component here is a template over it and holds a reference to it.
//
// Types:
//  - user_mode_type (hal::UserMode) and its `frame`;
//  - interrupts_type (hal::InterruptControl), for the locks: the scheduler, so that unlocking lets a woken thread run;
//  - space_type, an mm::address_space, and memory_type, the mm::memory_system that it is made from;
//  - scheduler_type, a sched::scheduler, and task_type, its task.
// Functions:
//  - heap(), parker(), interrupts(), user_mode(), memory(), scheduler(), vfs(), file_environment(): the components;
//  - processes(): the process_table;
//  - now(): monotonic time; wall_clock(): fs::wall_clock; random(span): unpredictable bytes;
//  - memory_status(), boot_options(), processor(n), processor_count(), terminals(): for /proc and the like;
//  - futexes(), inheriting_futexes(): the futex_table and the inheriting_futex_table;
//  - allocate_stack(), free_stack(): kernel stacks;
//  - log(): the kernel log (a kernel_log, base of every "exo: ..." line);
//  - rename(thread, name): the calling thread, which is `thread`, is called so from now on, in traces as well;
//  - session_ended(id): the leader of a session ends, and its terminal with it;
//  - init_exited(wait_status): PID 1 is gone; does not return.

#pragma once

#include <concepts>
#include <cstddef>
#include <span>

#include <exo/base/allocator.hpp>
#include <exo/base/time.hpp>
#include <exo/fs/environment.hpp>
#include <exo/hal/interrupt_control.hpp>
#include <exo/hal/user_mode.hpp>
#include <exo/proc/futex.hpp>
#include <exo/proc/memory_status.hpp>
#include <exo/sync/any_parker.hpp>

namespace exo::proc {

// Checked where a System is complete: inside its own members, for instance.
template <class S>
concept System = requires(S& system, std::span<std::byte> bytes) {
    requires hal::UserMode<typename S::user_mode_type>;
    requires std::same_as<typename S::frame, typename S::user_mode_type::frame>;
    requires hal::InterruptControl<typename S::interrupts_type>;
    typename S::space_type;
    typename S::memory_type;
    typename S::scheduler_type;
    typename S::task_type;
    { system.heap() } -> std::convertible_to<allocator&>;
    { system.parker() } -> std::convertible_to<sync::any_parker&>;
    { system.interrupts() } -> std::same_as<typename S::interrupts_type&>;
    { system.user_mode() } -> std::same_as<typename S::user_mode_type&>;
    { system.memory() } -> std::same_as<typename S::memory_type&>;
    { system.scheduler() } -> std::same_as<typename S::scheduler_type&>;
    { system.file_environment() } -> std::same_as<fs::environment&>;
    { system.now() } -> std::same_as<instant>;
    { system.wall_clock() } -> std::convertible_to<const fs::wall_clock&>;
    { system.random(bytes) } -> std::same_as<void>;
    { system.allocate_stack() } -> std::same_as<result<std::span<std::byte>>>;
    { system.free_stack(bytes) } -> std::same_as<void>;
    { system.memory_status() } -> std::same_as<memory_status>;
    { system.futexes() } -> std::same_as<futex_table&>;
    system.vfs();
    system.processes();
    system.log();
};

} // namespace exo::proc
