// That every lock of a whole kernel is checked: the locks of its own objects, taken where its own code takes them.

#include "world.hpp"

#include <functional>
#include <string>

#include <exo/base/time.hpp>
#include <exo/proc/user_copy.hpp>
#include <exo/sync/held_locks.hpp>
#include <exo/sync/lock_rank.hpp>

#include <last_words.hpp>

using namespace world;
using exo::sync::lock_misuse;
using exo::sync::lock_rank;
using exo::sync::lock_rule;

namespace {

using kernel_type = simulated_kernel::kernel_type;

// What the kernel says when its first program, in the kernel for once, does what it must not.
std::string report_of(const std::function<void(kernel_type&, simulated_kernel&, view&)>& misuse)
{
    return last_words([&] {
        simulated_kernel machine;
        machine.run([&](view& self) {
            misuse(machine.kernel(), machine, self);
            self.exit(0);
        });
    });
}

// In the kernel, where locks may be held.
void sleep_in(kernel_type& k)
{
    const auto until = k.now() + exo::milliseconds(1);
    while (k.now() < until)
        k.parker().park(until);
}

} // namespace

TEST_CASE("the spinning locks of a kernel are noted for the CPU, and forbid to sleep and to copy user memory")
{
    simulated_kernel machine;
    auto& k = machine.kernel();
    run_to_end(machine, [&](view& self) {
        {
            auto table = k.processes().lock();
            auto& cpu = machine.platform().interrupts();
            CHECK(cpu.held_spin_locks()->lowest() == lock_rank::process_table);
            const lock_misuse sleeps{lock_rule::no_sleep, std::nullopt, lock_rank::process_table};
            CHECK(exo::sync::misuse_by_sleeping(k.scheduler()) == sleeps);
            CHECK(exo::sync::misuse_by_sleeping(k.parker()) == sleeps);
            CHECK(exo::sync::misuse_by_copying_user_memory(k.scheduler()) == sleeps);
            auto process = k.current_thread().process().lock();
            CHECK(cpu.held_spin_locks()->lowest() == lock_rank::process);
            CHECK(exo::sync::misuse_by_taking(k.parker(), lock_rank::process_table) ==
                  lock_misuse{lock_rule::order, lock_rank::process_table, lock_rank::process});
        }
        CHECK(!exo::sync::misuse_by_sleeping(k.scheduler()));
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("the sleeping locks of a kernel are noted for the thread, on whatever CPU it goes on")
{
    simulated_kernel machine;
    auto& k = machine.kernel();
    bool ran = false;
    const auto other = machine.add([&](view& self) {
        CHECK(!k.scheduler().held_sleeping_locks()->lowest());
        ran = true;
        exit_thread(self);
    });
    run_to_end(machine, [&](view& self) {
        auto& root = k.current_thread().process().paths.root.entry;
        spawn(self, other);
        {
            auto entries = root->node()->entries().lock(k.parker());
            sleep_in(k);
            CHECK(ran);
            CHECK(k.scheduler().held_sleeping_locks()->lowest() == lock_rank::inode_parent);
            CHECK(exo::sync::misuse_by_taking(k.parker(), lock_rank::regions) ==
                  lock_misuse{lock_rule::order, lock_rank::regions, lock_rank::inode_parent});
            CHECK(exo::sync::misuse_by_copying_user_memory(k.scheduler()) ==
                  lock_misuse{.broken = lock_rule::no_fault, .held = lock_rank::inode_parent});
        }
        CHECK(!k.scheduler().held_sleeping_locks()->lowest());
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("a kernel stops where a lock is misused, deadlock or not, and names the locks")
{
    CHECK(report_of([](kernel_type& k, simulated_kernel&, view&) {
              auto process = k.current_thread().process().lock();
              auto table = k.processes().lock();
          }).find("process_table is taken while process is held") != std::string::npos);
    CHECK(report_of([](kernel_type& k, simulated_kernel&, view&) {
              auto table = k.processes().lock();
              k.parker().park(k.now());
          }).find("a thread sleeps while process_table is held") != std::string::npos);
    CHECK(report_of([](kernel_type& k, simulated_kernel&, view& self) {
              auto table = k.processes().lock();
              (void)exo::proc::copy_to_user(k, exo::user_addr{self.allocate(8)}, nullptr, 0);
          }).find("while process_table is held") != std::string::npos);
    CHECK(report_of([](kernel_type& k, simulated_kernel& machine, view&) {
              auto table = k.processes().lock();
              machine.platform().interrupts().restore(true);
          }).find("interrupts are enabled while process_table is held") != std::string::npos);
}

TEST_CASE("a kernel stops at a sleeping lock in an interrupt handler, free or not")
{
    const auto report = report_of([](kernel_type& k, simulated_kernel& machine, view& self) {
        auto& root = k.current_thread().process().paths.root.entry;
        machine.platform().interrupts().interrupt(0, [&] { auto guard = root->node()->entries().lock(k.parker()); });
        sleep_for(self, 1'000'000);
    });
    CHECK(report.find("inode_parent is taken with interrupts off") != std::string::npos);
}

TEST_CASE("a thread that may look at present memory only is refused what would have to be brought in, and no longer")
{
    simulated_kernel machine;
    auto& k = machine.kernel();
    run_to_end(machine, [&](view& self) {
        const auto fresh = static_cast<std::uint64_t>(self.call(nr::mmap, 0, 4096, 3, 0x22, -1, 0));
        std::byte word[4]{};
        const auto copied = [&] { return exo::proc::copy_from_user(k, word, exo::user_addr{fresh}, sizeof word); };
        {
            // As with a lock that a fault would need.
            const exo::proc::present_memory_only present{k.current_thread()};
            auto entries = k.current_thread().process().paths.root.entry->node()->entries().lock(k.parker());
            CHECK(copied() == 0);
        }
        CHECK(copied() == 4);
        {
            const exo::proc::present_memory_only present{k.current_thread()};
            CHECK(copied() == 4);
        }
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("who sends a generated text into a pipe that is full keeps nobody from reading it")
{
    simulated_kernel machine;
    const auto sends = machine.add([&](view& self) {
        const auto text = self.load<int>(machine.data_begin() + 4), pipe = self.load<int>(machine.data_begin() + 12);
        CHECK(self.call(nr::sendfile, pipe, text, 0, 4096) > 0);
        exit_thread(self);
    });
    run_to_end(machine, [&](view& self) {
        const auto data = machine.data_begin();
        const auto text = self.call(nr::open, self.put("/proc/uptime"), 0, 0);
        self.store(data + 4, static_cast<int>(text));
        CHECK(self.call(nr::pipe2, data + 8, 0) == 0);
        const auto room = self.allocate(65536);
        CHECK(self.call(nr::write, self.load<int>(data + 12), room, 65536) == 65536);
        spawn(self, sends, data + 16);
        sleep_for(self, 1'000'000);
        CHECK(self.load<int>(data + 16) != 0); // it waits
        CHECK(self.call(nr::pread64, text, room, 100, 0) > 0);
        CHECK(self.call(nr::read, self.load<int>(data + 8), room, 65536) == 65536);
        join(self, data + 16);
        CHECK(self.call(nr::read, self.load<int>(data + 8), room, 100) > 0);
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("a kernel that counts its locks tells in its metrics")
{
    simulated_kernel machine;
    run_to_end(machine, [&](view& self) {
        auto& metrics = machine.kernel().metrics();
        const auto taken = [&] { return metrics.value("exo_lock_acquisitions_total{rank=\"process_table\"}").value(); };
        const auto before = taken();
        for (int i = 0; i < 10; ++i)
            auto table = machine.kernel().processes().lock();
        CHECK(taken() == before + 10);
        CHECK(metrics.value("exo_lock_contended_total{rank=\"process_table\"}") == 0);
        CHECK(metrics.value("exo_lock_wait_ns_total{rank=\"process_table\"}") == 0);

        auto& root = machine.kernel().current_thread().process().paths.root.entry;
        {
            auto entries = root->node()->entries().lock(machine.kernel().parker());
            sleep_in(machine.kernel());
        }
        CHECK(metrics.value("exo_lock_hold_longest_ns{rank=\"inode_parent\"}").value() >= 1'000'000);
        self.exit(0);
    });
    check_clean(machine);
}
