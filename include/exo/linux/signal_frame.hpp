// How a handler of a program is called on x86-64, and how it returns: the frame that Linux leaves on the user's stack
// (arch/x86/include/uapi/asm/sigcontext.h, asm-generic/ucontext.h), so that unwinders and debuggers read it.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <exo/base/address.hpp>
#include <exo/base/errors.hpp>
#include <exo/base/result.hpp>
#include <exo/fs/user_memory.hpp>
#include <exo/linux/numbers.hpp>
#include <exo/linux/restartable_sequence.hpp>
#include <exo/proc/signal.hpp>
#include <exo/proc/signals.hpp>
#include <exo/proc/thread.hpp>
#include <exo/proc/user_copy.hpp>

namespace exo::linux_abi {

struct stack_record {
    std::uint64_t base;
    std::uint32_t flags;
    std::uint32_t padding;
    std::uint64_t size;
};
static_assert(sizeof(stack_record) == 24);

struct signal_context {
    std::uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
    std::uint64_t rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, rflags;
    std::uint16_t cs, gs, fs, ss;
    std::uint64_t error_code, trap_number, old_mask, fault_address;
    std::uint64_t floating_point; // where the image lies, or 0
    std::uint64_t reserved[8];
};
static_assert(sizeof(signal_context) == 256);

struct user_context {
    static constexpr std::uint64_t has_stack_segment = 2, restore_stack_segment = 4;

