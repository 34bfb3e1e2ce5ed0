// The drivers that a PC needs to start, against tables and device models: well-formed ones and broken ones.

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include <exo/drivers/acpi/madt.hpp>
#include <exo/drivers/acpi/soft_off.hpp>
#include <exo/drivers/acpi/tables.hpp>
#include <exo/drivers/counter_clock.hpp>
#include <exo/drivers/counter_comparison.hpp>
#include <exo/drivers/fw_cfg.hpp>
#include <exo/drivers/io_apic.hpp>
#include <exo/drivers/pci.hpp>
#include <exo/drivers/pic.hpp>
#include <exo/drivers/pit.hpp>
#include <exo/drivers/rtc.hpp>
#include <exo/drivers/uart.hpp>

#include "device_model.hpp"

using namespace exo;
using namespace exo::drivers;
using device_model::device;
using device_model::registers;

namespace {

// Physical memory with ACPI tables at chosen addresses.
struct firmware {
    using bytes = std::vector<std::byte>;

    std::map<std::uint64_t, bytes> memory;

    static void put(bytes& table, std::size_t at, std::uint64_t value, unsigned size)
    {
        REQUIRE(at + size <= table.size());
        std::memcpy(table.data() + at, &value, size);
    }
    static void sign(bytes& table, std::size_t checksum_at, std::size_t length)
    {
        table[checksum_at] = std::byte{};
        unsigned sum = 0;
        for (std::size_t i = 0; i < length; ++i)
            sum += std::to_integer<unsigned>(table[i]);
        table[checksum_at] = static_cast<std::byte>(-sum);
    }
    bytes& add(std::uint64_t at, std::string_view signature, std::size_t size)
    {
        bytes& table = memory[at] = bytes(size);
        std::memcpy(table.data(), signature.data(), signature.size());
        put(table, 4, size, 4);
        return table;
    }
    void sign_all()
    {
        for (auto& [at, table] : memory)
            sign(table, 9, table.size());
    }

