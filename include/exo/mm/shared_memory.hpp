// Anonymous memory that several address spaces share: a pager whose pages are zero until somebody writes them, and last
// as long as a region or a mapping refers to them. What mmap(MAP_SHARED | MAP_ANONYMOUS) maps.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include <exo/base/allocator.hpp>
#include <exo/base/ref.hpp>
#include <exo/base/result.hpp>
#include <exo/base/tree.hpp>
#include <exo/mm/page_supply.hpp>
#include <exo/mm/pager.hpp>
#include <exo/sync/any_parker.hpp>
#include <exo/sync/lock_rank.hpp>
#include <exo/sync/mutex.hpp>

namespace exo::mm {

class shared_memory final : public pager {
public:
    // `bytes` is rounded up to pages. The rest outlives the object. Errors: out_of_memory.
    [[nodiscard]] static result<ref<pager>> create(allocator& heap, page_supply& pages, sync::any_parker& parker,
                                                   std::uint64_t bytes)
    {
        return ref<pager>{
            ref<shared_memory>::adopt(EXO_TRY(new_object<shared_memory>(heap, heap, pages, parker, pages_for(bytes))))};
    }
    shared_memory(allocator& heap, page_supply& pages, sync::any_parker& parker, std::uint64_t size)
        : heap_{heap}, pages_{pages}, parker_{parker}, size_{size}
    {
    }

    result<frame_number> get_page(std::uint64_t page_index, bool) override
    {
        if (page_index >= size_)
            return fail(beyond_end, page_index);
        auto guard = lock_.lock(parker_);
        held_page* held = held_.find(page_index);
        if (!held) {
            auto made = EXO_TRY(make_owned<held_page>(heap_));
            made->index = page_index;
            made->contents = EXO_TRY(pages_.allocate_page());
            held = made.release();
            held_.insert(*held);
        }
        return held->contents.share().leak();
    }
    std::size_t get_present_pages(std::uint64_t first, std::span<object_page> into) override
    {
        std::size_t count = 0;
        auto guard = lock_.lock(parker_);
        for (std::uint64_t i = first; i - first < into.size(); ++i)
            if (held_page* held = held_.find(i))
                into[count++] = {i, held->contents.share().leak()};
        return count;
    }
    std::string_view name() const noexcept override { return "/dev/zero (deleted)"; }

private:
    struct held_page {
        std::uint64_t index{};
        page contents;
        tree_hook hook;
    };

    void last_reference() noexcept override
    {
        while (held_page* held = held_.pop_first())
            delete_object(heap_, held);
        delete_object(heap_, this);
    }

    allocator& heap_;
    page_supply& pages_;
    sync::any_parker& parker_;
    std::uint64_t size_; // pages
    sync::mutex<sync::lock_rank::page> lock_;
    tree<held_page, &held_page::hook, &held_page::index> held_;
};

} // namespace exo::mm
