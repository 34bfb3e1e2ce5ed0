// Which address space each CPU translates through, and telling CPUs to forget what they remember of one.
//
// A CPU that has the space loaded is interrupted; one that had it loaded before looks at the space's generation when it
// loads it again (mm/translation_holders.hpp says why nothing falls in between). A CPU that has nothing to run in a
// space loads the kernel's own root before it halts, so one that sleeps is never interrupted; one that is likely to come
// back soon may linger, and moves to the kernel's own root when it is called for the first time.
//
// And who changes the tables of a space at one time: CPUs that have it loaded, beside each other (enter), or one thread
// alone (close). To enter costs a locked instruction on a line of the CPU's own; who closes waits for those inside.

#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include <exo/base/address.hpp>
#include <exo/base/cpu_set.hpp>
#include <exo/hal/atomics.hpp>
#include <exo/hal/cpu_local.hpp>
#include <exo/hal/interrupt_control.hpp>
#include <exo/hal/ipi.hpp>
#include <exo/hal/tlb.hpp>
#include <exo/hal/translation_root.hpp>
#include <exo/mm/flush_batch.hpp>
#include <exo/mm/remembered_spaces.hpp>
#include <exo/mm/shootdown_metrics.hpp>
#include <exo/mm/translation_holders.hpp>
#include <exo/sync/per_cpu.hpp>
#include <exo/trace/registry.hpp>

namespace exo::mm {

template <hal::Tlb Tlb, hal::TranslationRoot Root, hal::Ipi Ipi, hal::CpuLocal Cpu, hal::InterruptControl Interrupts,
          hal::Atomics Atomics = hal::standard_atomics>
class shootdown {
public:
    using atomics = Atomics;
    using holders = basic_translation_holders<Atomics>;

    // What is kept for one CPU, which alone changes it.
    class alignas(64) processor {
    private:
        friend shootdown;

        typename Atomics::template atomic<const holders*> inside_{}; // what it changes beside others
        holders* loaded_{};          // null: the kernel's own root
        hal::address_space_id id_{}; // of what is loaded
        bool lingers_{};
        remembered_spaces remembered_;
        shootdown_metrics metrics_;
    };

    // `processors` has one for each CPU that Cpu may name. Each CPU has `kernel_root` loaded, under id 0.
    shootdown(Tlb& tlb, Root& root, Ipi& ipi, Cpu& cpu, Interrupts& interrupts, std::span<processor> processors,
              phys_addr kernel_root)
        : tlb_{tlb}, root_{root}, ipi_{ipi}, cpu_{cpu}, interrupts_{interrupts}, processors_{processors},
          kernel_root_{kernel_root}, id_limit_{root.id_limit()}
    {
    }
    shootdown(const shootdown&) = delete;
    shootdown& operator=(const shootdown&) = delete;

    // Whether there are CPUs beside the calling one.
    [[nodiscard]] bool has_others() const noexcept { return processors_.all().size() > 1; }

    // What tells a space's holders from those of any other.
    [[nodiscard]] std::uint64_t new_space() noexcept { return spaces_.fetch_add(1, std::memory_order_relaxed) + 1; }

    // The calling CPU translates through `table`, the root of `space`, instead of what it had. Interrupts are off.
    [[gnu::hot]] void load(phys_addr table, holders& space) noexcept
    {
        processor& p = here();
        p.lingers_ = false;
        if (p.loaded_ == &space)
            return;
        space.running.join(cpu_.current_cpu());
        const auto [id, what] = p.remembered_.choose(space.space(), space.generation(), id_limit_);
        (what == hal::remembered::keep ? p.metrics_.loads_keeping : p.metrics_.loads_forgetting).add();
        move_to(p, {table, id}, what, &space);
    }
    // Through the kernel's own root, if it was `space`'s. Interrupts are off.
    [[gnu::hot]] void unload(holders& space) noexcept
    {
        processor& p = here();
        if (p.loaded_ == &space)
            move_to(p, {kernel_root_}, hal::remembered::keep, nullptr); // its lower half is always empty
    }
    // Through the kernel's own root, whosever it was. Interrupts are off.
    void unload() noexcept
    {
        if (processor& p = here(); p.loaded_)
            unload(*p.loaded_);
    }

    // The calling CPU uses nothing of the space that it has loaded, until it loads one. Interrupts are off.
    void linger() noexcept { here().lingers_ = true; }
    // No CPU has the space loaded when it returns; others than the calling one linger in it at most.
    void evict(holders& space) noexcept
    {
        const auto saved = interrupts_.save_and_disable();
        unload(space);
        const invalidation nothing;
        request asked{*this, nothing, space, 0};
        call(space.running.members(), asked);
        interrupts_.restore(saved);
    }

