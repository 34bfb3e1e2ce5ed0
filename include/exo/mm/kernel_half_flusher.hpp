// Forgetting on every CPU what the kernel's half of all address spaces has lost.

#pragma once

#include <exo/base/cpu_set.hpp>
#include <exo/hal/cpu_local.hpp>
#include <exo/hal/interrupt_control.hpp>
#include <exo/hal/ipi.hpp>
#include <exo/hal/tlb.hpp>
#include <exo/mm/flush_batch.hpp>
#include <exo/sync/per_cpu.hpp>

namespace exo::mm {

// A Flusher, under the conditions of shared_half_flusher. It is used without a lock that another CPU may wait for with
// interrupts off.
template <hal::Tlb Tlb, hal::Ipi Ipi, hal::CpuLocal Cpu, hal::InterruptControl Interrupts>
class kernel_half_flusher {
public:
    kernel_half_flusher(Tlb& tlb, const Cpu& cpu, Interrupts& interrupts)
        : how_{tlb}, cpu_{cpu}, interrupts_{interrupts}
    {
    }

    // From here on there are others: all that Cpu may name.
    void call_others(Ipi& ipi) noexcept { ipi_ = &ipi; }

    void flush(const invalidation& what) noexcept
    {
        const sync::pin pinned{interrupts_, cpu_};
        how_.flush(what);
        if (!ipi_)
            return;
        request asked{*this, what};
        ipi_->call(cpu_set::first(cpu_.cpu_limit()), &serve, &asked);
    }

private:
    struct request {
        kernel_half_flusher& by;
        const invalidation& what;
    };
    static void serve(void* argument) noexcept
    {
        const auto& asked = *static_cast<const request*>(argument);
        asked.by.how_.flush(asked.what);
    }

    shared_half_flusher<Tlb> how_;
    const Cpu& cpu_;
    Interrupts& interrupts_;
    Ipi* ipi_{};
};

} // namespace exo::mm
