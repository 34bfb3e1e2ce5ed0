// What a lock tells of itself, and to whom: its Observer, by default that of the build.
//
// Debug builds check every lock whenever it is taken, deadlock or not (held_locks.hpp). Others observe nothing, and
// nothing is left of it in their code.

#pragma once

#include <type_traits>

#include <exo/sync/held_locks.hpp>
#include <exo/sync/lock_rank.hpp>

// All of a program is compiled with the same.
#ifndef EXO_CHECK_LOCKS
#ifdef NDEBUG
#define EXO_CHECK_LOCKS 0
#else
#define EXO_CHECK_LOCKS 1
#endif
#endif

namespace exo::sync {

inline constexpr bool locks_are_checked = EXO_CHECK_LOCKS != 0;

// `by` is what the lock was taken by: the InterruptControl of a spinning one, whose interrupts are off during all of
// these calls, or the parker of a sleeping one. acquiring comes before the lock waits, and what it returns goes with
// this attempt; contended if it has to wait.
struct unobserved {
    struct attempt {};

    template <class By>
    attempt acquiring(By&, lock_rank, bool /*beside*/) noexcept
    {
        return {};
    }
    template <class By>
    void contended(By&, lock_rank, attempt&) noexcept
    {
    }
    template <class By>
    void acquired(By&, lock_rank, const attempt&) noexcept
    {
    }
    template <class By>
    void released(By&, lock_rank) noexcept
    {
    }
};

struct checked : unobserved {
    template <class By>
    attempt acquiring(By& by, lock_rank rank, bool beside) noexcept
    {
        enforce(misuse_by_taking(by, rank, beside));
        return {};
    }
    template <class By>
    void acquired(By& by, lock_rank rank, const attempt&) noexcept
    {
        if (held_locks* const held = notes(by, rank))
            held->add(rank);
    }
    template <class By>
    void released(By& by, lock_rank rank) noexcept
    {
        if (held_locks* const held = notes(by, rank))
            held->remove(rank);
    }

private:
    template <class By>
    static held_locks* notes(By& by, lock_rank rank) noexcept
    {
        return sleeps(rank) ? held_sleeping_locks(by) : held_spin_locks(by);
    }
};

using lock_observer = std::conditional_t<locks_are_checked, checked, unobserved>;

// For who keeps what observers note: empty where nobody observes.
template <class T>
struct not_kept {};
using held_locks_if_checked = std::conditional_t<locks_are_checked, held_locks, not_kept<held_locks>>;

template <class T>
[[nodiscard]] T* kept_in(T& kept) noexcept
{
    return &kept;
}
template <class T>
[[nodiscard]] T* kept_in(not_kept<T>&) noexcept
{
    return nullptr;
}

} // namespace exo::sync
