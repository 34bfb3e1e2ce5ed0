// The parts of proc that stand without a kernel: signal queues, statuses, identities, script lines, packed strings,
// random bytes, the log's text.

#include <doctest/doctest.h>

#include <cstdlib>
#include <string>
#include <string_view>

#include <exo/base/random_generator.hpp>
#include <exo/kernel_log.hpp>
#include <exo/proc/cpu_time.hpp>
#include <exo/proc/credentials.hpp>
#include <exo/proc/exec.hpp>
#include <exo/proc/signal.hpp>
#include <exo/proc/string_list.hpp>
#include <exo/proc/wait_status.hpp>

using namespace exo;
using proc::signal;
using proc::signal_set;

namespace {

// malloc, but the nth request fails.
class counted_heap final : public allocator {
public:
    void* allocate(std::size_t bytes, std::size_t alignment) noexcept override
    {
        if (left == 0)
            return nullptr;
        --left;
        ++in_use;
        return std::aligned_alloc(alignment < 16 ? 16 : alignment, (bytes + 63) & ~std::size_t{63});
    }
    void deallocate(void* memory, std::size_t, std::size_t) noexcept override
    {
        --in_use;
        std::free(memory);
    }
    std::size_t left{1000};
    int in_use{};
};

TEST_CASE("pending signals: standard ones once, real-time ones in order, synchronous ones first")
{
    proc::pending_signals pending;
    const signal real_time{40};
    CHECK(pending.add({.number = signal::sigterm, .code = 1}));
    CHECK(pending.add({.number = signal::sigterm, .code = 2}));
    CHECK(pending.add({.number = real_time, .value = 1}));
    CHECK(pending.add({.number = real_time, .value = 2}));
    CHECK(pending.add({.number = signal::sigsegv}));
    const signal_set all{~std::uint64_t{0}};
    CHECK(pending.take(signal_set::of(signal::sigint)).number == signal::none);
    CHECK(pending.take(all).number == signal::sigsegv);
    const auto first = pending.take(all);
    CHECK(first.number == signal::sigterm);
    CHECK(first.code == 1);
    CHECK(pending.take(all).value == 1);
    CHECK(pending.set().contains(real_time));
    CHECK(pending.take(all).value == 2);
    CHECK(pending.set().empty());
    CHECK(pending.take(all).number == signal::none);
}

TEST_CASE("a full queue refuses real-time signals and keeps standard ones without information")
{
    proc::pending_signals pending;
    const signal real_time{50};
    for (std::size_t i = 0; i < proc::pending_signals::information_limit; ++i)
        CHECK(pending.add({.number = real_time, .value = i}));
    CHECK(pending.add({.number = real_time}).error() == proc::errors::signal_queue_full);
    CHECK(pending.add({.number = signal::sigusr1, .code = 5}));
    CHECK(pending.take(signal_set::of(signal::sigusr1)).number == signal::sigusr1);
    pending.remove(signal_set::of(real_time));
    CHECK(pending.set().empty());
    CHECK(pending.add({.number = real_time}));
}

TEST_CASE("wait statuses are Linux's words")
{
    using proc::wait_status;
    CHECK(wait_status::exited(3).word() == 0x300);
    CHECK(wait_status::exited(256 + 4).shell_status() == 4);
    CHECK(wait_status::killed(signal::sigterm).word() == 15);
    CHECK(wait_status::killed(signal::sigsegv).word() == 11); // no core is written
    CHECK(wait_status::killed(signal::sigsegv).shell_status() == 139);
    CHECK(wait_status::stopped(signal::sigtstp).word() == 0x147f);
    CHECK(wait_status::continued().word() == 0xffff);
    CHECK(wait_status::stopped(signal::sigtstp).child_signal().code == 5);
    CHECK(wait_status::continued().child_signal().code == 6);
    CHECK(wait_status::killed(signal::sigkill).child_signal().code == 2);
    CHECK(wait_status::killed(signal::sigquit).child_signal().code == 2);
    CHECK(wait_status::exited(9).child_signal().status == 9);
}

TEST_CASE("ids change as POSIX lets them")
{
    proc::id_set ids{1, 2, 3};
    CHECK(proc::set_id(ids, 3, false));
    CHECK(ids.effective == 3);
    CHECK(ids.real == 1);
    CHECK_FALSE(proc::set_id(ids, 7, false));
    CHECK(proc::set_id(ids, 7, true));
    CHECK((ids.real == 7 && ids.effective == 7 && ids.saved == 7));
    CHECK_FALSE(proc::set_ids(ids, 7, 8, 7, false));
    CHECK(ids.effective == 7);
    CHECK(proc::set_ids(ids, 1, ~0u, 9, true));
    CHECK((ids.real == 1 && ids.effective == 7 && ids.saved == 9));
}

TEST_CASE("script lines are cut as Linux cuts them")
{
    const auto parse = [](std::string_view line) { return proc::parse_script_line(line); };
    CHECK(parse("\x7f" "ELF")->interpreter.empty());
    CHECK(parse("#!/bin/sh\n")->interpreter == "/bin/sh");
    CHECK(parse("#!/bin/sh\nrest")->argument.empty());
    CHECK(parse("#! \t/bin/sh  -e  x \t\n")->interpreter == "/bin/sh");
    CHECK(parse("#! \t/bin/sh  -e  x \t\n")->argument == "-e  x");
    CHECK(parse("#!/bin/sh")->interpreter == "/bin/sh");
    CHECK_FALSE(parse("#!\n"));
    CHECK_FALSE(parse("#!   \t\n/bin/sh"));
    CHECK_FALSE(parse("#!" + std::string(proc::longest_script_line - 2, 'x')));
    CHECK(parse("#!/bin/sh " + std::string(proc::longest_script_line - 12, 'x'))->argument.size() > 200);
}

TEST_CASE("packed strings grow, drop their first ones, and keep what they had when memory runs out")
{
    counted_heap heap;
    {
        proc::string_list list{heap};
        CHECK(list.append("one"));
        CHECK(list.append(""));
        CHECK(list.append(std::string(5000, 'z')));
        CHECK(list.count() == 3);
        CHECK(list.bytes().size() == 4 + 1 + 5001);
        proc::string_list rest{heap};
        CHECK(rest.append("zero"));
        CHECK(rest.append(list, 1));
        CHECK(rest.count() == 3);
        CHECK(std::string_view{rest.bytes().data() + 5}.empty());
        CHECK(std::string_view{rest.bytes().data() + 6}.size() == 5000);
        heap.left = 0;
        CHECK_FALSE(list.append(std::string(50'000, 'y')));
        CHECK(list.count() == 3);
        CHECK(std::string_view{list.bytes().data()} == "one");
    }
    CHECK(heap.in_use == 0);
}

TEST_CASE("random bytes follow from the seed and differ otherwise")
{
    random_generator a, b, c;
    const std::byte seed[40]{std::byte{1}};
    a.mix(seed);
    b.mix(seed);
    std::byte from_a[100], from_b[100], from_c[100];
    a.fill(from_a);
    b.fill(from_b);
    c.fill(from_c);
    CHECK(std::memcmp(from_a, from_b, sizeof from_a) == 0);
    CHECK(std::memcmp(from_a, from_c, sizeof from_a) != 0);
    b.fill(from_b);
    CHECK(std::memcmp(from_a, from_b, sizeof from_a) != 0);
    // The bytes of many draws are spread evenly enough: each of 256 values within a third of its share.
    int counts[256]{};
    for (int i = 0; i < 1000; ++i) {
        a.fill(from_a);
        for (const auto x : from_a)
            ++counts[std::to_integer<int>(x)];
    }
    for (const int count : counts) {
        CHECK(count > 260);
        CHECK(count < 521);
    }
}

TEST_CASE("log lines carry numbers, and are cut rather than overrun")
{
    log_line line;
    line << "a" << -5 << " " << std::uint64_t{18446744073709551615u} << " " << INT64_MIN;
    CHECK(line.finish() == "a-5 18446744073709551615 -9223372036854775808\n");
    log_line full;
    full << std::string(1000, 'x');
    CHECK(full.finish().size() == 256);
    CHECK(full.finish().back() == '\n');
}

} // namespace

TEST_CASE("busy time divides as it was sampled, and neither part ever becomes smaller")
{
    using enum proc::processor_mode;
    proc::cpu_time_split split;
    const auto divided = [&](int ms, int user, int system) {
        const auto times = split.divide(milliseconds(ms));
        return times.user == milliseconds(user) && times.system == milliseconds(system);
    };
    CHECK(divided(0, 0, 0));
    CHECK(divided(6, 6, 0)); // nothing is known yet
    split.sample(kernel);
    CHECK(divided(10, 6, 4));
    CHECK(divided(30, 6, 24));
    for (int i = 0; i < 3; ++i)
        split.sample(user);
    CHECK(divided(40, 16, 24));
    CHECK(divided(200, 150, 50));
    CHECK(divided(100, 150, 50)); // counted late elsewhere
    CHECK((split.sampled(user) == milliseconds(30) && split.sampled(kernel) == milliseconds(10)));
}

TEST_CASE("samples are taken at the clock's own times")
{
    const auto next = [](duration since_boot) { return proc::cpu_time_split::next_sample(instant{} + since_boot); };
    CHECK(next({}) == instant{} + milliseconds(10));
    CHECK(next(milliseconds(9)) == instant{} + milliseconds(10));
    CHECK(next(milliseconds(10)) == instant{} + milliseconds(20));
}

TEST_CASE("years of busy time divide without overflow")
{
    using enum proc::processor_mode;
    proc::cpu_time_split split;
    for (int i = 0; i < 300'000; ++i)
        split.sample(i % 3 == 0 ? kernel : user);
    const duration years = seconds(3'000'000'000);
    const auto times = split.divide(years);
    CHECK((times.system == seconds(1'000'000'000) && times.user == seconds(2'000'000'000)));
}
