// Restartable sequences, rseq(2): a thread reads its CPU's number in its own memory, and a short sequence of
// instructions that was disturbed, by another thread on the CPU or by a signal, goes on at its abort handler instead
// (Linux: include/uapi/linux/rseq.h).

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <exo/base/address.hpp>
#include <exo/base/errors.hpp>
#include <exo/base/result.hpp>
#include <exo/linux/call.hpp>
#include <exo/proc/signals.hpp>
#include <exo/proc/thread.hpp>
#include <exo/proc/user_copy.hpp>

namespace exo::linux_abi {

struct sequence_area { // struct rseq
    static constexpr std::uint32_t no_cpu = ~std::uint32_t{0}; // RSEQ_CPU_ID_UNINITIALIZED

    std::uint32_t cpu_at_start;
    std::uint32_t cpu;
    std::uint64_t sequence; // of the descriptor of the one that runs, or 0
    std::uint32_t flags;
    std::uint32_t node;
    std::uint32_t concurrency; // a number that no other running thread of the program has (mm_cid)
    std::uint32_t padding;
};
static_assert(sizeof(sequence_area) == 32);

struct sequence_record { // struct rseq_cs
    std::uint32_t version;
    std::uint32_t flags;
    std::uint64_t begin;
    std::uint64_t size;
    std::uint64_t abort;
};
static_assert(sizeof(sequence_record) == 32);

namespace detail {

template <class T, class System>
[[nodiscard]] result<T> read_user(proc::thread<System>& t, user_addr from)
{
    T value{};
    if (proc::copy_from_user(t.system(), reinterpret_cast<std::byte*>(&value), from, sizeof(T)) != sizeof(T))
        return fail(errors::bad_address, from.value());
    return value;
}
template <class System, class T>
[[nodiscard]] result<> write_user(proc::thread<System>& t, user_addr to, const T& value)
{
    const auto bytes = std::as_bytes(std::span{&value, 1});
    if (proc::copy_to_user(t.system(), to, bytes.data(), bytes.size()) != bytes.size())
        return fail(errors::bad_address, to.value());
    return {};
}

// What the thread may read about where it runs. Errors: bad_address.
template <class System>
[[nodiscard]] result<> write_place(proc::thread<System>& t, std::uint32_t at_start, std::uint32_t cpu,
                                   std::uint32_t concurrency)
{
    const user_addr area = t.sequences.area;
    const std::uint32_t cpus[] = {at_start, cpu};
    const std::uint32_t groups[] = {0, concurrency};
    EXO_TRY(write_user(t, area + offsetof(sequence_area, cpu_at_start), cpus));
    return write_user(t, area + offsetof(sequence_area, node), groups);
}

} // namespace detail

// The sequence that `frame` stands in, if any, goes on at its abort handler. Errors: bad_address, invalid_argument (the
// descriptor, or what stands before the handler, is wrong): the program deserves SIGSEGV.
template <class System>
[[nodiscard]] result<> abort_sequence(proc::thread<System>& t, typename System::frame& frame)
{
    const user_addr area = t.sequences.area;
    if (area.value() == 0)
        return {};
    const user_addr pointer = area + offsetof(sequence_area, sequence);
    const auto at = EXO_TRY(detail::read_user<std::uint64_t>(t, pointer));
    if (at == 0)
        return {};
    const auto sequence = EXO_TRY(detail::read_user<sequence_record>(t, user_addr{at}));
    const std::uint64_t limit = t.system().user_mode().user_limit().value();
    if (sequence.version != 0 || sequence.begin >= limit || sequence.size >= limit - sequence.begin ||
        sequence.abort >= limit || sequence.abort - sequence.begin < sequence.size)
        return fail(errors::invalid_argument, at);
    const auto before = EXO_TRY(
        detail::read_user<std::uint32_t>(t, user_addr{sequence.abort - sizeof(std::uint32_t)}));
    if (before != t.sequences.signature)
        return fail(errors::invalid_argument, sequence.abort);
    const bool inside = frame.rip - sequence.begin < sequence.size;
    // No flag that once asked for less than this means anything any more.
    if (inside && (sequence.flags | EXO_TRY(detail::read_user<std::uint32_t>(
                                        t, area + offsetof(sequence_area, flags)))) != 0)
        return fail(errors::invalid_argument, sequence.flags);
    EXO_TRY(detail::write_user(t, pointer, std::uint64_t{0}));
    if (inside)
        frame.rip = sequence.abort;
    return {};
}

// On the way to user mode, after the thread lost the CPU.
template <class System>
void resume_sequence(proc::thread<System>& t, typename System::frame& frame)
{
    // First: if it loses the CPU once more meanwhile, this is done again.
    t.displaced.store(false, std::memory_order_relaxed);
    if (t.sequences.area.value() == 0)
        return;
    const auto told = [&]() -> result<> {
        EXO_TRY(abort_sequence(t, frame));
        const auto cpu = static_cast<std::uint32_t>(t.task.cpu());
        return detail::write_place(t, cpu, cpu, cpu);
    };
    if (!told())
        proc::raise_fault(t, {.number = proc::signal::sigsegv, .code = proc::signal_code::kernel});
}

template <class System>
result<void> sys_rseq(call<System>& c, user_addr area, std::uint32_t size, std::uint32_t flags,
                      std::uint32_t signature)
{
    constexpr std::uint32_t unregister = 1;
    auto& t = c.thread;
    auto& now = t.sequences;
    if ((flags & ~unregister) != 0)
        return fail(errors::invalid_argument, flags);
    const bool known = now.area.value() != 0;
    if (known || flags == unregister) {
        if (!known || now.area != area || size != sizeof(sequence_area))
            return fail(errors::invalid_argument, area.value());
        if (now.signature != signature)
            return fail(errors::not_permitted, signature);
        if (flags != unregister)
            return fail(errors::busy, area.value());
        EXO_TRY(detail::write_place(t, 0, sequence_area::no_cpu, 0));
        now = {};
        return {};
    }
    if (!area.is_aligned(sizeof(sequence_area)) || size != sizeof(sequence_area))
        return fail(errors::invalid_argument, area.value());
    if (area.value() == 0 || area.value() > c.system.user_mode().user_limit().value() - sizeof(sequence_area))
        return fail(errors::bad_address, area.value());
    now = {.area = area, .signature = signature};
    t.note_displacement();
    return {};
}

} // namespace exo::linux_abi
