// Starting the other CPUs of a PC, all at once (SDM volume 3, 9.4.4; MultiProcessor Specification 1.4, B.4): INIT
// resets them, 10 ms later a start-up interrupt has each run the instructions at a page below 1 MiB, and 200 us after
// that a second one those that have not come yet.
//
// A CPU that is late may come at any moment: it is taken, or halts for good, but is never both given up and running.
// Whether its counter is in step with the boot CPU's is found out meanwhile: a clock that reads one that is not would
// go backward between them.

#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <span>

#include <exo/arch/x86_64/apic.hpp>
#include <exo/base/address.hpp>
#include <exo/base/check.hpp>
#include <exo/base/page.hpp>
#include <exo/base/range.hpp>
#include <exo/base/time.hpp>
#include <exo/hal/atomics.hpp>
#include <exo/hal/clock.hpp>

namespace exo::drivers {

// What each CPU counts time with is to be the same everywhere: the boot CPU shows its own count, another compares.
template <hal::Atomics Atomics = hal::standard_atomics>
using shown_count = typename Atomics::template atomic<std::uint64_t>;

template <hal::Atomics Atomics = hal::standard_atomics>
class starting_processor {
public:
    enum class phase : std::uint8_t { waits, has_come, given_up };

    starting_processor() = default;
    explicit starting_processor(std::uint32_t apic_id) : apic_id_{apic_id} {}
    // Before it is started.
    starting_processor(const starting_processor& other) : apic_id_{other.apic_id_} {}

    [[nodiscard]] std::uint32_t apic_id() const { return apic_id_; }
    [[nodiscard]] phase state() const noexcept { return state_.load(std::memory_order_acquire); }
    // Of one that has come.
    [[nodiscard]] bool in_step() const noexcept { return !out_of_step_.load(std::memory_order_acquire); }

    // By the CPU itself, while the boot CPU waits for it. False: it is not taken, and has to halt.
    template <unsigned Comparisons = 1000, std::invocable Counter>
    [[nodiscard]] bool come(const shown_count<Atomics>& reference, Counter counter) noexcept
    {
        bool behind = false;
        for (unsigned i = 0; i < Comparisons; ++i) {
            const std::uint64_t there = reference.load(std::memory_order_acquire);
            const std::uint64_t here = counter();
            behind = behind || here < there;
            count_.store(here, std::memory_order_release);
        }
        if (behind)
            out_of_step_.store(true, std::memory_order_release);
        return leave_waiting(phase::has_come);
    }
    // By who waits for it. It is out of step if it is ahead of a count that is read after its own.
    template <std::invocable Counter>
    void compare(Counter counter) noexcept
    {
        const std::uint64_t there = count_.load(std::memory_order_acquire);
        if (counter() < there)
            out_of_step_.store(true, std::memory_order_release);
    }
    // By who waits for it. One that came in the last moment stays.
    void give_up() noexcept { (void)leave_waiting(phase::given_up); }

private:
    [[nodiscard]] bool leave_waiting(phase next) noexcept
    {
        auto expected = phase::waits;
        return state_.compare_exchange_strong(expected, next, std::memory_order_acq_rel, std::memory_order_acquire);
    }

    std::uint32_t apic_id_{};
    typename Atomics::template atomic<phase> state_{phase::waits};
    typename Atomics::template atomic<std::uint64_t> count_{};
    typename Atomics::template atomic<bool> out_of_step_{};
};

inline constexpr duration init_delay = milliseconds(10);
inline constexpr duration startup_delay = microseconds(200);
// Several times what the slowest emulator takes.
inline constexpr duration startup_patience = seconds(2);

// The page of `memory`, ascending, to start them in: below the first MiB, where firmware reserves the upper part, and
// not the first one, where interrupt vectors of real mode are.
[[nodiscard]] inline std::optional<phys_addr> find_startup_page(std::span<const phys_range> memory)
{
    constexpr phys_addr highest{0xa0000};
    for (const phys_range& r : memory) {
        const phys_addr page = r.begin < phys_addr{page_size} ? phys_addr{page_size} : r.begin.align_up(page_size);
        if (page + page_size <= r.end && page + page_size <= highest)
            return page;
    }
    return std::nullopt;
}

// Starts `processors` at physical address `page`, and waits for those that come; the rest is given up. `apic` is the
// local APIC of the CPU that runs the call, and nobody else sends by it; `counter` is what this CPU counts time with,
// and `reference` what the others look at.
template <hal::Atomics Atomics = hal::standard_atomics, class Apic, hal::Clock Clock, std::invocable Counter>
void start_processors(Apic& apic, const Clock& clock, Counter counter, phys_addr page,
                      std::span<starting_processor<Atomics>> processors, shown_count<Atomics>& reference)
{
    using x86_64::interprocessor_interrupt;
    using processor = starting_processor<Atomics>;
    constexpr phys_addr real_mode_end{1u << 20};
    EXO_CHECK(page.is_aligned(page_size) && page < real_mode_end);

    const auto send = [&](interprocessor_interrupt what) {
        bool all_there = true;
        for (processor& p : processors)
            if (p.state() == processor::phase::waits) {
                apic.send(what, p.apic_id());
                all_there = false;
            }
        return !all_there;
    };
    const auto wait = [&](duration most) {
        const auto all_there = [&] {
            bool all = true;
            for (processor& p : processors) {
                reference.store(counter(), std::memory_order_release);
                all = all && p.state() != processor::phase::waits;
                p.compare(counter);
            }
            return all;
        };
        for (const instant end = clock.now() + most; clock.now() < end && !all_there();)
            Atomics::pause();
    };

    using enum interprocessor_interrupt::delivery;
    const interprocessor_interrupt begin{.how = startup,
                                         .vector = static_cast<std::uint8_t>(page.value() >> page_shift)};
    if (!send({.how = init}))
        return;
    wait(init_delay);
    (void)send(begin);
    wait(startup_delay);
    if (send(begin))
        wait(startup_patience);
    for (processor& p : processors)
        p.give_up();
}

} // namespace exo::drivers