    // While it lives and is true, its CPU may change a space's tables beside others that do so: nobody is alone, and
    // interrupts are off. What the tables led to when it began is not freed before it ends: whoever takes something out
    // beside it flushes, which waits until this CPU takes interrupts or flushes itself.
    class [[nodiscard]] entry {
    public:
        entry(shootdown& by, holders& space) noexcept : by_{by}, saved_{by.interrupts_.save_and_disable()}
        {
            processor& p = by.here();
            if (p.loaded_ != &space)
                return;
            // Either close() finds this, or this finds the space closed.
            p.inside_.store(&space, std::memory_order_seq_cst);
            kept_out_ = space.closed.load(std::memory_order_seq_cst);
            if (kept_out_)
                p.inside_.store(nullptr, std::memory_order_relaxed);
            else
                inside_ = &p;
        }
        entry(const entry&) = delete;
        entry& operator=(const entry&) = delete;
        ~entry()
        {
            if (inside_)
                inside_->inside_.store(nullptr, std::memory_order_release);
            by_.interrupts_.restore(saved_);
        }
        explicit operator bool() const noexcept { return inside_ != nullptr; }
        // Only because somebody is alone with the space.
        [[nodiscard]] bool kept_out() const noexcept { return kept_out_; }

    private:
        shootdown& by_;
        typename Interrupts::state saved_;
        processor* inside_{};
        bool kept_out_{};
    };
    // False: the calling CPU has another space loaded, or somebody is alone with this one.
    [[nodiscard]] entry enter(holders& space) noexcept { return {*this, space}; }
    // Nobody is inside when it returns, nor enters until open(). By one thread at a time, with interrupts on.
    void close(holders& space) noexcept
    {
        space.closed.store(true, std::memory_order_seq_cst);
        // A CPU that is not found has yet to load the space, and will find it closed.
        space.running.members().for_each([&](unsigned cpu) {
            while (processors_.of(cpu).inside_.load(std::memory_order_acquire) == &space)
                Atomics::pause();
        });
    }
    void open(holders& space) noexcept { space.closed.store(false, std::memory_order_release); }

    // When it returns, no CPU uses what `what` names, which `space` had in its tables before, nor will. Takes no lock;
    // may be called with interrupts off.
    [[gnu::hot]] void flush(const invalidation& what, holders& space) noexcept
    {
        const auto saved = interrupts_.save_and_disable();
        here().metrics_.flushes[static_cast<unsigned>(what.kind())].add();
        request asked{*this, what, space, uses_ids() ? space.advance() : 0};
        cpu_set others = space.running.members();
        if (const unsigned self = cpu_.current_cpu(); others.contains(self)) {
            forget_here(asked);
            others.remove(self);
        }
        call(others, asked);
        interrupts_.restore(saved);
    }

    // For a trace::registry: the sums over all CPUs.
    using metrics_source = trace::table_source<shootdown_metrics>;
    [[nodiscard]] metrics_source make_metrics_source() const
    {
        return {shootdown_table, processors_.of(0).metrics_, processors_.all().size(), sizeof(processor)};
    }

private:
    struct request {
        shootdown& by;
        const invalidation& what;
        const holders& space;
        std::uint64_t generation;
    };
    void call(const cpu_set& others, request& asked) noexcept
    {
        if (others.empty())
            return;
        shootdown_metrics& metrics = here().metrics_;
        metrics.calls.add();
        metrics.cpus_called.add(others.size());
        ipi_.call(others, &serve, &asked);
    }
    static void serve(void* argument) noexcept
    {
        const auto& asked = *static_cast<const request*>(argument);
        if (asked.by.here().lingers_)
            asked.by.unload();
        else
            asked.by.forget_here(asked);
    }

    [[nodiscard]] bool uses_ids() const { return id_limit_ > 1; }
    [[nodiscard]] processor& here() { return processors_.local(sync::already_pinned{interrupts_, cpu_}); }

    [[gnu::hot]] void move_to(processor& p, const hal::translation_root& root, hal::remembered what,
                              holders* space) noexcept
    {
        root_.load(root, what);
        if (p.loaded_)
            p.loaded_->running.leave(cpu_.current_cpu());
        p.loaded_ = space;
        p.id_ = root.id;
    }
    [[gnu::hot]] void forget_here(const request& asked) noexcept
    {
        processor& p = here();
        asked.what.apply(tlb_, p.id_);
        // It may have loaded another meanwhile, and will look at the generation when it comes back.
        if (uses_ids() && p.loaded_ == &asked.space)
            p.remembered_.forgot(asked.generation);
    }

    Tlb& tlb_;
    Root& root_;
    Ipi& ipi_;
    Cpu& cpu_;
    Interrupts& interrupts_;
    const sync::per_cpu<processor> processors_;
    const phys_addr kernel_root_;
    const unsigned id_limit_;
    typename Atomics::template atomic<std::uint64_t> spaces_{};
};

// The Flusher of one address space.
template <class Shootdown>
class space_flusher {
public:
    using holders = typename Shootdown::holders;

    space_flusher(Shootdown& shootdown, holders& space) : shootdown_{shootdown}, space_{space} {}
    void flush(const invalidation& what) noexcept { shootdown_.flush(what, space_); }

private:
    Shootdown& shootdown_;
    holders& space_;
};

} // namespace exo::mm
