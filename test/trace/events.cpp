// Events: the ring that keeps the last of them, and what they look like as a trace.

#include <doctest/doctest.h>

#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include <exo/trace/event_ring.hpp>
#include <exo/trace/event_writer.hpp>

using namespace exo;

namespace {

struct event {
    std::uint64_t number, tripled;
    std::uint32_t inverted;
};
constexpr event numbered(std::uint64_t n) { return {n, 3 * n, ~static_cast<std::uint32_t>(n)}; }
bool whole(const event& e) { return e.tripled == 3 * e.number && e.inverted == ~static_cast<std::uint32_t>(e.number); }

} // namespace

TEST_CASE("a ring has the last events, the oldest first, and a ring that does not record has none")
{
    trace::event_ring<event, 4> ring;
    const auto all = [&] {
        std::vector<std::uint64_t> numbers;
        ring.for_each([&](const event& e, bool follows) {
            CHECK(whole(e));
            CHECK(follows == !numbers.empty());
            numbers.push_back(e.number);
        });
        return numbers;
    };
    CHECK(all().empty());
    for (std::uint64_t n = 0; n < 3; ++n)
        ring.record(numbered(n));
    CHECK(all() == std::vector<std::uint64_t>{0, 1, 2});
    for (std::uint64_t n = 3; n < 10; ++n)
        ring.record(numbered(n));
    CHECK(all() == std::vector<std::uint64_t>{6, 7, 8, 9});

    // Of those overwritten during a visit nothing is told but that they are missing.
    std::vector<std::pair<std::uint64_t, bool>> some;
    ring.for_each([&](const event& e, bool follows) {
        some.emplace_back(e.number, follows);
        for (std::uint64_t n = 6; n < 8 && some.size() == 1; ++n)
            ring.record(numbered(n));
    });
    CHECK(some == std::vector<std::pair<std::uint64_t, bool>>{{6, false}, {8, false}, {9, true}});
    for (std::uint64_t n = 6; n < 10; ++n)
        ring.record(numbered(n));
    std::vector<std::uint64_t> numbers;
    CHECK(ring.for_each([](const event&, bool) {}));
    CHECK_FALSE(ring.for_each([&](const event& e, bool) {
        numbers.push_back(e.number);
        for (std::uint64_t n = 10; n < 20 && numbers.size() == 1; ++n)
            ring.record(numbered(n));
    }));
    CHECK(numbers == std::vector<std::uint64_t>{6});
    CHECK_FALSE(ring.for_each([&](const event& e, bool) {
        if (e.number == 19)
            ring.record(numbered(20));
    }));

    using silent = trace::event_ring<event, 4, trace::not_recording>;
    static_assert(std::is_empty_v<silent>);
    silent nothing;
    nothing.record(numbered(1));
    CHECK_FALSE(nothing.for_each([](const event&, bool) { FAIL("an event that was not recorded"); }));
}

TEST_CASE("a reader sees whole events in order while they are overwritten")
{
    static trace::event_ring<event, 8> ring;
    std::atomic<bool> enough{};
    std::thread writer{[&] {
        for (std::uint64_t n = 1; !enough; ++n)
            ring.record(numbered(n));
    }};
    std::uint64_t torn = 0, disordered = 0;
    for (std::uint64_t seen = 0; seen < 20'000;) {
        std::uint64_t last = 0;
        ring.for_each([&](const event& e, bool follows) {
            ++seen;
            torn += !whole(e);
            disordered += follows ? e.number != last + 1 : e.number <= last;
            last = e.number;
        });
    }
    enough = true;
    writer.join();
    CHECK(torn == 0);
    CHECK(disordered == 0);
}

TEST_CASE("a trace is JSON in the Trace Event Format, whatever threads are called")
{
    std::string text;
    {
        const auto put = [&](std::string_view piece) { text += piece; };
        trace::event_writer events{put, 1};
        events.slice(0, "a\"b\\c\n\xff", instant{1'234'567}, instant{1'240'000});
        events.wake_up(0, "d", instant{7});
    }
    CHECK(text ==
          "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n"
          "{\"ph\":\"M\",\"pid\":1,\"name\":\"process_name\",\"args\":{\"name\":\"CPUs\"}},\n"
          "{\"ph\":\"M\",\"pid\":1,\"tid\":0,\"name\":\"thread_name\",\"args\":{\"name\":\"CPU 0\"}},\n"
          "{\"ph\":\"M\",\"pid\":1,\"tid\":0,\"name\":\"thread_sort_index\",\"args\":{\"sort_index\":0}},\n"
          "{\"ph\":\"X\",\"pid\":1,\"tid\":0,\"name\":\"a\\\"b\\\\c??\",\"ts\":1234.567,\"dur\":5.433},\n"
          "{\"ph\":\"i\",\"pid\":1,\"tid\":0,\"name\":\"d\",\"ts\":0.007,\"s\":\"t\",\"cat\":\"wake-up\"}\n]}\n");
}
