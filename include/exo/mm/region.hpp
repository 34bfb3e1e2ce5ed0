// What a program asked for: a range of its address space, what it may do there, and what backs it.

#pragma once

#include <cstdint>
#include <optional>

#include <exo/base/address.hpp>
#include <exo/base/page.hpp>
#include <exo/base/range.hpp>
#include <exo/base/ref.hpp>
#include <exo/base/tree.hpp>
#include <exo/mm/object_mappings.hpp>
#include <exo/mm/pager.hpp>
#include <exo/mm/protection.hpp>

namespace exo::mm {

enum class sharing : std::uint8_t {
    private_copy, // what is written here, only this space sees
    shared,       // writes reach the pager's object, and every other shared mapping of it
};

enum class growth : std::uint8_t {
    fixed,
    down, // a stack: a fault just below extends it, up to its limit
};

// Page sizes beyond the smallest, where there is a choice.
enum class large_pages : std::uint8_t {
    unspecified,
    wanted,
    refused,
};

enum class access_order : std::uint8_t {
    unspecified,
    sequential,
    random,
};

enum class at_fork : std::uint8_t {
    inherited,
    absent, // the child has nothing there
    empty,  // the child has the region, without the contents
};

// What the program said about a region, as madvise(2) takes it.
struct region_advice {
    large_pages large{};
    access_order order{};
    at_fork fork{};
    bool dumped{true}; // in a core

    friend constexpr bool operator==(const region_advice&, const region_advice&) = default;
};

// Whether pages, once there, have to stay (mlock(2)).
enum class locking : std::uint8_t {
    none,
    on_fault, // they come as they are accessed
    at_once,  // all are there from the beginning
};

enum class placement : std::uint8_t {
    anywhere,        // at the address given if it is free (0: no wish), else where there is room
    fixed,           // exactly there; what was mapped there is gone
    fixed_noreplace, // exactly there, or already_mapped
};

struct map_request {
    virt_addr address{};
    std::uint64_t length{}; // bytes, rounded up to pages
    protection access{user_data};
    placement where{placement::anywhere};
    sharing kind{sharing::private_copy};
    growth grows{growth::fixed};
    virt_addr below{};      // where the kernel chooses: the end is not above this; 0: no wish
    std::uint64_t limit{};  // how many bytes a growing region may reach
    ref<pager> backing{};   // null: anonymous memory, zero at first
    std::uint64_t offset{}; // into the pager's object, a multiple of the page size
    bool may_execute{true}; // protect may make it executable; if not, `access` does not execute
    locking locked{};
    bool populate{}; // have the pages there before the call returns, as far as memory allows
};

struct remap_request {
    virt_addr address{};
    std::uint64_t old_length{}; // bytes, rounded up to pages; 0: what is shared is mapped once more
    std::uint64_t length{};     // likewise
    bool may_move{};
    std::optional<virt_addr> target{}; // move exactly there; what was mapped there is gone
    bool keeps_old{};                  // the pages go, the region stays
};

// What the user of a space may have, in bytes (getrlimit(2)).
struct space_limits {
    static constexpr std::uint64_t none = ~std::uint64_t{0};

    std::uint64_t space{none}; // all regions
    std::uint64_t data{none};  // those that are private and writable
    std::uint64_t locked{none};
};

// A region as seen at one moment.
struct region_info {
    virt_range range;
    protection access{};
    sharing kind{};
    growth grows{};
    bool heap{}; // the area that set_brk moves
    bool may_execute{true}; // if protect wants it, whatever `access` is now
    ref<pager> backing;
    std::uint64_t offset{}; // of range.begin in the pager's object
    region_advice advice{};
    locking locked{};

    [[nodiscard]] std::uint64_t page_index(virt_addr a) const
    {
        return (offset + (a.align_down(page_size) - range.begin)) >> page_shift;
    }
    // What protect may give it, whatever it has now.
    [[nodiscard]] bool may_be_written() const { return kind == sharing::private_copy || backing->allows_writing(); }
    // Zero at first, and nobody else's: what is shared has a pager.
    [[nodiscard]] bool is_anonymous() const { return !backing; }
    [[nodiscard]] bool is_data() const
    {
        return kind == sharing::private_copy && includes(access, protection::write) && grows == growth::fixed;
    }
};

// A region in its space's tree.
struct region : region_info {
    std::uint64_t limit{}; // bytes that it may grow to

    object_mapping mapping;
    tree_hook hook;

    [[nodiscard]] virt_addr begin() const { return range.begin; }
    // What its pages are mapped with: as all hardware has it, who may write or execute may read.
    [[nodiscard]] protection mapped_access() const { return accessible(access) ? access | protection::read : access; }
    // Whether `next` could be one region with this.
    [[nodiscard]] bool continues_in(const region& next) const
    {
        return range.end == next.range.begin && access == next.access && kind == next.kind && heap == next.heap &&
               may_execute == next.may_execute && advice == next.advice && locked == next.locked &&
               grows == growth::fixed && next.grows == growth::fixed && backing == next.backing &&
               (!backing || offset + range.size() == next.offset) && mapping.generation == next.mapping.generation;
    }
    // Gives the part from `a` on, which lies inside, to `upper`.
    void split(virt_addr a, region& upper)
    {
        static_cast<region_info&>(upper) = *this;
        upper.limit = limit;
        upper.mapping.generation = mapping.generation;
        upper.offset += backing ? a - range.begin : 0;
        upper.range.begin = a;
        range.end = a;
    }
};

} // namespace exo::mm
