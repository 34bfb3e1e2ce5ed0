// Page tables that several address spaces use at once, copied level by level when one of them changes something.
//
// Every table below a root, and every page, counts the entries that point to it (frame_info). A table belongs to one
// space exactly if it and every table above it is counted once; only such tables change, but for two things that harm
// nobody who shares them: hardware marks entries, and entries lose the right to write. Where a format ANDs that right
// along the walk, an entry without it above a shared table protects all that lies below; elsewhere only last-level
// tables are shared, with their own entries protected.
//
// To change something, own() goes down from the root. A table counted once becomes writable again. Another is copied:
// first every child is counted once more and loses the right to write in both copies, then the copy is linked in, then
// all CPUs of the space forget, and only then the old table is counted once less (the batch does that). So whoever sees
// a count of one below a table of his own is alone: nobody else has a way left to it, or a translation through it. Two
// spaces may do this to one table at once without a lock, for what they do to the old table is the same.
//
// Large pages take part: a leaf above level 0 refers to a block of frames, counted in the record of its first frame.
// When a change needs a part of it, the leaf is split. A block that nobody else refers to comes apart into single
// frames; another stays whole, and every leaf that points into it counts in its one record, until all are gone or all
// that are left stand in one table (come_apart).
//
// The caller excludes others from the space whose root it passes.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include <exo/base/address.hpp>
#include <exo/base/check.hpp>
#include <exo/base/errors.hpp>
#include <exo/base/page.hpp>
#include <exo/base/range.hpp>
#include <exo/base/result.hpp>
#include <exo/hal/pte_format.hpp>
#include <exo/mm/flush_batch.hpp>
#include <exo/mm/frame_info.hpp>
#include <exo/mm/shootdown.hpp>

namespace exo::mm {

// The software bit of a leaf whose page is shared on purpose: whoever copies its table leaves the right to write alone.
inline constexpr std::uint8_t shared_leaf = 1;
// And of one that a fault puts in place of another: the right to write follows when all CPUs have forgotten that one.
inline constexpr std::uint8_t changing_leaf = 2;

// Frames that no record describes (device memory) are not counted.
template <class Memory>
void acquire_reference(Memory& memory, frame_number f) noexcept
{
    if (memory.frames.manages(f))
        memory.frames.acquire(memory.frames.block_of(f));
}

// Calls visit(index, entry) for the `count` entries of a table that are not empty. Most tables are full or nearly empty:
// what is empty is passed over a cache line at a time.
template <class Memory, class Visit>
void for_each_entry(Memory& memory, frame_number table, unsigned count, Visit visit)
{
    using entry = typename Memory::format::entry;
    constexpr unsigned line = 64 / sizeof(entry);
    auto& entries = memory.tables.entries();
    const entry* first = memory.tables.table_at(table.address());
    for (unsigned i = 0; count != 0; i += line) {
        entry some = 0;
        for (unsigned j = 0; j < line; ++j)
            some |= entries.load(first + i + j);
        if (some == 0)
            continue;
        for (unsigned j = 0; j < line; ++j)
            if (const entry e = entries.load(first + i + j); e != 0) {
                visit(i + j, e);
                --count;
            }
    }
}

// One reference less to a page or a table. The last one to a table drops those to everything in it.
template <class Memory>
void release_reference(Memory& memory, frame_number f) noexcept
{
    using format = typename Memory::format;
    if (!memory.frames.manages(f))
        return;
    f = memory.frames.block_of(f);
    if (!memory.frames.drop(f))
        return;
    auto& info = memory.frames.info(f);
    if (info.table_levels != 0) {
        const unsigned level = info.table_levels - 1u;
        for_each_entry(memory, f, info.table.entries, [&](unsigned, typename format::entry e) {
            release_reference(memory, frame_number{format::address(e, level)});
        });
        info.table_levels = 0;
        memory.counters().tables.subtract();
    }
    memory.frames.free(f, info.order);
}

// References on their way out, dropped when nobody can hold a translation any more. A handle, for the batch to keep.
template <class Memory>
class retired_references {
public:
    struct storage {
        static constexpr unsigned capacity = 64;
        unsigned count{};
        std::uint64_t frames[capacity]; // by number; not cleared, since most operations retire little
    };

