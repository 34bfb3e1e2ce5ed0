// What ACPI tells of CPUs: tables of QEMU's machines, others by the specification, and broken ones.

#include <doctest/doctest.h>

#include <initializer_list>
#include <random>
#include <set>
#include <string_view>
#include <vector>

#include <exo/arch/x86_64/cpu_topology.hpp>
#include <exo/drivers/acpi/hpet_table.hpp>
#include <exo/drivers/acpi/madt.hpp>
#include <exo/drivers/acpi/pm_timer.hpp>
#include <exo/drivers/acpi/srat.hpp>

#include "acpi_tables.hpp"
#include "laws/topology_laws.hpp"

using namespace exo;
using namespace exo::drivers;
using acpi::interrupt_controllers;
using acpi_tables::bytes_of;
using acpi_tables::table;

namespace {

using numbers = std::vector<std::uint32_t>;

numbers apic_ids(const interrupt_controllers& found)
{
    numbers ids;
    for (const auto& cpu : found.cpus)
        ids.push_back(cpu.apic_id);
    return ids;
}
numbers range(std::uint32_t first, std::uint32_t end)
{
    numbers ids;
    for (; first < end; ++first)
        ids.push_back(first);
    return ids;
}

// A table with the entries that are added, their lengths put in.
struct builder {
    table bytes;

    explicit builder(std::size_t first_entry, unsigned revision = 5) : bytes(first_entry)
    {
        bytes[8] = static_cast<std::byte>(revision);
    }
    struct part {
        std::uint64_t value;
        unsigned size;
    };
    builder& add(unsigned type, std::initializer_list<part> parts)
    {
        const std::size_t at = bytes.size();
        bytes.push_back(static_cast<std::byte>(type));
        bytes.push_back({});
        for (const auto& [value, size] : parts)
            for (unsigned i = 0; i < size; ++i)
                bytes.push_back(static_cast<std::byte>(value >> 8 * i & 0xff));
        bytes[at + 1] = static_cast<std::byte>(bytes.size() - at);
        return *this;
    }
    builder& cpu(unsigned uid, unsigned id, unsigned flags = 1) { return add(0, {{uid, 1}, {id, 1}, {flags, 4}}); }
    builder& x2_cpu(unsigned uid, unsigned id, unsigned flags = 1)
    {
        return add(9, {{0, 2}, {id, 4}, {flags, 4}, {uid, 4}});
    }
    builder& io_apic(std::uint32_t address, unsigned first_input)
    {
        return add(1, {{0, 2}, {address, 4}, {first_input, 4}});
    }
    builder& source_override(unsigned bus, unsigned isa, unsigned input, unsigned flags)
    {
        return add(2, {{bus, 1}, {isa, 1}, {input, 4}, {flags, 2}});
    }
    builder& nmi(unsigned uid, unsigned flags, unsigned lint) { return add(4, {{uid, 1}, {flags, 2}, {lint, 1}}); }
    builder& local_apic(std::uint64_t address) { return add(5, {{0, 2}, {address, 8}}); }
    builder& x2_nmi(unsigned uid, unsigned flags, unsigned lint)
    {
        return add(10, {{flags, 2}, {uid, 4}, {lint, 1}, {0, 3}});
    }
    builder& affinity(unsigned domain, unsigned id, unsigned flags = 1)
    {
        return add(0, {{domain & 0xff, 1}, {id, 1}, {flags, 4}, {0, 1}, {domain >> 8, 3}, {0, 4}});
    }
    builder& x2_affinity(unsigned domain, unsigned id, unsigned flags = 1)
    {
        return add(2, {{0, 2}, {domain, 4}, {id, 4}, {flags, 4}, {0, 8}});
    }
};
constexpr std::size_t madt_entries = 44, srat_entries = 48;

// What holds whatever a table says. Its memory ends where it ends.
void check_madt(const table& bytes, std::uint32_t boot)
{
    const table exact{bytes};
    const auto found = interrupt_controllers::parse(exact, boot);
    REQUIRE(found.cpus.size() >= 1);
    bool good = found.cpus[0].apic_id == boot && (found.left_out == 0 || found.cpus.full());
    std::set<std::uint32_t> ids, inputs;
    std::set<std::uint64_t> addresses;
    for (const auto& cpu : found.cpus)
        good = good && ids.insert(cpu.apic_id).second && (!cpu.nmi || cpu.nmi->lint < 2);
    for (const auto& io : found.io_apics)
        good = good && inputs.insert(io.first_input).second && addresses.insert(io.registers.value()).second;
    good = good && !addresses.contains(0);
    std::set<std::uint8_t> isa;
    for (const auto& o : found.overrides)
        good = good && o.isa < 16 && isa.insert(o.isa).second;
    good = good && found.local_apic.value() != 0 && found.local_apic.value() % 4096 == 0;
    CHECK(good);
}

// Calls `check(table)` for ways in which `good` may be broken; its entries begin at `first_entry`.
template <class Check>
void for_each_broken(const table& good, std::size_t first_entry, Check check)
{
    for (std::size_t size = 0; size < good.size(); ++size)
        check(table(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)));
    for (std::size_t i = 0; i < good.size(); ++i)
        for (const unsigned flip : {0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff}) {
            table broken = good;
            broken[i] ^= static_cast<std::byte>(flip);
            check(broken);
        }
    for (std::size_t at = first_entry; at + 1 < good.size(); at += std::to_integer<std::size_t>(good[at + 1]))
        for (unsigned length = 0; length < 48; ++length)
            for (const bool at_the_end : {false, true}) {
                table broken = good;
                broken[at + 1] = static_cast<std::byte>(length);
                if (at_the_end)
                    broken.resize(at + (length < 2 ? 2 : length));
                check(broken);
            }
}

} // namespace

