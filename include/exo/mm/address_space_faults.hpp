// How an address space answers faults: the definitions behind address_space.hpp.
//
// Faults of threads whose CPUs have the space loaded go on beside each other, with interrupts off, and write nothing
// that they share but entries of tables, which they change by compare-exchange. What only one who is alone may do (a
// stack that grows, a large page that is split) is done under the space's lock.
//
// What takes long is made with the space unlocked: a pager is asked, which may sleep, or a large page is filled with
// zeros. Then the fault starts over, and uses what was made if it is still what is wanted.

#pragma once

#include <iterator>
#include <span>
#include <utility>

#include <exo/base/errors.hpp>
#include <exo/mm/address_space.hpp>
#include <exo/mm/errors.hpp>

namespace exo::mm {

template <class Memory>
class address_space<Memory>::prepared {
public:
    explicit prepared(Memory& memory) : memory_{memory} {}
    prepared(const prepared&) = delete;
    prepared& operator=(const prepared&) = delete;
    ~prepared()
    {
        drop();
        if (block_)
            memory_.frames.free(*block_, format::index_bits);
    }

    // A large page of zeros: whether it was asked for, which happens once, and what came of it.
    void want_block() { asks_for_block_ = asked_for_block_ = true; }
    [[nodiscard]] bool asked_for_block() const { return asked_for_block_; }
    [[nodiscard]] std::optional<frame_number> block() const { return block_; }
    void block_given() { block_.reset(); }

    // Whether fetch() got what an access to `a` in `r` needs.
    [[nodiscard]] bool is(const region& r, virt_addr a, access tried) const
    {
        return fetched_ && source_ == r.backing && wanted_.index == r.page_index(a) &&
               for_write_ == wants_write(r, tried) && generation_ == generation();
    }
    [[nodiscard]] frame_number frame() const { return wanted_.frame; }
    // The reference found its place in a table.
    void given() { fetched_ = false; }

    // The page for `a`, and those of `around` that need no waiting.
    void want(const region& r, virt_addr a, access tried, virt_range around)
    {
        drop();
        former_ = std::exchange(source_, r.backing);
        wanted_.index = r.page_index(a);
        for_write_ = wants_write(r, tried);
        generation_ = generation();
        first_around_ = r.page_index(around.begin);
        pages_around_ = around.size() >> page_shift;
    }
    [[nodiscard]] result<> fetch()
    {
        former_.reset();
        if (std::exchange(asks_for_block_, false)) {
            if (const auto fresh = memory_.frames.try_allocate(format::index_bits)) {
                memory_.zero(*fresh, hal::entries_per_table<format>);
                block_ = *fresh;
            }
            return {};
        }
        wanted_.frame = EXO_TRY(source_->get_page(wanted_.index, for_write_));
        fetched_ = true;
        if (pages_around_ > 1)
            around_ = source_->get_present_pages(
                first_around_, std::span{present_}.first(pages_around_ < most ? pages_around_ : most));
        return {};
    }
    // Calls use(object_page) for each page beside the one wanted; it tells whether it took over the reference.
    template <class Use>
    void use_around(Use use)
    {
        for (std::size_t i = 0; i < around_; ++i)
            if (present_[i].index == wanted_.index || !use(present_[i]))
                release_reference(memory_, present_[i].frame);
        around_ = 0;
    }

private:
    static constexpr std::size_t most = 16;

    // It changes when pages that may have been fetched before are no longer to be used.
    [[nodiscard]] std::uint64_t generation() const
    {
        const object_mappings* const mapped = source_->mappings();
        return mapped ? mapped->generation() : 0;
    }
    void drop()
    {
        if (std::exchange(fetched_, false))
            release_reference(memory_, wanted_.frame);
        use_around([](const object_page&) { return false; });
    }

    Memory& memory_;
    ref<pager> source_;
    ref<pager> former_; // which may end with its last reference, and sleep
    object_page wanted_;
    std::uint64_t first_around_{};
    std::uint64_t pages_around_{};
    object_page present_[most];
    std::size_t around_{};
    std::uint64_t generation_{};
    bool for_write_{};
    bool fetched_{};