    retired_references(Memory& memory, storage& waiting) : memory_{&memory}, waiting_{&waiting} {}

    void put(frame_number f) noexcept
    {
        EXO_CHECK(waiting_->count < storage::capacity);
        waiting_->frames[waiting_->count++] = f.value();
    }
    void release() noexcept
    {
        while (waiting_->count > 0)
            release_reference(*memory_, frame_number{waiting_->frames[--waiting_->count]});
    }
    [[nodiscard]] bool empty() const noexcept { return waiting_->count == 0; }

private:
    Memory* memory_;
    storage* waiting_;
};

// Whether an operation has the space to itself, or others may fill its tables meanwhile, who are inside as the
// operation is (mm/shootdown.hpp).
enum class company : bool { alone, beside_others };

// What one operation changes in the tables of one space. The operation flushes before it returns.
template <class Memory>
class table_changes {
public:
    table_changes(Memory& memory, typename Memory::holders& space, company with = company::alone)
        : memory_{memory}, with_{with}, flusher_{memory.shootdown, space}, batch_{flusher_, {memory, waiting_}}
    {
    }

    [[nodiscard]] bool alone() const { return with_ == company::alone; }
    // Beside others, interrupts are off: who called has to see to what can be given up. Errors: out_of_memory.
    [[nodiscard]] result<frame_number> allocate_frame()
    {
        return alone() ? memory_.allocate_frame() : memory_.frames.allocate(0);
    }
    // As many frames as are at hand; how many.
    [[nodiscard]] std::size_t allocate_ahead(std::span<frame_number> into)
    {
        if (alone())
            return memory_.frames.allocate_bulk(into) ? into.size() : 0;
        std::size_t count = 0;
        for (auto& f : into) {
            const auto got = memory_.frames.try_allocate(0);
            if (!got)
                break;
            f = *got;
            ++count;
        }
        return count;
    }

    // The translations of these pages of bytes_at(level), and the entries on the paths to them, are no longer what the
    // tables say.
    void invalidate(virt_range pages, unsigned level = 0)
    {
        const auto step = hal::bytes_at<typename Memory::format>(level);
        batch_.invalidate(pages.begin, step, pages.size() / step, false);
    }
    // The page that `v` lies in.
    void invalidate_page(virt_addr v, unsigned level = 0)
    {
        const auto step = hal::bytes_at<typename Memory::format>(level);
        batch_.invalidate(v.align_down(step), step, 1, false);
    }
    void invalidate_everything() { batch_.invalidate_everything(false); }
    // A page became accessible, or more so.
    void widened([[maybe_unused]] virt_addr v, [[maybe_unused]] unsigned level = 0)
    {
        if constexpr (Memory::format::caches_absent)
            invalidate_page(v, level);
    }
    // A reference that no entry holds any more, after what led there was invalidated. Beside others there are few of
    // them: to flush in the middle of what a fault does would free what the fault still reads.
    void retire(frame_number f)
    {
        if (waiting_.count == waiting_.capacity) {
            EXO_CHECK(alone());
            flush();
        }
        batch_.retire(f);
    }
    void flush()
    {
        memory_.tables.entries().publish();
        batch_.flush();
    }

private:
    using flusher = space_flusher<typename Memory::shootdown_type>;

    Memory& memory_;
    const company with_;
    flusher flusher_;
    typename retired_references<Memory>::storage waiting_;
    flush_batch<flusher, retired_references<Memory>> batch_;
};

template <class Memory>
class space_tables {
public:
    using format = typename Memory::format;
    using entry = typename format::entry;
    using changes = table_changes<Memory>;

