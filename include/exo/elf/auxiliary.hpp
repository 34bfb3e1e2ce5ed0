// The auxiliary vector: what the kernel tells a new program about itself and the machine (System V x86-64 psABI 3.4.3,
// Linux uapi/linux/auxvec.h).

#pragma once

#include <cstdint>

#include <exo/base/page.hpp>
#include <exo/base/static_vector.hpp>
#include <exo/elf/loader.hpp>

namespace exo::elf {

enum class aux : std::uint64_t {
    null = 0,
    program_headers = 3,
    program_header_size = 4,
    program_header_count = 5,
    page_size = 6,
    interpreter_base = 7,
    flags = 8,
    entry = 9,
    user_id = 11,
    effective_user_id = 12,
    group_id = 13,
    effective_group_id = 14,
    platform = 15,
    hardware_capabilities = 16,
    clock_ticks = 17,
    secure = 23,
    random = 25,
    hardware_capabilities2 = 26,
    executable_name = 31,
    vdso = 33,
    minimum_signal_stack = 51,
};

struct aux_entry {
    aux key;
    std::uint64_t value;
};

using auxiliary_vector = static_vector<aux_entry, 24>;

// Who runs the program, and on what.
struct program_facts {
    std::uint32_t user_id{};
    std::uint32_t effective_user_id{};
    std::uint32_t group_id{};
    std::uint32_t effective_group_id{};
    std::uint64_t hardware_capabilities{};  // CPUID leaf 1, EDX
    std::uint64_t hardware_capabilities2{}; // bit 1: FSGSBASE is usable
    std::uint64_t minimum_signal_stack{2048};
    std::uint64_t interpreter_base{}; // 0 without one
    std::uint64_t clock_ticks{100};   // per second, of times() and /proc
};

// All entries but those that point into the stack, which the stack's builder adds.
[[nodiscard]] inline auxiliary_vector make_auxiliary_vector(const loaded_program& program, const program_facts& facts)
{
    auxiliary_vector v;
    v.push_back({aux::minimum_signal_stack, facts.minimum_signal_stack});
    v.push_back({aux::hardware_capabilities, facts.hardware_capabilities});
    v.push_back({aux::page_size, exo::page_size});
    v.push_back({aux::clock_ticks, facts.clock_ticks});
    v.push_back({aux::program_headers, program.program_headers});
    v.push_back({aux::program_header_size, program.program_header_size});
    v.push_back({aux::program_header_count, program.program_header_count});
    v.push_back({aux::interpreter_base, facts.interpreter_base});
    v.push_back({aux::flags, 0});
    v.push_back({aux::entry, program.entry});
    v.push_back({aux::user_id, facts.user_id});
    v.push_back({aux::effective_user_id, facts.effective_user_id});
    v.push_back({aux::group_id, facts.group_id});
    v.push_back({aux::effective_group_id, facts.effective_group_id});
    v.push_back({aux::secure, facts.user_id != facts.effective_user_id || facts.group_id != facts.effective_group_id});
    v.push_back({aux::hardware_capabilities2, facts.hardware_capabilities2});
    return v;
}

} // namespace exo::elf
