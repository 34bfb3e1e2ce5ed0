#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <exo/mm/heap.hpp>
#include <last_words.hpp>
#include <mm/plain.hpp>

using namespace exo;

namespace {

template <class Policy>
struct world {
    explicit world(std::size_t frame_count = 4096, unsigned cpus = 1)
        : frames{frame_count, cpus}, memory{frames.first, frame_count}, caches(cpus)
    {
        frames.add_all();
    }
    using heap_type = mm::heap<plain::memory, plain::frame_allocator, plain::interrupts, plain::cpus, Policy>;

    plain::frames frames;
    plain::memory memory;
    std::vector<mm::heap_cache> caches;
    heap_type heap{memory, frames.allocator, frames.interrupt_control, frames.cpu, caches};
};

} // namespace

TEST_CASE_TEMPLATE("Objects of all sizes and alignments never overlap, keep their contents, and all memory comes back",
                   Policy, mm::unchecked_heap, mm::checked_heap)
{
    std::mt19937 random{7};
    world<Policy> w;
    {
        struct object {
            std::size_t size;
            std::size_t alignment;
            unsigned char contents;
        };
        std::map<std::byte*, object> objects;
        for (int step = 0; step < 30'000; ++step) {
            if (objects.size() < 500 && random() % 9 < 5) {
                std::size_t size = random() % 3 != 0 ? random() % 300 : random() % 3000;
                if (random() % 200 == 0)
                    size = random() % 100'000;
                const std::size_t alignment = std::size_t{1} << (random() % 4 != 0 ? random() % 5 : random() % 14);
                auto* at = static_cast<std::byte*>(w.heap.allocate(size, alignment));
                REQUIRE(at);
                REQUIRE(w.memory.to_physical(at).is_aligned(alignment < 16 ? 16 : alignment));
                const auto next = objects.lower_bound(at);
                REQUIRE((next == objects.end() || at + size <= next->first));
                if (next != objects.begin())
                    REQUIRE((std::prev(next)->first + std::prev(next)->second.size <= at));
                const auto contents = static_cast<unsigned char>(random());
                std::memset(at, contents, size);
                objects.emplace(at, object{size, alignment, contents});
            } else if (!objects.empty()) {
                auto victim = std::next(objects.begin(), static_cast<int>(random() % objects.size()));
                std::byte* at = victim->first;
                const auto [size, alignment, contents] = victim->second;
                REQUIRE(
                    std::all_of(at, at + size, [filled = std::byte{contents}](std::byte b) { return b == filled; }));
                w.heap.deallocate(at, size, alignment);
                objects.erase(victim);
            }
        }
        std::size_t asked = 0;
        for (const auto& [at, o] : objects)
            asked += o.size;
        CHECK(w.heap.bytes_in_use() >= asked);
        for (const auto& [at, o] : objects)
            w.heap.deallocate(at, o.size, o.alignment);
    }
    CHECK(w.heap.bytes_in_use() == 0);
}

TEST_CASE("What the heap holds when nothing is in use is little, and goes back with it")
{
    plain::frames frames{4096};
    frames.add_all();
    plain::memory memory{frames.first, 4096};
    std::vector<mm::heap_cache> caches(1);
    {
        mm::heap<plain::memory, plain::frame_allocator, plain::interrupts, plain::cpus> heap{
            memory, frames.allocator, frames.interrupt_control, frames.cpu, caches};
        for (const std::size_t size : {16u, 64u, 700u, 2048u, 5000u}) {
            std::vector<void*> taken;
            for (int i = 0; i < 300; ++i)
                taken.push_back(heap.allocate(size, 8));
            CHECK(heap.bytes_in_use() >= 300 * size);
            for (void* at : taken)
                heap.deallocate(at, size, 8);
        }
        CHECK(heap.bytes_in_use() == 0);
        CHECK(heap.frames_held() < 40);
        CHECK(frames.allocator.free_frames() == 4096 - heap.frames_held());
    }
    CHECK(frames.allocator.free_frames() == 4096);
}

TEST_CASE("Out of memory is null, and what was there stays usable")
{
    world<mm::checked_heap> w{64};
    std::vector<void*> taken;
    while (void* at = w.heap.allocate(200, 8)) {
        std::memset(at, 1, 200);
        taken.push_back(at);
    }
    CHECK(taken.size() == 64 * 15); // every frame a slab of 15, with a red zone or without
    CHECK(w.heap.allocate(3000, 8) == nullptr);
    CHECK(w.heap.allocate(std::size_t{1} << 40, 8) == nullptr);
    CHECK(w.heap.allocate(8, 8) == nullptr);
    for (void* at : taken)
        w.heap.deallocate(at, 200, 8);
    void* at = w.heap.allocate(3000, 8);
    CHECK(at != nullptr);
    w.heap.deallocate(at, 3000, 8);
}

TEST_CASE("A large object that the checked heap cannot note is none, and its frames go back")
{
    world<mm::checked_heap> w{8};
    CHECK(w.heap.allocate(8 * page_size, 8) == nullptr);
    CHECK(w.frames.allocator.free_frames() == 8);
}

