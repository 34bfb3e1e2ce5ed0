// Who holds pages that could be given back when memory is short: every page cache is on this list.
//
// reclaim() asks them in turn, so that none is drained while another stays full. It may sleep; it is not for interrupt
// handlers, and not to be called with a spinning lock held.

#pragma once

#include <cstddef>

#include <exo/base/list.hpp>
#include <exo/sync/any_parker.hpp>
#include <exo/sync/spin_lock.hpp>

namespace exo::fs {

// Holds pages that can be read again.
class reclaimable {
public:
    // Gives back up to `pages` clean pages that nobody uses, those not used lately first; how many it gave. Called with
    // the reclaimer's lock held: it does not sleep.
    virtual std::size_t reclaim(std::size_t pages) noexcept = 0;

    list_hook reclaimer_hook;

protected:
    ~reclaimable() = default;
};

class page_reclaimer {
public:
    void add(sync::any_parker& parker, reclaimable& holder) noexcept
    {
        auto guard = lock_.lock(parker);
        holders_.push_back(holder);
    }
    void remove(sync::any_parker& parker, reclaimable& holder) noexcept
    {
        auto guard = lock_.lock(parker);
        holders_.erase(holder);
    }

    // How many pages were given back: fewer than asked for when there is no more to give.
    std::size_t reclaim(sync::any_parker& parker, std::size_t pages) noexcept
    {
        auto guard = lock_.lock(parker);
        std::size_t freed = 0;
        // Twice round: the first time, what was used lately is only marked as seen.
        for (int round = 0; round < 2 && freed < pages; ++round) {
            reclaimable* const last = holders_.back();
            for (reclaimable* holder = nullptr; last && holder != last && freed < pages;) {
                holder = holders_.pop_front();
                holders_.push_back(*holder);
                freed += holder->reclaim(pages - freed);
            }
        }
        return freed;
    }

private:
    sync::spin_lock<sync::lock_rank::page_reclaimer, sync::any_parker> lock_;
    list<reclaimable, &reclaimable::reclaimer_hook> holders_;
};

} // namespace exo::fs
