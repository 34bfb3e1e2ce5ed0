// What locks cost (sync/lock_counters.hpp) as metrics: a sample for each rank.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <exo/sync/lock_counters.hpp>
#include <exo/sync/lock_rank.hpp>
#include <exo/trace/registry.hpp>

namespace exo::trace {

// `CountersOf` gives the counters of a CPU, of which there are `cpus`.
template <class CountersOf>
class lock_metrics final : public source {
public:
    lock_metrics(CountersOf counters_of, unsigned cpus) : counters_of_{std::move(counters_of)}, cpus_{cpus} {}

    std::size_t size() const noexcept override { return table.size() * sync::lock_rank_count; }
    metric describe(std::size_t index) const noexcept override
    {
        metric m = table[index / sync::lock_rank_count].what;
        m.sample = labels[index % sync::lock_rank_count].text();
        return m;
    }
    std::uint64_t read(std::size_t index) const noexcept override
    {
        const row& r = table[index / sync::lock_rank_count];
        const auto rank = static_cast<sync::lock_rank>(index % sync::lock_rank_count);
        std::uint64_t all = 0;
        for (unsigned cpu = 0; cpu < cpus_; ++cpu) {
            const std::uint64_t one = (counters_of_(cpu).of(rank).*r.count).load(std::memory_order_relaxed);
            all = r.what.kind == metric_kind::counter ? all + one : one > all ? one : all;
        }
        return all;
    }

private:
    using of_rank = sync::lock_counters::of_rank;
    struct row {
        metric what;
        std::atomic<std::uint64_t> of_rank::*count;
    };
    static constexpr std::array table{
        row{{"exo_lock_acquisitions_total", "Times that a lock was taken", metric_kind::counter},
            &of_rank::acquisitions},
        row{{"exo_lock_contended_total", "Of these, those that had to wait", metric_kind::counter},
            &of_rank::contended},
        row{{"exo_lock_wait_ns_total", "Time waited for locks", metric_kind::counter}, &of_rank::wait},
        row{{"exo_lock_hold_longest_ns", "The longest time that a lock was held", metric_kind::gauge},
            &of_rank::longest_hold},
    };

    // {rank="heap"}
    class label {
    public:
        constexpr label() = default;
        explicit constexpr label(sync::lock_rank rank)
        {
            for (const std::string_view part : {std::string_view{"{rank=\""}, name_of(rank), std::string_view{"\"}"}})
                for (const char c : part)
                    text_[size_++] = c;
        }
        [[nodiscard]] constexpr std::string_view text() const { return {text_, size_}; }

    private:
        char text_[32]{};
        std::size_t size_{};
    };
    static constexpr std::array<label, sync::lock_rank_count> labels = [] {
        std::array<label, sync::lock_rank_count> all;
        for (std::size_t i = 0; i < all.size(); ++i)
            all[i] = label{static_cast<sync::lock_rank>(i)};
        return all;
    }();

    CountersOf counters_of_;
    unsigned cpus_;
};

} // namespace exo::trace
