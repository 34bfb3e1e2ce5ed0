// The CPUs that have an address space loaded.

#pragma once

#include <atomic>
#include <cstdint>

#include <exo/base/cpu_set.hpp>
#include <exo/hal/atomics.hpp>

namespace exo::mm {

// Changed by each for itself, read by anybody.
template <hal::Atomics Atomics>
class basic_active_cpus {
public:
    void join(unsigned cpu) noexcept
    {
        // Sequentially consistent, against the fence in members(): mm/translation_holders.hpp tells why.
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

} // namespace exo::mm
