// Fork, copy-on-write faults and exit over real tables in host memory; hardware's part (the flush itself, the switch of
// roots) is counted and costs nothing here. Program memory is 4 KiB pages in one region, all present.

#include <benchmark/benchmark.h>

#include <cstdlib>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include <exo/arch/x86_64/paging.hpp>
#include <exo/arch/x86_64/paging_entries.hpp>
#include <exo/mm/address_space.hpp>
#include <exo/mm/frame_allocator.hpp>
#include <exo/mm/heap.hpp>
#include <exo/mm/memory_system.hpp>
#include <exo/mm/shootdown.hpp>

namespace {

using namespace exo;
using format = x86_64::paging_4_level;
using entry = format::entry;

constexpr std::uint64_t GiB = std::uint64_t{1} << 30;
constexpr virt_addr start{0x4000'0000'0000};
constexpr std::uint64_t TiB = std::uint64_t{1} << 40;

struct interrupts {
    using state = bool;
    state save_and_disable() noexcept { return std::exchange(enabled_, false); }
    void restore(const state& saved) noexcept { enabled_ = saved; }
    bool enabled() noexcept { return enabled_; }

private:
    bool enabled_ = true;
};

struct one_cpu {
    unsigned current_cpu() const noexcept { return 0; }
    unsigned cpu_limit() const noexcept { return 1; }
    void call(const cpu_set&, void (*)(void*) noexcept, void*) noexcept {}
};

struct counted_tlb {
    std::uint64_t flushes{};
    hal::translation_root loaded{};
    void invalidate_page(virt_addr) noexcept { ++flushes; }
    void invalidate_range(const virt_range&, std::uint64_t) noexcept { ++flushes; }
    void invalidate_space(hal::address_space_id) noexcept { ++flushes; }
    void invalidate_all() noexcept { ++flushes; }
    void load(const hal::translation_root& root, hal::remembered) noexcept { loaded = root; }
    [[nodiscard]] hal::translation_root current() const noexcept { return loaded; }
    [[nodiscard]] unsigned id_limit() const noexcept { return 1; }
};

// Prefaulted host memory, as frames from 0 on.
class host_memory {
public:
    explicit host_memory(std::size_t frames)
        : bytes_{static_cast<std::byte*>(std::aligned_alloc(page_size << 10, frames * page_size))}
    {
        std::memset(bytes_, 1, frames * page_size);
    }
    host_memory(const host_memory&) = delete;
    host_memory& operator=(const host_memory&) = delete;
    ~host_memory() { std::free(bytes_); }

    std::byte* to_pointer(phys_addr a) const noexcept { return bytes_ + a.value(); }
    phys_addr to_physical(const void* p) const noexcept
    {
        return phys_addr{static_cast<std::uint64_t>(static_cast<const std::byte*>(p) - bytes_)};
    }

private:
    std::byte* bytes_;
};

// One thread: nobody to wait for.
class no_waiting final : public sync::any_parker {
public:
    thread current() const noexcept override { return const_cast<no_waiting*>(this); }
    void park(instant) noexcept override { std::abort(); }
    void unpark(const thread&) noexcept override {}
    bool interrupted() const noexcept override { return false; }
    instant now() const noexcept override { return {}; }
    state save_and_disable() noexcept override { return 0; }
    void restore(const state&) noexcept override {}
    bool enabled() noexcept override { return true; }
};

using frames = mm::frame_allocator<interrupts, one_cpu>;
using heap = mm::heap<host_memory, frames, interrupts, one_cpu>;
using shootdown = mm::shootdown<counted_tlb, counted_tlb, one_cpu, one_cpu, interrupts>;
using memory_system = mm::memory_system<format, host_memory, x86_64::paging_entries, frames, shootdown>;
using space = mm::address_space<memory_system>;

// Leaves out what pages contain, and with it the limit that memory's bandwidth sets.
struct memory_without_contents : memory_system {
    using memory_system::memory_system;
    void zero(frame_number, std::uint64_t = 1) const noexcept {}
    void copy_page(frame_number, frame_number) const noexcept {}
};

// A pager that shows one and the same page everywhere, so that 1 GiB of tables needs no 1 GiB of memory.
class same_page final : public mm::pager {
public:
    explicit same_page(frames& f) : frames_{f}, page_{*f.allocate(0)} {}
    result<frame_number> get_page(std::uint64_t, bool) override
    {
        frames_.acquire(page_);
        return page_;
    }
    std::size_t get_present_pages(std::uint64_t first, std::span<mm::object_page> into) override
    {
        frames_.acquire(page_, static_cast<std::uint32_t>(into.size()));
        for (auto& p : into)
            p = {first++, page_};
        return into.size();
    }

private:
    void last_reference() noexcept override {}
    frames& frames_;
    frame_number page_;
};

// The frames that so much program memory takes for its tables, with room for what the cases add.
constexpr std::size_t frames_for(std::uint64_t bytes) { return bytes / page_size / 512 + (std::size_t{1} << 15); }

template <class Memory>
struct machine {
    using space = mm::address_space<Memory>;

