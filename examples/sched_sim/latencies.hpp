// How long something took, many times: percentiles to a thirty-second of their value, in little memory (the buckets of
// HdrHistogram: a power of two each, cut into equal parts).

#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

#include <exo/base/time.hpp>

namespace sched_sim {

class latencies {
public:
    void record(exo::duration took)
    {
        const auto ns = static_cast<std::uint64_t>(took.nanoseconds());
        ++buckets_[bucket_of(ns)];
        ++count_;
        greatest_ = std::max(greatest_, took);
    }
    [[nodiscard]] std::uint64_t count() const { return count_; }
    [[nodiscard]] exo::duration greatest() const { return greatest_; }
    // What `percent` of all did not exceed, rounded up to the end of its bucket; zero when there are none.
    [[nodiscard]] exo::duration percentile(unsigned percent) const
    {
        const std::uint64_t wanted = (count_ * percent + 99) / 100;
        std::uint64_t seen = 0;
        for (std::size_t i = 0; i < buckets_.size() && wanted != 0; ++i)
            if ((seen += buckets_[i]) >= wanted)
                return std::min(last_of(i), greatest_);
        return {};
    }

private:
    static constexpr unsigned part_bits = 5;
    static constexpr std::uint64_t parts = 1U << part_bits;

    static std::size_t bucket_of(std::uint64_t ns)
    {
        if (ns < parts)
            return ns;
        const auto shift = static_cast<unsigned>(std::bit_width(ns)) - 1 - part_bits;
        return (shift << part_bits) + (ns >> shift);
    }
    static exo::duration last_of(std::size_t bucket)
    {
        if (bucket < parts)
            return exo::duration{static_cast<std::int64_t>(bucket)};
        const std::uint64_t shift = (bucket >> part_bits) - 1;
        return exo::duration{static_cast<std::int64_t>(((bucket - (shift << part_bits) + 1) << shift) - 1)};
    }

    std::array<std::uint64_t, (64 - part_bits) * parts + parts> buckets_{};
    std::uint64_t count_{};
    exo::duration greatest_;
};

} // namespace sched_sim
