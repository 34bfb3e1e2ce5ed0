#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <map>
#include <random>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include <exo/mm/memory_map.hpp>
#include <laws/frame_source_laws.hpp>
#include <mm/plain.hpp>

using namespace exo;

namespace {

phys_range bytes(std::uint64_t begin, std::uint64_t end) { return {phys_addr{begin}, phys_addr{end}}; }

// A free frame allocator of frames that lie half below 4 GiB and half above.
constexpr std::uint64_t border = (std::uint64_t{4} << 30) / page_size;
struct two_zones : plain::frames {
    explicit two_zones(std::size_t count) : frames{count, 1, frame_number{border - count / 2}} { add_all(); }
};

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
    for (const unsigned cpus : {1u, 3u}) {
        plain::frames f{3000, cpus};
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
    for (const unsigned cpus : {1u, 3u}) {
        plain::frames f{9000, cpus};
        f.add_all();
        laws::check_frame_source(f.allocator, 10);
        CHECK(f.allocator.free_frames() == 9000);
    }
}

TEST_CASE("Freed frames join into the largest blocks again")
{
    for (const unsigned cpus : {1u, 3u}) {
        CAPTURE(cpus);
        plain::frames f{4096, cpus};
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
        plain::frames f{5000, seed, frame_number{1024 * seed}};
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
        f.allocator.drain_caches();
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
    f.allocator.drain_caches();
    CHECK(f.allocator.free_frames() == 4096);
    for (int i = 0; i < 4; ++i)
        CHECK(f.allocator.allocate(10));
}

TEST_CASE("Free memory is below a mark from the frame on that reaches it, caches counted, and above again with the next")
{
    using mm::watermark;
    for (const unsigned cpus : {1u, 3u}) {
        plain::frames f{6400, cpus};
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

TEST_CASE("Of every order, what a CPU gave back last it gets first, and the lists do not notice")
{
    plain::frames f{1 << 13};
    f.add_all();
    for (unsigned order = 0; order <= 10; ++order) {
        CAPTURE(order);
        const auto capacity = f.caches[0].capacity(order);
        std::vector<frame_number> blocks(capacity);
        for (auto& block : blocks)
            block = *f.allocator.allocate(order);
        f.allocator.drain_caches();
        const auto listed = f.allocator.free_frames(mm::frame_zone::below_4gib);
        for (int round = 0; round < 100; ++round) {
            for (const auto block : blocks)
                f.allocator.free(block, order);
            CHECK(f.allocator.cached_frames() == std::uint64_t{capacity} << order);
            for (auto i = blocks.size(); i-- > 0;)
                REQUIRE(*f.allocator.allocate(order) == blocks[i]);
            REQUIRE(f.allocator.free_frames(mm::frame_zone::below_4gib) == listed);
        }
        for (const auto block : blocks)
            f.allocator.free(block, order);
    }
}

TEST_CASE("Of a cache that overflows, what lies there longest leaves")
{
    plain::frames f{4096};
    f.add_all();
    auto taken = exhaust(f.allocator);
    for (const auto frame : taken)
        f.allocator.free(frame, 0);
    for (int i = 0; i < 32; ++i) {
        REQUIRE(*f.allocator.allocate(0) == taken.back());
        taken.pop_back();
    }
    CHECK(f.allocator.cached_frames() <= f.caches[0].capacity(0));
}

TEST_CASE("Caches of many CPUs keep little of a small memory, and are not drained again and again when little is free")
{
    constexpr unsigned cpus = 64;
    constexpr std::size_t mib = (std::size_t{1} << 20) / page_size;
    for (const std::size_t total : {64 * mib, 1024 * mib}) {
        CAPTURE(total);
        plain::frames f{total, cpus};
        f.add_all();
        const auto free_on_all = [&](const std::vector<frame_number>& frames) {
            for (std::size_t i = 0; i < frames.size(); ++i) {
                plain::cpu_of_thread = static_cast<unsigned>(i % cpus);
                f.allocator.free(frames[i], 0);
            }
            plain::cpu_of_thread = 0;
        };
        free_on_all(exhaust(f.allocator));
        CHECK(f.allocator.cached_frames() > cpus);
        CHECK(f.allocator.cached_frames() <= std::max<std::size_t>(total / 32, cpus * 16));

        std::vector<frame_number> in_use(total - 6000);
        REQUIRE(f.allocator.allocate_bulk(in_use));
        f.allocator.drain_caches();
        const auto drains = f.allocator.counters().drains.value();
        for (int round = 0; round < 10; ++round) { // every system call asks, as every CPU makes some
            std::vector<frame_number> taken;
            for (unsigned i = 0; i < 20 * cpus; ++i) {
                plain::cpu_of_thread = i % cpus;
                taken.push_back(*f.allocator.allocate(0));
                REQUIRE_FALSE(f.allocator.below(mm::watermark::low));
            }
            free_on_all(taken);
            REQUIRE_FALSE(f.allocator.below(mm::watermark::low));
        }
        CHECK(f.allocator.counters().drains.value() == drains);
    }
}

TEST_CASE("What lies in the caches of other CPUs is found before anything fails, also when it has to be put together")
{
    constexpr unsigned cpus = 4;
    plain::frames f{4096, cpus};
    f.add_all();
    const auto spread = [&](unsigned order) {
        std::vector<frame_number> blocks;
        while (const auto block = f.allocator.allocate(order))
            blocks.push_back(*block);
        f.allocator.drain_caches();
        for (std::size_t i = 0; i < blocks.size(); ++i) {
            plain::cpu_of_thread = static_cast<unsigned>(i % cpus);
            f.allocator.free(blocks[i], order);
        }
        plain::cpu_of_thread = 0;
    };
    for (unsigned order = 0; order <= 10; ++order) {
        CAPTURE(order);
        spread(order);
        REQUIRE(f.allocator.cached_frames() > 0);
        const auto singles = exhaust(f.allocator);
        CHECK(singles.size() == 4096);
        for (const auto frame : singles)
            f.allocator.free(frame, 0);

        spread(order);
        frame_number large[4];
        for (auto& block : large)
            block = f.allocator.allocate(10).value();
        for (const auto block : large)
            f.allocator.free(block, 10);

        spread(order);
        CHECK(f.allocator.allocate_below_4gib(10));
        std::vector<frame_number> rest(3072);
        CHECK(f.allocator.allocate_bulk(rest));
        CHECK(f.allocator.free_frames() == 0);
        f.allocator.free_bulk(rest);
        for (std::uint64_t i = 0; i < 4; ++i)
            if (const auto first = f.first + i * 1024; f.allocator.references(first) == 1)
                f.allocator.free(first, 10);
        REQUIRE(f.allocator.free_frames() == 4096);
    }
}

TEST_CASE("Memory below 4 GiB is kept for last, and for devices")
{
    using mm::frame_zone;
    two_zones f{4096};
    CHECK(f.allocator.free_frames(frame_zone::below_4gib) == 2048);
    CHECK(f.allocator.free_frames(frame_zone::above) == 2048);
    CHECK(f.allocator.free_blocks(frame_zone::above, 10) == 2);

    for (unsigned order = 0; order <= 10; ++order) {
        const auto block = *f.allocator.allocate_below_4gib(order);
        CHECK(block.value() + (1u << order) <= border);
        CHECK(f.allocator.references(block) == 1);
        f.allocator.free(block, order);
    }
    f.allocator.drain_caches();
    const auto taken = exhaust(f.allocator);
    CHECK(std::all_of(taken.begin(), taken.begin() + 2048, [](frame_number t) { return t.value() >= border; }));
    CHECK(taken.size() == 4096);
    for (const auto frame : taken)
        if (frame.value() >= border)
            f.allocator.free(frame, 0);
    CHECK(f.allocator.allocate_below_4gib(0).error() == errors::out_of_memory);
    CHECK(f.allocator.allocate(10));
    for (const auto frame : taken)
        if (frame.value() < border)
            f.allocator.free(frame, 0);
    CHECK(f.allocator.allocate_below_4gib(10));
    CHECK(f.allocator.allocate_below_4gib(10));
    CHECK(f.allocator.allocate_below_4gib(10).error() == errors::out_of_memory);
}

TEST_CASE("Frames in bulk are all had or none, in runs where there are any, and are freed one by one or in bulk")
{
    two_zones f{2048};
    for (const std::size_t count : {0u, 1u, 16u, 100u, 700u}) {
        CAPTURE(count);
        std::vector<frame_number> frames(count);
        REQUIRE(f.allocator.allocate_bulk(frames));
        CHECK(f.allocator.free_frames() == 2048 - count);
        std::size_t runs = 0;
        for (std::size_t i = 0; i < count; ++i) {
            REQUIRE(f.allocator.references(frames[i]) == 1);
            REQUIRE(f.allocator.block_of(frames[i]) == frames[i]);
            runs += i == 0 || frames[i] != frames[i - 1] + 1;
        }
        CHECK(runs <= 3 + count / 64);
        if (count % 2 == 0)
            f.allocator.free_bulk(frames);
        else
            for (const auto frame : frames)
                f.allocator.release(frame);
        f.allocator.drain_caches();
        CHECK(f.allocator.free_blocks(mm::frame_zone::above, 10) == 1);
        CHECK(f.allocator.free_blocks(mm::frame_zone::below_4gib, 10) == 1);
    }
    const auto one = *f.allocator.allocate(0);
    std::vector<frame_number> more(2048);
    CHECK(f.allocator.allocate_bulk(more).error() == errors::out_of_memory);
    CHECK(f.allocator.free_frames() == 2047);
    more.resize(2047);
    CHECK(f.allocator.allocate_bulk(more));
    CHECK(f.allocator.free_frames() == 0);
    f.allocator.free_bulk(more);
    f.allocator.free(one, 0);
    CHECK(f.allocator.free_frames() == 2048);
}

TEST_CASE("What was allocated and freed is counted, and what became of the caches")
{
    plain::frames f{1 << 14};
    f.add_all();
    std::uint64_t allocated = 0, freed = 0, failed = 0;
    const auto check = [&] {
        CHECK(f.allocator.frames_allocated() == allocated);
        CHECK(f.allocator.frames_freed() == freed);
    };
    check();
    std::vector<std::pair<frame_number, unsigned>> blocks;
    for (unsigned order = 0; order <= 10; ++order) {
        for (int i = 0; i < 9; ++i) {
            if (const auto block = f.allocator.allocate(order)) {
                blocks.emplace_back(*block, order);
                allocated += 1u << order;
            } else {
                ++failed;
            }
        }
        check();
    }
    for (const auto& [first, order] : blocks) {
        f.allocator.free(first, order);
        freed += 1u << order;
    }
    check();
    std::vector<frame_number> bulk(200);
    CHECK(f.allocator.allocate_bulk(bulk));
    allocated += 200;
    check();
    f.allocator.free_bulk(bulk);
    freed += 200;
    check();

    const auto& counters = f.allocator.counters();
    const auto refills = counters.refills.value(), spills = counters.spills.value(), drains = counters.drains.value();
    CHECK(failed > 0);
    CHECK(counters.failures.value() == failed);
    std::vector<frame_number> taken;
    f.allocator.drain_caches();
    CHECK(counters.drains.value() == drains + 1);
    for (int i = 0; i < 768; ++i)
        taken.push_back(*f.allocator.allocate(0));
    CHECK(counters.refills.value() == refills + 3);
    for (const auto frame : taken)
        f.allocator.free(frame, 0);
    CHECK(counters.spills.value() == spills + 8); // the cache holds 512, and 32 leave at a time
}

TEST_CASE("Threads on CPUs of their own take and give frames, also of each other, and lose none")
{
    constexpr unsigned threads = 4;
    constexpr std::size_t count = 1200; // they run out of them again and again
    plain::frames f{count, threads};
    f.add_all();
    struct block {
        frame_number first;
        unsigned order;
    };
    std::vector<std::atomic<int>> owner(count);
    std::vector<block> left[threads];
    std::atomic<bool> clash{};
    const auto mark = [&](block b, int taken) {
        for (std::uint64_t i = 0; i < 1u << b.order; ++i)
            clash = clash || owner[b.first + i - f.first].exchange(taken) == taken;
    };
    const auto run = [&](unsigned cpu, std::vector<block> mine) {
        plain::cpu_of_thread = cpu;
        std::mt19937 random{cpu};
        for (int i = 0; i < 10'000; ++i) {
            if (mine.size() < 300 && random() % 2 == 0) {
                const auto order = static_cast<unsigned>(random() % 8 != 0 ? 0 : random() % 6);
                if (const auto got = f.allocator.allocate(order)) {
                    mine.push_back({*got, order});
                    mark(mine.back(), 1);
                }
            } else if (!mine.empty()) {
                std::swap(mine[random() % mine.size()], mine.back());
                mark(mine.back(), 0);
                f.allocator.free(mine.back().first, mine.back().order);
                mine.pop_back();
            }
            if (frame_number some[20]; i % 100 == 0 && f.allocator.allocate_bulk(some)) {
                for (const auto frame : some)
                    mark({frame, 0}, 1);
                for (const auto frame : some)
                    mark({frame, 0}, 0);
                f.allocator.free_bulk(some);
            }
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
    CHECK(f.allocator.counters().drains.value() > 0);
    std::size_t in_use = 0;
    for (const auto& blocks : left)
        for (const block b : blocks)
            in_use += 1u << b.order;
    CHECK(f.allocator.free_frames() == count - in_use);
}

namespace {

// One CPU, on which an interrupt comes before a chosen atomic operation.
struct interrupted {
    static inline bool taken = true; // interrupts are on
    static inline int operations_left = 0;
    static inline std::function<void()> handler;

    static void before_operation()
    {
        if (taken && operations_left > 0 && --operations_left == 0) {
            taken = false;
            handler();
            taken = true;
        }
    }

    template <class T>
    class atomic {
    public:
        atomic(T value = {}) : value_{value} {}
        T load(std::memory_order) const noexcept { return before_operation(), value_; }
        void store(T value, std::memory_order) noexcept { before_operation(), value_ = value; }
        T exchange(T value, std::memory_order) noexcept { return before_operation(), std::exchange(value_, value); }
        T fetch_add(T n, std::memory_order) noexcept { return before_operation(), std::exchange(value_, value_ + n); }
        T fetch_sub(T n, std::memory_order) noexcept { return before_operation(), std::exchange(value_, value_ - n); }
        T fetch_or(T n, std::memory_order) noexcept { return before_operation(), std::exchange(value_, value_ | n); }
        T fetch_and(T n, std::memory_order) noexcept { return before_operation(), std::exchange(value_, value_ & n); }
        bool compare_exchange_weak(T& expected, T desired, std::memory_order, std::memory_order) noexcept
        {
            before_operation();
            if (value_ != expected)
                return expected = value_, false;
            return value_ = desired, true;
        }
        bool compare_exchange_strong(T& expected, T desired, std::memory_order s, std::memory_order f) noexcept
        {
            return compare_exchange_weak(expected, desired, s, f);
        }

    private:
        T value_;
    };
    static void fence(std::memory_order) noexcept {}
    static void pause() noexcept {}
    static void back_off(unsigned) noexcept {}

    using state = bool;
    state save_and_disable() noexcept { return std::exchange(taken, false); }
    void restore(const state& saved) noexcept { taken = saved; }
    bool enabled() noexcept { return taken; }

    unsigned current_cpu() const noexcept { return 0; }
    unsigned cpu_limit() const noexcept { return 1; }
};

struct interrupted_call {
    unsigned order;
    bool cached; // something is in the cache
    bool takes;
    bool handler_takes;
};

// Whether the interrupt came, before operation number `at` of the call.
bool interrupt(const interrupted_call& call, int at)
{
    using frame_allocator = mm::frame_allocator<interrupted, interrupted, interrupted>;
    constexpr std::size_t count = 512;
    interrupted cpu;
    std::vector<frame_allocator::frame_info> records(count);
    std::vector<frame_allocator::frame_cache> caches(1);
    frame_allocator frames{cpu, cpu, frame_number{1024}, records, caches};
    frames.add(phys_range::of_size(frame_number{1024}.address(), count * page_size));
    std::vector<frame_number> mine;
    const auto take = [&] {
        if (const auto got = frames.allocate(call.order))
            mine.push_back(*got);
    };
    const auto give = [&] {
        const auto last = mine.back();
        mine.pop_back();
        frames.free(last, call.order);
    };
    for (int i = 0; i < 5; ++i)
        take();
    if (call.cached)
        give();
    else
        frames.drain_caches();

    interrupted::handler = call.handler_takes ? std::function<void()>{take} : give;
    interrupted::operations_left = at;
    call.takes ? take() : give();
    const bool came = std::exchange(interrupted::operations_left, 0) == 0;
    call.takes ? take() : give(); // with what the interrupt left behind

    // Every frame is there once.
    std::set<frame_number> distinct(mine.begin(), mine.end());
    while (const auto got = frames.allocate(call.order))
        distinct.insert(*got), mine.push_back(*got);
    REQUIRE(mine.size() == count >> call.order);
    REQUIRE(distinct.size() == mine.size());
    REQUIRE(frames.free_frames() == 0);
    return came;
}

} // namespace

TEST_CASE("An interrupt whose handler takes or gives frames may come anywhere while the thread takes or gives some")
{
    for (const unsigned order : {0u, 3u, 6u})
        for (const bool cached : {false, true})
            for (const bool takes : {false, true})
                for (const bool handler_takes : {false, true}) {
                    CAPTURE(order);
                    CAPTURE(takes);
                    int at = 1;
                    while (interrupt({order, cached, takes, handler_takes}, at))
                        ++at;
                    CHECK(at > 4);
                }
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
