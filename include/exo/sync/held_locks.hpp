// The locks that a CPU or a thread holds, by rank, and what must not be done meanwhile.
//
// Spinning locks are noted for the CPU: they are let go where they were taken, with interrupts off in between. Sleeping
// ones are noted for the thread. Whoever keeps such notes says so: an InterruptControl by held_spin_locks(), which is
// called with interrupts off, a parker by held_sleeping_locks(), the calling thread's; both return a pointer, null
// where nobody keeps them. What is taken through others is not checked.

#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include <exo/base/check.hpp>
#include <exo/sync/lock_rank.hpp>

namespace exo::sync {

class held_locks {
public:
    // The lowest rank that is held.
    [[nodiscard]] std::optional<lock_rank> lowest() const noexcept
    {
        return ranks_ == 0 ? std::nullopt : std::optional{static_cast<lock_rank>(std::countr_zero(ranks_))};
    }
    void add(lock_rank rank) noexcept
    {
        ranks_ |= bit(rank);
        ++counts_[static_cast<std::size_t>(rank)];
    }
    void remove(lock_rank rank) noexcept
    {
        EXO_CHECK((ranks_ & bit(rank)) != 0);
        if (--counts_[static_cast<std::size_t>(rank)] == 0)
            ranks_ &= ~bit(rank);
    }

private:
    static constexpr std::uint64_t bit(lock_rank rank) { return std::uint64_t{1} << static_cast<unsigned>(rank); }

    std::uint64_t ranks_{};
    std::uint8_t counts_[lock_rank_count]{};
};

enum class lock_rule : std::uint8_t {
    order,          // of ranks
    interrupts_off, // while a spinning lock is held
    no_sleep,       // with interrupts off, in a handler that is, or while a spinning lock is held
    no_fault,       // while a lock is held that bringing in user memory may take
};

// What was about to happen, and the lock that forbids it, if it is one.
struct lock_misuse {
    lock_rule broken;
    std::optional<lock_rank> wanted{};
    std::optional<lock_rank> held{};

    friend bool operator==(const lock_misuse&, const lock_misuse&) = default;
};

template <class By>
[[nodiscard]] held_locks* held_spin_locks(By& by) noexcept
{
    if constexpr (requires { by.held_spin_locks(); })
        return by.held_spin_locks();
    else
        return nullptr;
}
template <class By>
[[nodiscard]] held_locks* held_sleeping_locks(By& by) noexcept
{
    if constexpr (requires { by.held_sleeping_locks(); })
        return by.held_sleeping_locks();
    else
        return nullptr;
}

// Of the calling CPU. Not while a spinning lock is held, so wherever interrupts are on none is.
template <class By>
[[nodiscard]] std::optional<lock_misuse> misuse_by_enabling_interrupts(By& by) noexcept
{
    if (const held_locks* const spinning = held_spin_locks(by); spinning && spinning->lowest())
        return lock_misuse{.broken = lock_rule::interrupts_off, .held = spinning->lowest()};
    return std::nullopt;
}
// Of the calling thread, for `wanted` or for something else.
template <class By>
[[nodiscard]] std::optional<lock_misuse> misuse_by_sleeping(By& by,
                                                            std::optional<lock_rank> wanted = std::nullopt) noexcept
{
    if (by.enabled() || !held_sleeping_locks(by))
        return std::nullopt;
    const held_locks* const spinning = held_spin_locks(by);
    return lock_misuse{lock_rule::no_sleep, wanted, spinning ? spinning->lowest() : std::nullopt};
}
// Before the lock waits; of a spinning one, with interrupts off. With `beside`, others of its rank may be held, in an
// order that is the caller's.
template <class By>
[[nodiscard]] std::optional<lock_misuse> misuse_by_taking(By& by, lock_rank wanted, bool beside = false) noexcept
{
    const held_locks* const held = sleeps(wanted) ? held_sleeping_locks(by) : held_spin_locks(by);
    if (!held)
        return std::nullopt;
    if (sleeps(wanted)) {
        if (auto found = misuse_by_sleeping(by, wanted))
            return found;
    } else if (by.enabled()) {
        return lock_misuse{lock_rule::interrupts_off, wanted};
    }
    if (const auto lowest = held->lowest(); lowest && (beside ? *lowest < wanted : *lowest <= wanted))
        return lock_misuse{lock_rule::order, wanted, lowest};
    return std::nullopt;
}
// A copy of user memory may fault, which takes locks and waits for disks.
template <class By>
[[nodiscard]] std::optional<lock_misuse> misuse_by_copying_user_memory(By& by) noexcept
{
    if (auto found = misuse_by_sleeping(by))
        return found;
    if (const held_locks* const held = held_sleeping_locks(by))
        if (const auto lowest = held->lowest(); lowest && *lowest <= highest_in_a_fault)
            return lock_misuse{.broken = lock_rule::no_fault, .held = lowest};
    return std::nullopt;
}

// Stops at a misuse, and says which locks it is about.
inline void enforce(const std::optional<lock_misuse>& misuse) noexcept
{
    if (!misuse) [[likely]]
        return;
    char text[160];
    std::size_t length = 0;
    const auto say = [&](std::string_view words) {
        for (const char c : words)
            if (length < sizeof text - 1)
                text[length++] = c;
        text[length] = '\0';
    };
    say("misuse of locks: ");
    if (misuse->wanted) {
        say(name_of(*misuse->wanted));
        say(" is taken ");
    } else {
        say(misuse->broken == lock_rule::no_sleep   ? "a thread sleeps "
            : misuse->broken == lock_rule::no_fault ? "user memory is copied "
                                                    : "interrupts are enabled ");
    }
    if (misuse->held) {
        say("while ");
        say(name_of(*misuse->held));
        say(" is held");
    } else {
        say(misuse->broken == lock_rule::no_sleep ? "with interrupts off" : "with interrupts on");
    }
    panic(text, __FILE__, __LINE__);
}

} // namespace exo::sync
