// futex(2) on a whole kernel: who is woken and moved, interruption, and what goes on after it.

#include "../proc/world.hpp"

#include <exo/linux/time_structures.hpp>

using namespace exo;
using namespace world;

namespace {

constexpr std::uint64_t futex_moment = 10'000'000;
namespace operation = linux_abi::futex_operation;

void check_would_deadlock(const result<>& outcome, std::uint64_t thread)
{
    REQUIRE(!outcome.has_value());
    CHECK(outcome.error() == sched::errors::would_deadlock);
    CHECK(outcome.error().context() == thread);
}

// Waits at data + 8 for a value of 0 with the bits of r12, then counts in the word behind.
std::uint64_t add_futex_waiter(simulated_kernel& machine)
{
    return machine.add([&machine](view& self) {
        const auto word = machine.data_begin() + 8;
        CHECK(self.call(nr::futex, word, operation::wait_bits | operation::private_flag, 0, 0, 0, self.frame.r12) == 0);
        self.store(word + 4, self.load<int>(word + 4) + 1);
        exit_thread(self);
    });
}

TEST_CASE("FUTEX_WAKE counts and heeds bits, FUTEX_REQUEUE moves the rest, FUTEX_WAKE_OP wakes two words' waiters")
{
    simulated_kernel machine;
    const auto waits = add_futex_waiter(machine);
    run_to_end(machine, [&](view& self) {
        const auto word = machine.data_begin() + 8, other = machine.data_begin() + 64;
        const auto futex = [&](std::uint64_t at, std::uint32_t op, std::uint32_t value, std::uint64_t timeout = 0,
                               std::uint64_t second = 0, std::uint32_t third = 0) {
            const auto outcome = self.call(nr::futex, at, op | operation::private_flag, value, timeout, second, third);
            sleep_for(self, futex_moment);
            return outcome;
        };
        const auto woken = [&] { return self.load<int>(word + 4); };
        for (const std::uint64_t bits : {1, 2, 3, 4, 4, 4, 4})
            spawn(self, waits, 0, bits);
        sleep_for(self, futex_moment);
        CHECK(futex(word, operation::wake_bits, 10, 0, 0, 8) == 0);
        CHECK(futex(word, operation::wake_bits, 10, 0, 0, 2) == 2);
        CHECK(woken() == 2);
        CHECK(futex(word, operation::compare_requeue, 1, 2, other, 1) == minus(posix::again));
        CHECK(futex(word, operation::compare_requeue, 1, 2, other, 0) == 3);
        CHECK(woken() == 3);
        CHECK(futex(other, operation::wake, 1) == 1);
        CHECK(woken() == 4);
        // 1 stored at `other`, whose 0 before equals 0: one of each word's.
        CHECK(futex(word, operation::wake_operate, 1, 1, other, 1 << 12) == 2);
        CHECK(self.load<int>(other) == 1);
        CHECK(woken() == 6);
        CHECK(futex(word, operation::wake_operate, 1, 1, other, 1 << 28 | 2 << 12) == 1); // 1 is not 0
        CHECK(self.load<int>(other) == 3);
        CHECK(woken() == 7);
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("a wait for a span is EINTR after a handler, and goes on without one, until its time is over")
{
    simulated_kernel machine;
    const auto handler = machine.add([](view&) {});
    const auto waits = machine.add([&](view& self) {
        set_action(self, machine, signal::sigusr1, handler, signal_action::restart);
        const auto timeout = self.allocate(16);
        const auto wait = [&](std::int64_t nanoseconds) {
            self.store(timeout, linux_abi::time_record{0, nanoseconds});
            return self.call(nr::futex, machine.data_begin(), operation::wait, 0, timeout);
        };
        CHECK(wait(900'000'000) == minus(posix::intr));
        const auto before = machine.kernel().now();
        CHECK(wait(5 * futex_moment) == minus(posix::timedout)); // it stops in the middle
        const duration taken = machine.kernel().now() - before;
        CHECK(taken >= nanoseconds(5 * futex_moment));
        CHECK(taken < nanoseconds(6 * futex_moment));
        self.exit(3);
    });
    run_to_end(machine, [&](view& self) {
        const auto id = self.fork(waits);
        sleep_for(self, futex_moment);
        self.call(nr::kill, id, 10);
        sleep_for(self, futex_moment);
        self.call(nr::kill, id, 19);
        CHECK(wait_for(self, id, 2).word == wait_status::stopped(signal::sigstop).word());
        sleep_for(self, 2 * futex_moment);
        self.call(nr::kill, id, 18);
        CHECK(wait_for(self, id).word == wait_status::exited(3).word());
        self.exit(0);
    });
    check_clean(machine);
}

constexpr std::uint32_t has_waiters = 0x80000000, owner_has_died = 0x40000000;

std::int64_t pi_call(view& self, std::uint32_t op, std::uint64_t word, std::uint64_t timeout = 0)
{
    return self.call(nr::futex, word, op | operation::private_flag, 0, timeout, 0, 0);
}

TEST_CASE("a lock with an owner goes to the most urgent that waits, and its word follows")
{
    simulated_kernel machine;
    // r12: the order in which it came, which is also its priority.
    const auto waits = machine.add([&](view& self) {
        const auto data = machine.data_begin();
        const auto parameter = self.allocate(8);
        self.store(parameter, static_cast<std::uint32_t>(self.frame.r12));
        CHECK(self.call(nr::sched_setscheduler, 0, 1, parameter) == 0);
        CHECK(pi_call(self, operation::lock, data) == 0);
        CHECK((self.load<std::uint32_t>(data) & ~has_waiters) == static_cast<std::uint32_t>(self.call(nr::gettid)));
        const auto at = self.load<std::uint32_t>(data + 8);
        self.store(data + 8, at + 1);
        self.store(data + 16 + at * 4, static_cast<std::uint32_t>(self.frame.r12));
        CHECK(pi_call(self, operation::unlock, data) == 0);
        exit_thread(self);
    });
    run_to_end(machine, [&](view& self) {
        const auto data = machine.data_begin();
        CHECK(pi_call(self, operation::lock, data) == 0);
        CHECK(self.load<std::uint32_t>(data) == 1);
        CHECK(pi_call(self, operation::lock, data) == minus(posix::deadlk));
        CHECK(pi_call(self, operation::try_lock, data) == minus(posix::deadlk));
        auto& kernel = machine.kernel();
        auto& thread = kernel.current_thread();
        const user_addr word{data};
        const auto key = proc::futex_key_of(thread.process().image().space(), word, true);
        REQUIRE(key.has_value());
        const auto never = instant::never();
        check_would_deadlock(kernel.inheriting_futexes().lock(thread, word, *key, never), 1);
        check_would_deadlock(kernel.inheriting_futexes().try_lock(thread, word, *key), 1);
        for (std::uint64_t n = 1; n <= 3; ++n) {
            spawn(self, waits, 0, n);
            sleep_for(self, futex_moment);
        }
        CHECK(self.load<std::uint32_t>(data) == (1 | has_waiters));
        CHECK(pi_call(self, operation::unlock, data) == 0);
        sleep_for(self, futex_moment);
        CHECK(self.load<std::uint32_t>(data) == 0);
        for (std::uint32_t n = 0; n < 3; ++n)
            CHECK(self.load<std::uint32_t>(data + 16 + n * 4) == 3 - n);
        CHECK(pi_call(self, operation::unlock, data) == minus(posix::perm));
        self.store(data, std::uint32_t{30000}); // nobody
        CHECK(pi_call(self, operation::lock, data) == minus(posix::srch));
        CHECK(pi_call(self, operation::try_lock, data) == minus(posix::again));
        CHECK(pi_call(self, operation::lock, data + 2) == minus(posix::inval));
        CHECK(pi_call(self, operation::lock, 0x10) == minus(posix::fault));
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("the owner of a lock inherits the urgency of who waits for it, and is not kept by what is in between")
{
    simulated_kernel machine;
    const auto set_priority = [](view& self, std::uint32_t priority) {
        const auto parameter = self.allocate(8);
        self.store(parameter, priority);
        CHECK(self.call(nr::sched_setscheduler, 0, 1, parameter) == 0);
    };
    const auto owns = machine.add([&](view& self) {
        CHECK(pi_call(self, operation::lock, machine.data_begin()) == 0);
        self.spend(milliseconds(30));
        CHECK(pi_call(self, operation::unlock, machine.data_begin()) == 0);
        exit_thread(self);
    });
    const auto in_between = machine.add([&](view& self) {
        set_priority(self, 5);
        sleep_for(self, 2 * futex_moment);
        self.spend(milliseconds(400));
        self.store(machine.data_begin() + 8, 1);
        exit_thread(self);
    });
    const auto urgent = machine.add([&](view& self) {
        set_priority(self, 9);
        sleep_for(self, futex_moment);
        CHECK(pi_call(self, operation::lock, machine.data_begin()) == 0);
        CHECK(self.load<int>(machine.data_begin() + 8) == 0); // before the one in between was done
        CHECK(pi_call(self, operation::unlock, machine.data_begin()) == 0);
        exit_thread(self);
    });
    run_to_end(machine, [&](view& self) {
        const auto id = machine.data_begin() + 16;
        spawn(self, urgent, id);
        spawn(self, in_between, id + 4);
        spawn(self, owns, id + 8);
        for (unsigned i = 0; i < 3; ++i)
            join(self, id + 4 * i);
        CHECK(self.load<int>(machine.data_begin() + 8) == 1);
        CHECK(self.load<std::uint32_t>(machine.data_begin()) == 0);
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("who waits for a lock with an owner hears of its end, gives up in time, and starts again after a signal")
{
    simulated_kernel machine;
    const auto counter = machine.add(
        [&](view& self) { self.store(machine.data_begin() + 8, self.load<int>(machine.data_begin() + 8) + 1); });
    const auto owns = machine.add([&](view& self) {
        CHECK(pi_call(self, operation::lock, machine.data_begin()) == 0);
        sleep_for(self, 5 * futex_moment);
        exit_thread(self); // without letting go
    });
    const auto pesters = machine.add([&](view& self) {
        sleep_for(self, 3 * futex_moment);
        self.call(nr::tgkill, 1, 1, 10);
        exit_thread(self);
    });
    const auto takes = machine.add([&](view& self) {
        CHECK(pi_call(self, operation::lock, machine.data_begin()) == 0);
        exit_thread(self);
    });
    run_to_end(machine, [&](view& self) {
        const auto data = machine.data_begin();
        set_action(self, machine, signal::sigusr1, counter);
        const auto frames = [&] { return machine.platform().stacks_in_use(); };
        const auto before = frames();
        spawn(self, owns, data + 16);
        spawn(self, pesters, data + 20);
        sleep_for(self, futex_moment);
        const auto timeout = self.allocate(16);
        self.store(timeout, linux_abi::time_record{1, 0}); // long ago, by the wall clock
        CHECK(pi_call(self, operation::lock, data, timeout) == minus(posix::timedout));
        CHECK(pi_call(self, operation::try_lock, data) == minus(posix::again));
        CHECK(pi_call(self, operation::lock, data) == 0); // in which the signal comes
        CHECK(self.load<int>(data + 8) == 1);
        CHECK(self.load<std::uint32_t>(data) == (1 | owner_has_died));
        CHECK(pi_call(self, operation::unlock, data) == 0);
        CHECK(self.load<std::uint32_t>(data) == 0);
        // Nobody waits when the owner ends: its number is that of nobody.
        spawn(self, takes, data + 16);
        join(self, data + 16);
        sleep_for(self, futex_moment);
        CHECK(pi_call(self, operation::lock, data) == minus(posix::srch));
        CHECK(frames() == before);
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("a lock with an owner that somebody waits for is never free in between, for programs that look by themselves")
{
    simulated_kernel machine;
    const auto waits = machine.add([&](view& self) {
        CHECK(pi_call(self, operation::lock, machine.data_begin()) == 0);
        sleep_for(self, futex_moment);
        CHECK(pi_call(self, operation::unlock, machine.data_begin()) == 0);
        exit_thread(self);
    });
    run_to_end(machine, [&](view& self) {
        const auto data = machine.data_begin();
        self.call(nr::setpriority, 0, 0, -20);
        CHECK(pi_call(self, operation::lock, data) == 0);
        const auto id = spawn(self, waits, data + 16);
        sleep_for(self, futex_moment);
        CHECK(pi_call(self, operation::unlock, data) == 0);
        CHECK((self.load<std::uint32_t>(data) & ~has_waiters) == static_cast<std::uint32_t>(id));
        CHECK(pi_call(self, operation::try_lock, data) == minus(posix::again));
        join(self, data + 16);
        CHECK(self.load<std::uint32_t>(data) == 0);
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("two threads that wait for each other's lock are told")
{
    simulated_kernel machine;
    const auto other = machine.add([&](view& self) {
        CHECK(pi_call(self, operation::lock, machine.data_begin() + 4) == 0);
        sleep_for(self, futex_moment);
        CHECK(pi_call(self, operation::lock, machine.data_begin()) == minus(posix::deadlk));
        auto& thread = machine.kernel().current_thread();
        const user_addr word{machine.data_begin()};
        const auto key = proc::futex_key_of(thread.process().image().space(), word, true);
        REQUIRE(key.has_value());
        const auto outcome = machine.kernel().inheriting_futexes().lock(thread, word, *key, instant::never());
        check_would_deadlock(outcome, static_cast<std::uint64_t>(self.call(nr::gettid)));
        CHECK(pi_call(self, operation::unlock, machine.data_begin() + 4) == 0);
        exit_thread(self);
    });
    run_to_end(machine, [&](view& self) {
        const auto data = machine.data_begin();
        CHECK(pi_call(self, operation::lock, data) == 0);
        spawn(self, other, data + 16);
        sleep_for(self, futex_moment / 2);
        CHECK(pi_call(self, operation::lock, data + 4) == 0);
        CHECK(pi_call(self, operation::unlock, data + 4) == 0);
        CHECK(pi_call(self, operation::unlock, data) == 0);
        join(self, data + 16);
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE(
    "the word of a lock with an owner is brought in wherever it is looked at, and where it cannot be, nothing stays")
{
    simulated_kernel machine;
    constexpr int discard = 4; // MADV_DONTNEED: the word is 0 when it is next brought in
    const auto word_at = machine.data_begin() + 8;
    const auto word = [&](view& self) { return self.load<std::uint64_t>(word_at); };
    // Waits for the lock, which its owner leaves behind in a page that is not there.
    const auto inherits = machine.add([&](view& self) {
        const auto outcome = pi_call(self, operation::lock, word(self));
        if (outcome == 0) {
            const auto id = static_cast<std::uint32_t>(self.call(nr::gettid));
            CHECK(self.load<std::uint32_t>(word(self)) == (id | owner_has_died));
            CHECK(pi_call(self, operation::unlock, word(self)) == 0);
        }
        self.store(machine.data_begin(), outcome);
        exit_thread(self);
    });
    const auto discards = machine.add([&](view& self) {
        CHECK(pi_call(self, operation::lock, word(self)) == 0);
        sleep_for(self, 2 * futex_moment);
        CHECK(self.call(nr::madvise, word(self), 4096, discard) == 0);
        exit_thread(self);
    });
    const auto unmaps = machine.add([&](view& self) {
        CHECK(pi_call(self, operation::lock, word(self)) == 0);
        sleep_for(self, 2 * futex_moment);
        CHECK(self.call(nr::munmap, word(self), 4096) == 0);
        exit_thread(self);
    });
    run_to_end(machine, [&](view& self) {
        const auto fresh = [&] { return static_cast<std::uint64_t>(self.call(nr::mmap, 0, 4096, 3, 0x22, -1, 0)); };
        for (const auto how : {operation::lock, operation::try_lock}) {
            const auto at = fresh();
            CHECK(pi_call(self, how, at) == 0);
            CHECK(self.load<std::uint32_t>(at) == 1);
            CHECK(self.call(nr::mprotect, at, 4096, 1) == 0);
            CHECK(pi_call(self, operation::unlock, at) == minus(posix::fault));
            CHECK(pi_call(self, how, at + 4) == minus(posix::fault));
            CHECK(self.call(nr::mprotect, at, 4096, 3) == 0);
            CHECK(self.call(nr::madvise, at, 4096, discard) == 0);
            CHECK(pi_call(self, operation::unlock, at) == minus(posix::perm));
        }
        for (const auto leaves : {discards, unmaps}) {
            self.store(word_at, fresh());
            spawn(self, leaves, machine.data_begin() + 16);
            sleep_for(self, futex_moment);
            spawn(self, inherits, machine.data_begin() + 20);
            join(self, machine.data_begin() + 16);
            join(self, machine.data_begin() + 20);
            CHECK(self.load<std::int64_t>(machine.data_begin()) == (leaves == discards ? 0 : minus(posix::fault)));
            CHECK(!machine.kernel().inheriting_futexes().any());
        }
        self.exit(0);
    });
    check_clean(machine);
}

} // namespace
