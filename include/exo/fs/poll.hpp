// Waiting for one of several files to become ready: what poll, select and (later) epoll are made of.
//
// A file answers with what is ready now, after it has shown the poll_table, if there is one, every wait queue that is
// woken when that answer may change. In this order no change goes unnoticed. The events' values are those of poll(2).

#pragma once

#include <concepts>
#include <cstdint>

#include <exo/base/allocator.hpp>
#include <exo/base/list.hpp>
#include <exo/base/result.hpp>
#include <exo/sync/any_parker.hpp>
#include <exo/sync/wait_queue.hpp>

namespace exo::fs {

using poll_events = std::uint32_t;

namespace poll {
inline constexpr poll_events in = 0x001;
inline constexpr poll_events priority = 0x002;
inline constexpr poll_events out = 0x004;
inline constexpr poll_events error = 0x008;   // reported even if not asked for
inline constexpr poll_events hang_up = 0x010; // likewise
inline constexpr poll_events in_normal = 0x040;
inline constexpr poll_events out_normal = 0x100;
inline constexpr poll_events always_ready = in | out | in_normal | out_normal;
} // namespace poll

class poll_table {
public:
    // `queue` outlives the table's interest in it: the caller of poll keeps the file open until then.
    virtual void watch(sync::wait_queue& queue) noexcept = 0;

protected:
    ~poll_table() = default;
};

// The calling thread's interest in any number of queues; on a loss of memory it is reported once, by wait.
class poll_set final : public poll_table {
public:
    poll_set(allocator& heap, sync::any_parker& parker) : heap_{heap}, parker_{parker} {}
    poll_set(const poll_set&) = delete;
    poll_set& operator=(const poll_set&) = delete;
    ~poll_set()
    {
        while (watched* w = watched_.pop_front()) {
            w->queue.remove(parker_, w->waiter);
            delete_object(heap_, w);
        }
    }

    void watch(sync::wait_queue& queue) noexcept override
    {
        auto made = new_object<watched>(heap_, queue);
        if (!made) {
            out_of_memory_ = true;
            return;
        }
        queue.add(parker_, (*made)->waiter);
        watched_.push_back(**made);
    }

    // Returns once `condition()` is true: it polls the files again, without a table, and once more after an
    // interruption. Errors: interrupted, timed_out, out_of_memory.
    template <std::predicate Condition>
    [[nodiscard]] result<> wait(Condition condition, instant deadline = instant::never())
    {
        for (;;) {
            if (condition())
                return {};
            if (out_of_memory_)
                return fail(errors::out_of_memory, sizeof(watched));
            if (parker_.interrupted())
                return condition() ? result<>{} : fail(errors::interrupted);
            if (deadline != instant::never() && parker_.now() >= deadline)
                return fail(errors::timed_out);
            parker_.park(deadline);
        }
    }

private:
    struct watched {
        explicit watched(sync::wait_queue& q) : queue{q} {}
        sync::wait_queue& queue;
        sync::wait_queue::waiter waiter;
        list_hook hook;
    };

    allocator& heap_;
    sync::any_parker& parker_;
    list<watched, &watched::hook> watched_;
    bool out_of_memory_{};
};

} // namespace exo::fs
