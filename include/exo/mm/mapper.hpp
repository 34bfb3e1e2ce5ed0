// Mapping, unmapping, protecting, merging and translating pages in one hierarchy of page tables.
//
// Needs frames for tables and nothing else: no heap, no records about frames. Frames that pages are mapped to belong to
// the caller. Every call succeeds or changes no translation: what it needs is found and reserved first. What CPUs must
// forget, and tables that went out of use, are recorded in the caller's flush_batch, which the caller flushes.
// Calls on one hierarchy are serialized by the caller; hardware marks entries accessed and dirty at any time. Tables that
// several hierarchies share are table_sharing.hpp's.

#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include <exo/base/address.hpp>
#include <exo/base/check.hpp>
#include <exo/base/range.hpp>
#include <exo/base/result.hpp>
#include <exo/hal/entry_store.hpp>
#include <exo/hal/frame_source.hpp>
#include <exo/hal/phys_access.hpp>
#include <exo/hal/pte_format.hpp>
#include <exo/mm/errors.hpp>
#include <exo/mm/page_table.hpp>
#include <exo/mm/protection.hpp>

namespace exo::mm {

// What a range call does about parts of its range that are not mapped.
enum class holes : bool { refuse, skip };

template <hal::PteFormat Format, hal::PhysAccess Phys, hal::EntryStore<typename Format::entry> Entries,
          hal::FrameSource Frames>
class mapper {
public:
    using format = Format;
    using entry = typename Format::entry;
    using tables = page_tables<Format, Phys, Entries>;

    // `root`, a table at the root's level, belongs to the caller.
    mapper(phys_addr root, Phys& memory, Entries& entries, Frames& frames)
        : root_{root}, tables_{memory, entries}, frames_{frames}
    {
    }

    [[nodiscard]] phys_addr root() const { return root_; }
    [[nodiscard]] const tables& walker() const { return tables_; }

    // The page of bytes_at<Format>(level) bytes at `v` becomes `a`.
    // Errors: already_mapped, misaligned, non_canonical, out_of_range, out_of_memory.
    // Inlined because that halves its cost: most of the checks fold away.
    template <class Batch>
    [[nodiscard, gnu::always_inline]] result<> map_page(virt_addr v, phys_addr a, const page_attributes& x,
                                                        Batch& batch, unsigned level = 0)
    {
        const std::uint64_t bytes = hal::bytes_at<Format>(level);
        EXO_CHECK(level <= Format::largest_leaf_level);
        EXO_TRY(check_page(v, bytes));
        EXO_TRY(check_physical(a, bytes, bytes));
        place found = tables_.find(root_, v);
        if (found.value != 0 || found.level < level) [[unlikely]]
            return map({v, bytes}, {a.value() - v.value(), x, level}, batch);
        if (found.level > level) [[unlikely]]
            found = EXO_TRY(descend(found, v, level));
        entries().store(found.slot, Format::leaf(a, level, x));
        if constexpr (Format::caches_absent)
            batch.invalidate(v, bytes, 1, x.global);
        entries().publish();
        return {};
    }

    // The page, of whatever size, that starts at `v` is no longer mapped. Returns what it was.
    // Errors: not_mapped, misaligned (`v` is inside a larger page), non_canonical.
    template <class Batch>
    [[nodiscard]] result<translation> unmap_page(virt_addr v, Batch& batch)
    {
        const place leaf = EXO_TRY(find_page(v));
        const entry old = remove_leaf(leaf.slot, v, leaf.level, batch);
        entries().publish();
        return tables::describe(old, leaf.level, v);
    }

    // The page that starts at `v` grants `access`. Errors: as unmap_page.
    template <class Batch>
    [[nodiscard]] result<> protect_page(virt_addr v, protection access, Batch& batch)
    {
        const place leaf = EXO_TRY(find_page(v));
        protect_leaf(leaf.slot, v, leaf.level, access, batch);
        entries().publish();
        return {};
    }

