// Reading the headers of an ELF file that nobody vouches for.
//
// parse() checks what a loader relies on before anything is mapped: the identification, the header table's place, and
// of each loadable segment size, alignment, order and place. Each finding goes to the diagnostics, which decide whether
// to go on; an image that had any is not sound, and is not loaded. With a source in memory nothing is copied.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>

#include <exo/base/page.hpp>
#include <exo/base/range.hpp>
#include <exo/base/result.hpp>
#include <exo/elf/diagnostics.hpp>
#include <exo/elf/errors.hpp>
#include <exo/elf/layout.hpp>
#include <exo/elf/source.hpp>

namespace exo::elf {

// Program headers where they were read, each decoded as it is looked at.
template <class Layout>
class segment_table {
public:
    class iterator {
    public:
        explicit iterator(const std::byte* at) : at_{at} {}
        segment operator*() const
        {
            typename Layout::program_header raw;
            std::memcpy(&raw, at_, sizeof(raw));
            return Layout::decode(raw);
        }
        iterator& operator++()
        {
            at_ += sizeof(typename Layout::program_header);
            return *this;
        }
        friend bool operator==(iterator, iterator) = default;

    private:
        const std::byte* at_;
    };

    segment_table() = default;
    // `bytes` is a whole number of headers.
    explicit segment_table(std::span<const std::byte> bytes) : bytes_{bytes} {}

    [[nodiscard]] std::size_t size() const { return bytes_.size() / sizeof(typename Layout::program_header); }
    [[nodiscard]] iterator begin() const { return iterator{bytes_.data()}; }
    [[nodiscard]] iterator end() const { return iterator{bytes_.data() + bytes_.size()}; }

private:
    std::span<const std::byte> bytes_;
};

// What the program is to run on.
struct requirements {
    elf::machine machine;
    std::uint64_t address_end; // user addresses are below this
};

// What a loader and execve need to know. Addresses are the file's own: a load bias is yet to be added.
template <class Layout>
struct image {
    file_type type{};
    std::uint64_t entry{};
    segment_table<Layout> segments;
    range<std::uint64_t> span{};            // pages from the first loadable segment to the end of the last
    std::uint64_t alignment{page_size};     // the load bias is a multiple of this
    std::uint64_t program_headers{};        // address of the table when loaded, 0 if no segment holds it
    range<std::uint64_t> interpreter{};     // file range of PT_INTERP's path, empty without one
    bool executable_stack{};
    bool sound{};                           // without any finding

    [[nodiscard]] bool position_independent() const { return type == file_type::shared; }
};

// Largest header table accepted: a page, as Linux has it.
template <class Layout>
inline constexpr std::size_t table_limit = page_size / sizeof(typename Layout::program_header);

// Turns checks into findings, and remembers the first.
template <Diagnostics D>
class examiner {
public:
    explicit examiner(D& diagnostics) : diagnostics_{diagnostics} {}

    // Reports if `wrong`; true if the diagnostics want to stop there.
    [[nodiscard]] bool stops(bool wrong, const error_kind& kind, std::uint64_t offset, std::uint64_t value)
    {
        return wrong && !report(kind, offset, value);
    }
    // Reports what makes it pointless to read on.
    [[nodiscard, gnu::cold]] std::unexpected<error> refuse(const error_kind& kind, std::uint64_t offset,
                                                           std::uint64_t value)
    {
        (void)report(kind, offset, value);
        return fail(kind, offset);
    }
    [[nodiscard]] std::unexpected<error> failure() const { return fail(*last_.kind, last_.offset); }
    [[nodiscard]] bool sound() const { return last_.kind == nullptr; }

private:
    [[gnu::cold, gnu::noinline]] bool report(const error_kind& kind, std::uint64_t offset, std::uint64_t value)
    {
        last_ = {&kind, offset, value};
        return diagnostics_.report(last_);
    }

