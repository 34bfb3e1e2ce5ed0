// futex(2): its operations, clocks, and ways to be interrupted. Condition variables whose waiters are moved to a lock
// with an owner (FUTEX_WAIT_REQUEUE_PI, FUTEX_CMP_REQUEUE_PI) are not there.

#pragma once

#include <cstdint>

#include <exo/base/address.hpp>
#include <exo/base/errors.hpp>
#include <exo/base/result.hpp>
#include <exo/base/time.hpp>
#include <exo/linux/call.hpp>
#include <exo/linux/time_structures.hpp>
#include <exo/proc/errors.hpp>
#include <exo/proc/futex.hpp>
#include <exo/proc/inheriting_futex.hpp>
#include <exo/proc/thread.hpp>
#include <exo/proc/user_copy.hpp>

namespace exo::linux_abi {

namespace futex_operation {
inline constexpr std::uint32_t wait = 0, wake = 1, requeue = 3, compare_requeue = 4, wake_operate = 5, lock = 6,
                               unlock = 7, try_lock = 8, wait_bits = 9, wake_bits = 10, lock_by_clock = 13;
inline constexpr std::uint32_t private_flag = 128, realtime_flag = 256;
} // namespace futex_operation

inline constexpr std::uint32_t all_futex_bits = ~std::uint32_t{0};

template <class System>
[[nodiscard]] result<proc::futex_key> read_futex_key(call<System>& c, user_addr word, bool known_private)
{
    if (!word.is_aligned(sizeof(std::uint32_t)))
        return fail(errors::invalid_argument, word.value());
    if (word >= c.system.user_mode().user_limit())
        return fail(errors::bad_address, word.value());
    return proc::futex_key_of(c.process.image().space(), word, known_private);
}

// A wait that is interrupted while it has a deadline goes on by restart_syscall. Errors: would_block, interrupted,
// interrupted_with_rest, timed_out, bad_address.
template <class System>
[[nodiscard]] result<> wait_for_futex(call<System>& c, const proc::futex_rest& wanted, instant deadline)
{
    const auto key = EXO_TRY(read_futex_key(c, wanted.word, wanted.known_private));
    const auto unchanged = [&]() -> result<bool> {
        return EXO_TRY(c.template read_object<std::uint32_t>(wanted.word)) == wanted.value;
    };
    const auto waited = c.system.futexes().wait(c.system.parker(), key, wanted.bits, deadline, unchanged);
    if (waited || waited.error() != errors::interrupted || deadline == instant::never())
        return waited;
    c.thread.restart_deadline = deadline;
    c.thread.restart_futex = wanted;
    return fail(proc::errors::interrupted_with_rest);
}

// `realtime`: by the wall clock, else the monotonic one. A span from now on unless `absolute`.
template <class System>
[[nodiscard]] result<instant> read_futex_deadline(call<System>& c, user_addr timeout, bool absolute, bool realtime)
{
    if (timeout.value() == 0)
        return instant::never();
    const auto record = EXO_TRY(c.template read_object<time_record>(timeout));
    const auto span = EXO_TRY(to_duration(record));
    if (!absolute)
        return c.system.now() + span;
    if (!realtime)
        return instant{} + span;
    const auto now = c.system.wall_clock().now();
    const duration left = span - duration{now.seconds * second_in_ns + now.nanoseconds};
    return left > duration{} ? c.system.now() + left : instant{};
}

// FUTEX_WAKE_OP: what is done to the second word, and whether what was there then lets its waiters go as well.
class futex_modification {
public:
    // Errors: unknown_call.
    [[nodiscard]] static result<futex_modification> decode(std::uint32_t code)
    {
        futex_modification m;
        constexpr std::uint32_t shifted = 8;
        m.operation_ = code >> 28 & 7;
        m.comparison_ = code >> 24 & 0xf;
        m.operand_ = sign_extend(code >> 12);
        m.compared_ = static_cast<std::int32_t>(sign_extend(code));
        if ((code >> 28 & shifted) != 0)
            m.operand_ = std::uint32_t{1} << (m.operand_ & 31);
        if (m.operation_ > 4 || m.comparison_ > 5)
            return fail(proc::errors::unknown_call, code);
        return m;
    }

    [[nodiscard]] std::uint32_t apply(std::uint32_t old) const
    {
        switch (operation_) {
        case 0:
            return operand_;
        case 1:
            return old + operand_;
        case 2:
            return old | operand_;
        case 3:
            return old & ~operand_;
        default:
            return old ^ operand_;
        }
    }
    [[nodiscard]] bool holds(std::uint32_t old) const
    {
        const auto value = static_cast<std::int32_t>(old);
        switch (comparison_) {
        case 0:
            return value == compared_;
        case 1:
            return value != compared_;
        case 2:
            return value < compared_;
        case 3:
            return value <= compared_;
        case 4:
            return value > compared_;
        default:
            return value >= compared_;
        }
    }

private:
    // Of 12 bits.
    static std::uint32_t sign_extend(std::uint32_t bits) { return ((bits & 0xfff) ^ 0x800) - 0x800; }