    // What the byte at `v` is mapped to, or remembered to be if nobody may touch it. Errors: not_mapped, non_canonical.
    [[nodiscard]] result<translation> translate(virt_addr v) const
    {
        if (!Format::is_canonical(v)) [[unlikely]]
            return fail(non_canonical, v.value());
        const place found = tables_.find(root_, v);
        if (!Format::is_leaf(found.value, found.level)) [[unlikely]]
            return fail(not_mapped, v.value());
        return tables::describe(found.value, found.level, v);
    }

    // The same for the first of `range`, any bytes, with how much of the range is a run from there on, whatever the
    // sizes of its pages: from run to run this gives what a device is told of a buffer.
    // Errors: not_mapped, of the first byte; non_canonical.
    [[nodiscard]] result<translated_run> translate_run(virt_range range) const
    {
        const extent all = EXO_TRY(check_bytes(range));
        translated_run run{EXO_TRY(translate(range.begin)), 0};
        for (translation next = run.first;;) {
            const std::uint64_t page = hal::bytes_at<Format>(next.level);
            run.bytes += page - ((range.begin.value() + run.bytes) & (page - 1));
            if (run.bytes >= all.bytes) {
                run.bytes = all.bytes;
                return run;
            }
            const virt_addr v = range.begin + run.bytes;
            const place found = tables_.find(root_, v);
            if (!Format::is_leaf(found.value, found.level))
                return run;
            next = tables::describe(found.value, found.level, v);
            if (next.address != run.first.address + run.bytes || next.attributes != run.first.attributes)
                return run;
        }
    }

    // `range` becomes the physical range that starts at `a`, in the largest pages up to `largest_level` that alignment
    // allows. Errors: as map_page; already_mapped names the first mapped address.
    template <class Batch>
    [[nodiscard]] result<> map_range(virt_range range, phys_addr a, const page_attributes& x, Batch& batch,
                                     unsigned largest_level = Format::baseline_leaf_level)
    {
        EXO_CHECK(largest_level <= Format::largest_leaf_level);
        const extent all = EXO_TRY(check_range(range));
        EXO_TRY(check_physical(a, all.bytes, page_size));
        return map(all, {a.value() - all.begin.value(), x, largest_level}, batch);
    }

    // Nothing in `range` is mapped any longer; larger pages that stick out are split. Tables that the range covers go
    // too, except those right below the root.
    // Errors: not_mapped with the first such address, misaligned, non_canonical, out_of_memory (for a split).
    template <class Batch>
    [[nodiscard]] result<> unmap_range(virt_range range, Batch& batch, holes about = holes::refuse)
    {
        const extent all = EXO_TRY(check_range(range));
        findings found;
        EXO_TRY(survey(top(), hal::root_level<Format>, all, about, found));
        spare_tables spare{*this};
        EXO_TRY(spare.reserve(found.tables_needed));
        remove(top(), hal::root_level<Format>, all, found.global, spare, batch);
        entries().publish();
        return {};
    }

    // Everything in `range` grants `access`. Errors: as unmap_range.
    template <class Batch>
    [[nodiscard]] result<> protect_range(virt_range range, protection access, Batch& batch,
                                         holes about = holes::refuse)
    {
        const extent all = EXO_TRY(check_range(range));
        findings found;
        EXO_TRY(survey(top(), hal::root_level<Format>, all, about, found));
        spare_tables spare{*this};
        EXO_TRY(spare.reserve(found.tables_needed));
        protect(top(), hal::root_level<Format>, all, access, spare, batch);
        entries().publish();
        return {};
    }

    // In `range`, what full tables map becomes larger pages up to `largest_level`, wherever it lies in a row, aligned, and
    // alike but for marks: those of all are the larger page's. Returns how many larger pages it made.
    // While one is made, what it maps is absent, so it must not hold what this code needs.
    // Errors: misaligned, non_canonical.
    template <class Batch>
    [[nodiscard]] result<std::size_t> merge_range(virt_range range, Batch& batch,
                                                  unsigned largest_level = Format::baseline_leaf_level)
    {
        EXO_CHECK(largest_level <= Format::largest_leaf_level);
        const extent all = EXO_TRY(check_range(range));
        const std::size_t made = merge(top(), hal::root_level<Format>, all, largest_level, batch);
        entries().publish();
        return made;
    }

