// Memory that has to stay, and what a program may have in all: the definitions behind address_space.hpp.
//
// Nothing takes a page out of a space that did not ask for it, so to lock pages is to have them there and to count
// them.

#pragma once

#include <optional>

#include <exo/base/errors.hpp>
#include <exo/mm/address_space.hpp>
#include <exo/mm/errors.hpp>

namespace exo::mm {

template <class Memory>
result<> address_space<Memory>::lock_pages(virt_range asked, locking how, const space_limits& limits)
{
    const auto range = EXO_TRY(mapped_pages(asked));
    {
        auto guard = lock();
        if (how != locking::none) {
            const auto already = bytes_where([](const region& r) { return r.locked != locking::none; }, range);
            EXO_TRY(check_locked(range.size() - already, limits));
        }
        auto splits = EXO_TRY(reserve_splits(range));
        split(range, splits);
        (void)for_each_in(range, [how](region& r) { r.locked = how; });
        merge_around(range);
        EXO_TRY(check_covered(range));
    }
    return how == locking::at_once ? populate(range) : result<>{};
}

template <class Memory>
result<> address_space<Memory>::lock_everything(std::optional<locking> present, locking future,
                                                const space_limits& limits)
{
    {
        auto guard = lock();
        if (present && *present != locking::none && virtual_pages_ > limits.locked >> page_shift)
            return fail(errors::out_of_memory, virtual_pages_ << page_shift);
        lock_new_ = future;
        if (present) {
            (void)for_each_in(everything(), [how = *present](region& r) { r.locked = how; });
            merge_around(everything());
        }
    }
    if (present == locking::at_once)
        (void)for_each_part(everything(), [this](const region_info&, virt_range part) -> result<> {
            (void)populate(part);
            return {};
        });
    return {};
}

template <class Memory>
std::uint64_t address_space<Memory>::bytes_where(bool (*counts)(const region&), virt_range range) const
{
    std::uint64_t sum = 0;
    (void)for_each_in(range, [&](const region& r) {
        if (counts(r))
            sum += r.range.intersection(range).size();
    });
    return sum;
}

template <class Memory>
result<> address_space<Memory>::check_locked(std::uint64_t more, const space_limits& limits) const
{
    if (limits.locked == space_limits::none)
        return {};
    const auto locked = bytes_where([](const region& r) { return r.locked != locking::none; }, everything());
    return locked + more <= limits.locked ? result<>{} : fail(too_much_locked, locked + more);
}

template <class Memory>
result<> address_space<Memory>::check_data(std::uint64_t more, const space_limits& limits) const
{
    if (limits.data == space_limits::none)
        return {};
    const auto data = bytes_where([](const region& r) { return r.is_data(); }, everything());
    return data + more <= limits.data ? result<>{} : fail(errors::out_of_memory, more);
}

template <class Memory>
result<> address_space<Memory>::check_limits(const region_info& like, std::uint64_t more,
                                             const space_limits& limits) const
{
    if (like.locked != locking::none)
        EXO_TRY(check_locked(more, limits));
    if (limits.space != space_limits::none && (virtual_pages_ << page_shift) + more > limits.space)
        return fail(errors::out_of_memory, more);
    return like.is_data() ? check_data(more, limits) : result<>{};
}

} // namespace exo::mm
