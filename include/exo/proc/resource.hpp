// Resource limits and usage, as setrlimit and getrusage know them (POSIX sys/resource.h, Linux's numbers).

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include <exo/base/time.hpp>

namespace exo::proc {

enum class resource : unsigned {
    cpu, file_size, data, stack, core, resident_set, processes, open_files, locked_memory, address_space, locks,
    pending_signals, message_queues, nice, real_time_priority, real_time_run,
};
inline constexpr std::size_t resource_count = 16;

struct resource_limit {
    static constexpr std::uint64_t unlimited = ~std::uint64_t{0};

    std::uint64_t soft{unlimited};
    std::uint64_t hard{unlimited};
};

// Anybody may read and change them at any time; what is read of one may be the old soft and the new hard limit.
class resource_limits {
public:
    // What the first process starts with.
    resource_limits()
    {
        set(resource::stack, {.soft = 8 << 20});
        set(resource::core, {.soft = 0});
        set(resource::open_files, {1024, 4096});
        set(resource::pending_signals, {64, 64});
        set(resource::locked_memory, {64 << 10, 64 << 10});
        set(resource::nice, {0, 0});
        set(resource::real_time_priority, {0, 0});
    }
    resource_limits& operator=(const resource_limits& other)
    {
        for (std::size_t r = 0; r < resource_count; ++r)
            set(static_cast<resource>(r), other[static_cast<resource>(r)]);
        return *this;
    }

    [[nodiscard]] resource_limit operator[](resource r) const
    {
        const auto& limit = limits_[static_cast<std::size_t>(r)];
        return {limit.soft.load(std::memory_order_relaxed), limit.hard.load(std::memory_order_relaxed)};
    }
    void set(resource r, const resource_limit& next)
    {
        auto& limit = limits_[static_cast<std::size_t>(r)];
        limit.soft.store(next.soft, std::memory_order_relaxed);
        limit.hard.store(next.hard, std::memory_order_relaxed);
    }

private:
    struct shared_limit {
        std::atomic<std::uint64_t> soft{resource_limit::unlimited};
        std::atomic<std::uint64_t> hard{resource_limit::unlimited};
    };

    shared_limit limits_[resource_count];
};

struct resource_usage {
    duration user{};
    duration system{};
    std::uint64_t minor_faults{};
    std::uint64_t major_faults{};
    std::uint64_t voluntary_switches{};
    std::uint64_t involuntary_switches{};

    resource_usage& operator+=(const resource_usage& other)
    {
        user += other.user;
        system += other.system;
        minor_faults += other.minor_faults;
        major_faults += other.major_faults;
        voluntary_switches += other.voluntary_switches;
        involuntary_switches += other.involuntary_switches;
        return *this;
    }
};

} // namespace exo::proc
