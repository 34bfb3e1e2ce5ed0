// The laws of hal/context.hpp, for a model whose code can run on this machine.

#pragma once

#include <doctest/doctest.h>

#include <cstddef>
#include <span>
#include <vector>

#include <exo/hal/context.hpp>

namespace laws {

template <exo::hal::Context Machine>
void check_context(Machine& machine)
{
    struct shared {
        Machine& machine;
        typename Machine::context main, other;
        std::vector<std::byte> stack;
        int turns{};
        bool on_stack{};
    } s{machine, {}, {}, std::vector<std::byte>(64 * 1024)};

    // The first switch calls entry(argument) on the stack given; the next return where each was left.
    machine.prepare(s.other, s.stack,
                    [](void* argument) noexcept {
                        auto& both = *static_cast<shared*>(argument);
                        std::byte here{};
                        const auto* at = &here;
                        both.on_stack = at >= both.stack.data() && at < both.stack.data() + both.stack.size();
                        for (int local = 0;; ++local) {
                            both.turns += local == both.turns;
                            both.machine.switch_to(both.other, both.main);
                        }
                    },
                    &s);
    // Enough live values that some are in registers which a switch has to keep.
    long a = 1, b = 2, c = 3, d = 5, e = 8, f = 13, g = 21, h = 34;
    for (int i = 0; i < 100; ++i) {
        machine.switch_to(s.main, s.other);
        CHECK(s.turns == i + 1);
        a += b, b += c, c += d, d += e, e += f, f += g, g += h, h += i;
    }
    CHECK(s.on_stack);
    long expected[] = {1, 2, 3, 5, 8, 13, 21, 34};
    for (int i = 0; i < 100; ++i) {
        for (int k = 0; k < 7; ++k)
            expected[k] += expected[k + 1];
        expected[7] += i;
    }
    CHECK(std::vector{a, b, c, d, e, f, g, h} == std::vector<long>(expected, expected + 8));
}

} // namespace laws
