#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>
#include <thread>
#include <vector>

#include <exo/mm/memory_map.hpp>
#include <laws/frame_source_laws.hpp>
#include <mm/plain.hpp>

using namespace exo;

namespace {

phys_range bytes(std::uint64_t begin, std::uint64_t end) { return {phys_addr{begin}, phys_addr{end}}; }

// Takes single frames until there are none.
std::vector<frame_number> exhaust(plain::frame_allocator& from)
{
    std::vector<frame_number> taken;
    while (const auto f = from.allocate(0))
        taken.push_back(*f);
    return taken;
}

} // namespace

TEST_CASE("Only frames that lie wholly in memory given are handed out, each once, and all of them")
{
    for (const bool caches : {false, true}) {
        plain::frames f{3000, 1, caches};
        const auto base = f.first.address().value();
        // A hole, edges in the middle of frames, and memory beyond the records.
        f.allocator.add(bytes(base + 100, base + 700 * page_size + 1));
        f.allocator.add(bytes(base + 1000 * page_size, base + 5000 * page_size));
        CHECK(f.allocator.total_frames() == 699 + 2000);
        CHECK(f.allocator.free_frames() == f.allocator.total_frames());

        std::vector<int> seen(3000);
        const auto taken = exhaust(f.allocator);
        for (const auto frame : taken)
            ++seen[frame - f.first];
        for (std::size_t i = 0; i < seen.size(); ++i)
            REQUIRE(seen[i] == ((i >= 1 && i < 700) || i >= 1000));
        CHECK(f.allocator.free_frames() == 0);
        CHECK(f.allocator.allocate(0).error() == errors::out_of_memory);
        CHECK(f.allocator.allocate(3).error() == errors::out_of_memory);
        for (const auto frame : taken)
            f.allocator.free(frame, 0);
        CHECK(f.allocator.free_frames() == f.allocator.total_frames());
    }
}

TEST_CASE("The frame allocator keeps the laws of a FrameSource")
{
    for (const bool caches : {false, true}) {
        plain::frames f{9000, 1, caches};
        f.add_all();
        laws::check_frame_source(f.allocator, 10);
        CHECK(f.allocator.free_frames() == 9000);
    }
}

TEST_CASE("Freed frames join into the largest blocks again")
{
    for (const bool caches : {false, true}) {
        CAPTURE(caches);
        plain::frames f{4096, 1, caches};
        f.add_all();
        auto taken = exhaust(f.allocator);
        std::shuffle(taken.begin(), taken.end(), std::mt19937{1});
        for (const auto frame : taken)
            f.allocator.free(frame, 0);
        for (int i = 0; i < 4; ++i) {
            const auto block = f.allocator.allocate(10);
            REQUIRE(block);
            CHECK(block->value() % 1024 == 0);
        }
        CHECK(f.allocator.free_frames() == 0);
    }
}

TEST_CASE("Random blocks never overlap, are aligned, and come back whole")
{
    for (const unsigned seed : {1u, 2u, 3u}) {
        CAPTURE(seed);
        std::mt19937 random{seed};
        plain::frames f{5000, 1, seed != 2, frame_number{1024 * seed}};
        f.add_all();
        std::map<std::uint64_t, unsigned> blocks; // by first frame
        std::uint64_t in_use = 0;
        for (int step = 0; step < 20'000; ++step) {
            if (blocks.empty() || random() % 5 < 3) {
                const auto order = static_cast<unsigned>(random() % 4 != 0 ? 0 : random() % 11);
                const auto block = f.allocator.allocate(order);
                if (!block)
                    continue;
                REQUIRE(block->value() % (1u << order) == 0);
                const auto next = blocks.lower_bound(block->value());
                REQUIRE((next == blocks.end() || block->value() + (1u << order) <= next->first));
                if (next != blocks.begin()) {
                    const auto before = std::prev(next);
                    REQUIRE(before->first + (1u << before->second) <= block->value());
                }
                blocks.emplace(block->value(), order);
                in_use += 1u << order;
            } else {
                auto victim = blocks.lower_bound(f.first.value() + random() % 5000);
                if (victim == blocks.end())
                    victim = blocks.begin();
                f.allocator.free(frame_number{victim->first}, victim->second);
                in_use -= 1u << victim->second;
                blocks.erase(victim);
            }
            REQUIRE(f.allocator.free_frames() == 5000 - in_use);
        }
        for (const auto& [first, order] : blocks)
            f.allocator.free(frame_number{first}, order);
        CHECK(f.allocator.free_frames() == 5000);
        f.allocator.drain_cache();
        std::size_t large = 0;
        while (f.allocator.allocate(10))
            ++large;
        CHECK(large == 4);
    }
}

