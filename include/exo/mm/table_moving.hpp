// Page-table entries that move to another place in their space: pages with what they hold, and whole tables, shared or
// not, where both places are aligned alike. No page is copied, nor a table but to un-share it.
//
// What can fail happens in prepare(). The tables that the new place needs are made in a tree of their own, so until
// run() nothing is different, and whatever is mapped at the new place can go in between. The caller excludes others
// from the space.

#pragma once

#include <cstdint>
#include <optional>

#include <exo/base/address.hpp>
#include <exo/base/range.hpp>
#include <exo/base/result.hpp>
#include <exo/hal/pte_format.hpp>
#include <exo/mm/table_sharing.hpp>

namespace exo::mm {

template <class Memory>
class table_move {
public:
    using format = typename Memory::format;
    using entry = typename format::entry;
    using tables = space_tables<Memory>;
    using changes = table_changes<Memory>;

    // `to` is where `from.begin` goes; the two places do not overlap.
    table_move(Memory& memory, frame_number root, virt_range from, virt_addr to)
        : memory_{memory}, root_{root}, from_{from}, to_{to}
    {
    }
    table_move(const table_move&) = delete;
    table_move& operator=(const table_move&) = delete;
    ~table_move()
    {
        if (made_)
            tables::destroy_root(memory_, *made_);
    }

    // Errors: out_of_memory.
    [[nodiscard]] result<> prepare(changes& to)
    {
        made_ = EXO_TRY(tables::create_root(memory_));
        return for_each_piece([&](virt_addr at, unsigned level) -> result<> {
            (void)EXO_TRY(here().own(at, to, level));
            (void)EXO_TRY(made().own(moved(at), to, level));
            return {};
        });
    }

    // By now nothing is mapped at the new place, and the tables that it has a part in are private. Emptied tables stay.
    void run(changes& to) noexcept
    {
        (void)for_each_piece([&](virt_addr at, unsigned level) -> result<> {
            const auto source = EXO_TRY(here().own(at, to, level)); // both have been before
            const auto target = EXO_TRY(made().own(moved(at), to, level));
            made().fill(target, take(source.slot, source.table));
            to.invalidate(virt_range::of_size(at, hal::bytes_at<format>(level)));
            if constexpr (format::caches_absent)
                to.invalidate(virt_range::of_size(moved(at), hal::bytes_at<format>(level)));
            return {};
        });
        graft(*made_, root_, hal::root_level<format>);
    }

private:
    [[nodiscard]] tables here() { return {memory_, root_}; }
    [[nodiscard]] tables made() { return {memory_, *made_}; }
    [[nodiscard]] virt_addr moved(virt_addr at) const { return to_ + (at - from_.begin); }

    // Calls visit(at, level) for the entries that move, which are in use, at the highest level that alignment allows.
    template <class Visit>
    result<> for_each_piece(Visit visit)
    {
        for (virt_addr at = from_.begin; at < from_.end;) {
            const auto found = memory_.tables.find(root_.address(), at);
            const auto level = level_at(at);
            const auto step = hal::bytes_at<format>(found.value == 0 && found.level > level ? found.level : level);
            if (found.value != 0 || found.level < level)
                EXO_TRY(visit(at, level));
            at = at.align_down(step) + step;
        }
        return {};
    }
    [[nodiscard]] unsigned level_at(virt_addr at) const
    {
        unsigned level = 0;
        while (level < hal::root_level<format>) {
            const auto larger = hal::bytes_at<format>(level + 1);
            if (!at.is_aligned(larger) || !moved(at).is_aligned(larger) || from_.end - at < larger)
                break;
            ++level;
        }
        return level;
    }

    [[nodiscard]] entry take(entry* slot, frame_number table) noexcept
    {
        --memory_.frames.info(table).table.entries;
        return memory_.tables.entries().exchange(slot, entry{});
    }

    // Moves everything below `from` to the same places below `into`, where tables may be, but nothing else.
    void graft(frame_number from, frame_number into, unsigned level) noexcept
    {
        auto& entries = memory_.tables.entries();
        for (unsigned i = 0; memory_.frames.info(from).table.entries != 0; ++i) {
            entry* const source = memory_.tables.table_at(from.address()) + i;
            entry* const target = memory_.tables.table_at(into.address()) + i;
            if (entries.load(source) == 0)
                continue;
            const entry e = take(source, from);
            if (const entry there = entries.load(target); there != 0) {
                const frame_number emptied{format::address(e, level)};
                graft(emptied, frame_number{format::address(there, level)}, level - 1);
                release_reference(memory_, emptied);
            } else {
                here().fill({target, into}, e);
            }
        }
    }

    Memory& memory_;
    frame_number root_;
    virt_range from_;
    virt_addr to_;
    std::optional<frame_number> made_; // the root of what the new place needs
};

} // namespace exo::mm
