// Who holds memory that could be given back when it is short: page caches, and whatever else can make its contents
// anew.
//
// The kernel asks when free frames fall below a watermark, and whoever fails to get one asks before it gives up.
// reclaim() asks the holders in turn, so that none is drained while another stays full. It is called by threads, with
// no spinning lock held.

#pragma once

#include <cstddef>

#include <exo/base/errors.hpp>
#include <exo/base/list.hpp>
#include <exo/sync/any_parker.hpp>
#include <exo/sync/spin_lock.hpp>
#include <exo/trace/counter.hpp>

namespace exo::mm {

// Holds frames whose contents can be had again.
class reclaimable {
public:
    // Gives back up to `frames` frames that nobody uses, those not used lately first; how many it gave. Called with the
    // reclaimer's lock held: it does not sleep.
    virtual std::size_t reclaim(std::size_t frames) noexcept = 0;

    list_hook reclaimer_hook;

protected:
    ~reclaimable() = default;
};

class reclaimer {
public:
    // Frames worth asking for at a time.
    static constexpr std::size_t batch = 64;

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

    // What allocate(), a result, comes to: called again as long as it finds no memory and a holder gives some back.
    template <class Allocate>
    [[nodiscard]] auto retry(sync::any_parker& parker, Allocate allocate) noexcept
    {
        for (;;) {
            auto outcome = allocate();
            if (outcome || outcome.error() != errors::out_of_memory || reclaim(parker) == 0)
                return outcome;
        }
    }
    // How many frames were given back: fewer than asked for when there is no more to give.
    std::size_t reclaim(sync::any_parker& parker, std::size_t frames = batch) noexcept
    {
        runs.add();
        auto guard = lock_.lock(parker);
        std::size_t freed = 0;
        // Twice round: the first time, what was used lately is only marked as seen.
        for (int round = 0; round < 2 && freed < frames; ++round) {
            reclaimable* const last = holders_.back();
            for (reclaimable* holder = nullptr; last && holder != last && freed < frames;) {
                holder = holders_.pop_front();
                holders_.push_back(*holder);
                freed += holder->reclaim(frames - freed);
            }
        }
        reclaimed.add(freed);
        return freed;
    }

    trace::shared_counter<trace::recording> runs;
    trace::shared_counter<trace::recording> reclaimed; // frames

private:
    sync::spin_lock<sync::lock_rank::reclaimer, sync::any_parker> lock_;
    list<reclaimable, &reclaimable::reclaimer_hook> holders_;
};

} // namespace exo::mm
