// A simulated machine with a memory system on it, whose allocations can be made to fail one by one, and a check that
// derives the counts of all frames from the page tables again.

#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <exo/arch/riscv64/sv48.hpp>
#include <exo/arch/x86_64/paging.hpp>
#include <exo/mm/address_space.hpp>
#include <exo/mm/frame_allocator.hpp>
#include <exo/mm/frame_pages.hpp>
#include <exo/mm/memory_system.hpp>
#include <exo/mm/shootdown.hpp>
#include <exo/sim/machine.hpp>

#include <one_page_each.hpp>

namespace space_test {

using namespace exo;

// Allocations of frames and objects in one sequence, one of which fails.
struct failures {
    std::size_t asked{};
    std::size_t fails_at{}; // 0: none

    void fail_nth(std::size_t n) { fails_at = asked + n; }
    void stop() { fails_at = 0; }
    [[nodiscard]] bool now() { return ++asked == fails_at; }
};

class heap final : public allocator {
public:
    explicit heap(failures& f) : failures_{f} {}
    void* allocate(std::size_t bytes, std::size_t) noexcept override
    {
        if (failures_.now())
            return nullptr;
        ++objects;
        return std::malloc(bytes);
    }
    void deallocate(void* memory, std::size_t, std::size_t) noexcept override
    {
        --objects;
        std::free(memory);
    }
    std::size_t objects{};

private:
    failures& failures_;
};

// Freed frames are poisoned, so that who still reads them notices.
class frames : public mm::frame_allocator<sim::driven_cpus, sim::driven_cpus> {
    using base = mm::frame_allocator<sim::driven_cpus, sim::driven_cpus>;

public:
    frames(sim::physical_memory& memory, failures& f, sim::driven_cpus& cpus, std::span<mm::frame_info> records,
           std::span<mm::frame_cache> caches)
        : base{cpus, cpus, memory.frames().begin, records, caches}, memory_{memory}, failures_{f}
    {
        add({memory.frames().begin.address(), memory.frames().end.address()});
    }
    // The last frame of memory has no record.
    [[nodiscard]] static frame_number device(const sim::physical_memory& memory)
    {
        return memory.frames().begin + (memory.frames().size() - 1);
    }

    result<frame_number> allocate(unsigned order) noexcept
    {
        return failures_.now() ? fail(errors::out_of_memory, page_size << order) : base::allocate(order);
    }
    void free(frame_number f, unsigned order) noexcept
    {
        std::memset(memory_.to_pointer(f.address()), sim::physical_memory::poison, page_size << order);
        base::free(f, order);
    }
    result<frame_number> try_allocate(unsigned order) noexcept
    {
        return failures_.now() ? fail(errors::out_of_memory, page_size << order) : base::try_allocate(order);
    }
    result<> allocate_bulk(std::span<frame_number> into) noexcept
    {
        return failures_.now() ? fail(errors::out_of_memory, into.size() * page_size) : base::allocate_bulk(into);
    }
    void free_bulk(std::span<const frame_number> freed) noexcept
    {
        for (const auto f : freed)
            std::memset(memory_.to_pointer(f.address()), sim::physical_memory::poison, page_size);
        base::free_bulk(freed);
    }
    void release(frame_number f) noexcept
    {
        if (drop(f))
            free(f, info(f).order);
    }

private:
    sim::physical_memory& memory_;
    failures& failures_;
};

// One thread: nobody to wait for.
class no_waiting final : public sync::any_parker {
public:
    thread current() const noexcept override { return const_cast<no_waiting*>(this); }
    void park(instant) noexcept override { EXO_PANIC("a single thread waits for itself"); }
    void unpark(const thread&) noexcept override {}
    bool interrupted() const noexcept override { return false; }
    instant now() const noexcept override { return {}; }
    state save_and_disable() noexcept override { return 0; }
    void restore(const state&) noexcept override {}
    bool enabled() noexcept override { return true; }
};

// A file: pages that a cache holds, numbered, of which some may be taken out of the cache.
class file final : public mm::pager {
public:
    file(mm::page_supply& pages, std::uint64_t count) : pages_{pages}, contents(count), dirty(count), size{count} {}

    result<frame_number> get_page(std::uint64_t index, bool for_write) override
    {
        if (index >= size)
            return fail(mm::beyond_end, index);
        if (!contents[index]) {
            contents[index] = EXO_TRY(pages_.allocate_page());
            *reinterpret_cast<std::uint64_t*>(contents[index].data()) = initial(index);
        }
        dirty[index] = dirty[index] || for_write;
        const auto f = contents[index].share().leak();
        if (meanwhile)
            std::exchange(meanwhile, {})();
        return f;
    }
    std::size_t get_present_pages(std::uint64_t first, std::span<mm::object_page> into) override
    {
        ++asked_what_is_present;
        std::size_t count = 0;
        for (std::uint64_t i = first; i < first + into.size() && i < size; ++i)
            if (contents[i])
                into[count++] = {i, contents[i].share().leak()};
        return count;
    }
    // As truncate does.
    result<> shrink(sync::any_parker& parker, std::uint64_t to)
    {
        const auto before = std::exchange(size, to);
        if (const auto forgotten = known_to.forget_from(parker, to); !forgotten) {
            size = before;
            return forgotten;
        }
        for (auto i = to; i < contents.size(); ++i)
            contents[i] = {};
        return {};
    }
    mm::object_mappings* mappings() noexcept override { return &known_to; }
    std::string_view name() const noexcept override { return "/a/file"; }
    mm::pager_identity identity() const noexcept override { return {1, 2}; }
    void last_reference() noexcept override { ended = true; }

