// Signals on a whole kernel: default actions, handlers and their frames, masks, restarts, job control, timers,
// terminals.

#include "world.hpp"

#include <cstddef>

using namespace exo;
using namespace world;

namespace {

constexpr std::uint64_t interrupt_call = 10'000'000;

// Counts in the word at the start of the program's data.
std::uint64_t add_counter(simulated_kernel& machine)
{
    return machine.add([&machine](view& self) {
        const auto at = machine.data_begin();
        self.store(at, self.load<int>(at) + 1);
    });
}

TEST_CASE("a handler gets number, information and context, and returns to where the program was")
{
    simulated_kernel machine;
    const auto handler = machine.add([&](view& self) {
        CHECK(self.frame.rdi == 10);
        CHECK((self.frame.rsp + 8) % 16 == 0);
        CHECK(self.load<std::uint64_t>(self.frame.rsp) == machine.restorer());
        const auto info = self.load<linux_abi::signal_info_record>(self.frame.rsi);
        CHECK(info.number == 10);
        CHECK(info.code == 0);
        CHECK(info.sender.process == 1);
        const auto context = self.load<linux_abi::user_context>(self.frame.rdx);
        CHECK(context.registers.r12 == 1234);
        CHECK(context.mask == 0);
        CHECK(context.registers.floating_point % 64 == 0);
        // The signal itself and what the action names are blocked meanwhile.
        const auto mask = self.allocate(8);
        self.call(nr::rt_sigprocmask, 0, 0, mask, 8);
        CHECK(self.load<std::uint64_t>(mask) == proc::signal_set::of(signal::sigusr1, signal::sigterm).bits());
        self.set_vector_register(std::byte{0x11});
        self.frame.r12 = 0;
        self.store(machine.data_begin(), 1);
    });
    machine.run([&](view& self) {
        CHECK(set_action(self, machine, signal::sigusr1, handler, signal_action::with_info,
                         proc::signal_set::of(signal::sigterm, signal::sigkill).bits()) == 0);
        self.frame.r12 = 1234;
        self.set_vector_register(std::byte{0x77});
        const auto stack = self.frame.rsp;
        CHECK(self.call(nr::kill, 1, 10) == 0);
        CHECK(self.load<int>(machine.data_begin()) == 1);
        CHECK(self.frame.r12 == 1234);
        CHECK(self.frame.rsp == stack);
        CHECK(self.vector_register() == std::byte{0x77});
        const auto mask = self.allocate(8);
        self.call(nr::rt_sigprocmask, 0, 0, mask, 8);
        CHECK(self.load<std::uint64_t>(mask) == 0);
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("blocked signals wait, ignored ones vanish, and SIGKILL heeds neither")
{
    simulated_kernel machine;
    const auto counter = add_counter(machine);
    const auto victim = machine.add([](view& self) {
        change_mask(self, 2, proc::signal_set{~std::uint64_t{0}});
        self.call(nr::kill, self.call(nr::getpid), 9);
        FAIL_CHECK("SIGKILL was blocked");
    });
    machine.run([&](view& self) {
        const auto count = [&] { return self.load<int>(machine.data_begin()); };
        set_action(self, machine, signal::sigusr1, counter);
        change_mask(self, 0, proc::signal_set::of(signal::sigusr1));
        self.call(nr::kill, 1, 10);
        self.call(nr::kill, 1, 10);
        CHECK(count() == 0);
        change_mask(self, 1, proc::signal_set::of(signal::sigusr1));
        CHECK(count() == 1); // a standard signal is pending once
        set_action(self, machine, signal::sigusr1, 1);
        self.call(nr::kill, 1, 10);
        CHECK(count() == 1);
        CHECK(set_action(self, machine, signal::sigkill, 1) == minus(posix::inval));
        CHECK(set_action(self, machine, signal::sigstop, counter) == minus(posix::inval));
        CHECK(self.call(nr::kill, 1, 65) == minus(posix::inval));
        CHECK(self.call(nr::kill, 999, 10) == minus(posix::srch));
        CHECK(self.call(nr::kill, 1, 0) == 0);
        // Real-time signals queue.
        set_action(self, machine, static_cast<signal>(40), counter);
        change_mask(self, 0, proc::signal_set::of(static_cast<signal>(40)));
        for (int i = 0; i < 3; ++i)
            self.call(nr::tgkill, 1, 1, 40);
        change_mask(self, 1, proc::signal_set::of(static_cast<signal>(40)));
        CHECK(count() == 4);
        self.fork(victim);
        CHECK(wait_for(self).word == wait_status::killed(signal::sigkill).word());
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("SA_RESETHAND handles once, SA_NODEFER nests, and handlers pending together all run")
{
    simulated_kernel machine;
    const auto counter = add_counter(machine);
    const auto once = machine.add([&](view& self) {
        set_action(self, machine, signal::sigusr1, counter, signal_action::reset_handler);
        self.call(nr::kill, self.call(nr::getpid), 10);
        CHECK(self.load<int>(machine.data_begin()) == 1);
        self.call(nr::kill, self.call(nr::getpid), 10);
        FAIL_CHECK("the handler was still there");
    });
    const auto nests = machine.add([&](view& self) {
        const auto at = machine.data_begin();
        const int depth = self.load<int>(at);
        self.store(at, depth + 1);
        if (depth < 3)
            self.call(nr::kill, self.call(nr::getpid), 12);
        CHECK(self.load<int>(at) == 4);
    });
    machine.run([&](view& self) {
        self.fork(once);
        CHECK(wait_for(self).word == wait_status::killed(signal::sigusr1).word());
        set_action(self, machine, signal::sigusr2, nests, signal_action::no_defer);
        self.call(nr::kill, 1, 12);
        CHECK(self.load<int>(machine.data_begin()) == 4);
        self.store(machine.data_begin(), 0);
        set_action(self, machine, signal::sigusr2, counter);
        set_action(self, machine, signal::sigusr1, counter);
        change_mask(self, 2, proc::signal_set::of(signal::sigusr1, signal::sigusr2));
        self.call(nr::kill, 1, 10);
        self.call(nr::kill, 1, 12);
        change_mask(self, 2, {});
        CHECK(self.load<int>(machine.data_begin()) == 2);
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("a faulting program can catch its SIGSEGV, on a stack of its own")
{
    simulated_kernel machine;
    const auto handler = machine.add([&](view& self) {
        const auto info = self.load<linux_abi::signal_info_record>(self.frame.rsi);
        CHECK(info.number == 11);
        CHECK(info.address == 0x10'0000'0000);
        CHECK(info.code == 1); // SEGV_MAPERR
        const auto stack = self.load<std::uint64_t>(machine.data_begin() + 8);
        CHECK(self.frame.rsp >= stack);
        CHECK(self.frame.rsp < stack + 65536);
        CHECK(self.call(nr::mmap, 0x10'0000'0000, 4096, 3, 0x32, -1, 0) == 0x10'0000'0000);
    });
    const auto recurses = machine.add([&](view& self) {
        const auto frame = self.frame.rsp - 1024;
        self.frame.rsp = 8; // no stack to push a frame on
        (void)self.load<int>(frame & 0xfff);
        FAIL_CHECK("went on without a stack");
    });
    const auto writes_code = machine.add([&](view& self) {
        const auto expects = machine.add([](view&) {});
        (void)expects;
        self.store(0x401000, 1);
    });
    machine.run([&](view& self) {
        const auto stack = self.call(nr::mmap, 0, 65536, 3, 0x22, -1, 0);
        CHECK(stack > 0);
        self.store(machine.data_begin() + 8, stack);
        const auto record = self.allocate(sizeof(linux_abi::stack_record));
        self.store(record, linux_abi::stack_record{static_cast<std::uint64_t>(stack), 0, 0, 65536});
        CHECK(self.call(nr::sigaltstack, record, 0) == 0);
        set_action(self, machine, signal::sigsegv, handler, signal_action::with_info | signal_action::on_stack);
        self.store(0x10'0000'0000, 5); // the handler maps it
        CHECK(self.load<int>(0x10'0000'0000) == 5);
        set_action(self, machine, signal::sigsegv, handler, signal_action::with_info);
        self.fork(recurses);
        CHECK(wait_for(self).word == wait_status::killed(signal::sigsegv).word());
        set_action(self, machine, signal::sigsegv, 1);
        self.fork(writes_code); // ignored, it kills all the same
        CHECK(wait_for(self).word == wait_status::killed(signal::sigsegv).word());
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("an interrupted wait starts again with SA_RESTART and without a handler, and else is EINTR")
{
    simulated_kernel machine;
    const auto counter = add_counter(machine);
    const auto pesters = machine.add([](view& self) {
        sleep_for(self, interrupt_call);
        self.call(nr::kill, 1, 10);
        sleep_for(self, interrupt_call);
        self.exit(3);
    });
    machine.run([&](view& self) {
        const auto count = [&] { return self.load<int>(machine.data_begin()); };
        set_action(self, machine, signal::sigusr1, counter, signal_action::restart);
        auto child = self.fork(pesters);
        CHECK(wait_for(self).id == child);
        CHECK(count() == 1);

        set_action(self, machine, signal::sigusr1, counter);
        child = self.fork(pesters);
        CHECK(wait_for(self).id == minus(posix::intr));
        CHECK(count() == 2);
        CHECK(wait_for(self).id == child);

        set_action(self, machine, signal::sigusr1, 1);
        child = self.fork(pesters);
        CHECK(wait_for(self).id == child);

        // A pipe that nobody writes.
        const auto pair = self.allocate(8);
        CHECK(self.call(nr::pipe, pair) == 0);
        const auto buffer = self.allocate(16);
        set_action(self, machine, signal::sigusr1, counter);
        self.fork(pesters);
        CHECK(self.call(nr::read, self.load<int>(pair), buffer, 16) == minus(posix::intr));
        CHECK(count() == 3);
        wait_for(self);

        // Sleep tells what is left; pause always ends.
        self.fork(pesters);
        const auto times = self.allocate(32);
        self.store(times, linux_abi::time_record{1, 0});
        CHECK(self.call(nr::nanosleep, times, times + 16) == minus(posix::intr));
        const auto left = self.load<linux_abi::time_record>(times + 16);
        CHECK(left.seconds == 0);
        CHECK(left.nanoseconds <= 1'000'000'000 - static_cast<std::int64_t>(interrupt_call));
        wait_for(self);
        set_action(self, machine, signal::sigusr1, counter, signal_action::restart);
        self.fork(pesters);
        CHECK(self.call(nr::pause) == minus(posix::intr));
        wait_for(self);
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("sigsuspend waits under another mask, and the old one is back when it returns")
{
    simulated_kernel machine;
    const auto counter = add_counter(machine);
    machine.run([&](view& self) {
        set_action(self, machine, signal::sigusr1, counter);
        change_mask(self, 2, proc::signal_set::of(signal::sigusr1, signal::sigusr2));
        self.call(nr::kill, 1, 10);
        const auto at = self.allocate(8);
        self.store(at, proc::signal_set::of(signal::sigusr2).bits());
        CHECK(self.call(nr::rt_sigsuspend, at, 8) == minus(posix::intr));
        CHECK(self.load<int>(machine.data_begin()) == 1);
        self.call(nr::rt_sigprocmask, 0, 0, at, 8);
        CHECK(self.load<std::uint64_t>(at) == proc::signal_set::of(signal::sigusr1, signal::sigusr2).bits());
        // And one that is taken without a handler.
        self.call(nr::kill, 1, 12);
        self.store(at, proc::signal_set::of(signal::sigusr2).bits());
        CHECK(self.call(nr::rt_sigtimedwait, at, 0, 0, 8) == 12);
        const auto timeout = self.allocate(16);
        self.store(timeout, linux_abi::time_record{0, 1000});
        CHECK(self.call(nr::rt_sigtimedwait, at, 0, timeout, 8) == minus(posix::again));
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("a parent hears of its children by SIGCHLD, or wants no zombies")
{
    simulated_kernel machine;
    const auto handler = machine.add([&](view& self) {
        const auto info = self.load<linux_abi::signal_info_record>(self.frame.rsi);
        CHECK(info.code == 1); // CLD_EXITED
        CHECK(info.sender.status == 4);
        self.store(machine.data_begin(), info.sender.process);
    });
    const auto child = machine.add([](view& self) { self.exit(4); });
    machine.run([&](view& self) {
        set_action(self, machine, signal::sigchld, handler, signal_action::with_info | signal_action::restart);
        const auto id = self.fork(child);
        CHECK(wait_for(self).id == id);
        CHECK(self.load<int>(machine.data_begin()) == id);
        set_action(self, machine, signal::sigchld, 1);
        self.fork(child);
        CHECK(wait_for(self).id == minus(posix::child));
        CHECK(machine.kernel().processes().size() == 1);
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("a stopped process stays so until SIGCONT, and wait reports both")
{
    simulated_kernel machine;
    const auto worker = machine.add([&](view& self) {
        self.call(nr::kill, self.call(nr::getpid), 19);
        sleep_for(self, interrupt_call);
        self.exit(1);
    });
    const auto stubborn = machine.add([&](view& self) {
        self.call(nr::kill, self.call(nr::getpid), 19);
        self.exit(1);
    });
    machine.run([&](view& self) {
        const auto id = self.fork(worker);
        auto seen = wait_for(self, id, 2);
        CHECK(seen.word == wait_status::stopped(signal::sigstop).word());
        CHECK(wait_for(self, id, 3).id == 0);
        sleep_for(self, 10 * interrupt_call);
        CHECK(wait_for(self, id, 3).id == 0); // still stopped
        CHECK(self.call(nr::kill, id, 18) == 0);
        seen = wait_for(self, id, 8);
        CHECK(seen.word == wait_status::continued().word());
        CHECK(wait_for(self, id).word == wait_status::exited(1).word());

        const auto other = self.fork(stubborn);
        wait_for(self, other, 2);
        self.call(nr::kill, other, 9); // also ends what is stopped
        CHECK(wait_for(self, other).word == wait_status::killed(signal::sigkill).word());
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("alarm and interval timers raise SIGALRM")
{
    simulated_kernel machine;
    const auto counter = add_counter(machine);
    const auto dies = machine.add([&](view& self) {
        set_action(self, machine, signal::sigalrm, 0);
        self.call(nr::alarm, 1);
        sleep_for(self, 5'000'000'000);
        FAIL_CHECK("no alarm");
    });
    machine.run([&](view& self) {
        set_action(self, machine, signal::sigalrm, counter);
        CHECK(self.call(nr::alarm, 2) == 0);
        CHECK(self.call(nr::alarm, 1) == 2);
        CHECK(sleep_for(self, 5'000'000'000) == minus(posix::intr));
        CHECK(self.load<int>(machine.data_begin()) == 1);
        CHECK(self.call(nr::alarm, 0) == 0);
        const auto at = self.allocate(32);
        self.store(at, linux_abi::interval_record{{0, 1000}, {0, 1000}});
        CHECK(self.call(nr::setitimer, 0, at, 0) == 0);
        while (self.load<int>(machine.data_begin()) < 5)
            self.spend(microseconds(100)); // a busy program is interrupted too
        self.store(at, linux_abi::interval_record{});
        CHECK(self.call(nr::setitimer, 0, at, 0) == 0);
        self.fork(dies);
        CHECK(wait_for(self).word == wait_status::killed(signal::sigalrm).word());
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("a pipe carries bytes between processes, and writing where nobody reads is SIGPIPE")
{
    simulated_kernel machine;
    const auto writer = machine.add([&](view& self) {
        const auto text = self.put("through the pipe");
        CHECK(self.call(nr::write, self.load<int>(machine.data_begin() + 4), text, 16) == 16);
        self.exit(0);
    });
    const auto into_the_void = machine.add([&](view& self) {
        self.call(nr::close, self.load<int>(machine.data_begin()));
        self.call(nr::write, self.load<int>(machine.data_begin() + 4), self.frame.rsp, 1);
        FAIL_CHECK("survived SIGPIPE");
    });
    machine.run([&](view& self) {
        const auto pair = machine.data_begin();
        CHECK(self.call(nr::pipe, pair) == 0);
        self.fork(writer);
        const auto buffer = self.allocate(64);
        CHECK(self.call(nr::read, self.load<int>(pair), buffer, 64) == 16);
        CHECK(self.load_string(buffer).substr(0, 16) == "through the pipe");
        wait_for(self);
        const auto child = self.fork(into_the_void);
        self.call(nr::close, self.load<int>(pair));
        CHECK(wait_for(self, child).word == wait_status::killed(signal::sigpipe).word());
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("Ctrl-C reaches the foreground group of the terminal, and nobody else")
{
    simulated_kernel machine;
    const auto counter = add_counter(machine);
    const auto background = machine.add([](view& self) {
        self.call(nr::setpgid, 0, 0);
        sleep_for(self, 10 * interrupt_call);
        self.exit(1);
    });
    const auto foreground = machine.add([&](view& self) {
        set_action(self, machine, signal::sigint, 0);
        self.call(nr::setpgid, 0, 0);
        sleep_for(self, 1'000'000'000);
        FAIL_CHECK("not interrupted");
    });
    machine.run([&](view& self) {
        set_action(self, machine, signal::sigint, counter);
        set_action(self, machine, signal::sigttou, 1);
        const auto stays = self.fork(background);
        const auto goes = self.fork(foreground);
        self.call(nr::setpgid, goes, goes);
        const auto group = self.allocate(8);
        self.store(group, static_cast<int>(goes));
        CHECK(self.call(nr::ioctl, 0, 0x5410, group) == 0); // TIOCSPGRP
        sleep_for(self, interrupt_call);
        machine.platform().cpus_.interrupt(0, [&machine] {
            const std::byte ctrl_c{3};
            machine.kernel().on_console_input({&ctrl_c, 1});
        });
        CHECK(wait_for(self, goes).word == wait_status::killed(signal::sigint).word());
        CHECK(wait_for(self, stays).word == wait_status::exited(1).word());
        CHECK(self.load<int>(machine.data_begin()) == 0);
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("sigreturn takes no privilege from a forged frame")
{
    simulated_kernel machine;
    const auto handler = machine.add([&](view& self) {
        const auto at = self.frame.rdx + offsetof(linux_abi::user_context, registers);
        auto registers = self.load<linux_abi::signal_context>(at);
        registers.cs = 0;
        registers.ss = 0;
        registers.rflags = ~std::uint64_t{0};
        self.store(at, registers);
        const auto mask = self.frame.rdx + offsetof(linux_abi::user_context, mask);
        self.store(mask, ~std::uint64_t{0});
    });
    const auto breaks = machine.add([&](view& self) {
        const auto at = self.frame.rdx + offsetof(linux_abi::user_context, registers);
        auto registers = self.load<linux_abi::signal_context>(at);
        registers.floating_point = 0xffff'8000'0000'0000;
        self.store(at, registers);
    });
    const auto victim = machine.add([&](view& self) {
        change_mask(self, 2, {});
        set_action(self, machine, signal::sigusr1, breaks, signal_action::with_info);
        self.call(nr::kill, self.call(nr::getpid), 10);
        FAIL_CHECK("a broken frame was taken");
    });
    machine.run([&](view& self) {
        set_action(self, machine, signal::sigusr1, handler, signal_action::with_info);
        self.call(nr::kill, 1, 10);
        CHECK(self.frame.cs == 0x33);
        CHECK((self.frame.rflags & 0x3000) == 0); // no I/O privilege
        CHECK((self.frame.rflags & 0x200) != 0);
        const auto at = self.allocate(8);
        self.call(nr::rt_sigprocmask, 0, 0, at, 8);
        CHECK(self.load<std::uint64_t>(at) == ~proc::unblockable_signals.bits());
        self.fork(victim);
        CHECK(wait_for(self).word == wait_status::killed(signal::sigsegv).word());
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("who waits for a signal gets it, even one that would be ignored")
{
    simulated_kernel machine;
    const auto child = machine.add([](view& self) { self.exit(4); });
    const auto status = machine.run([&](view& self) {
        change_mask(self, 0, proc::signal_set::of(signal::sigchld));
        self.fork(child);
        const auto at = self.allocate(8);
        self.store(at, proc::signal_set::of(signal::sigchld).bits());
        CHECK(self.call(nr::rt_sigtimedwait, at, 0, 0, 8) == 17);
        wait_for(self);
        // One that a timer sends again and again: the next comes when the one before was taken.
        change_mask(self, 0, proc::signal_set::of(signal::sigalrm));
        self.store(at, proc::signal_set::of(signal::sigalrm).bits());
        const auto every = self.allocate(32);
        self.store(every, linux_abi::interval_record{{0, 1}, {0, 1}});
        CHECK(self.call(nr::setitimer, 0, every, 0) == 0);
        for (int i = 0; i < 3; ++i)
            CHECK(self.call(nr::rt_sigtimedwait, at, 0, 0, 8) == 14);
        const auto ticks = [&] { return machine.kernel().metrics().value("exo_sched_ticks_total").value_or(0); };
        const auto before = ticks();
        self.spend(milliseconds(100));
        CHECK(ticks() - before < 1000);
        self.store(every, linux_abi::interval_record{});
        CHECK(self.call(nr::setitimer, 0, every, 0) == 0);
        self.exit(6);
    });
    CHECK(status == 6);
    check_clean(machine, 6);
}

TEST_CASE("SIGKILL ends a process before anything else that is pending can")
{
    simulated_kernel machine;
    const auto child = machine.add([&](view& self) {
        self.call(nr::kill, self.call(nr::getpid), 19);
        self.exit(0);
    });
    machine.run([&](view& self) {
        const auto id = self.fork(child);
        CHECK(wait_for(self, id, 2).word == wait_status::stopped(signal::sigstop).word());
        CHECK(self.call(nr::tgkill, id, id, 11) == 0);
        CHECK(self.call(nr::kill, id, 15) == 0);
        CHECK(self.call(nr::kill, id, 9) == 0);
        CHECK(wait_for(self, id).word == wait_status::killed(signal::sigkill).word());
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("init is not stopped by default, and a signal that ends it is the status of the machine")
{
    simulated_kernel machine;
    const auto status = machine.run([&](view& self) {
        for (const auto s : {signal::sigstop, signal::sigtstp})
            CHECK(self.call(nr::kill, 1, static_cast<int>(s)) == 0);
        CHECK(self.call(nr::kill, 1, static_cast<int>(signal::sigterm)) == 0);
        self.exit(0);
    });
    CHECK(status == 128 + 15);
    check_clean(machine, 143);
}

TEST_CASE("a restartable sequence that is disturbed goes on at its abort handler")
{
    using linux_abi::sequence_area;
    using linux_abi::sequence_record;
    constexpr std::uint32_t signature = 0x53053053;
    simulated_kernel machine;
    const auto spins = machine.add([](view& self) {
        self.spend(milliseconds(500));
        self.exit(0);
    });
    const auto counter = add_counter(machine);
    std::uint64_t area_at = 0; // of the program's data; where the functions end is known when all are there
    const auto aborts = machine.add([&](view& self) {
        const auto at = machine.data_begin() + 4;
        self.store(at, self.load<int>(at) + 1);
    });
    const auto enter = [&](view& self, std::uint64_t area, std::uint64_t handler) {
        self.store(area + 64, sequence_record{.version = 0, .flags = 0, .begin = self.frame.rip, .size = 16,
                                              .abort = handler});
        self.store(area + offsetof(sequence_area, sequence), area + 64);
    };
    // The registration of a child, and what a wrong descriptor does to it.
    const auto wrong = machine.add([&](view& self) {
        const auto area = self.load<std::uint64_t>(area_at);
        CHECK(self.call(nr::rseq, area, 32, 0, signature) == minus(posix::busy));
        set_action(self, machine, signal::sigsegv, counter);
        enter(self, area, counter); // no signature before it
        self.call(nr::kill, self.call(nr::getpid), 10);
        FAIL_CHECK("went on without a signature");
    });
    machine.add_program("/bin/fresh", machine.add([&](view& self) {
        const auto area = self.allocate(64) & ~std::uint64_t{31};
        CHECK(self.call(nr::rseq, area, 32, 1, signature) == minus(posix::inval));
        CHECK(self.call(nr::rseq, area, 32, 0, signature) == 0);
        self.exit(3);
    }));
    const auto executes = machine.add([&](view& self) { execute(self, "/bin/fresh", {"fresh"}); });

    machine.run([&](view& self) {
        area_at = machine.data_begin() + 8;
        const auto area = static_cast<std::uint64_t>(self.call(nr::mmap, 0, 4096, 3, 0x22, -1, 0));
        const auto cpu = [&] { return self.load<std::uint32_t>(area + offsetof(sequence_area, cpu)); };
        const auto set_cpu = [&](std::uint32_t to) { self.store(area + offsetof(sequence_area, cpu), to); };
        const auto aborted = [&] { return self.load<int>(machine.data_begin() + 4); };
        self.store(area_at, area);
        CHECK(self.call(nr::mprotect, aborts & ~(page_size - 1), 4096, 7) == 0);
        self.store(aborts - 4, signature);

        CHECK(self.call(nr::rseq, area, 32, 1, signature) == minus(posix::inval));
        CHECK(self.call(nr::rseq, area + 8, 32, 0, signature) == minus(posix::inval));
        CHECK(self.call(nr::rseq, area, 31, 0, signature) == minus(posix::inval));
        CHECK(self.call(nr::rseq, area, 32, 2, signature) == minus(posix::inval));
        CHECK(self.call(nr::rseq, 0xffff'8000'0000'0000, 32, 0, signature) == minus(posix::fault));
        set_cpu(sequence_area::no_cpu);
        CHECK(self.call(nr::rseq, area, 32, 0, signature) == 0);
        CHECK(cpu() == 0);
        CHECK(self.call(nr::rseq, area, 32, 0, signature) == minus(posix::busy));
        CHECK(self.call(nr::rseq, area, 32, 0, 1) == minus(posix::perm));
        CHECK(self.call(nr::rseq, area + 32, 32, 0, signature) == minus(posix::inval));

        // Another program takes the CPU.
        self.fork(spins);
        set_cpu(99);
        enter(self, area, aborts);
        const auto stack = self.frame.rsp;
        self.frame.rsp -= 8;
        self.store(self.frame.rsp, self.frame.rip + 12); // where the handler goes back to
        self.spend(milliseconds(300));
        CHECK(self.frame.rsp == stack);
        CHECK(aborted() == 1);
        CHECK(cpu() == 0);
        CHECK(self.load<std::uint64_t>(area + offsetof(sequence_area, sequence)) == 0);
        wait_for(self);

        // A signal.
        set_action(self, machine, signal::sigusr1, counter);
        enter(self, area, aborts);
        self.frame.rsp -= 8;
        self.store(self.frame.rsp, self.frame.rip + 8);
        self.call(nr::kill, 1, 10);
        CHECK(self.frame.rsp == stack);
        CHECK(aborted() == 2);
        CHECK(self.load<int>(machine.data_begin()) == 1);

        self.fork(wrong);
        CHECK(wait_for(self).word == wait_status::killed(signal::sigsegv).word());
        self.fork(executes);
        CHECK(wait_for(self).word == 3 << 8);

        CHECK(self.call(nr::rseq, area, 32, 1, 1) == minus(posix::perm));
        CHECK(self.call(nr::rseq, area, 32, 1, signature) == 0);
        CHECK(cpu() == sequence_area::no_cpu);
        self.fork(spins);
        set_cpu(99);
        self.spend(milliseconds(300));
        CHECK(cpu() == 99);
        self.exit(0);
    });
    check_clean(machine);
}

} // namespace
