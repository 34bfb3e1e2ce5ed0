// How an address space answers faults: the definitions behind address_space.hpp.
//
// A pager is asked with the space unlocked, since it may sleep; then the fault starts over, and uses the page if it is
// still the one that is wanted.

#pragma once

#include <utility>

#include <exo/base/errors.hpp>
#include <exo/mm/address_space.hpp>

namespace exo::mm {

template <class Memory>
class address_space<Memory>::paged {
public:
    explicit paged(Memory& memory) : memory_{memory} {}
    paged(const paged&) = delete;
    paged& operator=(const paged&) = delete;
    ~paged() { drop(); }

    // Whether fetch() got what an access to `a` in `r` needs.
    [[nodiscard]] bool is(const region& r, virt_addr a, access tried) const
    {
        return fetched_ && source_ == r.backing && index_ == r.page_index(a) && for_write_ == wants_write(r, tried);
    }
    [[nodiscard]] frame_number frame() const { return frame_; }
    // The reference found its place in a table.
    void given() { fetched_ = false; }

    void want(const region& r, virt_addr a, access tried)
    {
        drop();
        source_ = r.backing;
        index_ = r.page_index(a);
        for_write_ = wants_write(r, tried);
    }
    [[nodiscard]] result<> fetch()
    {
        frame_ = EXO_TRY(source_->get_page(index_, for_write_));
        fetched_ = true;
        return {};
    }

private:
    void drop()
    {
        if (std::exchange(fetched_, false))
            release_reference(memory_, frame_);
    }

