// A million timers in one queue, beside a plain model of it.

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <deque>
#include <random>
#include <utility>
#include <vector>

#include <exo/sched/timer_queue.hpp>
#include <exo/sim/virtual_cpus.hpp>

using namespace exo;

namespace {

using queue = sched::timer_queue<sim::virtual_cpus>;
constexpr std::size_t count = 1'000'000;
constexpr std::uint64_t span = 700'000; // of deadlines, in nanoseconds: many are equal

struct ringer : queue::timer {
    ringer() : timer{&ring} {}
    static instant ring(timer& t, instant now) noexcept;
    std::uint32_t number{};
};
std::vector<std::uint32_t> rung;

// What a handler asks for depends on who rings, and when, only.
instant again(std::uint32_t number, instant now)
{
    const std::uint64_t mixed = (number * 0x9E3779B97F4A7C15u) ^ now.nanoseconds();
    return number % 10 == 0 && mixed % 3 != 0 ? now + nanoseconds(static_cast<std::int64_t>(1 + mixed % 50'000))
                                              : instant::never();
}
instant ringer::ring(timer& t, instant now) noexcept
{
    const auto number = static_cast<ringer&>(t).number;
    rung.push_back(number);
    return again(number, now);
}

// For each nanosecond those that are due then, in the order in which that was set. An entry is outdated when its timer
// has been armed or cancelled since.
class model {
public:
    // Whether it is now the first.
    bool arm(std::uint32_t number, instant deadline)
    {
        const std::size_t at = deadline.nanoseconds();
        due_.at(at).push_back({number, ++version_[number]});
        armed_[number] = true;
        first_ = std::min(first_, at);
        const entry* first = find_first();
        return first && first->number == number;
    }
    bool cancel(std::uint32_t number)
    {
        ++version_[number];
        const bool was = armed_[number];
        armed_[number] = false;
        return was;
    }
    void expire(instant now, std::vector<std::uint32_t>& rings)
    {
        for (const entry* first = find_first(); first && first_ <= now.nanoseconds(); first = find_first()) {
            const auto number = first->number;
            cancel(number);
            rings.push_back(number);
            if (const instant next = again(number, now); next != instant::never())
                arm(number, next);
        }
    }
    bool armed(std::uint32_t number) const { return armed_[number]; }
    instant next() { return find_first() ? instant{first_} : instant::never(); }

private:
    struct entry {
        std::uint32_t number, version;
    };
    const entry* find_first()
    {
        for (; first_ < due_.size(); ++first_) {
            auto& here = due_[first_];
            while (!here.empty() && here.front().version != version_[here.front().number])
                here.erase(here.begin());
            if (!here.empty())
                return &here.front();
        }
        return nullptr;
    }

    std::vector<std::vector<entry>> due_{2 * span + 100'000};
    std::size_t first_{due_.size()};
    std::vector<std::uint32_t> version_ = std::vector<std::uint32_t>(count);
    std::vector<bool> armed_ = std::vector<bool>(count);
};

// Nanoseconds of CPU time.
template <class Run>
double cost(Run run)
{
    const std::clock_t begin = std::clock();
    run();
    return static_cast<double>(std::clock() - begin) * 1e9 / CLOCKS_PER_SEC;
}

} // namespace

TEST_CASE("a million timers are armed, cancelled and called as by a sorted list of them")
{
    sim::virtual_cpus cpu{1};
    queue timers;
    std::deque<ringer> ringers(count);
    model expected;
    std::mt19937 random{1};
    std::vector<std::uint32_t> chosen(count);
    std::vector<instant> deadlines(count);
    std::vector<char> answers(count);
    for (std::uint32_t i = 0; i < count; ++i) {
        ringers[i].number = i;
        chosen[i] = i;
        deadlines[i] = instant{random() % span};
    }
    const auto arm = [&] {
        for (std::size_t i = 0; i < chosen.size(); ++i)
            answers[i] = timers.arm(cpu, ringers[chosen[i]], deadlines[i]);
    };
    const auto check_arm = [&] {
        std::size_t wrong = 0;
        for (std::size_t i = 0; i < chosen.size(); ++i)
            wrong += expected.arm(chosen[i], deadlines[i]) != static_cast<bool>(answers[i]);
        CHECK(wrong == 0);
    };
    const auto arming = cost(arm);
    check_arm();

    chosen.resize(count / 2);
    for (auto& number : chosen) // some more than once
        number = static_cast<std::uint32_t>(random() % count);
    const auto cancelling = cost([&] {
        for (std::size_t i = 0; i < chosen.size(); ++i)
            answers[i] = queue::cancel(cpu, ringers[chosen[i]]);
    });
    std::size_t wrong = 0;
    std::size_t cancelled = 0;
    for (std::size_t i = 0; i < chosen.size(); ++i) {
        wrong += expected.cancel(chosen[i]) != static_cast<bool>(answers[i]);
        cancelled += static_cast<std::size_t>(answers[i]);
    }
    CHECK(wrong == 0);
    CHECK(cancelled > count / 3);

    chosen.clear();
    for (std::uint32_t i = 0; i < count; ++i)
        if (!expected.armed(i))
            chosen.push_back(i);
    for (std::size_t i = 0; i < chosen.size(); ++i)
        deadlines[i] = instant{random() % span};
    arm();
    check_arm();
    CHECK(timers.next(cpu) == expected.next());

    // A million and more are called, in steps of time of which some pass many deadlines and some none.
    rung.clear();
    rung.reserve(2 * count);
    std::vector<std::pair<std::size_t, instant>> after; // each step
    std::vector<instant> steps;
    for (instant now{}; now < instant{2 * span}; now = now + nanoseconds(static_cast<std::int64_t>(random() % 400)))
        steps.push_back(now);
    const auto calling = cost([&] {
        for (const instant now : steps) {
            timers.expire(cpu, now);
            after.emplace_back(rung.size(), timers.next(cpu));
        }
    });
    std::vector<std::uint32_t> rings;
    for (std::size_t i = 0; i < steps.size(); ++i) {
        expected.expire(steps[i], rings);
        wrong += rings.size() != after[i].first || expected.next() != after[i].second;
    }
    CHECK(wrong == 0);
    CHECK((rung == rings));
    CHECK(rung.size() > count);
    const auto each = [](double all, std::size_t operations) {
        return static_cast<int>(all / static_cast<double>(operations));
    };
    MESSAGE("nanoseconds each: arming " << each(arming, count) << ", cancelling " << each(cancelling, count / 2)
                                        << ", calling " << each(calling, rung.size()));
    for (auto& r : ringers)
        queue::cancel(cpu, r);
    CHECK(timers.next(cpu) == instant::never());
}
