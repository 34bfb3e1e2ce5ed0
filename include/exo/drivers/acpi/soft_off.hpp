// Powering off: sleep state S5 (ACPI specification 6.5, 7.4.2), from the fixed description table and the \_S5 object of
// the DSDT.

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include <exo/base/address.hpp>
#include <exo/drivers/acpi/tables.hpp>

namespace exo::drivers::acpi {

struct soft_off {
    std::uint16_t control_a{}; // port of PM1a_CNT
    std::uint16_t control_b{}; // of PM1b_CNT; 0: none
    std::uint16_t type_a{};    // SLP_TYP for each
    std::uint16_t type_b{};
    std::uint16_t enable_port{}; // SMI_CMD, where `enable_value` turns ACPI on; 0: it is always on
    std::uint8_t enable_value{};

    static constexpr std::uint16_t sleep_enable = 1u << 13;
    static constexpr unsigned type_shift = 10;

    // Empty when the tables do not say how.
    template <Memory Map>
    [[nodiscard]] static std::optional<soft_off> find(tables<Map>& in)
    {
        using detail::load;
        const auto fadt = in.find("FACP");
        if (!fadt || fadt->size() < 72)
            return {};
        phys_addr dsdt_address{load<std::uint32_t>(*fadt, 40)};
        if (fadt->size() >= 148 && load<std::uint64_t>(*fadt, 140) != 0)
            dsdt_address = phys_addr{load<std::uint64_t>(*fadt, 140)};
        const auto dsdt = in.table_at(dsdt_address, "DSDT");
        soft_off off;
        off.enable_port = static_cast<std::uint16_t>(load<std::uint32_t>(*fadt, 48));
        off.enable_value = load<std::uint8_t>(*fadt, 52);
        off.control_a = static_cast<std::uint16_t>(load<std::uint32_t>(*fadt, 64));
        off.control_b = static_cast<std::uint16_t>(load<std::uint32_t>(*fadt, 68));
        if (dsdt.empty() || off.control_a == 0 || !off.read_sleep_types(dsdt))
            return {};
        return off;
    }

    // Returns only if the machine did not obey. `ports` starts at port 0.
    template <class Ports>
    void execute(Ports ports) const
    {
        constexpr std::uint16_t acpi_enabled = 1;
        constexpr unsigned patience = 100'000;
        if (enable_port != 0 && enable_value != 0 && !(ports.read16(control_a) & acpi_enabled)) {
            ports.write8(enable_port, enable_value);
            for (unsigned i = 0; i < patience && !(ports.read16(control_a) & acpi_enabled); ++i) {
            }
        }
        ports.write16(control_a, static_cast<std::uint16_t>(type_a << type_shift | sleep_enable));
        if (control_b != 0)
            ports.write16(control_b, static_cast<std::uint16_t>(type_b << type_shift | sleep_enable));
    }

private:
    // Finds Name (\_S5, Package {a, b, ...}) in the byte code without interpreting it (ACPI 20.2): the name is followed
    // by the package's operator, its length, the number of elements, and the integers.
    bool read_sleep_types(std::span<const std::byte> dsdt)
    {
        constexpr std::string_view name = "_S5_";
        constexpr std::uint8_t package_op = 0x12;
        for (std::size_t at = header_bytes; at + name.size() < dsdt.size(); ++at) {
            if (!detail::starts_with(dsdt.subspan(at), name))
                continue;
            auto rest = dsdt.subspan(at + name.size());
            if (rest.size() < 3 || detail::load<std::uint8_t>(rest, 0) != package_op)
                continue;
            const std::size_t length_bytes = 1 + (detail::load<std::uint8_t>(rest, 1) >> 6);
            const std::size_t elements = 1 + length_bytes + 1;
            if (rest.size() < elements)
                continue;
            rest = rest.subspan(elements);
            if (read_integer(rest, type_a) && read_integer(rest, type_b))
                return true;
        }
        return false;
    }

    // ZeroOp, OneOp or BytePrefix; SLP_TYP has three bits.
    static bool read_integer(std::span<const std::byte>& code, std::uint16_t& value)
    {
        constexpr std::uint8_t byte_prefix = 0x0a;
        if (code.empty())
            return false;
        const auto op = detail::load<std::uint8_t>(code, 0);
        std::size_t used = 1;
        if (op == byte_prefix && code.size() >= 2) {
            value = detail::load<std::uint8_t>(code, 1) & 7;
            used = 2;
        } else if (op <= 1) {
            value = op;
        } else {
            return false;
        }
        code = code.subspan(used);
        return true;
    }
};

} // namespace exo::drivers::acpi
