// Equal threads take turns: each runs for one slice, then goes behind all others. A thread that slept joins at the end.

#pragma once

#include <cstddef>

#include <exo/base/list.hpp>
#include <exo/sched/policy.hpp>

namespace exo::sched {

class round_robin {
public:
    static constexpr duration default_slice = milliseconds(10);

    struct parameters {
        friend bool operator==(const parameters&, const parameters&) = default;
    };

    class entity {
    public:
        void set(const round_robin::parameters&) {}
        [[nodiscard]] round_robin::parameters parameters() const { return {}; }

    private:
        friend round_robin;
        list_hook hook_;
        duration left_{};
    };

    explicit round_robin(duration slice = default_slice) : slice_{slice} {}

    void enqueue(entity& e, arrival, instant) noexcept
    {
        e.left_ = slice_;
        put_last(e);
    }
    void dequeue(entity& e) noexcept
    {
        if (e.hook_.linked())
            take(e);
    }
    entity* pick(instant) noexcept
    {
        entity* next = queue_.front();
        if (next)
            take(*next);
        return next;
    }
    void requeue(entity& e, departure why, instant) noexcept
    {
        if (why == departure::preempted) {
            queue_.push_front(e);
            ++size_;
            return;
        }
        e.left_ = slice_;
        put_last(e);
    }

    bool tick(entity& e, duration ran, instant) noexcept
    {
        e.left_ = e.left_ - ran;
        return e.left_ <= duration{} && size_ != 0;
    }
    [[nodiscard]] instant turn_ends(const entity& e, instant now) const noexcept
    {
        return size_ == 0 ? instant::never() : now + (e.left_ > duration{} ? e.left_ : duration{});
    }
    [[nodiscard]] bool preempts(const entity&, const entity&) const noexcept { return false; }
    [[nodiscard]] instant next_release() const noexcept { return instant::never(); }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    // The next to run first: of all it has not run for the longest time.
    template <class Visit>
    void visit_movable(Visit visit)
    {
        for (entity& e : queue_)
            if (!visit(e))
                return;
    }
    [[nodiscard]] std::uint64_t rank(const entity&) const noexcept { return 0; }
    [[nodiscard]] static std::uint64_t rank_of(const parameters&, instant) noexcept { return 0; }
    [[nodiscard]] bool urgent(const entity&) const noexcept { return false; }
    [[nodiscard]] std::uint32_t weight(const entity&) const noexcept { return default_weight; }

private:
    void put_last(entity& e)
    {
        queue_.push_back(e);
        ++size_;
    }
    void take(entity& e)
    {
        queue_.erase(e);
        --size_;
    }

    duration slice_;
    list<entity, &entity::hook_> queue_;
    std::size_t size_{};
};
static_assert(SchedPolicy<round_robin>);

} // namespace exo::sched
