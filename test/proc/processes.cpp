// Processes on a whole kernel: fork, exit, wait, orphans, groups, vfork, execve, and what running out of memory does.

#include "world.hpp"

using namespace exo;
using namespace world;

namespace {

TEST_CASE("the kernel runs /bin/sh as process 1 and ends with its status")
{
    simulated_kernel machine;
    const auto status = machine.run([](view& self) {
        CHECK(self.call(nr::getpid) == 1);
        CHECK(self.call(nr::getppid) == 0);
        CHECK(self.load<std::uint64_t>(self.frame.rsp) == 1);
        CHECK(argument(self, 0) == "/bin/sh");
        self.exit(7);
    });
    CHECK(status == 7);
    const auto& log = machine.platform().log().text();
    CHECK(log.find("exo: init exited with status 7\n") != log.npos);
    CHECK(log.find("exo: first user instruction after ") != log.npos);
    check_clean(machine, 7);
}

TEST_CASE("wait tells how each child ended, and a second wait that there is none")
{
    simulated_kernel machine;
    const auto exits = machine.add([](view& self) { self.exit(42); });
    const auto dies = machine.add([](view& self) {
        self.call(nr::kill, self.call(nr::getpid), 9);
        FAIL_CHECK("survived SIGKILL");
    });
    const auto faults = machine.add([](view& self) {
        (void)self.load<int>(16);
        FAIL_CHECK("read address 16");
    });
    const auto touches_kernel = machine.add([](view& self) { self.store(0xffff'8000'0000'0000, 1); });
    const auto divides = machine.add([](view& self) { self.trap(proc::fault::divide_error); });
    const auto bad_code = machine.add([](view& self) {
        self.frame.rip = self.frame.rsp; // not executable
        self.trap(proc::fault::invalid_opcode);
    });
    machine.run([=](view& self) {
        CHECK(wait_for(self).id == minus(posix::child));
        const std::pair<std::uint64_t, wait_status> expected[] = {
            {exits, wait_status::exited(42)},
            {dies, wait_status::killed(signal::sigkill)},
            {faults, wait_status::killed(signal::sigsegv)},
            {touches_kernel, wait_status::killed(signal::sigsegv)},
            {divides, wait_status::killed(signal::sigfpe)},
            {bad_code, wait_status::killed(signal::sigill)},
        };
        for (const auto& [code, status] : expected) {
            const auto child = self.fork(code);
            CHECK(child > 1);
            const auto seen = wait_for(self);
            CHECK(seen.id == child);
            CHECK(seen.word == status.word());
        }
        CHECK(wait_for(self).id == minus(posix::child));
        CHECK(wait_for(self, -1, 1).id == minus(posix::child));
        CHECK(wait_for(self, -1, 0x1000).id == minus(posix::inval));
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("parent and child of a fork see the same memory until one of them writes")
{
    simulated_kernel machine;
    const auto child = machine.add([&](view& self) {
        const auto data = machine.data_begin();
        CHECK(self.load<int>(data) == 1);
        self.store(data, 2);
        CHECK(self.load<int>(data) == 2);
        CHECK(self.load<int>(data + page_size) == 3); // bss
        CHECK(self.call(nr::getppid) == 1);
        self.exit(self.load<int>(self.frame.rsp - 64));
    });
    machine.run([&](view& self) {
        const auto data = machine.data_begin();
        self.store(data, 1);
        self.store(data + page_size, 3);
        self.store(self.frame.rsp - 64, 77);
        self.fork(child);
        self.store(self.frame.rsp - 64, 78);
        const auto seen = wait_for(self);
        CHECK(seen.word == wait_status::exited(77).word());
        CHECK(self.load<int>(data) == 1);
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("orphans become children of process 1, which can wait for them")
{
    simulated_kernel machine;
    const auto grandchild = machine.add([](view& self) {
        sleep_for(self, 1'000'000);
        CHECK(self.call(nr::getppid) == 1);
        self.exit(5);
    });
    const auto child = machine.add([=](view& self) {
        self.fork(grandchild);
        self.exit(4);
    });
    machine.run([=](view& self) {
        const auto first = self.fork(child);
        CHECK(wait_for(self).id == first);
        const auto orphan = wait_for(self);
        CHECK(orphan.id > first);
        CHECK(orphan.word == wait_status::exited(5).word());
        CHECK(wait_for(self).id == minus(posix::child));
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("WNOHANG does not wait, a process number picks, and groups are told apart")
{
    simulated_kernel machine;
    const auto sleeper = machine.add([](view& self) {
        sleep_for(self, 5'000'000);
        self.exit(1);
    });
    const auto grouped = machine.add([](view& self) {
        CHECK(self.call(nr::setpgid, 0, 0) == 0);
        CHECK(self.call(nr::getpgrp) == self.call(nr::getpid));
        self.exit(2);
    });
    machine.run([=](view& self) {
        const auto slow = self.fork(sleeper);
        CHECK(wait_for(self, -1, 1).id == 0);
        const auto quick = self.fork(grouped);
        CHECK(self.call(nr::setpgid, quick, quick) == 0);
        CHECK(wait_for(self, -quick).id == quick);
        CHECK(wait_for(self, 12345).id == minus(posix::child));
        CHECK(wait_for(self, 0).id == slow);
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("sessions and groups follow POSIX")
{
    simulated_kernel machine;
    const auto child = machine.add([](view& self) {
        const auto me = self.call(nr::getpid);
        CHECK(self.call(nr::getsid, 0) == 1);
        CHECK(self.call(nr::setpgid, 0, 4711) == minus(posix::perm));
        CHECK(self.call(nr::setpgid, 1, 0) == minus(posix::srch));
        CHECK(self.call(nr::setsid) == me);
        CHECK(self.call(nr::setsid) == minus(posix::perm));
        CHECK(self.call(nr::getpgid, 0) == me);
        CHECK(self.call(nr::setpgid, 0, 0) == minus(posix::perm));
        self.exit(0);
    });
    machine.run([=](view& self) {
        self.fork(child);
        CHECK(wait_for(self).word == 0);
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("a vfork child runs in its parent's memory, and the parent waits until it does not any more")
{
    simulated_kernel machine;
    const auto program = machine.add([](view& self) { self.exit(9); });
    machine.add_program("/bin/nine", program);
    const auto leaves = machine.add([&](view& self) {
        sleep_for(self, 1'000'000);
        self.store(machine.data_begin(), 1);
        self.exit(3);
    });
    const auto executes = machine.add([&](view& self) {
        sleep_for(self, 1'000'000);
        self.store(machine.data_begin(), 2);
        execute(self, "/bin/nine", {"nine"});
        FAIL_CHECK("execve came back");
    });
    machine.run([&](view& self) {
        const auto data = machine.data_begin();
        const auto first = self.call_from(leaves, nr::vfork);
        CHECK(self.load<int>(data) == 1);
        CHECK(wait_for(self).id == first);
        const auto second = self.call_from(executes, nr::vfork);
        CHECK(self.load<int>(data) == 2);
        CHECK(wait_for(self, second).word == wait_status::exited(9).word());
        // As posix_spawn does it: with a stack of its own.
        const auto third = self.call_from(leaves, nr::clone, 0x4100 | 17, self.frame.rsp - 8192, 0, 0, 0);
        CHECK(wait_for(self, third).word == wait_status::exited(3).word());
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("execve hands over arguments and environment, and leaves the old program's state behind")
{
    simulated_kernel machine;
    machine.add_program("/bin/other", machine.add([&](view& self) {
        CHECK(self.load<std::uint64_t>(self.frame.rsp) == 3);
        CHECK(argument(self, 0) == "other");
        CHECK(argument(self, 1) == "");
        CHECK(argument(self, 2) == std::string(5000, 'x'));
        CHECK(argument(self, 4) == "HOME=/");
        CHECK(self.load<int>(machine.data_begin()) == 0);
        CHECK(self.vector_register() == std::byte{0});
        CHECK(self.call(nr::fcntl, 0, 1) == 0);                  // still open
        CHECK(self.call(nr::fcntl, 1, 1) == minus(posix::badf)); // closed on exec
        const auto old = self.allocate(sizeof(linux_abi::action_record));
        self.call(nr::rt_sigaction, 10, 0, old, 8);
        CHECK(self.load<std::uint64_t>(old) == 0); // the handler is gone
        self.call(nr::rt_sigaction, 12, 0, old, 8);
        CHECK(self.load<std::uint64_t>(old) == 1); // what was ignored still is
        self.exit(6);
    }));
    const auto handler = machine.add([](view&) {});
    const auto status = machine.run([&](view& self) {
        self.store(machine.data_begin(), 1);
        self.set_vector_register(std::byte{0x55});
        set_action(self, machine, signal::sigusr1, handler);
        set_action(self, machine, signal::sigusr2, 1);
        self.call(nr::fcntl, 1, 2, 1);
        execute(self, "/bin/other", {"other", "", std::string(5000, 'x')}, {"HOME=/"});
        FAIL_CHECK("execve came back");
    });
    CHECK(status == 6);
    check_clean(machine, 6);
}

TEST_CASE("an execve that fails leaves the caller as it was")
{
    simulated_kernel machine;
    machine.add_file("/bin/text", "no program\n", 0755);
    machine.add_file("/bin/empty", "", 0755);
    machine.add_file("/bin/cut", machine.program_file(0x401000).substr(0, 100), 0755);
    machine.add_file("/bin/secret", machine.program_file(0x401000), 0644);
    machine.add_file("/bin/loop", "#!/bin/loop\n", 0755);
    machine.add_file("/bin/lost", "#! /no/such/interpreter -x\n", 0755);
    machine.add_file("/bin/bare", "#!\n", 0755);
    const auto status = machine.run([&](view& self) {
        self.store(machine.data_begin(), 1);
        const auto before = free_frames(machine);
        CHECK(execute(self, "/bin/none", {"x"}) == minus(posix::noent));
        CHECK(execute(self, "/bin/text/x", {"x"}) == minus(posix::notdir));
        CHECK(execute(self, "/bin", {"x"}) == minus(posix::acces));
        CHECK(execute(self, "/bin/secret", {"x"}) == minus(posix::acces));
        CHECK(execute(self, "/bin/text", {"x"}) == minus(posix::noexec));
        CHECK(execute(self, "/bin/empty", {"x"}) == minus(posix::noexec));
        CHECK(execute(self, "/bin/cut", {"x"}) == minus(posix::noexec));
        CHECK(execute(self, "/bin/loop", {"x"}) == minus(posix::loop));
        CHECK(execute(self, "/bin/lost", {"x"}) == minus(posix::noent));
        CHECK(execute(self, "/bin/bare", {"x"}) == minus(posix::noexec));
        CHECK(execute(self, "/bin/sh", {std::string(140'000, 'y')}) == minus(posix::toobig));
        CHECK(self.call(nr::execve, 0xffff'8000'0000'0000, 0, 0) == minus(posix::fault));
        CHECK(self.call(nr::execve, self.put("/bin/sh"), 0xffff'8000'0000'0000, 0) == minus(posix::fault));
        CHECK(self.load<int>(machine.data_begin()) == 1);
        CHECK(free_frames(machine) + 64 >= before); // its own stack has grown
        self.exit(0);
    });
    CHECK(status == 0);
    check_clean(machine);
}

TEST_CASE("a script is run by the interpreter that its first line names")
{
    simulated_kernel machine;
    machine.add_program("/bin/interpreter", machine.add([](view& self) {
        CHECK(self.load<std::uint64_t>(self.frame.rsp) == 4);
        CHECK(argument(self, 0) == "/bin/interpreter");
        CHECK(argument(self, 1) == "-a b");
        CHECK(argument(self, 2) == "/bin/script");
        CHECK(argument(self, 3) == "last");
        self.exit(8);
    }));
    machine.add_file("/bin/script", "#!  /bin/interpreter \t -a b \nrest\n", 0755);
    CHECK(machine.run([&](view& self) {
        execute(self, "/bin/script", {"first", "last"});
        FAIL_CHECK("execve came back");
    }) == 8);
    check_clean(machine, 8);
}

TEST_CASE("a thousand fork, execve and wait end with as many free frames as they began with")
{
    simulated_kernel machine;
    machine.add_program("/bin/true", machine.add([](view& self) { self.exit(0); }));
    const auto child = machine.add([](view& self) {
        execute(self, "/bin/true", {"true"});
        FAIL_CHECK("execve came back");
    });
    machine.run([&](view& self) {
        const auto rounds = [&](int count) {
            for (int i = 0; i < count; ++i) {
                self.fork(child);
                CHECK(wait_for(self).word == 0);
            }
        };
        rounds(20); // caches fill
        const auto frames = free_frames(machine);
        const auto stacks = machine.platform().stacks_in_use();
        rounds(1000);
        CHECK(free_frames(machine) == frames);
        CHECK(machine.platform().stacks_in_use() == stacks);
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("fork and execve survive the failure of each of their allocations, and leak nothing")
{
    simulated_kernel machine;
    machine.add_program("/bin/true", machine.add([](view& self) { self.exit(0); }));
    const auto child = machine.add([&](view& self) {
        const auto outcome = execute(self, "/bin/true", {"true", "argument"});
        CHECK(outcome == minus(posix::nomem));
        self.exit(1);
    });
    machine.run([&](view& self) {
        auto& faults = machine.platform().faults;
        const auto both = [&](std::uint64_t fail_at) {
            faults.fail_nth(fail_at);
            const auto id = self.fork(child);
            if (id < 0) {
                CHECK((id == minus(posix::nomem) || id == minus(posix::again)));
            } else {
                const auto seen = wait_for(self);
                CHECK(seen.id == id);
                CHECK((seen.word == 0 || seen.word == wait_status::exited(1).word()));
            }
            const bool failed = faults.failed();
            faults.fail_nth(0);
            return failed;
        };
        for (int i = 0; i < 5; ++i)
            both(0);
        const auto frames = free_frames(machine);
        const auto stacks = machine.platform().stacks_in_use();
        std::uint64_t points = 0;
        while (both(points + 1)) {
            ++points;
            CHECK(free_frames(machine) == frames);
            CHECK(machine.platform().stacks_in_use() == stacks);
        }
        CHECK(points > 20);
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("with no frame left, fork and execve fail, and all frames come back")
{
    simulated_kernel machine{4096};
    machine.add_program("/bin/true", machine.add([](view& self) { self.exit(0); }));
    const auto child = machine.add([&](view& self) {
        const auto outcome = execute(self, "/bin/true", {"true"});
        CHECK(outcome == minus(posix::nomem));
        self.exit(1);
    });
    machine.run([&](view& self) {
        auto& frames = machine.kernel().frames();
        for (int i = 0; i < 5; ++i) {
            self.fork(child);
            wait_for(self);
        }
        const auto before = free_frames(machine);
        int ends[3] = {}; // fork failed; the child could not go on; all was well
        for (std::uint64_t left = 0; left < 60 && ends[2] < 3; ++left) {
            std::vector<frame_number> taken;
            while (frames.free_frames() > left)
                if (auto f = frames.allocate(0))
                    taken.push_back(*f);
                else
                    break;
            const auto id = self.fork(child);
            int word = 0;
            if (id > 0)
                word = machine.kernel().processes().size() > 1 ? wait_for(self).word : 0;
            for (const auto f : taken)
                frames.free(f, 0);
            CHECK((id > 0 || id == minus(posix::nomem)));
            ++ends[id < 0 ? 0 : word != 0 ? 1 : 2];
            CHECK(free_frames(machine) == before);
        }
        CHECK(ends[0] > 0);
        CHECK(ends[1] > 0);
        CHECK(ends[2] > 0);
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("two kernels live side by side in one process")
{
    simulated_kernel first;
    simulated_kernel second;
    const auto child = first.add([](view& self) { self.exit(11); });
    CHECK(second.run([](view& self) { self.exit(2); }) == 2);
    CHECK(first.run([=](view& self) {
        self.fork(child);
        self.exit(wait_for(self).word >> 8);
    }) == 11);
    check_clean(first, 11);
    check_clean(second, 2);
}

TEST_CASE("a set-user-id program gives its owner's rights, except to who gave up gaining any")
{
    simulated_kernel machine;
    machine.add_program("/bin/raised", machine.add([](view& self) {
        self.exit(static_cast<int>(self.call(nr::geteuid)));
    }));
    constexpr int set_no_new_rights = 38, get_no_new_rights = 39;
    const auto runs = machine.add([](view& self) {
        CHECK(self.call(nr::setuid, 1000) == 0);
        execute(self, "/bin/raised", {"raised"});
    });
    const auto gives_up = machine.add([](view& self) {
        CHECK(self.call(nr::prctl, get_no_new_rights) == 0);
        CHECK(self.call(nr::prctl, set_no_new_rights, 1) == 0);
        CHECK(self.call(nr::prctl, get_no_new_rights) == 1);
        CHECK(self.call(nr::setuid, 1000) == 0);
        execute(self, "/bin/raised", {"raised"});
    });
    machine.run([&](view& self) {
        CHECK(self.call(nr::chown, self.put("/bin/raised"), 42, 42) == 0);
        CHECK(self.call(nr::chmod, self.put("/bin/raised"), 04755) == 0);
        self.fork(runs);
        CHECK(wait_for(self).word == 42 << 8);
        self.fork(gives_up);
        CHECK(wait_for(self).word == (1000 & 0xff) << 8);
        self.exit(0);
    });
    check_clean(machine);
}

} // namespace