    std::optional<frame_number> block_;
    bool asked_for_block_{};
    bool asks_for_block_{};
};

template <class Memory>
result<fault_kind> address_space<Memory>::handle_fault(virt_addr a, access tried)
{
    return EXO_TRY(fill_in(a, tried, {})).kind;
}

template <class Memory>
auto address_space<Memory>::fill_in(virt_addr a, access tried, virt_addr until) -> result<filled>
{
    prepared have{memory_};
    const auto attempt = [&](company with) {
        changes to{memory_, holders_, with};
        auto outcome = resolve(a, tried, until, have, to);
        to.flush();
        return outcome;
    };
    constexpr unsigned most_waits = 4;
    for (unsigned waits = 0;;) {
        bool kept_out = false;
        auto outcome = memory_.reclaimer.retry(memory_.parker, [&]() -> result<std::optional<filled>> {
            if (until != virt_addr{})
                return fail(errors::busy); // many pages take long, and interrupts would be off
            const auto inside = memory_.shootdown.enter(holders_);
            kept_out = inside.kept_out();
            return inside ? attempt(company::beside_others) : fail(errors::busy);
        });
        // Who goes on alone keeps others out in turn: then they would all go on one after another.
        if (kept_out && waits++ < most_waits) {
            (void)lock_.lock(memory_.parker);
            continue;
        }
        if (!outcome && outcome.error() == errors::busy) {
            auto guard = lock();
            outcome = attempt(company::alone);
            EXO_CHECK(outcome || outcome.error() != errors::busy);
        }
        if (!outcome)
            return fail(outcome.error());
        if (*outcome) {
            memory_.counters().of((*outcome)->kind).add();
            return **outcome;
        }
        if (const auto fetched = memory_.reclaimer.retry(memory_.parker, [&] { return have.fetch(); }); !fetched)
            return fetched.error() == beyond_end ? fail(beyond_end, a.value()) : fail(fetched.error());
    }
}

template <class Memory>
auto address_space<Memory>::resolve(virt_addr a, access tried, virt_addr until, prepared& have, changes& to)
    -> result<std::optional<filled>>
{
    const region& r = *EXO_TRY(region_for(a, tried, to.alone() ? company::alone : company::beside_others));
    const auto page = a.align_down(page_size);
    auto here = page_tables_here();
    const auto found = here.find(page);
    const auto step = hal::bytes_at<format>(found.level);
    const auto just = [&](fault_kind kind) { return filled{kind, page.align_down(step) + step}; };
    if (allows(found, tried))
        return just(fault_kind::spurious);
    if (found.value == 0 && !r.backing)
        return fill_zero(r, page, found.level, until, have, to);
    if (found.value != 0 && r.kind == sharing::private_copy)
        return filled{EXO_TRY(write_private(r, page, found.level, to)), page + page_size};
    if (found.value != 0 && format::writable(found.value)) { // only a table above it is shared
        EXO_TRY(here.own(page, to, found.level));
        return just(fault_kind::made_writable);
    }
    if (!have.is(r, page, tried)) {
        have.want(r, page, tried, tried == access::write ? virt_range{} : neighbours_of(r, page, until));
        return std::nullopt;
    }
    const auto done = found.value == 0 ? EXO_TRY(fill_paged(r, page, tried, have, to))
                                       : filled{EXO_TRY(write_shared(r, page, have.frame(), to)), page + page_size};
    if (done.kind != fault_kind::spurious)
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

// Errors: no_region, access_denied; busy, if a region would have to grow and others are there.
template <class Memory>
result<region*> address_space<Memory>::region_for(virt_addr a, access tried, company with)
{
    region* r = region_of(a);
    if (!r && with == company::beside_others)
        return fail(errors::busy);
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
bool address_space<Memory>::allows(const typename tables::found& found, access tried)
{
    if (found.value == 0 || !format::is_present(found.value))
        return false;
    return tried == access::read ||
           (tried == access::write
                ? found.may_write
                : includes(format::attributes(found.value, found.level).access, protection::execute));
}

// Errors: busy, while another fault is at it (change_page); who is alone then comes after that.
template <class Memory>
auto address_space<Memory>::unchanging(entry leaf) -> result<entry>
{
    if (format::attributes(leaf, 0).software & changing_leaf)
        return fail(errors::busy);
    return leaf;
}

template <class Memory>
auto address_space<Memory>::leaf_for(const region& r, frame_number f, bool writable, unsigned level,
                                     std::uint8_t more) const -> entry
{
    return format::leaf(f.address(), level,
                        {.access = writable ? r.mapped_access() : without(r.mapped_access(), protection::write),
                         .software = static_cast<std::uint8_t>(r.kind == sharing::shared ? shared_leaf | more : more)});
}

template <class Memory>
bool address_space<Memory>::is_sole(frame_number f) const
{
    return memory_.frames.manages(f) && memory_.frames.references(memory_.frames.block_of(f)) == 1;
}

template <class Memory>
result<frame_number> address_space<Memory>::copy_of(frame_number f, changes& to)
{
    const auto copy = EXO_TRY(to.allocate_frame());
    memory_.copy_page(copy, f);
    return copy;
}

// What one table at level 0 holds around `page`, of the region.
template <class Memory>
virt_range address_space<Memory>::in_one_table(const region& r, virt_addr page)
{
    const auto bytes = hal::bytes_at<format>(1);
    return virt_range::of_size(page.align_down(bytes), bytes).intersection(r.range);
}

template <class Memory>
virt_range address_space<Memory>::neighbours_of(const region& r, virt_addr page, virt_addr until) const
{
    const auto table = in_one_table(r, page);
    return page < until ? virt_range{page, until < table.end ? until : table.end}
                        : memory_.fill.neighbours(r, page).intersection(table);
}

// `page` is absent at `level`.
template <class Memory>
auto address_space<Memory>::fill_zero(const region& r, virt_addr page, unsigned level, virt_addr until, prepared& have,
                                      changes& to) -> result<std::optional<filled>>
{
    const auto block = virt_range::of_size(page.align_down(hal::bytes_at<format>(1)), hal::bytes_at<format>(1));
    if (level > 0 && wants_large(r, block)) {
        if (!have.asked_for_block()) {
            have.want_block();
            return std::nullopt;
        }
        if (fill_large(r, block, have, to))
            return filled{fault_kind::demand_zero, block.end};
    }
    const auto table_end = in_one_table(r, page).end;
    const auto wanted = page < until ? (until - page) >> page_shift
                                     : memory_.fill.zeroed_pages(r, page, pages_before(r, page), memory_.left());
    const auto room = (table_end - page) >> page_shift;
    const auto count = wanted < room ? wanted : room;

    auto here = page_tables_here();
    const auto first = EXO_TRY(to.allocate_frame());
    const auto at = here.own(page, to);
    if (!at) {
        memory_.frames.free(first, 0);
        return fail(at.error());
    }
    std::uint64_t done = 0;
    const auto slot = [&](std::uint64_t i) { return typename tables::owned_slot{at->slot + i, at->table}; };
    const auto put = [&](frame_number f) {
        memory_.zero(f);
        if (!here.fill(slot(done), leaf_for(r, f, true))) {
            memory_.frames.free(f, 0);
            return false;
        }
        to.widened(page + done * page_size);
        ++done;
        return true;
    };
    if (!put(first))
        return filled{fault_kind::spurious, page + page_size};
    for (bool goes_on = true; goes_on && done < count;) { // as far as nothing is in the way, and memory is at hand
        frame_number ahead[16];
        std::uint64_t free = 0;
        while (free < std::size(ahead) && done + free < count && here.load(slot(done + free)) == 0)
            ++free;
        const auto taken = free == 0 ? 0 : to.allocate_ahead(std::span{ahead}.first(free));
        goes_on = taken != 0;
        for (std::size_t i = 0; i < taken; ++i) {
            goes_on = goes_on && put(ahead[i]);
            if (!goes_on && i + 1 < taken)
                memory_.frames.free(ahead[i + 1], 0);
        }
    }
    memory_.counters().pages_filled_ahead.add(done - 1);
    return filled{fault_kind::demand_zero, page + done * page_size};
}

// What a fill policy is told.
template <class Memory>
std::uint64_t address_space<Memory>::pages_before(const region& r, virt_addr page)
{
    constexpr std::uint64_t most = 16;
    const auto room = (page - r.range.begin) >> page_shift;
    return room == 0 ? 0 : page_tables_here().present_before(page, room < most ? room : most);
}

template <class Memory>
bool address_space<Memory>::wants_large(const region& r, virt_range block) const
{
    return format::largest_leaf_level >= 1 && block.intersection(r.range) == block &&
           memory_.fill.wants_large(r, block, memory_.left());
}

// Whether there was a large page, and room for it.
template <class Memory>
bool address_space<Memory>::fill_large(const region& r, virt_range block, prepared& have, changes& to)
{
    if (!have.block())
        return false;
    auto here = page_tables_here();
    const auto at = here.own(block.begin, to, 1);
    if (!at || !here.fill(*at, leaf_for(r, *have.block(), true, 1)))
        return false;
    have.block_given();
    to.widened(block.begin, 1);
    memory_.counters().large_pages_filled.add();
    return true;
}

// Takes over the reference to the page wanted if it succeeds.
template <class Memory>
auto address_space<Memory>::fill_paged(const region& r, virt_addr page, access tried, prepared& have, changes& to)
    -> result<filled>
{
    const frame_number f = have.frame();
    const bool copy = r.kind == sharing::private_copy && tried == access::write && !is_sole(f);
    const auto mapped = copy ? EXO_TRY(copy_of(f, to)) : f;
    auto here = page_tables_here();
    const auto at = here.own(page, to);
    const bool done = at && here.fill(*at, leaf_for(r, mapped, tried == access::write));
    if (!done && copy)
        memory_.frames.free(mapped, 0);
    if (!at)
        return fail(at.error());
    if (!done)
        return filled{fault_kind::spurious, page + page_size};
    to.widened(page);
    auto end = page + page_size;
    if (copy)
        release_reference(memory_, f);
    const auto table = in_one_table(r, page);
    have.use_around([&](const object_page& other) {
        const auto v = r.range.begin + ((other.index - (r.offset >> page_shift)) << page_shift);
        const typename tables::owned_slot beside{
            at->slot + (static_cast<std::int64_t>(v.value() - page.value()) >> page_shift), at->table};
        if (!table.contains(v) || here.load(beside) != 0 || // the region may have changed meanwhile
            !here.fill(beside, leaf_for(r, other.frame, false)))
            return false;
        to.widened(v);
        memory_.counters().pages_filled_ahead.add();
        if (v == end)
            end = v + page_size;
        return true;
    });
    return filled{copy ? fault_kind::copied : fault_kind::paged_in, end};
}

// The page is there, for reading, in a page of `level`.
template <class Memory>
result<fault_kind> address_space<Memory>::write_private(const region& r, virt_addr page, unsigned level, changes& to)
{
    auto here = page_tables_here();
    auto at = EXO_TRY(here.own(page, to, level));
    to.widened(page, level);
    auto leaf = EXO_TRY(unchanging(here.load(at)));
    const frame_number mapped{format::address(leaf, level)};
    if (level == 0)
        EXO_TRY(here.come_apart(at, mapped, to));
    if (format::writable(leaf) || is_sole(mapped)) { // or another fault copied it
        here.allow_write(at.slot, leaf);
        return fault_kind::reused;
    }
    if (level > 0) { // only the part that is written is copied
        at = EXO_TRY(here.own(page, to));
        leaf = EXO_TRY(unchanging(here.load(at)));
    }
    const auto copy = EXO_TRY(copy_of(frame_number{format::address(leaf, 0)}, to));
    if (!change_page(here, at, leaf, r, page, copy, to)) {
        memory_.frames.free(copy, 0);
        return fault_kind::spurious;
    }
    return fault_kind::copied;
}

// The page is there, for reading; `f` is what the pager wants written. Takes over the reference if it succeeds.
template <class Memory>
result<fault_kind> address_space<Memory>::write_shared(const region& r, virt_addr page, frame_number f, changes& to)
{
    auto here = page_tables_here();
    const auto at = EXO_TRY(here.own(page, to));
    const auto leaf = EXO_TRY(unchanging(here.load(at)));
    if (format::writable(leaf) || !change_page(here, at, leaf, r, page, f, to))
        return fault_kind::spurious;
    return fault_kind::made_writable;
}

// In place of what `leaf` says, the page is `f` from now on, and may be written. Nobody writes there while a CPU
// remembers another page: what that reads would be older than what it may have been told of meanwhile. False, beside
// others: another leaf is there by now.
template <class Memory>
bool address_space<Memory>::change_page(tables& here, const typename tables::owned_slot& at, entry leaf, const region& r,
                                        virt_addr page, frame_number f, changes& to)
{
    const frame_number old{format::address(leaf, 0)};
    const auto changed = leaf_for(r, f, true);
    const bool at_once = f == old || !memory_.shootdown.has_others();
    const auto first = at_once ? changed : leaf_for(r, f, false, 0, changing_leaf);
    if (!here.replace(at, leaf, first))
        return false;
    to.invalidate_page(page);
    to.retire(old);
    if (!at_once) {
        to.flush();
        EXO_CHECK(here.replace(at, first, changed)); // the others leave what is changing alone
        to.widened(page);
    }
    return true;
}

template <class Memory>
result<> address_space<Memory>::populate(virt_range range, access tried)
{
    for (auto page = range.begin.align_down(page_size); page < range.end;)
        page = EXO_TRY(fill_in(page, tried, range.end)).end;
    return {};
}

template <class Memory>
result<> address_space<Memory>::populate(virt_range range)
{
    const auto done = for_each_part(range, [this](const region_info& r, virt_range part) {
        const bool copies = r.kind == sharing::private_copy && includes(r.access, protection::write);
        return populate(part, copies ? access::write : access::read);
    });
    return done.has_value() || done.error() == not_mapped ? result<>{} : done;
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
            if (allows(found, tried)) {
                step(memory_.memory_of(found.frame_at(a)) + offset, done, bytes);
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
