// What a batch tells a CPU to forget: runs, and the limit past which everything goes.

#include "mapper_world.hpp"

#include <string>
#include <vector>

namespace {

using namespace mapper_test;
using format = x86_64::paging_4_level;

struct recording_tlb {
    std::string log;

    void invalidate_page(virt_addr v) noexcept { note("page", v.value(), 1); }
    void invalidate_range(const virt_range& r, std::uint64_t step) noexcept
    {
        note("range", r.begin.value(), r.size() / step);
    }
    void invalidate_space(hal::address_space_id id) noexcept { note("space", std::to_underlying(id), 1); }
    void invalidate_all() noexcept { note("all", 0, 0); }

    void note(const char* what, std::uint64_t which, std::uint64_t count)
    {
        log += std::string{what} + " " + std::to_string(which) + "x" + std::to_string(count) + ";";
    }
};
static_assert(hal::Tlb<recording_tlb>);

struct nothing_retired {
    void put(frame_number) noexcept {}
    void release() noexcept {}
    [[nodiscard]] bool empty() const noexcept { return true; }
};

// What the TLB is told after `record(batch)`.
template <class Record>
std::string told(Record record)
{
    recording_tlb tlb;
    mm::local_flusher flusher{tlb, hal::address_space_id{9}};
    mm::flush_batch<decltype(flusher), nothing_retired> batch{flusher, {}};
    record(batch);
    CHECK(tlb.log.empty()); // nothing before flush
    batch.flush();
    CHECK(batch.empty());
    auto log = tlb.log;
    batch.flush(); // there is nothing left to tell
    CHECK(tlb.log == log);
    return log;
}

constexpr virt_addr zero{};

} // namespace

TEST_CASE("pages in a row become one range, others their own, in order")
{
    CHECK(told([](auto&) {}).empty());
    CHECK(told([](auto& b) { b.invalidate(zero + 0x5000, page_size, 1, false); }) == "page 20480x1;");
    CHECK(told([](auto& b) {
              b.invalidate(zero + 0x5000, page_size, 1, false);
              b.invalidate(zero + 0x6000, page_size, 2, false);
              b.invalidate(zero + 0x1000, page_size, 1, true);
              b.invalidate(zero + 0x20'0000, 0x20'0000, 1, false);
              b.invalidate(zero + 0x40'0000, page_size, 1, false);
          }) == "range 20480x3;range 4096x1;range 2097152x1;range 4194304x1;");
}

TEST_CASE("past its limits a batch forgets the space, or everything if a global page was among it")
{
    const auto pages = [](std::uint64_t count, bool global) {
        return told([&](auto& b) { b.invalidate(zero, page_size, count, global); });
    };
    const auto limit = mm::invalidation::page_limit;
    CHECK(pages(limit, false) == "range 0x" + std::to_string(limit) + ";");
    CHECK(pages(limit + 1, false) == "space 9x1;");
    CHECK(pages(limit + 1, true) == "all 0x0;");
    CHECK(told([](auto& b) {
              b.invalidate(zero, page_size, 1000, false);
              b.invalidate(zero, page_size, 1, true); // late, but global
          }) == "all 0x0;");
    const auto scattered = [](std::size_t runs) {
        return told([&](auto& b) {
            for (std::size_t i = 0; i < runs; ++i)
                b.invalidate(zero + 2 * i * page_size, page_size, 1, false);
        });
    };
    CHECK(scattered(mm::invalidation::run_limit).starts_with("range 0x1;range 8192x1;"));
    CHECK(scattered(mm::invalidation::run_limit + 1) == "space 9x1;");
    CHECK(told([](auto& b) { b.invalidate_everything(false); }) == "space 9x1;");
}

TEST_CASE("a set of CPUs holds what was added")
{
    cpu_set set = cpu_set::of(3);
    set.add(64);
    set.add(255);
    std::vector<unsigned> members;
    set.for_each([&](unsigned cpu) { members.push_back(cpu); });
    CHECK(members == std::vector<unsigned>{3, 64, 255});
    set.remove(64);
    CHECK(!set.contains(64));
    CHECK(set.contains(255));
    CHECK(set.size() == 2);
    CHECK(!set.contains(256));
    set.remove(3);
    set.remove(255);
    CHECK(set.empty());
    CHECK(cpu_set::first(2) == [] {
        auto two = cpu_set::of(0);
        two.add(1);
        return two;
    }());
}
