// The scheduling calls: what each changes, whom it lets, and Linux's errors.

#include "../proc/world.hpp"

#include <string>

#include <exo/linux/schedule_calls.hpp>

using namespace exo;
using namespace world;

namespace {

using record = linux_abi::schedule_record;
using policy = proc::scheduling_policy;

constexpr std::int64_t ms = 1'000'000;
constexpr int normal = 0, fifo = 1, round_robin = 2, batch = 3, idle = 5, deadline = 6;
constexpr int resets = 0x40000000;

// Calls with an object in memory, of which nothing is left afterwards.
template <class T>
std::int64_t call_with(view& self, nr n, std::int64_t id, T value, std::int64_t third = 0)
{
    const auto stack = self.frame.rsp;
    const auto at = self.allocate(sizeof(T));
    self.store(at, value);
    const auto outcome = n == nr::sched_setscheduler ? self.call(n, id, third, at) : self.call(n, id, at, third);
    self.frame.rsp = stack;
    return outcome;
}
std::int64_t set_scheduler(view& self, std::int64_t id, int to, int priority)
{
    return call_with(self, nr::sched_setscheduler, id, priority, to);
}
std::int64_t set_priority(view& self, std::int64_t id, int priority)
{
    return call_with(self, nr::sched_setparam, id, priority);
}
std::int64_t set_attributes(view& self, std::int64_t id, const record& r)
{
    return call_with(self, nr::sched_setattr, id, r);
}
record deadline_record(std::int64_t runtime, std::int64_t relative, std::int64_t period, std::uint64_t flags = 0)
{
    return {.size = 48,
            .policy = deadline,
            .flags = flags,
            .nice = 0,
            .priority = 0,
            .runtime = static_cast<std::uint64_t>(runtime),
            .deadline = static_cast<std::uint64_t>(relative),
            .period = static_cast<std::uint64_t>(period),
            .clamps = {}};
}
record fair_record(int p, int nice, std::uint64_t flags = 0, std::uint64_t request = 0)
{
    return {.size = 48,
            .policy = static_cast<std::uint32_t>(p),
            .flags = flags,
            .nice = nice,
            .priority = 0,
            .runtime = request,
            .deadline = 0,
            .period = 0,
            .clamps = {}};
}
record attributes(view& self, std::int64_t id = 0)
{
    const auto stack = self.frame.rsp;
    const auto at = self.allocate(sizeof(record));
    CHECK(self.call(nr::sched_getattr, id, at, sizeof(record), 0) == 0);
    const auto r = self.load<record>(at);
    self.frame.rsp = stack;
    return r;
}
int priority_of(view& self, std::int64_t id = 0)
{
    const auto stack = self.frame.rsp;
    const auto at = self.allocate(8);
    CHECK(self.call(nr::sched_getparam, id, at) == 0);
    const auto priority = self.load<int>(at);
    self.frame.rsp = stack;
    return priority;
}
std::int64_t interval(view& self, std::int64_t id = 0)
{
    const auto stack = self.frame.rsp;
    const auto at = self.allocate(16);
    CHECK(self.call(nr::sched_rr_get_interval, id, at) == 0);
    const auto time = self.load<linux_abi::time_record>(at);
    self.frame.rsp = stack;
    return time.seconds * 1000 * ms + time.nanoseconds;
}
int nice_of(view& self, int which = 0, std::int64_t who = 0)
{
    return 20 - static_cast<int>(self.call(nr::getpriority, which, who));
}
void limit(view& self, int which, std::uint64_t to)
{
    const auto stack = self.frame.rsp;
    const auto at = self.allocate(16);
    self.store(at, proc::resource_limit{to, to});
    CHECK(self.call(nr::prlimit64, 0, which, at, 0) == 0);
    self.frame.rsp = stack;
}
std::string file(view& self, std::string_view path)
{
    const auto stack = self.frame.rsp;
    const auto at = self.allocate(4096);
    const auto opened = self.call(nr::open, self.put(path), 0);
    const auto count = self.call(nr::read, opened, at, 4095);
    std::string text(static_cast<std::size_t>(count > 0 ? count : 0), '\0');
    for (std::size_t i = 0; i < text.size(); ++i)
        text[i] = self.load<char>(at + i);
    self.call(nr::close, opened);
    self.frame.rsp = stack;
    return text;
}
// A field of /proc/self/stat, counted as proc(5) does. (What a program has on its stack when it exits is never
// destroyed: so nothing here is kept.)
std::string field(view& self, unsigned which)
{
    const auto text = file(self, "/proc/self/stat");
    std::size_t at = text.rfind(')') + 2;
    for (unsigned n = 3; n < which; ++n)
        at = text.find(' ', at) + 1;
    return text.substr(at, text.find(' ', at) - at);
}

} // namespace