    explicit machine(std::size_t frame_count)
        : phys{frame_count}, records{frame_count}, frames_{interrupt_control, cpu, frame_number{}, records, frame_caches}
    {
        frames_.add({phys_addr{}, frame_number{frame_count}.address()});
        kernel_root = *frames_.allocate(0);
        std::memset(phys.to_pointer(kernel_root.address()), 0, page_size);
        shootdown_.emplace(tlb, tlb, cpu, cpu, interrupt_control, translations, kernel_root.address());
        memory.emplace(typename Memory::parts{.phys = phys,
                                              .entries = entries,
                                              .frames = frames_,
                                              .shootdown = *shootdown_,
                                              .heap = heap_,
                                              .parker = parker,
                                              .counters = counters,
                                              .kernel_root = kernel_root.address()});
    }

    interrupts interrupt_control;
    one_cpu cpu;
    host_memory phys;
    std::vector<mm::frame_info> records;
    std::vector<mm::frame_cache> frame_caches{1};
    frames frames_;
    std::vector<mm::heap_cache> heap_caches{1};
    heap heap_{phys, frames_, interrupt_control, cpu, heap_caches};
    x86_64::paging_entries entries;
    counted_tlb tlb;
    no_waiting parker;
    frame_number kernel_root;
    std::vector<shootdown::processor> translations{1};
    std::vector<mm::memory_counters> counters{1};
    std::optional<shootdown> shootdown_;
    std::optional<Memory> memory;
};

void must(const auto& outcome)
{
    if (!outcome)
        std::abort();
}

struct world : machine<memory_system> {
    same_page file{frames_};
    std::vector<ref<space>> parents;

    // `bytes` of memory in each of `count` spaces; the first is loaded.
    explicit world(std::uint64_t bytes, std::size_t count = 1) : machine{frames_for(bytes)}
    {
        parents.push_back(*space::create(*memory, {virt_addr{0x10000}, start, start + 2 * TiB}));
        (void)*parents[0]->map(
            {.address = start, .length = bytes, .where = mm::placement::fixed, .backing = ref<mm::pager>{file}});
        must(parents[0]->populate(virt_range::of_size(start, bytes), mm::access::read));
        parents[0]->activate();
        while (parents.size() < count)
            parents.push_back(*parents[0]->fork());
        dirty();
    }
    ~world()
    {
        for (auto& parent : parents) {
            parent->deactivate();
            parent.reset();
        }
    }
    // What a program does between two forks, at the least.
    void dirty()
    {
        for (auto& parent : parents)
            must(parent->handle_fault(start, mm::access::write));
    }
};

constexpr std::size_t batch = 64;

// Each of a batch of parents has written a page before it forks, while it is loaded. What is not fork lies outside of
// the measured time, but for the loading, and its pauses are one per batch.
void fork_space(benchmark::State& state, std::uint64_t bytes)
{
    world w{bytes, batch};
    std::vector<ref<space>> children(batch);
    std::uint64_t flushed = 0;
    for (auto _ : state) {
        const auto before = w.tlb.flushes;
        for (std::size_t i = 0; i < batch; ++i) {
            w.parents[i]->activate();
            children[i] = *w.parents[i]->fork();
        }
        flushed += w.tlb.flushes - before;
        state.PauseTiming();
        for (auto& child : children)
            child.reset();
        w.dirty();
        state.ResumeTiming();
    }
    const auto items = state.iterations() * static_cast<std::int64_t>(batch);
    state.SetItemsProcessed(items);
    state.counters["flushes"] = static_cast<double>(flushed) / static_cast<double>(items);
}

void exit_space(benchmark::State& state, std::uint64_t bytes)
{
    world w{bytes};
    std::vector<ref<space>> children(batch);
    for (auto _ : state) {
        state.PauseTiming();
        for (auto& child : children)
            child = *w.parents[0]->fork();
        state.ResumeTiming();
        for (auto& child : children)
            child.reset();
    }
    state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(batch));
}