    // Nothing is mapped any longer, and every table but the root goes.
    template <class Batch>
    void clear(Batch& batch)
    {
        batch.invalidate_everything(true);
        for (unsigned i = 0; i < hal::entries_per_table<Format>; ++i)
            if (entries().load(top() + i) != 0)
                retire_below(entries().exchange(top() + i, 0), hal::root_level<Format>, batch);
        entries().publish();
    }

private:
    using place = typename tables::place;

    struct findings {
        std::size_t tables_needed{};
        bool global{}; // a page among them is tagged as shared by all address spaces
    };

    // A range whose end may be that of the address space.
    struct extent {
        virt_addr begin;
        std::uint64_t bytes;

        [[nodiscard]] bool covers(unsigned level) const { return bytes == hal::bytes_at<Format>(level); }
    };

    // An extent, cut at the boundaries of the entries of one level.
    class parts {
    public:
        parts(extent whole, unsigned level) : rest_{whole}, step_{hal::bytes_at<Format>(level)} {}

        [[nodiscard]] bool empty() const { return rest_.bytes == 0; }
        [[nodiscard]] extent front() const
        {
            const std::uint64_t room = step_ - (rest_.begin.value() & (step_ - 1));
            return {rest_.begin, room < rest_.bytes ? room : rest_.bytes};
        }
        void pop_front()
        {
            const std::uint64_t bytes = front().bytes;
            rest_ = {rest_.begin + bytes, rest_.bytes - bytes};
        }

    private:
        extent rest_;
        std::uint64_t step_;
    };

    // What a mapping call asks for: `v` becomes the physical address `v + distance`.
    struct wish {
        std::uint64_t distance;
        page_attributes attributes;
        unsigned largest_level;

        [[nodiscard]] phys_addr target(virt_addr v) const { return phys_addr{v.value() + distance}; }
        [[nodiscard]] bool fits(extent e, unsigned level) const
        {
            return level <= largest_level && e.covers(level) && target(e.begin).is_aligned(e.bytes);
        }
    };

    // Tables reserved before anything changes, linked through their own memory. Those not taken go back.
    class spare_tables {
    public:
        explicit spare_tables(mapper& owner) : mapper_{owner} {}
        spare_tables(const spare_tables&) = delete;
        spare_tables& operator=(const spare_tables&) = delete;
        ~spare_tables()
        {
            while (count_ > 0)
                mapper_.frames_.free(frame_number{take()}, 0);
        }

        // Errors: out_of_memory.
        [[nodiscard]] result<> reserve(std::size_t count)
        {
            while (count_ < count) {
                const phys_addr table = EXO_TRY(mapper_.frames_.allocate(0)).address();
                *mapper_.tables_.table_at(table) = static_cast<entry>(newest_.value());
                newest_ = table;
                ++count_;
            }
            return {};
        }
        // Contents are indeterminate.
        [[nodiscard]] phys_addr take()
        {
            EXO_CHECK(count_ > 0);
            --count_;
            return std::exchange(newest_, phys_addr{*mapper_.tables_.table_at(newest_)});
        }

    private:
        mapper& mapper_;
        phys_addr newest_;
        std::size_t count_{};
    };

    [[nodiscard]] Entries& entries() const { return tables_.entries(); }
    [[nodiscard]] entry* top() const { return tables_.table_at(root_); }

    [[nodiscard]] static result<> check_page(virt_addr v, std::uint64_t bytes)
    {
        if (!v.is_aligned(bytes)) [[unlikely]]
            return fail(misaligned, v.value());
        if (!Format::is_canonical(v)) [[unlikely]]
            return fail(non_canonical, v.value());
        return {};
    }
    [[nodiscard]] static result<extent> check_range(virt_range range)
    {
        if (!range.end.is_aligned(page_size))
            return fail(misaligned, range.end.value());
        if (!range.begin.is_aligned(page_size))
            return fail(misaligned, range.begin.value());
        return check_bytes(range);
    }
    [[nodiscard]] static result<extent> check_bytes(virt_range range)
    {
        const extent all{range.begin, range.size()};
        if (!Format::is_canonical(range.begin))
            return fail(non_canonical, range.begin.value());
        // Within one half of the address space, and not backward.
        const virt_addr last = range.end - 1;
        if (all.bytes != 0 && (last < range.begin || !Format::is_canonical(last) ||
                               ((last.value() ^ range.begin.value()) >> 63) != 0))
            return fail(non_canonical, last.value());
        return all;
    }
    [[nodiscard]] static result<> check_physical(phys_addr a, std::uint64_t bytes, std::uint64_t alignment)
    {
        if (!a.is_aligned(alignment)) [[unlikely]]
            return fail(misaligned, a.value());
        if (bytes > Format::physical_limit.value() || a > Format::physical_limit - bytes) [[unlikely]]
            return fail(out_of_range, a.value());
        return {};
    }

