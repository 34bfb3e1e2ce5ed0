// The local APIC against a model that has it in both of its modes, and faults where the CPU does.

#include <doctest/doctest.h>

#include <map>
#include <set>
#include <utility>
#include <vector>

#include <exo/drivers/counter_clock.hpp>
#include <exo/drivers/local_apic.hpp>
#include <exo/drivers/stray_interrupts.hpp>

#include "device_model.hpp"
#include "laws/deadline_timer_laws.hpp"

using namespace exo;
using namespace exo::drivers;
using device_model::device;
using device_model::registers;
using x86_64::interprocessor_interrupt;
namespace offset_of = x86_64::local_apic_register;

namespace {

// One CPU's, in the window and as MSRs.
struct local_apic_model final : device {
    struct sent {
        std::uint32_t to;
        std::uint32_t what;
        friend bool operator==(const sent&, const sent&) = default;
    };
    static constexpr std::uint64_t firmware_base = 0xfee0'0900, x2apic = 1u << 10, enabled = 1u << 11; // and BSP
    static constexpr unsigned until_accepted = 3; // readings of the command register

    explicit local_apic_model(std::uint32_t its_id, std::uint64_t apic_base = firmware_base)
        : id{its_id}, base{apic_base}
    {
    }

    std::uint32_t id;
    std::uint64_t base;
    std::map<std::uint32_t, std::uint32_t> values;
    std::vector<sent> log;
    unsigned ends{}, pending{};
    std::uint32_t errors{};    // which a write shows
    bool stores_visible{true}; // what this CPU has stored, by others

    // The timer. What is written through the window reaches it at the next fence, which is as late as it may be.
    static constexpr std::uint64_t tsc_hertz = 3'141'592'653, timer_hertz = 99'900'000;
    double time{};       // ns
    double fires{never}; // when the timer does
    static constexpr double never = 1e300;
    std::uint64_t deadline{};
    std::uint32_t timer_mode{};
    unsigned raised{};

