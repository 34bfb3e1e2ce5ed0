// ACPI tables (ACPI specification 6.5, chapter 5) as far as a kernel needs them to start: where the interrupt
// controllers are, how the machine powers off. Firmware is not trusted: every length and checksum is verified, and a
// table that is wrong is as good as absent.
//
// Physical memory is reached through a function `span<const byte> map(phys_addr, size_t)`, empty where nothing can be
// read; what it returns stays valid.

#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>

#include <exo/base/address.hpp>
#include <exo/base/result.hpp>
#include <exo/base/static_vector.hpp>

namespace exo::drivers::acpi {

// Context: none.
inline constexpr error_kind no_root{"acpi", "no_root", "the ACPI root pointer or its table is missing or damaged",
                                    posix::nodev, severity::degraded, recovery::give_up};
// Context: the signature, as four bytes.
inline constexpr error_kind no_table{"acpi", "no_table", "an ACPI table is missing or damaged", posix::nodev,
                                     severity::degraded, recovery::give_up};

template <class T>
concept Memory = requires(T& map, phys_addr a, std::size_t bytes) {
    { map(a, bytes) } -> std::same_as<std::span<const std::byte>>;
};

inline constexpr std::size_t header_bytes = 36;

namespace detail {
template <class T>
[[nodiscard]] T load(std::span<const std::byte> bytes, std::size_t offset)
{
    T value;
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
}
[[nodiscard]] inline bool sums_to_zero(std::span<const std::byte> bytes)
{
    unsigned sum = 0;
    for (const std::byte b : bytes)
        sum += std::to_integer<unsigned>(b);
    return (sum & 0xff) == 0;
}
[[nodiscard]] inline bool starts_with(std::span<const std::byte> bytes, std::string_view text)
{
    return bytes.size() >= text.size() && std::memcmp(bytes.data(), text.data(), text.size()) == 0;
}
} // namespace detail

template <Memory Map>
class tables {
public:
    // `rsdp` is the root pointer structure of either revision. Errors: no_root.
    [[nodiscard]] static result<tables> open(Map map, std::span<const std::byte> rsdp)
    {
        constexpr std::size_t old_bytes = 20, new_bytes = 36;
        if (rsdp.size() < old_bytes || !detail::starts_with(rsdp, "RSD PTR ") ||
            !detail::sums_to_zero(rsdp.first(old_bytes)))
            return fail(no_root);
        tables t{map};
        const bool has_xsdt = detail::load<std::uint8_t>(rsdp, 15) >= 2 && rsdp.size() >= new_bytes &&
                              detail::sums_to_zero(rsdp.first(new_bytes)) && detail::load<std::uint64_t>(rsdp, 24) != 0;
        if (has_xsdt) {
            t.root_ = t.table_at(phys_addr{detail::load<std::uint64_t>(rsdp, 24)}, "XSDT");
            t.entry_bytes_ = 8;
        }
        if (t.root_.empty()) {
            t.root_ = t.table_at(phys_addr{detail::load<std::uint32_t>(rsdp, 16)}, "RSDT");
            t.entry_bytes_ = 4;
        }
        if (t.root_.empty())
            return fail(no_root);
        return t;
    }

    // The whole table with this signature, header included. Errors: no_table.
    [[nodiscard]] result<std::span<const std::byte>> find(std::string_view signature)
    {
        for (std::size_t at = header_bytes; root_.size() - at >= entry_bytes_; at += entry_bytes_) {
            const std::uint64_t address = entry_bytes_ == 8 ? detail::load<std::uint64_t>(root_, at)
                                                            : detail::load<std::uint32_t>(root_, at);
            if (const auto table = table_at(phys_addr{address}, signature); !table.empty())
                return table;
        }
        std::uint32_t name = 0;
        std::memcpy(&name, signature.data(), signature.size() < sizeof name ? signature.size() : sizeof name);
        return fail(no_table, name);
    }