TEST_CASE("a thread has the policy and the parameters that it was given, and /proc tells them")
{
    simulated_kernel machine;
    machine.run([&](view& self) {
        CHECK(self.call(nr::sched_getscheduler, 0) == normal);
        CHECK(attributes(self).runtime == 3 * ms);
        CHECK(interval(self) == 3 * ms);

        CHECK(set_scheduler(self, 0, fifo, 50) == 0);
        CHECK((self.call(nr::sched_getscheduler, 0) == fifo && priority_of(self) == 50 && interval(self) == 0));
        CHECK(
            (field(self, 18) == "-51" && field(self, 19) == "0" && field(self, 40) == "50" && field(self, 41) == "1"));
        CHECK(set_priority(self, 0, 7) == 0);
        CHECK((self.call(nr::sched_getscheduler, 0) == fifo && priority_of(self) == 7));
        CHECK(attributes(self).priority == 7);

        CHECK(set_scheduler(self, 1, round_robin | resets, 1) == 0);
        CHECK((self.call(nr::sched_getscheduler, 1) == (round_robin | resets) && interval(self) == 100 * ms));
        CHECK(attributes(self).flags == 1);
        CHECK(set_priority(self, 0, 2) == 0);
        CHECK(self.call(nr::sched_getscheduler, 0) == (round_robin | resets));

        CHECK(self.call(nr::setpriority, 0, 0, 5) == 0); // kept for later
        CHECK((nice_of(self) == 5 && self.call(nr::sched_getscheduler, 0) == (round_robin | resets)));
        CHECK(set_scheduler(self, 0, batch, 0) == 0);
        CHECK((attributes(self).policy == batch && attributes(self).nice == 5 && attributes(self).flags == 0));
        CHECK((field(self, 18) == "25" && field(self, 19) == "5" && field(self, 40) == "0" && field(self, 41) == "3"));

        CHECK(set_attributes(self, 0, fair_record(idle, -7, 1, 20 * ms)) == 0);
        auto r = attributes(self);
        CHECK((r.size == 56 && r.policy == idle && r.nice == -7 && r.flags == 1 && r.runtime == 20 * ms));
        CHECK(set_attributes(self, 0, fair_record(normal, 99, 0, 1)) == 0); // as far as it goes
        r = attributes(self);
        CHECK((r.policy == normal && r.nice == 19 && r.runtime == ms / 10));

        CHECK(set_attributes(self, 0, deadline_record(10 * ms, 20 * ms, 0, 4)) == 0);
        r = attributes(self);
        CHECK((r.policy == deadline && r.runtime == 10 * ms && r.deadline == 20 * ms && r.period == 20 * ms));
        CHECK((r.flags == 4 && r.nice == 0 && interval(self) == 0 && nice_of(self) == 19));
        CHECK((field(self, 18) == "-101" && field(self, 41) == "6"));
        CHECK(set_attributes(self, 0, fair_record(normal, 0, 8 | 16 | 1)) == 0); // keeps all, the flag too
        CHECK(attributes(self).policy == deadline);
        CHECK(set_attributes(self, 0, fair_record(normal, 3)) == 0);
        CHECK(nice_of(self) == 3);
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("what no policy has, and who is not there, are Linux's errors")
{
    simulated_kernel machine;
    const auto sleeper = machine.add([&](view& self) { self.exit(0); });
    machine.run([&](view& self) {
        const auto inval = minus(posix::inval), srch = minus(posix::srch), fault = minus(posix::fault);
        const auto zombie = self.fork(sleeper);
        sleep_for(self, ms);
        CHECK(set_scheduler(self, -1, fifo, 1) == inval);
        CHECK(set_scheduler(self, 4000, fifo, 1) == srch);
        CHECK(set_scheduler(self, zombie, fifo, 1) == srch);
        CHECK(set_scheduler(self, 0, -1, 1) == inval);
        CHECK(set_scheduler(self, 0, 4, 0) == inval);
        CHECK(set_scheduler(self, 0, 7, 0) == inval);
        CHECK(set_scheduler(self, 0, fifo, 0) == inval);
        CHECK(set_scheduler(self, 0, fifo, 100) == inval);
        CHECK(set_scheduler(self, 0, normal, 1) == inval);
        CHECK(set_scheduler(self, 0, deadline, 0) == inval);
        CHECK(self.call(nr::sched_setscheduler, 0, fifo, 0) == inval);
        CHECK(self.call(nr::sched_setscheduler, 0, fifo, 8) == fault);
        CHECK(set_priority(self, 0, 1) == inval);
        CHECK(set_priority(self, 4000, 0) == srch);
        CHECK(self.call(nr::sched_getscheduler, -1) == inval);
        CHECK(self.call(nr::sched_getscheduler, 4000) == srch);
        CHECK(self.call(nr::sched_getparam, 0, 0) == inval);
        CHECK(self.call(nr::sched_getparam, 0, 8) == fault);
        CHECK(self.call(nr::sched_getparam, 4000, 8) == srch);
        CHECK(self.call(nr::sched_rr_get_interval, -1, 8) == inval);
        CHECK(self.call(nr::sched_rr_get_interval, 4000, 8) == srch);
        CHECK(self.call(nr::sched_rr_get_interval, 0, 8) == fault);

        CHECK((self.call(nr::sched_get_priority_min, fifo) == 1 && self.call(nr::sched_get_priority_max, fifo) == 99));
        for (const int p : {normal, batch, idle, deadline})
            CHECK((self.call(nr::sched_get_priority_min, p) == 0 && self.call(nr::sched_get_priority_max, p) == 0));
        for (const int p : {-1, 4, 7})
            CHECK((self.call(nr::sched_get_priority_min, p) == inval &&
                   self.call(nr::sched_get_priority_max, p) == inval));

        const auto at = self.allocate(64);
        CHECK(self.call(nr::sched_getattr, 0, at, 47, 0) == inval);
        CHECK(self.call(nr::sched_getattr, 0, at, 4097, 0) == inval);
        CHECK(self.call(nr::sched_getattr, 0, at, 48, 1) == inval);
        CHECK(self.call(nr::sched_getattr, 0, 0, 48, 0) == inval);
        CHECK(self.call(nr::sched_getattr, 0, 8, 48, 0) == fault);
        CHECK(self.call(nr::sched_getattr, 4000, at, 48, 0) == srch);
        self.store(at + 48, std::uint64_t{0x5555});
        CHECK(self.call(nr::sched_getattr, 0, at, 48, 0) == 0);
        CHECK((self.load<std::uint32_t>(at) == 48 && self.load<std::uint64_t>(at + 48) == 0x5555));

        CHECK(self.call(nr::sched_setattr, 0, 0, 0) == inval);
        CHECK(self.call(nr::sched_setattr, 0, 8, 0) == fault);
        CHECK(self.call(nr::sched_setattr, 0, at, 1) == inval);
        CHECK(set_attributes(self, 4000, fair_record(normal, 0)) == srch);
        CHECK(set_attributes(self, 0, fair_record(-1, 0)) == inval);
        CHECK(set_attributes(self, 0, fair_record(normal, 0, 2)) == inval);
        CHECK(set_attributes(self, 0, fair_record(normal, 0, 0x80)) == inval);
        CHECK(set_attributes(self, 0, fair_record(normal, 0, 0x20)) == minus(posix::opnotsupp));
        CHECK(set_attributes(self, 0, fair_record(fifo, 0, 16)) == inval); // a priority of 0
        for (const auto& r :
             {deadline_record(0, 10 * ms, 0), deadline_record(1023, 10 * ms, 0), deadline_record(ms, 0, 0),
              deadline_record(11 * ms, 10 * ms, 0), deadline_record(ms, 10 * ms, 9 * ms),
              deadline_record(2000, 99'000, 0), deadline_record(ms, ms, 5000 * ms), deadline_record(ms, 10 * ms, -1),
              deadline_record(-1, 10 * ms, 0)})
            CHECK(set_attributes(self, 0, r) == inval);

        // A record of another size: what is not known here must be zero.
        const auto large = self.allocate(128);
        for (std::uint64_t i = 0; i < 128; i += 8)
            self.store(large + i, std::uint64_t{0});
        self.store(large, std::uint32_t{100});
        CHECK(self.call(nr::sched_setattr, 0, large, 0) == 0);
        self.store(large + 99, std::uint8_t{1});
        CHECK(self.call(nr::sched_setattr, 0, large, 0) == minus(posix::toobig));
        CHECK(self.load<std::uint32_t>(large) == 56);
        self.store(large, std::uint32_t{47});
        CHECK(self.call(nr::sched_setattr, 0, large, 0) == minus(posix::toobig));
        self.store(large, std::uint32_t{0}); // the first size
        CHECK(self.call(nr::sched_setattr, 0, large, 0) == 0);

        CHECK(self.call(nr::setpriority, 3, 0, 0) == inval);
        CHECK(self.call(nr::setpriority, -1, 0, 0) == inval);
        CHECK(self.call(nr::setpriority, 0, 4000, 0) == srch);
        CHECK(self.call(nr::setpriority, 1, 4000, 0) == srch);
        CHECK(self.call(nr::setpriority, 2, 4000, 0) == srch);
        CHECK(self.call(nr::getpriority, 3, 0) == inval);
        CHECK(self.call(nr::getpriority, 0, 4000) == srch);
        CHECK(self.call(nr::getpriority, 0, zombie) == srch);
        CHECK(self.call(nr::sched_getscheduler, 0) == normal);
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("who is not privileged takes less, up to the limits, and of its own threads")
{
    simulated_kernel machine;
    const auto perm = minus(posix::perm), acces = minus(posix::acces);
    const auto sleeper = machine.add([&](view& self) {
        sleep_for(self, 1000 * ms);
        self.exit(0);
    });
    const auto user = machine.add([&](view& self) {
        limit(self, 13, 18); // RLIMIT_NICE: down to 2
        limit(self, 14, 10); // RLIMIT_RTPRIO
        CHECK(self.call(nr::setresuid, 1000, 1000, 1000) == 0);
        CHECK(self.call(nr::setpriority, 0, 0, 10) == 0);
        CHECK(self.call(nr::setpriority, 0, 0, 2) == 0);
        CHECK(self.call(nr::setpriority, 0, 0, 1) == acces);
        CHECK(set_attributes(self, 0, fair_record(normal, 1)) == perm);
        CHECK(set_attributes(self, 0, fair_record(batch, 2)) == 0);
        CHECK(set_scheduler(self, 0, fifo, 10) == 0);
        CHECK(set_scheduler(self, 0, fifo, 11) == perm);
        CHECK(set_scheduler(self, 0, round_robin, 3) == 0);
        CHECK(set_priority(self, 0, 10) == 0);
        CHECK(set_attributes(self, 0, deadline_record(ms, 10 * ms, 0)) == perm);
        CHECK(set_scheduler(self, 0, idle, 0) == 0);
        CHECK(self.call(nr::setpriority, 0, 0, 1) == acces);
        CHECK(set_scheduler(self, 0, normal, 0) == 0); // nice 2 is allowed
        CHECK(set_scheduler(self, 0, normal | resets, 0) == 0);
        CHECK(set_scheduler(self, 0, normal, 0) == perm);

        CHECK(self.call(nr::setpriority, 0, 1, 19) == perm);
        CHECK(set_scheduler(self, 1, normal, 0) == perm);
        const auto at = self.allocate(8);
        self.store(at, std::uint64_t{1});
        CHECK(self.call(nr::sched_setaffinity, 1, 8, at) == perm);
        CHECK(self.call(nr::sched_setaffinity, 0, 8, at) == 0);
        CHECK(self.call(nr::sched_getscheduler, 1) == normal); // anybody may look
        CHECK(self.call(nr::setpriority, 2, 0, 19) == 0);
        self.exit(0);
    });
    const auto poor = machine.add([&](view& self) {
        CHECK(set_scheduler(self, 0, fifo, 20) == 0);
        CHECK(self.call(nr::setresuid, 1000, 1000, 1000) == 0);
        CHECK(set_scheduler(self, 0, fifo, 19) == 0); // lower, of the same policy
        CHECK(set_scheduler(self, 0, fifo, 20) == perm);
        CHECK(set_scheduler(self, 0, round_robin, 1) == perm);
        CHECK(set_scheduler(self, 0, idle, 0) == 0);
        CHECK(set_scheduler(self, 0, normal, 0) == perm); // as from nice 20 to 0
        self.exit(0);
    });
    machine.run([&](view& self) {
        CHECK(wait_for(self, self.fork(user)).word == 0);
        CHECK(wait_for(self, self.fork(poor)).word == 0);

        // By group and by user.
        const auto one = self.fork(sleeper), other = self.fork(sleeper);
        CHECK(self.call(nr::setpgid, one, one) == 0);
        CHECK(self.call(nr::setpgid, other, one) == 0);
        CHECK(self.call(nr::setpriority, 1, one, 7) == 0);
        CHECK((nice_of(self, 0, one) == 7 && nice_of(self, 0, other) == 7 && nice_of(self) == 0));
        CHECK(self.call(nr::setpriority, 0, other, -3) == 0);
        CHECK((nice_of(self, 1, one) == -3 && nice_of(self, 2, 0) == -3));
        CHECK(self.call(nr::setpriority, 2, 0, 4) == 0);
        CHECK((nice_of(self, 0, one) == 4 && nice_of(self, 0, other) == 4 && nice_of(self) == 4));
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("a child has what its parent has, or what a fresh one would")
{
    simulated_kernel machine;
    const auto tell = machine.add([&](view& self) {
        const auto r = attributes(self);
        self.exit(static_cast<int>(r.policy * 32) + (r.nice == 0 ? 0 : 16) + static_cast<int>(r.flags & 1) +
                  (r.priority != 0 ? 8 : 0) + (r.runtime == 5 * ms ? 4 : 0));
    });
    const auto child = [&](view& self) { return wait_for(self, self.fork(tell)).word >> 8; };
    machine.run([&](view& self) {
        CHECK(child(self) == normal * 32);
        CHECK(set_scheduler(self, 0, fifo, 9) == 0);
        CHECK(child(self) == fifo * 32 + 8);
        CHECK(set_scheduler(self, 0, fifo | resets, 9) == 0);
        CHECK(child(self) == normal * 32);
        CHECK(set_attributes(self, 0, fair_record(batch, -4, 0, 5 * ms)) == 0);
        CHECK(child(self) == batch * 32 + 16 + 4);
        CHECK(set_attributes(self, 0, fair_record(batch, -4, 1)) == 0);
        CHECK(child(self) == batch * 32);
        CHECK(set_attributes(self, 0, fair_record(batch, 0, 1, 5 * ms)) == 0);
        CHECK(child(self) == batch * 32);
        CHECK(set_attributes(self, 0, fair_record(idle, 4, 1)) == 0);
        CHECK(child(self) == idle * 32 + 16);
        CHECK(set_attributes(self, 0, deadline_record(ms, 10 * ms, 0)) == 0);
        CHECK(self.call(nr::fork) == minus(posix::again));
        CHECK(set_attributes(self, 0, deadline_record(ms, 10 * ms, 0, 1)) == 0);
        CHECK(child(self) == normal * 32);
        CHECK(execute(self, "/nothing", {"nothing"}) < 0);
        CHECK(attributes(self).policy == deadline);
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("deadline threads are let in up to their share, and the share of one that left comes back a period later")
{
    simulated_kernel machine;
    const auto half = deadline_record(10 * ms, 20 * ms, 20 * ms);
    const auto holder = machine.add([&](view& self) {
        CHECK(set_attributes(self, 0, half) == 0);
        sleep_for(self, 50 * ms);
        self.exit(0);
    });
    machine.run([&](view& self) {
        const auto busy = minus(posix::busy);
        const auto id = self.fork(holder);
        sleep_for(self, ms);
        CHECK(set_attributes(self, 0, half) == busy);
        CHECK(set_attributes(self, 0, deadline_record(9 * ms, 20 * ms, 20 * ms)) == 0); // 95 % in all
        CHECK(set_attributes(self, 0, half) == busy);
        CHECK(attributes(self).runtime == 9 * ms);
        CHECK(machine.kernel().deadline_claims().millionths_used() == 950'000);
        CHECK(wait_for(self, id).word == 0);
        CHECK(set_attributes(self, 0, deadline_record(18 * ms, 20 * ms, 20 * ms)) == busy);
        sleep_for(self, 20 * ms);
        CHECK(set_attributes(self, 0, deadline_record(18 * ms, 20 * ms, 20 * ms)) == 0);
        CHECK(set_scheduler(self, 0, normal, 0) == 0);
        CHECK(set_attributes(self, 0, half) == busy); // what it used itself
        sleep_for(self, 20 * ms);
        CHECK(set_attributes(self, 0, half) == 0);

        const auto at = self.allocate(8);
        self.store(at, std::uint64_t{0});
        CHECK(self.call(nr::sched_setaffinity, 0, 8, at) == busy);
        self.store(at, ~std::uint64_t{0});
        CHECK(self.call(nr::sched_setaffinity, 0, 8, at) == 0);
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("a thread that uses up its runtime waits for its next period, and hears of it if it asked to")
{
    simulated_kernel machine;
    int signals = 0;
    const auto handler = machine.add([&](view&) { ++signals; });
    machine.run([&](view& self) {
        CHECK(set_action(self, machine, signal::sigxcpu, handler) == 0);
        CHECK(set_attributes(self, 0, deadline_record(2 * ms, 10 * ms, 10 * ms)) == 0);
        sleep_for(self, 20 * ms);
        auto before = machine.kernel().now();
        self.spend(milliseconds(5));
        auto took = (machine.kernel().now() - before).nanoseconds();
        CHECK((took >= 21 * ms && took < 22 * ms));
        CHECK(signals == 0);

        CHECK(set_attributes(self, 0, deadline_record(2 * ms, 10 * ms, 10 * ms, 4)) == 0);
        sleep_for(self, 20 * ms);
        before = machine.kernel().now();
        self.spend(milliseconds(5));
        took = (machine.kernel().now() - before).nanoseconds();
        CHECK((took >= 21 * ms && took < 22 * ms));
        CHECK(signals == 2); // each as it goes on

        const auto metric = [&](std::string_view name) { return machine.kernel().metrics().value(name).value_or(999); };
        CHECK(metric("exo_sched_deadline_overruns_total") == 4);
        CHECK(metric("exo_sched_deadline_throttles_total") == 4);
        CHECK(metric("exo_sched_deadline_misses_total") == 0);
        CHECK(metric("exo_sched_queue_length{class=\"deadline\"}") == 0);
        const auto overrun = metric("exo_sched_errors_total{severity=\"caller\"}");
        CHECK(self.call(nr::sched_yield) == 0); // the job took too much, which is no error of the call
        CHECK(metric("exo_sched_errors_total{severity=\"caller\"}") == overrun + 1);
        {
            const auto text = file(self, "/proc/self/sched");
            CHECK(text.starts_with("sh (1, #threads: 1)\n---"));
            const auto has = [&](std::string_view name, std::string_view value) {
                return text.find("\n" + std::string{name} + std::string(45 - name.size(), ' ') + ":" +
                                 std::string(21 - value.size(), ' ') + std::string{value} + "\n") != std::string::npos;
            };
            CHECK((has("policy", "6") && has("prio", "-1") && has("dl.runtime", "2.000000")));
        }
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("a thread that uses up its runtime on the way to sleep hears of it, and does not sleep")
{
    unsigned on_the_way = 0;
    for (unsigned seed = 0; seed < 100; ++seed) {
        INFO("seed " << seed);
        simulated_kernel machine{2048};
        instant before{}, heard{};
        const auto handler = machine.add([&](view&) { heard = machine.kernel().now(); });
        machine.run([&](view& self) {
            CHECK(set_action(self, machine, signal::sigxcpu, handler) == 0);
            CHECK(set_attributes(self, 0, deadline_record(2 * ms, 10 * ms, 10 * ms, 4)) == 0);
            sleep_for(self, 20 * ms);
            self.spend(microseconds(1'995));
            before = machine.kernel().now();
            machine.platform().cpus_.explore(seed);
            sleep_for(self, 100 * ms);
            self.exit(0);
        });
        if (heard != instant{}) {
            ++on_the_way;
            CHECK(heard < before + milliseconds(20));
        }
        check_clean(machine);
    }
    CHECK(on_the_way > 30);
}

TEST_CASE("a thread of higher priority runs first, and fair ones by their nice values")
{
    simulated_kernel machine;
    std::string order;
    std::int64_t used[2]{};
    const auto urgent = machine.add([&](view& self) {
        order += 'u';
        self.exit(0);
    });
    const auto usual = machine.add([&](view& self) {
        order += 'n';
        self.exit(0);
    });
    int index = 0;
    const auto hungry = machine.add([&](view& self) {
        const int me = index++;
        sleep_for(self, 5 * ms);
        for (int i = 0; i < 2000; ++i) {
            self.spend(microseconds(100));
            used[me] += ms / 10;
        }
        self.exit(0);
    });
    machine.run([&](view& self) {
        CHECK(set_scheduler(self, 0, fifo, 50) == 0);
        const auto n = self.fork(usual), u = self.fork(urgent);
        CHECK(set_scheduler(self, n, normal, 0) == 0);
        CHECK(set_scheduler(self, u, fifo, 51) == 0); // takes the CPU
        CHECK(order == "u");
        CHECK(wait_for(self).word == 0);
        CHECK(wait_for(self).word == 0);
        CHECK(order == "un");

        const auto first = self.fork(hungry), second = self.fork(hungry);
        for (const auto id : {first, second})
            CHECK(set_scheduler(self, id, normal, 0) == 0);
        CHECK(self.call(nr::setpriority, 0, second, 5) == 0); // 335 of 1024
        sleep_for(self, 105 * ms);
        const auto share = static_cast<double>(used[1]) / static_cast<double>(used[0] + used[1]);
        CHECK((share > 0.22 && share < 0.27));
        CHECK(self.call(nr::kill, first, 9) == 0);
        CHECK(self.call(nr::kill, second, 9) == 0);
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("a real-time thread that never sleeps leaves others their part of each period, and /proc counts that")
{
    simulated_kernel machine;
    const auto spinner = machine.add([&](view& self) {
        self.spend(milliseconds(2980));
        self.exit(0);
    });
    std::int64_t took = 0;
    const auto beside = machine.add([&](view& self) {
        const auto before = machine.kernel().now();
        self.spend(milliseconds(90));
        took = (machine.kernel().now() - before).nanoseconds();
        self.exit(0);
    });
    machine.run([&](view& self) {
        CHECK(set_scheduler(self, 0, fifo, 60) == 0);
        const auto spins = self.fork(spinner), runs = self.fork(beside);
        CHECK(set_scheduler(self, runs, normal, 0) == 0);
        CHECK(set_scheduler(self, spins, fifo, 50) == 0);
        const auto metric = [&](std::string_view name) { return machine.kernel().metrics().value(name).value_or(999); };
        CHECK(metric("exo_sched_queue_length{class=\"real_time\"}") == 1);
        CHECK(metric("exo_sched_queue_length{class=\"fair\"}") == 1);
        CHECK(wait_for(self).id == runs);
        CHECK((took > 1000 * ms && took < 2100 * ms)); // 50 ms in each second
        CHECK(wait_for(self).id == spins);
        CHECK(metric("exo_sched_real_time_throttles_total") == 3);
        {
            const auto turns = file(self, "/proc/exo/trace");
            for (const auto id : {std::int64_t{1}, spins, runs})
                CHECK(turns.find("\"tid\":0,\"name\":\"sh/" + std::to_string(id) + "\",\"ts\":") != std::string::npos);
            CHECK(turns.find(",\"dur\":50000.") != std::string::npos); // what is left of each second
            CHECK(turns.find("{\"ph\":\"i\",\"pid\":1,\"tid\":0,\"name\":\"sh/1\"") != std::string::npos);
            CHECK(turns.ends_with("}\n]}\n"));
        }
        CHECK(metric("exo_sched_queue_length{class=\"real_time\"}") == 0);
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("the time of a program is its own when its samples are, and a CPU without a thread is not sampled")
{
    simulated_kernel machine;
    const auto worker = machine.add([&](view& self) {
        self.spend(milliseconds(500));
        self.exit(0);
    });
    machine.run([&](view& self) {
        const auto sampled = [&](std::string_view mode) {
            return machine.kernel().metrics().value("exo_sched_time_" + std::string{mode} + "_ns_total").value_or(1);
        };
        self.spend(milliseconds(1000));
        CHECK((sampled("user") > 980 * ms && sampled("user") <= 1000 * ms));
        CHECK((std::stoi(field(self, 14)) == 100 && field(self, 15) == "0"));

        const auto at = self.allocate(144);
        CHECK(self.call(nr::getrusage, 0, at) == 0);
        CHECK((self.load<std::int64_t>(at) == 1 && self.load<std::int64_t>(at + 16) == 0));
        auto before = sampled("user");
        CHECK(sleep_for(self, 1000 * ms) == 0);
        CHECK(sampled("user") - before <= 10 * ms);

        CHECK(wait_for(self, self.fork(worker)).word == 0);
        CHECK(sampled("user") - before > 480 * ms);
        CHECK(self.call(nr::times, at) > 0);
        CHECK((self.load<std::int64_t>(at) == 100 && self.load<std::int64_t>(at + 16) == 50));
        CHECK(file(self, "/proc/stat").starts_with("cpu  150 0 0 100 "));
        // Work in pieces that are shorter than the time between two samples.
        before = sampled("user");
        for (int i = 0; i < 100; ++i) {
            self.spend(milliseconds(8));
            CHECK(sleep_for(self, 5 * ms) == 0);
        }
        const auto found = sampled("user") - before;
        CHECK((found > 700 * ms && found < 900 * ms));
        CHECK(sampled("kernel") == 0);
        self.exit(0);
    });
    check_clean(machine);
}

TEST_CASE("a set of CPUs is kept, and must have one that there is")
{
    simulated_kernel machine;
    const auto tell = machine.add([&](view& self) {
        const auto at = self.allocate(16);
        self.store(at, std::uint64_t{0x5555});
        self.store(at + 8, std::uint64_t{0x5555});
        CHECK(self.call(nr::sched_getaffinity, 0, 16, at) == 8);
        CHECK((self.load<std::uint64_t>(at) == 1 && self.load<std::uint64_t>(at + 8) == 0x5555));
        auto& kernel = machine.kernel();
        CHECK(kernel.scheduler().affinity(kernel.current_thread().task).word(0) == 3); // inherited, for CPUs to come
        self.exit(0);
    });
    machine.run([&](view& self) {
        const auto inval = minus(posix::inval);
        const auto at = self.allocate(8);
        self.store(at, std::uint64_t{2});
        CHECK(self.call(nr::sched_setaffinity, 0, 8, at) == inval);
        self.store(at, std::uint64_t{3});
        CHECK(self.call(nr::sched_setaffinity, 0, 8, at) == 0);
        CHECK(self.call(nr::sched_setaffinity, 0, 1, at) == 0);
        CHECK(self.call(nr::sched_setaffinity, 0, 0, at) == inval);
        CHECK(self.call(nr::sched_setaffinity, 0, 8, 8) == minus(posix::fault));
        CHECK(self.call(nr::sched_setaffinity, 4000, 8, at) == minus(posix::srch));
        CHECK(self.call(nr::sched_getaffinity, 0, 7, at) == inval);
        CHECK(self.call(nr::sched_getaffinity, 0, 4, at) == inval);
        CHECK(self.call(nr::sched_getaffinity, 4000, 8, at) == minus(posix::srch));
        CHECK(self.call(nr::sched_getaffinity, 0, 8, 8) == minus(posix::fault));
        CHECK(wait_for(self, self.fork(tell)).word == 0);
        CHECK(file(self, "/proc/self/status").find("Cpus_allowed:\t1\nCpus_allowed_list:\t0\n") != std::string::npos);
        self.exit(0);
    });
    check_clean(machine);
}
