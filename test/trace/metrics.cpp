#include <doctest/doctest.h>

#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include <exo/trace/counter.hpp>
#include <exo/trace/prometheus.hpp>
#include <exo/trace/registry.hpp>

using namespace exo;

namespace {

template <class Recording>
struct room {
    [[no_unique_address]] trace::counter<Recording> hits;
    [[no_unique_address]] trace::shared_counter<Recording> misses;

    static constexpr trace::table_row<room> table[] = {
        trace::counts<&room::hits, room>("exo_room_hits_total", "Found at once"),
        trace::counts<&room::misses, room>("exo_room_misses_total", "Not found"),
    };
};

struct with_nothing_recorded {
    room<trace::not_recording> counted;
    char data[3];
};

} // namespace

TEST_CASE("a metric is the sum over all CPUs, read by its name")
{
    struct cpu {
        char other[40];
        room<trace::recording> counted;
    };
    std::vector<cpu> cpus(3);
    trace::registry registry;
    trace::table_source<room<trace::recording>> source{room<trace::recording>::table, cpus[0].counted, cpus.size(),
                                                       sizeof(cpu)};
    registry.add(source);
    cpus[0].counted.hits.add();
    cpus[2].counted.hits.add(40);
    cpus[1].counted.misses.add(2);
    CHECK(registry.value("exo_room_hits_total") == 41);
    CHECK(registry.value("exo_room_misses_total") == 2);
    CHECK(registry.value("exo_room_hits") == std::nullopt);
    registry.remove(source);
    CHECK(registry.value("exo_room_hits_total") == std::nullopt);
}

TEST_CASE("metrics that are compiled out take no room")
{
    static_assert(std::is_empty_v<trace::counter<trace::not_recording>>);
    static_assert(std::is_empty_v<trace::episode_counter<trace::not_recording>>);
    static_assert(sizeof(with_nothing_recorded) <= 5);
    room<trace::not_recording> counted;
    counted.hits.add(5);
    counted.misses.add(5);
    CHECK(counted.hits.value() + counted.misses.value() == 0);
}

TEST_CASE("an episode counts once, and the next one again")
{
    trace::episode_counter<trace::recording> delays;
    delays.end_episode();
    CHECK(delays.value() == 0);
    for (std::uint64_t episode = 1; episode < 4; ++episode) {
        CHECK(delays.add() == 1);
        CHECK(delays.add() == 0);
        CHECK(delays.value() == episode);
        delays.end_episode();
        CHECK(delays.value() == episode);
    }
}

TEST_CASE("Prometheus text names, explains and types every metric")
{
    room<trace::recording> counted;
    counted.hits.add(18'446'744'073'709'551'615u);
    trace::registry registry;
    trace::table_source<room<trace::recording>> source{room<trace::recording>::table, counted};
    int level = 7;
    trace::computed_source gauge{{"exo_room_level", "How full", trace::metric_kind::gauge},
                                 [&]() noexcept { return static_cast<std::uint64_t>(level); }};
    registry.add(source);
    registry.add(gauge);
    std::string text;
    trace::write_prometheus(registry, [&](std::string_view piece) { text += piece; });
    CHECK(text == "# HELP exo_room_hits_total Found at once\n"
                  "# TYPE exo_room_hits_total counter\n"
                  "exo_room_hits_total 18446744073709551615\n"
                  "# HELP exo_room_misses_total Not found\n"
                  "# TYPE exo_room_misses_total counter\n"
                  "exo_room_misses_total 0\n"
                  "# HELP exo_room_level How full\n"
                  "# TYPE exo_room_level gauge\n"
                  "exo_room_level 7\n");
}

TEST_CASE("a shared counter loses nothing, and any thread may read while others count")
{
    trace::shared_counter<trace::recording> shared;
    trace::counter<trace::recording> own[2];
    const auto work = [&](int id) {
        for (int i = 0; i < 10'000; ++i) {
            shared.add();
            own[id].add();
        }
    };
    std::thread a{work, 0}, b{work, 1};
    std::uint64_t last = 0;
    while (last < 20'000) {
        const std::uint64_t seen = shared.value();
        REQUIRE(seen >= last);
        last = seen;
        REQUIRE(own[0].value() <= 10'000);
    }
    a.join();
    b.join();
    CHECK(own[0].value() + own[1].value() == 20'000);
    shared.subtract(5'000);
    CHECK(shared.value() == 15'000);
}
