// Where threads should run: what the CPUs tell of themselves, and the choices that are made from it.
//
// Each CPU publishes how urgent what it runs is (its rank, sched/policy.hpp), how much load it has, and whether it
// idles or has threads that wait. Whoever chooses sees recent values, not one moment; so a choice is a proposal, good
// or bad but never wrong, and the CPU that a thread comes to may send it on. A choice looks at a bounded number of
// CPUs, near ones first, and where several are as good, at the next by number, so that not all fall on the same.
//
// Owner's calls are for the CPU itself, with interrupts off; all others may come from any CPU.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

#include <exo/hal/atomics.hpp>
#include <exo/hal/topology.hpp>
#include <exo/sync/atomic_cpu_set.hpp>

namespace exo::sched {

template <hal::Topology Topology, hal::Atomics Atomics = hal::standard_atomics>
class balancer {
public:
    using cpu_set = typename Topology::set_type;
    static constexpr std::uint64_t idle_rank = ~std::uint64_t{0}; // of a CPU that runs nothing

    // What one CPU tells.
    class alignas(64) notice {
        friend balancer;
        typename Atomics::template atomic<std::uint64_t> rank_{idle_rank};
        typename Atomics::template atomic<std::uint64_t> urgent_waiting_{idle_rank};
        typename Atomics::template atomic<std::uint64_t> load_{};     // of what it has; written by the owner
        typename Atomics::template atomic<std::uint64_t> incoming_{}; // of what is on its way to it
    };

    // `first` is the notice of CPU 0; those of the others follow, `stride` bytes apart.
    balancer(const Topology& topology, notice& first, std::size_t stride)
        : topology_{topology}, first_{reinterpret_cast<std::byte*>(&first)}, stride_{stride}
    {
    }

    [[nodiscard]] const Topology& topology() const noexcept { return topology_; }

    // Owner's: it runs something of this rank, or idles; threads wait there; of the urgent ones that wait, the rank of
    // the most urgent, idle_rank when there is none; urgent ones of that rank or a greater one may not run there now.
    void publish(unsigned cpu, std::uint64_t rank, bool waiting, std::uint64_t urgent_waiting,
                 std::uint64_t closed_from = idle_rank) noexcept
    {
        notice& n = at(cpu);
        set(n.rank_, rank < closed_from ? rank : closed_from);
        set(n.urgent_waiting_, urgent_waiting);
        set(idle_, cpu, rank == idle_rank);
        set(crowded_, cpu, waiting && (rank != idle_rank || closed_from != idle_rank));
        set(urgently_crowded_, cpu, urgent_waiting != idle_rank);
    }
    // Owner's.
    void add_load(unsigned cpu, std::uint32_t weight) noexcept { change_load(cpu, weight); }
    void remove_load(unsigned cpu, std::uint32_t weight) noexcept { change_load(cpu, -std::uint64_t{weight}); }
    // Threads of this weight in all, the most urgent of this rank, are on their way to `cpu`; have come.
    void sent(unsigned cpu, std::uint64_t weight, std::uint64_t rank) noexcept
    {
        notice& n = at(cpu);
        n.incoming_.fetch_add(weight, std::memory_order_relaxed);
        if (rank < n.rank_.load(std::memory_order_relaxed))
            n.rank_.store(rank, std::memory_order_relaxed); // until the owner publishes again
        if (idle_.contains(cpu))
            idle_.remove(cpu);
    }
    void received(unsigned cpu, std::uint64_t weight) noexcept
    {
        at(cpu).incoming_.fetch_sub(weight, std::memory_order_relaxed);
    }

    // What it has and what is on its way to it.
    [[nodiscard]] std::uint64_t load(unsigned cpu) const noexcept
    {
        const notice& n = at(cpu);
        return n.load_.load(std::memory_order_relaxed) + n.incoming_.load(std::memory_order_relaxed);
    }
    // Something urgent of a smaller rank may run there at once.
    [[nodiscard]] std::uint64_t rank(unsigned cpu) const noexcept
    {
        return at(cpu).rank_.load(std::memory_order_relaxed);
    }
    [[nodiscard]] bool idle(unsigned cpu) const noexcept { return idle_.contains(cpu); }

    // The idle CPU of `allowed` that is nearest to `from`, which may be it. Nobody else gets it meanwhile: the caller
    // sends something there, and the CPU calls publish when it has come.
    [[nodiscard]] std::optional<unsigned> claim_idle(unsigned from, const cpu_set& allowed) noexcept
    {
        for (unsigned level = 0; level < topology_.level_count(); ++level)
            for (;;) {
                const unsigned cpu = idle_.next_around(from, topology_.domain(from, level), allowed);
                if (cpu == cpu_set::limit)
                    break;
                if (idle_.remove(cpu))
                    return cpu;
            }
        return std::nullopt;
    }

