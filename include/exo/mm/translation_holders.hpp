// Who may hold translations of one address space: the CPUs that have it loaded, and, where translations carry
// address-space ids, those that had it loaded before.
//
// Whoever changes tables calls advance() after the change, and looks at `running` after that. A CPU that loads the space
// joins `running`, reads the generation after that, and then loads. All four are sequentially consistent, so that either
// the one who changed finds the CPU among `running`, and tells it, or the CPU reads a generation that counts the change,
// and forgets what it remembers from an older one. Either way, what it walks afterwards are the tables as changed.

#pragma once

#include <atomic>
#include <cstdint>

#include <exo/hal/atomics.hpp>
#include <exo/mm/active_cpus.hpp>

namespace exo::mm {

template <hal::Atomics Atomics>
class basic_translation_holders {
public:
    // `space` is no other space's, not even that of one that is gone: CPUs remember spaces by it.
    explicit basic_translation_holders(std::uint64_t space) : space_{space} {}

    [[nodiscard]] std::uint64_t space() const noexcept { return space_; }

    // How often something had to be forgotten.
    [[nodiscard]] std::uint64_t generation() const noexcept { return generation_.load(std::memory_order_seq_cst); }
    // Once more; the new count.
    std::uint64_t advance() noexcept { return generation_.fetch_add(1, std::memory_order_seq_cst) + 1; }

    basic_active_cpus<Atomics> running;

    // Whether somebody changes the space alone (mm/shootdown.hpp). Changed by who may, one at a time.
    typename Atomics::template atomic<bool> closed{};

private:
    const std::uint64_t space_;
    typename Atomics::template atomic<std::uint64_t> generation_{};
};

using translation_holders = basic_translation_holders<hal::standard_atomics>;

} // namespace exo::mm