    // own() gives tables the right to write back without an invalidation: a CPU that remembers otherwise faults,
    // forgets, and tries again.
    static_assert(!format::hierarchical_write || !format::caches_absent);

    // An entry in a table that belongs to the space alone.
    struct owned_slot {
        entry* slot;
        frame_number table;
    };

    space_tables(Memory& memory, frame_number root) : memory_{memory}, root_{root} {}

    // A root whose lower half is empty and whose upper half is the kernel's. Errors: out_of_memory.
    [[nodiscard]] static result<frame_number> create_root(Memory& memory)
    {
        space_tables made{memory, EXO_TRY(memory.allocate_frame())};
        made.describe(made.root_, hal::root_level<format>, 0);
        constexpr std::size_t half = page_size / 2;
        std::byte* to = memory.memory_of(made.root_);
        __builtin_memset(to, 0, half);
        __builtin_memcpy(to + half, memory.memory_of(frame_number{memory.kernel_root}) + half, half);
        return made.root_;
    }
    // Drops all that the root refers to, and the root. No CPU has it loaded.
    static void destroy_root(Memory& memory, frame_number root) noexcept
    {
        release_reference(memory, root); // its count of entries leaves the kernel's out
    }

    // The first entry on the way to `v` that is not a table, and its level. `may_write`: it is a leaf, and no entry on
    // the way forbids writing.
    struct found {
        entry value{};
        unsigned level{};
        bool may_write{};

        // The frame that the leaf maps `v` to.
        [[nodiscard]] frame_number frame_at(virt_addr v) const
        {
            return frame_number{format::address(value, level)} +
                   ((v.value() & (hal::bytes_at<format>(level) - 1)) >> page_shift);
        }
    };
    [[nodiscard]] found find(virt_addr v) const noexcept
    {
        bool may_write = true;
        frame_number table = root_;
        for (unsigned level = hal::root_level<format>;; --level) {
            const entry e = entries().load(slot_in(table, v, level));
            if (!format::is_table(e, level))
                return {e, level, may_write && format::writable(e)};
            may_write = may_write && (format::writable(e) || !format::hierarchical_write);
            table = below(e, level);
        }
    }

    // How many pages of the smallest size are there directly before `v`, in one table, and `most` at most.
    [[nodiscard]] std::uint64_t present_before(virt_addr v, std::uint64_t most) const noexcept
    {
        const virt_addr last = v - page_size;
        frame_number table = root_;
        for (unsigned level = hal::root_level<format>; level > 0; --level) {
            const entry e = entries().load(slot_in(table, last, level));
            if (!format::is_table(e, level))
                return 0;
            table = below(e, level);
        }
        const entry* slot = slot_in(table, last, 0);
        const std::uint64_t in_table = hal::index_at<format>(last, 0) + 1;
        std::uint64_t count = 0;
        while (count < most && count < in_table && entries().load(slot - count) != 0)
            ++count;
        return count;
    }

    // The entry at `level` on the way to `v`, every table above it private, those that were missing made, larger pages
    // split. Errors: out_of_memory; busy, beside others, where only one who is alone can do it; tables made private by
    // then stay so.
    [[nodiscard]] result<owned_slot> own(virt_addr v, changes& to, unsigned level = 0)
    {
        frame_number table = root_;
        for (unsigned above = hal::root_level<format>; above > level; --above)
            table = EXO_TRY(own_below(table, slot_in(table, v, above), above, v, to));
        return owned_slot{slot_in(table, v, level), table};
    }

    enum class extent : bool {
        edges,  // the tables of which the range covers a part only
        inside, // and those that it covers
    };
    // Makes the tables that exist in the range private, and splits the pages that stick out of it. Errors: as own.
    [[nodiscard]] result<> own_range(virt_range range, extent which, changes& to)
    {
        EXO_CHECK(in_user_half(range));
        return own_range_in(root_, hal::root_level<format>, range, which, to);
    }

