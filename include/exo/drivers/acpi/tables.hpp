// ACPI tables (ACPI specification 6.5, chapter 5): finding them. Firmware is not trusted: every length and checksum is
// verified, and a table that is wrong is as good as absent.
//
// Physical memory is reached through a function `span<const byte> map(phys_addr, size_t)`, empty where nothing can be
// read; what it returns stays valid.

#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include <exo/base/address.hpp>
#include <exo/base/result.hpp>

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
// Calls `visit(type, entry)` for each entry of a table of entries that begin with their type and length, a byte each.
// Ends at one whose length is wrong: where the next begins is not known.
template <class Visit>
void for_each_entry(std::span<const std::byte> table, std::size_t first, Visit visit)
{
    constexpr std::size_t least = 2;
    while (table.size() >= first + least) {
        const std::size_t size = load<std::uint8_t>(table, first + 1);
        if (size < least || size > table.size() - first)
            return;
        visit(load<std::uint8_t>(table, first), table.subspan(first, size));
        first += size;
    }
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

} // namespace exo::drivers::acpi