TEST_CASE("A block is free again with the last reference to it")
{
    plain::frames f{64};
    f.add_all();
    const auto block = *f.allocator.allocate(2);
    f.allocator.acquire(block);
    CHECK(f.allocator.references(block) == 2);
    f.allocator.release(block);
    CHECK(f.allocator.free_frames() == 60);
    CHECK(f.allocator.drop(block)); // the last is the caller's to free
    CHECK(f.allocator.references(block) == 1);
    f.allocator.release(block);
    CHECK(f.allocator.free_frames() == 64);
    CHECK(f.allocator.manages(block));
    CHECK_FALSE(f.allocator.manages(frame_number{0}));
    CHECK_FALSE(f.allocator.manages(f.first + 64));
}

TEST_CASE("Every frame of a block leads to it, and a block split apart is as many frames as it had")
{
    plain::frames f{4096};
    f.add_all();
    const auto small = *f.allocator.allocate(0);
    const auto block = *f.allocator.allocate(9);
    for (std::uint64_t i = 0; i < 512; ++i)
        REQUIRE(f.allocator.block_of(block + i) == block);
    CHECK(f.allocator.block_of(small) == small);
    f.allocator.acquire(block, 2);
    CHECK(f.allocator.references(block) == 3);
    f.allocator.release(block);
    f.allocator.release(block);

    f.allocator.split(block);
    for (std::uint64_t i = 0; i < 512; ++i) {
        REQUIRE(f.allocator.block_of(block + i) == block + i);
        REQUIRE(f.allocator.references(block + i) == 1);
    }
    f.allocator.acquire(block + 100);
    f.allocator.release(block + 100);
    for (std::uint64_t i = 0; i < 512; ++i)
        f.allocator.release(block + i);
    f.allocator.free(small, 0);
    f.allocator.drain_cache();
    CHECK(f.allocator.free_frames() == 4096);
    for (int i = 0; i < 4; ++i)
        CHECK(f.allocator.allocate(10));
}

TEST_CASE("Free memory is below a mark from the frame on that reaches it, caches counted, and above again with the next")
{
    using mm::watermark;
    for (const bool caches : {false, true}) {
        plain::frames f{6400, 1, caches};
        f.add_all();
        CHECK(f.allocator.mark(watermark::min) == 25);
        CHECK(f.allocator.mark(watermark::low) == 100);
        CHECK(f.allocator.mark(watermark::high) == 200);
        for (const auto mark : {watermark::min, watermark::low, watermark::high}) {
            CHECK_FALSE(f.allocator.below(mark));
            std::vector<frame_number> taken;
            while (f.allocator.free_frames() > f.allocator.mark(mark))
                taken.push_back(*f.allocator.allocate(0));
            CHECK_FALSE(f.allocator.below(mark));
            const auto last = *f.allocator.allocate(0);
            CHECK(f.allocator.below(mark));
            f.allocator.free(last, 0);
            CHECK_FALSE(f.allocator.below(mark));
            for (const auto frame : taken)
                f.allocator.free(frame, 0);
        }
    }
    // Sixteen GiB have no more need of room than four.
    plain::frames large{std::size_t{1} << 22};
    large.add_all();
    CHECK(large.allocator.mark(watermark::low) == 64 << 20 >> page_shift);
}