    // Takes all pages of the range out, and tables that become empty. The edges are private.
    void detach(virt_range range, changes& to) noexcept
    {
        EXO_CHECK(in_user_half(range));
        detach_in(root_, hal::root_level<format>, range, to);
    }

    // Takes everything out: then no table is covered in part only, and none need be private.
    void detach_all(changes& to) noexcept { detach_in(root_, hal::root_level<format>, {virt_addr{}, user_end}, to); }

    // How many pages are there, of the smallest size. Takes time in proportion to the tables.
    [[nodiscard]] std::uint64_t pages() const { return count_pages(root_, hal::root_level<format>); }

    // Calls change(slot, entry, page, level) for each leaf in the range, in private tables.
    template <class Change>
    void for_each_leaf(virt_range range, Change change)
    {
        for_each_leaf_in(root_, hal::root_level<format>, range, change);
    }

    // Puts a leaf in place of an empty entry, and takes over a reference to the page. False: somebody else did, which
    // only happens beside others.
    bool fill(owned_slot at, entry leaf) noexcept
    {
        entry empty{};
        if (!entries().compare_exchange(at.slot, empty, leaf))
            return false;
        std::atomic_ref{memory_.frames.info(at.table).table.entries}.fetch_add(1, std::memory_order_relaxed);
        return true;
    }

    [[nodiscard]] entry load(owned_slot at) const noexcept { return entries().load(at.slot); }
    // Puts another leaf in place of `old`, whatever hardware has marked it with since; the caller has the old page
    // invalidated and retired. False, beside others: another leaf is there by now.
    bool replace(owned_slot at, entry old, entry leaf) noexcept
    {
        for (entry e = old; marked(e) == marked(old);)
            if (entries().compare_exchange(at.slot, e, leaf))
                return true;
        return false;
    }

    // These keep what hardware marks meanwhile. The first says whether it changed anything.
    bool forbid_write(entry* slot) noexcept
    {
        entry e = entries().load(slot);
        while (format::writable(e))
            if (entries().compare_exchange(slot, e, format::without_write(e)))
                return true;
        return false;
    }
    // Not if another leaf than `e` is there by now.
    void allow_write(entry* slot, entry e) noexcept
    {
        const entry judged = marked(e);
        while (!format::writable(e) && marked(e) == judged &&
               !entries().compare_exchange(slot, e, format::with_write(e))) {}
    }
    void protect(entry* slot, unsigned level, protection access) noexcept
    {
        entry e = entries().load(slot);
        entry changed{};
        do {
            auto attributes = format::attributes(e, level);
            attributes.access = access;
            changed = with_marks_of(e, format::leaf(format::address(e, level), level, attributes));
        } while (!entries().compare_exchange(slot, e, changed));
    }

    // If all references to the block around `f`, which the leaf at `at` maps, come from the table of `at`, the block
    // comes apart: every frame is one of its own, and those that nobody maps any more are free. So the last user of
    // what was a shared large page gets its pages back without a copy. Errors: busy, beside others.
    result<> come_apart(owned_slot at, frame_number f, const changes& to) noexcept
    {
        if (!memory_.frames.manages(f))
            return {};
        const auto block = memory_.frames.block_of(f);
        const unsigned order = memory_.frames.info(block).order;
        if (order == 0 || order > format::index_bits)
            return {};
        if (!to.alone())
            return fail(errors::busy);
        const frame_number end = block + (std::uint64_t{1} << order);
        const entry* first = table_at(at.table);
        bool mapped[hal::entries_per_table<format>]{};
        std::uint32_t count = 0;
        for (unsigned i = 0; i < hal::entries_per_table<format>; ++i) {
            const entry e = entries().load(first + i);
            if (e == 0)
                continue;
            const frame_number here{format::address(e, 0)};
            if (block <= here && here < end) {
                mapped[here - block] = true;
                ++count;
            }
        }
        if (count != memory_.frames.references(block))
            return {};
        memory_.frames.split(block);
        for (frame_number frame = block; frame < end; frame = frame + 1)
            if (!mapped[frame - block])
                memory_.frames.free(frame, 0);
        return {};
    }

