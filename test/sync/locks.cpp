#include <doctest/doctest.h>

#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <exo/sim/host_threads.hpp>
#include <exo/sync/held_locks.hpp>
#include <exo/sync/lock_observer.hpp>
#include <exo/sync/mutex.hpp>
#include <exo/sync/per_cpu.hpp>
#include <exo/sync/spin_lock.hpp>
#include <exo/sync/wait_queue.hpp>
#include <last_words.hpp>
#include <laws/parker_laws.hpp>

using namespace exo;
using sync::lock_rank;

namespace {

// Each function on a thread of its own, until all have ended.
void run_at_once(const std::vector<std::function<void()>>& bodies)
{
    std::vector<std::thread> threads;
    for (const auto& body : bodies)
        threads.emplace_back(body);
    for (std::thread& t : threads)
        t.join();
}

// A parker for a single thread, that tells what it was asked.
class told : public sync::any_parker {
public:
    thread current() const noexcept override { return self; }
    void park(instant) noexcept override
    {
        ++parks;
        if (on_park)
            on_park();
    }
    void unpark(const thread& t) noexcept override { unparked.push_back(t); }
    bool interrupted() const noexcept override { return interrupt; }
    instant now() const noexcept override { return time; }
    state save_and_disable() noexcept override { return std::exchange(on, 0); }
    void restore(const state& saved) noexcept override { on = saved; }
    bool enabled() noexcept override { return on != 0; }

    thread self{this};
    std::function<void()> on_park;
    std::vector<thread> unparked;
    int parks{};
    bool interrupt{};
    instant time{};
    state on{1};
};

struct cpus {
    unsigned at{};
    unsigned current_cpu() const noexcept { return at; }
    unsigned cpu_limit() const noexcept { return 4; }
};

} // namespace

TEST_CASE("host threads keep the laws of a parker")
{
    sim::host_threads parker;
    laws::check_parker([&](const std::vector<std::function<void(sync::any_parker&)>>& bodies) {
        std::vector<std::function<void()>> bound;
        for (const auto& body : bodies)
            bound.push_back([&] { body(parker); });
        run_at_once(bound);
    });
}

TEST_CASE("a spin lock excludes, and holds interrupts off exactly while it is held")
{
    told interrupts;
    sync::spin_lock<lock_rank::device, sync::any_parker> lock;
    {
        auto guard = lock.lock(interrupts);
        CHECK(!interrupts.enabled());
        CHECK(lock.held());
        guard.unlock();
        CHECK(interrupts.enabled());
        CHECK(!lock.held());
    }
    CHECK(interrupts.enabled());

    sim::host_threads parker;
    int plain = 0;
    const auto work = [&] {
        for (int i = 0; i < 300; ++i) {
            auto guard = lock.lock(parker);
            ++plain;
        }
    };
    run_at_once({work, work, work});
    CHECK(plain == 900);
}

TEST_CASE("a mutex excludes threads that run truly at once")
{
    sim::host_threads parker;
    sync::mutex<lock_rank::inode> mutex;
    int plain = 0;
    const auto work = [&] {
        for (int i = 0; i < 300; ++i) {
            auto guard = mutex.lock(parker);
            CHECK(mutex.held());
            ++plain;
        }
    };
    run_at_once({work, work, work, work});
    CHECK(plain == 1200);
    CHECK(!mutex.held());
}

TEST_CASE("items handed over by wake_one reach as many threads as there are items, some of whom give up")
{
    sim::host_threads parker;
    sync::wait_queue queue;
    std::atomic<int> items{0};
    std::atomic<int> taken{0};
    constexpr int total = 400;
    const auto take = [&] {
        int n = items.load();
        while (n > 0 && !items.compare_exchange_weak(n, n - 1))
            ;
        return n > 0;
    };
    const auto patient = [&] {
        for (int i = 0; i < total / 4; ++i) {
            queue.wait(parker, take);
            ++taken;
        }
    };
    const auto impatient = [&] {
        for (int i = 0; i < total / 2;) {
            if (queue.wait_interruptible(parker, take, parker.now() + microseconds(i % 3)).has_value()) {
                ++taken;
                ++i;
            }
        }
    };
    run_at_once({patient, patient, impatient, [&] {
                     for (int i = 0; i < total; ++i) {
                         ++items;
                         queue.wake_one(parker);
                     }
                 }});
    CHECK(taken == total);
    CHECK(items == 0);
}