    // The leaf of the page that starts at `v`.
    [[nodiscard]] result<place> find_page(virt_addr v) const
    {
        EXO_TRY(check_page(v, page_size));
        const place found = tables_.find(root_, v);
        if (found.value == 0) [[unlikely]]
            return fail(not_mapped, v.value());
        if (!v.is_aligned(hal::bytes_at<Format>(found.level))) [[unlikely]]
            return fail(misaligned, v.value());
        return found;
    }

    // Mapping.

    // The empty entry at `level` on the path of `v`, below the empty entry `from`, with empty tables in between.
    // Errors: out_of_memory. Kept out of line so that map_page, which seldom needs it, stays small.
    [[nodiscard]] [[gnu::noinline]] result<place> descend(place from, virt_addr v, unsigned level)
    {
        spare_tables spare{*this};
        EXO_TRY(spare.reserve(from.level - level));
        while (from.level > level) {
            const phys_addr table = spare.take();
            __builtin_memset(tables_.table_at(table), 0, page_size);
            entries().store(from.slot, Format::table(table));
            from = {tables_.slot_in(table, v, from.level - 1), 0, from.level - 1};
        }
        return from;
    }

    // Kept out of line so that map_page, which seldom needs it, stays small.
    template <class Batch>
    [[nodiscard]] [[gnu::noinline]] result<> map(extent all, const wish& asked, Batch& batch)
    {
        std::size_t needed = 0;
        EXO_TRY(survey_unmapped(top(), hal::root_level<Format>, all, asked, needed));
        spare_tables spare{*this};
        EXO_TRY(spare.reserve(needed));
        fill(top(), hal::root_level<Format>, all, asked, false, spare, batch);
        if constexpr (Format::caches_absent) {
            const bool one_page = asked.fits(all, asked.largest_level) && all.begin.is_aligned(all.bytes);
            const std::uint64_t step = one_page ? all.bytes : page_size;
            batch.invalidate(all.begin, step, all.bytes / step, asked.attributes.global);
        }
        entries().publish();
        return {};
    }

    // Tables needed to map or cut out `part`, which one entry at `level` covers; `is_leaf` says where a leaf will do.
    template <class IsLeaf>
    [[nodiscard]] static std::size_t count_tables(extent part, unsigned level, const IsLeaf& is_leaf)
    {
        if (is_leaf(part, level))
            return 0;
        std::size_t count = 1;
        if (level > 1) // in a table at level 0 everything is a leaf
            for (parts below{part, level - 1}; !below.empty(); below.pop_front())
                count += count_tables(below.front(), level - 1, is_leaf);
        return count;
    }

    // Errors: already_mapped. Counts the tables that mapping will take.
    [[nodiscard]] result<> survey_unmapped(const entry* table, unsigned level, extent all, const wish& asked,
                                           std::size_t& needed) const
    {
        if (level == 0)
            return check_empty(table + hal::index_at<Format>(all.begin, 0), all.bytes >> page_shift, 0, all.begin);
        for (parts rest{all, level}; !rest.empty(); rest.pop_front()) {
            const extent part = rest.front();
            const entry value = entries().load(table + hal::index_at<Format>(part.begin, level));
            if (value == 0) {
                needed += count_tables(part, level, [&](extent e, unsigned l) { return asked.fits(e, l); });
            } else if (!Format::is_table(value, level)) {
                return fail(already_mapped, part.begin.value());
            } else if (asked.fits(part, level)) {
                EXO_TRY(check_empty(tables_.table_below(value, level), hal::entries_per_table<Format>, level - 1,
                                    part.begin));
            } else {
                EXO_TRY(survey_unmapped(tables_.table_below(value, level), level - 1, part, asked, needed));
            }
        }
        return {};
    }