    struct map_function {
        const firmware* from;
        std::span<const std::byte> operator()(phys_addr at, std::size_t size) const
        {
            const auto found = from->memory.find(at.value());
            if (found == from->memory.end() || found->second.size() < size)
                return {};
            return std::span{found->second}.first(size);
        }
    };
    [[nodiscard]] auto open(std::span<const std::byte> rsdp) const
    {
        return acpi::tables<map_function>::open(map_function{this}, rsdp);
    }
};

firmware::bytes root_pointer(std::uint32_t rsdt, std::uint64_t xsdt)
{
    firmware::bytes rsdp(xsdt != 0 ? 36 : 20);
    std::memcpy(rsdp.data(), "RSD PTR ", 8);
    firmware::put(rsdp, 16, rsdt, 4);
    if (xsdt != 0) {
        firmware::put(rsdp, 15, 2, 1);
        firmware::put(rsdp, 20, 36, 4);
        firmware::put(rsdp, 24, xsdt, 8);
    }
    firmware::sign(rsdp, 8, 20);
    if (xsdt != 0)
        firmware::sign(rsdp, 32, 36);
    return rsdp;
}

// What QEMU's machine "pc" offers, in the small.
firmware pc_firmware()
{
    firmware f;
    auto& rsdt = f.add(0x1000, "RSDT", 36 + 8);
    firmware::put(rsdt, 36, 0x3000, 4);
    firmware::put(rsdt, 40, 0x4000, 4);
    auto& xsdt = f.add(0x2000, "XSDT", 36 + 16);
    firmware::put(xsdt, 36, 0x3000, 8);
    firmware::put(xsdt, 44, 0x4000, 8);

    auto& fadt = f.add(0x3000, "FACP", 116);
    firmware::put(fadt, 40, 0x5000, 4);
    firmware::put(fadt, 48, 0xb2, 4);
    firmware::put(fadt, 52, 0xf1, 1);
    firmware::put(fadt, 64, 0x604, 4);

    auto& madt = f.add(0x4000, "APIC", 44 + 8 + 8 + 12 + 10 + 12);
    firmware::put(madt, 36, 0xfee0'0000, 4);
    std::size_t at = 44;
    for (const unsigned id : {0, 3}) {
        firmware::put(madt, at, 0 | 8 << 8, 2);
        firmware::put(madt, at + 3, id, 1);
        firmware::put(madt, at + 4, id == 0 ? 1 : 0, 4); // the second is disabled
        at += 8;
    }
    firmware::put(madt, at, 1 | 12 << 8, 2);
    firmware::put(madt, at + 4, 0xfec0'0000, 4);
    at += 12;
    firmware::put(madt, at, 2 | 10 << 8, 2);
    firmware::put(madt, at + 3, 5, 1);
    firmware::put(madt, at + 4, 20, 4);
    firmware::put(madt, at + 8, 0xf, 2);
    at += 10;
    firmware::put(madt, at, 5 | 12 << 8, 2);
    firmware::put(madt, at + 4, 0xfee0'1000, 8);

    constexpr unsigned char code[] = {0x08, '_', 'S', '3', '_', 0x12, 0x06, 0x04, 0x01, 0x01, 0x00, 0x00,
                                      0x08, '_', 'S', '5', '_', 0x12, 0x08, 0x04, 0x0a, 0x05, 0x0a, 0x06, 0x00, 0x00};
    auto& dsdt = f.add(0x5000, "DSDT", 36 + sizeof code);
    std::memcpy(dsdt.data() + 36, code, sizeof code);
    f.sign_all();
    return f;
}

} // namespace

TEST_CASE("ACPI: tables are found through either root table")
{
    const firmware f = pc_firmware();
    for (const auto& rsdp : {root_pointer(0x1000, 0), root_pointer(0x1000, 0x2000), root_pointer(0, 0x2000)}) {
        auto tables = f.open(rsdp);
        REQUIRE(tables);
        const auto madt = tables->find("APIC");
        REQUIRE(madt);
        CHECK(madt->size() == f.memory.at(0x4000).size());
        CHECK(tables->find("HPET").error() == acpi::no_table);
    }
}

TEST_CASE("ACPI: the interrupt controllers and the way to power off")
{
    const firmware f = pc_firmware();
    auto tables = f.open(root_pointer(0x1000, 0)).value();
    const auto found = acpi::interrupt_controllers::parse(*tables.find("APIC"), 0);
    CHECK(found.local_apic == phys_addr{0xfee0'1000});
    REQUIRE(found.cpus.size() == 1);
    CHECK(found.cpus[0].apic_id == 0);
    REQUIRE(found.io_apics.size() == 1);
    CHECK(found.io_apics[0].registers == phys_addr{0xfec0'0000});
    CHECK(found.route_of(5).input == 20);
    CHECK(found.route_of(5).active_low);
    CHECK(found.route_of(5).level_triggered);
    CHECK(found.route_of(4).input == 4);
    CHECK_FALSE(found.route_of(4).active_low);

    const auto off = acpi::soft_off::find(tables);
    REQUIRE(off);
    CHECK(off->type_a == 5);
    CHECK(off->type_b == 6);

    struct power_ports final : device {
        bool acpi_on{}, off{};
        std::uint32_t read(std::uint32_t o, unsigned) override { return o == 0x604 && acpi_on ? 1 : 0; }
        void write(std::uint32_t o, unsigned, std::uint32_t v) override
        {
            if (o == 0xb2 && v == 0xf1)
                acpi_on = true;
            if (o == 0x604 && acpi_on && v == (5u << 10 | 1u << 13))
                off = true;
        }
    } ports;
    off->execute(registers{&ports});
    CHECK(ports.off);
}

TEST_CASE("ACPI: whichever byte of a table is wrong, it is refused or read within its bounds")
{
    const auto rsdp = root_pointer(0x1000, 0x2000);
    for (std::size_t i = 0; i < 20; ++i) {
        auto broken = rsdp;
        broken[i] ^= std::byte{0x10};
        CHECK(pc_firmware().open(broken).error() == acpi::no_root);
    }
    CHECK(pc_firmware().open({}).error() == acpi::no_root);
    CHECK(pc_firmware().open(std::span{rsdp}.first(19)).error() == acpi::no_root);

    for (const std::uint64_t table : {0x1000, 0x2000, 0x3000, 0x4000, 0x5000}) {
        const std::size_t size = pc_firmware().memory.at(table).size();
        for (std::size_t i = 0; i < size; ++i) {
            for (const unsigned value : {0x00, 0x01, 0x7f, 0xff}) {
                for (const bool repaired : {false, true}) {
                    CAPTURE(table);
                    CAPTURE(i);
                    firmware f = pc_firmware();
                    auto& bytes = f.memory.at(table);
                    if (bytes[i] == static_cast<std::byte>(value))
                        continue;
                    bytes[i] = static_cast<std::byte>(value);
                    if (repaired)
                        firmware::sign(bytes, 9, bytes.size());
                    auto tables = f.open(rsdp);
                    if (!tables)
                        continue;
                    if (!repaired && table >= 0x3000) {
                        CHECK_FALSE((table == 0x4000 && tables->find("APIC")));
                        CHECK_FALSE((table == 0x3000 && tables->find("FACP")));
                        CHECK_FALSE((table == 0x5000 && acpi::soft_off::find(*tables)));
                    }
                    if (const auto madt = tables->find("APIC"))
                        (void)acpi::interrupt_controllers::parse(*madt, 0);
                    (void)acpi::soft_off::find(*tables);
                }
            }
        }
    }
    // Cut at every length.
    const firmware f = pc_firmware();
    const auto& madt = f.memory.at(0x4000);
    for (std::size_t size = 0; size < madt.size(); ++size) {
        const firmware::bytes part(madt.begin(), madt.begin() + static_cast<std::ptrdiff_t>(size));
        CHECK(acpi::interrupt_controllers::parse(part, 0).io_apics.size() <= 1);
    }
}

namespace {

struct uart_model final : device {
    std::string sent, typed;
    std::uint8_t line_control{}, interrupts{}, fifo{}, modem{};
    std::uint16_t divisor{};
    bool stuck{}, absent{};

    std::uint32_t read(std::uint32_t offset, unsigned bytes) override
    {
        REQUIRE(bytes == 1);
        if (absent)
            return 0xff;
        if (offset == 5)
            return (stuck ? 0u : 0x60u) | (typed.empty() ? 0u : 1u);
        REQUIRE(offset == 0);
        REQUIRE_FALSE(typed.empty());
        const char c = typed.front();
        typed.erase(0, 1);
        return static_cast<std::uint8_t>(c);
    }
    void write(std::uint32_t offset, unsigned bytes, std::uint32_t value) override
    {
        REQUIRE(bytes == 1);
        const bool latch = line_control & 0x80;
        switch (offset) {
        case 0:
            if (latch)
                divisor = static_cast<std::uint16_t>((divisor & 0xff00) | value);
            else
                sent += static_cast<char>(value);
            break;
        case 1:
            if (latch)
                divisor = static_cast<std::uint16_t>((divisor & 0xff) | value << 8);
            else
                interrupts = static_cast<std::uint8_t>(value);
            break;
        case 2:
            fifo = static_cast<std::uint8_t>(value);
            break;
        case 3:
            line_control = static_cast<std::uint8_t>(value);
            break;
        case 4:
            modem = static_cast<std::uint8_t>(value);
            break;
        default:
            FAIL("no such register: ", offset);
        }
    }
};

} // namespace

TEST_CASE("UART: set up, written, read by interrupt; stuck or absent it holds nobody up")
{
    uart_model model;
    uart port{registers{&model}};
    static_assert(hal::ConsoleSink<decltype(port)>);
    port.initialize();
    CHECK(model.divisor == 1);
    CHECK(model.line_control == 3);
    CHECK((model.fifo & 1) == 1);
    CHECK((model.modem & 8) == 8);
    CHECK(model.interrupts == 0);
    port.write("hello\n");
    CHECK(model.sent == "hello\n");

    port.enable_receive_interrupt();
    CHECK(model.interrupts == 1);
    model.typed = "abcdef";
    char buffer[4];
    CHECK(port.read(buffer, 4) == 4);
    CHECK(std::string_view{buffer, 4} == "abcd");
    CHECK(port.read(buffer, 4) == 2);
    CHECK(port.read(buffer, 4) == 0);

    model.stuck = true;
    port.write("x");
    CHECK(model.sent == "hello\n");
    model.absent = true;
    CHECK(port.read(buffer, 4) == 0);
}

TEST_CASE("a rate converts ticks and nanoseconds both ways, without drift")
{
    for (const std::uint64_t hertz : {std::uint64_t{1'000'000}, std::uint64_t{1'193'180}, std::uint64_t{2'099'999'990},
                                      std::uint64_t{5'000'000'000}}) {
        const tick_rate rate{hertz / 10, milliseconds(100)};
        for (const std::uint64_t s : {1, 60, 3'600, 86'400 * 365}) {
            const auto ns = rate.nanoseconds(hertz * s);
            CHECK(ns <= s * 1'000'000'000);
            CHECK(ns > s * 1'000'000'000 - s * 6 - 1); // 2^-32 of a nanosecond per tick
            CHECK(rate.ticks(s * 1'000'000'000) <= hertz * s);
            CHECK(rate.ticks(s * 1'000'000'000) > hertz * s - s - 1);
        }
    }
    std::uint64_t count = 1000;
    const auto counter = [&] { return count; };
    const counter_clock clock{counter, tick_rate{2'000'000, milliseconds(1)}, 1000};
    CHECK(clock.now() == instant{});
    count += 2'000;
    CHECK(clock.now() == instant{1'000});
}

TEST_CASE("counters are compared where nothing comes between the readings")
{
    // Nanoseconds pass with every reading of either counter, and up to milliseconds with most.
    std::uint64_t now = 1'000'000, readings = 4;
    const auto pass = [&] {
        now += 500;
        if (++readings % 16 > 4)
            now += readings * 7 % 5 * 1'000'000;
        return now;
    };
    const auto fine = [&] { return pass() * 3; };
    const auto coarse = [&] { return pass() / 1'000; };
    counter_comparison counters{fine, coarse};
    now += 10'000'000;
    const auto passed = counters.elapsed();
    CHECK(passed.coarse >= 10'000);
    const auto difference = static_cast<std::int64_t>(passed.fine) - static_cast<std::int64_t>(passed.coarse * 3'000);
    CHECK(difference <= 6'000); // two ticks of the coarse one
    CHECK(difference >= -6'000);
}

TEST_CASE("I/O APIC: every input masked at first; a route is never live while half written")
{
    struct model_type final : device {
        std::map<std::uint32_t, std::uint32_t> values{{1, 23 << 16 | 0x11}};
        std::uint32_t selected{};
        bool torn{};
        std::uint32_t read(std::uint32_t offset, unsigned) override
        {
            return offset == 0 ? selected : values[selected];
        }
        void write(std::uint32_t offset, unsigned, std::uint32_t value) override
        {
            if (offset == 0) {
                selected = value;
                return;
            }
            // The destination changes only while the input is masked.
            if (selected >= 0x10 && selected % 2 == 1 && (values[selected - 1] & 0x10000) == 0)
                torn = true;
            values[selected] = value;
        }
    } model;
    io_apic controller{registers{&model}, 24};
    controller.initialize();
    for (std::uint32_t i = 0; i < 24; ++i)
        CHECK((model.values[0x10 + 2 * i] & 0x10000) != 0);
    CHECK(controller.route(23, {}).error() == errors::invalid_argument);
    CHECK(controller.route(48, {}).error() == errors::invalid_argument);
    REQUIRE(controller.route(28, {.vector = 0x31, .destination = 5, .active_low = true, .masked = false}));
    REQUIRE(controller.route(28, {.vector = 0x32, .destination = 6, .level_triggered = true, .masked = false}));
    CHECK(model.values[0x18] == (0x32 | 1u << 15));
    CHECK(model.values[0x19] == 6u << 24);
    CHECK_FALSE(model.torn);
}

TEST_CASE("PIC: moved away from the exceptions and masked")
{
    struct model_type final : device {
        std::map<std::uint32_t, std::vector<std::uint32_t>> written;
        std::uint32_t read(std::uint32_t, unsigned) override { return 0; }
        void write(std::uint32_t port, unsigned, std::uint32_t value) override { written[port].push_back(value); }
    } model;
    disable_pic(registers{&model}, 0x20);
    CHECK(model.written[0x21] == std::vector<std::uint32_t>{0x20, 4, 1, 0xff});
    CHECK(model.written[0xa1] == std::vector<std::uint32_t>{0x28, 2, 1, 0xff});
}

TEST_CASE("PIT: tells how long it has counted, and when it can no longer")
{
    struct model_type final : device {
        std::uint16_t count{};
        bool latched{}, high{}, expired{}, gate{};
        std::uint16_t latch{};
        std::uint32_t read(std::uint32_t port, unsigned) override
        {
            if (port == 0x61)
                return (expired ? 0x20u : 0u) | gate;
            REQUIRE(port == 0x42);
            REQUIRE(latched);
            const auto byte = high ? latch >> 8 : latch & 0xff;
            latched = !high;
            high = !high;
            return static_cast<std::uint32_t>(byte);
        }
        void write(std::uint32_t port, unsigned, std::uint32_t value) override
        {
            if (port == 0x61) {
                CHECK((value & 2) == 0); // no noise
                gate = value & 1;
            } else if (port == 0x43 && value == 0x80) {
                latch = count;
                latched = true;
                high = false;
            } else if (port == 0x42) {
                count = static_cast<std::uint16_t>(count >> 8 | value << 8);
            }
        }
    } model;
    pit timer{registers{&model}};
    timer.start();
    CHECK(model.gate);
    CHECK(timer.elapsed() == 0);
    model.count = static_cast<std::uint16_t>(model.count - 5'966);
    CHECK(timer.elapsed() == 5'966);
    CHECK(timer.span_of(5'966) > microseconds(4'999));
    CHECK(timer.span_of(5'966) < microseconds(5'001));
    CHECK_FALSE(timer.ran_out());
    model.expired = true;
    CHECK(timer.ran_out());
}

TEST_CASE("fw_cfg: files by name; a device that is absent, copies nothing or fails hands out none")
{
    struct host_memory {
        std::byte* to_pointer(phys_addr a) const noexcept { return reinterpret_cast<std::byte*>(a.value()); }
        phys_addr to_physical(const void* p) const noexcept { return phys_addr{reinterpret_cast<std::uint64_t>(p)}; }
    };
    static_assert(hal::PhysAccess<host_memory>);
    struct model_type final : device {
        struct entry {
            std::string name, contents;
        };
        std::vector<entry> files{{"etc/acpi", "xyz"}, {"opt/exo/exec", "echo hi"}, {"opt/exo/exec2", "no"},
                                 {std::string(56, 'x'), "no"}};
        bool absent{}, copies{true}, fails{}, hangs{};
        std::string item;
        std::size_t at{};
        std::uint64_t command{};
        std::uint32_t read(std::uint32_t offset, unsigned) override
        {
            REQUIRE(offset == 1);
            return absent ? 0xff : at < item.size() ? static_cast<std::uint8_t>(item[at++]) : 0;
        }
        void write(std::uint32_t offset, unsigned bytes, std::uint32_t value) override
        {
            if (offset == 0) {
                REQUIRE(bytes == 2);
                select(value);
                return;
            }
            REQUIRE(bytes == 4);
            value = __builtin_bswap32(value);
            if (offset == 4) {
                command = std::uint64_t{value} << 32;
                return;
            }
            REQUIRE(offset == 8);
            perform(reinterpret_cast<std::byte*>(command | value));
            command = 0;
        }
        void perform(std::byte* how)
        {
            struct {
                be32 control, bytes;
                be64 to;
            } c;
            std::memcpy(&c, how, sizeof c);
            REQUIRE((c.control & 0xffff & ~10u) == 0); // nothing but to select and to read
            REQUIRE((c.control & 2) != 0);
            if (hangs)
                return;
            if (c.control & 8)
                select(c.control >> 16);
            auto* to = reinterpret_cast<char*>(c.to.value());
            for (std::uint32_t i = 0; i < c.bytes && !fails; ++i)
                to[i] = at < item.size() ? item[at++] : '\0';
            const be32 done{fails ? 1u : 0u};
            std::memcpy(how, &done, sizeof done);
        }
        void select(std::uint32_t number)
        {
            at = 0;
            item.clear();
            const auto big = [&](std::uint32_t v, int size) {
                while (size-- > 0)
                    item += static_cast<char>(v >> 8 * size);
            };
            if (number == 0) {
                item = "QEMU";
            } else if (number == 1) {
                item = copies ? "\3" : "\1";
            } else if (number == 0x19) {
                big(static_cast<std::uint32_t>(files.size()), 4);
                for (std::size_t i = 0; i < files.size(); ++i) {
                    big(static_cast<std::uint32_t>(files[i].contents.size()), 4);
                    big(static_cast<std::uint32_t>(0x20 + i), 2);
                    big(0, 2);
                    item += files[i].name + std::string(56 - files[i].name.size(), '\0');
                }
            } else if (number >= 0x20 && number < 0x20 + files.size()) {
                item = files[number - 0x20].contents;
            }
        }
    } model;
    fw_cfg config{registers{&model}, host_memory{}};
    CHECK(config.present());
    const auto file = config.find("opt/exo/exec");
    REQUIRE(file);
    CHECK(file->size == 7);
    char text[16];
    const auto all = config.read(*file, text);
    CHECK(std::string_view{all.data(), all.size()} == "echo hi");
    CHECK(config.read(*file, std::span{text}.first(3)).size() == 3);
    CHECK(config.read(*file, {}).empty());
    std::array<std::byte, 4096> leftover;
    leftover.fill(std::byte{0x90});
    CHECK(config.overwrite(leftover));
    CHECK(std::ranges::find(leftover, std::byte{0x90}) == leftover.end());
    CHECK_FALSE(config.find("opt/exo"));
    CHECK_FALSE(config.find("opt/exo/execs"));
    CHECK_FALSE(config.find(std::string(55, 'x')));
    CHECK_FALSE(config.find(std::string(56, 'x'))); // no room for its end
    CHECK_FALSE(config.find(std::string(60, 'x')));

    model.copies = false;
    CHECK_FALSE(config.present());
    model.copies = true;
    model.absent = true;
    CHECK_FALSE(config.present());
    model.fails = true;
    CHECK_FALSE(config.overwrite(leftover));
    CHECK(config.read(*file, text).empty());
    CHECK_FALSE(config.find("opt/exo/exec"));
    model.fails = false;
    model.hangs = true;
    CHECK(config.read(*file, text).empty());
}

TEST_CASE("RTC: BCD or binary, 12 or 24 hours, and no reading from the middle of an update")
{
    struct model_type final : device {
        std::array<std::uint8_t, 16> cells{};
        std::uint8_t index{};
        unsigned reads{}, update_at{~0u};
        std::uint32_t read(std::uint32_t offset, unsigned) override
        {
            REQUIRE(offset == 1);
            if (++reads == update_at) { // 59:59 becomes 00:00 while the clock is read
                cells[0] = cells[2] = 0;
                cells[4] = 1;
            }
            return cells[index];
        }
        void write(std::uint32_t, unsigned, std::uint32_t value) override { index = static_cast<std::uint8_t>(value); }
    };
    const auto at = [](std::array<std::uint8_t, 6> fields, std::uint8_t format, unsigned update_at = ~0u) {
        model_type model;
        model.cells[0] = fields[5];
        model.cells[2] = fields[4];
        model.cells[4] = fields[3];
        model.cells[7] = fields[2];
        model.cells[8] = fields[1];
        model.cells[9] = fields[0];
        model.cells[0x0b] = format;
        model.update_at = update_at;
        return read_rtc(registers{&model});
    };
    constexpr std::int64_t expected = 1'709'210'096; // 2024-02-29 12:34:56 UTC
    CHECK(at({0x24, 0x02, 0x29, 0x12, 0x34, 0x56}, 0x02) == expected);
    CHECK(at({24, 2, 29, 12, 34, 56}, 0x06) == expected);
    CHECK(at({0x24, 0x02, 0x29, 0x92, 0x34, 0x56}, 0x00) == expected);
    CHECK(at({24, 2, 29, 0x80 | 12, 34, 56}, 0x04) == expected);
    CHECK(at({24, 2, 29, 12, 34, 56}, 0x04) == expected - 12 * 3600); // 12:34 in the night
    for (unsigned update = 1; update <= 6; ++update)
        CHECK(at({24, 2, 29, 0, 59, 59}, 0x06, update) == expected - (11 * 60 + 34) * 60 - 56);
}

TEST_CASE("PCI: every function behind every bridge is found once")
{
    // bus 0: device 0; device 3 with functions 0 and 5; device 31, a bridge to bus 7, where device 1 is a bridge back.
    struct model_type final : device {
        std::uint32_t selected{};
        std::uint32_t read(std::uint32_t port, unsigned bytes) override
        {
            const unsigned bus = selected >> 16 & 0xff, dev = selected >> 11 & 31, fun = selected >> 8 & 7;
            const unsigned offset = (selected & 0xfc) + (port - 0xcfc);
            const bool there =
                bus == 0 ? (dev == 0 && fun == 0) || (dev == 3 && (fun == 0 || fun == 5)) || (dev == 31 && fun == 0)
                         : bus == 7 && dev == 1 && fun == 0;
            const bool bridge = (bus == 0 && dev == 31) || bus == 7;
            if (!there)
                return 0xffff'ffff >> (32 - 8 * bytes);
            if (offset == 0)
                return 0x1234;
            if (offset == 0x0e)
                return (bridge ? 1u : 0u) | (dev == 3 ? 0x80u : 0u);
            if (offset == 0x19)
                return bus == 0 ? 7 : 0;
            return 0;
        }
        void write(std::uint32_t port, unsigned, std::uint32_t value) override
        {
            REQUIRE(port == 0xcf8);
            REQUIRE((value & 0x8000'0003) == 0x8000'0000);
            selected = value;
        }
    } model;
    std::vector<std::array<unsigned, 3>> found;
    pci::enumerate([&](pci::address where) { return pci::port_config{registers{&model}, where}; },
                   [&](auto&, pci::address where) {
                       found.push_back({where.bus, where.device, where.function});
                   });
    CHECK(found == std::vector<std::array<unsigned, 3>>{{0, 0, 0}, {0, 3, 0}, {0, 3, 5}, {0, 31, 0}, {7, 1, 0}});
}
