// A lock observer that stops at the first lock taken out of order, on whatever run it happens, deadlock or not.
//
// One ledger for the machine notes which ranks each CPU holds; spinning locks are taken and let go on one CPU, so that
// is all it takes. Locks name rank_checked<Ledger> as their observer and get the ledger when they are made.

#pragma once

#include <cstddef>
#include <cstdint>

#include <exo/base/check.hpp>
#include <exo/hal/cpu_local.hpp>
#include <exo/sync/lock_rank.hpp>
#include <exo/sync/per_cpu.hpp>

namespace exo::sync {

template <hal::CpuLocal Cpu, std::size_t Limit>
class rank_ledger {
public:
    explicit rank_ledger(const Cpu& cpu) : cpu_{cpu} {}

    // Whether this CPU may take a lock of `rank`: all that it holds rank higher. Interrupts are off in all of these.
    [[nodiscard]] bool in_order(lock_rank rank) noexcept { return (held() & (bit(rank) | (bit(rank) - 1))) == 0; }
    void acquiring(lock_rank rank) noexcept { EXO_CHECK(in_order(rank)); }
    void acquired(lock_rank rank) noexcept { held() |= bit(rank); }
    void released(lock_rank rank) noexcept { held() &= ~bit(rank); }

private:
    static constexpr std::uint64_t bit(lock_rank rank) { return std::uint64_t{1} << static_cast<unsigned>(rank); }
    std::uint64_t& held() noexcept { return held_.of(cpu_.current_cpu()); }

    const Cpu& cpu_;
    per_cpu<std::uint64_t, Limit> held_;
};

template <class Ledger>
class rank_checked {
public:
    explicit rank_checked(Ledger& ledger) : ledger_{&ledger} {}

    void acquiring(lock_rank rank) noexcept { ledger_->acquiring(rank); }
    void contended(lock_rank) noexcept {}
    void acquired(lock_rank rank) noexcept { ledger_->acquired(rank); }
    void released(lock_rank rank) noexcept { ledger_->released(rank); }

private:
    Ledger* ledger_;
};

} // namespace exo::sync
