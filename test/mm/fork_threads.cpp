// Address spaces of one family, each used by a host thread on a CPU of its own, all at once: they un-share, copy and
// drop the same tables and pages. Run under ThreadSanitizer too.

#include <doctest/doctest.h>

#include <atomic>
#include <cstring>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include <exo/arch/x86_64/paging.hpp>
#include <exo/arch/x86_64/paging_entries.hpp>
#include <exo/mm/address_space.hpp>
#include <exo/mm/errors.hpp>
#include <exo/mm/heap.hpp>
#include <exo/mm/memory_system.hpp>
#include <exo/mm/pager.hpp>
#include <exo/mm/shootdown.hpp>
#include <exo/sim/host_threads.hpp>
#include <mm/plain.hpp>

using namespace exo;

namespace {

constexpr unsigned thread_count = 4;
constexpr std::size_t frame_count = 16 * 1024;
constexpr virt_addr base{0x4000'0000};
constexpr std::uint64_t pages = 1030; // in four last-level tables
constexpr virt_addr begin = base - 5 * page_size;

// No translations are remembered here; what the simulated machine tests needs no repetition.
struct no_tlb {
    void invalidate_page(virt_addr) noexcept {}
    void invalidate_range(const virt_range&, std::uint64_t) noexcept {}
    void invalidate_space(hal::address_space_id) noexcept {}
    void invalidate_all() noexcept {}
    void call(const cpu_set&, void (*)(void*) noexcept, void*) noexcept {}
    void load(const hal::translation_root&, hal::remembered) noexcept {}
    [[nodiscard]] hal::translation_root current() const noexcept { return {}; }
    [[nodiscard]] unsigned id_limit() const noexcept { return 1; }
};

using heap = mm::heap<plain::memory, plain::frame_allocator, plain::interrupts, plain::cpus>;
using shootdown = mm::shootdown<no_tlb, no_tlb, no_tlb, plain::cpus, plain::interrupts>;
using memory_system =
    mm::memory_system<x86_64::paging_4_level, plain::memory, x86_64::paging_entries, plain::frame_allocator, shootdown>;
using space = mm::address_space<memory_system>;

std::uint64_t value_at(space& s, std::uint64_t page)
{
    std::uint64_t value = 0;
    if (!s.read(begin + page * page_size, std::as_writable_bytes(std::span{&value, 1})))
        return ~std::uint64_t{0};
    return value;
}
bool set(space& s, std::uint64_t page, std::uint64_t value)
{
    return s.write(begin + page * page_size, std::as_bytes(std::span{&value, 1})).has_value();
}

// What the spaces live in. At its end every frame is free again.
struct machine {
    plain::frames f{frame_count, thread_count};
    plain::memory phys{f.first, frame_count};
    std::vector<mm::heap_cache> caches{thread_count};
    no_tlb none;
    x86_64::paging_entries entries;
    sim::host_threads threads;
    frame_number kernel_root;
    std::optional<heap> objects;
    std::vector<shootdown::processor> translations{thread_count};
    std::vector<mm::memory_counters> counters{thread_count};
    std::optional<shootdown> tell;
    std::optional<memory_system> memory;

    machine()
    {
        f.add_all();
        objects.emplace(phys, f.allocator, f.interrupt_control, f.cpu, caches);
        kernel_root = *f.allocator.allocate(0);
        std::memset(phys.to_pointer(kernel_root.address()), 0, page_size);
        tell.emplace(none, none, none, f.cpu, f.interrupt_control, translations, kernel_root.address());
        memory.emplace(memory_system::parts{.phys = phys,
                                            .entries = entries,
                                            .frames = f.allocator,
                                            .shootdown = *tell,
                                            .heap = *objects,
                                            .parker = threads,
                                            .counters = counters,
                                            .kernel_root = kernel_root.address()});
    }
    ~machine()
    {
        memory.reset();
        tell.reset();
        objects.reset();
        f.allocator.free(kernel_root, 0);
        CHECK(f.allocator.free_frames() == frame_count);
    }
    [[nodiscard]] ref<space> make_space()
    {
        return *space::create(*memory, {virt_addr{0x10000}, base, base + (std::uint64_t{1} << 32)});
    }
};

} // namespace

TEST_CASE("Spaces that un-share the same tables at once keep their contents apart, and nothing is lost or leaked")
{
    machine m;
    auto parent = m.make_space();
    REQUIRE(parent->map({.address = begin, .length = pages * page_size, .where = mm::placement::fixed}));
    for (std::uint64_t i = 0; i < pages; ++i)
        REQUIRE(set(*parent, i, i));

    std::atomic<unsigned> wrong{};
    for (int round = 0; round < 8; ++round) {
        std::vector<ref<space>> children;
        for (unsigned t = 0; t < thread_count; ++t)
            children.push_back(*parent->fork());
        std::vector<std::thread> running;
        for (unsigned t = 0; t < thread_count; ++t)
            running.emplace_back([&, t, mine = std::move(children[t])]() mutable {
                plain::cpu_of_thread = t;
                std::mt19937 random{t + static_cast<unsigned>(round) * 16};
                std::vector<std::uint64_t> expected(pages);
                for (std::uint64_t i = 0; i < pages; ++i)
                    expected[i] = i;
                for (int step = 0; step < 300; ++step) {
                    const auto page = random() % pages;
                    if (random() % 3 != 0) {
                        expected[page] = random();
                        wrong += !set(*mine, page, expected[page]);
                    } else {
                        wrong += value_at(*mine, page) != expected[page];
                    }
                    if (step % 60 == 59) { // the child goes on, its parent ends
                        auto child = mine->fork();
                        wrong += !child;
                        mine = std::move(*child);
                    }
                }
                for (std::uint64_t i = 0; i < pages; ++i)
                    wrong += value_at(*mine, i) != expected[i];
                mine.reset();
            });
        for (auto& thread : running)
            thread.join();
        REQUIRE(wrong == 0);
    }
    for (std::uint64_t i = 0; i < pages; ++i)
        REQUIRE(value_at(*parent, i) == i);
}

TEST_CASE("A space is forked while an object that it maps becomes smaller")
{
    // All of it is behind its end.
    struct emptied final : mm::pager {
        result<frame_number> get_page(std::uint64_t index, bool) override { return fail(mm::beyond_end, index); }
        mm::object_mappings* mappings() noexcept override { return &known_to; }
        void last_reference() noexcept override {}
        mm::object_mappings known_to;
    };
    machine m;
    emptied object;
    const auto map = [&](space& s, std::uint64_t index) {
        REQUIRE(s.map({.address = begin + index * page_size,
                       .length = page_size,
                       .where = mm::placement::fixed,
                       .backing = ref<mm::pager>{object}}));
    };
    std::vector<ref<space>> others; // asked before the parent, whose children are asked meanwhile
    for (int i = 0; i < 32; ++i)
        map(*others.emplace_back(m.make_space()), 0);
    auto parent = m.make_space();
    for (std::uint64_t i = 0; i < 64; ++i)
        map(*parent, 2 * i);
    std::atomic<bool> ends{};
    std::thread shrinks{[&] {
        plain::cpu_of_thread = 1;
        while (!ends)
            CHECK(object.known_to.forget_from(m.threads, 0));
    }};
    for (int i = 0; i < 1000; ++i)
        REQUIRE(parent->fork());
    ends = true;
    shrinks.join();
    parent.reset();
    others.clear();
    CHECK(object.reference_count() == 1);
}
