// An address space: the regions that a program asked for, and one tree of page tables, filled on fault.
//
// fork shares the page tables, at every level, until one side writes or changes something (mm/table_sharing.hpp says
// how), so its cost does not depend on how much is mapped. Every operation succeeds or leaves the space as it was. No
// frame or table is used again before every CPU that may hold a translation of it has invalidated that.
//
// Calls may sleep (for the space's lock, for a pager) and are made from threads, with interrupts on and no spin lock
// held, unless said otherwise. Several threads may call at once.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <exo/base/address.hpp>
#include <exo/base/allocator.hpp>
#include <exo/base/range.hpp>
#include <exo/base/ref.hpp>
#include <exo/base/result.hpp>
#include <exo/hal/translation_root.hpp>
#include <exo/mm/fault.hpp>
#include <exo/mm/protection.hpp>
#include <exo/mm/region.hpp>

namespace exo::mm {

// Where a space puts what has no fixed place. All multiples of the page size, below the end of the user half.
struct space_layout {
    virt_addr lowest;      // nothing is mapped below
    virt_addr mapping_top; // mappings without an address go below this, the highest first
    virt_addr highest;     // nothing is mapped at or above
};

struct space_statistics {
    std::uint64_t virtual_pages{};  // in regions
    std::uint64_t resident_pages{}; // present in the page tables, shared ones included
};

// Memory is the memory_system of the machine. Threads, and a vfork's child, share a space by reference; the last one
// ends it, when it is not loaded on any CPU any more.
template <class Memory>
class address_space final : public ref_counted {
public:
    // An empty space; its kernel half is that of the memory system's kernel root. Errors: out_of_memory.
    [[nodiscard]] static result<ref<address_space>> create(Memory& memory, const space_layout& layout);
    // A space with the same regions and contents. What is private is copied when one of the two writes it; what is
    // shared stays shared. Errors: out_of_memory.
    [[nodiscard]] result<ref<address_space>> fork();

    // The address where it was put. Errors: invalid_argument (length 0, offset or fixed address not a multiple of the
    // page size, outside of the layout, shared without backing), already_mapped (context: the address), out_of_memory
    // (also when there is no room).
    [[nodiscard]] result<virt_addr> map(map_request request);
    // Holes in the range are fine. Errors: invalid_argument, out_of_memory (splitting a region takes some).
    [[nodiscard]] result<> unmap(virt_range range);
    // Errors: invalid_argument, not_mapped (context: the first address without a region), out_of_memory.
    [[nodiscard]] result<> protect(virt_range range, protection access);
    // Drops the pages of private regions in the range: the next access finds zeros, or the pager's contents. Errors:
    // invalid_argument, not_mapped, out_of_memory.
    [[nodiscard]] result<> discard(virt_range range);
    // Moves or resizes what is mapped in `old`, which lies in one region. Errors: not_mapped, invalid_argument,
    // out_of_memory (`may_move` false: when there is no room in place).
    [[nodiscard]] result<virt_addr> remap(virt_range old, std::uint64_t length, bool may_move);

    // The heap that brk moves. start_brk says where it begins, once; set_brk moves its end. `limit`: bytes it may
    // reach.
    void start_brk(virt_addr begin);
    [[nodiscard]] virt_addr brk() const;
    [[nodiscard]] result<virt_addr> set_brk(virt_addr end, std::uint64_t limit);

    // Makes the page at `a` accessible in the way tried, or says why not: no_region, access_denied, beyond_end
    // (SIGBUS), out_of_memory, or the pager's error. An access that the tables allow by now is spurious, and a success.
    [[nodiscard]] result<fault_kind> handle_fault(virt_addr a, access tried);
    // Has the pages of a range there, as if each had been accessed. Errors: as handle_fault; pages before it stay.
    [[nodiscard]] result<> populate(virt_range range, access tried);

    // The space's memory as a program in it would read and write it, whether it is loaded or not. Errors: as
    // handle_fault; bytes before the failing page have been copied.
    [[nodiscard]] result<> read(virt_addr from, std::span<std::byte> into);
    [[nodiscard]] result<> write(virt_addr to, std::span<const std::byte> from);

    // Calls visit(region_info) for each region in ascending order, with no lock held: a region that comes or goes
    // meanwhile may or may not be seen. visit returns false to stop.
    template <class Visit>
    void for_each_region(Visit visit);
    [[nodiscard]] result<region_info> region_at(virt_addr a);
    [[nodiscard]] space_statistics statistics();

    // Loads this space on the calling CPU, in place of what was loaded. Both with interrupts off; neither sleeps.
    void activate() noexcept;
    // Loads the kernel's own root on the calling CPU, on which this space is loaded.
    void deactivate() noexcept;
    // The root table, for a debugger or a walker.
    [[nodiscard]] phys_addr root() const noexcept;

private:
    void last_reference() noexcept override;
};

} // namespace exo::mm
