// What one CPU remembers: for each address-space id that it uses, whose translations are tagged with it, and up to which
// generation of that space they are known to be right (mm/translation_holders.hpp).
//
// A CPU gives out ids for itself, to the few spaces that it ran last: a TLB hardly holds the translations of more, a
// space on many CPUs needs no id that is free on all of them, and an id changes hands without telling anybody. Linux
// does the same (arch/x86/mm/tlb.c). Id 0 is the kernel's own root's.

#pragma once

#include <cstdint>

#include <exo/hal/translation_root.hpp>

namespace exo::mm {

class remembered_spaces {
public:
    // Spaces at once.
    static constexpr unsigned capacity = 8;

    struct choice {
        hal::address_space_id id;
        hal::remembered what;
    };

    // The id under which this CPU is about to load `space`, at `generation`. `id_limit` is the machine's; 1: no ids.
    [[nodiscard]] choice choose(std::uint64_t space, std::uint64_t generation, unsigned id_limit) noexcept
    {
        const unsigned count = id_limit - 1 < capacity ? id_limit - 1 : capacity;
        if (count == 0)
            return {{}, hal::remembered::forget};
        current_ = 0;
        while (current_ < count && spaces_[current_].space != space)
            ++current_;
        if (current_ == count) {
            current_ = next_;
            next_ = (next_ + 1) % count;
            spaces_[current_] = {space, never};
        }
        entry& known = spaces_[current_];
        const auto what = known.generation == generation ? hal::remembered::keep : hal::remembered::forget;
        known.generation = generation;
        return {hal::address_space_id{static_cast<std::uint16_t>(current_ + 1)}, what};
    }

    // What made `generation` of the space chosen last has been forgotten. Several may have to be in any order: one that
    // comes before an older one counts for nothing, and the next choice forgets everything.
    void forgot(std::uint64_t generation) noexcept
    {
        entry& known = spaces_[current_];
        if (known.generation + 1 == generation)
            known.generation = generation;
    }

private:
    static constexpr std::uint64_t never = ~std::uint64_t{0};

    struct entry {
        std::uint64_t space{};
        std::uint64_t generation{never};
    };

    entry spaces_[capacity]{}; // by id, from 1 on
    unsigned current_{};
    unsigned next_{}; // to be given up
};

} // namespace exo::mm
