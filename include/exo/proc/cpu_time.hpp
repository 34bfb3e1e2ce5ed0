// How the time for which a CPU was busy divides into the program's own and the kernel's on its behalf.
//
// It is sampled, as Linux does unless it was built with CONFIG_VIRT_CPU_ACCOUNTING: to look at the clock on each way
// into the kernel and out would make every system call dearer. What is sampled is the division only; the sum is exact.

#pragma once

#include <atomic>
#include <cstdint>

#include <exo/base/time.hpp>

namespace exo::proc {

// What an interrupt came upon.
enum class processor_mode : std::uint8_t { user, kernel };

struct cpu_times {
    duration user{};
    duration system{};
};

class cpu_time_split {
public:
    static constexpr duration sampling_interval = milliseconds(10);

    // At the clock's own multiples of the interval: from when work began on, short pieces of it would have none.
    [[nodiscard]] static constexpr instant next_sample(instant now)
    {
        const auto interval = static_cast<std::uint64_t>(sampling_interval.nanoseconds());
        return instant{(now.nanoseconds() / interval + 1) * interval};
    }
    // One call at a time, from a timer interrupt.
    void sample(processor_mode found) noexcept
    {
        auto& count = found == processor_mode::user ? user_ : system_;
        count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }
    // Of `busy`; all of it is the program's before the first sample. One call at a time. Neither part becomes smaller
    // from call to call: a `busy` that does is taken for the one before.
    [[nodiscard]] cpu_times divide(duration busy) noexcept
    {
        if (busy < last_.user + last_.system)
            return last_;
        const std::int64_t system = system_.load(std::memory_order_relaxed);
        const std::int64_t samples = system + user_.load(std::memory_order_relaxed);
        const std::int64_t ns = busy.nanoseconds();
        duration part = samples == 0 ? duration{} : duration{ns / samples * system + ns % samples * system / samples};
        if (part < last_.system)
            part = last_.system;
        if (busy - part < last_.user)
            part = busy - last_.user;
        last_ = {.user = busy - part, .system = part};
        return last_;
    }
    [[nodiscard]] duration sampled(processor_mode mode) const noexcept
    {
        const auto& count = mode == processor_mode::user ? user_ : system_;
        return sampling_interval * count.load(std::memory_order_relaxed);
    }

private:
    std::atomic<std::uint32_t> user_{}, system_{};
    cpu_times last_{};
};

} // namespace exo::proc
