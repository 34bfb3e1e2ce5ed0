// Memory that runs out: who ends, who lives, and what is left.

#include "world.hpp"

#include <string>

#include <exo/mm/metrics.hpp>
#include <exo/proc/out_of_memory.hpp>

using namespace exo;
using namespace world;

namespace {

constexpr std::size_t machine_frames = 1200;
constexpr std::uint64_t all_memory = machine_frames * page_size;

std::uint64_t map(view& self, std::uint64_t bytes, std::uint64_t flags = 0x22)
{
    return static_cast<std::uint64_t>(self.call(nr::mmap, 0, bytes, 3, flags, -1, 0));
}
void fill(view& self, std::uint64_t at, std::uint64_t bytes, std::uint64_t value)
{
    for (std::uint64_t done = 0; done < bytes; done += page_size)
        self.store(at + done, value + done);
}
bool holds(view& self, std::uint64_t at, std::uint64_t bytes, std::uint64_t value)
{
    for (std::uint64_t done = 0; done < bytes; done += page_size)
        if (self.load<std::uint64_t>(at + done) != value + done)
            return false;
    return true;
}
const int killed = wait_status::killed(signal::sigkill).word();

std::uint64_t kills(simulated_kernel& machine)
{
    return machine.kernel().memory().counted(&mm::memory_counters::out_of_memory_kills);
}

TEST_CASE("who found no memory, but finds that it has come back since, ends nobody")
{
    simulated_kernel machine{machine_frames};
    proc::out_of_memory_killer<kernel_system<sim::kernel_platform>> killer{machine.kernel()};
    machine.run([&](view& self) {
        decltype(killer)::shortage found;
        CHECK(killer.make_room(machine.kernel().current_thread(), found));
        CHECK(killer.make_room(machine.kernel().current_thread(), found));
        self.exit(0);
    });
    CHECK(kills(machine) == 0);
}

// Backs nothing, and takes its time to go.
class slow_to_leave final : public mm::pager {
public:
    explicit slow_to_leave(simulated_kernel& machine) : machine_{machine} {}
    [[nodiscard]] result<frame_number> get_page(std::uint64_t, bool) override { return fail(mm::beyond_end); }

    bool gone{};

private:
    void last_reference() noexcept override
    {
        auto& parker = machine_.kernel().parker();
        const auto until = machine_.kernel().now() + milliseconds(100);
        while (machine_.kernel().now() < until)
            parker.park(until);
        gone = true;
    }