    std::uint64_t flags;
    std::uint64_t link;
    stack_record stack;
    signal_context registers;
    std::uint64_t mask;
};
static_assert(sizeof(user_context) == 304);

struct signal_sender {
    std::int32_t process;
    std::uint32_t user;
    std::int32_t status; // SIGCHLD; for a queued signal the low half of the value
    std::int32_t value_high;
    std::int64_t user_time, system_time;
};

struct signal_info_record {
    std::int32_t number;
    std::int32_t error;
    std::int32_t code;
    std::int32_t padding;
    union {
        std::byte bytes[112]; // the first, so that {} clears all of them
        signal_sender sender;
        std::uint64_t address;
    };
};
static_assert(sizeof(signal_info_record) == 128);
} // namespace exo::linux_abi
template <>
inline constexpr bool exo::fs::has_no_gaps<exo::linux_abi::signal_info_record> = true;
namespace exo::linux_abi {

struct signal_frame {
    std::uint64_t return_address;
    user_context context;
    signal_info_record info;
};
static_assert(sizeof(signal_frame) == 8 + 304 + 128);

[[nodiscard]] inline signal_info_record to_record(const proc::signal_info& info)
{
    using proc::signal;
    signal_info_record record{};
    record.number = static_cast<std::int32_t>(info.number);
    record.code = info.code;
    const bool from_fault = info.code > 0 && proc::synchronous_signals.contains(info.number);
    if (from_fault) {
        record.address = info.value;
        return record;
    }
    record.sender.process = info.sender;
    record.sender.user = info.user;
    if (info.code == proc::signal_code::queue) {
        record.sender.status = static_cast<std::int32_t>(info.value);
        record.sender.value_high = static_cast<std::int32_t>(info.value >> 32);
    } else {
        record.sender.status = info.status;
    }
    return record;
}

[[nodiscard]] inline proc::signal_info from_record(const signal_info_record& record)
{
    return {.number = static_cast<proc::signal>(record.number),
            .code = record.code,
            .sender = record.sender.process,
            .user = record.sender.user,
            .value = static_cast<std::uint32_t>(record.sender.status) |
                     static_cast<std::uint64_t>(static_cast<std::uint32_t>(record.sender.value_high)) << 32};
}

template <class System>
[[nodiscard]] stack_record to_record(const proc::thread<System>& t, std::uint64_t stack_pointer)
{
    const auto& s = t.signal_stack;
    const std::uint32_t in_use = s.contains(stack_pointer) ? s.in_use : 0;
    return {.base = s.base.value(), .flags = s.flags | in_use, .padding = 0, .size = s.size};
}

// Makes `frame` that of the handler, called with everything it is to restore below the stack pointer. Errors:
// bad_address, and then the frame is as it was.
template <class System>
[[nodiscard]] result<> push_signal_frame(proc::thread<System>& t, typename System::frame& frame,
                                         const proc::delivery& delivered)
{
    auto& mode = t.system().user_mode();
    const auto& action = delivered.action;
    constexpr std::uint64_t red_zone = 128;
    std::uint64_t top = frame.rsp - red_zone;
    if ((action.flags & action.on_stack) != 0 && (t.signal_stack.flags & t.signal_stack.disabled) == 0 &&
        !t.signal_stack.contains(frame.rsp))
        top = t.signal_stack.base.value() + t.signal_stack.size;
    if ((action.flags & action.has_restorer) == 0)
        return fail(errors::bad_address, action.restorer.value());

    {
        const auto interrupts = t.system().interrupts().save_and_disable();
        mode.save(t.state);
        t.system().interrupts().restore(interrupts);
    }
    const std::span<const std::byte> image = mode.fpu_image(t.state);
    const std::uint64_t image_at = (top - image.size()) & ~std::uint64_t{63};
    const std::uint64_t frame_at = ((image_at - sizeof(signal_frame)) & ~std::uint64_t{15}) - 8;

    const auto mask = t.blocked_is_temporary ? t.blocked_before : t.blocked;
    signal_frame pushed{};
    pushed.return_address = action.restorer.value();
    pushed.context.flags = user_context::has_stack_segment | user_context::restore_stack_segment;
    pushed.context.stack = to_record(t, frame.rsp);
    pushed.context.mask = mask.bits();
    auto& r = pushed.context.registers;
    r.r8 = frame.r8, r.r9 = frame.r9, r.r10 = frame.r10, r.r11 = frame.r11;
    r.r12 = frame.r12, r.r13 = frame.r13, r.r14 = frame.r14, r.r15 = frame.r15;
    r.rdi = frame.rdi, r.rsi = frame.rsi, r.rbp = frame.rbp, r.rbx = frame.rbx;
    r.rdx = frame.rdx, r.rax = frame.rax, r.rcx = frame.rcx, r.rsp = frame.rsp;
    r.rip = frame.rip, r.rflags = frame.rflags;
    r.cs = static_cast<std::uint16_t>(frame.cs), r.ss = static_cast<std::uint16_t>(frame.ss);
    r.error_code = frame.error_code, r.trap_number = frame.vector;
    r.old_mask = mask.bits();
    r.fault_address = delivered.info.code > 0 ? delivered.info.value : 0;
    r.floating_point = image_at;
    pushed.info = to_record(delivered.info);

    const auto bytes = std::as_bytes(std::span{&pushed, 1});
    if (proc::copy_to_user(t.system(), user_addr{image_at}, image.data(), image.size()) != image.size() ||
        proc::copy_to_user(t.system(), user_addr{frame_at}, bytes.data(), bytes.size()) != bytes.size())
        return fail(errors::bad_address, frame_at);

    frame.rdi = static_cast<std::uint64_t>(delivered.info.number);
    frame.rsi = frame_at + offsetof(signal_frame, info);
    frame.rdx = frame_at + offsetof(signal_frame, context);
    frame.rax = 0;
    frame.rip = action.handler.value();
    frame.rsp = frame_at;
    constexpr std::uint64_t trap = 1 << 8, direction = 1 << 10, resume = 1 << 16;
    frame.rflags &= ~(trap | direction | resume);
    mode.sanitize(frame);

    auto blocked = t.blocked | action.mask;
    if ((action.flags & action.no_defer) == 0)
        blocked.add(delivered.info.number);
    t.blocked_is_temporary = false;
    proc::set_blocked(t, blocked);
    return {};
}

// rt_sigreturn: everything is checked, for the frame may hold anything by now. Errors: bad_address, invalid_argument.
template <class System>
[[nodiscard]] result<> pop_signal_frame(proc::thread<System>& t, typename System::frame& frame)
{
    auto& mode = t.system().user_mode();
    user_context context{};
    const user_addr at{frame.rsp - 8 + offsetof(signal_frame, context)};
    if (proc::copy_from_user(t.system(), reinterpret_cast<std::byte*>(&context), at, sizeof(context)) !=
        sizeof(context))
        return fail(errors::bad_address, at.value());

    const auto& r = context.registers;
    if (r.floating_point != 0) {
        // Into the saved state, piece by piece replaced in a copy: what does not check out changes nothing.
        const auto interrupts = t.system().interrupts().save_and_disable();
        mode.save(t.state);
        t.system().interrupts().restore(interrupts);
        const auto size = mode.fpu_image(t.state).size();
        auto copy = EXO_TRY(owned_array<std::byte>::create(t.system().heap(), size));
        if (proc::copy_from_user(t.system(), copy.data(), user_addr{r.floating_point}, size) != size)
            return fail(errors::bad_address, r.floating_point);
        const auto off = t.system().interrupts().save_and_disable();
        mode.save(t.state);
        const auto accepted = mode.set_fpu_image(t.state, std::span<const std::byte>{copy.data(), size});
        if (accepted)
            mode.load(t.state);
        t.system().interrupts().restore(off);
        EXO_TRY(accepted);
    }
    frame.r8 = r.r8, frame.r9 = r.r9, frame.r10 = r.r10, frame.r11 = r.r11;
    frame.r12 = r.r12, frame.r13 = r.r13, frame.r14 = r.r14, frame.r15 = r.r15;
    frame.rdi = r.rdi, frame.rsi = r.rsi, frame.rbp = r.rbp, frame.rbx = r.rbx;
    frame.rdx = r.rdx, frame.rax = r.rax, frame.rcx = r.rcx, frame.rsp = r.rsp;
    frame.rip = r.rip, frame.rflags = r.rflags;
    mode.sanitize(frame);

    t.blocked_is_temporary = false;
    t.restart = proc::restart_kind::none;
    proc::set_blocked(t, proc::signal_set{context.mask});
    if (!t.signal_stack.contains(frame.rsp)) {
        t.signal_stack.base = user_addr{context.stack.base};
        t.signal_stack.size = context.stack.size;
        t.signal_stack.flags = context.stack.flags & t.signal_stack.disabled;
    }
    return {};
}

// What a thread has to do on its way to user mode, if its task's interrupt_pending says so or a call was interrupted:
// deliver signals, and decide whether the interrupted call starts again. The process may stop or end here.
template <class System>
void deliver_signals(proc::thread<System>& t, typename System::frame& frame)
{
    using proc::restart_kind;
    constexpr std::uint64_t syscall_length = 2; // of the instruction, which is executed again
    const auto start_again = [&](std::uint64_t call) {
        frame.rax = call;
        frame.rip -= syscall_length;
        t.restart = restart_kind::none;
    };
    while (const auto delivered = proc::next_delivery(t)) {
        if (t.restart == restart_kind::always ||
            (t.restart == restart_kind::by_action && (delivered->action.flags & proc::signal_action::restart) != 0))
            start_again(t.restart_call);
        t.restart = restart_kind::none; // EINTR, which is in the frame already
        if (!abort_sequence(t, frame) || !push_signal_frame(t, frame, *delivered)) {
            if (delivered->info.number == proc::signal::sigsegv)
                proc::exit_process(t, proc::wait_status::killed(proc::signal::sigsegv));
            proc::raise_fault(t, {.number = proc::signal::sigsegv, .code = proc::signal_code::kernel});
        }
    }
    if (t.restart == restart_kind::with_rest)
        start_again(static_cast<std::uint64_t>(number::restart_syscall));
    else if (t.restart != restart_kind::none)
        start_again(t.restart_call);
    proc::end_blocked_for_call(t);
}

} // namespace exo::linux_abi
