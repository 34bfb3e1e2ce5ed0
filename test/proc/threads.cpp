// Processes of several threads on a whole kernel: their making and end, what they share, signals to one of them and to
// all, execve, stops, limits, and what /proc tells.

#include "world.hpp"

#include <algorithm>

#include <exo/proc/resource.hpp>

using namespace exo;
using namespace world;

namespace {

constexpr std::uint64_t moment = 10'000'000;

bool contains(const std::string& text, std::string_view part) { return text.find(part) != text.npos; }

TEST_CASE("threads share memory, files and the process's number, and have numbers, registers and names of their own")
{
    simulated_kernel machine;
    const auto worker = machine.add([&](view& self) {
        const auto data = machine.data_begin();
        CHECK(self.frame.r12 == 77);
        CHECK(self.call(nr::getpid) == 1);
        const auto id = self.call(nr::gettid);
        CHECK(id == self.load<int>(data)); // PARENT_SETTID was there before
        CHECK(self.vector_register() == std::byte{0x42});
        self.store(data + 8, static_cast<int>(id));
        CHECK(self.call(nr::prctl, 15, self.put("worker")) == 0);
        CHECK(self.call(nr::close, self.load<int>(data + 16)) == 0);
        CHECK(self.call(nr::chdir, self.put("/tmp")) == 0);
        exit_thread(self);
    });
    run_to_end(machine, [&](view& self) {
        const auto data = machine.data_begin();
        const auto name = self.allocate(16);
        self.call(nr::prctl, 15, self.put("first"));
        self.set_vector_register(std::byte{0x42});
        self.store(data + 16, static_cast<int>(self.call(nr::dup, 0)));
        const auto id = spawn(self, worker, data, 77);
        CHECK(id > 1);
        join(self, data);
        CHECK(self.load<int>(data + 8) == id);
        CHECK(self.call(nr::gettid) == 1);
        self.call(nr::prctl, 16, name);
        CHECK(self.load_string(name) == "first");
        CHECK(self.call(nr::close, self.load<int>(data + 16)) == minus(posix::badf));
        CHECK(self.call(nr::getcwd, name, 16) == 5);
        CHECK(self.load_string(name) == "/tmp");
        CHECK(wait_for(self).id == minus(posix::child)); // it was no child
        CHECK(self.call(nr::tgkill, 1, id, 0) == minus(posix::srch));
        self.exit(0);
    });
    check_clean(machine);
    CHECK(machine.platform().stacks_in_use() <= 1);
}

TEST_CASE("a thread starts with its TLS, without alternate stack and restartable sequence, with the mask of its maker")
{
    simulated_kernel machine;
    const auto worker = machine.add([&](view& self) {
        const auto data = machine.data_begin();
        CHECK(self.tls() == data + 256);
        CHECK(self.load<int>(data + 4) == self.call(nr::gettid)); // CHILD_SETTID
        const auto record = self.allocate(sizeof(linux_abi::stack_record));
        self.call(nr::sigaltstack, 0, record);
        CHECK(self.load<linux_abi::stack_record>(record).flags == 2);
        const auto mask = self.allocate(8);
        self.call(nr::rt_sigprocmask, 0, 0, mask, 8);
        CHECK(self.load<std::uint64_t>(mask) == proc::signal_set::of(signal::sigusr2).bits());
        change_mask(self, 2, {});
        CHECK(self.call(nr::rseq, data + 512, 32, 0, 1) == 0); // none was registered
        exit_thread(self);
    });
    run_to_end(machine, [&](view& self) {
        const auto data = machine.data_begin();
        const auto record = self.allocate(sizeof(linux_abi::stack_record));
        self.store(record, linux_abi::stack_record{data + 4096, 0, 0, 4096});
        CHECK(self.call(nr::sigaltstack, record, 0) == 0);
        CHECK(self.call(nr::rseq, data + 1024, 32, 0, 1) == 0);
        change_mask(self, 0, proc::signal_set::of(signal::sigusr2));
        const auto stack = self.call(nr::mmap, 0, 65536, 3, 0x22, -1, 0);
        self.store(data + 4, 1);
        const auto flags = thread_flags | with_tls | tells_parent | tells_child | clears_id;
        CHECK(self.call_from(worker, nr::clone, flags, stack + 65536, data, data + 4, data + 256) > 0);
        join(self, data + 4);
        const auto mask = self.allocate(8);
        self.call(nr::rt_sigprocmask, 0, 0, mask, 8);
        CHECK(self.load<std::uint64_t>(mask) == proc::signal_set::of(signal::sigusr2).bits());
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("clone refuses what makes no sense, as Linux does")
{
    simulated_kernel machine;
    run_to_end(machine, [&](view& self) {
        const auto clone = [&](std::uint64_t flags, std::uint64_t tls = 0) {
            return self.call(nr::clone, flags, 0, 0, 0, tls);
        };
        constexpr std::uint64_t memory = 0x100, handlers = 0x800, thread = 0x10000;
        CHECK(clone(thread) == minus(posix::inval));
        CHECK(clone(thread | memory) == minus(posix::inval));
        CHECK(clone(handlers) == minus(posix::inval));
        CHECK(clone(handlers | thread) == minus(posix::inval));
        CHECK(clone(65) == minus(posix::inval));
        CHECK(clone(thread_flags | with_tls, 0x8000'0000'0000) == minus(posix::perm));
        const auto record = self.allocate(64);
        const auto clone3 = [&](std::uint64_t flags, std::uint64_t exit_signal) {
            self.store(record, linux_abi::clone_record{flags, 0, 0, 0, exit_signal, 0, 0, 0});
            return self.call(nr::clone3, record, 64);
        };
        CHECK(clone3(thread_flags, 17) == minus(posix::inval));
        CHECK(clone3(thread_flags | 0x400000, 0) == minus(posix::inval));           // CLONE_DETACHED
        CHECK(clone3(memory | handlers | 0x1'0000'0000, 0) == minus(posix::inval)); // CLONE_CLEAR_SIGHAND
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("a process lives on when its first thread ends, and has the status of its last")
{
    simulated_kernel machine;
    const auto lasts = machine.add([&](view& self) {
        sleep_for(self, 3 * moment);
        CHECK(self.call(nr::getppid) == 1);
        exit_thread(self, 9);
    });
    const auto child = machine.add([&](view& self) {
        spawn(self, lasts);
        exit_thread(self, 5);
    });
    run_to_end(machine, [&](view& self) {
        const auto id = self.fork(child);
        sleep_for(self, moment);
        const auto path = "/proc/" + std::to_string(id);
        CHECK(wait_for(self, id, 1).id == 0);
        CHECK(contains(read_file(self, path + "/stat"), ") Z 1 "));
        CHECK(contains(read_file(self, path + "/status"), "Threads:\t2\n"));
        CHECK(contains(read_file(self, path + "/task/" + std::to_string(id + 1) + "/stat"), ") S 1 "));
        CHECK(self.call(nr::tgkill, id, id, 10) == 0); // nobody is killed by what nobody hears
        CHECK(self.call(nr::kill, id, 0) == 0);
        CHECK(wait_for(self, id).word == wait_status::exited(9).word());
        CHECK(self.call(nr::kill, id + 1, 0) == minus(posix::srch));
        self.exit(0);
    });
    check_clean(machine);
}

// Threads that wait in many ways, and one that computes.
void spawn_waiters(view& self, simulated_kernel& machine, std::uint64_t waits, std::uint64_t ends)
{
    for (std::uint64_t kind = 0; kind < 6; ++kind)
        CHECK(spawn(self, waits, 0, kind) > 0);
    CHECK(spawn(self, ends) > 0);
    self.call(nr::futex, machine.data_begin() + 64, 0, 0, 0); // for ever
    FAIL_CHECK("the first thread went on");
}

TEST_CASE("exit_group and a fatal signal end all threads, whatever they do, and nothing of them is left")
{
    simulated_kernel machine;
    const auto waits = machine.add([&](view& self) {
        const auto data = machine.data_begin();
        switch (self.frame.r12) {
        case 0:
            self.call(nr::futex, data + 64, 0, 0, 0);
            break;
        case 1:
            sleep_for(self, 1'000'000'000'000);
            break;
        case 2: {
            const auto ends = self.allocate(8);
            self.call(nr::pipe, ends);
            self.call(nr::read, self.load<int>(ends), ends, 1);
            break;
        }
        case 3:
            change_mask(self, 2, proc::signal_set{~std::uint64_t{0}});
            self.call(nr::pause);
            break;
        case 4:
            self.call(nr::wait4, -1, 0, 0, 0);
            break;
        default:
            for (;;)
                self.spend(milliseconds(1));
        }
        if (self.frame.r12 != 4) // which has no child
            FAIL_CHECK("a wait ended");
        for (;;)
            self.call(nr::pause);
    });
    const auto exits = machine.add([&](view& self) {
        sleep_for(self, moment);
        self.exit(4);
    });
    const auto faults = machine.add([&](view& self) {
        sleep_for(self, moment);
        (void)self.load<int>(8);
        FAIL_CHECK("survived");
    });
    const auto sleeps = machine.add([&](view& self) {
        for (;;)
            self.call(nr::pause);
    });
    const auto by_exit = machine.add([&](view& self) { spawn_waiters(self, machine, waits, exits); });
    const auto by_fault = machine.add([&](view& self) { spawn_waiters(self, machine, waits, faults); });
    const auto by_kill = machine.add([&](view& self) { spawn_waiters(self, machine, waits, sleeps); });
    run_to_end(machine, [&](view& self) {
        const auto round = [&] {
            self.fork(by_exit);
            CHECK(wait_for(self).word == wait_status::exited(4).word());
            self.fork(by_fault);
            CHECK(wait_for(self).word == wait_status::killed(signal::sigsegv).word());
            for (const int s : {9, 15}) {
                const auto id = self.fork(by_kill);
                sleep_for(self, 2 * moment);
                CHECK(self.call(nr::kill, id, s) == 0);
                CHECK(wait_for(self).word == s);
                CHECK(self.call(nr::kill, id + 3, 0) == minus(posix::srch));
            }
        };
        for (int i = 0; i < 3; ++i)
            round();
        const auto frames = free_frames(machine);
        const auto stacks = machine.platform().stacks_in_use();
        round();
        CHECK(free_frames(machine) == frames);
        CHECK(machine.platform().stacks_in_use() == stacks);
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("execve ends the other threads, and whoever calls it goes on under the process's number")
{
    simulated_kernel machine;
    machine.add_program("/bin/next", machine.add([&](view& self) {
        CHECK(self.call(nr::gettid) == self.call(nr::getpid));
        CHECK(self.call(nr::getpid) == std::stoi(argument(self, 1)));
        CHECK(contains(read_file(self, "/proc/self/status"), "Name:\tnext\n"));
        CHECK(contains(read_file(self, "/proc/self/status"), "Threads:\t1\n"));
        // A thread may be made again, and a signal finds the one that there is.
        CHECK(self.call(nr::kill, self.call(nr::getpid), 0) == 0);
        self.exit(6);
    }));
    const auto waits = machine.add([&](view& self) {
        for (;;)
            self.call(nr::pause);
    });
    const auto executes = machine.add([&](view& self) {
        sleep_for(self, moment);
        CHECK(execute(self, "/bin/none", {"none"}) == minus(posix::noent)); // which ends nobody
        CHECK(self.call(nr::tgkill, self.call(nr::getpid), self.call(nr::getpid), 0) == 0);
        const auto id = self.call(nr::getpid);
        execute(self, "/bin/next", {"next", std::to_string(id)});
        FAIL_CHECK("execve returned");
    });
    const auto leader_waits = machine.add([&](view& self) {
        spawn(self, waits);
        spawn(self, executes);
        for (;;)
            self.call(nr::pause);
    });
    const auto leader_gone = machine.add([&](view& self) {
        spawn(self, waits);
        spawn(self, executes);
        exit_thread(self);
    });
    const auto leader_executes = machine.add([&](view& self) {
        spawn(self, waits);
        sleep_for(self, moment);
        execute(self, "/bin/next", {"next", std::to_string(self.call(nr::getpid))});
    });
    const auto both_execute = machine.add([&](view& self) {
        spawn(self, executes);
        spawn(self, executes);
        for (;;)
            self.call(nr::pause);
    });
    run_to_end(machine, [&](view& self) {
        const auto round = [&] {
            for (const auto child : {leader_waits, leader_gone, leader_executes, both_execute}) {
                const auto id = self.fork(child);
                const auto seen = wait_for(self);
                CHECK(seen.id == id);
                CHECK(seen.word == wait_status::exited(6).word());
            }
        };
        for (int i = 0; i < 3; ++i)
            round();
        const auto frames = free_frames(machine);
        const auto stacks = machine.platform().stacks_in_use();
        round();
        CHECK(free_frames(machine) == frames);
        CHECK(machine.platform().stacks_in_use() == stacks);
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("a stop signal stops all threads, which the parent hears when all have, and SIGCONT continues all")
{
    simulated_kernel machine;
    const auto counts = machine.add([&](view& self) {
        for (;;) {
            const auto at = self.frame.r12;
            self.store(at, self.load<int>(at) + 1);
            if (at == machine.data_begin())
                self.spend(milliseconds(1));
            else
                sleep_for(self, 1'000'000);
        }
    });
    const auto child = machine.add([&](view& self) {
        // Shared with the parent, which looks.
        spawn(self, counts, 0, machine.data_begin());
        spawn(self, counts, 0, machine.data_begin() + 4);
        for (;;)
            self.call(nr::pause);
    });
    run_to_end(machine, [&](view& self) {
        const auto id = self.call_from(child, nr::clone, 0x100 | 17,
                                       self.call(nr::mmap, 0, 65536, 3, 0x22, -1, 0) + 65536, 0, 0, 0);
        sleep_for(self, 3 * moment);
        CHECK(self.call(nr::kill, id, 19) == 0);
        const auto stopped = wait_for(self, id, 2);
        CHECK(stopped.word == wait_status::stopped(signal::sigstop).word());
        const auto one = self.load<int>(machine.data_begin()), two = self.load<int>(machine.data_begin() + 4);
        CHECK(one > 0);
        CHECK(two > 0);
        CHECK(contains(read_file(self, "/proc/" + std::to_string(id) + "/stat"), ") T 1 "));
        sleep_for(self, 5 * moment);
        CHECK(self.load<int>(machine.data_begin()) == one);
        CHECK(self.load<int>(machine.data_begin() + 4) == two);
        CHECK(self.call(nr::kill, id, 18) == 0);
        CHECK(wait_for(self, id, 8).word == wait_status::continued().word());
        sleep_for(self, 3 * moment);
        CHECK(self.load<int>(machine.data_begin()) > one);
        CHECK(self.load<int>(machine.data_begin() + 4) > two);
        self.call(nr::kill, id, 19);
        CHECK(wait_for(self, id, 2).word == wait_status::stopped(signal::sigstop).word());
        CHECK(self.call(nr::kill, id, 9) == 0);
        CHECK(wait_for(self, id).word == wait_status::killed(signal::sigkill).word());
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("a process has not stopped before the last of its threads has, which may be in the kernel for long")
{
    simulated_kernel machine;
    const auto vfork_child = machine.add([](view& self) {
        sleep_for(self, 5 * moment);
        self.exit(0);
    });
    const auto waits_for_child = machine.add([&](view& self) {
        self.call_from(vfork_child, nr::vfork);
        for (;;)
            self.call(nr::pause);
    });
    const auto child = machine.add([&](view& self) {
        spawn(self, waits_for_child);
        for (;;)
            self.call(nr::pause);
    });
    run_to_end(machine, [&](view& self) {
        const auto id = self.fork(child);
        sleep_for(self, moment);
        self.call(nr::kill, id, 19);
        sleep_for(self, moment);
        CHECK(wait_for(self, id, 3).id == 0);
        sleep_for(self, 5 * moment);
        CHECK(wait_for(self, id, 3).word == wait_status::stopped(signal::sigstop).word());
        self.call(nr::kill, id, 9);
        CHECK(wait_for(self, id).word == wait_status::killed(signal::sigkill).word());
        self.exit(0);
    });
    check_clean(machine);
}

// Notes who handled it, by the number of the signal.
std::uint64_t add_witness(simulated_kernel& machine)
{
    return machine.add([&machine](view& self) {
        const auto at = machine.data_begin() + 1024 + self.frame.rdi * 8;
        self.store(at, static_cast<int>(self.call(nr::gettid)));
        self.store(at + 4, self.load<int>(at + 4) + 1);
    });
}

TEST_CASE(
    "a signal to the process goes to a thread that does not block it, the first before others; to a thread, to it")
{
    simulated_kernel machine;
    const auto witness = add_witness(machine);
    const auto waits = machine.add([&](view& self) {
        if (self.frame.r12 == 1)
            change_mask(self, 0, proc::signal_set::of(signal::sigusr1));
        for (;;)
            self.call(nr::pause);
    });
    run_to_end(machine, [&](view& self) {
        const auto who = [&](int s) {
            sleep_for(self, moment);
            return self.load<int>(machine.data_begin() + 1024 + static_cast<unsigned>(s) * 8);
        };
        const auto times = [&](int s) {
            return self.load<int>(machine.data_begin() + 1028 + static_cast<unsigned>(s) * 8);
        };
        for (const auto s : {signal::sigusr1, signal::sigusr2})
            set_action(self, machine, s, witness, signal_action::restart);
        const auto blocking = spawn(self, waits, 0, 1);
        const auto open = spawn(self, waits, 0, 0);
        sleep_for(self, moment);
        self.call(nr::kill, 1, 10);
        CHECK(who(10) == 1);
        change_mask(self, 0, proc::signal_set::of(signal::sigusr1));
        self.call(nr::kill, 1, 10);
        CHECK(who(10) == open);
        self.call(nr::kill, static_cast<int>(open), 10); // a thread's number names its process
        CHECK(who(10) == open);
        self.call(nr::tgkill, 1, blocking, 12);
        CHECK(who(12) == blocking);
        self.call(nr::tkill, open, 12);
        CHECK(who(12) == open);
        CHECK(times(12) == 2);
        CHECK(self.call(nr::tgkill, 2, open, 12) == minus(posix::srch));
        // To one that blocks it, it waits.
        self.call(nr::tgkill, 1, 1, 10);
        CHECK(times(10) == 3);
        change_mask(self, 1, proc::signal_set::of(signal::sigusr1));
        CHECK(who(10) == 1);
        CHECK(times(10) == 4);
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("a pending signal is taken by whoever unblocks it first, and passed on by who was told of it and blocks it")
{
    simulated_kernel machine;
    const auto witness = add_witness(machine);
    const auto takes_long = machine.add([](view& self) { sleep_for(self, 5 * moment); });
    const auto waits = machine.add([&](view& self) {
        change_mask(self, 2, {});
        for (;;)
            self.call(nr::pause);
    });
    run_to_end(machine, [&](view& self) {
        const auto who = machine.data_begin() + 1024 + 80, times = who + 4;
        set_action(self, machine, signal::sigusr1, witness, signal_action::restart);
        set_action(self, machine, signal::sigusr2, takes_long, signal_action::restart,
                   proc::signal_set::of(signal::sigusr1).bits());
        change_mask(self, 2, proc::signal_set::of(signal::sigusr1));
        self.call(nr::kill, 1, 10);
        sleep_for(self, moment);
        CHECK(self.load<int>(times) == 0); // all block it
        const auto mask = self.allocate(8);
        self.call(nr::rt_sigpending, mask, 8);
        CHECK(self.load<std::uint64_t>(mask) == proc::signal_set::of(signal::sigusr1).bits());
        const auto first = spawn(self, waits);
        sleep_for(self, moment);
        CHECK(self.load<int>(who) == first);
        CHECK(self.load<int>(times) == 1);

        const auto second = spawn(self, waits);
        sleep_for(self, moment);
        self.call(nr::tgkill, 1, first, 12); // whose handler blocks the other
        self.call(nr::kill, 1, 10);
        sleep_for(self, moment);
        CHECK(self.load<int>(who) == second);
        CHECK(self.load<int>(times) == 2);
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("sigtimedwait takes what is sent to the process, in any thread, though all block it")
{
    simulated_kernel machine;
    const auto waits = machine.add([&](view& self) {
        const auto set = self.allocate(8);
        self.store(set, proc::signal_set::of(signal::sigusr1).bits());
        const auto taken = self.call(nr::rt_sigtimedwait, set, 0, 0, 8);
        self.store(machine.data_begin() + 8, static_cast<int>(taken));
        exit_thread(self);
    });
    run_to_end(machine, [&](view& self) {
        change_mask(self, 0, proc::signal_set::of(signal::sigusr1));
        spawn(self, waits, machine.data_begin());
        sleep_for(self, moment);
        self.call(nr::kill, 1, 10);
        join(self, machine.data_begin());
        CHECK(self.load<int>(machine.data_begin() + 8) == 10);
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("SIGALRM finds a thread that does not block it, even when the one that asked for it has ended")
{
    simulated_kernel machine;
    const auto witness = add_witness(machine);
    const auto asks = machine.add([&](view& self) {
        const auto at = self.allocate(32);
        self.store(at, linux_abi::interval_record{{0, 0}, {0, 50'000}});
        self.call(nr::setitimer, 0, at, 0);
        exit_thread(self);
    });
    const auto waits = machine.add([&](view& self) {
        for (;;)
            self.call(nr::pause);
    });
    run_to_end(machine, [&](view& self) {
        const auto data = machine.data_begin();
        set_action(self, machine, signal::sigalrm, witness, signal_action::restart);
        spawn(self, asks, data);
        join(self, data);
        sleep_for(self, 10 * moment);
        CHECK(self.load<int>(data + 1024 + 112) == 1);
        // The same, with the heir blocking it.
        const auto open = spawn(self, waits);
        change_mask(self, 0, proc::signal_set::of(signal::sigalrm));
        spawn(self, asks, data);
        join(self, data);
        sleep_for(self, 10 * moment);
        CHECK(self.load<int>(data + 1024 + 112) == open);
        CHECK(self.load<int>(data + 1024 + 116) == 2);
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("locks that a thread holds when it ends are marked as its, and one of those that wait is woken")
{
    simulated_kernel machine;
    constexpr std::uint32_t waiters = 0x80000000, died = 0x40000000;
    // At data: three words of locks, each behind its link; see below.
    const auto ends = machine.add([&](view& self) {
        const auto data = machine.data_begin();
        const auto id = static_cast<std::uint32_t>(self.call(nr::gettid));
        const auto head = data + 256;
        const auto link = [&](unsigned n) { return data + 512 + n * 64; };
        const auto list = self.allocate(16);
        CHECK(self.call(nr::set_robust_list, head, 23) == minus(posix::inval));
        CHECK(self.call(nr::set_robust_list, head, 24) == 0);
        CHECK(self.call(nr::get_robust_list, 0, list, list + 8) == 0);
        CHECK(self.load<std::uint64_t>(list) == head);
        CHECK(self.load<std::uint64_t>(list + 8) == 24);
        self.store(link(0) + 16, id | waiters);
        self.store(link(1) + 16, id);
        self.store(link(2) + 16, 5u); // somebody else's
        self.store(link(3) + 16, id); // pending
        self.store(link(0), link(1));
        self.store(link(1), link(2));
        switch (self.frame.r12) {
        case 0:
            self.store(link(2), head);
            break;
        case 1:
            self.store(link(2), link(0)); // for ever round
            break;
        case 2:
            self.store(link(2), std::uint64_t{0x1230}); // into nothing
            break;
        }
        self.store(head, proc::robust_list_head{link(0), 16, link(3)});
        sleep_for(self, 2 * moment);
        exit_thread(self);
    });
    const auto waits = machine.add([&](view& self) {
        const auto word = machine.data_begin() + 512 + 16;
        CHECK(self.call(nr::futex, word, 0, self.load<std::uint32_t>(word), 0) == 0);
        CHECK(self.load<std::uint32_t>(word) == (waiters | died));
        exit_thread(self);
    });
    run_to_end(machine, [&](view& self) {
        const auto data = machine.data_begin();
        for (std::uint64_t kind = 0; kind < 3; ++kind) {
            spawn(self, ends, data, kind);
            sleep_for(self, moment);
            spawn(self, waits, data + 4);
            join(self, data);
            join(self, data + 4);
            CHECK(self.load<std::uint32_t>(data + 512 + 16) == (waiters | died));
            CHECK(self.load<std::uint32_t>(data + 512 + 64 + 16) == died);
            CHECK(self.load<std::uint32_t>(data + 512 + 128 + 16) == 5);
            if (kind != 2) // which is not followed as far
                CHECK(self.load<std::uint32_t>(data + 512 + 192 + 16) == died);
        }
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("usage and CPU clocks sum over threads, those that have ended among them")
{
    simulated_kernel machine;
    const auto works = machine.add([&](view& self) {
        self.spend(milliseconds(50));
        exit_thread(self);
    });
    run_to_end(machine, [&](view& self) {
        const auto data = machine.data_begin();
        for (unsigned i = 0; i < 4; ++i)
            spawn(self, works, data + 4 * i);
        for (unsigned i = 0; i < 4; ++i)
            join(self, data + 4 * i);
        self.spend(milliseconds(30));
        self.call(nr::sched_yield); // what is used is known as of the last switch
        const auto time = [&](int clock) {
            const auto at = self.allocate(16);
            CHECK(self.call(nr::clock_gettime, clock, at) == 0);
            return self.load<linux_abi::time_record>(at);
        };
        CHECK(time(2).nanoseconds >= 220'000'000); // CLOCK_PROCESS_CPUTIME_ID
        CHECK(time(3).nanoseconds < 100'000'000);
        const auto used = [&](int who) {
            const auto at = self.allocate(sizeof(linux_abi::usage_record));
            CHECK(self.call(nr::getrusage, who, at) == 0);
            const auto u = self.load<linux_abi::usage_record>(at);
            return u.user.microseconds + u.system.microseconds;
        };
        CHECK(used(0) >= 220'000);
        CHECK(used(1) < 100'000);
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("threads count for RLIMIT_NPROC")
{
    simulated_kernel machine;
    const auto waits = machine.add([&](view& self) {
        for (;;)
            self.call(nr::pause);
    });
    const auto child = machine.add([&](view& self) {
        const auto limit = self.allocate(16);
        self.store(limit, proc::resource_limit{3, 3});
        CHECK(self.call(nr::setrlimit, 6, limit) == 0);
        CHECK(self.call(nr::setuid, 1000) == 0);
        CHECK(spawn(self, waits) > 0);
        CHECK(spawn(self, waits) > 0);
        const auto refused = [&] {
            return machine.kernel().metrics().value("exo_sched_errors_total{severity=\"caller\"}").value();
        };
        const auto before = refused();
        CHECK(spawn(self, waits) == minus(posix::again));
        CHECK(self.call(nr::fork) == minus(posix::again));
        CHECK(refused() == before + 2);
        self.exit(0);
    });
    run_to_end(machine, [&](view& self) {
        self.fork(child);
        CHECK(wait_for(self).word == 0);
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("making a thread survives the failure of each of its allocations, and leaks nothing")
{
    simulated_kernel machine;
    const auto ends = machine.add([&](view& self) { exit_thread(self); });
    run_to_end(machine, [&](view& self) {
        const auto stack = self.call(nr::mmap, 0, 65536, 3, 0x22, -1, 0) + 65536;
        self.store(stack - 8, 0);
        auto& faults = machine.platform().faults;
        const auto one = [&](std::uint64_t fail_at) {
            faults.fail_nth(fail_at);
            const auto id = self.call_from(ends, nr::clone, thread_flags, stack, 0, 0, 0);
            CHECK((id > 0 || id == minus(posix::nomem)));
            const bool failed = faults.failed();
            faults.fail_nth(0);
            sleep_for(self, moment);
            return failed;
        };
        for (int i = 0; i < 3; ++i)
            one(0);
        const auto frames = free_frames(machine);
        const auto stacks = machine.platform().stacks_in_use();
        std::uint64_t points = 0;
        while (one(points + 1)) {
            ++points;
            CHECK(free_frames(machine) == frames);
            CHECK(machine.platform().stacks_in_use() == stacks);
        }
        CHECK(points >= 2);
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("/proc tells each thread apart")
{
    simulated_kernel machine;
    const auto worker = machine.add([&](view& self) {
        self.call(nr::prctl, 15, self.put("worker"));
        const auto text = self.allocate(64);
        const auto size = self.call(nr::readlink, self.put("/proc/thread-self"), text, 64);
        CHECK(size > 0);
        self.store(text + static_cast<std::uint64_t>(size), '\0');
        CHECK(self.load_string(text) == "1/task/" + std::to_string(self.call(nr::gettid)));
        CHECK(read_file(self, "/proc/thread-self/comm") == "worker\n");
        self.call(nr::setpriority, 0, 0, 7);
        for (;;)
            self.call(nr::pause);
    });
    run_to_end(machine, [&](view& self) {
        self.call(nr::prctl, 15, self.put("first"));
        const auto id = spawn(self, worker);
        const auto task = "/proc/1/task/" + std::to_string(id);
        sleep_for(self, moment);
        CHECK(read_file(self, "/proc/1/comm") == "first\n");
        CHECK(read_file(self, task + "/comm") == "worker\n");
        CHECK(contains(read_file(self, task + "/stat"), std::to_string(id) + " (worker) S 0 1 1 "));
        CHECK(contains(read_file(self, task + "/stat"), " 27 7 2 ")); // priority, nice, threads
        CHECK(contains(read_file(self, "/proc/1/stat"), " 20 0 2 "));
        {
            const auto status = read_file(self, task + "/status");
            CHECK(contains(status, "Tgid:\t1\n"));
            CHECK(contains(status, "\nPid:\t" + std::to_string(id) + "\n"));
            CHECK(contains(status, "Threads:\t2\n"));
        }
        CHECK(contains(read_file(self, task + "/sched"), "worker (" + std::to_string(id) + ", #threads: 2)"));
        CHECK(read_file(self, "/proc/1/task/1/comm") == "first\n");
        CHECK(self.call(nr::open, self.put("/proc/1/task/99"), 0, 0) == minus(posix::noent));
        CHECK(self.call(nr::open, self.put("/proc/" + std::to_string(id)), 0, 0) == minus(posix::noent));
        CHECK(self.call(nr::getpriority, 0, id) == 13);
        CHECK(self.call(nr::sched_getscheduler, id) == 0);
        CHECK(self.call(nr::open, self.put(task + "/stat"), 0, 0) >= 0);
        self.exit(0);
    });
    check_clean(machine);
}

// Takes a lock with an owner, keeps it for a moment, and lets go.
void pi_step(view& self, std::uint64_t word)
{
    constexpr std::uint32_t lock = 6 | 128, unlock = 7 | 128;
    const auto taken = self.call(nr::futex, word, lock, 0, 0);
    CHECK((taken == 0 || taken == minus(posix::srch)));
    sleep_for(self, 10'000);
    if (taken == 0)
        CHECK(self.call(nr::futex, word, unlock, 0, 0) == 0);
}

// With time going on in the kernel too, and interrupts at any moment there: other threads come in between.
TEST_CASE("threads that come, go, wait and signal while their process ends, executes or stops are all gone afterwards")
{
    for (unsigned seed = 1; seed <= 70; ++seed) {
        CAPTURE(seed);
        simulated_kernel machine;
        machine.platform().cpus_.explore(seed);
        const auto data = machine.data_begin();
        const auto handler = machine.add([](view&) {});
        machine.add_program("/bin/next", machine.add([](view& self) { self.exit(6); }));
        const auto ends = machine.add([](view& self) { exit_thread(self, 1); });
        const auto works = machine.add([&](view& self) {
            const auto id = data + 64 + self.frame.r12 * 8;
            for (;;) {
                switch (self.frame.r12 % 5) {
                case 0:
                    if (spawn(self, ends, id) > 0)
                        join(self, id);
                    break;
                case 1:
                    self.call(nr::kill, self.call(nr::getpid), 28);
                    sleep_for(self, 50'000);
                    break;
                case 2:
                    self.call(nr::futex, data, 1, 10, 0);
                    sleep_for(self, 20'000);
                    break;
                case 3:
                    self.call(nr::futex, data, 0, 0, 0);
                    break;
                default:
                    pi_step(self, data + 8);
                }
            }
        });
        const auto start = [&](view& self) {
            set_action(self, machine, signal::sigwinch, handler, signal_action::restart); // which ends no program
            for (std::uint64_t kind = 0; kind < 10; ++kind)
                spawn(self, works, 0, kind);
            sleep_for(self, 1'000'000);
        };
        const auto rests = [](view& self) {
            for (;;)
                self.call(nr::pause);
        };
        const auto exits_in_thread = machine.add([](view& self) { self.exit(8); });
        const auto executes_in_thread = machine.add([](view& self) { execute(self, "/bin/next", {"next"}); });
        const auto exits = machine.add([&](view& self) {
            start(self);
            self.exit(7);
        });
        const auto other_exits = machine.add([&](view& self) {
            start(self);
            spawn(self, exits_in_thread);
            exit_thread(self, 3);
        });
        const auto executes = machine.add([&](view& self) {
            start(self);
            execute(self, "/bin/next", {"next"});
        });
        const auto other_executes = machine.add([&](view& self) {
            start(self);
            spawn(self, executes_in_thread);
            rests(self);
        });
        const auto is_killed = machine.add([&](view& self) {
            self.call(nr::setsid); // that it stops is no business of the others'
            start(self);
            rests(self);
        });
        run_to_end(machine, [&](view& self) {
            const auto victim = self.fork(is_killed);
            self.fork(exits);
            self.fork(other_exits);
            self.fork(executes);
            self.fork(other_executes);
            sleep_for(self, 1'500'000);
            self.call(nr::kill, victim, 19);
            CHECK(wait_for(self, victim, 2).word == wait_status::stopped(signal::sigstop).word());
            self.call(nr::kill, victim, 18);
            CHECK(wait_for(self, victim, 8).word == wait_status::continued().word());
            (void)read_file(self, "/proc/" + std::to_string(victim) + "/status");
            self.call(nr::kill, victim, 9);
            int words[5]{};
            for (int i = 0; i < 5; ++i) {
                const auto seen = wait_for(self);
                REQUIRE(seen.id >= victim);
                REQUIRE(seen.id < victim + 200);
                words[i] = seen.word;
            }
            std::ranges::sort(words);
            CHECK(words[0] == 9);
            CHECK(words[1] == wait_status::exited(6).word());
            CHECK(words[2] == wait_status::exited(6).word());
            CHECK(words[3] == wait_status::exited(7).word());
            CHECK(words[4] == wait_status::exited(8).word());
            CHECK(wait_for(self).id == minus(posix::child));
            self.exit(0);
        });
        CHECK(machine.platform().stacks_in_use() <= 1);
        check_clean(machine);
    }
}

} // namespace
