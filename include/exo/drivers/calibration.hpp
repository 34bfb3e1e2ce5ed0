// The rates of a CPU's own counters, the time-stamp counter and the local APIC's timer, by one whose rate is known: a
// counter that the CPUs share (HPET, PM timer) if the PIT bears its rate out, else the PIT.
//
// It goes on beside boot, and only what is missing at the end is waited for. A rate is good to 100 ppm after 10,000
// times what both readings may be off together: a tick, and a quarter of a microsecond because looking takes time. That
// makes 3 ms for the HPET, 5 ms for the PM timer, and 10 ms for the PIT.

#pragma once

#include <concepts>
#include <cstdint>
#include <optional>

#include <exo/base/time.hpp>
#include <exo/drivers/counter_clock.hpp>
#include <exo/drivers/counter_comparison.hpp>
#include <exo/drivers/pit.hpp>
#include <exo/hal/register_access.hpp>

namespace exo::drivers {

struct counter_rates {
    tick_rate tsc;
    tick_rate apic_timer;
    bool shared_is_sound{}; // there is a shared counter, and it is as fast as it says
};

// `Tsc()` and `Shared()` return counts that never go backward.
template <hal::RegisterAccess Ports, std::invocable Tsc, std::invocable Shared>
class calibration {
public:
    // Starts, with the PIT. `ports` starts at port 0.
    calibration(Ports ports, Tsc tsc) : ports_{ports}, tsc_{tsc}, by_pit_{start_pit()} {}

    // Goes on with a shared counter as well, which may be found later.
    void add(Shared shared, tick_rate rate)
    {
        shared_.emplace(shared, rate);
        by_shared_.emplace(tsc_, shared);
    }

    // `apic` is enabled, and nobody uses its timer. Empty when nothing counts.
    template <class Apic>
    [[nodiscard]] std::optional<counter_rates> finish(Apic& apic)
    {
        constexpr unsigned attempts = 8, attempts_to_agree = 3;
        for (unsigned attempt = 0; attempt < attempts; ++attempt) {
            if (attempt > 0)
                restart();
            if (attempt == attempts_to_agree)
                shared_.reset(); // the PIT's rate is the same on every PC
            constexpr std::uint32_t most = 0xffff'ffff;
            apic.start_timer(most);
            counter_comparison by_apic{tsc_, [&] { return most - apic.timer_ticks_left(); }};
            wait();
            const auto apic_passed = by_apic.elapsed();
            apic.start_timer(0);

            const bool has_pit = timer().elapsed() != 0;
            const auto pit_says = tsc_by_pit();
            const auto shared_says = tsc_by_shared();
            const bool sound = shared_says && (pit_says ? are_close(*pit_says, *shared_says) : !has_pit);
            if (apic_passed.coarse == 0 || (shared_ ? !sound : !pit_says))
                continue;
            const tick_rate tsc = sound ? *shared_says : *pit_says;
            const duration apic_span{static_cast<std::int64_t>(tsc.nanoseconds(apic_passed.fine))};
            return counter_rates{tsc, tick_rate{apic_passed.coarse, apic_span}, sound};
        }
        return std::nullopt;
    }

private:
    static constexpr duration span_by_pit = milliseconds(10);
    static constexpr duration span_of_apic = milliseconds(1);
    static constexpr duration least = milliseconds(1), most_by_shared = milliseconds(200), most_wait = milliseconds(20);

    struct pit_counter {
        pit<Ports> timer;
        std::uint64_t operator()() noexcept { return timer.elapsed(); }
    };
    struct shared_counter {
        Shared count;
        tick_rate rate;

        [[nodiscard]] duration span_of(std::uint64_t ticks) const
        {
            return duration{static_cast<std::int64_t>(rate.nanoseconds(ticks))};
        }
        [[nodiscard]] duration enough() const { return (span_of(1) + nanoseconds(250)) * 10'000; }
    };

    [[nodiscard]] pit<Ports> timer() const { return pit<Ports>{ports_}; }
    [[nodiscard]] counter_comparison<Tsc, pit_counter> start_pit()
    {
        timer().start();
        return {tsc_, {timer()}};
    }
    void restart()
    {
        by_pit_ = start_pit();
        if (shared_)
            by_shared_.emplace(tsc_, shared_->count);
    }

    // Until each has counted for long enough, or one does not seem to.
    void wait()
    {
        constexpr unsigned patience = 1'000'000;
        const auto ticks = [](duration d) { return pit<Ports>::ticks_in(d); };
        const auto later = [](auto a, auto b) { return a < b ? b : a; };
        if (shared_) {
            const duration done = later(shared_->enough(), shared_span() + span_of_apic);
            const std::uint16_t since = timer().elapsed();
            const auto waited = [&] { return static_cast<std::uint16_t>(timer().elapsed() - since); };
            for (unsigned i = 0; i < patience && shared_span() < done && waited() < ticks(most_wait); ++i) {}
        } else {
            const std::uint64_t done = later(ticks(span_by_pit), timer().elapsed() + ticks(span_of_apic));
            for (unsigned i = 0; i < patience && timer().elapsed() < done && !timer().ran_out(); ++i) {}
        }
    }
    [[nodiscard]] duration shared_span() { return shared_->span_of(by_shared_->elapsed().coarse); }

    // What the time-stamp counter's rate is by each, if enough has passed, and no more than it can tell.
    [[nodiscard]] std::optional<tick_rate> tsc_by_pit()
    {
        const auto passed = by_pit_.elapsed();
        if (timer().ran_out() || passed.fine == 0 || passed.coarse < pit<Ports>::ticks_in(least))
            return std::nullopt;
        return tick_rate{passed.fine, pit<Ports>::span_of(static_cast<std::uint16_t>(passed.coarse))};
    }
    [[nodiscard]] std::optional<tick_rate> tsc_by_shared()
    {
        if (!shared_)
            return std::nullopt;
        const auto passed = by_shared_->elapsed();
        const duration span = shared_->span_of(passed.coarse);
        if (passed.fine == 0 || span < least || span > most_by_shared)
            return std::nullopt;
        return tick_rate{passed.fine, span};
    }
    // To 1 %: a millisecond by the PIT is no better than a few parts in a thousand.
    [[nodiscard]] static bool are_close(const tick_rate& a, const tick_rate& b)
    {
        const std::uint64_t x = a.hertz(), y = b.hertz();
        return (x > y ? x - y : y - x) <= y / 100;
    }

    [[no_unique_address]] Ports ports_;
    [[no_unique_address]] Tsc tsc_;
    counter_comparison<Tsc, pit_counter> by_pit_;
    std::optional<shared_counter> shared_;
    std::optional<counter_comparison<Tsc, Shared>> by_shared_;
};

} // namespace exo::drivers
