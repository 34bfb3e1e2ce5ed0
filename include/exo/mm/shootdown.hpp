// Telling every CPU that runs an address space what to forget.
//
// A CPU joins the space's active_cpus before it loads the space's root and leaves after it has loaded another; whoever
// changes tables looks at the set after the change. So a CPU is either told, or has read the tables after the change.

#pragma once

#include <atomic>

#include <exo/base/cpu_set.hpp>
#include <exo/hal/atomics.hpp>
#include <exo/hal/cpu_local.hpp>
#include <exo/hal/interrupt_control.hpp>
#include <exo/hal/ipi.hpp>
#include <exo/hal/tlb.hpp>
#include <exo/mm/flush_batch.hpp>

namespace exo::mm {

// The CPUs that have a space loaded. Changed by each for itself, read by anybody.
template <hal::Atomics Atomics>
class basic_active_cpus {
public:
    void join(unsigned cpu) noexcept
    {
        // Sequentially consistent, against the fence in members(): see above.
        words_[cpu / 64].fetch_or(bit_of(cpu), std::memory_order_seq_cst);
        Atomics::fence(std::memory_order_seq_cst);
    }
    void leave(unsigned cpu) noexcept { words_[cpu / 64].fetch_and(~bit_of(cpu), std::memory_order_release); }

    [[nodiscard]] cpu_set members() const noexcept
    {
        Atomics::fence(std::memory_order_seq_cst);
        cpu_set set;
        for (unsigned i = 0; i < word_count; ++i)
            for (auto word = words_[i].load(std::memory_order_seq_cst); word != 0; word &= word - 1)
                set.add(i * 64 + static_cast<unsigned>(__builtin_ctzll(word)));
        return set;
    }

private:
    static constexpr unsigned word_count = cpu_set::limit / 64;
    [[nodiscard]] static std::uint64_t bit_of(unsigned cpu) { return std::uint64_t{1} << (cpu % 64); }

    typename Atomics::template atomic<std::uint64_t> words_[word_count]{};
};

using active_cpus = basic_active_cpus<hal::standard_atomics>;

template <hal::Tlb Tlb, hal::Ipi Ipi, hal::CpuLocal Cpu, hal::InterruptControl Interrupts,
          hal::Atomics Atomics = hal::standard_atomics>
class shootdown {
public:
    using atomics = Atomics;
    using running_cpus = basic_active_cpus<Atomics>;

    shootdown(Tlb& tlb, Ipi& ipi, Cpu& cpu, Interrupts& interrupts)
        : tlb_{tlb}, ipi_{ipi}, cpu_{cpu}, interrupts_{interrupts}
    {
    }

    // Returns when no CPU of `running` uses what `what` names. Takes no lock; may be called with interrupts off.
    void flush(const invalidation& what, hal::address_space_id id, const running_cpus& running) noexcept
    {
        const auto saved = interrupts_.save_and_disable();
        const unsigned self = cpu_.current_cpu();
        cpu_set others = running.members();
        if (others.contains(self)) {
            what.apply(tlb_, id);
            others.remove(self);
        }
        if (!others.empty()) {
            request asked{what, id, tlb_};
            ipi_.call(others, &serve, &asked);
        }
        interrupts_.restore(saved);
    }

private:
    struct request {
        const invalidation& what;
        hal::address_space_id id;
        Tlb& tlb;
    };
    static void serve(void* argument) noexcept
    {
        const auto& asked = *static_cast<request*>(argument);
        asked.what.apply(asked.tlb, asked.id);
    }

    Tlb& tlb_;
    Ipi& ipi_;
    Cpu& cpu_;
    Interrupts& interrupts_;
};

// The Flusher of one address space.
template <class Shootdown>
class space_flusher {
public:
    using running_cpus = typename Shootdown::running_cpus;

    space_flusher(Shootdown& shootdown, hal::address_space_id id, const running_cpus& running)
        : shootdown_{shootdown}, id_{id}, running_{running}
    {
    }
    void flush(const invalidation& what) noexcept { shootdown_.flush(what, id_, running_); }

private:
    Shootdown& shootdown_;
    hal::address_space_id id_;
    const running_cpus& running_;
};

} // namespace exo::mm
