// Interrupts that no device means: spurious ones, whose source withdrew in the last moment (SDM volume 3, 11.9), and
// errors of local APICs (11.5.3). Counted, over all CPUs.

#pragma once

#include <atomic>
#include <cstdint>

#include <exo/trace/counter.hpp>
#include <exo/trace/registry.hpp>

namespace exo::drivers {

template <class Recording>
struct stray_interrupts {
    [[no_unique_address]] trace::shared_counter<Recording> spurious;
    [[no_unique_address]] trace::shared_counter<Recording> errors;
    std::atomic<std::uint32_t> kinds{}; // of errors so far

    // A spurious interrupt is not to be acknowledged.
    void on_spurious() noexcept { spurious.add(); }
    // Returns the kinds of errors that this CPU's `apic` tells of and none has told of before: one that comes over and
    // over is worth one line of the log.
    template <class Apic>
    [[nodiscard]] std::uint32_t on_error(Apic& apic) noexcept
    {
        errors.add();
        const std::uint32_t told = apic.take_errors();
        return told & ~kinds.fetch_or(told, std::memory_order_relaxed);
    }

    static constexpr trace::table_row<stray_interrupts> table[] = {
        trace::counts<&stray_interrupts::spurious, stray_interrupts>(
            "exo_drivers_spurious_interrupts_total", "Interrupts whose source withdrew before they were taken"),
        trace::counts<&stray_interrupts::errors, stray_interrupts>("exo_drivers_apic_errors_total",
                                                                   "Error interrupts of local APICs"),
    };
};

} // namespace exo::drivers
