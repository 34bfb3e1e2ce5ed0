// What a PC counts time with, in a world where every look at a counter takes time, and some take long.

#include <doctest/doctest.h>

#include <optional>
#include <random>

#include <exo/drivers/calibration.hpp>
#include <exo/drivers/counter_clock.hpp>
#include <exo/drivers/hpet.hpp>
#include <exo/drivers/time_source.hpp>
#include <exo/drivers/wrapping_counter.hpp>
#include <exo/sim/explored_atomics.hpp>

#include <exploring.hpp>

#include "device_model.hpp"

using namespace exo;
using namespace exo::drivers;
using device_model::device;
using device_model::registers;

namespace {

// The PIT behind its ports, a local APIC's timer, a time-stamp counter, and a counter that CPUs share.
struct world final : device {
    static constexpr double tsc_hertz = 2'445'404'000, apic_hertz = 99'912'345;

    double ns{5e9};
    bool has_pit{true}, apic_counts{true};
    double pit_reading{900}, shared_reading{500}; // ns
    double shared_hertz{14'318'180};
    std::mt19937 random{1};
    bool disturbed{}; // a virtual machine, which others interrupt

    double pit_since{}, apic_since{};
    std::uint32_t apic_from{};
    unsigned half{};
    std::uint16_t latch{};