    // Whether there is no leaf in or below `count` entries at `level`, the first of which stands for `v`.
    // Errors: already_mapped.
    [[nodiscard]] result<> check_empty(const entry* slot, std::uint64_t count, unsigned level, virt_addr v) const
    {
        for (; count > 0; --count, ++slot, v += hal::bytes_at<Format>(level)) {
            const entry value = entries().load(slot);
            if (value == 0) [[likely]]
                continue;
            if (!Format::is_table(value, level))
                return fail(already_mapped, v.value());
            EXO_TRY(check_empty(tables_.table_below(value, level), hal::entries_per_table<Format>, level - 1, v));
        }
        return {};
    }

    // A `fresh` table is not linked yet, and its entries for `all` are indeterminate. Tables are filled before they are
    // linked, so a walker never meets one half done.
    template <class Batch>
    void fill(entry* table, unsigned level, extent all, const wish& asked, bool fresh, spare_tables& spare,
              Batch& batch)
    {
        if (level == 0)
            return fill_leaves(table + hal::index_at<Format>(all.begin, 0), all, asked);
        for (parts rest{all, level}; !rest.empty(); rest.pop_front()) {
            const extent part = rest.front();
            entry* slot = table + hal::index_at<Format>(part.begin, level);
            const entry old = fresh ? 0 : entries().load(slot);
            if (asked.fits(part, level)) {
                const entry leaf = Format::leaf(asked.target(part.begin), level, asked.attributes);
                if (old == 0) {
                    entries().store(slot, leaf);
                } else { // a table without leaves
                    entries().exchange(slot, leaf);
                    batch.invalidate_everything(false);
                    retire_below(old, level, batch);
                }
            } else if (old == 0) {
                const phys_addr below = spare.take();
                zero_around(tables_.table_at(below), level - 1, part);
                fill(tables_.table_at(below), level - 1, part, asked, true, spare, batch);
                entries().store(slot, Format::table(below));
            } else {
                fill(tables_.table_below(old, level), level - 1, part, asked, false, spare, batch);
            }
        }
    }

    void fill_leaves(entry* slot, extent all, const wish& asked)
    {
        entry value = Format::leaf(asked.target(all.begin), 0, asked.attributes);
        const entry step = Format::leaf(phys_addr{page_size}, 0, asked.attributes) -
                           Format::leaf(phys_addr{0}, 0, asked.attributes);
        Entries& store = entries();
        const std::uint64_t count = all.bytes >> page_shift;
#pragma GCC unroll 4
        for (std::uint64_t i = 0; i < count; ++i, value += step)
            store.store(slot + i, value);
    }

    // Empties the entries of an unlinked table at `level` that do not stand for `all`.
    static void zero_around(entry* table, unsigned level, extent all)
    {
        const unsigned first = hal::index_at<Format>(all.begin, level);
        const unsigned last = hal::index_at<Format>(all.begin + (all.bytes - 1), level);
        __builtin_memset(table, 0, first * sizeof(entry));
        __builtin_memset(table + last + 1, 0, (hal::entries_per_table<Format> - 1 - last) * sizeof(entry));
    }

    // Removing and protecting.

    // Whether removing `part` takes away the whole table that an entry at `level` refers to.
    [[nodiscard]] static bool removes_table(extent part, unsigned level)
    {
        return level < hal::root_level<Format> && part.covers(level);
    }

