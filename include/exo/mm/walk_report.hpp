// The entries on the path of an address, as text: what a panic tells about a page fault that should not have been.
//
// Takes no lock and no memory, and reads nothing but what it is told is memory: the tables may be what is broken.

#pragma once

#include <cstdint>
#include <string_view>

#include <exo/base/address.hpp>
#include <exo/base/number_text.hpp>
#include <exo/base/page.hpp>
#include <exo/hal/page_attributes.hpp>
#include <exo/hal/phys_access.hpp>
#include <exo/hal/pte_format.hpp>

namespace exo::mm {

namespace detail {

template <hal::PteFormat Format, class Print>
void print_leaf(typename Format::entry e, unsigned level, Print& print)
{
    const auto x = Format::attributes(e, level);
    constexpr struct {
        hal::protection right;
        std::string_view name;
    } rights[] = {{hal::protection::read, " read"},
                  {hal::protection::write, " write"},
                  {hal::protection::execute, " execute"},
                  {hal::protection::user, " user"}};
    print("page at ", hexadecimal{Format::address(e, level).value()}, ":");
    for (const auto& r : rights)
        if (hal::includes(x.access, r.right))
            print(r.name);
    print(hal::accessible(x.access) ? "" : " absent", x.global ? " global" : "", Format::accessed(e) ? " accessed" : "",
          Format::dirty(e) ? " dirty" : "");
    print(x.memory == hal::memory_type::write_back        ? ""
          : x.memory == hal::memory_type::write_combining ? " write-combining"
                                                          : " uncached");
    if (x.software != 0)
        print(" software ", decimal{x.software});
    print("\n");
}

} // namespace detail

// A line for each level from the root at `root` down, until the path of `at` ends. `print` takes any number of
// string_views; `is_memory(phys_addr)` says whether a table may be read there.
template <hal::PteFormat Format, hal::PhysAccess Phys, class IsMemory, class Print>
void report_walk(const Phys& memory, phys_addr root, virt_addr at, IsMemory is_memory, Print print)
{
    using entry = typename Format::entry;
    if (!Format::is_canonical(at)) {
        print("    not canonical: no table translates it\n");
        return;
    }
    phys_addr table = root;
    for (unsigned level = hal::root_level<Format>;; --level) {
        const phys_addr slot = table + hal::index_at<Format>(at, level) * sizeof(entry);
        print("    level ", decimal{level}, " entry at ", hexadecimal{slot.value()});
        if (!is_memory(table)) {
            print(": no memory\n");
            return;
        }
        entry e{};
        __builtin_memcpy(&e, memory.to_pointer(slot), sizeof e);
        print(" is ", hexadecimal{e}, ", ");
        if (Format::is_leaf(e, level))
            return detail::print_leaf<Format>(e, level, print);
        if (!Format::is_table(e, level)) {
            print(e == 0 ? "empty\n" : "neither table nor page\n");
            return;
        }
        table = Format::address(e, level);
        print("table at ", hexadecimal{table.value()},
              !Format::hierarchical_write ? "\n" : Format::writable(e) ? ": write\n" : ": no write\n");
    }
}

} // namespace exo::mm
