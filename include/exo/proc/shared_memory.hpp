// Memory without a file that several processes see: what mmap(MAP_SHARED | MAP_ANONYMOUS) maps.

#pragma once

#include <cstdint>
#include <string_view>

#include <exo/base/allocator.hpp>
#include <exo/base/ref.hpp>
#include <exo/base/result.hpp>
#include <exo/fs/environment.hpp>
#include <exo/fs/page_tree.hpp>
#include <exo/mm/pager.hpp>
#include <exo/mm/page_supply.hpp>
#include <exo/sync/lock_rank.hpp>
#include <exo/sync/mutex.hpp>

namespace exo::proc {

class shared_memory final : public mm::pager {
public:
    // Of `pages` pages, zero at first. Errors: out_of_memory.
    [[nodiscard]] static result<ref<mm::pager>> create(fs::environment& env, std::uint64_t pages)
    {
        auto* made = EXO_TRY(new_object<shared_memory>(env.heap, env, pages));
        return ref<mm::pager>{ref<shared_memory>::adopt(made)};
    }

    shared_memory(fs::environment& env, std::uint64_t pages) : environment_{env}, pages_{pages}, present_{env.heap} {}

    [[nodiscard]] result<frame_number> get_page(std::uint64_t index, bool) override
    {
        if (index >= pages_)
            return fail(mm::beyond_end, index);
        auto guard = lock_.lock(environment_.parker);
        auto* word = EXO_TRY(present_.make(index));
        if (*word == 0) // a frame's number plus one
            *word = EXO_TRY(environment_.pages.allocate_page()).leak().value() + 1;
        const frame_number f{*word - 1};
        environment_.pages.acquire(f);
        return f;
    }
    [[nodiscard]] std::string_view name() const noexcept override { return "/dev/zero (deleted)"; }

private:
    void last_reference() noexcept override
    {
        present_.for_each(0, [this](std::uint64_t, fs::page_tree::word& word) {
            environment_.pages.release(frame_number{word - 1});
            return true;
        });
        delete_object(environment_.heap, this);
    }

    fs::environment& environment_;
    std::uint64_t pages_;
    sync::mutex<sync::lock_rank::page> lock_;
    fs::page_tree present_; // under lock_
};

} // namespace exo::proc
