// Which CPU's cache has which line of 64 bytes, and what it costs the CPUs to have it so: MESI with caches that never
// evict, over the addresses of the host.
//
// A write costs something when another CPU has a copy of the line, which it then loses: a *write to a shared line*. A
// read costs something when the CPU has no copy, since another CPU wrote the line last: a *miss*. What no other CPU has
// touched costs nothing, the first access included.

#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace contention {

inline constexpr std::size_t line_size = 64;
inline constexpr unsigned most_cpus = 64;

// Addresses under one name: an object, or many alike in a row.
struct named_memory {
    std::uintptr_t begin{};
    std::uintptr_t end{};
    std::size_t element{}; // bytes of one of them
    std::string name;
};

struct tally {
    std::uint64_t shared_writes{};
    std::uint64_t misses{};
};

class cache_lines {
public:
    // What `[begin, begin + bytes)` is called in reports; what was named first, where names overlap.
    void name(const void* begin, std::size_t bytes, std::string as, std::size_t element = 0)
    {
        const auto at = reinterpret_cast<std::uintptr_t>(begin);
        names_.push_back({at, at + bytes, element == 0 ? bytes : element, std::move(as)});
    }

    void access(unsigned cpu, std::uintptr_t at, std::size_t bytes, bool writes)
    {
        for (auto line = at / line_size; line <= (at + bytes - 1) / line_size; ++line)
            touch(cpu, line, line == at / line_size ? at : line * line_size, writes);
    }

    // Since the last call of forget_costs(), of all memory and by name and offset there.
    [[nodiscard]] tally total() const { return total_; }
    [[nodiscard]] std::map<std::string, tally> by_place() const
    {
        std::map<std::string, tally> places;
        for (const auto& [at, costs] : costs_) {
            tally& place = places[place_of(at)];
            place.shared_writes += costs.shared_writes;
            place.misses += costs.misses;
        }
        return places;
    }
    // The caches stay as they are.
    void forget_costs()
    {
        total_ = {};
        costs_.clear();
    }

private:
    struct state {
        std::bitset<most_cpus> copies;
        bool written{}; // then by the only CPU that had a copy after it
    };

    void touch(unsigned cpu, std::uintptr_t line, std::uintptr_t at, bool writes)
    {
        state& s = lines_[line];
        const bool has = s.copies.test(cpu);
        const bool others = s.copies.count() > (has ? 1u : 0u);
        if (writes) {
            if (others) {
                ++total_.shared_writes;
                ++costs_[at].shared_writes;
            }
            s.copies.reset();
            s.written = true;
        } else if (!has && s.written) {
            ++total_.misses;
            ++costs_[at].misses;
        }
        s.copies.set(cpu);
    }
    [[nodiscard]] std::string place_of(std::uintptr_t at) const
    {
        for (const auto& n : names_)
            if (n.begin <= at && at < n.end) {
                const auto offset = (at - n.begin) % n.element;
                return n.element > 4096 || n.element == 1 ? n.name : n.name + " +" + std::to_string(offset);
            }
        return "elsewhere";
    }

    std::unordered_map<std::uintptr_t, state> lines_;
    std::unordered_map<std::uintptr_t, tally> costs_; // by address
    std::vector<named_memory> names_;
    tally total_;
};

} // namespace contention