    simulated_kernel& machine_;
};

TEST_CASE("one that is slow to give its memory back is not followed by a second, and its parent waits")
{
    simulated_kernel machine{machine_frames};
    slow_to_leave slow{machine};
    ref<proc::program_image<kernel_system<sim::kernel_platform>>> seen;
    const auto innocent = machine.add([&](view& self) {
        sleep_for(self, 1'000'000);
        const auto own = map(self, 400 * page_size);
        fill(self, own, 400 * page_size, 7); // with the other's memory
        CHECK(slow.gone);
        self.exit(holds(self, own, 400 * page_size, 7) ? 0 : 1);
    });
    const auto hog = machine.add([&](view& self) {
        auto& t = machine.kernel().current_thread();
        seen = t.process().find_image(); // as somebody does who reads its /proc/PID/maps
        REQUIRE(t.space()->map({.length = page_size, .backing = ref<mm::pager>::adopt(&slow)}));
        fill(self, map(self, all_memory), all_memory, 1);
        self.exit(0);
    });
    machine.run([&](view& self) {
        const auto hog_id = self.fork(hog);
        const auto innocent_id = self.fork(innocent);
        CHECK(wait_for(self, hog_id).word == killed);
        CHECK(slow.gone);
        CHECK(seen->space().memory_footprint().pages == 0);
        CHECK(wait_for(self, innocent_id).word == 0);
        seen = nullptr;
        self.exit(0);
    });
    CHECK(kills(machine) == 1);
    check_clean(machine);
}

TEST_CASE("the hog ends, the innocent live and never notice, and the memory comes back")
{
    simulated_kernel machine{machine_frames};
    const auto innocent = machine.add([&](view& self) {
        const auto own = map(self, 20 * page_size);
        fill(self, own, 20 * page_size, 7);
        sleep_for(self, 1'000'000'000);
        self.exit(holds(self, own, 20 * page_size, 7) ? 0 : 1);
    });
    const auto hog = machine.add([&](view& self) {
        sleep_for(self, 1'000'000);
        fill(self, map(self, all_memory), all_memory, 1);
        self.exit(0);
    });
    std::uint64_t before = 0, after = 0;
    std::int64_t hog_id = 0;
    machine.run([&](view& self) {
        for (int i = 0; i < 4; ++i) // as many as there will be: warms what the heap keeps
            self.fork(innocent);
        for (int i = 0; i < 4; ++i)
            CHECK(wait_for(self).word == 0);
        before = free_frames(machine);
        for (int i = 0; i < 3; ++i)
            self.fork(innocent);
        hog_id = self.fork(hog);
        for (int i = 0; i < 4; ++i) {
            const auto ended = wait_for(self);
            CHECK(ended.word == (ended.id == hog_id ? killed : 0));
        }
        after = free_frames(machine);
        self.exit(0);
    });
    CHECK(before == after);
    CHECK(kills(machine) == 1);
    CHECK(machine.platform().log().text().find("out of memory: killed process " + std::to_string(hog_id) + " (sh)") !=
          std::string::npos);
    check_clean(machine);
}

TEST_CASE("not whoever faults last ends, but who keeps most; the fault goes on")
{
    simulated_kernel machine{machine_frames};
    const auto hog = machine.add([&](view& self) {
        fill(self, map(self, all_memory / 2), all_memory / 2, 1);
        sleep_for(self, 1'000'000'000'000);
        self.exit(0);
    });
    const auto status = machine.run([&](view& self) {
        const auto hog_id = self.fork(hog);
        sleep_for(self, 1'000'000);
        const auto own = map(self, all_memory * 2 / 3);
        // Half through its own stores, half through the kernel's.
        fill(self, own, all_memory / 3, 5);
        const auto zeros = self.call(nr::open, self.put("/dev/zero"), 0);
        for (std::uint64_t at = all_memory / 3 & ~(page_size - 1); at < all_memory * 2 / 3; at += page_size)
            CHECK(self.call(nr::read, zeros, own + at, 8) == 8);
        CHECK(holds(self, own, all_memory / 3 & ~(page_size - 1), 5));
        const auto ended = wait_for(self);
        CHECK(ended.id == hog_id);
        CHECK(ended.word == killed);
        self.exit(3);
    });
    CHECK(status == 3);
    CHECK(kills(machine) == 1);
    check_clean(machine, 3);
}

TEST_CASE("what many share counts for each in part: a family is not larger than the one that keeps it all")
{
    simulated_kernel machine{machine_frames};
    constexpr std::uint64_t shared = all_memory / 3, own = all_memory / 4;
    const auto relative = machine.add([&](view& self) {
        sleep_for(self, 1'000'000'000'000);
        self.exit(0);
    });
    const auto family = machine.add([&](view& self) {
        fill(self, map(self, shared), shared, 1);
        for (int i = 0; i < 5; ++i)
            self.fork(relative);
        sleep_for(self, 1'000'000'000'000);
        self.exit(0);
    });
    const auto loner = machine.add([&](view& self) {
        fill(self, map(self, own), own, 1);
        sleep_for(self, 1'000'000'000'000);
        self.exit(0);
    });
    machine.run([&](view& self) {
        self.fork(family);
        const auto loner_id = self.fork(loner);
        sleep_for(self, 1'000'000);
        fill(self, map(self, all_memory / 2), all_memory / 2, 1);
        CHECK(wait_for(self).id == loner_id);
        self.exit(0);
    });
    CHECK(kills(machine) == 1);
    check_clean(machine);
}

TEST_CASE("one that is on its way already is not followed by a second")
{
    simulated_kernel machine{machine_frames};
    const auto sleeper = machine.add([&](view& self) {
        fill(self, map(self, all_memory / 4), all_memory / 4, 1);
        sleep_for(self, 1'000'000'000);
        self.exit(0);
    });
    machine.run([&](view& self) {
        const auto first = self.fork(sleeper);
        const auto second = self.fork(sleeper);
        sleep_for(self, 1'000'000);
        const auto own = map(self, all_memory * 2 / 3);
        CHECK(self.call(nr::kill, first, 9) == 0); // it has not run since
        fill(self, own, all_memory * 2 / 3, 5);
        CHECK(wait_for(self, first).word == killed);
        CHECK(wait_for(self, second).word == 0);
        self.exit(0);
    });
    CHECK(kills(machine) == 0);
    check_clean(machine);
}

TEST_CASE("a child in vfork and its parent end together: they are one memory")
{
    simulated_kernel machine{machine_frames};
    const auto child = machine.add([&](view& self) {
        fill(self, map(self, all_memory / 2), all_memory / 2, 1);
        sleep_for(self, 1'000'000'000'000);
        self.exit(0);
    });
    const auto parent = machine.add([&](view& self) {
        self.call_from(child, nr::vfork);
        self.exit(0);
    });
    machine.run([&](view& self) {
        const auto parent_id = self.fork(parent);
        sleep_for(self, 1'000'000);
        fill(self, map(self, all_memory * 2 / 3), all_memory * 2 / 3, 1);
        for (int i = 0; i < 2; ++i) {
            const auto ended = wait_for(self);
            CHECK(ended.id >= parent_id);
            CHECK(ended.word == killed);
        }
        CHECK(wait_for(self).id == minus(posix::child));
        self.exit(0);
    });
    CHECK(kills(machine) == 1);
    check_clean(machine);
}

TEST_CASE("what the kernel needs for a call is ENOMEM, and nobody ends")
{
    simulated_kernel machine{machine_frames};
    const auto child = machine.add([&](view& self) { self.exit(0); });
    machine.run([&](view& self) {
        const auto own = map(self, all_memory);
        const auto file = self.call(nr::open, self.put("/memory"), 0x42, 0600); // the root knows no limit
        std::uint64_t written = 0;
        std::int64_t outcome = 0;
        self.store(own, 1);
        while ((outcome = self.call(nr::write, file, own, page_size)) > 0)
            written += page_size;
        CHECK(outcome == minus(posix::nomem));
        CHECK(written > all_memory / 2);
        CHECK(self.fork(child) == minus(posix::nomem));
        CHECK(self.call(nr::ftruncate, file, 0) == 0);
        CHECK(self.fork(child) > 0);
        CHECK(wait_for(self).word == 0);
        self.exit(0);
    });
    CHECK(kills(machine) == 0);
    check_clean(machine);
}

TEST_CASE("a tmpfs keeps to half of the memory")
{
    simulated_kernel machine{machine_frames};
    machine.run([&](view& self) {
        const auto from = map(self, page_size);
        const auto file = self.call(nr::open, self.put("/tmp/memory"), 0x42, 0600);
        std::uint64_t written = 0;
        std::int64_t outcome = 0;
        while ((outcome = self.call(nr::write, file, from, page_size)) > 0)
            written += page_size;
        CHECK(outcome == minus(posix::nospc));
        CHECK(written == machine.kernel().frames().total_frames() / 2 * page_size);
        self.exit(0);
    });
    check_clean(machine);
}

} // namespace