    // Errors: not_mapped. Finds out what removing or protecting will take.
    [[nodiscard]] result<> survey(const entry* table, unsigned level, extent all, holes about, findings& found) const
    {
        if (level == 0)
            return survey_leaves(table + hal::index_at<Format>(all.begin, 0), all, about, found);
        for (parts rest{all, level}; !rest.empty(); rest.pop_front()) {
            const extent part = rest.front();
            const entry value = entries().load(table + hal::index_at<Format>(part.begin, level));
            if (value == 0) {
                if (about == holes::refuse)
                    return fail(not_mapped, part.begin.value());
            } else if (!Format::is_table(value, level)) {
                found.global |= Format::is_global(value);
                found.tables_needed += count_tables(part, level, [](extent e, unsigned l) { return e.covers(l); });
            } else {
                EXO_TRY(survey(tables_.table_below(value, level), level - 1, part, about, found));
            }
        }
        return {};
    }

    [[nodiscard]] result<> survey_leaves(const entry* slot, extent all, holes about, findings& found) const
    {
        entry seen = 0;
        const std::uint64_t count = all.bytes >> page_shift;
        Entries& loads = entries();
#pragma GCC unroll 4
        for (std::uint64_t i = 0; i < count; ++i) {
            const entry value = loads.load(slot + i);
            if (value == 0 && about == holes::refuse) [[unlikely]]
                return fail(not_mapped, all.begin.value() + i * page_size);
            seen |= value;
        }
        found.global |= Format::is_global(seen);
        return {};
    }

    template <class Batch>
    void remove(entry* table, unsigned level, extent all, bool global, spare_tables& spare, Batch& batch)
    {
        for (parts rest{all, level}; !rest.empty(); rest.pop_front()) {
            const extent part = rest.front();
            entry* slot = table + hal::index_at<Format>(part.begin, level);
            const entry value = entries().load(slot);
            if (value == 0)
                continue;
            if (Format::is_leaf(value, level) && part.covers(level)) {
                remove_leaf(slot, part.begin, level, batch);
            } else if (Format::is_table(value, level) && removes_table(part, level)) {
                entries().exchange(slot, 0);
                batch.invalidate_everything(global);
                retire_below(value, level, batch);
            } else {
                entry* below = table_or_split(slot, value, part.begin, level, spare, batch);
                remove(below, level - 1, part, global, spare, batch);
            }
        }
    }

    template <class Batch>
    void protect(entry* table, unsigned level, extent all, protection access, spare_tables& spare, Batch& batch)
    {
        for (parts rest{all, level}; !rest.empty(); rest.pop_front()) {
            const extent part = rest.front();
            entry* slot = table + hal::index_at<Format>(part.begin, level);
            const entry value = entries().load(slot);
            if (value == 0)
                continue;
            if (Format::is_leaf(value, level) && part.covers(level)) {
                protect_leaf(slot, part.begin, level, access, batch);
            } else {
                entry* below = table_or_split(slot, value, part.begin, level, spare, batch);
                protect(below, level - 1, part, access, spare, batch);
            }
        }
    }

    // The table below `slot`; a larger page that stands there becomes one. Between the two the page is absent
    // everywhere, because processors may not see two sizes of translation for one address (Intel SDM 3A, 4.10.2.3;
    // AMD erratum 383).
    template <class Batch>
    [[nodiscard]] entry* table_or_split(entry* slot, entry value, virt_addr v, unsigned level, spare_tables& spare,
                                        Batch& batch)
    {
        if (Format::is_table(value, level))
            return tables_.table_below(value, level);
        const virt_addr page = v.align_down(hal::bytes_at<Format>(level));
        const entry old = remove_leaf(slot, page, level, batch);
        entries().publish();
        batch.flush();

        const phys_addr table = spare.take();
        entry* below = tables_.table_at(table);
        const page_attributes x = Format::attributes(old, level);
        phys_addr a = Format::address(old, level);
        for (unsigned i = 0; i < hal::entries_per_table<Format>; ++i, a += hal::bytes_at<Format>(level - 1))
            entries().store(below + i, with_marks_of(old, Format::leaf(a, level - 1, x)));
        entries().store(slot, Format::table(table));
        if constexpr (Format::caches_absent)
            batch.invalidate(page, hal::bytes_at<Format>(level - 1), hal::entries_per_table<Format>, x.global);
        return below;
    }

