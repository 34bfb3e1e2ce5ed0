// When each of a fixed number of CPUs has its next event, and who is due first: a tournament tree (Knuth, The Art of
// Computer Programming, volume 3, 5.4.1). A change takes time logarithmic in the number, as does the question.

#pragma once

#include <algorithm>
#include <bit>
#include <vector>

#include <exo/base/time.hpp>

namespace exo::sim {

class agenda {
public:
    // All have none at first: instant::never().
    explicit agenda(unsigned count) : leaves_{std::bit_ceil(std::max(count, 1U))}, least_(2 * leaves_, instant::never())
    {
    }

    void set(unsigned number, instant when)
    {
        unsigned node = leaves_ + number;
        least_[node] = when;
        while ((node /= 2) > 0) {
            const instant least = std::min(least_[2 * node], least_[2 * node + 1]);
            if (least_[node] == least)
                break;
            least_[node] = least;
        }
    }

    [[nodiscard]] instant least() const { return least_[1]; }
    // The lowest number with an event no later than `bound`, which is least() or later.
    [[nodiscard]] unsigned first(instant bound) const
    {
        unsigned node = 1;
        while (node < leaves_)
            node = 2 * node + (least_[2 * node] > bound);
        return node - leaves_;
    }
    // visit(number) for all with an event no later than `bound`, in ascending order.
    template <class Visit>
    void visit_until(instant bound, Visit visit) const
    {
        visit_below(1, bound, visit);
    }

private:
    template <class Visit>
    void visit_below(unsigned node, instant bound, Visit& visit) const
    {
        if (least_[node] > bound)
            return;
        if (node >= leaves_) {
            visit(node - leaves_);
            return;
        }
        visit_below(2 * node, bound, visit);
        visit_below(2 * node + 1, bound, visit);
    }

    unsigned leaves_;
    std::vector<instant> least_; // of the subtree; children of node n are 2n and 2n + 1, the leaves come last
};

} // namespace exo::sim
