// SchedPolicy: who runs next among the entities of one CPU.
//
// A policy names what it keeps per thread as `entity`; a thread derives from it, so policies allocate nothing and one
// works with any kind of thread. An entity is outside (asleep, ended, elsewhere), queued, or running; of one policy at
// most one runs. `now` never runs backward.
//
// Laws (test/laws/policy_laws.hpp checks every model):
//  - enqueue(e): outside to queued. pick(): queued to running, for the entity that is to run now; null when none is
//    queued that may run. requeue(e): running to queued. dequeue(e): queued or running to outside. None loses or
//    repeats an entity.
//  - An entity that is put back because another took the CPU from it (preempted) comes before its equals; one that
//    yields or whose turn is over comes after them. One that arrives as changed may come before those that wait.
//  - tick(e, ran) charges the running entity `ran` more of CPU time, which ends at `now`, and tells whether its turn is
//    over: another is waiting for it, or it may not run on. turn_ends(e, now) is when tick should be called at the
//    latest, or never().
//  - preempts(woken, running) tells whether a newly queued entity should take the CPU from the one that runs. Then, if
//    the running one is requeued as preempted, pick() does not return it.
//  - size() counts those queued that may run. next_release() is when it grows by itself (entities that used up what
//    they may use in a period come back), or never(); pick(now) sees to it that it does. A policy of which it ever does
//    has release(now) too, which does that alone.
//  - visit_movable(visit) calls visit(e) for queued entities that may run, the one that another CPU should rather take
//    first, until visit returns false. `visit` changes nothing.
//  - A policy that may hold back all of its entities, for what they did on this CPU, has closed(), which tells whether
//    it does, and until when; visit_movable() offers them meanwhile, since they may run elsewhere.
//  - rank(e): of two entities anywhere in the machine the one of smaller rank should run, if only one can. Those that
//    share a CPU by turns have equal ranks. In a run queue, ranks from rank_limit on count as equal.
//  - weight(e) is the share of a CPU that the entity claims beside others; default_weight is that of an ordinary one.
//  - urgent(e): it should not wait while any CPU that it may use runs something of greater rank.
//  - e.parameters() is what was last set by e.set(parameters), which is called only while e is outside. rank_of(p, now)
//    is the rank of an entity that begins with such parameters at this time.
//  - Called by one CPU at a time with interrupts off; none sleeps or fails.

#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

#include <exo/base/time.hpp>

namespace exo::sched {

enum class arrival : std::uint8_t {
    created,
    woken,
    moved,   // from another CPU, or with parameters of a smaller rank than it had
    changed, // from this queue, with other parameters, of no smaller rank
};
enum class departure : std::uint8_t { preempted, yielded, turn_over };

inline constexpr std::uint64_t rank_limit = std::uint64_t{1} << 60; // as a deadline in nanoseconds: 36 years
inline constexpr std::uint32_t default_weight = 1024;

template <class T>
concept SchedPolicy = std::equality_comparable<typename T::parameters> &&
    requires(T& policy, const T& view, typename T::entity& e, const typename T::entity& other, arrival how,
             departure why, duration ran, instant now, bool (*visit)(typename T::entity&), const typename T::parameters& parameters) {
        { policy.enqueue(e, how, now) } noexcept -> std::same_as<void>;
        { policy.dequeue(e) } noexcept -> std::same_as<void>;
        { policy.pick(now) } noexcept -> std::same_as<typename T::entity*>;
        { policy.requeue(e, why, now) } noexcept -> std::same_as<void>;
        { policy.tick(e, ran, now) } noexcept -> std::same_as<bool>;
        { view.turn_ends(other, now) } noexcept -> std::same_as<instant>;
        { view.next_release() } noexcept -> std::same_as<instant>;
        { view.preempts(other, other) } noexcept -> std::same_as<bool>;
        { view.size() } noexcept -> std::same_as<std::size_t>;
        { policy.visit_movable(visit) } -> std::same_as<void>;
        { view.rank(other) } noexcept -> std::same_as<std::uint64_t>;
        { view.weight(other) } noexcept -> std::same_as<std::uint32_t>;
        { view.urgent(other) } noexcept -> std::same_as<bool>;
        { e.set(parameters) } -> std::same_as<void>;
        { other.parameters() } -> std::same_as<typename T::parameters>;
        { T::rank_of(parameters, now) } noexcept -> std::same_as<std::uint64_t>;
    };

// Urgent entities of this rank or a greater one may not run here until then.
struct closure {
    std::uint64_t from{~std::uint64_t{0}};
    instant until{instant::never()};
};
template <SchedPolicy Policy>
[[nodiscard]] closure closed(const Policy& policy) noexcept
{
    if constexpr (requires { policy.closed(); })
        return policy.closed();
    else
        return {};
}

// For policies made of policies, which pick from one of them and must not keep the others' entities back.
template <SchedPolicy Policy>
void release(Policy& policy, instant now) noexcept
{
    if constexpr (requires { policy.release(now); })
        policy.release(now);
}

} // namespace exo::sched
