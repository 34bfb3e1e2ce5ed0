// A Parker whose threads are the host's own, which run truly at once: for tests of what sleeps and wakes, under
// ThreadSanitizer too. There are no interrupts; disabling them only nests.

#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <utility>

#include <exo/base/check.hpp>
#include <exo/sync/any_parker.hpp>

namespace exo::sim {

class host_threads final : public sync::any_parker {
public:
    thread current() const noexcept override { return &self(); }

    void park(instant deadline) noexcept override
    {
        EXO_CHECK(enabled());
        record& me = self();
        std::unique_lock lock{me.mutex};
        if (deadline == instant::never()) {
            me.wake.wait(lock, [&] { return me.token; });
        } else {
            const instant from = now();
            if (deadline > from)
                me.wake.wait_for(lock, std::chrono::nanoseconds{(deadline - from).nanoseconds()},
                                 [&] { return me.token; });
        }
        me.token = false;
    }
    void unpark(const thread& t) noexcept override
    {
        record& other = *static_cast<record*>(t);
        const std::lock_guard lock{other.mutex};
        other.token = true;
        other.wake.notify_one();
    }

    // Wants `t` to give up its wait, and those to come.
    void interrupt(const thread& t) noexcept
    {
        record& other = *static_cast<record*>(t);
        const std::lock_guard lock{other.mutex};
        other.interrupted = true;
        other.token = true;
        other.wake.notify_one();
    }
    bool interrupted() const noexcept override { return self().interrupted; }

    instant now() const noexcept override
    {
        const auto since = std::chrono::steady_clock::now() - start_;
        return instant{static_cast<std::uint64_t>(std::chrono::nanoseconds{since}.count())};
    }

    state save_and_disable() noexcept override { return std::exchange(self().enabled, false); }
    void restore(const state& saved) noexcept override { self().enabled = saved; }
    bool enabled() noexcept override { return self().enabled; }

private:
    struct record {
        std::mutex mutex;
        std::condition_variable wake;
        bool token{};
        bool enabled{true};
        std::atomic<bool> interrupted{};

        // Who interrupts may not be done yet when the thread has seen it and ends.
        ~record() { const std::lock_guard lock{mutex}; }
    };
    static record& self()
    {
        static thread_local record mine;
        return mine;
    }

    std::chrono::steady_clock::time_point start_{std::chrono::steady_clock::now()};
};

} // namespace exo::sim
