// The hardware traits (hal/) of an x86_64 PC, but for those that have a file of their own.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include <exo/arch/x86_64/instructions.hpp>
#include <exo/arch/x86_64/paging.hpp>
#include <exo/arch/x86_64/registers.hpp>
#include <exo/arch/x86_64/tlb.hpp>
#include <exo/arch/x86_64/trap_frame.hpp>
#include <exo/base/check.hpp>
#include <exo/base/time.hpp>
#include <exo/hal/context.hpp>
#include <exo/hal/entropy_source.hpp>
#include <exo/hal/idle.hpp>
#include <exo/hal/interrupt_control.hpp>
#include <exo/hal/phys_access.hpp>
#include <exo/hal/tlb.hpp>
#include <exo/hal/translation_root.hpp>
#include <exo/sync/held_locks.hpp>
#include <exo/sync/lock_counters.hpp>
#include <exo/sync/lock_observer.hpp>

#include "cpu.hpp"
#include "layout.hpp"

extern "C" {
void exo_switch_stacks(void** save, void* to);
void exo_thread_start();
}

namespace exo::boot {

struct interrupt_flag {
    using state = std::uint64_t;

    state save_and_disable() noexcept
    {
        const state before = x86_64::read_flags();
        x86_64::disable_interrupts();
        return before;
    }
    void restore(const state& saved) noexcept
    {
        if (saved & x86_64::rflags::interrupt) {
            if constexpr (sync::locks_are_checked)
                if (!enabled())
                    sync::enforce(sync::misuse_by_enabling_interrupts(*this));
            x86_64::enable_interrupts();
        } else {
            x86_64::disable_interrupts();
        }
    }
    [[nodiscard]] bool enabled() noexcept { return (x86_64::read_flags() & x86_64::rflags::interrupt) != 0; }
    [[nodiscard]] sync::held_locks* held_spin_locks() noexcept { return sync::kept_in(this_cpu().locks); }
    [[nodiscard]] sync::lock_counters* lock_counters() noexcept { return sync::kept_in(this_cpu().lock_counts); }
    [[nodiscard]] instant now() noexcept; // for those; 0 until the clock is known
};
static_assert(hal::InterruptControl<interrupt_flag>);

// Physical memory through the direct map. Pointers into the image and to stacks have a physical address too; what
// crosses a page of a stack need not be contiguous.
struct direct_map {
    [[nodiscard]] std::byte* to_pointer(phys_addr a) const noexcept
    {
        return reinterpret_cast<std::byte*>((layout::direct_map + a.value()).value());
    }
    [[nodiscard]] phys_addr to_physical(const void* p) const noexcept
    {
        const virt_addr v = layout::address_of(p);
        if (v >= layout::image)
            return layout::physical_in_image(v);
        if (v >= layout::direct_map && v < layout::direct_map + layout::direct_map_bytes)
            return phys_addr{v - layout::direct_map};
        return walk(v);
    }

private:
    [[nodiscard]] phys_addr walk(virt_addr v) const noexcept
    {
        using format = x86_64::paging_4_level;
        phys_addr table{x86_64::read_cr3() & format::address_mask};
        for (unsigned level = hal::root_level<format>;; --level) {
            const auto slot = to_pointer(table + hal::index_at<format>(v, level) * sizeof(format::entry));
            format::entry e;
            std::memcpy(&e, slot, sizeof e);
            EXO_CHECK(format::is_present(e));
            if (format::is_leaf(e, level))
                return format::address(e, level) + (v.value() & (hal::bytes_at<format>(level) - 1));
            table = format::address(e, level);
        }
    }
};
static_assert(hal::PhysAccess<direct_map>);

struct paging_instructions {
    [[nodiscard]] const x86_64::cpu_features& features() const noexcept { return boot::features(); }
    [[nodiscard]] std::uint64_t read_cr3() const noexcept { return x86_64::read_cr3(); }
    void write_cr3(std::uint64_t value) const noexcept { x86_64::write_cr3(value); }
    [[nodiscard]] std::uint64_t read_cr4() const noexcept { return x86_64::read_cr4(); }
    void write_cr4(std::uint64_t value) const noexcept { x86_64::write_cr4(value); }
    void invlpg(std::uint64_t address) const noexcept { x86_64::invalidate_page(address); }
    void invpcid(x86_64::invpcid_type type, const x86_64::invpcid_descriptor& what) const noexcept
    {
        x86_64::invalidate(type, what);
    }
};

using local_tlb = x86_64::tlb<paging_instructions>;
static_assert(hal::Tlb<local_tlb>);

using page_table_root = x86_64::page_table_root<paging_instructions>;
static_assert(hal::TranslationRoot<page_table_root>);

struct stack_switch {
    struct context {
        void* stack_pointer{};
    };

    void prepare(context& c, std::span<std::byte> stack, hal::context_entry entry, void* argument) noexcept
    {
        // What exo_switch_stacks pops: r15 r14 r13 r12 rbx rbp, and where it returns to.
        const std::uint64_t saved[] = {0,
                                       0,
                                       reinterpret_cast<std::uint64_t>(argument),
                                       reinterpret_cast<std::uint64_t>(entry),
                                       0,
                                       0,
                                       reinterpret_cast<std::uint64_t>(&exo_thread_start),
                                       0};
        std::byte* at = stack.data() + stack.size() - sizeof saved;
        std::memcpy(at, saved, sizeof saved);
        c.stack_pointer = at;
    }
    void switch_to(context& from, context& to) noexcept { exo_switch_stacks(&from.stack_pointer, to.stack_pointer); }
};
static_assert(hal::Context<stack_switch>);

struct processor_control {
    void halt_until_interrupt() noexcept
    {
        x86_64::enable_interrupts_and_halt();
        x86_64::disable_interrupts();
    }
    // Without PAUSE: QEMU's TCG leaves the loop for each, under the lock that other CPUs need to send an interrupt.
    template <class Done>
    void poll(Done&& done) noexcept
    {
        while (!done()) {
        }
    }
};
static_assert(hal::PollingIdle<processor_control>);

} // namespace exo::boot