TEST_CASE("Threads on CPUs of their own take and give frames, also of each other, and lose none")
{
    constexpr unsigned threads = 4;
    constexpr std::size_t count = 8192;
    plain::frames f{count, threads};
    f.add_all();
    std::vector<std::atomic<int>> owner(count);
    std::vector<frame_number> left[threads];
    std::atomic<bool> clash{};
    const auto run = [&](unsigned cpu, std::vector<frame_number> mine) {
        plain::cpu_of_thread = cpu;
        std::mt19937 random{cpu};
        for (int i = 0; i < 50'000; ++i) {
            if (mine.size() < 300 && random() % 2 == 0) {
                if (const auto got = f.allocator.allocate(0)) {
                    clash = clash || owner[*got - f.first].exchange(1) != 0;
                    mine.push_back(*got);
                }
            } else if (!mine.empty()) {
                std::swap(mine[random() % mine.size()], mine.back());
                owner[mine.back() - f.first] = 0;
                f.allocator.free(mine.back(), 0);
                mine.pop_back();
            }
            if (i % 1000 == 0)
                if (const auto block = f.allocator.allocate(5))
                    f.allocator.free(*block, 5);
        }
        left[cpu] = std::move(mine);
    };
    for (int round = 0; round < 2; ++round) { // in the second, each starts with what another took
        std::vector<std::thread> running;
        for (unsigned cpu = 0; cpu < threads; ++cpu)
            running.emplace_back(run, cpu, std::move(left[(cpu + 1) % threads]));
        for (auto& thread : running)
            thread.join();
    }
    CHECK_FALSE(clash);
    std::size_t in_use = 0;
    for (const auto& frames : left)
        in_use += frames.size();
    CHECK(f.allocator.free_frames() == count - in_use);
}

TEST_CASE("The map of memory keeps ranges apart, joined and in order, and finds room")
{
    mm::memory_map map;
    CHECK(map.add(bytes(0x5000, 0x9000)));
    CHECK(map.add(bytes(0x1000, 0x2000)));
    CHECK(map.add(bytes(0x2000, 0x3000))); // touches
    CHECK(map.add(bytes(0x8000, 0xa000))); // overlaps
    CHECK(map.add(bytes(0x7000, 0x7000))); // nothing
    REQUIRE(map.ranges().size() == 2);
    CHECK(map.ranges()[0] == bytes(0x1000, 0x3000));
    CHECK(map.ranges()[1] == bytes(0x5000, 0xa000));
    CHECK(map.extent() == bytes(0x1000, 0xa000));

    CHECK(map.remove(bytes(0, 0x1800)));
    CHECK(map.remove(bytes(0x6000, 0x6100)));
    REQUIRE(map.ranges().size() == 3);
    CHECK(map.ranges()[0] == bytes(0x1800, 0x3000));
    CHECK(map.ranges()[1] == bytes(0x5000, 0x6000));
    CHECK(map.ranges()[2] == bytes(0x6100, 0xa000));

    CHECK(*map.take(0x1000, 0x1000) == phys_addr{0x2000});
    CHECK(map.take(0x1000, 0x1000, phys_addr{0x5fff}).error() == errors::out_of_memory);
    CHECK(*map.take(0x800, 0x1000, phys_addr{0x5fff}) == phys_addr{0x5000});
    CHECK(map.take(0x8000, 0x1000).error() == errors::out_of_memory);
    REQUIRE(map.ranges().size() == 3);
    CHECK(map.ranges()[0] == bytes(0x1800, 0x2000));
    CHECK(map.ranges()[1] == bytes(0x5800, 0x6000));

    mm::memory_map full;
    for (std::uint64_t i = 0; i < mm::memory_map::capacity; ++i)
        REQUIRE(full.add(bytes(i * 0x2000, i * 0x2000 + 0x1000)));
    CHECK(full.add(bytes(0x1000'0000, 0x1000'1000)).error() == errors::out_of_memory);
    CHECK(full.remove(bytes(0x100, 0x200)).error() == errors::out_of_memory);
    CHECK(full.ranges().size() == mm::memory_map::capacity);
    CHECK(full.ranges()[0] == bytes(0, 0x1000));
}
