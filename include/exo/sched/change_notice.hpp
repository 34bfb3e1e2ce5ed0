// The notice that something about a task has changed, on its way to the CPU that has the task: at most one at a time,
// of which the last comes after every change. Who holds it when the task has ended gives the task up.

#pragma once

#include <atomic>
#include <cstdint>

#include <exo/hal/atomics.hpp>

namespace exo::sched {

// What is left to its holder when the notice is put away.
enum class after_notice : std::uint8_t { done, look_again, give_up };

template <hal::Atomics Atomics = hal::standard_atomics>
class change_notice {
public:
    // A change was made. True when the caller is to send the notice; else one is under way that will tell of it, or the
    // task has ended.
    [[nodiscard]] bool announce() noexcept
    {
        state seen = at_.load(std::memory_order_relaxed);
        while (seen != state::ended)
            if (at_.compare_exchange_weak(seen, seen == state::none ? state::sent : state::outdated,
                                          std::memory_order_acq_rel, std::memory_order_relaxed))
                return seen == state::none;
        return false;
    }

    // By the holder, which has looked at the changes. After done the task is not the holder's to look at.
    [[nodiscard]] after_notice put_away() noexcept
    {
        state seen = state::sent;
        if (at_.compare_exchange_strong(seen, state::none, std::memory_order_acq_rel, std::memory_order_acquire))
            return after_notice::done;
        if (seen == state::outdated &&
            at_.compare_exchange_strong(seen, state::sent, std::memory_order_acq_rel, std::memory_order_acquire))
            return after_notice::look_again;
        return after_notice::give_up;
    }

    // The task has ended. True when the caller is to give it up; else the holder of a notice will.
    [[nodiscard]] bool end() noexcept
    {
        return at_.exchange(state::ended, std::memory_order_acq_rel) == state::none;
    }

private:
    enum class state : std::uint8_t { none, sent, outdated, ended };
    typename Atomics::template atomic<state> at_{state::none};
};

} // namespace exo::sched
