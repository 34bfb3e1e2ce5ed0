// What a Multiboot2 loader tells the kernel (Multiboot2 specification 2.0, section 3.6), read with no trust in it.
//
// information::parse walks the tags once and checks them; the views that it returns point into the bytes it was given.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include <exo/base/range.hpp>
#include <exo/base/result.hpp>
#include <exo/base/static_vector.hpp>

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
    static constexpr std::size_t most_modules = 16;

    std::string_view command_line;
    std::span<const std::byte> rsdp; // empty: none was passed
    static_vector<phys_range, most_modules> modules;

    // `bytes` starts at the address that the loader passed, and ends where nothing can be read any more, or after
    // total_size() of it.
    // Errors: malformed.
    [[nodiscard]] static result<information> parse(std::span<const std::byte> bytes)
    {
        information info;
        if (bytes.size() < 8 || total_size(bytes.data()) < 8 || total_size(bytes.data()) > bytes.size())
            return fail(malformed);
        bytes = bytes.first(total_size(bytes.data()));
        for (std::size_t offset = 8;;) {
            if (bytes.size() - offset < 8)
                return fail(malformed, offset);
            const auto type = tag{load<std::uint32_t>(bytes, offset)};
            const std::size_t size = load<std::uint32_t>(bytes, offset + 4);
            if (size < 8 || size > bytes.size() - offset)
                return fail(malformed, offset);
            if (type == tag::end)
                break;
            if (!info.take(type, bytes.subspan(offset + 8, size - 8)))
                return fail(malformed, offset);
            const std::size_t step = (size + 7) & ~std::size_t{7};
            if (step > bytes.size() - offset)
                return fail(malformed, offset);
            offset += step;
        }
        if (info.map_step_ == 0)
            return fail(malformed);
        return info;
    }

    // Length of the whole structure that starts at `bytes` (its first four).
    [[nodiscard]] static std::size_t total_size(const std::byte* bytes)
    {
        std::uint32_t size;
        std::memcpy(&size, bytes, sizeof size);
        return size;
    }

    // Calls `visit(phys_range, memory_kind)` for each entry of the memory map, as the firmware ordered them; they may
    // overlap and be of any alignment. Entries that are empty or wrap around are left out.
    template <class Visit>
    void for_each_memory(Visit visit) const
    {
        for (std::size_t at = 0; map_.size() - at >= map_step_; at += map_step_) {
            const auto e = load<memory_map_entry>(map_, at);
            std::uint64_t end;
            if (e.length != 0 && !__builtin_add_overflow(e.base, e.length, &end))
                visit(phys_range{phys_addr{e.base}, phys_addr{end}}, e.kind);
        }
    }

private:
    template <class T>
    static T load(std::span<const std::byte> bytes, std::size_t offset)
    {
        T value;
        std::memcpy(&value, bytes.data() + offset, sizeof value);
        return value;
    }

    // False if the tag's payload contradicts its type.
    bool take(tag type, std::span<const std::byte> payload)
    {
        switch (type) {
        case tag::command_line: {
            std::size_t length = 0;
            while (length < payload.size() && payload[length] != std::byte{})
                ++length;
            command_line = {reinterpret_cast<const char*>(payload.data()), length};
            return length < payload.size(); // it ends with a zero
        }
        case tag::memory_map:
            if (payload.size() < 8 || load<std::uint32_t>(payload, 0) < sizeof(memory_map_entry))
                return false;
            map_step_ = load<std::uint32_t>(payload, 0);
            map_ = payload.subspan(8);
            return true;
        case tag::module: {
            if (payload.size() < 8)
                return false;
            const phys_range module{phys_addr{load<std::uint32_t>(payload, 0)},
                                    phys_addr{load<std::uint32_t>(payload, 4)}};
            return module.begin <= module.end && modules.try_push_back(module);
        }
        case tag::acpi_old:
            if (rsdp.empty())
                rsdp = payload;
            return true;
        case tag::acpi_new:
            rsdp = payload;
            return true;
        default:
            return true;
        }
    }

    std::span<const std::byte> map_;
    std::size_t map_step_{};
};

} // namespace exo::x86_64::multiboot2