TEST_CASE("MADT: the CPUs and interrupts of QEMU's machines")
{
    const struct {
        std::string_view madt;
        numbers ids;
    } machines[] = {
        {acpi_tables::madt_1, range(0, 1)},   {acpi_tables::madt_4, range(0, 4)},
        {acpi_tables::madt_8, range(0, 8)},   {acpi_tables::madt_12, {0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13}},
        {acpi_tables::madt_64, range(0, 64)}, {acpi_tables::madt_255, range(0, 255)},
        {acpi_tables::madt_2_of_4, {0, 1}}};
    for (const auto& machine : machines) {
        const auto found = interrupt_controllers::parse(bytes_of(machine.madt), 0);
        CHECK(apic_ids(found) == machine.ids);
        CHECK(found.left_out == 0);
        CHECK(found.local_apic == phys_addr{0xfee0'0000});
        REQUIRE(found.io_apics.size() == 1);
        CHECK(found.io_apics[0].registers == phys_addr{0xfec0'0000});
        CHECK(found.io_apics[0].first_input == 0);
        CHECK(found.overrides.size() == 5);
        CHECK(found.route_of(0).input == 2);
        CHECK_FALSE(found.route_of(0).level_triggered);
        CHECK(found.route_of(9).input == 9);
        CHECK(found.route_of(9).level_triggered);
        CHECK_FALSE(found.route_of(9).active_low);
        for (const auto& cpu : found.cpus) {
            REQUIRE(cpu.nmi);
            CHECK(cpu.nmi->lint == 1);
            CHECK_FALSE(cpu.nmi->active_low);
        }
    }
}

TEST_CASE("MADT: what is assumed where there is none is what these machines have")
{
    const auto assumed = interrupt_controllers::conventional(5);
    const auto found = interrupt_controllers::parse(bytes_of(acpi_tables::madt_1), 0);
    CHECK(apic_ids(assumed) == numbers{5});
    CHECK(assumed.local_apic == found.local_apic);
    REQUIRE(assumed.io_apics.size() == 1);
    CHECK(assumed.io_apics[0].registers == found.io_apics[0].registers);
    CHECK(assumed.io_apics[0].first_input == 0);
    for (const std::uint8_t isa : std::initializer_list<std::uint8_t>{0, 1, 4}) { // the timer, the keyboard, the first serial port
        CHECK(assumed.route_of(isa).input == found.route_of(isa).input);
        CHECK(assumed.route_of(isa).active_low == found.route_of(isa).active_low);
        CHECK(assumed.route_of(isa).level_triggered == found.route_of(isa).level_triggered);
    }
}

TEST_CASE("MADT: CPU 0 is the one that boots, wherever it stands")
{
    const auto madt = bytes_of(acpi_tables::madt_8);
    CHECK(apic_ids(interrupt_controllers::parse(madt, 5)) == numbers{5, 0, 1, 2, 3, 4, 6, 7});
    CHECK(interrupt_controllers::parse(madt, 5).cpus[0].uid == 5);
    CHECK(apic_ids(interrupt_controllers::parse(madt, 7)) == numbers{7, 0, 1, 2, 3, 4, 5, 6});
    // Missing there, it runs all the same; as it does where the table is missing.
    const auto unlisted = interrupt_controllers::parse(madt, 40);
    CHECK(unlisted.cpus.size() == 9);
    CHECK(unlisted.cpus[0].apic_id == 40);
    CHECK(unlisted.cpus[0].uid == interrupt_controllers::no_uid);
    CHECK(unlisted.cpus[0].nmi);
    CHECK(apic_ids(interrupt_controllers::parse({}, 3)) == numbers{3});
    CHECK(interrupt_controllers::parse({}, 3).local_apic == phys_addr{0xfee0'0000});
}

TEST_CASE("MADT: of CPUs listed twice the first entry counts, and only what is there can be started")
{
    builder madt{madt_entries};
    madt.cpu(1, 10).cpu(2, 0xff).x2_cpu(3, 10).x2_cpu(4, 0xff).x2_cpu(5, 0x1234'5678).cpu(6, 11, 0).cpu(7, 12, 2);
    madt.x2_cpu(8, 0xffff'ffff).cpu(9, 11, 3).cpu(10, 10).x2_cpu(11, 13, 2).x2_cpu(12, 0x1234'5678);
    const auto found = interrupt_controllers::parse(madt.bytes, 10);
    CHECK(apic_ids(found) == numbers{10, 0xff, 0x1234'5678, 11});
    numbers uids;
    for (const auto& cpu : found.cpus)
        uids.push_back(cpu.uid);
    CHECK(uids == numbers{1, 4, 5, 9});
    CHECK(found.left_out == 0);
}

TEST_CASE("MADT: CPUs that there is no room for are counted, and never the one that boots")
{
    builder madt{madt_entries};
    for (unsigned id = 0; id < 300; ++id)
        madt.x2_cpu(id, id * 3);
    const auto found = interrupt_controllers::parse(madt.bytes, 299 * 3);
    REQUIRE(found.cpus.size() == 256);
    CHECK(found.left_out == 44);
    CHECK(found.cpus[0].apic_id == 299 * 3);
    CHECK(found.cpus[0].uid == 299);
    CHECK(found.cpus[1].apic_id == 0);
    CHECK(found.cpus[255].apic_id == 254 * 3);
    builder exact{madt_entries};
    for (unsigned id = 0; id < 256; ++id)
        exact.x2_cpu(id, id);
    CHECK(apic_ids(interrupt_controllers::parse(exact.bytes, 0)) == range(0, 256));
    CHECK(interrupt_controllers::parse(exact.bytes, 0).left_out == 0);
}

TEST_CASE("MADT: NMI reaches the CPUs that it is wired to")
{
    builder madt{madt_entries};
    madt.nmi(2, 0, 0).x2_nmi(700, 3, 1).nmi(3, 0, 2); // there is no LINT2
    madt.cpu(1, 0).cpu(2, 2).cpu(3, 4).x2_cpu(700, 900);
    const auto some = interrupt_controllers::parse(madt.bytes, 0);
    REQUIRE(some.cpus.size() == 4);
    CHECK_FALSE(some.cpus[0].nmi);
    REQUIRE(some.cpus[1].nmi);
    CHECK(some.cpus[1].nmi->lint == 0);
    CHECK_FALSE(some.cpus[1].nmi->active_low);
    CHECK_FALSE(some.cpus[2].nmi);
    REQUIRE(some.cpus[3].nmi);
    CHECK(some.cpus[3].nmi->lint == 1);
    CHECK(some.cpus[3].nmi->active_low);
    madt.x2_nmi(0xffff'ffff, 0, 1);
    const auto all = interrupt_controllers::parse(madt.bytes, 0);
    CHECK(all.cpus[0].nmi->lint == 1);
    CHECK(all.cpus[1].nmi->lint == 0);
    CHECK(all.cpus[2].nmi->lint == 1);
}

TEST_CASE("MADT: I/O APICs and overrides count once, and what makes no sense not at all")
{
    builder madt{madt_entries};
    madt.io_apic(0xfec0'0000, 0)
        .io_apic(0xfec0'0000, 24)
        .io_apic(0xfec0'1000, 0)
        .io_apic(0, 48)
        .io_apic(0xfec0'2000, 24);
    madt.source_override(0, 0, 2, 0).source_override(0, 0, 9, 0xf).source_override(1, 4, 5, 0);
    madt.source_override(0, 16, 5, 0).source_override(0, 9, 20, 0xf);
    const auto found = interrupt_controllers::parse(madt.bytes, 0);
    REQUIRE(found.io_apics.size() == 2);
    CHECK(found.io_apics[1].registers == phys_addr{0xfec0'2000});
    CHECK(found.io_apics[1].first_input == 24);
    CHECK(found.overrides.size() == 2);
    CHECK(found.route_of(0).input == 2);
    CHECK(found.route_of(4).input == 4);
    CHECK(found.route_of(9).active_low);
    CHECK(found.route_of(9).level_triggered);

    for (const std::uint64_t address : {0ull, 0xfee0'0010ull, 0xffff'ffff'ffff'f000ull})
        CHECK(interrupt_controllers::parse(builder{madt_entries}.local_apic(address).bytes, 0).local_apic ==
              phys_addr{0xfee0'0000});
    CHECK(interrupt_controllers::parse(builder{madt_entries}.local_apic(0x12'3456'7000).bytes, 0).local_apic ==
          phys_addr{0x12'3456'7000});
}

TEST_CASE("MADT: broken in whatever way, it is read within its bounds, to something that holds together")
{
    for_each_broken(bytes_of(acpi_tables::madt_12), madt_entries, [](const table& broken) { check_madt(broken, 9); });
    builder madt{madt_entries};
    madt.x2_nmi(3, 3, 1).local_apic(0xfee0'1000).cpu(1, 1).x2_cpu(2, 2).x2_cpu(3, 1).nmi(1, 0, 1);
    madt.io_apic(0xfec0'0000, 0).io_apic(0xfec0'1000, 24).source_override(0, 9, 9, 0xd);
    for_each_broken(madt.bytes, madt_entries, [](const table& broken) { check_madt(broken, 1); });
    std::mt19937 random{1};
    for (unsigned i = 0; i < 2000; ++i) {
        table noise(madt_entries + random() % 600);
        for (auto& byte : noise)
            byte = static_cast<std::byte>(random() % 3 ? random() % 17 : random());
        check_madt(noise, static_cast<std::uint32_t>(random() % 20));
    }
    // What stands before an entry of no length is kept.
    builder stopped{madt_entries};
    stopped.cpu(0, 0).cpu(1, 1).cpu(2, 2);
    stopped.bytes[madt_entries + 8 + 1] = {};
    CHECK(apic_ids(interrupt_controllers::parse(stopped.bytes, 0)) == numbers{0});
    // Entries too short for what they are, and of types that nobody knows, are passed over.
    builder passed{madt_entries};
    passed.add(0, {{1, 1}, {1, 1}}).add(9, {{0, 2}, {2, 4}, {1, 4}}).add(0x7f, {{5, 1}}).cpu(3, 3);
    CHECK(apic_ids(interrupt_controllers::parse(passed.bytes, 0)) == numbers{0, 3});
}

TEST_CASE("SRAT: proximity domains of CPUs")
{
    const auto srat = bytes_of(acpi_tables::srat_8);
    for (unsigned id = 0; id < 8; ++id)
        CHECK(acpi::proximity_domain(srat, id) == id / 4);
    CHECK_FALSE(acpi::proximity_domain(srat, 8));
    CHECK_FALSE(acpi::proximity_domain({}, 0));

    for (const unsigned revision : {1, 2, 3}) {
        builder b{srat_entries, revision};
        b.affinity(0x1234'5607, 3).x2_affinity(0x8000'0009, 0x300).affinity(5, 4, 0).x2_affinity(6, 4);
        b.x2_affinity(7, 3).x2_affinity(8, 5, 0);
        CHECK(acpi::proximity_domain(b.bytes, 3) == (revision == 1 ? 7u : 0x1234'5607u));
        CHECK(acpi::proximity_domain(b.bytes, 0x300) == 0x8000'0009);
        CHECK(acpi::proximity_domain(b.bytes, 4) == 6);
        CHECK_FALSE(acpi::proximity_domain(b.bytes, 5));
        for_each_broken(b.bytes, srat_entries, [](const table& broken) {
            const table exact{broken};
            for (const unsigned id : {3u, 4u, 5u, 0x300u, 0xffffu})
                (void)acpi::proximity_domain(exact, id);
        });
    }
}

TEST_CASE("MADT, SRAT and CPUID together are a topology")
{
    const auto madt = bytes_of(acpi_tables::madt_8), srat = bytes_of(acpi_tables::srat_8);
    const auto found = interrupt_controllers::parse(madt, 6);
    const auto topology_of = [&](const x86_64::apic_id_layout& ids) {
        std::vector<x86_64::cpu_place> places;
        for (const auto& cpu : found.cpus)
            places.push_back({cpu.apic_id, acpi::proximity_domain(srat, cpu.apic_id).value_or(0)});
        return x86_64::cpu_topology<>{ids, places};
    };
    const auto set = [](std::initializer_list<unsigned> cpus) {
        cpu_set s;
        for (const unsigned cpu : cpus)
            s.add(cpu);
        return s;
    };
    // CPU 0 has id 6; CPUs 1 to 6 have ids 0 to 5.
    const auto two_packages = topology_of({.core_shift = 1, .package_shift = 2});
    laws::check_topology(two_packages);
    CHECK(two_packages.level_count() == 3);
    CHECK(two_packages.domain(0, 0) == set({0, 7}));
    CHECK(two_packages.domain(2, 0) == set({1, 2}));
    CHECK(two_packages.domain(0, 1) == set({0, 5, 6, 7}));
    CHECK(two_packages.domain(4, 1) == set({1, 2, 3, 4}));
    const auto two_nodes_in_it = topology_of({.core_shift = 1, .package_shift = 3});
    laws::check_topology(two_nodes_in_it);
    CHECK(two_nodes_in_it.level_count() == 3);
    CHECK(two_nodes_in_it.domain(0, 1) == set({0, 5, 6, 7}));
}

namespace {

void put(table& bytes, std::size_t at, std::uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < size; ++i)
        bytes[at + i] = static_cast<std::byte>(value >> 8 * i & 0xff);
}
table hpet_table(std::uint64_t address, unsigned space = 0)
{
    table bytes(56);
    put(bytes, 36, 0x8086'a201, 4);
    put(bytes, 40, space, 1);
    put(bytes, 44, address, 8);
    return bytes;
}
table fadt(std::uint32_t port, unsigned flags, std::size_t size = 116)
{
    table bytes(size);
    put(bytes, 76, port, 4);
    put(bytes, 91, 4, 1);
    put(bytes, 112, flags, 4);
    return bytes;
}

} // namespace

TEST_CASE("HPET table: registers in memory, or none")
{
    CHECK(acpi::hpet_registers(hpet_table(0xfed0'0000)) == phys_addr{0xfed0'0000});
    CHECK(acpi::hpet_registers(hpet_table(0x12'3456'7c00)) == phys_addr{0x12'3456'7c00});
    for (const std::uint64_t address : {std::uint64_t{0}, std::uint64_t{0xfed0'0004}, std::uint64_t{1} << 52})
        CHECK(!acpi::hpet_registers(hpet_table(address)));
    CHECK(!acpi::hpet_registers(hpet_table(0xfed0'0000, 1)));
    const table good = hpet_table(0xfed0'0000);
    for (std::size_t size = 0; size < good.size(); ++size)
        CHECK(!acpi::hpet_registers(table(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size))));
}

TEST_CASE("FADT: the PM timer's port and width, by either address, or none")
{
    const auto timer = acpi::pm_timer::find(fadt(0x608, 0));
    REQUIRE(timer);
    CHECK(timer->port == 0x608);
    CHECK(timer->bits == 24);
    CHECK(acpi::pm_timer::find(fadt(0x608, 1u << 8))->bits == 32);
    CHECK(!acpi::pm_timer::find(fadt(0, 0)));
    CHECK(!acpi::pm_timer::find(fadt(0xfffd, 0)));
    CHECK(!acpi::pm_timer::find(fadt(0x1'0608, 0)));
    table no_length = fadt(0x608, 0);
    put(no_length, 91, 0, 1);
    CHECK(!acpi::pm_timer::find(no_length));

    table extended = fadt(0, 0, 244);
    CHECK(!acpi::pm_timer::find(extended));
    put(extended, 208, 1, 1);
    put(extended, 212, 0x808, 8);
    CHECK(acpi::pm_timer::find(extended)->port == 0x808);
    put(extended, 208, 0, 1); // in memory
    CHECK(!acpi::pm_timer::find(extended));
    const table good = fadt(0x608, 0, 220);
    for (std::size_t size = 0; size < 116; ++size)
        CHECK(!acpi::pm_timer::find(table(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size))));
    for (std::size_t size = 116; size < good.size(); ++size)
        CHECK(acpi::pm_timer::find(table(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size))));
}