TEST_CASE("wake_one wakes the longest waiting that no wake-up is on its way to")
{
    told parker;
    sync::wait_queue queue;
    int names[3];
    sync::wait_queue::waiter waiters[3];
    for (int i = 0; i < 3; ++i) {
        parker.self = &names[i];
        queue.add(parker, waiters[i]);
    }
    queue.wake_one(parker);
    queue.wake_one(parker);
    CHECK(parker.unparked == std::vector<void*>{&names[0], &names[1]});
    queue.remove(parker, waiters[0]); // leaves without having looked: the next in line gets its wake-up
    CHECK(parker.unparked == std::vector<void*>{&names[0], &names[1], &names[2]});
    queue.remove(parker, waiters[1]);
    queue.remove(parker, waiters[2]);
    queue.wake_all(parker);
    CHECK(parker.unparked.size() == 3);
}

TEST_CASE("a waiter that was woken for nothing sleeps again, and can be woken again")
{
    told parker;
    sync::wait_queue queue;
    int looks = 0;
    parker.on_park = [&] { queue.wake_one(parker); };
    queue.wait(parker, [&] { return ++looks == 6; });
    CHECK(parker.parks == 4);
    CHECK(parker.unparked.size() == 4);
}

TEST_CASE("letting go of a mutex wakes who waits for it")
{
    told parker;
    sync::mutex<lock_rank::inode> mutex;
    auto first = mutex.lock(parker);
    parker.on_park = [&] {
        CHECK(parker.unparked.empty());
        first.unlock();
        CHECK(parker.unparked.size() == 1);
    };
    auto second = mutex.lock(parker);
    CHECK(parker.parks == 1);
}

TEST_CASE("a wait ends by its condition, its deadline or an interruption, and says which")
{
    told parker;
    sync::wait_queue queue;
    int looks = 0;
    queue.wait(parker, [&] { return ++looks == 4; });
    CHECK(parker.parks == 2); // once before it queued, once after, then once for each park

    parker.on_park = [&] { parker.time = parker.time + milliseconds(1); };
    CHECK(queue.wait_interruptible(parker, [] { return false; }, instant{2'500'000}).error() == errors::timed_out);
    CHECK(parker.time == instant{3'000'000});
    CHECK(queue.wait_until(parker, [] { return false; }, instant{4'000'000}).error() == errors::timed_out);

    parker.on_park = [&] { parker.interrupt = true; };
    CHECK(queue.wait_interruptible(parker, [] { return false; }).error() == errors::interrupted);
    CHECK(queue.wait_interruptible(parker, [] { return true; }).has_value()); // what holds is not given up
    looks = 0;
    queue.wait(parker, [&] { return ++looks == 5; }); // and this one ignores it
}

TEST_CASE("what became true before the interruption ends the wait, even if it did just after the waiter looked")
{
    told parker;
    sync::wait_queue queue;
    bool ended = false;
    int looks = 0;
    CHECK(queue.wait_interruptible(parker, [&] {
        const bool seen = ended;
        if (++looks == 2) // on the queue already; a child ends and signals its parent now
            ended = parker.interrupt = true;
        return seen;
    }).has_value());
    CHECK(parker.parks == 0);
}