TEST_CASE("Objects move between the CPUs of their threads, and none is lost or given twice")
{
    constexpr unsigned threads = 3;
    world<mm::checked_heap> w{8192, threads};
    std::vector<std::pair<unsigned char*, std::size_t>> left[threads];
    std::atomic<bool> damaged{};
    const auto run = [&](unsigned cpu, std::vector<std::pair<unsigned char*, std::size_t>> mine) {
        plain::cpu_of_thread = cpu;
        std::mt19937 random{cpu};
        for (int i = 0; i < 20'000; ++i) {
            if (mine.size() < 200 && random() % 2 == 0) {
                const std::size_t size = 1 + random() % 600;
                auto* at = static_cast<unsigned char*>(w.heap.allocate(size, 8));
                at[0] = at[size - 1] = static_cast<unsigned char>(size);
                mine.emplace_back(at, size);
            } else if (!mine.empty()) {
                std::swap(mine[random() % mine.size()], mine.back());
                const auto [at, size] = mine.back();
                damaged = damaged || at[0] != static_cast<unsigned char>(size) || at[size - 1] != at[0];
                w.heap.deallocate(at, size, 8);
                mine.pop_back();
            }
        }
        left[cpu] = std::move(mine);
    };
    for (int round = 0; round < 2; ++round) {
        std::vector<std::thread> running;
        decltype(left) taken; // before any thread leaves more
        std::swap(left, taken);
        for (unsigned cpu = 0; cpu < threads; ++cpu)
            running.emplace_back(run, cpu, std::move(taken[(cpu + 1) % threads]));
        for (auto& thread : running)
            thread.join();
    }
    CHECK_FALSE(damaged);
    for (const auto& mine : left)
        for (const auto& [at, size] : mine)
            w.heap.deallocate(at, size, 8);
    CHECK(w.heap.bytes_in_use() == 0);
}

TEST_CASE("The checked heap finds misuse, and says of which object")
{
    world<mm::checked_heap> w;
    auto* first = static_cast<char*>(w.heap.allocate(100, 8));
    auto* second = static_cast<char*>(w.heap.allocate(100, 8));
    auto* large = static_cast<char*>(w.heap.allocate(9000, 8));
    const auto finds = [&](const char* what, const void* object, auto misuse) {
        char name[64];
        std::snprintf(name, sizeof name, "the object at %p of ", object);
        const auto words = last_words(misuse);
        CAPTURE(words);
        CHECK(words.find(what) != std::string::npos);
        CHECK(words.find(name) != std::string::npos);
    };
    CHECK(last_words([&] {
              std::memset(first, 1, 100);
              w.heap.deallocate(first, 100, 8);
              for (int i = 0; i < 200; ++i)
                  (void)w.heap.allocate(100, 8);
              std::memset(large, 1, 9000);
              w.heap.deallocate(large, 9000, 8);
          }) == "");

    finds("is freed twice", first, [&] {
        w.heap.deallocate(first, 100, 8);
        w.heap.deallocate(second, 100, 8);
        w.heap.deallocate(first, 100, 8);
    });
    for (const int at : {0, 1, 50, 99, 127}) {
        finds("was written to after it was freed", first, [&] {
            w.heap.deallocate(first, 100, 8);
            first[at] = 1;
            (void)w.heap.allocate(100, 8);
        });
        finds("was written to after it was freed", first, [&] {
            w.heap.deallocate(first, 100, 8);
            void* more[100]; // it goes back to its slab, and comes from there again
            for (auto& object : more)
                object = w.heap.allocate(100, 8);
            for (auto* object : more)
                w.heap.deallocate(object, 100, 8);
            w.heap.deallocate(second, 100, 8);
            first[at] = 1;
            for (int i = 0; i < 200; ++i)
                (void)w.heap.allocate(100, 8);
        });
    }
    for (const int at : {100, 101, 119, 120, 127})
        finds("was written to beyond its end", first, [&] {
            first[at] ^= 1;
            w.heap.deallocate(first, 100, 8);
        });
    for (const std::size_t size : {0u, 96u, 101u, 112u})
        finds("is freed with another size", first, [&] { w.heap.deallocate(first, size, 8); });
    finds("is freed with another size", first, [&] { w.heap.deallocate(first, 200, 8); });
    finds("is freed, but begins elsewhere", first + 16, [&] { w.heap.deallocate(first + 16, 100, 8); });

    finds("is freed twice", large, [&] {
        w.heap.deallocate(large, 9000, 8);
        w.heap.deallocate(large, 9000, 8);
    });
    auto* const other = static_cast<char*>(w.heap.allocate(9000, 8));
    auto* const upper = std::max(large, other); // the lower one stays
    finds("is freed twice", upper, [&] {
        w.heap.deallocate(upper, 9000, 8);
        w.heap.deallocate(upper, 9000, 8);
    });
    for (const int at : {9000, 9001, 12287, 12288, 16383})
        finds("was written to beyond its end", large, [&] {
            large[at] ^= 1;
            w.heap.deallocate(large, 9000, 8);
        });
    for (const std::size_t size : {3000u, 8999u, 9001u, 17000u})
        finds("is freed with another size", large, [&] { w.heap.deallocate(large, size, 8); });
    finds("is freed with another size", large, [&] { w.heap.deallocate(large, 9000, 8 * page_size); });
    finds("is freed with another size", first, [&] { w.heap.deallocate(first, 9000, 8); });
    for (const std::size_t offset : {std::size_t{16}, page_size, 2 * page_size})
        finds("is freed, but begins elsewhere", large + offset, [&] { w.heap.deallocate(large + offset, 9000, 8); });

    // Nobody takes what is indeterminate for zeros, nor for what was there before.
    std::memset(first, 0, 100);
    w.heap.deallocate(first, 100, 8);
    first = static_cast<char*>(w.heap.allocate(100, 8));
    CHECK(std::count(first, first + 100, first[0]) == 100);
    CHECK(first[0] != 0);
    CHECK(std::count(large, large + 9000, first[0]) == 9000);
    w.heap.deallocate(first, 100, 8);
    w.heap.deallocate(second, 100, 8);
    w.heap.deallocate(large, 9000, 8);
    w.heap.deallocate(other, 9000, 8);
}
