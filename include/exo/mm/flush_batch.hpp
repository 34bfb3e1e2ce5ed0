// Translations to forget, collected while tables change, and the frames that may be freed only after that.
//
// One batch serves changes of one address space. It flushes when its owner says so, never by itself (a large page that
// is being split apart, mm/mapper.hpp): only the owner knows which locks are held and when the space is the right one.
// The destructor checks that nothing was forgotten to be forgotten.

#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <utility>

#include <exo/base/address.hpp>
#include <exo/base/check.hpp>
#include <exo/base/range.hpp>
#include <exo/hal/entry_store.hpp>
#include <exo/hal/frame_source.hpp>
#include <exo/hal/phys_access.hpp>
#include <exo/hal/pte_format.hpp>
#include <exo/hal/tlb.hpp>
#include <exo/mm/protection.hpp>

namespace exo::mm {

// How much a CPU has to forget.
enum class flush_kind : std::uint8_t {
    page,
    range, // or several
    space, // all under one address-space id
    all,   // under any, global pages included
};
inline constexpr unsigned flush_kind_count = 4;

// What a CPU has to forget: a few runs of pages, or, past `page_limit` pages, the whole space, which is cheaper then
// (Intel SDM 3A 4.10.4 leaves the choice to software).
class invalidation {
public:
    static constexpr std::size_t run_limit = 8;
    // Where single invalidations begin to cost what all do and the walks that those cause. QEMU's TCG breaks even at 19
    // to 49 pages with 16 to 64 others in use (bench/kernel/tlb.cpp measures it); Linux puts 33 for silicon
    // (tlb_single_page_flush_ceiling).
    static constexpr std::uint64_t page_limit = 33;

    [[nodiscard]] bool empty() const { return run_count_ == 0 && !everything_; }
    [[nodiscard]] bool everything() const { return everything_; }
    [[nodiscard]] flush_kind kind() const
    {
        if (everything_)
            return global_ ? flush_kind::all : flush_kind::space;
        return pages_ == 1 ? flush_kind::page : flush_kind::range;
    }

    // `count` pages of `step` bytes, from `page` on. `global`: they may be tagged as shared by all address spaces.
    void add(virt_addr page, std::uint64_t step, std::uint64_t count, bool global)
    {
        global_ |= global;
        if (everything_)
            return;
        pages_ += count;
        if (pages_ > page_limit) {
            everything_ = true;
            return;
        }
        if (run_count_ > 0) {
            run& last = runs_[run_count_ - 1];
            if (last.step == step && last.pages.end == page) {
                last.pages.end += step * count;
                return;
            }
        }
        if (run_count_ == run_limit) {
            everything_ = true;
            return;
        }
        runs_[run_count_++] = {virt_range::of_size(page, step * count), step};
    }
    // Everything remembered of the space, the paths through its tables included.
    void add_everything(bool global)
    {
        everything_ = true;
        global_ |= global;
    }
    void clear() { *this = invalidation{}; }

    // Forgets all this on the calling CPU, which has the space loaded under `id`.
    void apply(hal::Tlb auto& tlb, hal::address_space_id id) const noexcept
    {
        switch (kind()) {
        case flush_kind::page:
            tlb.invalidate_page(runs_[0].pages.begin);
            break;
        case flush_kind::range:
            for (std::size_t i = 0; i < run_count_; ++i)
                tlb.invalidate_range(runs_[i].pages, runs_[i].step);
            break;
        case flush_kind::space:
            tlb.invalidate_space(id);
            break;
        case flush_kind::all:
            tlb.invalidate_all();
            break;
        }
    }

private:
    struct run {
        virt_range pages;
        std::uint64_t step{};
    };

