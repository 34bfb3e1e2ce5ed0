// Resource limits and usage, as setrlimit and getrusage know them (POSIX sys/resource.h, Linux's numbers).

#pragma once

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

class resource_limits {
public:
    // What the first process starts with.
    resource_limits()
    {
        (*this)[resource::stack].soft = 8 << 20;
        (*this)[resource::core].soft = 0;
        (*this)[resource::open_files] = {1024, 4096};
        (*this)[resource::pending_signals] = {64, 64};
        (*this)[resource::locked_memory] = {64 << 10, 64 << 10};
        (*this)[resource::nice] = (*this)[resource::real_time_priority] = {0, 0};
    }

    [[nodiscard]] resource_limit& operator[](resource r) { return limits_[static_cast<std::size_t>(r)]; }
    [[nodiscard]] const resource_limit& operator[](resource r) const { return limits_[static_cast<std::size_t>(r)]; }

private:
    resource_limit limits_[resource_count];
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
