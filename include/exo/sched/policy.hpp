// SchedPolicy: who runs next among the entities of one CPU.
//
// A policy names what it keeps per thread as `entity`; a thread derives from it, so policies allocate nothing and one
// works with any kind of thread. An entity is outside (asleep, ended, elsewhere), queued, or running; of one policy at
// most one runs.
//
// Laws (test/laws/policy_laws.hpp checks every model):
//  - enqueue(e): outside to queued. pick(): queued to running, for the entity that is to run now; null when none is
//    queued. requeue(e): running to queued. dequeue(e): queued or running to outside. None loses or repeats an entity.
//  - An entity that is put back because another took the CPU from it (preempted) comes before its equals; one that
//    yields or whose turn is over comes after them.
//  - tick(e, ran) charges the running entity `ran` more of CPU time and tells whether its turn is over and another is
//    waiting for it. turn_ends(e, now) is when tick should be called at the latest, or never().
//  - preempts(woken, running) tells whether a newly queued entity should take the CPU from the one that runs. Then, if
//    the running one is requeued as preempted, pick() does not return it.
//  - steal_candidate() is a queued entity that another CPU should rather take, null when none; it stays queued.
//  - size() counts those queued. An entity's parameters change only while it is outside.
//  - Called by one CPU at a time with interrupts off; none sleeps or fails.

#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

#include <exo/base/time.hpp>

namespace exo::sched {

enum class arrival : std::uint8_t { created, woken, moved };
enum class departure : std::uint8_t { preempted, yielded, turn_over };

template <class T>
concept SchedPolicy = requires(T& policy, const T& view, typename T::entity& e, const typename T::entity& other,
                               arrival how, departure why, duration ran, instant now) {
    { policy.enqueue(e, how) } noexcept -> std::same_as<void>;
    { policy.dequeue(e) } noexcept -> std::same_as<void>;
    { policy.pick() } noexcept -> std::same_as<typename T::entity*>;
    { policy.requeue(e, why) } noexcept -> std::same_as<void>;
    { policy.tick(e, ran) } noexcept -> std::same_as<bool>;
    { view.turn_ends(other, now) } noexcept -> std::same_as<instant>;
    { view.preempts(other, other) } noexcept -> std::same_as<bool>;
    { policy.steal_candidate() } noexcept -> std::same_as<typename T::entity*>;
    { view.size() } noexcept -> std::same_as<std::size_t>;
};

} // namespace exo::sched
