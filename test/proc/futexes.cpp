// The futex table between threads of the host, which really run at once: no wake-up is lost while waiters are moved,
// give up, and come.

#include <doctest/doctest.h>

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include <exo/base/time.hpp>
#include <exo/proc/futex.hpp>
#include <exo/sim/host_threads.hpp>

using namespace exo;

namespace {

constexpr std::uint32_t all_bits = ~std::uint32_t{0};

// Of a word of the test's.
proc::futex_key key_of(const std::atomic<std::uint32_t>& word)
{
    return {.object = &word, .offset = reinterpret_cast<std::uintptr_t>(&word)};
}

struct futex_world {
    sim::host_threads parker;
    proc::futex_table futexes;

    result<> wait(std::atomic<std::uint32_t>& word, std::uint32_t value, instant deadline = instant::never())
    {
        return futexes.wait(parker, key_of(word), all_bits, deadline,
                            [&]() -> result<bool> { return word.load() == value; });
    }
    std::uint32_t wake(std::atomic<std::uint32_t>& word, std::uint32_t count)
    {
        return futexes.wake(parker, key_of(word), all_bits, count);
    }
};

TEST_CASE("who is moved to another word while it waits is woken there, or finds its way back when its time is over")
{
    futex_world w;
    std::atomic<std::uint32_t> from{}, to{};
    std::atomic<unsigned> woken{}, timed_out{};
    std::vector<std::thread> waiters;
    for (int i = 0; i < 3; ++i)
        waiters.emplace_back([&] {
            if (w.wait(from, 0))
                ++woken;
        });
    waiters.emplace_back([&] {
        if (const auto outcome = w.wait(from, 0, w.parker.now() + milliseconds(20)); !outcome)
            timed_out += outcome.error() == errors::timed_out;
    });
    // All of them, wherever they are on their way.
    unsigned moved = 0;
    while (moved < 4) {
        const auto count =
            w.futexes.requeue(w.parker, key_of(from), key_of(to), 0, 4, [] { return result<bool>{true}; });
        REQUIRE(count);
        moved += *count;
        if (timed_out == 1 && moved == 3)
            break; // it was too fast
    }
    waiters.back().join();
    waiters.pop_back();
    CHECK(timed_out == 1);
    CHECK(w.wake(from, 10) == 0);
    CHECK(w.wake(to, 1) == 1);
    CHECK(w.wake(to, 10) == 2);
    CHECK(w.wake(to, 10) == 0);
    for (auto& t : waiters)
        t.join();
    CHECK(woken == 3);
}

TEST_CASE("whether the word is unchanged is asked again when somebody came meanwhile, and a change moves nobody")
{
    futex_world w;
    std::atomic<std::uint32_t> from{}, to{};
    unsigned asked = 0;
    std::thread late;
    const auto moved = w.futexes.requeue(w.parker, key_of(from), key_of(to), 0, 10, [&]() -> result<bool> {
        const bool unchanged = from.load() == 0;
        if (asked++ == 0) { // between the question and the move
            from = 1;
            late = std::thread{[&] { (void)w.wait(from, 1); }};
            while (w.futexes.requeue(w.parker, key_of(from), key_of(from), 0, 1, [] { return result<bool>{true}; }) ==
                   0u)
                std::this_thread::yield();
        }
        return unchanged;
    });
    CHECK(asked == 2);
    REQUIRE_FALSE(moved);
    CHECK(moved.error() == errors::would_block);
    CHECK(w.wake(from, 1) == 1); // who came late is where it wanted to be
    late.join();
}

// A condition variable and a lock as the C libraries make them of futexes: a broadcast wakes one and moves the others
// to the lock, and each that leaves the lock wakes the next.
TEST_CASE("broadcasts that move waiters to a lock lose none of them, though some give up and others come")
{
    futex_world w;
    std::atomic<std::uint32_t> condition{}, lock{};
    unsigned turn = 0; // under the lock
    constexpr unsigned threads = 4, rounds = 20;

    const auto take = [&](std::uint32_t as) {
        while (lock.exchange(as) != 0) {
            as = 2; // somebody may wait
            (void)w.wait(lock, 2);
        }
    };
    const auto let_go = [&] {
        if (lock.exchange(0) == 2)
            w.wake(lock, 1);
    };
    std::vector<std::thread> running;
    for (unsigned n = 0; n < threads; ++n)
        running.emplace_back([&, n] {
            for (unsigned round = 0; round < rounds; ++round) {
                take(1);
                while (turn != round * threads + n) {
                    const auto seen = condition.load();
                    let_go();
                    const bool impatient = (round + n) % 3 == 0;
                    (void)w.wait(condition, seen, impatient ? w.parker.now() + microseconds(200) : instant::never());
                    take(2);
                }
                ++turn;
                const auto next = ++condition;
                lock = 2; // those that are moved wait for it
                for (;;) {
                    const auto moved = w.futexes.requeue(w.parker, key_of(condition), key_of(lock), 1, 1000,
                                                         [&]() -> result<bool> { return condition.load() == next; });
                    if (moved)
                        break;
                }
                let_go();
            }
        });
    for (auto& t : running)
        t.join();
    CHECK(turn == threads * rounds);
    CHECK(w.wake(condition, 10) == 0);
    CHECK(w.wake(lock, 10) == 0);
}

} // namespace
