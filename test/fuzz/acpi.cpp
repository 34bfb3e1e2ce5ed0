// What firmware says of CPUs, to the topology that is made of it, and of timers. The input: the APIC id of the CPU that
// boots, how ids are split (a byte each), the size of the MADT (two bytes), the MADT, and what is taken for the SRAT,
// the HPET's table and the FADT.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <exo/arch/x86_64/cpu_topology.hpp>
#include <exo/base/check.hpp>
#include <exo/drivers/acpi/hpet_table.hpp>
#include <exo/drivers/acpi/madt.hpp>
#include <exo/drivers/acpi/pm_timer.hpp>
#include <exo/drivers/acpi/srat.hpp>

using namespace exo;
using namespace exo::drivers;

namespace {

// A copy that ends where it ends.
std::vector<std::byte> copy(std::span<const std::byte> bytes) { return {bytes.begin(), bytes.end()}; }

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    constexpr std::size_t head = 4;
    if (size < head)
        return 0;
    const auto tables = std::as_bytes(std::span{data, size}).subspan(head);
    const std::size_t wanted = data[2] | data[3] << 8, madt_size = wanted < tables.size() ? wanted : tables.size();
    const auto madt = copy(tables.first(madt_size)), srat = copy(tables.subspan(madt_size));
    if (const auto at = acpi::hpet_registers(srat))
        EXO_CHECK(at->value() != 0 && at->is_aligned(acpi::hpet_bytes));
    if (const auto timer = acpi::pm_timer::find(srat))
        EXO_CHECK(timer->port != 0 && (timer->bits == 24 || timer->bits == 32));
    const unsigned core_shift = data[1] & 0xf;
    const x86_64::apic_id_layout ids{core_shift, core_shift + (data[1] >> 4)};

    const auto found = acpi::interrupt_controllers::parse(madt, data[0]);
    EXO_CHECK(!found.cpus.empty() && found.cpus[0].apic_id == data[0]);
    std::vector<x86_64::cpu_place> places;
    for (const auto& cpu : found.cpus) {
        for (const auto& other : places)
            EXO_CHECK(other.apic_id != cpu.apic_id);
        places.push_back({cpu.apic_id, acpi::proximity_domain(srat, cpu.apic_id).value_or(0)});
    }

    const x86_64::cpu_topology<> topology{ids, places};
    for (unsigned cpu = 0; cpu < topology.cpu_count(); ++cpu) {
        cpu_set below = cpu_set::of(cpu);
        for (unsigned level = 0; level < topology.level_count(); ++level) {
            EXO_CHECK((below & topology.domain(cpu, level)) == below);
            below = topology.domain(cpu, level);
        }
        EXO_CHECK(below == cpu_set::first(topology.cpu_count()));
    }
    return 0;
}
