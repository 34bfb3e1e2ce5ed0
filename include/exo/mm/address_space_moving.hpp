// How an address space resizes and moves what it has mapped, as mremap(2) does: the definitions behind
// address_space.hpp.

#pragma once

#include <utility>

#include <exo/base/errors.hpp>
#include <exo/hal/pte_format.hpp>
#include <exo/mm/address_space.hpp>
#include <exo/mm/errors.hpp>
#include <exo/mm/table_moving.hpp>

namespace exo::mm {

template <class Memory>
result<virt_addr> address_space<Memory>::remap(const remap_request& request, const space_limits& limits)
{
    const std::uint64_t most = layout_.highest.value();
    if (request.length > most)
        return fail(request.target ? errors::invalid_argument : errors::out_of_memory, request.length);
    if (request.old_length > most || request.address > layout_.highest - request.old_length)
        return fail(errors::invalid_argument, request.old_length);
    const auto length = pages_for(request.length) << page_shift;
    const auto old_length = pages_for(request.old_length) << page_shift;
    const auto old = virt_range::of_size(request.address, old_length);
    const bool resizes_only = !request.target && !request.keeps_old;
    if (length == 0 || !old.begin.is_aligned(page_size) ||
        ((request.target || request.keeps_old) && !request.may_move) || (request.keeps_old && length != old_length))
        return fail(errors::invalid_argument, request.length);
    if (request.target) {
        const auto to = *request.target;
        if (!to.is_aligned(page_size) || layout_.highest - length < to ||
            virt_range::of_size(to, length).overlaps(old))
            return fail(errors::invalid_argument, to.value());
        if (to < layout_.lowest)
            return fail(errors::not_permitted, to.value());
    }
    if (resizes_only && length <= old_length) {
        if (!region_at(old.begin))
            return fail(no_region, old.begin.value());
        if (length < old_length)
            EXO_TRY(unmap({old.begin + length, old.end}));
        return old.begin;
    }

    auto made = EXO_TRY(make_owned<region>(memory_.heap));
    auto guard = lock();
    const auto kept = virt_range::of_size(old.begin, old_length < length ? old_length : length);
    region* r = region_of(old.begin);
    if (!r || !r->range.contains(kept))
        return fail(no_region, r ? r->range.end.value() : old.begin.value());
    if (old.empty() && r->kind != sharing::shared)
        return fail(errors::invalid_argument, old_length);
    const auto offset = r->offset + (old.begin - r->range.begin);
    if (r->backing && offset + length < offset)
        return fail(errors::invalid_argument, length);
    const auto more = length - (request.keeps_old ? 0 : kept.size());
    EXO_TRY(check_limits(*r, more, limits));

    const virt_range grown{old.begin, old.begin + length};
    const bool in_place = resizes_only && !old.empty() && old.end == r->range.end && grown.end <= layout_.highest &&
                          is_free({old.end, grown.end});
    auto at = old.begin;
    const auto how = r->locked;
    if (in_place) {
        virtual_pages_ += more >> page_shift;
        r->range.end = grown.end;
        merge_around(grown);
    } else {
        if (!request.may_move)
            return fail(errors::out_of_memory, length);
        at = request.target ? *request.target : EXO_TRY(find_room_like(old.begin, length));
        region& moved = *made;
        static_cast<region_info&>(moved) = *r;
        moved.mapping.generation = r->mapping.generation;
        moved.limit = r->limit;
        moved.range = virt_range::of_size(at, length);
        moved.offset = r->backing ? offset : 0;
        moved.heap = false;
        EXO_TRY(move(kept, old, made, request.keeps_old));
    }
    guard.unlock();
    if (how == locking::at_once && kept.size() < length)
        (void)populate({at + kept.size(), at + length});
    return at;
}

template <class Memory>
result<> address_space<Memory>::move(virt_range kept, virt_range old, owned<region>& made, bool keeps_old)
{
    const auto place = made->range;
    EXO_TRY(check_region_count());
    auto splits_there = EXO_TRY(reserve_splits(place));
    auto splits_here = old.empty() ? spares{} : EXO_TRY(reserve_splits(old));
    changes to{memory_, holders_};
    table_move<Memory> entries{memory_, root_, kept, place.begin};
    auto here = page_tables_here();
    const auto reserve = [&]() -> result<> {
        EXO_TRY(here.own_range(place, tables::extent::edges, to));
        EXO_TRY(here.own_range(old, tables::extent::edges, to));
        return entries.prepare(to);
    };
    const auto ready = reserve();
    if (ready) {
        split(old, splits_here);
        remove(place, splits_there, to);
        entries.run(to);
        // Before the old one leaves: an object that becomes smaller finds one of them, and waits for this space.
        region& moved = *made.release();
        insert(moved);
        enter(moved);
        if (keeps_old) {
            region_of(old.begin)->locked = locking::none;
            here.detach(old, to); // what is empty by now
        } else if (!old.empty()) {
            remove(old, splits_here, to);
        }
        merge_around(old);
        merge_around(place);
    }
    to.flush();
    return ready;
}

// Where tables can move as a whole, if the length is worth it.
template <class Memory>
result<virt_addr> address_space<Memory>::find_room_like(virt_addr model, std::uint64_t length) const
{
    const auto step = hal::bytes_at<format>(1);
    if (length >= step)
        if (const auto room = find_room(length + step - page_size, layout_.mapping_top))
            return *room + ((model - *room) & (step - 1));
    return find_room(length, layout_.mapping_top);
}

} // namespace exo::mm