    D& diagnostics_;
    finding last_;
};

// The header table is read into `buffer` (at least a page) unless the source has a view; the image refers to it there.
// Errors: any of elf/errors.hpp, whatever the source reports.
template <class Layout, ByteSource Source, Diagnostics D>
[[nodiscard]] result<image<Layout>> parse(Source& source, const requirements& needs, std::span<std::byte> buffer,
                                          D& diagnostics)
{
    using header = typename Layout::header;
    using program_header = typename Layout::program_header;

    examiner examine{diagnostics};
    const std::uint64_t file_size = source.size();
    image<Layout> found;

    header h;
    if constexpr (ViewableSource<Source>) {
        const auto bytes = source.view();
        if (bytes.size() < sizeof(header)) [[unlikely]] {
            const bool is_elf = bytes.size() >= sizeof(magic) && std::memcmp(bytes.data(), magic, sizeof(magic)) == 0;
            return examine.refuse(is_elf ? truncated : not_elf, bytes.size(), sizeof(header));
        }
        h = load<header>(bytes, 0);
    } else {
        std::memset(static_cast<void*>(&h), 0, sizeof(h));
        const std::size_t n = EXO_TRY(source.read_at(0, std::as_writable_bytes(std::span{&h, 1})));
        if (n < sizeof(header)) [[unlikely]] {
            const bool is_elf = std::memcmp(h.ident.magic, magic, sizeof(magic)) == 0;
            return examine.refuse(is_elf ? truncated : not_elf, n, sizeof(header));
        }
    }

    // What decides how the rest is read cannot be passed over.
    if (std::memcmp(h.ident.magic, magic, sizeof(magic)) != 0) [[unlikely]]
        return examine.refuse(not_elf, 0, h.ident.magic[0]);
    if (h.ident.word_size != Layout::word_size) [[unlikely]]
        return examine.refuse(wrong_class, offsetof(identification, word_size),
                              std::to_underlying(h.ident.word_size));
    if (h.ident.order != Layout::order) [[unlikely]]
        return examine.refuse(wrong_byte_order, offsetof(identification, order), std::to_underlying(h.ident.order));

    const std::uint64_t table_offset = h.program_headers;
    const std::size_t count = h.program_header_count;
    const std::size_t table_size = count * sizeof(program_header);
    if (h.program_header_size != sizeof(program_header)) [[unlikely]]
        return examine.refuse(bad_header_size, offsetof(header, program_header_size), h.program_header_size);
    if (count > table_limit<Layout>) [[unlikely]]
        return examine.refuse(too_many_headers, offsetof(header, program_header_count), count);
    if (table_offset > file_size || table_size > file_size - table_offset) [[unlikely]]
        return examine.refuse(truncated, offsetof(header, program_headers), table_offset);

    found.type = file_type{h.type.value()};
    found.entry = h.entry;
    if (examine.stops(h.ident.version != current_version, wrong_version, offsetof(identification, version),
                      h.ident.version) ||
        examine.stops(h.version != current_version, wrong_version, offsetof(header, version), h.version) ||
        examine.stops(found.type != file_type::executable && found.type != file_type::shared, wrong_type,
                      offsetof(header, type), h.type) ||
        examine.stops(h.machine != std::to_underlying(needs.machine), wrong_machine, offsetof(header, machine),
                      h.machine))
        return examine.failure();

    if constexpr (ViewableSource<Source>) {
        found.segments =
            segment_table<Layout>{source.view().subspan(static_cast<std::size_t>(table_offset), table_size)};
    } else {
        if (buffer.size() < table_size) [[unlikely]]
            return examine.refuse(too_many_headers, offsetof(header, program_header_count), count);
        if (EXO_TRY(source.read_at(table_offset, buffer.first(table_size))) != table_size) [[unlikely]]
            return examine.refuse(truncated, offsetof(header, program_headers), table_offset);
        found.segments = segment_table<Layout>{buffer.first(table_size)};
    }

    std::uint64_t previous_end = 0;
    bool loads = false;
    std::uint64_t at = table_offset;
    for (const segment s : found.segments) {
        const bool within_file = s.offset <= file_size && s.file_size <= file_size - s.offset;
        switch (s.type) {
        case segment_type::load:
            if (s.memory_size == 0 && s.file_size == 0)
                break;
            if (examine.stops(s.file_size > s.memory_size, absurd_size, at + offsetof(program_header, file_size),
                              s.file_size) ||
                examine.stops(!within_file, truncated, at + offsetof(program_header, offset), s.offset) ||
                examine.stops(s.address > needs.address_end || s.memory_size > needs.address_end - s.address,
                              outside_address_space, at + offsetof(program_header, address), s.address) ||
                examine.stops((s.alignment & (s.alignment - 1)) != 0 || s.alignment > needs.address_end, bad_alignment,
                              at + offsetof(program_header, alignment), s.alignment) ||
                examine.stops(((s.offset ^ s.address) & (page_size - 1)) != 0, misplaced_segment,
                              at + offsetof(program_header, offset), s.offset) ||
                examine.stops(s.address < previous_end, overlapping_segments, at + offsetof(program_header, address),
                              s.address))
                return examine.failure();

            if (!loads)
                found.span.begin = s.address & ~(page_size - 1);
            loads = true;
            previous_end = s.end();
            if (s.alignment > found.alignment)
                found.alignment = s.alignment;
            if (s.offset <= table_offset && table_offset - s.offset < s.file_size)
                found.program_headers = table_offset - s.offset + s.address;
            break;
        case segment_type::interpreter:
            // The longest path is 4096 bytes with its NUL.
            if (examine.stops(!found.interpreter.empty() || s.file_size < 2 || s.file_size > 4096 || !within_file,
                              bad_interpreter, at + offsetof(program_header, file_size), s.file_size))
                return examine.failure();
            found.interpreter = range<std::uint64_t>::of_size(s.offset, s.file_size);
            break;
        case segment_type::gnu_stack:
            found.executable_stack = s.access().execute;
            break;
        default:
            break;
        }
        at += sizeof(program_header);
    }
    found.span.end = (previous_end + page_size - 1) & ~(page_size - 1);
    if (examine.stops(!loads, no_segments, offsetof(header, program_header_count), count))
        return examine.failure();
    found.sound = examine.sound();
    return found;
}

// The same for a file in memory.
template <class Layout, ViewableSource Source, Diagnostics D>
[[nodiscard]] result<image<Layout>> parse(Source& source, const requirements& needs, D& diagnostics)
{
    return parse<Layout>(source, needs, std::span<std::byte>{}, diagnostics);
}

// The path that PT_INTERP names, read into `into` (at least 4096 bytes). Errors: bad_interpreter; the source's.
template <class Layout, ByteSource Source>
[[nodiscard]] result<std::string_view> read_interpreter(Source& source, const image<Layout>& from,
                                                        std::span<char> into)
{
    const auto size = static_cast<std::size_t>(from.interpreter.size());
    if (size < 2 || size > into.size())
        return fail(bad_interpreter, from.interpreter.begin);
    const auto path = into.first(size);
    const std::size_t n = EXO_TRY(source.read_at(from.interpreter.begin, std::as_writable_bytes(path)));
    if (n != size || path.back() != '\0' || path.front() == '\0')
        return fail(bad_interpreter, from.interpreter.begin);
    return std::string_view{path.data()};
}

// Word size and byte order of any ELF file. Errors: not_elf; the source's.
template <ByteSource Source>
[[nodiscard]] result<identification> identify(Source& source)
{
    identification ident{};
    const std::size_t n = EXO_TRY(source.read_at(0, std::as_writable_bytes(std::span{&ident, 1})));
    if (n != sizeof(ident) || std::memcmp(ident.magic, magic, sizeof(magic)) != 0)
        return fail(not_elf);
    return ident;
}

// Calls `visit(layout<...>{})` for the layout that `ident` tells. Errors: wrong_class, wrong_byte_order; the visitor's.
template <class Visitor>
[[nodiscard]] auto with_layout(const identification& ident, Visitor visit)
    -> decltype(visit(layout<file_class::bits64, std::endian::little>{}))
{
    if (ident.order != byte_order::little && ident.order != byte_order::big)
        return fail(wrong_byte_order, offsetof(identification, order));
    const bool little = ident.order == byte_order::little;
    switch (ident.word_size) {
    case file_class::bits32:
        return little ? visit(layout<file_class::bits32, std::endian::little>{})
                      : visit(layout<file_class::bits32, std::endian::big>{});
    case file_class::bits64:
        return little ? visit(layout<file_class::bits64, std::endian::little>{})
                      : visit(layout<file_class::bits64, std::endian::big>{});
    }
    return fail(wrong_class, offsetof(identification, word_size));
}

} // namespace exo::elf
