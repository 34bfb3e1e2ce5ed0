// Mapping, unmapping, protecting and translating pages in one hierarchy of page tables.
//
// Needs frames for tables and nothing else: no heap, no records about frames. Frames that pages are mapped to belong to
// the caller. Every call succeeds or changes no translation: what it needs is found and reserved first. What CPUs must
// forget, and tables that went out of use, are recorded in the caller's flush_batch, which the caller flushes.
// Calls on one hierarchy are serialized by the caller; hardware marks entries accessed and dirty at any time.

#pragma once

#include <concepts>
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

// Called, from the root down, for each table entry through which the mapper is about to change something: makes the
// table that it refers to this hierarchy's alone, replacing the entry where necessary. Errors end the call.
// own(slot, level, v, batch): `slot` is a table entry at `level` on the path of `v`.
struct sole_owner {
    template <class Entry, class Batch>
    static constexpr result<> own(Entry*, unsigned, virt_addr, Batch&) noexcept
    {
        return {};
    }
};

template <hal::PteFormat Format, hal::PhysAccess Phys, hal::EntryStore<typename Format::entry> Entries,
          hal::FrameSource Frames, class Owner = sole_owner>
class mapper {
public:
    using format = Format;
    using entry = typename Format::entry;
    using tables = page_tables<Format, Phys, Entries>;

    // `root` is a table at the root's level, of the caller's.
    mapper(phys_addr root, Phys& memory, Entries& entries, Frames& frames, Owner owner = {})
        : root_{root}, tables_{memory, entries}, frames_{frames}, owner_{std::move(owner)}
    {
    }

    [[nodiscard]] phys_addr root() const { return root_; }
    [[nodiscard]] const tables& walker() const { return tables_; }

    // The page of bytes_at<Format>(level) bytes at `v` becomes `a`.
    // Errors: already_mapped, misaligned, non_canonical, out_of_range, out_of_memory.
    template <class Batch>
    [[nodiscard]] result<> map_page(virt_addr v, phys_addr a, const page_attributes& x, Batch& batch,
                                    unsigned level = 0);

    // The page, of whatever size, that starts at `v` is no longer mapped. Returns what it was.
    // Errors: not_mapped, misaligned (`v` is inside a larger page), non_canonical, and what the owner reports.
    template <class Batch>
    [[nodiscard]] result<translation> unmap_page(virt_addr v, Batch& batch);

    // The page that starts at `v` grants `access`. Errors: as unmap_page.
    template <class Batch>
    [[nodiscard]] result<> protect_page(virt_addr v, protection access, Batch& batch);

    // What the byte at `v` is mapped to, or remembered to be if nobody may touch it. Errors: not_mapped, non_canonical.
    [[nodiscard]] result<translation> translate(virt_addr v) const;

    // `range` becomes the physical range that starts at `a`, in the largest pages up to `largest_level` that alignment
    // allows. Errors: as map_page; already_mapped names the first mapped address.
    template <class Batch>
    [[nodiscard]] result<> map_range(virt_range range, phys_addr a, const page_attributes& x, Batch& batch,
                                     unsigned largest_level = 0);

    // Nothing in `range` is mapped any longer; larger pages that stick out are split. Tables that the range covers go
    // too, except those right below the root.
    // Errors: not_mapped with the first such address, misaligned, non_canonical, out_of_memory (for a split).
    template <class Batch>
    [[nodiscard]] result<> unmap_range(virt_range range, Batch& batch, holes about = holes::refuse);

    // Everything in `range` grants `access`. Errors: as unmap_range.
    template <class Batch>
    [[nodiscard]] result<> protect_range(virt_range range, protection access, Batch& batch,
                                         holes about = holes::refuse);

    // Nothing is mapped any longer, and every table but the root goes. For the end of a hierarchy that shares nothing.
    template <class Batch>
    void clear(Batch& batch);

private:
    phys_addr root_;
    tables tables_;
    Frames& frames_;
    [[no_unique_address]] Owner owner_;
};

} // namespace exo::mm