    // Lets the new root `child` use all tables below this one. Errors: out_of_memory, on formats that do not protect
    // hierarchically; the caller destroys `child` then.
    [[nodiscard]] result<> share_with(frame_number child, changes& to)
    {
        return share_in(root_, child, hal::root_level<format>, to);
    }

private:
    static constexpr virt_addr user_end{hal::entries_per_table<format> / 2 *
                                        hal::bytes_at<format>(hal::root_level<format>)};
    [[nodiscard]] static bool in_user_half(virt_range r) { return r.begin <= r.end && r.end <= user_end; }

    [[nodiscard]] auto& entries() const { return memory_.tables.entries(); }
    [[nodiscard]] entry* table_at(frame_number table) const { return memory_.tables.table_at(table.address()); }
    [[nodiscard]] entry* slot_in(frame_number table, virt_addr v, unsigned level) const
    {
        return memory_.tables.slot_in(table.address(), v, level);
    }
    [[nodiscard]] static frame_number below(entry e, unsigned level) { return frame_number{format::address(e, level)}; }

    void describe(frame_number table, unsigned level, std::uint16_t used)
    {
        auto& info = memory_.frames.info(table);
        info.table_levels = static_cast<std::uint8_t>(level + 1);
        info.table = {.entries = used};
        memory_.counters().tables.add();
    }

    // Whether those who share the table that holds this entry must not write through it.
    [[nodiscard]] static bool copied_on_write(entry e, unsigned level)
    {
        if (format::is_table(e, level))
            return format::hierarchical_write;
        return (format::attributes(e, level).software & shared_leaf) == 0;
    }

    // For comparing entries, whatever hardware has marked in them.
    [[nodiscard]] static entry marked(entry e) { return format::with_dirty(format::with_accessed(e)); }
    // `value`, accessed and dirty as `old`.
    [[nodiscard]] static entry with_marks_of(entry old, entry value)
    {
        value = format::accessed(old) ? format::with_accessed(value) : value;
        return format::dirty(old) ? format::with_dirty(value) : value;
    }

    // The leaf in `slot`, which is in a private table, becomes a table of leaves of the next size. In between the page
    // is absent everywhere, because processors may not see two sizes of translation for one address (Intel SDM 3A,
    // 4.10.2.3; AMD erratum 383).
    result<frame_number> split(entry* slot, unsigned level, virt_addr v, changes& to)
    {
        const auto made = EXO_TRY(to.allocate_frame());
        const entry old = entries().exchange(slot, entry{});
        to.invalidate_page(v, level);
        to.flush();

        const auto attributes = format::attributes(old, level);
        auto a = format::address(old, level);
        entry* target = table_at(made);
        for (unsigned i = 0; i < hal::entries_per_table<format>; ++i, a += hal::bytes_at<format>(level - 1))
            target[i] = with_marks_of(old, format::leaf(a, level - 1, attributes));
        describe(made, level - 1, hal::entries_per_table<format>);
        const auto block = below(old, level);
        if (memory_.frames.manages(block)) {
            if (memory_.frames.references(block) == 1 && memory_.frames.info(block).order == format::index_bits)
                memory_.frames.split(block);
            else
                memory_.frames.acquire(block, hal::entries_per_table<format> - 1);
        }
        entries().store(slot, format::table(made.address()));
        if constexpr (format::caches_absent) {
            const auto bytes = hal::bytes_at<format>(level);
            to.invalidate(virt_range::of_size(v.align_down(bytes), bytes), level - 1);
        }
        memory_.counters().large_pages_split.add();
        return made;
    }

