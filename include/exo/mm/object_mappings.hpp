// Who maps an object, as the object sees it: so that one that becomes smaller takes its pages out of every address
// space, and an access behind its end is an error from then on (POSIX mmap: SIGBUS).
//
// The object refuses the pages first, then calls forget_from(). A fault that got a page before sees another
// generation() when it is about to map it, and asks again. Mappings that come later never had a page to forget, or take
// over `generation` from the one whose pages they take over.

#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

#include <exo/base/list.hpp>
#include <exo/base/result.hpp>
#include <exo/sync/any_parker.hpp>
#include <exo/sync/spin_lock.hpp>

namespace exo::mm {

class object_mappings;

// An address space, as far as the objects in it know it.
class object_user {
public:
    // Keeps it from ending until unpin(); false when it is ending already, and its mappings with it.
    [[nodiscard]] virtual bool try_pin() noexcept = 0;
    virtual void unpin() noexcept = 0;
    // Drops the object's pages from index `first` on, and then has all its mappings of the object `seen`. Errors:
    // out_of_memory.
    [[nodiscard]] virtual result<> forget_pages(object_mappings& object, std::uint64_t first) noexcept = 0;

protected:
    ~object_user() = default;
};

// One mapping, part of a region.
struct object_mapping {
    object_user* user{};
    object_mappings* object{};  // null: not entered, or the object never becomes smaller
    std::uint64_t generation{}; // up to which it has forgotten what it had to
    list_hook hook;
};

class object_mappings {
public:
    object_mappings() = default;

    // How often pages had to be forgotten.
    [[nodiscard]] std::uint64_t generation() const noexcept { return generation_.load(std::memory_order_acquire); }

    void enter(sync::any_parker& parker, object_mapping& m, object_user& user) noexcept
    {
        auto guard = lock_.lock(parker);
        m.user = &user;
        m.object = this;
        if (m.generation == generation())
            mappings_.push_back(m);
        else
            mappings_.push_front(m);
    }
    void leave(sync::any_parker& parker, object_mapping& m) noexcept
    {
        auto guard = lock_.lock(parker);
        mappings_.erase(m);
        m.object = nullptr;
    }
    // For object_user::forget_pages. A mapping that is yet to be entered will be asked again.
    void seen(sync::any_parker& parker, object_mapping& m) noexcept
    {
        auto guard = lock_.lock(parker);
        if (m.object == this)
            set_seen(m);
    }

    // Takes the pages from index `first` on out of every space, private copies included. One call at a time; may sleep.
    // Errors: out_of_memory, when some spaces still have them.
    [[nodiscard]] result<> forget_from(sync::any_parker& parker, std::uint64_t first) noexcept
    {
        generation_.fetch_add(1, std::memory_order_acq_rel);
        while (object_user* const user = next_user(parker)) {
            const auto outcome = user->forget_pages(*this, first);
            user->unpin();
            EXO_TRY(outcome);
        }
        return {};
    }

private:
    // Those that have something to forget come first.
    [[nodiscard]] object_user* next_user(sync::any_parker& parker) noexcept
    {
        auto guard = lock_.lock(parker);
        while (object_mapping* const m = mappings_.front()) {
            if (m->generation == generation())
                return nullptr;
            if (m->user->try_pin())
                return m->user;
            set_seen(*m);
        }
        return nullptr;
    }
    void set_seen(object_mapping& m) noexcept
    {
        m.generation = generation();
        mappings_.erase(m);
        mappings_.push_back(m);
    }

    std::atomic<std::uint64_t> generation_{};
    sync::spin_lock<sync::lock_rank::object_mappings, sync::any_parker> lock_;
    list<object_mapping, &object_mapping::hook> mappings_;
};

} // namespace exo::mm
