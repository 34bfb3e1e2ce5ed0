// Failing sequences made short enough to read.

#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

// Of `all`, for which fails() holds, a subsequence for which it still does, and does not without any one of its elements:
// delta debugging (Zeller and Hildebrandt, IEEE Transactions on Software Engineering 28(2), 2002).
template <class T, class Fails>
std::vector<T> shrink(std::vector<T> all, Fails fails)
{
    std::size_t cut = all.size();
    bool shorter = false;
    do {
        cut = std::max<std::size_t>(cut / 2, 1);
        shorter = false;
        for (std::size_t at = 0; at < all.size();) {
            auto rest = all;
            const auto from = rest.begin() + static_cast<std::ptrdiff_t>(at);
            rest.erase(from, from + static_cast<std::ptrdiff_t>(std::min(cut, all.size() - at)));
            if (fails(rest)) {
                all = std::move(rest);
                shorter = true;
            } else {
                at += cut;
            }
        }
    } while (cut > 1 || shorter);
    return all;
}