    // Of `allowed`, the CPU that runs what is least urgent, if something of `rank` should run in its place; the nearest
    // of those that are equal.
    [[nodiscard]] std::optional<unsigned> least_urgent(unsigned from, const cpu_set& allowed,
                                                       std::uint64_t rank) const noexcept
    {
        std::optional<unsigned> best;
        std::uint64_t greatest = rank;
        for (unsigned level = 0; level < topology_.level_count() && greatest != idle_rank; ++level)
            around(topology_.domain(from, level) & allowed, from, [&](unsigned cpu) {
                const std::uint64_t runs = this->rank(cpu);
                if (runs > greatest) {
                    greatest = runs;
                    best = cpu;
                }
                return greatest != idle_rank;
            });
        return best;
    }

    // A CPU of `allowed` within the domain of `from` at `level` whose load stays below that of `from` when `weight`
    // moves there: the one of least load among those that were looked at, at most `limit`, from `start` on. So each move
    // brings loads nearer to each other, and moves come to an end.
    [[nodiscard]] std::optional<unsigned> lighter(unsigned from, unsigned level, const cpu_set& allowed,
                                                  std::uint32_t weight, unsigned start, unsigned limit) const noexcept
    {
        std::optional<unsigned> best;
        const std::uint64_t here = load(from);
        std::uint64_t least = here > weight ? here - weight : 0;
        around(topology_.domain(from, level) & allowed, start, [&](unsigned cpu) {
            if (cpu != from)
                if (const std::uint64_t there = load(cpu); there < least) {
                    least = there;
                    best = cpu;
                }
            return --limit > 0;
        });
        return best;
    }

    // The nearest CPU where threads wait, not one of `asked`.
    [[nodiscard]] std::optional<unsigned> crowded(unsigned from, const cpu_set& asked) const noexcept
    {
        std::optional<unsigned> found;
        for (unsigned level = 0; level < topology_.level_count() && !found; ++level)
            around(crowded_.among(topology_.domain(from, level)), from, [&](unsigned cpu) {
                if (!asked.contains(cpu))
                    found = cpu;
                return !found;
            });
        return found;
    }
    // Where the most urgent thread waits that should run in place of something of `rank`; not one of `asked`.
    [[nodiscard]] std::optional<unsigned> urgently_crowded(unsigned from, const cpu_set& asked,
                                                           std::uint64_t rank) const noexcept
    {
        std::optional<unsigned> found;
        if (urgently_crowded_.empty())
            return found;
        around(urgently_crowded_.among(topology_.domain(from, topology_.level_count() - 1)), from, [&](unsigned cpu) {
            const std::uint64_t waits = at(cpu).urgent_waiting_.load(std::memory_order_relaxed);
            if (waits < rank && !asked.contains(cpu)) {
                rank = waits;
                found = cpu;
            }
            return true;
        });
        return found;
    }

private:
    using atomic_set = sync::atomic_cpu_set<cpu_set, Atomics>;

    [[nodiscard]] notice& at(unsigned cpu) const noexcept
    {
        return *reinterpret_cast<notice*>(first_ + cpu * stride_);
    }
    static void set(typename Atomics::template atomic<std::uint64_t>& value, std::uint64_t now) noexcept
    {
        if (value.load(std::memory_order_relaxed) != now)
            value.store(now, std::memory_order_relaxed);
    }
    static void set(atomic_set& set, unsigned cpu, bool member) noexcept
    {
        if (set.contains(cpu) == member)
            return;
        if (member)
            set.add(cpu);
        else
            set.remove(cpu);
    }
    void change_load(unsigned cpu, std::uint64_t by) noexcept
    {
        auto& load = at(cpu).load_;
        load.store(load.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
    }
    // visit(cpu) for each member after `from`, then for the others, until it returns false.
    template <class Visit>
    static void around(const cpu_set& set, unsigned from, Visit visit)
    {
        for (unsigned cpu = set.next(from + 1); cpu != cpu_set::limit; cpu = set.next(cpu + 1))
            if (!visit(cpu))
                return;
        for (unsigned cpu = set.next(0); cpu <= from && cpu != cpu_set::limit; cpu = set.next(cpu + 1))
            if (!visit(cpu))
                return;
    }

    const Topology& topology_;
    std::byte* first_;
    std::size_t stride_;
    atomic_set idle_;
    atomic_set crowded_;
    atomic_set urgently_crowded_;
};

} // namespace exo::sched
