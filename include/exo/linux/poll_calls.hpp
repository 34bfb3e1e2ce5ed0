// poll, ppoll, select and pselect6: waiting for one of several descriptors.

#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>

#include <exo/base/allocator.hpp>
#include <exo/fs/poll.hpp>
#include <exo/linux/call.hpp>
#include <exo/linux/errors.hpp>
#include <exo/linux/file_structures.hpp>
#include <exo/linux/time_structures.hpp>
#include <exo/proc/signals.hpp>

namespace exo::linux_abi {

// Files kept open for the length of one poll, each with what is wanted of it. Small ones stand on the stack.
struct polled_file {
    ref<fs::file> opened;
    fs::poll_events wanted{};
    fs::poll_events ready{};
};

class polled_files {
public:
    // Errors: out_of_memory.
    [[nodiscard]] result<> reserve(allocator& heap, std::size_t count)
    {
        files_ = few_;
        if (count > few_.size()) {
            many_ = EXO_TRY(owned_array<polled_file>::create(heap, count));
            files_ = {many_.data(), many_.size()};
        }
        files_ = files_.first(count);
        return {};
    }
    polled_file& operator[](std::size_t i) { return files_[i]; }

    // How many are ready, or 0 when the time is over. Errors: interrupted_by_handler, out_of_memory.
    template <class System>
    [[nodiscard]] result<std::size_t> wait(System& system, instant deadline)
    {
        std::size_t ready = ask(nullptr);
        if (ready != 0 || deadline <= system.now())
            return ready;
        fs::poll_set set{system.heap(), system.parker()};
        ready = ask(&set);
        const auto outcome = set.wait(
            [&] {
                ready = ask(nullptr);
                return ready != 0;
            },
            deadline);
        if (outcome || outcome.error() == errors::timed_out)
            return ready;
        if (outcome.error() == errors::interrupted)
            return fail(proc::errors::interrupted_by_handler);
        return fail(outcome.error());
    }

private:
    std::size_t ask(fs::poll_table* table)
    {
        std::size_t count = 0;
        for (polled_file& f : files_) {
            if (f.opened)
                f.ready = f.opened->poll(table) & (f.wanted | fs::poll::error | fs::poll::hang_up);
            count += f.ready != 0;
        }
        return count;
    }

