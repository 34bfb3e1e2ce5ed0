// Where the pieces of a program go: at places of their own in the address space, as on Linux (x86-64: about 85 TiB for
// position-independent programs, the stack at the top, mappings below it), moved by random distances, so that whoever
// can make a program jump or write does not know where to.

#pragma once

#include <cstdint>

#include <exo/base/address.hpp>
#include <exo/base/page.hpp>
#include <exo/mm/address_space.hpp>

namespace exo::proc {

// How many bits of a distance in pages are random: Linux's numbers on x86-64.
inline constexpr unsigned random_stack_bits = 22, random_mapping_bits = 28, random_program_bits = 28,
                          random_brk_bits = 13;

// Random words. All zero: everything is where it always is.
struct placement_randomness {
    std::uint64_t stack{};
    std::uint64_t mappings{};
    std::uint64_t program{};
    std::uint64_t brk{};
};

struct placement_plan {
    mm::space_layout layout;
    std::uint64_t stack_top;   // of its region
    std::uint64_t stack_begin; // where its contents start, a little below
    std::uint64_t stack_limit; // bytes that it may grow to
    std::uint64_t program_bias;
    std::uint64_t brk_gap; // between the program's end and its heap
};

// `user_limit` is the end of user addresses; `stack_wish` the limit on the size of the stack.
[[nodiscard]] constexpr placement_plan plan_placement(std::uint64_t user_limit, std::uint64_t stack_wish,
                                                      const placement_randomness& random)
{
    constexpr auto pages = [](std::uint64_t word, unsigned bits) {
        return (word & ((std::uint64_t{1} << bits) - 1)) << page_shift;
    };
    constexpr auto page_down = [](std::uint64_t a) { return a & ~(page_size - 1); };
    constexpr std::uint64_t smallest_reserve = 128 << 20;
    constexpr unsigned shift_bits = 9; // of 16 bytes, within two pages, from the word's other end

    const std::uint64_t end = page_down(user_limit);
    const std::uint64_t largest = end / 6;
    placement_plan plan{};
    plan.stack_limit = stack_wish < page_size ? page_size : page_down(stack_wish < largest ? stack_wish : largest);
    plan.stack_top = end - pages(random.stack, random_stack_bits);
    plan.stack_begin = plan.stack_top - (random.stack >> (64 - shift_bits) << 4);
    // Below the lowest place where the stack may be.
    const std::uint64_t reserved = plan.stack_limit < smallest_reserve ? smallest_reserve : plan.stack_limit;
    const std::uint64_t stack_span = std::uint64_t{page_size} << random_stack_bits;
    plan.layout = {.lowest = virt_addr{64 << 10},
                   .mapping_top = virt_addr{end - stack_span - reserved - mm::stack_guard -
                                            pages(random.mappings, random_mapping_bits)},
                   .highest = virt_addr{end}};
    plan.program_bias = page_down(end / 3 * 2) + pages(random.program, random_program_bits);
    plan.brk_gap = pages(random.brk, random_brk_bits);
    return plan;
}

} // namespace exo::proc