    run runs_[run_limit]{};
    std::size_t run_count_{};
    std::uint64_t pages_{};
    bool everything_{};
    bool global_{};
};

// Makes every CPU that may use the space forget: when flush() returns, none uses what it was told to forget.
template <class T>
concept Flusher = requires(T& flusher, const invalidation& what) {
    { flusher.flush(what) } noexcept -> std::same_as<void>;
};

// Where frames wait that are out of use but may still be reached through a remembered translation. put() is given each
// frame once and must leave harmless what a walker may read in it; release() gives all of them back.
template <class T>
concept RetiredFrames = requires(T& retired, const T& view, frame_number f) {
    { retired.put(f) } noexcept -> std::same_as<void>;
    { retired.release() } noexcept -> std::same_as<void>;
    { view.empty() } noexcept -> std::same_as<bool>;
};

template <Flusher How, RetiredFrames Retired>
class flush_batch {
public:
    flush_batch(How& how, Retired retired) : how_{how}, retired_{std::move(retired)} {}
    flush_batch(const flush_batch&) = delete;
    flush_batch& operator=(const flush_batch&) = delete;
    ~flush_batch() { EXO_CHECK(empty()); }

    [[nodiscard]] bool empty() const { return pending_.empty() && retired_.empty(); }

    // The translations of `count` pages of `step` bytes from `page` on are no longer what the tables say.
    void invalidate(virt_addr page, std::uint64_t step, std::uint64_t count, bool global)
    {
        pending_.add(page, step, count, global);
    }
    // The same for all of the space: tables themselves went away.
    void invalidate_everything(bool global) { pending_.add_everything(global); }
    // `f` is out of the tables; what may still lead to it has been recorded as to be invalidated.
    void retire(frame_number f) { retired_.put(f); }

    // Invalidates wherever it matters, waits for that, then frees what was retired.
    void flush() noexcept
    {
        if (!pending_.empty()) {
            how_.flush(pending_);
            pending_.clear();
        }
        retired_.release();
    }

private:
    How& how_;
    invalidation pending_;
    [[no_unique_address]] Retired retired_;
};

// A Flusher for a machine, or a moment, with one CPU.
template <hal::Tlb Tlb>
class local_flusher {
public:
    explicit local_flusher(Tlb& tlb, hal::address_space_id id = {}) : tlb_{tlb}, id_{id} {}
    void flush(const invalidation& what) noexcept { what.apply(tlb_, id_); }

private:
    Tlb& tlb_;
    hal::address_space_id id_;
};

// The same for what all address spaces share, such as the kernel's half: a table there that goes away is forgotten under
// every id. The pages are global, or there are no ids; absent entries are not remembered.
template <hal::Tlb Tlb>
class shared_half_flusher {
public:
    explicit shared_half_flusher(Tlb& tlb) : tlb_{tlb} {}
    void flush(const invalidation& what) noexcept
    {
        if (what.everything())
            tlb_.invalidate_all();
        else
            what.apply(tlb_, {});
    }

private:
    Tlb& tlb_;
};

// RetiredFrames for page tables, without memory of its own: each table's first entry becomes a link that walkers take
// for an absent one.
template <hal::PteFormat Format, hal::PhysAccess Phys, hal::EntryStore<typename Format::entry> Entries,
          hal::FrameSource Frames>
class retired_tables {
public:
    retired_tables(Phys& memory, Entries& entries, Frames& frames)
        : memory_{&memory}, entries_{&entries}, frames_{&frames}
    {
    }

    void put(frame_number table) noexcept
    {
        entries_->exchange(first_entry(table), link_);
        link_ = Format::leaf(table.address(), 0, {.access = protection::none});
    }
    void release() noexcept
    {
        while (!empty()) {
            const frame_number table{Format::address(link_, 0)};
            link_ = entries_->load(first_entry(table));
            frames_->free(table, 0);
        }
    }
    [[nodiscard]] bool empty() const noexcept { return link_ == 0; }

private:
    using entry = typename Format::entry;
    [[nodiscard]] entry* first_entry(frame_number table) const
    {
        return reinterpret_cast<entry*>(memory_->to_pointer(table.address()));
    }

    Phys* memory_;
    Entries* entries_;
    Frames* frames_;
    entry link_{}; // the newest; 0: none
};

} // namespace exo::mm
