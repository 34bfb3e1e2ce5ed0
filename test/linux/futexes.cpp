// futex(2) on a whole kernel: who is woken and moved, interruption, and what goes on after it.

#include "../proc/world.hpp"

#include <exo/linux/time_structures.hpp>

using namespace exo;
using namespace world;

namespace {

constexpr std::uint64_t futex_moment = 10'000'000;
namespace operation = linux_abi::futex_operation;

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

} // namespace
