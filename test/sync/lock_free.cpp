#include <doctest/doctest.h>

#include <atomic>
#include <thread>
#include <vector>

#include <exo/sync/inbox.hpp>
#include <exo/sync/seqlock.hpp>

using namespace exo;

namespace {

struct letter {
    int from{};
    int number{};
    sync::inbox_hook hook;
};
using letters = sync::inbox<letter, &letter::hook>;

} // namespace

TEST_CASE("an inbox gives its owner everything in the order it was pushed, and says who must be told")
{
    letters inbox;
    letter some[6];
    CHECK(inbox.empty());
    CHECK(inbox.push(some[0]).was_empty);
    CHECK(!inbox.push(some[1]).was_empty);
    CHECK(!inbox.empty());
    std::vector<letter*> got;
    inbox.drain([&](letter& l) {
        got.push_back(&l);
        if (&l == &some[0])
            CHECK(inbox.push(some[2]).was_empty); // while the owner is at it: for the next time
    });
    CHECK(got == std::vector<letter*>{&some[0], &some[1]});
    inbox.drain([&](letter& l) {
        got.push_back(&l);
        CHECK(inbox.push(some[0]).was_empty); // again
    });
    CHECK(got.back() == &some[2]);
    letter* const at_once[] = {&some[3], &some[4], &some[5]};
    CHECK(!inbox.push(at_once).was_empty);
    CHECK(!inbox.push(some[1]).was_empty);
    got.clear();
    inbox.drain([&](letter& l) { got.push_back(&l); });
    CHECK(got == std::vector<letter*>{&some[0], &some[3], &some[4], &some[5], &some[1]});
    CHECK(inbox.empty());
    CHECK(inbox.push(at_once).was_empty);
    inbox.drain([](letter&) {});
    CHECK(inbox.empty());
}

TEST_CASE("senders that run truly at once lose nothing, and each one's letters stay in order")
{
    constexpr int senders = 3;
    constexpr int each = 20'000;
    std::vector<letter> all(senders * each);
    letters inbox;
    std::atomic<int> told{0};
    std::vector<std::thread> threads;
    for (int s = 0; s < senders; ++s)
        threads.emplace_back([&, s] {
            for (int i = 0; i < each; ++i) {
                letter& l = all[static_cast<std::size_t>(s * each + i)];
                l.from = s;
                l.number = i;
                told += inbox.push(l).was_empty;
            }
        });
    int next[senders]{};
    int drains = 0;
    for (int got = 0; got < senders * each;) {
        bool any = false;
        inbox.drain([&](letter& l) {
            any = true;
            REQUIRE(l.number == next[l.from]++);
            ++got;
        });
        drains += any;
    }
    for (std::thread& t : threads)
        t.join();
    CHECK(told == drains); // every first letter told the owner, and no other did
    CHECK(inbox.empty());
}

TEST_CASE("a sequence-validated value is never seen half written")
{
    struct value {
        std::uint64_t a, b;
        std::uint32_t c;
    };
    sync::seqlock<value> shared;
    shared.store({0, 0, 0});
    std::atomic<bool> done{};
    std::thread writer{[&] {
        for (std::uint32_t i = 1; i <= 50'000; ++i)
            shared.store({i, 3 * std::uint64_t{i}, ~i});
        done = true;
    }};
    std::uint64_t last = 0;
    while (!done) {
        const value v = shared.load();
        REQUIRE(v.b == 3 * v.a);
        REQUIRE((v.a == 0 || v.c == ~static_cast<std::uint32_t>(v.a)));
        REQUIRE(v.a >= last);
        last = v.a;
    }
    writer.join();
    CHECK(shared.load().a == 50'000);
}

TEST_CASE("a reader that was disturbed learns it")
{
    sync::sequence<> sequence;
    const auto before = sequence.begin_read();
    CHECK(sequence.validate(before));
    sequence.begin_write();
    CHECK(!sequence.validate(before));
    const auto during = sequence.begin_read();
    CHECK(!sequence.validate(during));
    sequence.end_write();
    CHECK(!sequence.validate(before));
    CHECK(!sequence.validate(during));
    CHECK(sequence.validate(sequence.begin_read()));
}
