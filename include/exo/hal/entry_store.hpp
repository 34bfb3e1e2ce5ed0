// EntryStore: reading and changing page-table entries that hardware reads, and marks accessed and dirty, at any time.
//
// Laws (test/laws/entry_store_laws.hpp checks every model):
//  - load, store, exchange and compare_exchange are single accesses of the whole entry. Whoever sees a changed entry, a
//    walker on another CPU included, sees every change of entries made before it by the same CPU.
//  - store is for entries that nobody changes meanwhile: empty ones, and those of a table not yet linked. What hardware
//    may be using changes by exchange or compare_exchange only; neither loses a mark that hardware sets.
//  - compare_exchange does nothing if the entry is not `expected`, and then sets `expected` to what it is.
//  - After publish() this CPU's walks see all earlier changes: call it once per change, before the mapping is used.
//  - None of them fails, sleeps or allocates.

#pragma once

#include <concepts>

namespace exo::hal {

template <class T, class Entry>
concept EntryStore = requires(T& entries, Entry* slot, const Entry* read_slot, Entry& expected, Entry value) {
    { entries.load(read_slot) } noexcept -> std::same_as<Entry>;
    { entries.store(slot, value) } noexcept -> std::same_as<void>;
    { entries.exchange(slot, value) } noexcept -> std::same_as<Entry>;
    { entries.compare_exchange(slot, expected, value) } noexcept -> std::same_as<bool>;
    { entries.publish() } noexcept -> std::same_as<void>;
};

} // namespace exo::hal
