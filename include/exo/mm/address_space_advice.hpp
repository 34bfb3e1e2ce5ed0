// What a program says about memory that it has: the definitions behind address_space.hpp.

#pragma once

#include <cstddef>
#include <iterator>
#include <span>

#include <exo/base/errors.hpp>
#include <exo/mm/address_space.hpp>
#include <exo/mm/errors.hpp>

namespace exo::mm {

template <class Memory>
result<> address_space<Memory>::discard(virt_range asked)
{
    return drop_where(asked, [](const region& r) { return r.locked == locking::none; });
}

template <class Memory>
result<> address_space<Memory>::free(virt_range asked)
{
    return drop_where(asked, [](const region& r) { return r.locked == locking::none && r.is_anonymous(); });
}

template <class Memory>
result<> address_space<Memory>::drop_where(virt_range asked, bool (*may)(const region&))
{
    const auto range = EXO_TRY(mapped_pages(asked));
    auto guard = lock();
    EXO_TRY(for_each_in(range, [&](const region& r) -> result<> {
        return may(r) ? result<>{} : fail(errors::invalid_argument, r.range.begin.value());
    }));
    changes to{memory_, holders_};
    const auto dropped = drop_pages(range, to);
    to.flush();
    return dropped ? check_covered(range) : dropped;
}

template <class Memory>
result<> address_space<Memory>::advise(virt_range asked, void (*note)(region_advice&))
{
    const auto range = EXO_TRY(mapped_pages(asked));
    auto guard = lock();
    EXO_TRY(for_each_in(range, [&](const region& r) -> result<> {
        auto advice = r.advice;
        note(advice);
        return advice.fork != at_fork::empty || r.is_anonymous()
                   ? result<>{}
                   : fail(errors::invalid_argument, r.range.begin.value());
    }));
    auto splits = EXO_TRY(reserve_splits(range));
    split(range, splits);
    (void)for_each_in(range, [&](region& r) { note(r.advice); });
    merge_around(range);
    return check_covered(range);
}

template <class Memory>
result<> address_space<Memory>::will_need(virt_range asked)
{
    const auto range = EXO_TRY(mapped_pages(asked));
    return for_each_part(range, [this](const region_info& r, virt_range part) -> result<> {
        if (r.backing && accessible(r.access))
            (void)populate(part, access::read);
        return {};
    });
}

template <class Memory>
result<> address_space<Memory>::residency(virt_range range, std::span<bool> present)
{
    return for_each_part(range, [&](const region_info& r, virt_range part) -> result<> {
        const auto slots = present.subspan((part.begin - range.begin) >> page_shift, part.size() >> page_shift);
        {
            auto guard = lock();
            for (std::size_t i = 0; i < slots.size(); ++i)
                slots[i] = page_tables_here().find(part.begin + i * page_size).value != 0;
        }
        const auto first = r.page_index(part.begin);
        for (std::size_t i = 0; r.backing && i < slots.size();) {
            object_page there[32];
            const auto count = slots.size() - i < std::size(there) ? slots.size() - i : std::size(there);
            const auto found = r.backing->get_present_pages(first + i, std::span{there}.first(count));
            for (const object_page& p : std::span{there}.first(found)) {
                slots[p.index - first] = true;
                release_reference(memory_, p.frame);
            }
            i += count;
        }
        return {};
    });
}

template <class Memory>
result<> address_space<Memory>::start_without(virt_range range, at_fork what)
{
    changes to{memory_, holders_};
    const auto dropped = drop_pages(range, to);
    to.flush();
    if (dropped && what == at_fork::absent)
        erase(*region_of(range.begin));
    return dropped;
}

} // namespace exo::mm
