// The structures of an ELF file, by word size and byte order (System V gABI, chapters 4 and 5).
//
// They are read by value from any offset (load), so neither the host's byte order nor its alignment matters.

#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

#include <exo/base/endian.hpp>

namespace exo::elf {

enum class file_class : std::uint8_t { bits32 = 1, bits64 = 2 };
enum class byte_order : std::uint8_t { little = 1, big = 2 };

enum class file_type : std::uint16_t { none, relocatable, executable, shared, core };

enum class machine : std::uint16_t { i386 = 3, arm = 40, x86_64 = 62, aarch64 = 183, riscv = 243 };

enum class segment_type : std::uint32_t {
    null,
    load,
    dynamic,
    interpreter,
    note,
    shared_library,
    program_headers,
    thread_storage,
    gnu_eh_frame = 0x6474e550,
    gnu_stack = 0x6474e551,
    gnu_relro = 0x6474e552,
    gnu_property = 0x6474e553,
};

// PF_R, PF_W, PF_X.
struct permissions {
    bool read{};
    bool write{};
    bool execute{};

    [[nodiscard]] static constexpr permissions from_flags(std::uint32_t flags)
    {
        return {(flags & 4) != 0, (flags & 2) != 0, (flags & 1) != 0};
    }
    friend constexpr bool operator==(permissions, permissions) = default;
};

inline constexpr std::uint8_t magic[4] = {0x7f, 'E', 'L', 'F'};
inline constexpr std::uint8_t current_version = 1;

// The first 16 bytes, which tell how to read the rest.
struct identification {
    std::uint8_t magic[4];
    file_class word_size;
    byte_order order;
    std::uint8_t version;
    std::uint8_t abi;
    std::uint8_t abi_version;
    std::uint8_t padding[7];
};
static_assert(sizeof(identification) == 16);

// A program header of any layout, as numbers.
struct segment {
    segment_type type;
    std::uint32_t flags;
    std::uint64_t offset;
    std::uint64_t address;
    std::uint64_t file_size;
    std::uint64_t memory_size;
    std::uint64_t alignment;

    [[nodiscard]] constexpr permissions access() const { return permissions::from_flags(flags); }
    [[nodiscard]] constexpr std::uint64_t end() const { return address + memory_size; }
};

template <file_class Class, std::endian Order>
struct layout {
    static constexpr file_class word_size = Class;
    static constexpr byte_order order = Order == std::endian::little ? byte_order::little : byte_order::big;

    using half = ordered_integer<std::uint16_t, Order>;
    using word = ordered_integer<std::uint32_t, Order>;
    using native =
        ordered_integer<std::conditional_t<Class == file_class::bits64, std::uint64_t, std::uint32_t>, Order>;

    struct header {
        identification ident;
        half type;
        half machine;
        word version;
        native entry;
        native program_headers;
        native section_headers;
        word flags;
        half header_size;
        half program_header_size;
        half program_header_count;
        half section_header_size;
        half section_header_count;
        half section_names;
    };

    struct program_header32 {
        word type;
        word offset;
        word address;
        word physical_address;
        word file_size;
        word memory_size;
        word flags;
        word alignment;
    };
    struct program_header64 {
        word type;
        word flags;
        native offset;
        native address;
        native physical_address;
        native file_size;
        native memory_size;
        native alignment;
    };
    using program_header = std::conditional_t<Class == file_class::bits64, program_header64, program_header32>;

    static_assert(sizeof(header) == (Class == file_class::bits64 ? 64 : 52));
    static_assert(sizeof(program_header) == (Class == file_class::bits64 ? 56 : 32));

    [[nodiscard]] static constexpr segment decode(const program_header& raw)
    {
        return {segment_type{raw.type.value()}, raw.flags,     raw.offset,   raw.address,
                raw.file_size,                  raw.memory_size, raw.alignment};
    }
};

using layout64 = layout<file_class::bits64, std::endian::little>;

// A structure at `offset`; the caller has checked that it lies within `bytes`.
template <class T>
[[nodiscard]] inline T load(std::span<const std::byte> bytes, std::size_t offset)
{
    T value;
    std::memcpy(&value, bytes.data() + offset, sizeof(T));
    return value;
}

} // namespace exo::elf
