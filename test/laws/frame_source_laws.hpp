// The laws of hal/frame_source.hpp, for any model of FrameSource.

#pragma once

#include <doctest/doctest.h>

#include <random>
#include <utility>
#include <vector>

#include <exo/base/errors.hpp>
#include <exo/base/range.hpp>
#include <exo/hal/frame_source.hpp>

namespace laws {

// `frames` has blocks of the orders 0 to `largest_order`, and gives all of them back.
void check_frame_source(exo::hal::FrameSource auto& frames, unsigned largest_order)
{
    using namespace exo;
    std::minstd_rand random{11};
    std::vector<std::pair<frame_range, unsigned>> held;
    bool ran_out = false;
    for (int round = 0; round < 3; ++round) {
        for (int i = 0; i < 2'000; ++i) {
            const unsigned order = static_cast<unsigned>(random() % (largest_order + 1));
            const auto got = frames.allocate(order);
            if (!got) {
                REQUIRE(got.error() == errors::out_of_memory);
                ran_out = true;
                break;
            }
            const auto block = frame_range::of_size(*got, std::uint64_t{1} << order);
            REQUIRE(got->value() % block.size() == 0);
            for (const auto& [other, o] : held)
                REQUIRE(!block.overlaps(other));
            held.emplace_back(block, order);
        }
        while (held.size() > (round == 2 ? 0 : 10)) {
            std::swap(held[random() % held.size()], held.back());
            frames.free(held.back().first.begin, held.back().second);
            held.pop_back();
        }
    }
    CHECK(ran_out); // or the test was too small to say anything about failing
    // What came back serves again, in the largest size too.
    const auto large = frames.allocate(largest_order);
    REQUIRE(large);
    frames.free(*large, largest_order);
}

} // namespace laws