    // A table that another one refers to; empty if it is not a `signature`, or damaged.
    [[nodiscard]] std::span<const std::byte> table_at(phys_addr at, std::string_view signature)
    {
        constexpr std::size_t most = 1u << 20;
        const auto header = map_(at, header_bytes);
        if (header.size() < header_bytes || !detail::starts_with(header, signature))
            return {};
        const std::size_t size = detail::load<std::uint32_t>(header, 4);
        if (size < header_bytes || size > most)
            return {};
        const auto table = map_(at, size);
        if (table.size() < size || !detail::sums_to_zero(table.first(size)))
            return {};
        return table.first(size);
    }

private:
    explicit tables(Map map) : map_{map} {}

    Map map_;
    std::span<const std::byte> root_;
    std::size_t entry_bytes_{};
};

// The multiple APIC description table (5.2.12).
struct interrupt_controllers {
    struct io_apic_entry {
        phys_addr registers;
        std::uint32_t first_input{};
    };
    // An ISA interrupt that is not wired to the input of its own number, active high and edge-triggered.
    struct source_override {
        std::uint8_t isa{};
        std::uint32_t input{};
        bool active_low{};
        bool level_triggered{};
    };

    phys_addr local_apic;
    static_vector<std::uint32_t, 256> cpus; // APIC ids of those that may be started
    static_vector<io_apic_entry, 8> io_apics;
    static_vector<source_override, 16> overrides;

    // `madt` is the whole table, as tables::find returns it. Entries that do not fit are left out; the walk stops at
    // one whose length is wrong.
    [[nodiscard]] static interrupt_controllers parse(std::span<const std::byte> madt)
    {
        using detail::load;
        constexpr std::size_t first_entry = 44;
        interrupt_controllers found;
        if (madt.size() < first_entry)
            return found;
        found.local_apic = phys_addr{load<std::uint32_t>(madt, 36)};
        for (std::size_t at = first_entry; madt.size() - at >= 2;) {
            const auto type = load<std::uint8_t>(madt, at);
            const std::size_t size = load<std::uint8_t>(madt, at + 1);
            if (size < 2 || size > madt.size() - at)
                break;
            found.take(type, madt.subspan(at, size));
            at += size;
        }
        return found;
    }

    // How the ISA interrupt `isa` reaches the I/O APICs.
    [[nodiscard]] source_override route_of(std::uint8_t isa) const
    {
        for (const auto& o : overrides)
            if (o.isa == isa)
                return o;
        return {isa, isa, false, false};
    }

private:
    void take(std::uint8_t type, std::span<const std::byte> entry)
    {
        using detail::load;
        constexpr std::uint32_t enabled = 1, online_capable = 2;
        if (type == 0 && entry.size() >= 8) {
            if (load<std::uint32_t>(entry, 4) & (enabled | online_capable))
                (void)cpus.try_push_back(load<std::uint8_t>(entry, 3));
        } else if (type == 1 && entry.size() >= 12) {
            (void)io_apics.try_push_back({phys_addr{load<std::uint32_t>(entry, 4)}, load<std::uint32_t>(entry, 8)});
        } else if (type == 2 && entry.size() >= 10) {
            const auto flags = load<std::uint16_t>(entry, 8);
            (void)overrides.try_push_back(
                {load<std::uint8_t>(entry, 3), load<std::uint32_t>(entry, 4), (flags & 3) == 3, (flags >> 2 & 3) == 3});
        } else if (type == 5 && entry.size() >= 12) {
            local_apic = phys_addr{load<std::uint64_t>(entry, 4)};
        } else if (type == 9 && entry.size() >= 16) {
            if (load<std::uint32_t>(entry, 8) & (enabled | online_capable))
                (void)cpus.try_push_back(load<std::uint32_t>(entry, 4));
        }
    }
};

// Powering off: sleep state S5 (ACPI 7.4.2), from the fixed description table and the \_S5 object of the DSDT.
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
