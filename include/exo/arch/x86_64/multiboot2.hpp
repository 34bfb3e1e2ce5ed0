// What a Multiboot2 loader tells the kernel (Multiboot2 specification 2.0, section 3.6), read with no trust in it.
//
// information::parse walks the tags once; the views that it returns point into the bytes it was given.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include <exo/base/range.hpp>
#include <exo/base/range_set.hpp>
#include <exo/base/result.hpp>

namespace exo::x86_64::multiboot2 {

// Context: offset of the tag in question.
inline constexpr error_kind malformed{"multiboot2", "malformed", "the boot loader's information contradicts itself",
                                      posix::inval, severity::critical, recovery::give_up};

inline constexpr std::uint32_t loader_magic = 0x36d76289; // in EAX at entry

enum class tag : std::uint32_t {
    end = 0,
    command_line = 1,
    module = 3,
    memory_map = 6,
    acpi_old = 14, // a copy of the RSDP of ACPI 1.0
    acpi_new = 15, // a copy of the RSDP of ACPI 2.0 and later
};

enum class memory_kind : std::uint32_t {
    available = 1,
    reserved = 2,
    acpi_reclaimable = 3,
    acpi_nvs = 4,
    defective = 5,
};

struct memory_map_entry {
    std::uint64_t base;
    std::uint64_t length;
    memory_kind kind;
    std::uint32_t reserved;
};
static_assert(sizeof(memory_map_entry) == 24);

struct information {
    static constexpr std::size_t most_ranges = 64;
    using memory_set = range_set<phys_addr, most_ranges>;

    std::string_view command_line;
    std::span<const std::byte> rsdp; // empty: none was passed
    memory_set available;            // RAM: whole pages that no other entry claims
    memory_set modules;              // what the loader put into RAM on the kernel's behalf, rounded out to pages

    // `bytes` starts at the address that the loader passed, and covers at least what total_size() of it says.
    // Errors: malformed.
    [[nodiscard]] static result<information> parse(std::span<const std::byte> bytes)
    {
        information info;
        if (bytes.size() < 8 || total_size(bytes.data()) < 8 || total_size(bytes.data()) > bytes.size())
            return fail(malformed);
        bytes = bytes.first(total_size(bytes.data()));
        std::span<const std::byte> map;
        std::size_t offset = 8;
        for (;;) {
            if (bytes.size() - offset < 8)
                return fail(malformed, offset);
            const auto type = tag{load<std::uint32_t>(bytes, offset)};
            const std::size_t size = load<std::uint32_t>(bytes, offset + 4);
            if (size < 8 || size > bytes.size() - offset)
                return fail(malformed, offset);
            const auto payload = bytes.subspan(offset + 8, size - 8);
            if (type == tag::end)
                break;
            if (type == tag::command_line) {
                const std::string_view text{reinterpret_cast<const char*>(payload.data()), payload.size()};
                const auto end = text.find('\0');
                if (end == text.npos)
                    return fail(malformed, offset);
                info.command_line = text.substr(0, end);
            } else if (type == tag::memory_map) {
                if (payload.size() < 8)
                    return fail(malformed, offset);
                map = payload;
            } else if (type == tag::module) {
                if (payload.size() < 8)
                    return fail(malformed, offset);
                const phys_addr begin{load<std::uint32_t>(payload, 0)};
                const phys_addr end{load<std::uint32_t>(payload, 4)};
                if (end < begin || !info.modules.insert({begin.align_down(page_size), end.align_up(page_size)}))
                    return fail(malformed, offset);
            } else if (type == tag::acpi_new || (type == tag::acpi_old && info.rsdp.empty())) {
                info.rsdp = payload;
            }
            const std::size_t step = (size + 7) & ~std::size_t{7};
            if (step > bytes.size() - offset)
                return fail(malformed, offset);
            offset += step;
        }
        if (map.empty())
            return fail(malformed);
        if (auto filled = info.read_memory_map(map); !filled)
            return fail(filled.error());
        return info;
    }

    // Length of the whole structure that starts at `bytes` (its first four).
    [[nodiscard]] static std::size_t total_size(const std::byte* bytes)
    {
        std::uint32_t size;
        std::memcpy(&size, bytes, sizeof size);
        return size;
    }

private:
    template <class T>
    static T load(std::span<const std::byte> bytes, std::size_t offset)
    {
        T value;
        std::memcpy(&value, bytes.data() + offset, sizeof value);
        return value;
    }

    // Firmware's maps overlap and are not sorted: what any entry calls other than available is not.
    result<> read_memory_map(std::span<const std::byte> map)
    {
        const std::size_t step = load<std::uint32_t>(map, 0);
        const auto entries = map.subspan(8);
        if (step < sizeof(memory_map_entry) || step % 8 != 0)
            return fail(malformed, step);
        for (const bool adding : {true, false}) {
            for (std::size_t at = 0; entries.size() - at >= step; at += step) {
                const auto e = load<memory_map_entry>(entries, at);
                std::uint64_t end;
                if (e.length == 0 || __builtin_add_overflow(e.base, e.length, &end) || end > ~std::uint64_t{0} - page_size)
                    continue;
                const bool is_available = e.kind == memory_kind::available;
                if (is_available != adding)
                    continue;
                const phys_addr from{e.base}, to{end};
                const bool stored = adding ? available.insert({from.align_up(page_size), to.align_down(page_size)})
                                           : available.erase({from.align_down(page_size), to.align_up(page_size)});
                if (!stored)
                    return fail(malformed, at);
            }
        }
        return available.empty() ? result<>{fail(malformed)} : result<>{};
    }
};

} // namespace exo::x86_64::multiboot2