    [[nodiscard]] static std::uint64_t initial(std::uint64_t index) { return 0xf11e'0000'0000 + index; }

private:
    mm::page_supply& pages_;

public:
    std::vector<mm::page> contents;
    std::vector<bool> dirty;
    std::uint64_t size; // pages
    mm::object_mappings known_to;
    std::function<void()> meanwhile; // once a page was asked for, and before it is mapped
    std::uint64_t asked_what_is_present{};
    bool ended{};
};

// Fills as much as it can: nothing stays small that can be large.
struct greedy {
    static bool wants_large(const mm::region& r, virt_range, mm::memory_left left) noexcept
    {
        return r.grows == mm::growth::fixed && left.free > 2048;
    }
    static std::uint64_t zeroed_pages(const mm::region&, virt_addr page, std::uint64_t, mm::memory_left) noexcept
    {
        return 1 + (page.value() >> page_shift) % 7;
    }
    static virt_range neighbours(const mm::region&, virt_addr page) noexcept
    {
        return virt_range::of_size(page.align_down(16 * page_size), 16 * page_size);
    }
};
static_assert(mm::FillPolicy<greedy>);

struct large_if_wanted : one_page_each {
    static bool wants_large(const mm::region& r, virt_range, mm::memory_left) noexcept
    {
        return r.advice.large == mm::large_pages::wanted;
    }
};

template <class Format, mm::FillPolicy Fill = one_page_each>
struct world {
    using machine_type = sim::machine<Format>;
    using paging = typename machine_type::paging_type;
    using shootdown_type =
        mm::shootdown<paging, paging, sim::driven_cpus, sim::driven_cpus, sim::driven_cpus>;
    using memory_type = mm::memory_system<Format, sim::physical_memory, typename machine_type::entries_type, frames,
                                          shootdown_type, Fill>;
    using space = mm::address_space<memory_type>;
    using entry = typename Format::entry;

    static constexpr std::uint64_t half = std::uint64_t{1} << (page_shift + Format::levels * Format::index_bits - 1);
    static constexpr mm::space_layout layout{virt_addr{0x10000}, virt_addr{half - (std::uint64_t{1} << 31)},
                                             virt_addr{half - page_size}};
    // The kernel sees this in every space.
    static constexpr virt_addr kernel_page{~std::uint64_t{0} - page_size + 1};

    explicit world(std::size_t frame_count = 4096, unsigned cpus = 1, unsigned id_limit = 16)
        : machine{frame_count, cpus, id_limit},
          records(frame_count - 1), frame_caches(cpus),
          frames_{machine.memory, failing, machine.cpus, records, frame_caches}, heap_{failing},
          pages{frames_, machine.memory}, kernel_root{make_kernel_root()}, translations(cpus), counters(cpus),
          shootdown{machine.paging, machine.paging, machine.cpus,         machine.cpus,
                    machine.cpus,   translations,   kernel_root.address()},
          memory{typename memory_type::parts{.phys = machine.memory,
                                                                              .entries = machine.entries,
                                                                              .frames = frames_,
                                                                              .shootdown = shootdown,
                                                                              .heap = heap_,
                                                                              .parker = parker,
                                                                              .counters = counters,
                                                                              .kernel_root = kernel_root.address()}}
    {
        for (unsigned cpu = 0; cpu < cpus; ++cpu)
            machine.cpus.on(cpu, [&] { machine.paging.load({kernel_root.address()}, hal::remembered::forget); });
        frames_at_rest = frames_.free_frames();
    }
    ~world()
    {
        // Nothing is left of the spaces, and nothing stale was ever used.
        CHECK(frames_.free_frames() == frames_at_rest);
        CHECK(heap_.objects == 0);
        for (const auto& violation : machine.unit.violations())
            FAIL_CHECK(violation);
    }

    [[nodiscard]] ref<space> make_space() { return *space::create(memory, layout); }

    void activate(space& s)
    {
        const auto saved = machine.cpus.save_and_disable();
        s.activate();
        machine.cpus.restore(saved);
    }
    void deactivate(space& s)
    {
        const auto saved = machine.cpus.save_and_disable();
        s.deactivate();
        machine.cpus.restore(saved);
    }