    std::array<polled_file, 8> few_;
    owned_array<polled_file> many_;
    std::span<polled_file> files_;
};

// The mask of the call's signals for its length, if the caller gives one.
template <class System>
result<> set_mask_for_call(call<System>& c, user_addr mask, std::uint64_t size)
{
    if (mask.value() == 0)
        return {};
    if (size != sizeof(std::uint64_t))
        return fail(errors::invalid_argument, size);
    const auto bits = EXO_TRY(c.template read_object<std::uint64_t>(mask));
    proc::set_blocked_for_call(c.thread, proc::signal_set{bits});
    return {};
}

template <class System>
result<std::size_t> poll_until(call<System>& c, user_addr records_at, std::uint32_t count, instant deadline)
{
    constexpr std::int16_t invalid = 0x20; // POLLNVAL
    if (count > c.process.files().limit())
        return fail(errors::invalid_argument, count);
    std::array<poll_record, 8> few;
    owned_array<poll_record> many;
    std::span<poll_record> records{few};
    if (count > few.size()) {
        many = EXO_TRY(owned_array<poll_record>::create(c.system.heap(), count));
        records = {many.data(), many.size()};
    }
    records = records.first(count);
    EXO_TRY(c.read(records_at, std::as_writable_bytes(records)));

    polled_files files;
    EXO_TRY(files.reserve(c.system.heap(), count));
    for (std::size_t i = 0; i < count; ++i) {
        if (records[i].descriptor < 0)
            continue; // to be passed over
        auto opened = c.process.files().get(records[i].descriptor);
        files[i].wanted = static_cast<std::uint16_t>(records[i].wanted);
        if (opened && !(*opened)->path_only())
            files[i].opened = std::move(*opened);
        else
            files[i].ready = invalid;
    }
    const std::size_t ready = EXO_TRY(files.wait(c.system, deadline));
    for (std::size_t i = 0; i < count; ++i)
        records[i].ready = static_cast<std::int16_t>(files[i].ready);
    EXO_TRY(c.write(records_at, std::as_bytes(records)));
    return ready;
}

// Milliseconds; negative: for ever.
template <class System>
result<std::size_t> sys_poll(call<System>& c, user_addr records, std::uint32_t count, std::int32_t timeout)
{
    return poll_until(c, records, count, timeout < 0 ? instant::never() : c.system.now() + milliseconds(timeout));
}

// Waits by `wait(deadline)`, and stores what is left of the time where it came from. Structure is time_record or
// microsecond_record.
template <class Structure, class System, class Wait>
result<std::size_t> wait_with_rest(call<System>& c, user_addr timeout, Wait wait)
{
    if (timeout.value() == 0)
        return wait(instant::never());
    const auto given = EXO_TRY(c.template read_object<Structure>(timeout));
    const instant deadline = c.system.now() + EXO_TRY(to_duration(given));
    const auto outcome = wait(deadline);
    const instant now = c.system.now();
    const duration rest = deadline > now ? deadline - now : duration{};
    if constexpr (std::is_same_v<Structure, time_record>)
        (void)c.write_object(timeout, to_time_record(rest));
    else
        (void)c.write_object(timeout, to_microseconds(rest));
    return outcome;
}

// Whatever a signal did not end gives the mask back at once.
template <class System>
result<std::size_t> end_mask_for_call(call<System>& c, result<std::size_t> outcome)
{
    if (outcome || outcome.error() != proc::errors::interrupted_by_handler)
        proc::end_blocked_for_call(c.thread);
    return outcome;
}

template <class System>
result<std::size_t> sys_ppoll(call<System>& c, user_addr records, std::uint32_t count, user_addr timeout,
                              user_addr mask, std::uint64_t mask_size)
{
    EXO_TRY(set_mask_for_call(c, mask, mask_size));
    return end_mask_for_call(c, wait_with_rest<time_record>(c, timeout, [&](instant deadline) {
                                 return poll_until(c, records, count, deadline);
                             }));
}

// The three bit sets of select: what may be read, what written, and what has something exceptional.
template <class System>
result<std::size_t> select_until(call<System>& c, std::int32_t limit, const user_addr (&sets)[3], instant deadline)
{
    constexpr fs::poll_events means[3] = {
        fs::poll::in | fs::poll::in_normal | fs::poll::hang_up | fs::poll::error,
        fs::poll::out | fs::poll::out_normal | fs::poll::error,
        fs::poll::priority,
    };
    constexpr std::size_t longest = 1024;
    if (limit < 0)
        return fail(errors::invalid_argument);
    const auto count = static_cast<std::size_t>(limit) < longest ? static_cast<std::size_t>(limit) : longest;
    const std::size_t words = (count + 63) / 64;

    std::uint64_t bits[3][longest / 64]{};
    for (std::size_t s = 0; s < 3; ++s)
        if (sets[s].value() != 0)
            EXO_TRY(c.read(sets[s], std::as_writable_bytes(std::span{bits[s]}.first(words))));
    const auto is_set = [&bits](std::size_t s, std::size_t d) { return (bits[s][d / 64] >> (d % 64) & 1) != 0; };

    std::size_t used = 0;
    for (std::size_t d = 0; d < count; ++d)
        used += is_set(0, d) || is_set(1, d) || is_set(2, d);
    polled_files files;
    EXO_TRY(files.reserve(c.system.heap(), used));
    std::size_t next = 0;
    for (std::size_t d = 0; d < count; ++d) {
        if (!is_set(0, d) && !is_set(1, d) && !is_set(2, d))
            continue;
        polled_file& f = files[next++];
        f.opened = EXO_TRY(c.process.files().get(static_cast<std::int32_t>(d)));
        for (std::size_t s = 0; s < 3; ++s)
            if (is_set(s, d))
                f.wanted |= means[s];
    }
    (void)EXO_TRY(files.wait(c.system, deadline));

    std::size_t total = 0;
    next = 0;
    for (std::size_t d = 0; d < count; ++d) {
        if (!is_set(0, d) && !is_set(1, d) && !is_set(2, d))
            continue;
        const polled_file& f = files[next++];
        for (std::size_t s = 0; s < 3; ++s) {
            if (!is_set(s, d))
                continue;
            if ((f.ready & means[s]) != 0)
                ++total;
            else
                bits[s][d / 64] &= ~(std::uint64_t{1} << (d % 64));
        }
    }
    for (std::size_t s = 0; s < 3; ++s)
        if (sets[s].value() != 0)
            EXO_TRY(c.write(sets[s], std::as_bytes(std::span{bits[s]}.first(words))));
    return total;
}

template <class System>
result<std::size_t> sys_select(call<System>& c, std::int32_t limit, user_addr in, user_addr out, user_addr exceptional,
                               user_addr timeout)
{
    return wait_with_rest<microsecond_record>(c, timeout, [&](instant deadline) {
        return select_until(c, limit, {in, out, exceptional}, deadline);
    });
}

// The sixth argument points at the mask's address and size.
template <class System>
result<std::size_t> sys_pselect6(call<System>& c, std::int32_t limit, user_addr in, user_addr out,
                                 user_addr exceptional, user_addr timeout, user_addr mask_and_size)
{
    if (mask_and_size.value() != 0) {
        struct sized_mask {
            std::uint64_t address;
            std::uint64_t size;
        };
        const auto given = EXO_TRY(c.template read_object<sized_mask>(mask_and_size));
        EXO_TRY(set_mask_for_call(c, user_addr{given.address}, given.size));
    }
    return end_mask_for_call(c, wait_with_rest<time_record>(c, timeout, [&](instant deadline) {
                                 return select_until(c, limit, {in, out, exceptional}, deadline);
                             }));
}

} // namespace exo::linux_abi
