// EntryStore of x86-64: aligned 8-byte accesses are single (Intel SDM 3A, 9.1.1), stores become visible in program
// order (9.2.2), and a walk reads memory as a load does; what was absent is never remembered (4.10.4.3), so publishing
// needs no instruction. Written over std::atomic_ref, so it serves any host as well.

#pragma once

#include <atomic>
#include <cstdint>

#include <exo/hal/entry_store.hpp>

namespace exo::x86_64 {

template <template <class> class AtomicRef>
struct basic_paging_entries {
    using entry = std::uint64_t;

    static entry load(const entry* slot) noexcept
    {
        return AtomicRef<entry>{const_cast<entry&>(*slot)}.load(std::memory_order_acquire);
    }
    static void store(entry* slot, entry value) noexcept
    {
        AtomicRef<entry>{*slot}.store(value, std::memory_order_release);
    }
    static entry exchange(entry* slot, entry value) noexcept
    {
        return AtomicRef<entry>{*slot}.exchange(value, std::memory_order_acq_rel);
    }
    static bool compare_exchange(entry* slot, entry& expected, entry value) noexcept
    {
        return AtomicRef<entry>{*slot}.compare_exchange_strong(expected, value, std::memory_order_acq_rel);
    }
    static void publish() noexcept { std::atomic_signal_fence(std::memory_order_seq_cst); }
};

using paging_entries = basic_paging_entries<std::atomic_ref>;
static_assert(hal::EntryStore<paging_entries, std::uint64_t>);

} // namespace exo::x86_64