    // A table with the same entries, counted in what they point to. Until it is linked in, it is plain memory.
    result<frame_number> copy_table(frame_number from, unsigned level, changes& to)
    {
        const auto copy = EXO_TRY(to.allocate_frame());
        entry* source = table_at(from);
        entry* target = table_at(copy);
        unsigned written = 0;
        const auto write_nothing_until = [&](unsigned end) {
            while (written < end)
                target[written++] = entry{};
        };
        // Who shares a table adds nothing to it and takes nothing out: the count holds.
        const auto used = memory_.frames.info(from).table.entries;
        for_each_entry(memory_, from, used, [&](unsigned i, entry e) {
            acquire_reference(memory_, below(e, level));
            if (copied_on_write(e, level)) {
                forbid_write(source + i);
                e = format::without_write(e);
            }
            write_nothing_until(i);
            target[written++] = e;
        });
        write_nothing_until(hal::entries_per_table<format>);
        describe(copy, level, used);
        memory_.counters().tables_unshared.add();
        return copy;
    }

    // The table below `slot`, which is in the private table `parent`, on the way to `v`: made, or made private.
    result<frame_number> own_below(frame_number parent, entry* slot, unsigned level, virt_addr v, changes& to)
    {
        entry e = entries().load(slot);
        if (e == 0) {
            const auto made = EXO_TRY(to.allocate_frame());
            __builtin_memset(table_at(made), 0, page_size);
            describe(made, level - 1, 0);
            if (fill({slot, parent}, format::table(made.address())))
                return made;
            release_reference(memory_, made);
            e = entries().load(slot);
        }
        if (!format::is_table(e, level))
            return to.alone() ? split(slot, level, v, to) : fail(errors::busy);
        const auto child = below(e, level);
        if (format::hierarchical_write ? format::writable(e) : level != 1)
            return child;
        if (to.alone())
            return make_private(slot, level, v, to);
        if constexpr (!format::hierarchical_write)
            return fail(errors::busy); // nothing in the entry would tell others that the table became private
        auto& locked = memory_.frames.info(child).locked;
        while (locked.exchange(true, std::memory_order_acquire))
            while (locked.load(std::memory_order_relaxed))
                Memory::atomics::pause();
        const auto made = make_private(slot, level, v, to);
        locked.store(false, std::memory_order_release);
        return made;
    }

    // The table that `slot` leads to is shared, or has been. Beside others it is locked, so that nobody in this space
    // writes below it while it is copied.
    result<frame_number> make_private(entry* slot, unsigned level, virt_addr v, changes& to)
    {
        const entry e = entries().load(slot);
        const auto child = below(e, level);
        if (format::hierarchical_write && format::writable(e))
            return child; // somebody else was first
        if (memory_.frames.references(child) == 1) {
            if constexpr (format::hierarchical_write)
                allow_write(slot, e);
            return child;
        }
        const auto copy = EXO_TRY(copy_table(child, level - 1, to));
        entries().exchange(slot, format::table(copy.address()));
        // All ways into the old table lead over the path of `v`; what was remembered below it is right as it is.
        to.invalidate_page(v.align_down(page_size));
        to.retire(child);
        return copy;
    }

    // Calls visit(slot, part, whole) for the entries of `table` that translate part of `range`: which part, and whether
    // that is all that the entry translates. visit may return a result<>.
    template <class Visit>
    void for_each_slot(frame_number table, unsigned level, virt_range range, Visit visit)
    {
        const auto step = hal::bytes_at<format>(level);
        for (virt_addr at = range.begin; at < range.end;) {
            const virt_range span = virt_range::of_size(at.align_down(step), step);
            const virt_range part = span.intersection(range);
            visit(slot_in(table, at, level), part, part == span);
            at = span.end;
        }
    }

