// What programs may pass to system calls: kernel addresses, wild numbers, unknown calls.

#include "../proc/world.hpp"

#include <array>

using namespace exo;
using namespace world;

namespace {

constexpr std::uint64_t kernel_address = 0xffff'8000'0000'0000;

TEST_CASE("every call with wild arguments returns, and the kernel goes on")
{
    simulated_kernel machine;
    constexpr std::uint64_t wild[] = {0, 1, ~std::uint64_t{0}, kernel_address, 0x7fff'ffff'f000, 0x8000'0000, 4095};
    std::uint64_t current = 0;
    const auto tries = machine.add([&](view& self) {
        const auto n = static_cast<nr>(current);
        for (int descriptor = 0; descriptor < 3; ++descriptor) // the terminal would wait for somebody to type
            self.call(nr::close, descriptor);
        for (const auto a : wild)
            for (const auto b : wild)
                for (const auto c : {wild[0], wild[2], wild[3]})
                    (void)self.call(n, a, b, c, c, a, b);
        self.exit(0);
    });
    const auto status = machine.run([&](view& self) {
        for (std::uint64_t n = 0; n < linux_abi::number_limit; ++n) {
            switch (static_cast<nr>(n)) {
            case nr::fork: // these make processes, end, or wait for what does not come
            case nr::vfork:
            case nr::clone:
            case nr::exit:
            case nr::exit_group:
            case nr::pause:
            case nr::rt_sigreturn:
            case nr::kill: // these may hit the first process
            case nr::tkill:
            case nr::tgkill:
            case nr::rt_sigqueueinfo:
            case nr::poll:
            case nr::select:
            case nr::pselect6:
            case nr::ppoll:
            case nr::rt_sigsuspend:
            case nr::restart_syscall:
                continue;
            default:
                break;
            }
            current = n;
            const auto child = self.fork(tries);
            CHECK(child > 0);
            CHECK(wait_for(self).id == child);
        }
        self.exit(3);
    });
    CAPTURE(linux_abi::name_of(current)); // the last one tried
    CHECK(status == 3);
    check_clean(machine, 3);
}

TEST_CASE("a call that is not there is ENOSYS, and is logged once by its name")
{
    simulated_kernel machine;
    machine.run([&](view& self) {
        for (int i = 0; i < 3; ++i) {
            CHECK(self.call(nr::io_uring_setup) == minus(posix::nosys));
            CHECK(self.call(static_cast<nr>(400)) == minus(posix::nosys));
            CHECK(self.call(static_cast<nr>(5000)) == minus(posix::nosys));
        }
        self.exit(0);
    });
    const auto& log = machine.platform().log().text();
    const auto first = log.find("system call io_uring_setup is not there");
    CHECK(first != log.npos);
    CHECK(log.find("io_uring_setup", first + 20) == log.npos);
    CHECK(log.find("system call 400 does not exist") != log.npos);
    check_clean(machine);
}

TEST_CASE("mmap, mprotect, mremap, brk and munmap do what programs expect")
{
    simulated_kernel machine;
    const auto faults_on = machine.add([&](view& self) {
        self.store(self.load<std::uint64_t>(machine.data_begin()), 1);
        self.exit(0);
    });
    machine.run([&](view& self) {
        const auto dies_writing = [&](std::uint64_t address) {
            self.store(machine.data_begin(), address);
            self.fork(faults_on);
            return wait_for(self).word == wait_status::killed(signal::sigsegv).word();
        };
        const auto page = static_cast<std::uint64_t>(self.call(nr::mmap, 0, 8192, 3, 0x22, -1, 0));
        self.store(page + 4096, 7);
        CHECK_FALSE(dies_writing(page));
        CHECK(self.call(nr::mprotect, page, 4096, 1) == 0);
        CHECK(dies_writing(page));
        CHECK_FALSE(dies_writing(page + 4096));
        const auto moved = static_cast<std::uint64_t>(self.call(nr::mremap, page + 4096, 4096, 65536, 1));
        CHECK(self.load<int>(moved) == 7);
        self.store(moved + 65535, 'x');
        CHECK(self.call(nr::mremap, moved, 65536, 4096, 0) == static_cast<std::int64_t>(moved));
        CHECK(dies_writing(moved + 4096));
        CHECK(self.call(nr::munmap, moved, 4096) == 0);
        CHECK(dies_writing(moved));
        CHECK(self.call(nr::munmap, moved + 1, 4096) == minus(posix::inval));
        CHECK(self.call(nr::mmap, 0, 0, 3, 0x22, -1, 0) == minus(posix::inval));
        CHECK(self.call(nr::mmap, 0, 4096, 3, 2, 77, 0) == minus(posix::badf));
        CHECK(self.call(nr::mmap, page, 4096, 3, 0x100022, -1, 0) == minus(posix::exist));
        CHECK(self.call(nr::mmap, 0, std::uint64_t{1} << 46, 3, 0x22, -1, 0) > 0);
        CHECK(self.call(nr::mmap, 0, std::uint64_t{1} << 47, 3, 0x22, -1, 0) == minus(posix::nomem));
        CHECK(self.call(nr::mprotect, page + (1 << 20), 4096, 1) == minus(posix::nomem));

        const auto brk = static_cast<std::uint64_t>(self.call(nr::brk, 0));
        CHECK(self.call(nr::brk, brk + 10000) == static_cast<std::int64_t>(brk + 10000));
        self.store(brk + 9000, 1);
        CHECK(self.call(nr::brk, brk) == static_cast<std::int64_t>(brk));
        CHECK(self.call(nr::brk, 1) == static_cast<std::int64_t>(brk));

        // Shared memory is one memory after a fork.
        const auto shared = static_cast<std::uint64_t>(self.call(nr::mmap, 0, 4096, 3, 0x21, -1, 0));
        CHECK_FALSE(dies_writing(shared));
        CHECK(self.load<int>(shared) == 1);
        // Dropped pages are zero again.
        const auto dropped = static_cast<std::uint64_t>(self.call(nr::mmap, 0, 4096, 3, 0x22, -1, 0));
        self.store(dropped, 9);
        CHECK(self.call(nr::madvise, dropped, 4096, 4) == 0);
        CHECK(self.load<int>(dropped) == 0);
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("PROT_GROWSDOWN protects from the begin of what grows down on, and nothing else grows")
{
    simulated_kernel machine;
    const auto writes = machine.add([&](view& self) {
        self.store(self.load<std::uint64_t>(machine.data_begin()), 1);
        self.exit(0);
    });
    machine.run([&](view& self) {
        constexpr std::uint64_t down = 0x0100'0000, up = 0x0200'0000, grows_down = 0x100;
        const auto dies_writing = [&](std::uint64_t address) {
            self.store(machine.data_begin(), address);
            self.fork(writes);
            return wait_for(self).word == wait_status::killed(signal::sigsegv).word();
        };
        const auto map = [&](std::uint64_t at, std::uint64_t pages, std::uint64_t flags) {
            return static_cast<std::uint64_t>(self.call(nr::mmap, at, pages * page_size, 3, 0x22 | flags, -1, 0));
        };
        const auto protect = [&](std::uint64_t at, std::uint64_t length, std::uint64_t protection) {
            return self.call(nr::mprotect, at, length, protection);
        };
        const auto hole = map(0, 600, 0);
        CHECK(self.call(nr::munmap, hole, 600 * page_size) == 0);
        const auto stack = map(hole + 596 * page_size, 3, grows_down | 0x10);
        const auto top = stack + 2 * page_size;

        CHECK(protect(top, page_size, 1 | down) == 0);
        CHECK(dies_writing(stack));
        CHECK(dies_writing(top));
        CHECK(protect(stack - page_size, 2 * page_size, 3 | down) == 0);
        CHECK_FALSE(dies_writing(stack));
        CHECK(dies_writing(stack + page_size));
        CHECK(protect(stack - 2 * page_size, page_size, 3 | down) == minus(posix::nomem));
        CHECK(protect(stack - page_size, 2 * page_size, 3 | up) == minus(posix::nomem));
        CHECK(protect(stack, page_size, 1 | up) == minus(posix::inval));

        const auto plain = map(0, 1, 0);
        CHECK(protect(plain, page_size, 1 | down) == minus(posix::inval));
        CHECK(protect(plain, page_size, 1 | up) == minus(posix::inval));
        CHECK(protect(plain, 0, 1 | down | up) == minus(posix::inval));
        CHECK(protect(plain, 0, 1 | down) == 0);
        CHECK(protect(plain, 0, 0x100) == 0); // nothing is protected in whatever way
        CHECK(protect(plain, page_size, 0x100) == minus(posix::inval));
        CHECK_FALSE(dies_writing(plain));
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("MAP_POPULATE has the pages there when mmap returns, unless MAP_NONBLOCK takes that back")
{
    simulated_kernel machine;
    machine.run([&](view& self) {
        constexpr std::uint64_t count = 5, populate = 0x8000, non_block = 0x10000;
        const auto vector = self.allocate(count);
        // How many pages of a new mapping are in memory.
        const auto present = [&](std::uint64_t flags) {
            const auto at = static_cast<std::uint64_t>(self.call(nr::mmap, 0, count * page_size, 3, flags, -1, 0));
            CHECK(self.call(nr::mincore, at, count * page_size, vector) == 0);
            std::uint64_t found = 0;
            for (std::uint64_t i = 0; i < count; ++i)
                found += self.load<std::uint8_t>(vector + i) & 1;
            return found;
        };
        for (const std::uint64_t kind : {0x21, 0x22}) { // shared, private; anonymous
            CAPTURE(kind);
            CHECK(present(kind) == 0);
            CHECK(present(kind | populate) == count);
            CHECK(present(kind | populate | non_block) == 0);
        }
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("a futex wakes whoever sleeps on it, across processes when the memory is shared")
{
    simulated_kernel machine;
    const auto waiter = machine.add([&](view& self) {
        const auto word = self.load<std::uint64_t>(machine.data_begin());
        CHECK(self.call(nr::futex, word, 0, 5, 0, 0, 0) == minus(posix::again));
        CHECK(self.call(nr::futex, word, 0, 0, 0, 0, 0) == 0);
        CHECK(self.load<int>(word) == 1);
        self.exit(0);
    });
    machine.run([&](view& self) {
        const auto word = static_cast<std::uint64_t>(self.call(nr::mmap, 0, 4096, 3, 0x21, -1, 0));
        self.store(machine.data_begin(), word);
        self.store(word, 0);
        self.fork(waiter);
        sleep_for(self, 1'000'000);
        self.store(word, 1);
        CHECK(self.call(nr::futex, word, 1, 10, 0, 0, 0) == 1);
        CHECK(self.call(nr::futex, word, 1, 10, 0, 0, 0) == 0);
        CHECK(wait_for(self).word == 0);
        const auto timeout = self.allocate(16);
        self.store(timeout, linux_abi::time_record{0, 1000});
        CHECK(self.call(nr::futex, word, 0, 1, timeout, 0, 0) == minus(posix::timedout));
        CHECK(self.call(nr::futex, word + 1, 0, 1, 0, 0, 0) == minus(posix::inval));
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("a word in a file is one futex, however often the file was opened")
{
    simulated_kernel machine;
    constexpr auto map = [](view& self) {
        const auto file = self.call(nr::open, self.put("/tmp/words"), 0x42, 0600);
        CHECK(self.call(nr::ftruncate, file, 4096) == 0);
        return static_cast<std::uint64_t>(self.call(nr::mmap, 0, 4096, 3, 1, file, 0));
    };
    const auto waiter = machine.add([&](view& self) {
        CHECK(self.call(nr::futex, map(self), 0, 0, 0, 0, 0) == 0);
        self.exit(0);
    });
    machine.run([&](view& self) {
        const auto word = map(self);
        const auto child = self.fork(waiter);
        sleep_for(self, 1'000'000);
        const auto woken = self.call(nr::futex, word, 1, 10, 0, 0, 0);
        CHECK(woken == 1);
        if (woken != 1)
            self.call(nr::kill, child, 9);
        CHECK(wait_for(self).word == 0);
        self.exit(0);
    });
    check_clean(machine);
}

} // namespace
