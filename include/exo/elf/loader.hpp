// Placing the segments of a parsed program in an address space.
//
// Each loadable segment gets its exact permissions; bytes of its last file page beyond the file part are cleared, and
// whole pages beyond are anonymous. The target is a few operations, so the loader serves a kernel's address space, an
// emulator and a test alike. After an error the target holds part of the program: the caller drops it.

#pragma once

#include <concepts>
#include <cstdint>

#include <exo/base/page.hpp>
#include <exo/base/result.hpp>
#include <exo/elf/errors.hpp>
#include <exo/elf/layout.hpp>
#include <exo/elf/parser.hpp>

namespace exo::elf {

// Laws of a LoadTarget (addresses and lengths of the first two are whole pages):
//  - map_file maps `length` bytes of the program's file from `file_offset` on, privately: writes stay in the space.
//  - map_anonymous maps zeros. Both replace what was mapped there.
//  - zero clears bytes of a mapping that is writable.
template <class T>
concept LoadTarget = requires(T& target, std::uint64_t address, std::uint64_t length, permissions access,
                              std::uint64_t file_offset) {
    { target.map_file(address, length, access, file_offset) } -> std::same_as<result<>>;
    { target.map_anonymous(address, length, access) } -> std::same_as<result<>>;
    { target.zero(address, length) } -> std::same_as<result<>>;
};

struct loaded_program {
    std::uint64_t entry{};
    std::uint64_t bias{};
    std::uint64_t program_headers{};      // address of the header table in memory, or 0
    std::size_t program_header_size{};
    std::size_t program_header_count{};
    range<std::uint64_t> span{};          // whole pages
    range<std::uint64_t> code{};          // of the executable segments
    range<std::uint64_t> data{};          // of the last writable segment's file part
};

// `bias` is 0 for a program of fixed place, else a multiple of the image's alignment, chosen so that the image's span
// plus the bias is free in the target. Errors: outside_address_space, truncated (an unsound image), the target's.
template <class Layout, LoadTarget Target>
[[nodiscard]] result<loaded_program> load_segments(const image<Layout>& program, std::uint64_t bias, Target& target)
{
    if (!program.sound)
        return fail(truncated);
    if ((bias & (program.alignment - 1)) != 0 || (bias != 0 && !program.position_independent()) ||
        program.span.end + bias < bias)
        return fail(outside_address_space, bias);

    const auto page_down = [](std::uint64_t a) { return a & ~(page_size - 1); };
    const auto page_up = [](std::uint64_t a) { return (a + page_size - 1) & ~(page_size - 1); };

    loaded_program result;
    for (const segment s : program.segments) {
        if (s.type != segment_type::load || s.memory_size == 0)
            continue;
        const std::uint64_t begin = s.address + bias;
        const std::uint64_t file_end = begin + s.file_size;
        const std::uint64_t end = begin + s.memory_size;
        const permissions access = s.access();

        std::uint64_t mapped_end = page_down(begin);
        if (s.file_size != 0) {
            mapped_end = page_up(file_end);
            EXO_TRY(target.map_file(page_down(begin), mapped_end - page_down(begin), access,
                                         page_down(s.offset)));
            // A segment that is not writable keeps the file's bytes there, as on Linux.
            if (s.memory_size > s.file_size && access.write && mapped_end != file_end)
                EXO_TRY(target.zero(file_end, mapped_end - file_end));
        }
        if (page_up(end) > mapped_end)
            EXO_TRY(target.map_anonymous(mapped_end, page_up(end) - mapped_end, access));

        if (access.execute) {
            if (result.code.empty())
                result.code.begin = begin;
            result.code.end = file_end;
        }
        if (access.write)
            result.data = {begin, file_end};
    }
    result.entry = program.entry + bias;
    result.bias = bias;
    result.program_headers = program.program_headers != 0 ? program.program_headers + bias : 0;
    result.program_header_size = sizeof(typename Layout::program_header);
    result.program_header_count = program.segments.size();
    result.span = {program.span.begin + bias, program.span.end + bias};
    return result;
}

} // namespace exo::elf