    [[nodiscard]] std::uint64_t tsc() const { return static_cast<std::uint64_t>(time * (tsc_hertz / 1e9)) + 12'345; }
    void arrive()
    {
        stores_visible = true;
        const std::uint32_t mode = values[offset_of::lvt_timer] >> 17 & 3;
        if (mode != timer_mode)
            disarm();
        timer_mode = mode;
    }
    // Whether an interrupt came within `most`; it ends the wait. Handling one takes a moment.
    [[nodiscard]] bool run_until_interrupt(duration most)
    {
        const double end = time + static_cast<double>(most.nanoseconds());
        if (fires > end) {
            time = end;
            return false;
        }
        time = fires > time ? fires : time;
        disarm();
        REQUIRE((values[offset_of::lvt_timer] & x86_64::local_apic_bits::masked) == 0);
        raised = values[offset_of::lvt_timer] & 0xff;
        return true;
    }
    void disarm()
    {
        fires = never;
        deadline = 0;
    }

    // Through the window. Reading it waits for nobody, and a write goes after the stores before it.
    std::uint32_t read(std::uint32_t offset, unsigned bytes) override
    {
        REQUIRE(bytes == 4);
        REQUIRE((base & (x2apic | enabled)) == enabled);
        if (offset == offset_of::id)
            return id << 24;
        if (offset == offset_of::command_low && pending > 0)
            return --pending == 0 ? 0 : interprocessor_interrupt::pending;
        return load(offset);
    }
    void write(std::uint32_t offset, unsigned bytes, std::uint32_t value) override
    {
        REQUIRE(bytes == 4);
        REQUIRE((base & (x2apic | enabled)) == enabled);
        stores_visible = true;
        if (offset == offset_of::command_low) {
            REQUIRE(pending == 0);
            pending = until_accepted;
            log.push_back({values[offset_of::command_high] >> 24, value});
        } else if (offset == offset_of::command_high) {
            REQUIRE(pending == 0);
            values[offset] = value;
        } else {
            store(offset, value);
        }
    }

    std::uint64_t read_msr(std::uint32_t number)
    {
        if (number == 0x1b)
            return base;
        const std::uint32_t offset = (number - 0x800) << 4;
        REQUIRE((base & (x2apic | enabled)) == (x2apic | enabled));
        REQUIRE((number >= 0x800 && number < 0x840 && offset != offset_of::command_high));
        return offset == offset_of::id ? id : load(offset);
    }
    void write_msr(std::uint32_t number, std::uint64_t value)
    {
        if (number == 0x1b) {
            // SDM volume 3, figure 11-27.
            const std::uint64_t from = base & (x2apic | enabled), to = value & (x2apic | enabled);
            const bool legal =
                to == from || to == 0 || (from == 0 && to == enabled) || (from == enabled && to == (x2apic | enabled));
            REQUIRE(legal);
            REQUIRE((value & ~(x2apic | enabled)) == (base & ~(x2apic | enabled)));
            base = value;
            return;
        }
        const std::uint32_t offset = (number - 0x800) << 4;
        REQUIRE((number == 0x6e0 || (base & (x2apic | enabled)) == (x2apic | enabled)));
        if (number == 0x6e0) { // lost in another mode
            deadline = timer_mode == 2 ? value : 0;
            fires = deadline == 0 ? never : static_cast<double>(deadline - 12'345 + 1) / (tsc_hertz / 1e9);
            return;
        }
        if (number == 0x830) {
            REQUIRE(stores_visible);
            REQUIRE((value & 0xfff3'3000) == 0);
            log.push_back({static_cast<std::uint32_t>(value >> 32), static_cast<std::uint32_t>(value)});
            return;
        }
        REQUIRE(number >= 0x800);
        REQUIRE((offset != offset_of::command_high && offset != offset_of::id));
        REQUIRE((value >> 32) == 0);
        store(offset, static_cast<std::uint32_t>(value));
        arrive();
    }

private:
    std::uint32_t load(std::uint32_t offset)
    {
        static const std::set<std::uint32_t> readable{
            offset_of::version,       offset_of::task_priority,   offset_of::spurious,    offset_of::error_status,
            offset_of::lvt_timer,     offset_of::lvt_thermal,     offset_of::lvt_lint0,   offset_of::lvt_lint1,
            offset_of::lvt_error,     offset_of::lvt_performance, offset_of::command_low, offset_of::timer_initial,
            offset_of::timer_current, offset_of::timer_divide};
        REQUIRE(readable.contains(offset));
        return values[offset];
    }
    void store(std::uint32_t offset, std::uint32_t value)
    {
        static const std::set<std::uint32_t> writable{
            offset_of::task_priority, offset_of::end_of_interrupt, offset_of::spurious,      offset_of::error_status,
            offset_of::lvt_timer,     offset_of::lvt_thermal,      offset_of::lvt_lint0,     offset_of::lvt_lint1,
            offset_of::lvt_error,     offset_of::lvt_performance,  offset_of::timer_initial, offset_of::timer_divide};
        REQUIRE(writable.contains(offset));
        REQUIRE((value == 0 || (offset != offset_of::end_of_interrupt && offset != offset_of::error_status)));
        values[offset] = offset == offset_of::error_status ? std::exchange(errors, 0) : value;
        ends += offset == offset_of::end_of_interrupt;
        if (offset == offset_of::timer_initial && (values[offset_of::lvt_timer] >> 17 & 3) == 0)
            fires = value == 0 ? never : time + value * (1e9 / timer_hertz);
    }
};

struct msrs {
    local_apic_model* model;

    std::uint64_t read(std::uint32_t number) noexcept { return model->read_msr(number); }
    void write(std::uint32_t number, std::uint64_t value) noexcept { model->write_msr(number, value); }
    void fence() noexcept { model->arrive(); }
};
static_assert(x86_64::MsrAccess<msrs>);

using apic_type = local_apic<registers, msrs>;
apic_type in_xapic_mode(local_apic_model& m) { return {msrs{&m}, registers{&m}}; }
apic_type in_x2apic_mode(local_apic_model& m) { return apic_type{msrs{&m}}; }

constexpr interprocessor_interrupt init{.how = interprocessor_interrupt::delivery::init},
    startup{.how = interprocessor_interrupt::delivery::startup, .vector = 8},
    nmi_to_others{.how = interprocessor_interrupt::delivery::nmi,
                  .whom = interprocessor_interrupt::destination::all_others};

} // namespace

TEST_CASE("local APIC: enabled in either mode with its sources masked, whatever firmware left")
{
    constexpr std::uint64_t enabled = local_apic_model::enabled, x2apic = local_apic_model::x2apic;
    constexpr std::uint64_t off = local_apic_model::firmware_base & ~enabled;
    const struct {
        bool wants_x2apic;
        std::uint64_t before;
        std::uint64_t after;
    } ways[] = {{false, off, off | enabled},
                {false, off | enabled, off | enabled},
                {true, off, off | enabled | x2apic},
                {true, off | enabled, off | enabled | x2apic},
                {true, off | enabled | x2apic, off | enabled | x2apic}};
    for (const auto& way : ways) {
        local_apic_model model{7, way.before};
        apic_type apic = way.wants_x2apic ? in_x2apic_mode(model) : in_xapic_mode(model);
        apic.enable(0xff, 0xfe);
        CHECK(model.base == way.after);
        CHECK(model.values[offset_of::spurious] == 0x1ff);
        CHECK(model.values[offset_of::lvt_error] == 0xfe);
        CHECK(model.values[offset_of::lvt_lint0] == x86_64::local_apic_bits::masked);
        CHECK(model.values[offset_of::lvt_lint1] == x86_64::local_apic_bits::deliver_nmi);
        CHECK(model.values[offset_of::lvt_timer] == x86_64::local_apic_bits::masked);
        CHECK(apic.id() == 7);
        CHECK(model.ends == 1);
        model.errors = 0x40;
        CHECK(apic.take_errors() == 0x40);
        CHECK(apic.take_errors() == 0);
    }
}

TEST_CASE("local APIC: in xAPIC mode an interrupt is sent when the one before has been accepted")
{
    local_apic_model model{7};
    apic_type apic = in_xapic_mode(model);
    apic.send(init, 9);
    apic.send(startup, 254);
    apic.send(nmi_to_others);
    using sent = local_apic_model::sent;
    CHECK(model.log == std::vector<sent>{{9, 0x4500}, {254, 0x4608}, {0, 0xc4400}});
    CHECK(apic.reaches(254));
    CHECK(!apic.reaches(255));
    CHECK(!apic.reaches(0x100));
}

TEST_CASE("local APIC: in x2APIC mode an interrupt reaches ids of 32 bits, and after what was stored before")
{
    local_apic_model model{0x1'0007, local_apic_model::firmware_base | local_apic_model::x2apic};
    apic_type apic = in_x2apic_mode(model);
    CHECK(apic.id() == 0x1'0007);
    for (const auto& [what, to] : {std::pair{init, 0x12345u}, {startup, 255u}, {nmi_to_others, 0u}}) {
        model.stores_visible = false;
        apic.send(what, to);
    }
    using sent = local_apic_model::sent;
    CHECK(model.log == std::vector<sent>{{0x12345, 0x4500}, {255, 0x4608}, {0, 0xc4400}});
    CHECK(apic.reaches(255));
    CHECK(apic.reaches(0xffff'fffe));
    CHECK(!apic.reaches(0xffff'ffff));
}

TEST_CASE("devices interrupt the first CPU that 8 bits can name")
{
    const auto to = [](std::vector<std::uint32_t> ids) { return x86_64::device_destination(ids); };
    CHECK(to({7, 1}) == 7);
    CHECK(to({255, 0x100, 254, 3}) == 254);
    CHECK(!to({255, 0x107}));
}

namespace {

// A CPU whose timer interrupts are let through when it waits.
struct one_cpu {
    local_apic_model model;
    struct counter {
        const local_apic_model* model;
        std::uint64_t operator()() const noexcept { return model->tsc(); }
    };
    counter_clock<counter> clock{{&model}, tick_rate{local_apic_model::tsc_hertz, seconds(1)}, 12'345};
    apic_type apic;

    explicit one_cpu(bool has_x2apic) : model{7}, apic{has_x2apic ? in_x2apic_mode(model) : in_xapic_mode(model)}
    {
        apic.enable(0xff, 0xfe);
    }

    template <class Timer>
    auto pass_with(Timer& timer)
    {
        return [&](duration time) {
            std::vector<instant> seen;
            for (const instant end = clock.now() + time; clock.now() < end;) {
                if (!model.run_until_interrupt(end - clock.now()))
                    break;
                CHECK(model.raised == 0x30);
                if (timer.due())
                    seen.push_back(clock.now());
            }
            return seen;
        };
    }
};

} // namespace

TEST_CASE("local APIC timer: keeps the laws of a deadline timer in each mode")
{
    using enum x86_64::local_apic_timer_mode;
    for (const bool x2apic : {false, true}) {
        for (const auto mode : {one_shot, tsc_deadline}) {
            CAPTURE(x2apic);
            CAPTURE(static_cast<int>(mode));
            one_cpu cpu{x2apic};
            const auto hertz = mode == one_shot ? local_apic_model::timer_hertz : local_apic_model::tsc_hertz;
            local_apic_timer timer{cpu.apic, cpu.clock, one_cpu::counter{&cpu.model},
                                   local_apic_timer_settings{mode, tick_rate{hertz, seconds(1)}, 0x30}};
            static_assert(hal::DeadlineTimer<decltype(timer)>);
            timer.enable();
            laws::check_deadline_timer(timer, cpu.clock, cpu.pass_with(timer), microseconds(1));
            timer.arm(cpu.clock.now() + milliseconds(1));
            timer.arm(instant::never());
            CHECK(cpu.model.fires == local_apic_model::never);
        }
    }
}

TEST_CASE("local APIC timer: an interrupt that is on its way when the deadline is put off does not count")
{
    using enum x86_64::local_apic_timer_mode;
    one_cpu cpu{true};
    local_apic_timer timer{cpu.apic, cpu.clock, one_cpu::counter{&cpu.model},
                           local_apic_timer_settings{one_shot, tick_rate{cpu.model.timer_hertz, seconds(1)}, 0x30}};
    timer.enable();
    CHECK_FALSE(timer.due());
    timer.arm(cpu.clock.now() + milliseconds(1));
    REQUIRE(cpu.model.run_until_interrupt(milliseconds(2)));
    const instant deadline = cpu.clock.now() + milliseconds(3);
    timer.arm(deadline);
    CHECK_FALSE(timer.due());
    REQUIRE(cpu.model.run_until_interrupt(milliseconds(4)));
    CHECK(cpu.clock.now() >= deadline);
    CHECK(timer.due());
    CHECK_FALSE(timer.due()); // nor is it due twice
}

TEST_CASE("local APIC timer: where the clock has to be read, it never rests")
{
    using enum x86_64::local_apic_timer_mode;
    one_cpu cpu{false};
    local_apic_timer timer{
        cpu.apic, cpu.clock, one_cpu::counter{&cpu.model},
        local_apic_timer_settings{one_shot, tick_rate{cpu.model.timer_hertz, seconds(1)}, 0x30, true}};
    timer.enable();
    const auto rests_for = [&] {
        const instant since = cpu.clock.now();
        REQUIRE(cpu.model.run_until_interrupt(seconds(10)));
        return cpu.clock.now() - since;
    };
    constexpr duration longest = timer.longest_wait + microseconds(1);
    CHECK(rests_for() <= longest); // never armed
    CHECK_FALSE(timer.due());
    CHECK(rests_for() <= longest);
    CHECK_FALSE(timer.due());
    timer.arm(cpu.clock.now() + milliseconds(1));
    CHECK(rests_for() <= milliseconds(2));
    CHECK(timer.due());
    CHECK(rests_for() <= longest); // not armed again
    CHECK_FALSE(timer.due());
    timer.arm(cpu.clock.now() + milliseconds(1));
    timer.arm(instant::never());
    CHECK(rests_for() >= seconds(1));
    CHECK_FALSE(timer.due());
}

TEST_CASE("spurious interrupts and errors are counted, and each kind of error told once")
{
    local_apic_model models[] = {local_apic_model{0}, local_apic_model{1}};
    apic_type apics[] = {in_xapic_mode(models[0]), in_xapic_mode(models[1])};
    stray_interrupts<trace::recording> strays;
    trace::table_source<stray_interrupts<trace::recording>> metrics{stray_interrupts<trace::recording>::table, strays};
    trace::registry all;
    all.add(metrics);

    strays.on_spurious();
    models[0].errors = 0x60;
    CHECK(strays.on_error(apics[0]) == 0x60);
    models[1].errors = 0x64;
    CHECK(strays.on_error(apics[1]) == 0x04);
    models[0].errors = 0x44;
    CHECK(strays.on_error(apics[0]) == 0);
    CHECK(all.value("exo_drivers_spurious_interrupts_total") == 1);
    CHECK(all.value("exo_drivers_apic_errors_total") == 3);
}