    result<> own_range_in(frame_number table, unsigned level, virt_range range, extent which, changes& to)
    {
        result<> outcome;
        if (level == 0)
            return outcome;
        for_each_slot(table, level, range, [&](entry* slot, virt_range part, bool whole) {
            const entry e = entries().load(slot);
            if (!outcome || e == 0 || (whole && (which == extent::edges || !format::is_table(e, level))))
                return;
            const auto child = own_below(table, slot, level, part.begin, to);
            outcome = child ? own_range_in(*child, level - 1, part, which, to) : fail(child.error());
        });
        return outcome;
    }

    void detach_in(frame_number table, unsigned level, virt_range range, changes& to)
    {
        for_each_slot(table, level, range, [&](entry* slot, virt_range part, bool whole) {
            const entry e = entries().load(slot);
            if (e == 0)
                return;
            const auto child = below(e, level);
            const bool is_leaf = !format::is_table(e, level);
            if (is_leaf) {
                EXO_CHECK(whole);
            } else if (!whole) {
                detach_in(child, level - 1, part, to);
                if (memory_.frames.info(child).table.entries != 0)
                    return;
                part =
                    virt_range::of_size(part.begin.align_down(page_size), page_size); // on the way to the empty table
            }
            entries().exchange(slot, entry{});
            --memory_.frames.info(table).table.entries;
            to.invalidate(part, is_leaf ? level : 0);
            to.retire(child);
        });
    }

    [[nodiscard]] std::uint64_t count_pages(frame_number table, unsigned level) const
    {
        const unsigned used = memory_.frames.info(table).table.entries;
        if (level == 0)
            return used;
        std::uint64_t pages = 0;
        for_each_entry(memory_, table, used, [&](unsigned, entry e) {
            pages += format::is_table(e, level) ? count_pages(below(e, level), level - 1)
                                                : hal::bytes_at<format>(level) >> page_shift;
        });
        return pages;
    }

    template <class Change>
    void for_each_leaf_in(frame_number table, unsigned level, virt_range range, Change& change)
    {
        for_each_slot(table, level, range, [&](entry* slot, virt_range part, bool) {
            const entry e = entries().load(slot);
            if (e != 0 && !format::is_table(e, level))
                change(slot, e, part.begin, level);
            else if (e != 0)
                for_each_leaf_in(below(e, level), level - 1, part, change);
        });
    }

    result<> share_in(frame_number from, frame_number with, unsigned level, changes& to)
    {
        entry* source = table_at(from);
        entry* target = table_at(with); // not linked in yet
        std::uint16_t& used = memory_.frames.info(with).table.entries;
        result<> outcome;
        for_each_entry(memory_, from, memory_.frames.info(from).table.entries, [&](unsigned i, entry e) {
            if (!outcome)
                return;
            const auto child = below(e, level);
            if (format::hierarchical_write || !format::is_table(e, level)) {
                const bool protect = copied_on_write(e, level);
                if (protect && forbid_write(source + i))
                    to.invalidate_everything();
                acquire_reference(memory_, child);
                target[i] = protect ? format::without_write(e) : e;
            } else if (level == 1) {
                if (memory_.frames.references(child) == 1 && forbid_write_in(child))
                    to.invalidate_everything();
                acquire_reference(memory_, child);
                target[i] = e;
            } else {
                const auto copy = memory_.allocate_frame();
                if (!copy) {
                    outcome = fail(copy.error());
                    return;
                }
                memory_.zero(*copy);
                describe(*copy, level - 1, 0);
                target[i] = format::table(copy->address());
                outcome = share_in(child, *copy, level - 1, to);
            }
            ++used;
        });
        return outcome;
    }
    bool forbid_write_in(frame_number last_level)
    {
        bool changed = false;
        for (unsigned i = 0; i < hal::entries_per_table<format>; ++i) {
            entry* slot = table_at(last_level) + i;
            const entry e = entries().load(slot);
            if (e != 0 && copied_on_write(e, 0))
                changed |= forbid_write(slot);
        }
        return changed;
    }

    Memory& memory_;
    frame_number root_;
};

} // namespace exo::mm