TEST_CASE("a condition that sleeps itself does not swallow the wake-up of the queue around it")
{
    told parker;
    sync::wait_queue outer;
    int looks = 0;
    bool parked_outside = false;
    outer.wait(parker, [&] {
        if (++looks == 2) {
            outer.wake_one(parker); // comes while the condition sleeps elsewhere, which uses up the token
            parker.on_park = [&] { parked_outside = true; };
        }
        return looks == 3;
    });
    CHECK(!parked_outside);
}

TEST_CASE("an interrupted host thread gives up its wait")
{
    sim::host_threads parker;
    sync::wait_queue queue;
    std::atomic<void*> waiter{};
    std::atomic<bool> told_it{};
    run_at_once({[&] {
                     waiter = parker.current();
                     CHECK(queue.wait_interruptible(parker, [] { return false; }).error() == errors::interrupted);
                     while (!told_it)
                         std::this_thread::yield();
                 },
                 [&] {
                     while (!waiter)
                         std::this_thread::yield();
                     parker.interrupt(waiter);
                     told_it = true;
                 }});
}

TEST_CASE("a pin keeps interrupts off and names the CPU whose data it opens")
{
    struct alignas(64) data {
        int value{};
    };
    told interrupts;
    cpus cpu{2};
    data each[4];
    const sync::per_cpu<data> all{each};
    {
        const sync::pin here{interrupts, cpu};
        CHECK(!interrupts.enabled());
        all.local(here).value = 7;
        CHECK(&all.local(sync::already_pinned{interrupts, cpu}) == &each[2]);
    }
    CHECK(interrupts.enabled());
    CHECK(all.of(2).value == 7);
    CHECK(all.of(1).value == 0);
    CHECK(all.all().size() == 4);
}

namespace {

// Notes what it is told.
struct noted {
    std::vector<std::pair<char, lock_rank>>* log;
    int attempts{};
    int acquiring(auto&, lock_rank r, bool beside) noexcept
    {
        log->emplace_back(beside ? '&' : '?', r);
        return ++attempts;
    }
    void contended(auto&, lock_rank r, int& attempt) noexcept
    {
        CHECK(attempt == attempts);
        log->emplace_back('c', r);
    }
    void acquired(auto&, lock_rank r, int attempt) noexcept
    {
        CHECK(attempt == attempts);
        log->emplace_back('+', r);
    }
    void released(auto&, lock_rank r) noexcept { log->emplace_back('-', r); }
};

// One that notes what locks are held.
class noting : public told {
public:
    sync::held_locks* held_spin_locks() noexcept override { return &spinning; }
    sync::held_locks* held_sleeping_locks() noexcept override { return &sleeping; }

    sync::held_locks spinning;
    sync::held_locks sleeping;
};

template <lock_rank Rank>
using checked_spin_lock = sync::spin_lock<Rank, sync::any_parker, sync::checked>;
template <lock_rank Rank>
using checked_mutex = sync::mutex<Rank, hal::standard_atomics, sync::checked>;

} // namespace

TEST_CASE("a lock tells its observer before it waits, when it has it, and when it lets go")
{
    told interrupts;
    std::vector<std::pair<char, lock_rank>> log;
    sync::spin_lock<lock_rank::heap, sync::any_parker, noted> lock{noted{.log = &log}};
    lock.lock(interrupts).unlock();
    lock.lock_beside(interrupts).unlock();
    CHECK(log == std::vector<std::pair<char, lock_rank>>{{'?', lock_rank::heap},
                                                         {'+', lock_rank::heap},
                                                         {'-', lock_rank::heap},
                                                         {'&', lock_rank::heap},
                                                         {'+', lock_rank::heap},
                                                         {'-', lock_rank::heap}});
}

TEST_CASE("a mutex tells its observer the same, and when it had to wait")
{
    told parker;
    std::vector<std::pair<char, lock_rank>> log;
    sync::mutex<lock_rank::inode, hal::standard_atomics, noted> mutex{noted{.log = &log}};
    auto first = mutex.lock(parker);
    parker.on_park = [&] { first.unlock(); };
    auto second = mutex.lock(parker);
    CHECK(log == std::vector<std::pair<char, lock_rank>>{{'?', lock_rank::inode},
                                                         {'+', lock_rank::inode},
                                                         {'?', lock_rank::inode},
                                                         {'c', lock_rank::inode},
                                                         {'-', lock_rank::inode},
                                                         {'+', lock_rank::inode}});
}