    void pass(double time)
    {
        ns += time;
        if (disturbed && random() % 8 == 0)
            ns += static_cast<double>(random() % 400'000);
    }
    std::uint64_t tsc()
    {
        pass(10);
        return static_cast<std::uint64_t>(ns * (tsc_hertz / 1e9));
    }
    std::uint64_t shared()
    {
        const double until = shared_reading * (0.25 + static_cast<double>(random() % 1'000) / 2'000);
        pass(until);
        const auto count = static_cast<std::uint64_t>(ns * (shared_hertz / 1e9));
        pass(shared_reading - until);
        return count;
    }
    double pit_count() const { return (ns - pit_since) * (1'193'182 / 1e9); }

    std::uint32_t read(std::uint32_t port, unsigned) override
    {
        pass(pit_reading);
        if (!has_pit)
            return 0xff;
        if (port == 0x61)
            return pit_count() > 65'535 ? 0x20 : 0;
        return (half++ % 2 == 0 ? latch : latch >> 8) & 0xff;
    }
    void write(std::uint32_t port, unsigned, std::uint32_t value) override
    {
        pass(pit_reading);
        if (port == 0x43 && value == 0x80) {
            latch = static_cast<std::uint16_t>(0xffff - static_cast<std::uint64_t>(pit_count()));
            half = 0;
        } else if (port == 0x61 && (value & 1)) {
            pit_since = ns;
        }
    }

    // The local APIC's timer.
    void start_timer(std::uint32_t ticks)
    {
        pass(200);
        apic_from = ticks;
        apic_since = ns;
    }
    std::uint32_t timer_ticks_left()
    {
        pass(200);
        const double passed = apic_counts ? (ns - apic_since) * (apic_hertz / 1e9) : 0;
        return passed < apic_from ? apic_from - static_cast<std::uint32_t>(passed) : 0;
    }
};
struct tsc_of {
    world* w;
    std::uint64_t operator()() const { return w->tsc(); }
};
struct shared_of {
    world* w;
    std::uint64_t operator()() const { return w->shared(); }
};
using calibration_type = calibration<registers, tsc_of, shared_of>;

constexpr tick_rate hpet_says{1'000'000, nanoseconds(69'841'279)};

double parts_per_million(const tick_rate& rate, double hertz)
{
    const double off = (static_cast<double>(rate.hertz()) - hertz) / hertz * 1e6;
    return off < 0 ? -off : off;
}

struct outcome {
    std::optional<counter_rates> rates;
    double waited; // ms
};
// Boot takes `before` until it finds the shared counter, and `after` until it wants to know.
outcome calibrate(world& w, std::optional<tick_rate> shared, double before = 0, double after = 0)
{
    calibration_type c{registers{&w}, tsc_of{&w}};
    w.ns += before * 1e6;
    if (shared)
        c.add(shared_of{&w}, *shared);
    w.ns += after * 1e6;
    const double since = w.ns;
    auto rates = c.finish(w);
    return {rates, (w.ns - since) / 1e6};
}

} // namespace

TEST_CASE("calibration: a shared counter gives the rates to 100 ppm in 3 ms, of which boot has spent some")
{
    for (unsigned seed = 0; seed < 100; ++seed) {
        CAPTURE(seed);
        for (const auto& [before, after, most] : {std::tuple{0.0, 0.0, 3.4}, {9.0, 1.0, 2.4}, {2.0, 9.0, 1.2}}) {
            world w;
            w.random.seed(seed);
            const auto [rates, waited] = calibrate(w, hpet_says, before, after);
            REQUIRE(rates);
            CHECK(rates->shared_is_sound);
            CHECK(parts_per_million(rates->tsc, w.tsc_hertz) < 100);
            CHECK(parts_per_million(rates->apic_timer, w.apic_hertz) < 150);
            CHECK(waited < most);
        }
        world w; // the PM timer
        w.random.seed(seed);
        w.shared_hertz = 3'579'545;
        const auto [rates, waited] = calibrate(w, tick_rate{3'579'545, seconds(1)});
        REQUIRE(rates);
        CHECK(rates->shared_is_sound);
        CHECK(parts_per_million(rates->tsc, w.tsc_hertz) < 100);
    }
}

TEST_CASE("calibration: without a shared counter the PIT gives the rates to 100 ppm in 10 ms")
{
    world w;
    const auto [rates, waited] = calibrate(w, std::nullopt, 4, 4);
    REQUIRE(rates);
    CHECK(!rates->shared_is_sound);
    CHECK(parts_per_million(rates->tsc, w.tsc_hertz) < 100);
    CHECK(parts_per_million(rates->apic_timer, w.apic_hertz) < 1'000);
    CHECK(waited < 2.2);
}

TEST_CASE("calibration: what comes between the readings does not disturb it")
{
    for (unsigned seed = 0; seed < 200; ++seed) {
        CAPTURE(seed);
        world w;
        w.random.seed(seed);
        w.disturbed = true;
        const auto [rates, waited] = calibrate(w, seed % 2 ? std::optional{hpet_says} : std::nullopt, 2, 2);
        REQUIRE(rates);
        CHECK(rates->shared_is_sound == (seed % 2 == 1));
        CHECK(parts_per_million(rates->tsc, w.tsc_hertz) < 200);
    }
}

TEST_CASE("calibration: a shared counter that is not as fast as it says is left out, and the PIT counts")
{
    for (const double factor : {0.0, 0.1, 0.95, 1.05, 10.0, 1'000.0}) {
        CAPTURE(factor);
        world w;
        w.shared_hertz *= factor;
        const auto [rates, waited] = calibrate(w, hpet_says, 3, 3);
        REQUIRE(rates);
        CHECK(!rates->shared_is_sound);
        CHECK(parts_per_million(rates->tsc, w.tsc_hertz) < 100);
        CHECK(waited < 80);
    }
}

TEST_CASE("calibration: a shared counter does where there is no PIT, and nothing does where nothing counts")
{
    world w;
    w.has_pit = false;
    const auto [rates, waited] = calibrate(w, hpet_says);
    REQUIRE(rates);
    CHECK(rates->shared_is_sound);
    CHECK(parts_per_million(rates->tsc, w.tsc_hertz) < 100);
    const auto late = calibrate(w, hpet_says, 0, 60'000);
    REQUIRE(late.rates);
    CHECK(parts_per_million(late.rates->tsc, w.tsc_hertz) < 100);
    CHECK(!calibrate(w, std::nullopt).rates);

    world still;
    still.apic_counts = false;
    CHECK(!calibrate(still, hpet_says).rates);
}

TEST_CASE("calibration: where boot took longer than a counter can tell, it begins anew")
{
    for (const double took : {50.0, 58.0, 110.0, 165.0, 1'000.0, 60'000.0}) {
        for (const bool shared : {false, true}) {
            CAPTURE(took);
            CAPTURE(shared);
            world w;
            const auto [rates, waited] =
                calibrate(w, shared ? std::optional{hpet_says} : std::nullopt, took / 2, took / 2);
            REQUIRE(rates);
            CHECK(rates->shared_is_sound == shared);
            CHECK(parts_per_million(rates->tsc, w.tsc_hertz) < 100);
            CHECK(parts_per_million(rates->apic_timer, w.apic_hertz) < 1'000);
            CHECK(waited < 12);
        }
    }
}

TEST_CASE("a clock goes on from where it stands when its counter changes")
{
    std::uint64_t fast = 7'000'000, slow = 100;
    struct either {
        const std::uint64_t* count;
        std::uint64_t operator()() const { return *count; }
    };
    counter_clock clock{either{&fast}, tick_rate{2'000'000, milliseconds(1)}, 1'000'000};
    CHECK(clock.now() == instant{3'000'000});
    clock.go_on_by({&slow}, tick_rate{1'000'000, seconds(1)});
    CHECK(clock.now() == instant{3'000'000});
    slow += 3;
    CHECK(clock.now() == instant{3'003'000});
    clock.go_on_by({&fast}, tick_rate{2'000'000, milliseconds(1)});
    CHECK(clock.now() == instant{3'003'000});
    fast += 2;
    CHECK(clock.now() == instant{3'003'001});
}

namespace {

struct hpet_model final : device {
    std::uint32_t capabilities{0x8086'a201}, period{10'000'000}, configuration{2};
    std::uint64_t count{0x1234'5678}, step{1};

    std::uint32_t read(std::uint32_t offset, unsigned bytes) override
    {
        REQUIRE(bytes == 4);
        if (configuration & 1)
            count += step;
        switch (offset) {
        case 0x000:
            return capabilities;
        case 0x004:
            return period;
        case 0x010:
            return configuration;
        case 0x0f0:
            return static_cast<std::uint32_t>(count);
        case 0x0f4:
            return static_cast<std::uint32_t>(count >> 32);
        default:
            FAIL("no such register");
        }
        return 0;
    }
    void write(std::uint32_t offset, unsigned bytes, std::uint32_t value) override
    {
        REQUIRE(bytes == 4);
        REQUIRE(offset == 0x010);
        configuration = value;
    }
};

} // namespace

TEST_CASE("HPET: counts from where it stands, at the period that it tells, and in 64 bits never torn")
{
    hpet_model model;
    auto timer = hpet<registers>::open(registers{&model}).value();
    CHECK(model.configuration == 1);
    CHECK(timer.bits() == 64);
    CHECK(timer.rate().nanoseconds(1'000'000) == 10'000'000);
    CHECK(timer.count() == 0x1234'5678 + 2); // it read the upper half before

    model.step = 0x4000'0001; // the upper half moves at every fourth reading
    std::uint64_t last = model.count;
    for (unsigned i = 0; i < 1'000; ++i) {
        const std::uint64_t before = model.count, now = timer.count();
        REQUIRE(now > last);
        REQUIRE(now > before);
        REQUIRE(now <= model.count);
        last = now;
    }

    model.capabilities &= ~(1u << 13);
    CHECK(hpet<registers>::open(registers{&model})->bits() == 32);
    model.period = 69'841'279;
    CHECK(hpet<registers>::open(registers{&model})->rate().nanoseconds(1'000'000'000) / 1'000 == 69'841'278);
}

TEST_CASE("HPET: one whose registers make no sense is none, and is not touched")
{
    for (const auto& [capabilities, period] :
         {std::pair{0xffff'ffffu, 0xffff'ffffu}, {0x8086'a201u, 0u}, {0x8086'a201u, 100'000'001u}}) {
        hpet_model model;
        model.capabilities = capabilities;
        model.period = period;
        CHECK(hpet<registers>::open(registers{&model}).error() == errors::no_device);
        CHECK(model.configuration == 2);
    }
}

TEST_CASE("a counter that wraps is one that does not, if it is read once a round")
{
    for (const unsigned bits : {24u, 32u}) {
        const std::uint64_t round = std::uint64_t{1} << bits;
        std::uint64_t count = 12'345, garbage = 0xff00'0000'0000'0000;
        wrapping_counter counter{[&] { return (count & (round - 1)) | garbage; }, bits};
        CHECK(counter.wraps());
        const std::uint64_t base = counter() - count;
        for (const std::uint64_t step :
             {std::uint64_t{0}, std::uint64_t{1}, round / 2, round - 1, round - 1, round - 12}) {
            count += step;
            CHECK(counter() - base == count);
        }
    }
    std::uint64_t count = 0xffff'ffff'0000;
    wrapping_counter wide{[&] { return count; }, 64};
    CHECK(!wide.wraps());
    CHECK(wide() == count);
}

namespace {

// Two CPUs read a counter whose round is four of their readings. One that was interrupted between two steps has an old
// count, or an old place to publish it.
struct read_at_once : sim::scenario {
    unsigned threads() const override { return 2; }
    void run(unsigned thread) override
    {
        for (unsigned i = 0; i < (thread == 0 ? 6u : 2u); ++i) {
            const std::uint64_t before = latest.load(std::memory_order_relaxed);
            const std::uint64_t now = counter();
            require(now >= before, "the counter went backward between CPUs");
            require(now < ticks.load(std::memory_order_relaxed), "the counter is ahead");
            if (now > latest.load(std::memory_order_relaxed))
                latest.store(now, std::memory_order_seq_cst);
        }
    }
    struct hardware {
        sim::explored_atomics::atomic<std::uint64_t>* ticks;
        std::uint64_t operator()() const noexcept { return ticks->fetch_add(1, std::memory_order_seq_cst) & 3; }
    };
    sim::explored_atomics::atomic<std::uint64_t> ticks{};
    sim::explored_atomics::atomic<std::uint64_t> latest{};
    wrapping_counter<hardware, sim::explored_atomics> counter{{&ticks}, 2};
};

} // namespace

TEST_CASE("explored: a counter that wraps while two CPUs read it goes forward, and at its pace")
{
    CHECK_CLEAN(explore<read_at_once>(3, 1));
}

TEST_CASE("the clock reads time-stamp counters where they are constant and in step, or there is nothing else")
{
    for (unsigned i = 0; i < 16; ++i) {
        x86_64::cpu_features cpu;
        cpu.invariant_tsc = i & 1;
        cpu.hypervisor = i & 2;
        const bool in_step = i & 4, has_shared = i & 8;
        const bool good = (cpu.invariant_tsc || cpu.hypervisor) && in_step;
        CHECK(choose_time_source(cpu, in_step, has_shared) ==
              (good || !has_shared ? time_source::tsc : time_source::shared));
    }
}
