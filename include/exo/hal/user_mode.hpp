// UserMode: where programs run. Enter it, reach its memory safely, and keep what a thread owns of the processor beyond
// the registers of its frame.
//
// Laws (checked by what runs in user mode: test/proc and test/linux on the simulated machine, test/guest on a booted
// one):
//  - A `frame` holds the registers of a thread as they were when it left user mode; it is trivially copyable, and lives
//    on the kernel stack of its thread. start_frame(entry, stack) is that of a program that has not run yet: everything
//    zero but what it names, interrupts enabled.
//  - sanitize(f) makes every frame safe to enter: whatever it held, the thread runs in user mode, with interrupts
//    enabled and no privilege, and an address that would fault in the kernel on the way out is replaced by 0.
//  - enter(f) goes to user mode by f and never returns: the thread comes back by a trap, at the start of its kernel
//    stack. It runs the composition's work before return (kernel::on_return_to_user) as every way out does.
//  - copy_from_user and copy_to_user move `size` bytes between kernel memory and the user memory of the space that is
//    loaded, and return how many, from the first on: fewer means that the next byte is not accessible to user mode.
//    They never touch an address outside the user half, for no size. A page that can be brought in is brought in (they
//    may sleep, so no spin lock is held). A copy of 1, 2, 4 or 8 bytes that is aligned at the user's side is a single
//    access.
//  - compare_exchange_user does that on an aligned 32-bit word; the value found, or bad_address.
//  - `state` is the floating-point and vector registers, the TLS base and the GS base of one thread; the latter for the
//    program's own use, as on x86-64. save(s) stores what the CPU holds now, load(s) the reverse; reset(s) is what a new
//    program starts with. States can be copied. The context switch saves the previous thread's and loads the next
//    one's; in between, the CPU holds the current thread's.
//  - fpu_image(s) is the registers as they are laid out in a signal frame (x86-64: XSAVE, the legacy FXSAVE area
//    first), of a saved state; set_fpu_image(s, image) takes one back, refusing what would fault when loaded
//    (invalid_argument).
//  - set_kernel_stack(top): the next trap from user mode on this CPU starts there.
//  - Nothing but the copies and enter sleeps, and nothing allocates.

#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include <exo/base/address.hpp>
#include <exo/base/result.hpp>

namespace exo::hal {

template <class T>
concept UserMode =
    std::is_trivially_copyable_v<typename T::frame> && std::default_initializable<typename T::state> &&
    std::copyable<typename T::state> &&
    requires(T& mode, typename T::frame& f, typename T::state& s, const typename T::state& saved, user_addr user,
             std::byte* kernel, const std::byte* source, std::size_t size, std::uint64_t value, std::uint32_t word,
             std::span<const std::byte> image) {
        { mode.start_frame(user, user) } noexcept -> std::same_as<typename T::frame>;
        { mode.sanitize(f) } noexcept -> std::same_as<void>;
        { mode.enter(f) } -> std::same_as<void>;
        { mode.copy_from_user(kernel, user, size) } -> std::same_as<std::size_t>;
        { mode.copy_to_user(user, source, size) } -> std::same_as<std::size_t>;
        { mode.compare_exchange_user(user, word, word) } -> std::same_as<result<std::uint32_t>>;
        { mode.user_limit() } noexcept -> std::same_as<user_addr>; // the first address beyond the user half
        { mode.save(s) } noexcept -> std::same_as<void>;
        { mode.load(saved) } noexcept -> std::same_as<void>;
        { mode.reset(s) } noexcept -> std::same_as<void>;
        { mode.tls_base(saved) } noexcept -> std::same_as<std::uint64_t>;
        { mode.set_tls_base(s, value) } noexcept -> std::same_as<void>;
        { mode.gs_base(saved) } noexcept -> std::same_as<std::uint64_t>;
        { mode.set_gs_base(s, value) } noexcept -> std::same_as<void>;
        { mode.fpu_image(saved) } noexcept -> std::same_as<std::span<const std::byte>>;
        { mode.set_fpu_image(s, image) } noexcept -> std::same_as<result<>>;
        { mode.set_kernel_stack(kernel) } noexcept -> std::same_as<void>;
        { mode.hardware_capabilities() } noexcept -> std::same_as<std::uint64_t>; // AT_HWCAP
    };

} // namespace exo::hal
