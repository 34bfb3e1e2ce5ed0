// What backs a region of an address space with contents: a file's page cache, shared anonymous memory, a device.
//
// A region holds a reference to its pager for as long as it lives, so an unlinked file stays reachable through its
// mappings. The fault handler asks for pages one at a time, with no spin lock held: a pager may sleep and do I/O.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include <exo/base/address.hpp>
#include <exo/base/ref.hpp>
#include <exo/base/result.hpp>
#include <exo/mm/fault.hpp>

namespace exo::mm {

class object_mappings;

// Which object a pager stands for, as /proc/PID/maps shows it. Zero: none.
struct pager_identity {
    std::uint64_t device{};
    std::uint64_t inode{};
};

// A page of an object, by its index there.
struct object_page {
    std::uint64_t index{};
    frame_number frame;
};

class pager : public ref_counted {
public:
    // The frame that holds bytes [page_index * page_size, +page_size) of the object, with one reference (as
    // page_supply counts them) taken for the caller. What lies beyond the object's last byte in its last page is zero.
    // `for_write` says that the page will be mapped shared and writable: the pager counts it as dirty from here on.
    // Errors: beyond_end for a page wholly behind the object's end, out_of_memory, io_error, or the pager's own.
    [[nodiscard]] virtual result<frame_number> get_page(std::uint64_t page_index, bool for_write) = 0;
    // Those of the pages from `first` on that are in memory already, in ascending order, one reference taken for each;
    // how many. Of into.size() pages none beyond is looked for. Does no I/O.
    [[nodiscard]] virtual std::size_t get_present_pages(std::uint64_t /*first*/, std::span<object_page> /*into*/)
    {
        return 0;
    }
    // Makes what was written through shared mappings survive a loss of power, as far as the object can.
    [[nodiscard]] virtual result<> sync() { return {}; }
    // Who maps the object, if it can become smaller; the same one for as long as the pager is.
    [[nodiscard]] virtual object_mappings* mappings() noexcept { return nullptr; }
    // Whether shared mappings may write to the object: not so through a file that was opened for reading only.
    [[nodiscard]] virtual bool allows_writing() const noexcept { return true; }

    [[nodiscard]] virtual pager_identity identity() const noexcept { return {}; }
    // A path or a label such as "[vdso]"; valid as long as the pager is.
    [[nodiscard]] virtual std::string_view name() const noexcept { return {}; }
};

} // namespace exo::mm
