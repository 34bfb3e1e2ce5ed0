// How an address space keeps its regions: the definitions behind address_space.hpp, faults apart.
//
// Each change of a range first makes what can fail (regions for splits, tables of its own at the edges), then changes
// regions and tables, which cannot. Tables that became private stay so after a failure: nobody can tell.

#pragma once

#include <optional>
#include <type_traits>
#include <utility>

#include <exo/base/errors.hpp>
#include <exo/mm/address_space.hpp>
#include <exo/mm/errors.hpp>

namespace exo::mm {

// Life and death.

template <class Memory>
result<ref<address_space<Memory>>> address_space<Memory>::create(Memory& memory, const space_layout& layout)
{
    const auto root = EXO_TRY(tables::create_root(memory));
    auto made = new_object<address_space>(memory.heap, memory, layout, root);
    if (!made) {
        tables::destroy_root(memory, root);
        return fail(made.error());
    }
    return ref<address_space>::adopt(*made);
}

template <class Memory>
void address_space<Memory>::last_reference() noexcept
{
    memory_.shootdown.evict(holders_);
    EXO_CHECK(holders_.running.members().empty());
    tables::destroy_root(memory_, root_);
    while (region* r = regions_.first())
        erase(*r);
    delete_object(memory_.heap, this);
}

template <class Memory>
result<ref<address_space<Memory>>> address_space<Memory>::fork()
{
    auto guard = lock();
    auto child = EXO_TRY(create(memory_, layout_));
    bool unlocked = false;
    for (const region& r : regions_) {
        region* copy = EXO_TRY(new_object<region>(memory_.heap));
        static_cast<region_info&>(*copy) = r;
        copy->limit = r.limit;
        copy->mapping.generation = r.mapping.generation;
        unlocked |= std::exchange(copy->locked, locking::none) != locking::none;
        child->insert(*copy);
    }
    changes to{memory_, holders_};
    const auto shared = page_tables_here().share_with(child->root_, to);
    to.flush(); // from here on this space's CPUs ask before they write
    EXO_TRY(shared);
    for (const region& r : regions_)
        if (r.advice.fork != at_fork::inherited)
            EXO_TRY(child->start_without(r.range, r.advice.fork));
    if (unlocked)
        child->merge_around(everything());
    // Only now that it has the pages may it be told to forget some; this space, under the lock, was not told meanwhile.
    for (region& r : child->regions_)
        child->enter(r);
    child->brk_begin_ = brk_begin_;
    child->brk_end_ = brk_end_;
    memory_.counters().forks.add();
    return child;
}

// Regions.

template <class Memory>
result<virt_range> address_space<Memory>::whole_pages(virt_range r) const
{
    const auto end = r.end.align_up(page_size);
    if (!r.begin.is_aligned(page_size) || r.begin >= r.end || end < r.end || layout_.highest < end)
        return fail(errors::invalid_argument, r.begin.value());
    return virt_range{r.begin, end};
}

template <class Memory>
result<virt_range> address_space<Memory>::mapped_pages(virt_range r) const
{
    if (layout_.highest < r.end && r.begin < r.end && r.begin.is_aligned(page_size))
        return fail(not_mapped, layout_.highest.value());
    return whole_pages(r);
}

template <class Memory>
region* address_space<Memory>::first_ending_after(virt_addr a) const
{
    region* above = regions_.upper_bound(a);
    region* below = above ? regions_.previous(*above) : regions_.last();
    return below && a < below->range.end ? below : above;
}

template <class Memory>
region* address_space<Memory>::region_of(virt_addr a) const
{
    region* r = first_ending_after(a);
    return r && r->range.contains(a) ? r : nullptr;
}

template <class Memory>
bool address_space<Memory>::is_free(virt_range r) const
{
    const region* next = first_ending_after(r.begin);
    return !next || r.end <= next->range.begin;
}

template <class Memory>
result<> address_space<Memory>::check_covered(virt_range r) const
{
    for (auto at = r.begin; at < r.end;) {
        const region* here = region_of(at);
        if (!here)
            return fail(not_mapped, at.value());
        at = here->range.end;
    }
    return {};
}

template <class Memory>
template <class Visit>
result<> address_space<Memory>::for_each_in(virt_range range, Visit visit) const
{
    for (region* r = first_ending_after(range.begin); r && r->range.begin < range.end; r = regions_.next(*r)) {
        if constexpr (std::is_void_v<decltype(visit(*r))>)
            visit(*r);
        else
            EXO_TRY(visit(*r));
    }
    return {};
}

template <class Memory>
result<virt_addr> address_space<Memory>::find_room(std::uint64_t length, virt_addr top) const
{
    virt_addr end = top;
    for (const region* r = regions_.last(); r; r = regions_.previous(const_cast<region&>(*r))) {
        if (r->range.end <= end && end - r->range.end >= length)
            return end - length;
        const auto gap = guard_below(*r);
        const auto below = r->range.begin - layout_.lowest > gap ? r->range.begin - gap : layout_.lowest;
        end = below < end ? below : end;
    }
    if (end - layout_.lowest >= length)
        return end - length;
    return fail(errors::out_of_memory, length);
}

template <class Memory>
result<virt_addr> address_space<Memory>::choose_place(const map_request& request, std::uint64_t length) const
{
    const auto wish = request.address;
    const bool fits = length <= layout_.highest.value() && wish <= layout_.highest - length;
    if (request.where == placement::anywhere) {
        const auto at = wish.align_down(page_size);
        const region* const next = first_ending_after(at);
        if (fits && layout_.lowest <= at && (!next || at + length + guard_below(*next) <= next->range.begin))
            return at;
        const bool bounded = virt_addr{} < request.below && request.below < layout_.mapping_top;
        return find_room(length, bounded ? request.below : layout_.mapping_top);
    }
    if (!wish.is_aligned(page_size))
        return fail(errors::invalid_argument, wish.value());
    if (!fits)
        return fail(errors::out_of_memory, length);
    if (wish < layout_.lowest)
        return fail(errors::not_permitted, wish.value());
    if (request.where == placement::fixed_noreplace && !is_free(virt_range::of_size(wish, length)))
        return fail(already_mapped, wish.value());
    return wish;
}

template <class Memory>
void address_space<Memory>::insert(region& r)
{
    EXO_CHECK(r.range.begin < r.range.end && r.range.end <= layout_.highest);
    regions_.insert(r);
    ++region_count_;
    virtual_pages_ += r.range.size() >> page_shift;
}

template <class Memory>
void address_space<Memory>::enter(region& r)
{
    if (object_mappings* const object = r.backing ? r.backing->mappings() : nullptr)
        object->enter(memory_.parker, r.mapping, *this);
}

template <class Memory>
void address_space<Memory>::erase(region& r)
{
    if (r.mapping.object)
        r.mapping.object->leave(memory_.parker, r.mapping);
    regions_.erase(r);
    --region_count_;
    virtual_pages_ -= r.range.size() >> page_shift;
    delete_object(memory_.heap, &r);
}

template <class Memory>
void address_space<Memory>::merge_around(virt_range range)
{
    region* r = first_ending_after(range.begin);
    if (r)
        if (region* before = regions_.previous(*r))
            r = before;
    while (r && r->range.begin <= range.end) {
        region* next = regions_.next(*r);
        if (next && r->continues_in(*next)) {
            const auto end = next->range.end;
            virtual_pages_ += next->range.size() >> page_shift;
            erase(*next);
            r->range.end = end;
        } else {
            r = next;
        }
    }
}

// Errors: out_of_memory, where one call more could pass the limit.
template <class Memory>
result<> address_space<Memory>::check_region_count() const
{
    return region_count_ + 3 > region_limit ? fail(errors::out_of_memory, region_count_) : result<>{};
}

template <class Memory>
auto address_space<Memory>::reserve_splits(virt_range r) const -> result<spares>
{
    spares made;
    const region* first = region_of(r.begin);
    if (first && first->range.begin < r.begin)
        made.at_begin = EXO_TRY(make_owned<region>(memory_.heap));
    const region* last = region_of(r.end);
    if (last && last->range.begin < r.end)
        made.at_end = EXO_TRY(make_owned<region>(memory_.heap));
    if (made.at_begin || made.at_end)
        EXO_TRY(check_region_count());
    return made;
}

template <class Memory>
void address_space<Memory>::split(virt_range r, spares& with)
{
    const auto at = [this](virt_addr a, owned<region>& spare) {
        region* lower = region_of(a);
        if (!spare || !lower || lower->range.begin == a) // another split has done it
            return;
        region* upper = spare.release();
        lower->split(a, *upper);
        regions_.insert(*upper);
        ++region_count_;
        if (lower->mapping.object)
            enter(*upper);
    };
    at(r.begin, with.at_begin);
    at(r.end, with.at_end);
}

template <class Memory>
void address_space<Memory>::remove(virt_range r, spares& with, changes& to)
{
    split(r, with);
    for (region* at = first_ending_after(r.begin); at && at->range.begin < r.end;) {
        region* next = regions_.next(*at);
        erase(*at);
        at = next;
    }
    page_tables_here().detach(r, to);
}

template <class Memory>
result<> address_space<Memory>::drop_pages(virt_range r, changes& to)
{
    auto here = page_tables_here();
    EXO_TRY(here.own_range(r, tables::extent::edges, to));
    here.detach(r, to);
    return {};
}

template <class Memory>
result<virt_addr> address_space<Memory>::map(map_request request, const space_limits& limits)
{
    const auto length = pages_for(request.length) << page_shift;
    if (length == 0 || request.offset % page_size != 0 || request.offset + length < request.offset ||
        (request.kind == sharing::shared && !request.backing))
        return fail(errors::invalid_argument, request.length);

    auto made = EXO_TRY(make_owned<region>(memory_.heap));
    auto guard = lock();
    const auto at = EXO_TRY(choose_place(request, length));
    const auto range = virt_range::of_size(at, length);
    static_cast<region_info&>(*made) = {.range = range,
                                        .access = request.access | protection::user,
                                        .kind = request.kind,
                                        .grows = request.grows,
                                        .may_execute = request.may_execute,
                                        .backing = std::move(request.backing),
                                        .offset = request.offset,
                                        .locked = request.locked == locking::none ? lock_new_ : request.locked};
    made->limit = request.limit;
    if (const object_mappings* const object = made->backing ? made->backing->mappings() : nullptr)
        made->mapping.generation = object->generation();
    EXO_TRY(check_region_count());
    const auto replaced = bytes_where([](const region&) { return true; }, range);
    EXO_TRY(check_limits(*made, length - replaced, limits));
    if (made->locked != locking::none) {
        const auto locked = bytes_where([](const region& r) { return r.locked != locking::none; }, range);
        EXO_TRY(check_locked(length - locked, limits));
    }
    if (!is_free(range)) {
        auto splits = EXO_TRY(reserve_splits(range));
        changes to{memory_, holders_};
        const auto ready = page_tables_here().own_range(range, tables::extent::edges, to);
        if (ready)
            remove(range, splits, to);
        to.flush();
        EXO_TRY(ready);
    }
    const bool populates = request.populate || made->locked == locking::at_once;
    region& r = *made.release();
    insert(r);
    enter(r);
    merge_around(range);
    guard.unlock();

    if (populates)
        (void)populate(range);
    return at;
}

template <class Memory>
result<> address_space<Memory>::unmap(virt_range asked)
{
    const auto range = EXO_TRY(whole_pages(asked));
    auto guard = lock();
    if (is_free(range))
        return {};
    auto splits = EXO_TRY(reserve_splits(range));
    changes to{memory_, holders_};
    const auto ready = page_tables_here().own_range(range, tables::extent::edges, to);
    if (ready)
        remove(range, splits, to);
    to.flush();
    return ready;
}

template <class Memory>
result<> address_space<Memory>::protect(virt_range asked, protection access, const space_limits& limits)
{
    const auto range = EXO_TRY(mapped_pages(asked));
    access = access | protection::user;
    auto guard = lock();
    EXO_TRY(check_covered(range));
    const bool writes = includes(access, protection::write);
    const bool executes = includes(access, protection::execute);
    if (writes || executes) {
        std::uint64_t new_data = 0;
        for (region* r = region_of(range.begin); r && r->range.begin < range.end; r = regions_.next(*r)) {
            if ((writes && !r->may_be_written()) || (executes && !r->may_execute))
                return fail(access_denied, r->range.begin.value());
            region_info changed = *r;
            changed.access = access;
            new_data += changed.is_data() && !r->is_data() ? r->range.intersection(range).size() : 0;
        }
        if (new_data != 0)
            EXO_TRY(check_data(new_data, limits));
    }
    auto splits = EXO_TRY(reserve_splits(range));
    changes to{memory_, holders_};
    auto here = page_tables_here();
    const auto ready = here.own_range(range, tables::extent::inside, to);
    if (ready) {
        split(range, splits);
        for (region* r = region_of(range.begin); r && r->range.begin < range.end; r = regions_.next(*r))
            r->access = access;
        const auto mapped = region_of(range.begin)->mapped_access();
        here.for_each_leaf(range, [&](entry* slot, entry e, virt_addr page, unsigned level) {
            // The right to write comes back with the first write: only then it is clear to whom the page belongs.
            here.protect(slot, level, format::writable(e) ? mapped : without(mapped, protection::write));
            to.invalidate_page(page, level);
        });
        merge_around(range);
    }
    to.flush();
    return ready;
}

template <class Memory>
void address_space<Memory>::limit_growth(std::uint64_t bytes) noexcept
{
    auto guard = lock();
    for (region& r : regions_)
        if (r.grows == growth::down)
            r.limit = bytes;
}

template <class Memory>
void address_space<Memory>::clear() noexcept
{
    auto guard = lock();
    while (region* r = regions_.first())
        erase(*r);
    changes to{memory_, holders_};
    page_tables_here().detach_all(to);
    to.flush();
    brk_end_ = brk_begin_;
}

template <class Memory>
result<> address_space<Memory>::forget_pages(object_mappings& object, std::uint64_t first) noexcept
{
    auto guard = lock();
    for (region& r : regions_) {
        if (!r.backing || r.backing->mappings() != &object)
            continue;
        const auto index = r.page_index(r.range.begin);
        const auto kept = first > index ? first - index : 0;
        if (kept < r.range.size() >> page_shift) {
            changes to{memory_, holders_};
            const auto dropped = drop_pages({r.range.begin + (kept << page_shift), r.range.end}, to);
            to.flush();
            EXO_TRY(dropped);
        }
        object.seen(memory_.parker, r.mapping);
    }
    return {};
}

template <class Memory>
void address_space<Memory>::start_brk(virt_addr begin)
{
    auto guard = lock();
    brk_begin_ = brk_end_ = begin;
}

template <class Memory>
virt_addr address_space<Memory>::brk()
{
    auto guard = lock_regions();
    return brk_end_;
}

template <class Memory>
result<virt_addr> address_space<Memory>::set_brk(virt_addr end, const space_limits& limits)
{
    auto made = EXO_TRY(make_owned<region>(memory_.heap));
    auto guard = lock();
    if (end < brk_begin_)
        return fail(errors::invalid_argument, end.value());
    if (end - brk_begin_ > limits.data || layout_.highest < end)
        return fail(errors::out_of_memory, end.value());
    const auto old_top = brk_end_.align_up(page_size);
    const auto new_top = end.align_up(page_size);
    if (old_top < new_top) {
        const virt_range more{old_top, new_top};
        const region* const next = first_ending_after(old_top);
        if (next && next->range.begin < new_top + page_size + guard_below(*next))
            return fail(errors::out_of_memory, end.value());
        made->range = more;
        made->access = user_data;
        made->heap = true;
        made->locked = lock_new_;
        EXO_TRY(check_limits(*made, more.size(), limits));
        insert(*made.release());
        merge_around(more);
    } else if (new_top < old_top) {
        const virt_range less{new_top, old_top};
        auto splits = EXO_TRY(reserve_splits(less));
        changes to{memory_, holders_};
        const auto ready = page_tables_here().own_range(less, tables::extent::edges, to);
        if (ready)
            remove(less, splits, to);
        to.flush();
        EXO_TRY(ready);
    }
    brk_end_ = end;
    const bool populates = old_top < new_top && lock_new_ == locking::at_once;
    guard.unlock();
    if (populates)
        (void)populate({old_top, new_top});
    return end;
}

template <class Memory>
template <class Visit>
void address_space<Memory>::for_each_region(Visit visit)
{
    for (virt_addr at{}; at < layout_.highest;) {
        region_info seen;
        {
            auto guard = lock_regions();
            const region* r = first_ending_after(at);
            if (!r)
                return;
            seen = *r;
        }
        at = seen.range.end;
        if (!visit(seen))
            return;
    }
}

template <class Memory>
template <class Visit>
result<> address_space<Memory>::for_each_part(virt_range range, Visit visit)
{
    std::optional<virt_addr> hole;
    for (virt_addr at = range.begin; at < range.end;) {
        region_info seen;
        {
            auto guard = lock_regions();
            const region* r = first_ending_after(at);
            if (!hole && (!r || at < r->range.begin))
                hole = at;
            if (!r || range.end <= r->range.begin)
                break;
            seen = *r;
        }
        const auto part = seen.range.intersection({at, range.end});
        EXO_TRY(visit(seen, part));
        at = part.end;
    }
    return hole ? fail(not_mapped, hole->value()) : result<>{};
}

template <class Memory>
result<region_info> address_space<Memory>::region_at(virt_addr a)
{
    auto guard = lock_regions();
    const region* r = region_of(a);
    if (!r)
        return fail(no_region, a.value());
    return *r;
}

template <class Memory>
std::uint64_t address_space<Memory>::virtual_pages()
{
    auto guard = lock_regions();
    return virtual_pages_;
}

template <class Memory>
space_statistics address_space<Memory>::statistics()
{
    auto guard = lock();
    const auto locked = bytes_where([](const region& r) { return r.locked != locking::none; }, everything());
    return {virtual_pages_, page_tables_here().pages(), locked >> page_shift};
}

template <class Memory>
footprint address_space<Memory>::memory_footprint()
{
    footprint sum;
    auto guard = lock();
    add_footprint(memory_, root_, hal::root_level<format>, 1, sum);
    sum.regions = region_count_ * sizeof(region);
    return sum;
}

} // namespace exo::mm
