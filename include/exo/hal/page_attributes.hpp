// What a mapping grants and how its memory behaves: the words that a page-table format translates into bits.

#pragma once

#include <cstdint>

namespace exo::hal {

// A set. Without read, write and execute a page keeps its frame but nobody may touch it.
enum class protection : std::uint8_t {
    none = 0,
    read = 1,
    write = 2,
    execute = 4,
    user = 8, // the user may use it too; the kernel never executes it
};

[[nodiscard]] constexpr protection operator|(protection a, protection b)
{
    return static_cast<protection>(static_cast<unsigned>(a) | static_cast<unsigned>(b));
}
[[nodiscard]] constexpr protection operator&(protection a, protection b)
{
    return static_cast<protection>(static_cast<unsigned>(a) & static_cast<unsigned>(b));
}
[[nodiscard]] constexpr protection without(protection all, protection taken)
{
    return static_cast<protection>(static_cast<unsigned>(all) & ~static_cast<unsigned>(taken));
}
[[nodiscard]] constexpr bool includes(protection all, protection asked) { return (all & asked) == asked; }
// Whether anybody may do anything.
[[nodiscard]] constexpr bool accessible(protection p) { return without(p, protection::user) != protection::none; }

enum class memory_type : std::uint8_t {
    write_back,
    write_combining,
    uncached,
};

struct page_attributes {
    protection access{protection::read};
    memory_type memory{memory_type::write_back};
    bool global{};           // the same in every address space; survives a switch of spaces
    std::uint8_t software{}; // bits that hardware ignores, as many as the format has

    friend constexpr bool operator==(const page_attributes&, const page_attributes&) = default;
};

} // namespace exo::hal
