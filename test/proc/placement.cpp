// Where programs are put: at random, apart from each other, and at fixed places when that is asked for.

#include "world.hpp"

#include <bit>
#include <random>
#include <set>
#include <vector>

#include <exo/elf/auxiliary.hpp>
#include <exo/proc/placement.hpp>

using namespace exo;
using namespace world;

namespace {

constexpr std::uint64_t user_limit = 0x7fff'ffff'f000;
constexpr std::uint64_t usual_stack = 8 << 20;

TEST_CASE("without randomness everything is where Linux puts it")
{
    const auto plan = proc::plan_placement(user_limit, usual_stack, {});
    CHECK(plan.stack_top == user_limit);
    CHECK(plan.stack_begin == user_limit);
    CHECK(plan.program_bias == 0x5555'5555'4000);
    CHECK(plan.brk_gap == 0);
}

TEST_CASE("each distance has as many random bits as on Linux")
{
    constexpr std::uint64_t ones = ~std::uint64_t{0};
    const auto least = proc::plan_placement(user_limit, usual_stack, {});
    const auto most = proc::plan_placement(user_limit, usual_stack, {ones, ones, ones, ones});
    const auto pages = [](std::uint64_t distance) { return distance / page_size + 1; };
    CHECK(pages(least.stack_top - most.stack_top) == 1u << 22);
    CHECK(pages(least.layout.mapping_top - most.layout.mapping_top) == 1u << 28);
    CHECK(pages(most.program_bias - least.program_bias) == 1u << 28);
    CHECK(pages(most.brk_gap) == 1u << 13);
    CHECK(most.stack_top - most.stack_begin == 2 * page_size - 16);
}

TEST_CASE("random plans are aligned, keep stack, mappings and program apart, and use every bit")
{
    std::mt19937_64 random{std::random_device{}()};
    for (const std::uint64_t wish : {std::uint64_t{0}, usual_stack, std::uint64_t{1} << 34, ~std::uint64_t{0}}) {
        constexpr int draws = 4000;
        std::set<std::uint64_t> seen[4];
        std::vector<int> ones(64);
        for (int i = 0; i < draws; ++i) {
            const auto plan = proc::plan_placement(user_limit, wish, {random(), random(), random(), random()});
            const auto mapping_top = plan.layout.mapping_top.value();
            for (const auto place : {plan.stack_top, mapping_top, plan.program_bias, plan.brk_gap, plan.stack_limit})
                REQUIRE(place % page_size == 0);
            REQUIRE(plan.stack_begin % 16 == 0);
            REQUIRE(plan.stack_top <= user_limit);
            REQUIRE(plan.stack_begin > plan.stack_top - 2 * page_size);
            REQUIRE(plan.stack_limit >= page_size);
            REQUIRE(plan.layout.highest.value() == user_limit);
            REQUIRE(mapping_top + mm::stack_guard <= plan.stack_top - plan.stack_limit);
            constexpr std::uint64_t large_program = std::uint64_t{1} << 40;
            REQUIRE(plan.program_bias + large_program + plan.brk_gap < mapping_top);
            seen[0].insert(plan.stack_top);
            seen[1].insert(mapping_top);
            seen[2].insert(plan.program_bias);
            seen[3].insert(plan.stack_begin % page_size);
            const auto moved = (plan.program_bias - 0x5555'5555'4000) / page_size;
            for (unsigned bit = 0; bit < proc::random_program_bits; ++bit)
                ones[bit] += static_cast<int>(moved >> bit & 1);
        }
        for (int i = 0; i < 3; ++i)
            CHECK(seen[i].size() > draws * 99 / 100);
        CHECK(seen[3].size() == page_size / 16);
        // Ten standard deviations around the half.
        for (unsigned bit = 0; bit < proc::random_program_bits; ++bit)
            CHECK(std::abs(ones[bit] - draws / 2) < 10 * 32);
    }
}

// What a program sees of where it is.
struct places {
    std::uint64_t stack, mapping, brk;
    std::uint64_t random[2];
};

class observer {
public:
    explicit observer(simulated_kernel& machine)
    {
        machine.add_program("/bin/look", machine.add([this](view& self) {
            const auto stack = self.frame.rsp;
            places found{};
            found.stack = stack;
            found.mapping = static_cast<std::uint64_t>(self.call(nr::mmap, 0, 4096, 3, 0x22, -1, 0));
            found.brk = static_cast<std::uint64_t>(self.call(nr::brk, 0));
            // Behind argc, the arguments and the environment: the auxiliary vector.
            auto at = stack + 8 * (self.load<std::uint64_t>(stack) + 2);
            while (self.load<std::uint64_t>(at) != 0)
                at += 8;
            for (at += 8; self.load<std::uint64_t>(at) != 0; at += 16)
                if (self.load<std::uint64_t>(at) == static_cast<std::uint64_t>(elf::aux::random))
                    for (unsigned i = 0; i < 2; ++i)
                        found.random[i] = self.load<std::uint64_t>(self.load<std::uint64_t>(at + 8) + 8 * i);
            seen.push_back(found);
            self.exit(0);
        }));
        run = machine.add([](view& self) {
            execute(self, "/bin/look", {"/bin/look"});
            self.exit(1);
        });
    }
    void look(view& self, int times)
    {
        for (int i = 0; i < times; ++i) {
            self.fork(run);
            CHECK(wait_for(self).word == 0);
        }
    }
    // Of how many the three places and the random bytes differ.
    [[nodiscard]] std::array<std::size_t, 4> different() const
    {
        std::set<std::uint64_t> values[4];
        for (const auto& p : seen) {
            values[0].insert(p.stack);
            values[1].insert(p.mapping);
            values[2].insert(p.brk);
            CHECK(p.random[0] != p.random[1]);
            values[3].insert(p.random[0]);
            values[3].insert(p.random[1]);
        }
        return {values[0].size(), values[1].size(), values[2].size(), values[3].size()};
    }