TEST_CASE("of the locks that are held the lowest decides what may be taken")
{
    using sync::lock_misuse;
    using sync::lock_rule;
    noting by;
    by.on = 0; // as while a spinning lock is taken
    const auto wants = [&](lock_rank rank, bool beside = false) { return sync::misuse_by_taking(by, rank, beside); };
    by.spinning.add(lock_rank::device);
    by.spinning.add(lock_rank::heap);
    const lock_misuse same{lock_rule::order, lock_rank::heap, lock_rank::heap};
    const lock_misuse higher{lock_rule::order, lock_rank::timers, lock_rank::heap};
    CHECK(wants(lock_rank::heap) == same);
    CHECK(wants(lock_rank::timers) == higher);
    CHECK(wants(lock_rank::timers, true) == higher);
    CHECK(!wants(lock_rank::heap, true));
    CHECK(!wants(lock_rank::frames));
    by.spinning.add(lock_rank::heap);
    by.spinning.remove(lock_rank::heap);
    CHECK(wants(lock_rank::heap) == same); // there is the other
    by.spinning.remove(lock_rank::heap);
    CHECK(!wants(lock_rank::heap));
    by.spinning.remove(lock_rank::device);
    CHECK(!wants(lock_rank::process_table));

    by.on = 1;
    by.sleeping.add(lock_rank::mounts);
    CHECK(wants(lock_rank::regions) == lock_misuse{lock_rule::order, lock_rank::regions, lock_rank::mounts});
    CHECK(!wants(lock_rank::rename));
}

TEST_CASE("a spinning lock is not taken by what leaves interrupts on, nor are they enabled while one is held")
{
    using sync::lock_misuse;
    using sync::lock_rule;
    noting by;
    CHECK(sync::misuse_by_taking(by, lock_rank::heap) == lock_misuse{lock_rule::interrupts_off, lock_rank::heap});
    CHECK(!sync::misuse_by_enabling_interrupts(by));
    by.spinning.add(lock_rank::heap);
    CHECK(sync::misuse_by_enabling_interrupts(by) ==
          lock_misuse{.broken = lock_rule::interrupts_off, .held = lock_rank::heap});
}

TEST_CASE("nobody sleeps, takes a sleeping lock or copies user memory with interrupts off")
{
    using sync::lock_misuse;
    using sync::lock_rule;
    noting by;
    const auto misuses = [&] {
        return std::vector{sync::misuse_by_sleeping(by), sync::misuse_by_taking(by, lock_rank::inode),
                           sync::misuse_by_copying_user_memory(by)};
    };
    const std::optional<lock_misuse> none;
    CHECK(misuses() == std::vector{none, none, none});
    by.on = 0;
    CHECK(misuses() == std::vector<std::optional<lock_misuse>>{lock_misuse{lock_rule::no_sleep},
                                                               lock_misuse{lock_rule::no_sleep, lock_rank::inode},
                                                               lock_misuse{lock_rule::no_sleep}});
    by.spinning.add(lock_rank::heap);
    CHECK(sync::misuse_by_taking(by, lock_rank::inode) ==
          lock_misuse{lock_rule::no_sleep, lock_rank::inode, lock_rank::heap});
}

TEST_CASE("user memory is copied with those locks held only that no fault takes")
{
    using sync::lock_misuse;
    using sync::lock_rule;
    noting by;
    by.sleeping.add(lock_rank::file_content);
    by.sleeping.add(lock_rank::file_position);
    CHECK(!sync::misuse_by_copying_user_memory(by));
    by.sleeping.add(lock_rank::out_of_memory);
    CHECK(sync::misuse_by_copying_user_memory(by) ==
          lock_misuse{.broken = lock_rule::no_fault, .held = lock_rank::out_of_memory});
}