// What fork costs that copies every entry, counts every page, and takes the right to write from both copies.
void fork_eager(benchmark::State& state)
{
    world w{GiB};
    std::vector<frame_number> tables;
    const auto* root = w.memory->tables.table_at(w.parents[0]->root());
    const auto below = [&](const entry* table, unsigned index, unsigned level) {
        return w.memory->tables.table_below(table[index], level);
    };
    const entry* middle = below(below(root, hal::index_at<format>(start, 3), 3), hal::index_at<format>(start, 2), 2);
    for (auto _ : state) {
        for (unsigned i = 0; i < hal::entries_per_table<format>; ++i) {
            entry* from = below(middle, i, 1);
            const auto copy = *w.frames_.allocate(0);
            entry* to = w.memory->tables.table_at(copy.address());
            for (unsigned j = 0; j < hal::entries_per_table<format>; ++j) {
                const entry e = format::without_write(from[j]);
                w.frames_.acquire(frame_number{format::address(e, 0)});
                from[j] = e;
                to[j] = e;
            }
            tables.push_back(copy);
        }
        state.PauseTiming();
        for (const auto table : tables) {
            for (unsigned j = 0; j < hal::entries_per_table<format>; ++j)
                (void)w.frames_.drop(frame_number{format::address(w.memory->tables.table_at(table.address())[j], 0)});
            w.frames_.free(table, 0);
        }
        tables.clear();
        state.ResumeTiming();
    }
    state.SetItemsProcessed(state.iterations());
}

// A child that writes all of its memory, after a fork that shared the tables, or with all tables copied at once. Fork,
// copies and faults are measured, the pages' contents left out; an item is one page.
void fork_write_all(benchmark::State& state, bool eager)
{
    using quick_machine = machine<memory_without_contents>;
    using quick_space = quick_machine::space;
    constexpr std::uint64_t pages = GiB / page_size;
    const auto memory = virt_range::of_size(start, GiB);
    quick_machine m{2 * pages + frames_for(GiB)};
    auto parent = *quick_space::create(*m.memory, {virt_addr{0x10000}, start, start + 2 * GiB});
    (void)*parent->map({.address = start, .length = GiB, .where = mm::placement::fixed});
    must(parent->advise(memory, [](mm::region_advice& advice) { advice.large = mm::large_pages::refused; }));
    must(parent->populate(memory, mm::access::write));
    parent->activate();
    for (auto _ : state) {
        auto child = *parent->fork();
        if (eager) {
            memory_without_contents::holders nobody{~std::uint64_t{0}};
            mm::space_tables<memory_without_contents> tables{*m.memory, frame_number{child->root()}};
            mm::table_changes<memory_without_contents> to{*m.memory, nobody};
            must(tables.own_range(memory, mm::space_tables<memory_without_contents>::extent::inside, to));
            to.flush();
        }
        for (std::uint64_t i = 0; i < pages; ++i)
            must(child->handle_fault(start + i * page_size, mm::access::write));
        state.PauseTiming();
        child.reset();
        state.ResumeTiming();
    }
    parent->deactivate();
    state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(pages));
}

// A fault on a page whose tables are the space's own already: the copy of the page included.
void cow_fault(benchmark::State& state)
{
    constexpr std::uint64_t pages = 512;
    world w{pages * page_size};
    for (auto _ : state) {
        for (std::uint64_t i = 0; i < pages; ++i)
            must(w.parents[0]->handle_fault(start + i * page_size, mm::access::write));
        state.PauseTiming();
        must(w.parents[0]->discard(virt_range::of_size(start, pages * page_size)));
        must(w.parents[0]->populate(virt_range::of_size(start, pages * page_size), mm::access::read));
        state.ResumeTiming();
    }
    state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(pages));
}
void copy_page(benchmark::State& state)
{
    constexpr std::size_t pages = 512;
    constexpr std::size_t source = 2 * pages;
    host_memory memory{source + 1};
    std::size_t i = 0;
    for (auto _ : state) {
        std::memcpy(memory.to_pointer(frame_number{i}.address()),
                    memory.to_pointer(frame_number{source}.address()), page_size);
        benchmark::ClobberMemory();
        i = (i + 1) % pages;
    }
    state.SetItemsProcessed(state.iterations());
}

} // namespace

BENCHMARK_CAPTURE(fork_space, small, page_size)->Name("mm/fork/4KiB");
BENCHMARK_CAPTURE(fork_space, large, GiB)->Name("mm/fork/1GiB");
BENCHMARK_CAPTURE(fork_space, huge, TiB)->Name("mm/fork/1TiB");
BENCHMARK(fork_eager)->Name("mm/fork_eager/1GiB");
BENCHMARK_CAPTURE(exit_space, small, page_size)->Name("mm/exit/4KiB");
BENCHMARK_CAPTURE(exit_space, large, GiB)->Name("mm/exit/1GiB");
BENCHMARK_CAPTURE(fork_write_all, shared, false)->Name("mm/fork_write_all/1GiB");
BENCHMARK_CAPTURE(fork_write_all, eager, true)->Name("mm/fork_eager_write_all/1GiB");
BENCHMARK(cow_fault)->Name("mm/cow_fault");
BENCHMARK(copy_page)->Name("mm/limit/copy_page");
