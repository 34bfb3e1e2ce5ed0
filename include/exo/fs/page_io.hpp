// Reading a file that is kept in pages: the pieces that lie in one page each, one after the other.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <exo/base/page.hpp>
#include <exo/base/result.hpp>
#include <exo/fs/stream.hpp>
#include <exo/mm/page_supply.hpp>

namespace exo::fs {

// `size()` is the file's size now. `page_at(index)` is a result<mm::page>: the page, or nothing for a hole. The page is
// kept by its reference alone while `into` takes it. Errors: those of page_at and `into`, if nothing was read before.
template <class Size, class PageAt>
[[nodiscard]] result<std::size_t> read_pages(std::uint64_t offset, output& into, Size size, PageAt page_at)
{
    std::size_t total = 0;
    for (;;) {
        const std::uint64_t end = size();
        if (offset >= end || into.remaining() == 0)
            return total;
        const auto in_page = static_cast<std::size_t>(offset % page_size);
        std::size_t count = page_size - in_page;
        if (count > into.remaining())
            count = into.remaining();
        if (count > end - offset)
            count = static_cast<std::size_t>(end - offset);

        result<mm::page> p = page_at(offset / page_size);
        if (!p)
            return total != 0 ? result<std::size_t>{total} : fail(p.error());
        const std::byte* const data = *p ? p->data() : zero_page;
        const auto taken = into.put({data + in_page, count});
        if (!taken)
            return total != 0 ? result<std::size_t>{total} : fail(taken.error());
        total += *taken;
        offset += *taken;
        if (*taken < count)
            return total;
    }
}

} // namespace exo::fs