    std::vector<places> seen;
    std::uint64_t run{};
};

TEST_CASE("programs start elsewhere each time, and with other random bytes")
{
    simulated_kernel machine;
    observer eye{machine};
    machine.run([&](view& self) {
        eye.look(self, 20);
        self.exit(0);
    });
    const auto [stacks, mappings, heaps, bytes] = eye.different();
    CHECK(stacks == 20);
    CHECK(mappings == 20);
    CHECK(heaps > 15); // of 8192 places
    CHECK(bytes == 40);
    check_clean(machine);
}

TEST_CASE("norandmaps on the command line fixes the places, and leaves the random bytes")
{
    simulated_kernel machine;
    machine.platform().options_.command_line = "quiet norandmaps x";
    observer eye{machine};
    machine.run([&](view& self) {
        eye.look(self, 5);
        self.exit(0);
    });
    CHECK(eye.different() == std::array<std::size_t, 4>{1, 1, 1, 10});
    const auto has = [](std::string_view line) {
        return boot_options{.command_line = line, .command = {}, .marker = {}}.has("norandmaps");
    };
    CHECK(has("norandmaps"));
    CHECK_FALSE(has("norandmapsx xnorandmaps"));
    CHECK_FALSE(has(""));
}

TEST_CASE("personality turns random places off for those executed next, but not for who gains rights")
{
    simulated_kernel machine;
    observer eye{machine};
    machine.run([&](view& self) {
        constexpr std::uint32_t ask = 0xffffffff, fixed = 0x40000;
        CHECK(self.call(nr::personality, ask) == 0);
        CHECK(self.call(nr::personality, 8) == minus(posix::inval)); // PER_LINUX32
        CHECK(self.call(nr::personality, fixed) == 0);
        CHECK(self.call(nr::personality, ask) == fixed);
        eye.look(self, 3);
        CHECK(self.call(nr::chmod, self.put("/bin/look"), 04755) == 0);
        CHECK(self.call(nr::setresuid, 5, 5, 5) == 0);
        eye.look(self, 3);
        CHECK(self.call(nr::personality, 0) == fixed);
        self.exit(0);
    });
    REQUIRE(eye.seen.size() == 6);
    CHECK(eye.seen[0].stack == eye.seen[1].stack);
    CHECK(eye.seen[1].mapping == eye.seen[2].mapping);
    CHECK(eye.seen[3].stack != eye.seen[4].stack);
    CHECK(eye.seen[4].mapping != eye.seen[5].mapping);
    CHECK(eye.seen[0].stack != eye.seen[3].stack);
    check_clean(machine);
}

} // namespace
