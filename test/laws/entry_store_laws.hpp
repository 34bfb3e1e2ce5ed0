// The laws of hal/entry_store.hpp that one CPU can see, for any model of EntryStore.

#pragma once

#include <doctest/doctest.h>

#include <cstdint>

#include <exo/hal/entry_store.hpp>

namespace laws {

// `slot` is an empty entry that nobody else uses; it is empty again afterwards.
template <class Entry>
void check_entry_store(exo::hal::EntryStore<Entry> auto& entries, Entry* slot)
{
    REQUIRE(entries.load(slot) == 0);
    entries.store(slot, 6);
    CHECK(entries.load(slot) == 6);
    CHECK(entries.exchange(slot, 10) == 6);
    Entry expected = 12;
    CHECK(!entries.compare_exchange(slot, expected, 14));
    CHECK(expected == 10);
    CHECK(entries.load(slot) == 10);
    CHECK(entries.compare_exchange(slot, expected, 14));
    CHECK(entries.exchange(slot, 0) == 14);
    entries.publish();
    CHECK(entries.load(slot) == 0);
}

} // namespace laws