    template <class Batch>
    std::size_t merge(entry* table, unsigned level, extent all, unsigned largest_level, Batch& batch)
    {
        std::size_t made = 0;
        for (parts rest{all, level}; !rest.empty(); rest.pop_front()) {
            const extent part = rest.front();
            entry* slot = table + hal::index_at<Format>(part.begin, level);
            const entry value = entries().load(slot);
            if (!Format::is_table(value, level))
                continue;
            if (level > 1)
                made += merge(tables_.table_below(value, level), level - 1, part, largest_level, batch);
            if (level <= largest_level && part.covers(level) && is_one_page(tables_.table_below(value, level), level)) {
                replace_by_leaf(slot, value, part.begin, level, batch);
                ++made;
            }
        }
        return made;
    }

    // Whether the entries of `table` map what one leaf at `level`, above it, could.
    [[nodiscard]] bool is_one_page(const entry* table, unsigned level) const
    {
        const auto marked = [](entry e) { return Format::with_dirty(Format::with_accessed(e)); };
        const entry first = entries().load(table);
        if (!Format::is_leaf(first, level - 1))
            return false;
        phys_addr a = Format::address(first, level - 1);
        if (!a.is_aligned(hal::bytes_at<Format>(level)))
            return false;
        const page_attributes x = Format::attributes(first, level - 1);
        for (unsigned i = 0; i < hal::entries_per_table<Format>; ++i, a += hal::bytes_at<Format>(level - 1))
            if (marked(entries().load(table + i)) != marked(Format::leaf(a, level - 1, x)))
                return false;
        return true;
    }

    // The reverse of a split, with the page absent in between for the same reason, and because marks are final only when
    // no CPU remembers the way to the table.
    template <class Batch>
    void replace_by_leaf(entry* slot, entry value, virt_addr v, unsigned level, Batch& batch)
    {
        const entry* below = tables_.table_below(value, level);
        const phys_addr a = Format::address(entries().load(below), level - 1);
        const page_attributes x = Format::attributes(entries().load(below), level - 1);
        entries().exchange(slot, 0);
        batch.invalidate_everything(x.global);
        entries().publish();
        batch.flush();

        entry leaf = Format::leaf(a, level, x);
        for (unsigned i = 0; i < hal::entries_per_table<Format>; ++i)
            leaf = with_marks_of(entries().load(below + i), leaf);
        entries().store(slot, leaf);
        if constexpr (Format::caches_absent)
            batch.invalidate(v, hal::bytes_at<Format>(level), 1, x.global);
        batch.retire(frame_number{Format::address(value, level)});
    }

    template <class Batch>
    entry remove_leaf(entry* slot, virt_addr v, unsigned level, Batch& batch)
    {
        const entry old = entries().exchange(slot, 0);
        if (Format::is_present(old))
            batch.invalidate(v, hal::bytes_at<Format>(level), 1, Format::is_global(old));
        return old;
    }

    template <class Batch>
    void protect_leaf(entry* slot, virt_addr v, unsigned level, protection access, Batch& batch)
    {
        entry old = entries().load(slot);
        page_attributes x = Format::attributes(old, level);
        x.access = access;
        const entry bare = Format::leaf(Format::address(old, level), level, x);
        while (!entries().compare_exchange(slot, old, with_marks_of(old, bare))) {
        }
        if (Format::is_present(old) || (Format::caches_absent && Format::is_present(bare)))
            batch.invalidate(v, hal::bytes_at<Format>(level), 1, x.global);
    }

    // `value`, accessed and dirty as `old`.
    [[nodiscard]] static entry with_marks_of(entry old, entry value)
    {
        value = Format::accessed(old) ? Format::with_accessed(value) : value;
        return Format::dirty(old) ? Format::with_dirty(value) : value;
    }

    // Retires the table that the former entry `value` referred to, and all below.
    template <class Batch>
    void retire_below(entry value, unsigned level, Batch& batch)
    {
        if (!Format::is_table(value, level))
            return;
        const entry* table = tables_.table_below(value, level);
        if (level > 1)
            for (unsigned i = 0; i < hal::entries_per_table<Format>; ++i)
                retire_below(entries().load(table + i), level - 1, batch);
        batch.retire(frame_number{Format::address(value, level)});
    }

    phys_addr root_;
    tables tables_;
    Frames& frames_;
};

} // namespace exo::mm