    Memory& memory_;
    ref<pager> source_;
    std::uint64_t index_{};
    frame_number frame_;
    bool for_write_{};
    bool fetched_{};
};

template <class Memory>
result<fault_kind> address_space<Memory>::handle_fault(virt_addr a, access tried)
{
    for (;;) {
        const auto outcome = answer_fault(a, tried);
        if (outcome || outcome.error() != errors::out_of_memory || memory_.reclaimer.reclaim(memory_.parker) == 0)
            return outcome;
    }
}

template <class Memory>
result<fault_kind> address_space<Memory>::answer_fault(virt_addr a, access tried)
{
    paged have{memory_};
    for (;;) {
        {
            auto guard = lock();
            changes to{memory_, running_};
            const auto outcome = resolve(a, tried, have, to);
            to.flush();
            if (!outcome)
                return fail(outcome.error());
            if (*outcome) {
                memory_.counters.of(**outcome).add();
                return **outcome;
            }
        }
        if (const auto fetched = have.fetch(); !fetched)
            return fetched.error() == beyond_end ? fail(beyond_end, a.value()) : fail(fetched.error());
    }
}

template <class Memory>
auto address_space<Memory>::resolve(virt_addr a, access tried, paged& have, changes& to)
    -> result<std::optional<fault_kind>>
{
    const region& r = *EXO_TRY(region_for(a, tried));
    const auto page = a.align_down(page_size);
    auto here = page_tables_here();
    const auto found = here.find(page);
    if (allows(found.value, found.may_write, tried))
        return fault_kind::spurious;
    if (found.value == 0 && !r.backing)
        return fill_zero(r, page, to);
    if (found.value != 0 && r.kind == sharing::private_copy)
        return write_private(r, page, to);
    if (found.value != 0 && format::writable(found.value)) { // only a table above it is shared
        EXO_TRY(here.own(page, to));
        return fault_kind::made_writable;
    }
    if (!have.is(r, page, tried)) {
        have.want(r, page, tried);
        return std::nullopt;
    }
    const auto done = EXO_TRY(found.value == 0 ? fill_paged(r, page, tried, have.frame(), to)
                                               : write_shared(r, page, have.frame(), to));
    have.given();
    return done;
}

template <class Memory>
region* address_space<Memory>::grow_down_to(virt_addr a)
{
    region* stack = first_ending_after(a);
    if (!stack || stack->grows != growth::down)
        return nullptr;
    const auto begin = a.align_down(page_size);
    const region* below = regions_.previous(*stack);
    const auto floor = below ? below->range.end + stack_guard : layout_.lowest;
    if (begin < floor || stack->range.end - begin > stack->limit)
        return nullptr;
    regions_.erase(*stack);
    virtual_pages_ += (stack->range.begin - begin) >> page_shift;
    stack->range.begin = begin;
    regions_.insert(*stack);
    return stack;
}

// Errors: no_region, access_denied.
template <class Memory>
result<region*> address_space<Memory>::region_for(virt_addr a, access tried)
{
    region* r = region_of(a);
    if (!r)
        r = grow_down_to(a);
    if (!r)
        return fail(no_region, a.value());
    if (tried == access::read ? !accessible(r->access)
                              : !includes(r->access, tried == access::write ? protection::write : protection::execute))
        return fail(access_denied, a.value());
    return r;
}

template <class Memory>
bool address_space<Memory>::allows(entry e, bool may_write, access tried)
{
    if (e == 0 || !format::is_present(e))
        return false;
    return tried == access::read ||
           (tried == access::write ? may_write : includes(format::attributes(e, 0).access, protection::execute));
}

template <class Memory>
auto address_space<Memory>::leaf_for(const region& r, frame_number f, bool writable) const -> entry
{
    return format::leaf(f.address(), 0,
                        {.access = writable ? r.mapped_access() : without(r.mapped_access(), protection::write),
                         .software = r.kind == sharing::shared ? shared_leaf : std::uint8_t{}});
}

template <class Memory>
bool address_space<Memory>::is_sole(frame_number f) const
{
    return memory_.frames.manages(f) && memory_.frames.references(f) == 1;
}

template <class Memory>
result<frame_number> address_space<Memory>::copy_of(frame_number f)
{
    const auto copy = EXO_TRY(memory_.frames.allocate(0));
    __builtin_memcpy(memory_.memory_of(copy), memory_.memory_of(f), page_size);
    return copy;
}

template <class Memory>
result<fault_kind> address_space<Memory>::fill_zero(const region& r, virt_addr page, changes& to)
{
    const auto fresh = EXO_TRY(memory_.frames.allocate(0));
    __builtin_memset(memory_.memory_of(fresh), 0, page_size);
    auto here = page_tables_here();
    const auto at = here.own(page, to);
    if (!at) {
        memory_.frames.free(fresh, 0);
        return fail(at.error());
    }
    here.fill(*at, leaf_for(r, fresh, true));
    to.widened(page);
    ++resident_pages_;
    return fault_kind::demand_zero;
}

// Takes over the reference to `f` if it succeeds.
template <class Memory>
result<fault_kind> address_space<Memory>::fill_paged(const region& r, virt_addr page, access tried, frame_number f,
                                                     changes& to)
{
    const bool copy = r.kind == sharing::private_copy && tried == access::write && !is_sole(f);
    const auto mapped = copy ? EXO_TRY(copy_of(f)) : f;
    auto here = page_tables_here();
    const auto at = here.own(page, to);
    if (!at) {
        if (copy)
            memory_.frames.free(mapped, 0);
        return fail(at.error());
    }
    here.fill(*at, leaf_for(r, mapped, tried == access::write));
    to.widened(page);
    ++resident_pages_;
    if (copy)
        release_reference(memory_, f);
    return copy ? fault_kind::copied : fault_kind::paged_in;
}

// The page is there, for reading.
template <class Memory>
result<fault_kind> address_space<Memory>::write_private(const region& r, virt_addr page, changes& to)
{
    auto here = page_tables_here();
    const auto at = EXO_TRY(here.own(page, to));
    const frame_number old{format::address(here.load(at), 0)};
    to.widened(page);
    if (is_sole(old)) {
        here.allow_write(at.slot);
        return fault_kind::reused;
    }
    const auto copy = EXO_TRY(copy_of(old));
    here.replace(at, leaf_for(r, copy, true));
    to.invalidate_page(page);
    to.retire(old);
    return fault_kind::copied;
}

// The page is there, for reading; `f` is what the pager wants written. Takes over the reference if it succeeds.
template <class Memory>
result<fault_kind> address_space<Memory>::write_shared(const region& r, virt_addr page, frame_number f, changes& to)
{
    auto here = page_tables_here();
    const auto at = EXO_TRY(here.own(page, to));
    const frame_number old{format::address(here.load(at), 0)};
    here.replace(at, leaf_for(r, f, true));
    to.invalidate_page(page);
    to.retire(old);
    return fault_kind::made_writable;
}

template <class Memory>
result<> address_space<Memory>::populate(virt_range range, access tried)
{
    for (auto page = range.begin.align_down(page_size); page < range.end; page += page_size)
        (void)EXO_TRY(handle_fault(page, tried));
    return {};
}

template <class Memory>
template <class Step>
result<> address_space<Memory>::step_through(virt_addr at, std::size_t length, access tried, Step step)
{
    for (std::size_t done = 0; done < length;) {
        const auto a = at + done;
        const auto offset = a - a.align_down(page_size);
        const auto left_in_page = page_size - offset;
        const auto bytes = left_in_page < length - done ? left_in_page : length - done;
        {
            auto guard = lock();
            (void)EXO_TRY(region_for(a, tried));
            const auto found = page_tables_here().find(a);
            if (allows(found.value, found.may_write, tried)) {
                step(memory_.memory_of(frame_number{format::address(found.value, 0)}) + offset, done, bytes);
                done += bytes;
                continue;
            }
        }
        (void)EXO_TRY(handle_fault(a, tried));
    }
    return {};
}

template <class Memory>
result<> address_space<Memory>::read(virt_addr from, std::span<std::byte> into)
{
    return step_through(from, into.size(), access::read, [&](const std::byte* memory, std::size_t done, std::size_t n) {
        __builtin_memcpy(into.data() + done, memory, n);
    });
}

template <class Memory>
result<> address_space<Memory>::write(virt_addr to, std::span<const std::byte> from)
{
    return step_through(to, from.size(), access::write, [&](std::byte* memory, std::size_t done, std::size_t n) {
        __builtin_memcpy(memory, from.data() + done, n);
    });
}

} // namespace exo::mm