    std::uint32_t operation_{}, comparison_{}, operand_{};
    std::int32_t compared_{};
};

template <class System>
[[nodiscard]] result<std::uint32_t> wake_and_operate(call<System>& c, user_addr word, user_addr second,
                                                     bool known_private, std::uint32_t count,
                                                     std::uint32_t second_count, std::uint32_t code)
{
    const auto key = EXO_TRY(read_futex_key(c, word, known_private));
    const auto second_key = EXO_TRY(read_futex_key(c, second, known_private));
    const auto modification = EXO_TRY(futex_modification::decode(code));
    auto old = EXO_TRY(c.template read_object<std::uint32_t>(second));
    for (;;) {
        const auto seen = EXO_TRY(proc::compare_exchange_user(c.system, second, old, modification.apply(old)));
        if (seen == old)
            break;
        old = seen;
    }
    auto& futexes = c.system.futexes();
    auto woken = futexes.wake(c.system.parker(), key, all_futex_bits, count);
    if (modification.holds(old))
        woken += futexes.wake(c.system.parker(), second_key, all_futex_bits, second_count);
    return woken;
}

// `timeout` is a number for the operations that have two words.
template <class System>
result<std::uint32_t> sys_futex(call<System>& c, user_addr word, std::uint32_t operation, std::uint32_t value,
                                user_addr timeout, user_addr second, std::uint32_t third)
{
    namespace op = futex_operation;
    const std::uint32_t command = operation & ~(op::private_flag | op::realtime_flag);
    const bool known_private = (operation & op::private_flag) != 0;
    const bool realtime = (operation & op::realtime_flag) != 0;
    if (realtime && command != op::wait_bits && command != op::lock_by_clock)
        return fail(proc::errors::unknown_call, operation);
    const auto second_value = static_cast<std::uint32_t>(timeout.value());
    switch (command) {
    case op::wait:
    case op::wait_bits: {
        const auto deadline = EXO_TRY(read_futex_deadline(c, timeout, command == op::wait_bits, realtime));
        const std::uint32_t bits = command == op::wait ? all_futex_bits : third;
        if (bits == 0)
            return fail(errors::invalid_argument);
        EXO_TRY(
            wait_for_futex(c, {.word = word, .value = value, .bits = bits, .known_private = known_private}, deadline));
        return 0;
    }
    case op::wake:
    case op::wake_bits: {
        const std::uint32_t bits = command == op::wake ? all_futex_bits : third;
        if (bits == 0)
            return fail(errors::invalid_argument);
        const auto key = EXO_TRY(read_futex_key(c, word, known_private));
        return c.system.futexes().wake(c.system.parker(), key, bits, value);
    }
    case op::requeue:
    case op::compare_requeue: {
        if (static_cast<std::int32_t>(value) < 0 || static_cast<std::int32_t>(second_value) < 0)
            return fail(errors::invalid_argument, value);
        const auto key = EXO_TRY(read_futex_key(c, word, known_private));
        const auto second_key = EXO_TRY(read_futex_key(c, second, known_private));
        return c.system.futexes().requeue(
            c.system.parker(), key, second_key, value, second_value, [&]() -> result<bool> {
                return command == op::requeue || EXO_TRY(c.template read_object<std::uint32_t>(word)) == third;
            });
    }
    case op::lock:
    case op::lock_by_clock: {
        const auto deadline = EXO_TRY(read_futex_deadline(c, timeout, true, realtime || command == op::lock));
        const auto key = EXO_TRY(read_futex_key(c, word, known_private));
        EXO_TRY(c.system.inheriting_futexes().lock(c.thread, word, key, deadline));
        return 0;
    }
    case op::try_lock: {
        const auto key = EXO_TRY(read_futex_key(c, word, known_private));
        EXO_TRY(c.system.inheriting_futexes().try_lock(c.thread, word, key));
        return 0;
    }
    case op::unlock: {
        const auto key = EXO_TRY(read_futex_key(c, word, known_private));
        EXO_TRY(c.system.inheriting_futexes().unlock(c.thread, word, key));
        return 0;
    }
    case op::wake_operate:
        return wake_and_operate(c, word, second, known_private, value, second_value, third);
    default:
        return fail(proc::errors::unknown_call, operation);
    }
}

template <class System, class Table>
constexpr void add_futex_calls(Table& table)
{
    table.template set<sys_futex<System>>(number::futex);
}

} // namespace exo::linux_abi
