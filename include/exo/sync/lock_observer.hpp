// What a lock tells of itself, and to whom: its Observer, by default that of the build.
//
// Debug builds check every lock whenever it is taken, deadlock or not (held_locks.hpp); a build may count what locks
// cost (lock_counters.hpp). Others observe nothing, and nothing is left of it in their code.

#pragma once

#include <type_traits>

#include <exo/base/time.hpp>
#include <exo/sync/held_locks.hpp>
#include <exo/sync/lock_counters.hpp>
#include <exo/sync/lock_rank.hpp>

// All of a program is compiled with the same.
#ifndef EXO_CHECK_LOCKS
#ifdef NDEBUG
#define EXO_CHECK_LOCKS 0
#else
#define EXO_CHECK_LOCKS 1
#endif
#endif
#ifndef EXO_COUNT_LOCKS
#define EXO_COUNT_LOCKS 0
#endif

namespace exo::sync {

inline constexpr bool locks_are_checked = EXO_CHECK_LOCKS != 0;
inline constexpr bool locks_are_counted = EXO_COUNT_LOCKS != 0;

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

class counted {
public:
    struct attempt {
        instant waits_since{instant::never()};
    };

    template <class By>
    attempt acquiring(By&, lock_rank, bool /*beside*/) noexcept
    {
        return {};
    }
    template <class By>
    void contended(By& by, lock_rank rank, attempt& a) noexcept
    {
        count(by, rank, [&](lock_counters&, instant now) { a.waits_since = now; });
    }
    template <class By>
    void acquired(By& by, lock_rank rank, const attempt& a) noexcept
    {
        count(by, rank, [&](lock_counters& counters, instant now) {
            held_since_ = now;
            counters.count_acquisition(rank);
            if (a.waits_since != instant::never())
                counters.count_wait(rank, held_since_ - a.waits_since);
        });
    }
    template <class By>
    void released(By& by, lock_rank rank) noexcept
    {
        count(by, rank, [&](lock_counters& counters, instant now) { counters.count_hold(rank, now - held_since_); });
    }

private:
    // Interrupts are off meanwhile.
    template <class By, class Count>
    static void count(By& by, lock_rank rank, Count with) noexcept
    {
        if constexpr (requires { by.lock_counters(); by.now(); }) {
            const auto counted = [&] {
                if (lock_counters* const counters = by.lock_counters())
                    with(*counters, by.now());
            };
            if (!sleeps(rank))
                return counted();
            const auto saved = by.save_and_disable();
            counted();
            by.restore(saved);
        }
    }

    instant held_since_{};
};

struct checked_and_counted {
    using attempt = counted::attempt;

    template <class By>
    attempt acquiring(By& by, lock_rank rank, bool beside) noexcept
    {
        check.acquiring(by, rank, beside);
        return {};
    }
    template <class By>
    void contended(By& by, lock_rank rank, attempt& a) noexcept
    {
        counts.contended(by, rank, a);
    }
    template <class By>
    void acquired(By& by, lock_rank rank, const attempt& a) noexcept
    {
        check.acquired(by, rank, {});
        counts.acquired(by, rank, a);
    }
    template <class By>
    void released(By& by, lock_rank rank) noexcept
    {
        counts.released(by, rank);
        check.released(by, rank);
    }

    [[no_unique_address]] checked check;
    counted counts;
};

using lock_observer =
    std::conditional_t<locks_are_counted, std::conditional_t<locks_are_checked, checked_and_counted, counted>,
                       std::conditional_t<locks_are_checked, checked, unobserved>>;

// For who keeps what observers note: empty where nobody observes.
template <class T>
struct not_kept {};
using held_locks_if_checked = std::conditional_t<locks_are_checked, held_locks, not_kept<held_locks>>;
using lock_counters_if_counted = std::conditional_t<locks_are_counted, lock_counters, not_kept<lock_counters>>;

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
