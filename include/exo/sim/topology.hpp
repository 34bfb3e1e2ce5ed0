// A machine's shape by numbers: so many threads in each core, cores in each package, packages at each node of memory.

#pragma once

#include <vector>

#include <exo/base/check.hpp>
#include <exo/base/cpu_set.hpp>
#include <exo/hal/topology.hpp>

namespace exo::sim {

template <class Set = cpu_set>
class topology {
public:
    using set_type = Set;
    struct shape {
        unsigned threads{1};
        unsigned cores{1};
        unsigned packages{1};
        unsigned nodes{1};
    };

    explicit topology(const shape& s)
    {
        unsigned size = 1;
        sizes_.push_back(1);
        for (const unsigned times : {s.threads, s.cores, s.packages, s.nodes}) {
            EXO_CHECK(times > 0 && size <= Set::limit / times);
            size *= times;
            if (times > 1)
                sizes_.push_back(size);
        }
        if (sizes_.size() > 1)
            sizes_.erase(sizes_.begin()); // a CPU alone is no domain
        domains_.resize(sizes_.size());
        for (std::size_t level = 0; level < sizes_.size(); ++level)
            for (unsigned first = 0; first < size; first += sizes_[level]) {
                Set& domain = domains_[level].emplace_back();
                for (unsigned cpu = first; cpu < first + sizes_[level]; ++cpu)
                    domain.add(cpu);
            }
    }

    [[nodiscard]] unsigned cpu_count() const noexcept { return sizes_.back(); }
    [[nodiscard]] unsigned level_count() const noexcept { return static_cast<unsigned>(sizes_.size()); }
    [[nodiscard]] const Set& domain(unsigned cpu, unsigned level) const noexcept
    {
        return domains_[level][cpu / sizes_[level]];
    }

private:
    std::vector<unsigned> sizes_; // of a domain, by level
    std::vector<std::vector<Set>> domains_;
};
static_assert(hal::Topology<topology<>>);

} // namespace exo::sim
