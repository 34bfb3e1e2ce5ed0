// Whole kernels on several CPUs, with what happens on each of them interleaved in many ways: processes and threads that
// run beside each other, what they share and what they must not, and how they reach each other.

#include "random_runs.hpp"
#include "world.hpp"

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include <exo/base/time.hpp>
#include <exo/proc/signal.hpp>

using namespace exo;
using namespace world;

namespace {

constexpr std::uint64_t moment = 10'000'000;
constexpr std::uint64_t whole_page = page_size;

struct several {
    explicit several(unsigned count, std::optional<unsigned> seed = std::nullopt) : machine{4096, count}
    {
        if (seed)
            machine.platform().cpus_.explore(*seed);
    }
    // To be called by programs: where they run.
    unsigned here()
    {
        const unsigned cpu = machine.platform().cpu().current_cpu();
        seen |= 1u << cpu;
        return cpu;
    }
    [[nodiscard]] bool all_seen() { return seen == (1u << machine.platform().cpu().cpu_limit()) - 1; }
    [[nodiscard]] std::uint64_t now() { return machine.platform().clock().now().nanoseconds(); }

    simulated_kernel machine;
    unsigned seen{};
};

// test(machine, count) on machines of two CPUs and of four, as they go by themselves and then in ways drawn at random.
template <class Test>
void on_machines(unsigned seeds, Test test)
{
    for (const unsigned count : {2u, 4u}) {
        CAPTURE(count);
        const auto run = [&](std::optional<unsigned> seed) {
            several s{count, seed};
            test(s, count);
            check_clean(s.machine);
        };
        run(std::nullopt);
        if (seeds > 0)
            exo_test::random_runs(seeds, 1, run);
    }
}

// A number of a thread; 0: the caller.
std::int64_t bind(view& self, std::int64_t id, std::uint64_t cpu)
{
    const auto stack = self.frame.rsp;
    const auto at = self.allocate(8);
    self.store(at, std::uint64_t{1} << cpu);
    const auto outcome = self.call(nr::sched_setaffinity, id, 8, at);
    self.frame.rsp = stack;
    return outcome;
}

void compute(view& self, int microseconds) { self.spend(nanoseconds(1000 * microseconds)); }

std::uint64_t map(view& self, std::uint64_t bytes, std::uint64_t at = 0, int flags = 0x22)
{
    const auto got = self.call(nr::mmap, at, bytes, 3, flags | (at != 0 ? 0x10 : 0), -1, 0);
    CHECK(got > 0);
    return static_cast<std::uint64_t>(got);
}

// What a kernel has that only programs take: its frames but those of the heap, page tables, and stacks.
struct holdings {
    explicit holdings(simulated_kernel& machine)
        : frames{free_frames(machine) + machine.kernel().heap_behind().frames_held()},
          tables{machine.kernel().memory().counted(&mm::memory_counters::tables)},
          stacks{machine.platform().stacks_in_use()}
    {
    }
    std::uint64_t frames, tables;
    std::size_t stacks;
};

TEST_CASE("several CPUs: processes that fork, write and exit at once keep their memory apart and leave nothing")
{
    on_machines(4, [](several& s, unsigned count) {
        constexpr std::uint64_t pages = 6;
        const unsigned children = count + 1;
        std::uint64_t region = 0;
        const auto fill = [&](view& self, std::uint64_t with) {
            for (std::uint64_t p = 0; p < pages; ++p) {
                self.store(region + p * whole_page + 8 * (with % 16), with + p);
                compute(self, 20);
                s.here();
            }
        };
        const auto holds = [&](view& self, std::uint64_t with) {
            bool all = true;
            for (std::uint64_t p = 0; p < pages; ++p)
                all = all && self.load<std::uint64_t>(region + p * whole_page + 8 * (with % 16)) == with + p;
            return all;
        };
        constexpr std::uint64_t of_parent = 1001, of_child = 2000, of_grandchild = 3002; // words 9, 0, 10
        const auto grandchild = s.machine.add([&](view& self) {
            const auto index = self.frame.r12;
            CHECK(holds(self, of_parent));
            CHECK(holds(self, of_child + 16 * index));
            fill(self, of_grandchild);
            fill(self, of_child + 16 * (index + 1));
            CHECK(holds(self, of_grandchild));
            self.exit(static_cast<int>(100 + index));
        });
        const auto child = s.machine.add([&](view& self) {
            const auto index = self.frame.r12;
            fill(self, of_child + 16 * index);
            const auto id = self.fork(grandchild);
            CHECK(holds(self, of_parent));
            fill(self, of_parent);
            CHECK(holds(self, of_child + 16 * index));
            CHECK(wait_for(self, id).word == wait_status::exited(static_cast<int>(100 + index)).word());
            CHECK(holds(self, of_child + 16 * index));
            self.exit(static_cast<int>(index));
        });
        run_to_end(s.machine, [&](view& self) {
            region = map(self, pages * whole_page);
            fill(self, of_parent);
            const auto round = [&] {
                unsigned long sum = 0;
                for (unsigned i = 0; i < children; ++i) {
                    self.frame.r12 = i;
                    CHECK(self.fork(child) > 0);
                    fill(self, of_grandchild);
                }
                for (unsigned i = 0; i < children; ++i) {
                    const auto ended = wait_for(self);
                    CHECK(ended.id > 0);
                    sum += static_cast<unsigned>(ended.word >> 8);
                }
                CHECK(sum == children * (children - 1) / 2);
                CHECK(wait_for(self).id == minus(posix::child));
                CHECK(holds(self, of_parent));
                CHECK(holds(self, of_grandchild));
                sleep_for(self, moment);
                return holdings{s.machine};
            };
            const auto before = round();
            const auto after = round();
            CHECK(after.frames == before.frames);
            CHECK(after.tables == before.tables);
            CHECK(after.stacks == before.stacks);
            self.exit(0);
        });
        CHECK(s.all_seen());
    });
}

// Threads use pages, one word each of every page, while the first one takes the pages away, protects them, empties
// them, and gives them back. It says what it does in `state`, before it begins and after the call has returned: what an
// access meets is what the state says, unless that is changing.
TEST_CASE("several CPUs: what one thread unmaps, protects or empties, no other reaches afterwards")
{
    on_machines(6, [](several& s, unsigned count) {
        enum class page_state { writable, readable, absent, changing };
        constexpr std::uint64_t pages = 3;
        struct page {
            page_state state{page_state::writable};
            unsigned changes{};
            unsigned emptied{}; // odd: just now
        };
        std::array<page, pages> all{};
        std::uint64_t region = 0;
        bool over = false;
        unsigned faults = 0, hits = 0;
        struct doing {
            unsigned page, changes;
            bool storing;
        };
        std::array<doing, 8> of{};

        const auto on_fault = s.machine.add([&](view& self) {
            const doing& d = of[self.frame.r12];
            const page& p = all[d.page];
            ++faults;
            // Meanwhile the reason may be gone.
            CHECK((p.changes != d.changes || p.state != page_state::writable));
            CHECK((p.changes != d.changes || d.storing || p.state != page_state::readable));
            compute(self, 30);
        });
        const auto worker = s.machine.add([&](view& self) {
            const auto index = self.frame.r12;
            doing& d = of[index];
            CHECK(bind(self, 0, index % count) == 0);
            std::uint64_t next = 1;
            while (!over) {
                d.page = static_cast<unsigned>(next % pages);
                page& p = all[d.page];
                const auto word = region + d.page * whole_page + 8 * index;
                const unsigned emptied = p.emptied;
                d.changes = p.changes, d.storing = true;
                self.store(word, ++next);
                CHECK((p.state == page_state::writable || p.state == page_state::changing));
                d.changes = p.changes, d.storing = false;
                const auto found = self.load<std::uint64_t>(word);
                CHECK(p.state != page_state::absent);
                CHECK((found == next || (found == 0 && (p.emptied != emptied || emptied % 2 == 1))));
                ++hits;
                s.here();
                compute(self, 5);
            }
            exit_thread(self);
        });
        run_to_end(s.machine, [&](view& self) {
            set_action(self, s.machine, signal::sigsegv, on_fault, signal_action::no_defer);
            region = map(self, pages * whole_page);
            const auto ids = s.machine.data_begin();
            for (unsigned i = 1; i < count + 1; ++i)
                spawn(self, worker, ids + 4 * i, i);
            const auto change = [&](page& p, page_state to, auto call) {
                p.state = page_state::changing;
                ++p.changes;
                CHECK(call() >= 0);
                ++p.changes;
                p.emptied += p.emptied % 2;
                p.state = to;
                compute(self, 40);
            };
            // Its memory comes from what was taken from the others.
            const auto check_reuse = [&](std::uint64_t value) {
                const auto other = map(self, 2 * whole_page);
                for (std::uint64_t at = other; at < other + 2 * whole_page; at += 256)
                    self.store(at, value);
                compute(self, 60);
                for (std::uint64_t at = other; at < other + 2 * whole_page; at += 256)
                    CHECK(self.load<std::uint64_t>(at) == value);
                CHECK(self.call(nr::munmap, other, 2 * whole_page) == 0);
            };
            for (std::uint64_t round = 0; round < 8; ++round) {
                const auto at = region + round % pages * whole_page;
                page& p = all[round % pages];
                ++p.emptied;
                change(p, page_state::absent, [&] { return self.call(nr::munmap, at, whole_page); });
                check_reuse(round + 1'000'000);
                change(p, page_state::writable, [&] { return static_cast<std::int64_t>(map(self, whole_page, at)); });
                change(p, page_state::readable, [&] { return self.call(nr::mprotect, at, whole_page, 1); });
                change(p, page_state::writable, [&] { return self.call(nr::mprotect, at, whole_page, 3); });
                ++p.emptied;
                change(p, page_state::writable, [&] { return self.call(nr::madvise, at, whole_page, 4); });
                check_reuse(round + 2'000'000);
                change(p, page_state::absent, [&] { return self.call(nr::mprotect, at, whole_page, 0); });
                change(p, page_state::writable, [&] { return self.call(nr::mprotect, at, whole_page, 3); });
            }
            over = true;
            for (unsigned i = 1; i < count + 1; ++i)
                join(self, ids + 4 * i);
            self.exit(0);
        });
        CHECK(faults > 0);
        CHECK(hits > 20);
        CHECK(s.all_seen());
    });
}

// A child that a thread forks has the memory of one moment, and what others of the parent write afterwards is not its.
TEST_CASE("several CPUs: fork while other threads write: each page of the child is the parent's of that moment")
{
    on_machines(6, [](several& s, unsigned count) {
        constexpr std::uint64_t pages = 4;
        std::uint64_t region = 0;
        bool over = false;
        // Each writes its word of all pages, the first page first: the child finds numbers that do not grow.
        const auto worker = s.machine.add([&](view& self) {
            const auto index = self.frame.r12;
            CHECK(bind(self, 0, index % count) == 0);
            for (std::uint64_t n = 1; !over; ++n) {
                for (std::uint64_t p = 0; p < pages; ++p)
                    self.store(region + p * whole_page + 8 * index, n);
                for (std::uint64_t p = 0; p < pages; ++p)
                    CHECK(self.load<std::uint64_t>(region + p * whole_page + 8 * index) == n);
                s.here();
                compute(self, 10);
            }
            exit_thread(self);
        });
        const auto child = s.machine.add([&](view& self) {
            std::array<std::array<std::uint64_t, pages>, 8> first{};
            for (unsigned round = 0; round < 3; ++round) {
                for (unsigned i = 1; i < count + 1; ++i)
                    for (std::uint64_t p = 0; p < pages; ++p) {
                        const auto value = self.load<std::uint64_t>(region + p * whole_page + 8 * i);
                        if (round == 0)
                            first[i][p] = value;
                        CHECK(value == first[i][p]);
                        if (p > 0)
                            CHECK((value == first[i][p - 1] || value + 1 == first[i][p - 1]));
                    }
                compute(self, 50);
            }
            self.exit(0);
        });
        run_to_end(s.machine, [&](view& self) {
            region = map(self, pages * whole_page);
            const auto ids = s.machine.data_begin();
            for (unsigned i = 1; i < count + 1; ++i)
                spawn(self, worker, ids + 4 * i, i);
            for (unsigned round = 0; round < 6; ++round) {
                compute(self, 30);
                CHECK(self.fork(child) > 0);
                if (round % 2 == 1)
                    for (unsigned i = 0; i < 2; ++i)
                        CHECK(wait_for(self).word == 0);
            }
            over = true;
            for (unsigned i = 1; i < count + 1; ++i)
                join(self, ids + 4 * i);
            self.exit(0);
        });
        CHECK(s.all_seen());
    });
}

TEST_CASE("several CPUs: every wake-up of a futex, byte of a pipe and signal arrives")
{
    on_machines(6, [](several& s, unsigned count) {
        constexpr std::uint32_t rounds = 12;
        const auto waiters = count + 1;
        constexpr std::uint64_t wait = 0 | 128, wake = 1 | 128;
        const auto data = [&] { return s.machine.data_begin(); };
        const auto turn_at = [&] { return data() + 256; };
        const auto arrived_at = [&](std::uint64_t i) { return data() + 512 + 4 * i; };

        // Each waits for the turn to change, and tells that it saw it.
        const auto waiter = s.machine.add([&](view& self) {
            const auto index = self.frame.r12;
            CHECK(bind(self, 0, index % count) == 0);
            for (std::uint32_t turn = 0; turn < rounds; ++turn) {
                while (self.load<std::uint32_t>(turn_at()) == turn)
                    self.call(nr::futex, turn_at(), wait, turn, 0);
                self.store(arrived_at(index), turn + 1);
                self.call(nr::futex, arrived_at(index), wake, 1);
                s.here();
            }
            exit_thread(self);
        });
        // Passes on what it reads, until nobody writes any more.
        const auto pipes = [&](std::uint64_t i) { return data() + 1024 + 8 * i; };
        const auto close_all_but = [&](view& self, std::int64_t in, std::int64_t out) {
            for (unsigned i = 0; i <= count; ++i)
                for (unsigned end = 0; end < 2; ++end)
                    if (const auto file = self.load<int>(pipes(i) + 4 * end); file != in && file != out)
                        self.call(nr::close, file);
        };
        const auto passer = s.machine.add([&](view& self) {
            const auto index = self.frame.r12;
            const auto in = self.load<int>(pipes(index)), out = self.load<int>(pipes(index + 1) + 4);
            close_all_but(self, in, out);
            const auto buffer = self.allocate(4096);
            for (;;) {
                const auto got = self.call(nr::read, in, buffer, 700);
                CHECK(got >= 0);
                if (got <= 0)
                    break;
                for (std::int64_t put = 0; put < got;)
                    put += self.call(nr::write, out, buffer + static_cast<std::uint64_t>(put), got - put);
                s.here();
            }
            self.exit(0);
        });
        const auto source = s.machine.add([&](view& self) {
            const auto out = self.load<int>(pipes(0) + 4);
            close_all_but(self, -1, out);
            const auto buffer = self.allocate(1024);
            for (std::uint64_t i = 0; i < 1024; i += 8)
                self.store(buffer + i, i);
            for (unsigned i = 0; i < 9; ++i)
                CHECK(self.call(nr::write, out, buffer, 1024) == 1024);
            self.exit(0);
        });
        // Answers each signal by one.
        unsigned heard = 0, answered = 0;
        const auto on_signal = s.machine.add([&](view&) { ++heard; });
        const auto on_answer = s.machine.add([&](view&) { ++answered; });
        const auto hearer = s.machine.add([&](view& self) {
            for (unsigned told = 0; told < rounds;) {
                if (told == heard) {
                    if (self.frame.r12 == 0)
                        compute(self, 100);
                    else
                        sleep_for(self, 100'000);
                    continue;
                }
                CHECK(heard == ++told);
                CHECK(self.call(nr::kill, 1, static_cast<int>(signal::sigusr2)) == 0);
            }
            self.exit(3);
        });
        run_to_end(s.machine, [&](view& self) {
            for (unsigned i = 0; i < waiters; ++i)
                spawn(self, waiter, data() + 4 * i, i);
            for (std::uint32_t turn = 0; turn < rounds; ++turn) {
                self.store(turn_at(), turn + 1);
                self.call(nr::futex, turn_at(), wake, 1000);
                for (unsigned i = 0; i < waiters; ++i)
                    while (self.load<std::uint32_t>(arrived_at(i)) == turn)
                        self.call(nr::futex, arrived_at(i), wait, turn, 0);
            }
            for (unsigned i = 0; i < waiters; ++i)
                join(self, data() + 4 * i);

            for (unsigned i = 0; i <= count; ++i)
                CHECK(self.call(nr::pipe, pipes(i)) == 0);
            CHECK(self.fork(source) > 0);
            for (unsigned i = 0; i < count; ++i) {
                self.frame.r12 = i;
                CHECK(self.fork(passer) > 0);
            }
            const auto in = self.load<int>(pipes(count));
            close_all_but(self, in, -1);
            const auto buffer = self.allocate(512);
            std::uint64_t total = 0;
            bool in_order = true;
            while (const auto got = self.call(nr::read, in, buffer, 512)) {
                REQUIRE(got > 0);
                for (std::uint64_t i = 0; i < static_cast<std::uint64_t>(got); ++i) {
                    const auto at = (total + i) % 1024;
                    in_order = in_order && self.load<std::uint8_t>(buffer + i) == (at % 8 == 0   ? at % 256
                                                                                   : at % 8 == 1 ? at / 256
                                                                                                 : 0);
                }
                total += static_cast<std::uint64_t>(got);
            }
            CHECK(total == 9 * 1024);
            CHECK(in_order);
            for (unsigned i = 0; i < count + 1; ++i)
                CHECK(wait_for(self).word == 0);

            set_action(self, s.machine, signal::sigusr1, on_signal);
            set_action(self, s.machine, signal::sigusr2, on_answer);
            for (const unsigned sleeps : {0u, 1u}) {
                heard = answered = 0;
                self.frame.r12 = sleeps;
                const auto id = self.fork(hearer);
                while (answered < rounds) {
                    const auto before = answered;
                    CHECK(self.call(nr::kill, id, static_cast<int>(signal::sigusr1)) == 0);
                    while (answered == before)
                        compute(self, 20);
                }
                CHECK(wait_for(self, id).word == wait_status::exited(3).word());
            }
            self.exit(0);
        });
        CHECK(s.all_seen());
    });
}

TEST_CASE("several CPUs: a signal stops what its receiver computes on another CPU at once")
{
    on_machines(0, [](several& s, unsigned) {
        std::uint64_t heard = 0, sent = 0;
        const auto on_signal = s.machine.add([&](view&) { heard = s.now(); });
        const auto child = s.machine.add([&](view& self) {
            while (heard == 0)
                self.spend(seconds(1));
            self.exit(0);
        });
        run_to_end(s.machine, [&](view& self) {
            set_action(self, s.machine, signal::sigusr1, on_signal);
            const auto id = self.fork(child);
            self.spend(nanoseconds(13'000'000));
            sent = s.now();
            CHECK(self.call(nr::kill, id, static_cast<int>(signal::sigusr1)) == 0);
            self.spend(nanoseconds(1000));
            CHECK(heard - sent < 1000);
            CHECK(self.call(nr::kill, id, static_cast<int>(signal::sigkill)) == 0);
            const auto killed = s.now();
            CHECK(wait_for(self, id).word == wait_status::killed(signal::sigkill).word());
            CHECK(s.now() - killed < 1000);
            self.exit(0);
        });
    });
}

TEST_CASE("several CPUs: exit_group and execve end the threads that run on other CPUs, at once")
{
    on_machines(6, [](several& s, unsigned count) {
        bool gone = false; // the process, or its program
        unsigned running = 0;
        std::uint64_t called = 0;
        const auto worker = s.machine.add([&](view& self) {
            ++running;
            for (;;) {
                s.here();
                CHECK(!gone);
                self.store(s.machine.data_begin() + 1024 + 8 * self.frame.r12, running);
                self.spend(nanoseconds(self.frame.r12 % 2 == 0 ? 10'000'000'000 : 3'000));
            }
        });
        const auto start_workers = [&](view& self) {
            running = 0;
            for (unsigned i = 0; i < count; ++i)
                CHECK(spawn(self, worker, 0, i) > 0);
            while (running < count)
                compute(self, 10);
        };
        const auto exits = s.machine.add([&](view& self) {
            start_workers(self);
            called = s.now();
            self.exit(7);
        });
        const auto sleeps = s.machine.add([&](view& self) {
            start_workers(self);
            for (;;)
                self.spend(seconds(10));
        });
        const auto next = s.machine.add([&](view& self) {
            gone = true;
            CHECK(s.now() - called < moment);
            CHECK(self.load<std::uint64_t>(s.machine.data_begin() + 1024) == 0);
            CHECK(read_file(self, "/proc/self/status").find("Threads:\t1\n") != std::string::npos);
            CHECK(self.call(nr::getpid) == self.call(nr::gettid));
            compute(self, 200);
            self.exit(8);
        });
        s.machine.add_program("/bin/next", next);
        const auto executes = s.machine.add([&](view& self) {
            start_workers(self);
            called = s.now();
            execute(self, "/bin/next", {"next"}); // does not return
        });
        // So does a thread that is not the first.
        const auto other = s.machine.add([&](view& self) {
            start_workers(self);
            called = s.now();
            execute(self, "/bin/next", {"next"}); // does not return
        });
        const auto executes_elsewhere = s.machine.add([&](view& self) {
            CHECK(spawn(self, other) > 0);
            for (;;)
                self.spend(seconds(10));
        });
        run_to_end(s.machine, [&](view& self) {
            const auto expect = [&](std::uint64_t program, wait_status status) {
                gone = false;
                const auto id = self.fork(program);
                CHECK(wait_for(self, id).word == status.word());
                CHECK(s.now() - called < moment);
                gone = true;
                sleep_for(self, moment);
                return holdings{s.machine};
            };
            const auto first = expect(exits, wait_status::exited(7));
            expect(executes, wait_status::exited(8));
            expect(executes_elsewhere, wait_status::exited(8));
            // From outside.
            gone = false;
            const auto id = self.fork(sleeps);
            while (running < count)
                compute(self, 100);
            compute(self, 100);
            called = s.now();
            CHECK(self.call(nr::kill, id, static_cast<int>(signal::sigkill)) == 0);
            CHECK(wait_for(self, id).word == wait_status::killed(signal::sigkill).word());
            CHECK(s.now() - called < moment);
            gone = true;

            const auto last = expect(exits, wait_status::exited(7));
            CHECK(last.tables == first.tables);
            CHECK(last.stacks == first.stacks);
            self.exit(0);
        });
        CHECK(s.all_seen());
    });
}

TEST_CASE("several CPUs: sched_setaffinity moves a thread that runs, and getcpu tells where to")
{
    on_machines(4, [](several& s, unsigned count) {
        bool over = false;
        unsigned told = ~0u;
        const auto cpu_told = [](view& self) {
            const auto stack = self.frame.rsp;
            const auto at = self.allocate(8);
            CHECK(self.call(nr::getcpu, at, 0, 0) == 0);
            const auto cpu = self.load<std::uint32_t>(at);
            self.frame.rsp = stack;
            return cpu;
        };
        const auto worker = s.machine.add([&](view& self) {
            while (!over) {
                told = s.here();
                compute(self, 1'000);
            }
            exit_thread(self);
        });
        run_to_end(s.machine, [&](view& self) {
            const auto id = spawn(self, worker, s.machine.data_begin());
            for (unsigned round = 0; round < 3 * count; ++round) {
                const unsigned cpu = (5 * round + 1) % count;
                CHECK(bind(self, 0, cpu) == 0);
                CHECK(s.here() == cpu);
                CHECK(cpu_told(self) == cpu);
                compute(self, 100);
                CHECK(s.here() == cpu);
                const unsigned other = (cpu + 1 + round % (count - 1)) % count;
                CHECK(bind(self, id, other) == 0);
                compute(self, 2'000);
                CHECK(told == other);
            }
            over = true;
            join(self, s.machine.data_begin());
            self.exit(0);
        });
        CHECK(s.all_seen());
    });
}

} // namespace