    // A program's access on this CPU, with `s` loaded: faults are answered until it works, or the program would be
    // killed.
    result<std::uint64_t> load(space& s, virt_addr a)
    {
        for (int tries = 0; tries < 5; ++tries) {
            const auto got = machine.template load<std::uint64_t>(a);
            if (got)
                return *got;
            (void)EXO_TRY(s.handle_fault(got.error().address, got.error().tried));
        }
        FAIL("a fault was answered, and nothing changed");
        return std::uint64_t{};
    }
    result<> store(space& s, virt_addr a, std::uint64_t value)
    {
        for (int tries = 0; tries < 5; ++tries) {
            const auto got = machine.store(a, value);
            if (got)
                return {};
            (void)EXO_TRY(s.handle_fault(got.error().address, got.error().tried));
        }
        FAIL("a fault was answered, and nothing changed");
        return {};
    }
    result<> execute(space& s, virt_addr a)
    {
        for (int tries = 0; tries < 5; ++tries) {
            const auto got = machine.access(a, mm::access::execute);
            if (got)
                return {};
            (void)EXO_TRY(s.handle_fault(got.error().address, got.error().tried));
        }
        FAIL("a fault was answered, and nothing changed");
        return {};
    }

    // Checks the counts of everything that `spaces` reach. `held`: references from elsewhere.
    void check_counts(const std::vector<space*>& spaces, std::map<frame_number, std::uint32_t> held = {})
    {
        std::map<frame_number, std::uint32_t> counts = std::move(held);
        std::set<frame_number> tables;
        for (space* s : spaces) {
            const frame_number root{s->root()};
            ++counts[root];
            visit(root, Format::levels - 1, counts, tables);
            REQUIRE(s->statistics().resident_pages == leaves_below(root, Format::levels - 1));
        }
        ++counts[kernel_root];
        std::uint64_t used = 0;
        for (const auto& [frame, count] : counts) {
            CAPTURE(frame.value());
            REQUIRE(frames_.references(frame) == count);
            REQUIRE((frames_.info(frame).table_levels != 0) == tables.contains(frame));
            used += std::uint64_t{1} << frames_.info(frame).order;
        }
        REQUIRE(frames_.total_frames() - frames_.free_frames() == used);
        REQUIRE(memory.counted(&mm::memory_counters::tables) == tables.size());
        for (const auto& violation : machine.unit.violations())
            FAIL(violation);
    }

    machine_type machine;
    failures failing;
    std::vector<mm::frame_info> records;
    std::vector<mm::frame_cache> frame_caches;
    frames frames_;
    heap heap_;
    no_waiting parker;
    mm::frame_pages<frames, sim::physical_memory> pages;
    frame_number kernel_root;
    std::vector<typename shootdown_type::processor> translations;
    std::vector<mm::memory_counters> counters;
    shootdown_type shootdown;
    memory_type memory;
    std::uint64_t frames_at_rest{};

private:
    static constexpr unsigned half_entries = hal::entries_per_table<Format> / 2;

    entry* table(frame_number f) { return reinterpret_cast<entry*>(machine.memory.to_pointer(f.address())); }

    frame_number make_kernel_root()
    {
        const auto root = *frames_.allocate(0);
        std::memset(table(root), 0, page_size);
        return root;
    }

    void visit(frame_number at, unsigned level, std::map<frame_number, std::uint32_t>& counts,
               std::set<frame_number>& tables)
    {
        if (!tables.insert(at).second)
            return;
        const bool is_root = level == Format::levels - 1;
        REQUIRE(frames_.info(at).table_levels == level + 1);
        unsigned used = 0;
        for (unsigned i = 0; i < (is_root ? half_entries : hal::entries_per_table<Format>); ++i) {
            const entry e = table(at)[i];
            if (e == 0)
                continue;
            ++used;
            const frame_number below = frames_.block_of(frame_number{Format::address(e, level)});
            ++counts[below];
            if (Format::is_table(e, level)) {
                // Whoever may write through an entry is alone below it.
                if (Format::hierarchical_write && Format::writable(e))
                    REQUIRE(frames_.references(below) == 1);
                visit(below, level - 1, counts, tables);
            } else {
                REQUIRE(Format::is_leaf(e, level));
                if (Format::writable(e) && Format::attributes(e, level).software != mm::shared_leaf) {
                    if (Format::hierarchical_write)
                        REQUIRE(frames_.references(below) == 1);
                    else
                        REQUIRE((frames_.references(below) == 1 && frames_.references(at) == 1));
                }
            }
        }
        REQUIRE(frames_.info(at).table.entries == used);
        if (is_root)
            REQUIRE(std::memcmp(table(at) + half_entries, table(kernel_root) + half_entries, page_size / 2) == 0);
    }
    std::uint64_t leaves_below(frame_number at, unsigned level)
    {
        std::uint64_t sum = 0;
        const bool is_root = level == Format::levels - 1;
        for (unsigned i = 0; i < (is_root ? half_entries : hal::entries_per_table<Format>); ++i)
            if (const entry e = table(at)[i]; e != 0)
                sum += Format::is_table(e, level) ? leaves_below(frame_number{Format::address(e, level)}, level - 1)
                                                  : hal::bytes_at<Format>(level) >> page_shift;
        return sum;
    }
};

} // namespace space_test

#define EXO_EVERY_FORMAT exo::x86_64::paging_4_level, exo::x86_64::paging_5_level, exo::riscv64::sv48