TEST_CASE("checked locks note what is held while it is, whatever the order in which it is let go")
{
    noting by;
    checked_mutex<lock_rank::regions> outermost;
    checked_mutex<lock_rank::inode> outer;
    checked_spin_lock<lock_rank::device> middle;
    checked_spin_lock<lock_rank::heap> inner;
    {
        auto a = outermost.lock(by);
        auto b = outer.lock(by);
        a.unlock();
        CHECK(by.sleeping.lowest() == lock_rank::inode);
        auto c = middle.lock(by);
        auto d = inner.lock(by);
        CHECK(by.spinning.lowest() == lock_rank::heap);
        d.unlock();
        CHECK(by.spinning.lowest() == lock_rank::device);
    }
    CHECK(!by.spinning.lowest());
    CHECK(!by.sleeping.lowest());
}

TEST_CASE("a checked lock that is misused ends the program, and names both ranks")
{
    noting by;
    checked_spin_lock<lock_rank::device> device;
    checked_spin_lock<lock_rank::heap> heap;
    checked_mutex<lock_rank::inode> inode;
    CHECK(last_words([&] {
              auto inner = heap.lock(by);
              auto outer = device.lock(by);
          }).find("misuse of locks: device is taken while heap is held") != std::string::npos);
    CHECK(last_words([&] {
              auto inner = heap.lock(by);
              auto outer = inode.lock(by);
          }).find("misuse of locks: inode is taken while heap is held") != std::string::npos);
    CHECK(last_words([&] {
              by.on = 0;
              auto guard = inode.lock(by);
          }).find("misuse of locks: inode is taken with interrupts off") != std::string::npos);
    CHECK(last_words([&] {
              sync::enforce(sync::lock_misuse{.broken = sync::lock_rule::no_fault, .held = lock_rank::regions});
          }).find("misuse of locks: user memory is copied while regions is held") != std::string::npos);
}

TEST_CASE("whoever says that it is pinned has interrupts off, or the program ends")
{
    told interrupts;
    const cpus cpu{2};
    if (sync::locks_are_checked)
        CHECK(last_words([&] { const sync::already_pinned here{interrupts, cpu}; }).find("!interrupts.enabled()") !=
              std::string::npos);
}

namespace {

class counting : public told {
public:
    sync::lock_counters* lock_counters() noexcept override { return &counters; }

    sync::lock_counters counters;
};

struct counts {
    std::uint64_t acquisitions, contended, wait, longest_hold;
    friend bool operator==(const counts&, const counts&) = default;
};
counts of(const counting& by, lock_rank rank)
{
    const auto& c = by.counters.of(rank);
    return {c.acquisitions, c.contended, c.wait, c.longest_hold};
}

} // namespace

TEST_CASE("counted locks tell how often they were taken, how long somebody waited, and how long one was held at most")
{
    counting by;
    sync::spin_lock<lock_rank::heap, sync::any_parker, sync::counted> one, two;
    for (const int ns : {30, 70, 20}) {
        auto guard = (ns == 70 ? two : one).lock(by);
        by.time = by.time + nanoseconds(ns);
    }
    CHECK(of(by, lock_rank::heap) == counts{3, 0, 0, 70}); // of a rank together

    sync::mutex<lock_rank::inode, hal::standard_atomics, sync::counted> mutex;
    auto first = mutex.lock(by);
    by.time = by.time + nanoseconds(5);
    by.on_park = [&] {
        by.time = by.time + nanoseconds(100);
        first.unlock();
    };
    auto second = mutex.lock(by);
    by.time = by.time + nanoseconds(40);
    second.unlock();
    CHECK(of(by, lock_rank::inode) == counts{2, 1, 100, 105});
    CHECK(of(by, lock_rank::page) == counts{});
    CHECK(by.enabled());
}
