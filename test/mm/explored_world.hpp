// Address spaces on CPUs whose interleavings are explored: the real templates over instrumented atomics, page tables
// that the real entry store and a simulated walker per CPU use at once, and checks that hold whatever the schedule.

#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include <exo/arch/riscv64/sv48.hpp>
#include <exo/arch/x86_64/paging.hpp>
#include <exo/arch/x86_64/paging_entries.hpp>
#include <exo/mm/address_space.hpp>
#include <exo/mm/frame_allocator.hpp>
#include <exo/mm/memory_system.hpp>
#include <exo/sim/explored_atomics.hpp>
#include <exo/sim/explored_cpus.hpp>
#include <exo/sim/memory.hpp>
#include <exo/sim/mmu.hpp>

#include <exploring.hpp>
#include <one_page_each.hpp>

namespace explored_test {

using namespace exo;

using sim::explored_atomics;
using sim::explored_cpus;
template <class Format>
using mmu_for = sim::mmu<Format, sim::explored_atomic_ref>;

inline void step(const char* what) { sim::explorer::here()->step(what); }

// What the parts of a world are made of; a test weakens one of them, and must see it found.
struct sound {
    using format = x86_64::paging<3>; // the protocols do not ask how many levels there are
    using atomics = explored_atomics;
    using counts = explored_atomics; // of references
    using entries = x86_64::basic_paging_entries<sim::explored_atomic_ref>;
    using fill = one_page_each;
    static constexpr unsigned large_pages = 0; // that memory has room for
    struct ipi {
        explored_cpus& cpus;
        void call(const cpu_set& targets, void (*f)(void*) noexcept, void* argument) noexcept
        {
            cpus.call(targets, f, argument);
        }
    };
};

// Where CPUs remember absent entries, and tables do not forbid writing.
struct on_riscv : sound {
    using format = riscv64::sv48;
};

struct large_wherever_possible : one_page_each {
    static bool wants_large(const mm::region&, virt_range, mm::memory_left) noexcept { return true; }
};
static_assert(mm::FillPolicy<large_wherever_possible>);

// Parts, in a machine where large regions get large pages while there are any.
template <class Parts = sound, unsigned Count = 1>
struct with_large_pages : Parts {
    using fill = large_wherever_possible;
    static constexpr unsigned large_pages = Count;
};

// hal::Tlb and hal::TranslationRoot, by instructions that empty the store buffer (Intel SDM 3A, 9.3).
template <class Mmu>
class paging {
public:
    paging(Mmu& unit, const explored_cpus& cpus) : cpus_{cpus}, cpu_{unit, cpus} {}

    void invalidate_page(virt_addr v) noexcept { serialized().invalidate_page(v); }
    void invalidate_range(const virt_range& r, std::uint64_t by) noexcept { serialized().invalidate_range(r, by); }
    void invalidate_space(hal::address_space_id id) noexcept { serialized().invalidate_space(id); }
    void invalidate_all() noexcept { serialized().invalidate_all(); }
    void load(const hal::translation_root& root, hal::remembered what) noexcept
    {
        step("loads a root");
        serialized().load(root, what);
    }
    [[nodiscard]] hal::translation_root current() const noexcept { return cpu_.current(); }
    [[nodiscard]] unsigned id_limit() const noexcept { return cpu_.id_limit(); }

    // How often the CPU has forgotten something.
    [[nodiscard]] unsigned times_forgotten(unsigned cpu) const { return times_forgotten_[cpu]; }

private:
    using cpu_type = sim::cpu_paging<Mmu, explored_cpus>;
    cpu_type& serialized()
    {
        sim::explorer::here()->fence();
        ++times_forgotten_[cpus_.current_cpu()];
        return cpu_;
    }
    const explored_cpus& cpus_;
    cpu_type cpu_;
    std::vector<unsigned> times_forgotten_ = std::vector<unsigned>(cpus_.cpu_limit());
};

// Frames that come and go without a lock of their own, so that schedules are spent on what uses them. No CPU may reach
// a frame that is freed. Blocks are of one order, and what has come apart does not join again.
template <class Atomics, class Mmu, unsigned BlockOrder>
class frames : public mm::frame_allocator<explored_cpus, explored_cpus, Atomics> {
    using base = mm::frame_allocator<explored_cpus, explored_cpus, Atomics>;

public:
    frames(sim::physical_memory& memory, Mmu& unit, explored_cpus& cpus, std::span<typename base::frame_info> records,
           std::span<typename base::frame_cache> caches)
        : base{cpus, cpus, memory.frames().begin, records, caches}, memory_{memory}, unit_{unit}, cpus_{cpus}
    {
        this->add({memory.frames().begin.address(), memory.frames().end.address()});
        for (const unsigned order : {BlockOrder, 0u})
            while (const auto f = base::allocate(order))
                free_of(order).push_back(*f);
    }
    ~frames()
    {
        for (const unsigned order : {BlockOrder, 0u})
            for (const auto f : free_of(order))
                base::free(f, order);
    }

    result<frame_number> allocate(unsigned order) noexcept
    {
        auto& free = free_of(order);
        if (free.empty())
            return fail(errors::out_of_memory, page_size << order);
        const auto f = free.back();
        free.pop_back();
        return f;
    }
    result<frame_number> try_allocate(unsigned order) noexcept { return allocate(order); }
    void free(frame_number f, unsigned order) noexcept
    {
        step("frees a frame");
        sim::explorer::here()->fence();
        EXO_CHECK(this->info(f).order == order && this->info(f).references.load() == 1);
        for (unsigned cpu = 0; cpu < cpus_.cpu_limit(); ++cpu)
            for (auto part = f; part != f + (std::uint64_t{1} << order); part = part + 1)
                require(!unit_.reaches(cpu, part), "a frame is freed, and a CPU still reaches it");
        std::memset(memory_.to_pointer(f.address()), sim::physical_memory::poison, page_size << order);
        free_of(order).push_back(f);
    }
    using base::free_frames;
    [[nodiscard]] std::uint64_t free_frames() const noexcept
    {
        return singles_.size() + (blocks_.size() << BlockOrder);
    }

private:
    std::vector<frame_number>& free_of(unsigned order)
    {
        EXO_CHECK(order == 0 || order == BlockOrder);
        return order == 0 ? singles_ : blocks_;
    }

    sim::physical_memory& memory_;
    Mmu& unit_;
    explored_cpus& cpus_;
    std::vector<frame_number> singles_;
    std::vector<frame_number> blocks_;
};

class heap final : public allocator {
public:
    void* allocate(std::size_t bytes, std::size_t) noexcept override
    {
        ++objects;
        return std::malloc(bytes);
    }
    void deallocate(void* memory, std::size_t, std::size_t) noexcept override
    {
        --objects;
        std::free(memory);
    }
    std::size_t objects{};
};

// Thread n of the scenario runs on CPU n.
template <class Parts = sound>
class world : public sim::scenario {
    static constexpr std::size_t single_frames = 32;
    static constexpr unsigned pages_per_large_page = hal::entries_per_table<typename Parts::format>;
    static constexpr std::size_t frame_count = single_frames + Parts::large_pages * pages_per_large_page;
    struct watched_memory : sim::physical_memory {
        watched_memory() : physical_memory{frame_count, frame_number{pages_per_large_page - single_frames}}
        {
            sim::explorer::here()->watch({to_pointer(frames().begin.address()), frame_count * page_size});
        }
    };

public:
    using atomics = typename Parts::atomics;
    using format = typename Parts::format;
    using entry = typename format::entry;
    using mmu = mmu_for<format>;
    using paging_type = paging<mmu>;
    using shootdown =
        mm::shootdown<paging_type, paging_type, typename Parts::ipi, explored_cpus, explored_cpus, atomics>;
    using frames_type = frames<typename Parts::counts, mmu, format::index_bits>;
    using memory_system = mm::memory_system<format, sim::physical_memory, typename Parts::entries, frames_type,
                                            shootdown, typename Parts::fill>;
    using space = mm::address_space<memory_system>;

    static constexpr bool has_large_pages = Parts::large_pages != 0;
    // Of a region with some pages: so many that it gets a large page, if there are any.
    static constexpr unsigned region_pages = has_large_pages ? pages_per_large_page : 2;
    static constexpr virt_addr base{0x40'0000};
    static constexpr virt_addr page(unsigned i) { return base + i * page_size; }

    explicit world(unsigned cpu_count) : cpus{cpu_count}, unit{ram, cpu_count}
    {
        for (unsigned cpu = 0; cpu < cpu_count; ++cpu)
            cpus.on(cpu, [&] { translation.load({kernel_root.address()}, hal::remembered::forget); });
        frames_at_rest = frame_source.free_frames();
    }
    unsigned threads() const override { return cpus.cpu_limit(); }

    // A space with a region of `count` pages from page(0) on, untouched.
    ref<space> make_empty_space(unsigned count)
    {
        auto made = *space::create(memory, {virt_addr{0x1000}, base, base + (std::uint64_t{1} << 30)});
        EXO_CHECK(made->map({.address = base, .length = count * page_size, .where = mm::placement::fixed}).has_value());
        return made;
    }
    // A space with `count` pages, whose first words are 100, 101, ...; if there are large pages, at the front of one.
    ref<space> make_space(unsigned count)
    {
        auto made = make_empty_space(has_large_pages ? pages_per_large_page : count);
        for (unsigned i = 0; i < count; ++i)
            write(*made, i, 100 + i);
        EXO_CHECK(in_large_page(*made) == has_large_pages);
        return made;
    }
    bool in_large_page(space& s) const { return memory.tables.find(s.root(), page(0)).level == 1; }
    // The same by the kernel, which asks no TLB.
    static void write(space& s, unsigned i, std::uint64_t value)
    {
        EXO_CHECK(s.write(page(i), std::as_bytes(std::span{&value, 1})).has_value());
    }
    static std::optional<std::uint64_t> read(space& s, unsigned i, unsigned word = 0)
    {
        std::uint64_t value = 0;
        if (!s.read(page(i) + word * sizeof value, std::as_writable_bytes(std::span{&value, 1})))
            return {};
        return value;
    }

    void activate(space& s)
    {
        const auto saved = cpus.save_and_disable();
        s.activate();
        cpus.restore(saved);
    }
    void deactivate(space& s)
    {
        const auto saved = cpus.save_and_disable();
        s.deactivate();
        cpus.restore(saved);
    }

    // What a program on this CPU reads, with `s` loaded; nothing, if that would kill it.
    std::optional<std::uint64_t> load(space& s, unsigned i)
    {
        std::uint64_t value = 0;
        if (!access(s, i, mm::access::read, [&](const std::byte* at) { std::memcpy(&value, at, sizeof value); }))
            return {};
        return value;
    }
    bool store(space& s, unsigned i, std::uint64_t value, unsigned word = 0)
    {
        return access(s, i, mm::access::write,
                      [&](std::byte* at) { std::memcpy(at + word * sizeof value, &value, sizeof value); });
    }
    // The CPU remembers what it can of the page.
    void look(unsigned i)
    {
        const auto saved = cpus.save_and_disable();
        unit.speculate(cpus.current_cpu(), page(i));
        cpus.restore(saved);
    }

    // After the threads: counts, rights and translations are right, and nothing is left once the spaces end.
    void finish(std::vector<ref<space>> spaces)
    {
        audit(spaces);
        for (unsigned cpu = 0; cpu < cpus.cpu_limit(); ++cpu)
            for (unsigned i = 0; i < 4; ++i)
                if (unit.remembers(cpu, page(i))) {
                    (void)unit.access(cpu, page(i), mm::access::read, sim::privilege::user);
                    (void)unit.access(cpu, page(i), mm::access::write, sim::privilege::user);
                }
        for (const auto& violation : unit.violations())
            sim::explorer::here()->fail(violation);
        for (unsigned cpu = 0; cpu < cpus.cpu_limit(); ++cpu)
            for (auto& s : spaces)
                cpus.on(cpu, [&] { deactivate(*s); });
        spaces.clear();
        require(frame_source.free_frames() == frames_at_rest, "a frame is lost");
        require(objects.objects == 0, "an object is lost");
    }

    explored_cpus cpus;
    watched_memory ram;
    mmu unit;
    paging_type translation{unit, cpus};
    typename Parts::entries entries;
    std::vector<typename frames_type::frame_info> records{frame_count};
    std::vector<typename frames_type::frame_cache> caches =
        std::vector<typename frames_type::frame_cache>(cpus.cpu_limit());
    frames_type frame_source{ram, unit, cpus, records, caches};
    heap objects;
    typename Parts::ipi ipi{cpus};
    frame_number kernel_root = make_kernel_root();
    std::vector<typename shootdown::processor> processors = std::vector<typename shootdown::processor>(cpus.cpu_limit());
    shootdown tell{translation, translation, ipi, cpus, cpus, processors, kernel_root.address()};
    std::vector<mm::memory_counters> counters = std::vector<mm::memory_counters>(cpus.cpu_limit());
    memory_system memory{{.phys = ram,
                          .entries = entries,
                          .frames = frame_source,
                          .shootdown = tell,
                          .heap = objects,
                          .parker = cpus,
                          .counters = counters,
                          .kernel_root = kernel_root.address()}};
    std::uint64_t frames_at_rest{};

private:
    // One access is one instruction: no interrupt comes in the middle of it.
    template <class Use>
    bool access(space& s, unsigned i, mm::access tried, Use use)
    {
        for (int tries = 0; tries < 8; ++tries) {
            const auto saved = cpus.save_and_disable();
            const auto cpu = cpus.current_cpu();
            const auto to = unit.access_unjudged(cpu, page(i), tried, sim::privilege::user);
            const auto before = translation.times_forgotten(cpu);
            if (to)
                use(ram.to_pointer(*to));
            cpus.restore(saved);
            if (to)
                return true;
            const auto answered = s.handle_fault(page(i), tried);
            if (!answered)
                return false;
            // A CPU that remembers what denies this would fault until it is told of the change that another made.
            if (format::caches_absent && *answered == mm::fault_kind::spurious)
                sim::explorer::here()->wait("is to be told of a change",
                                            [&] { return translation.times_forgotten(cpu) != before; });
        }
        sim::explorer::here()->fail("faults are answered, and nothing changes");
    }

    frame_number make_kernel_root()
    {
        const auto root = *frame_source.allocate(0);
        std::memset(table(root), 0, page_size);
        return root;
    }
    entry* table(frame_number f) { return reinterpret_cast<entry*>(ram.to_pointer(f.address())); }
    void audit(const std::vector<ref<space>>& spaces)
    {
        std::vector<std::uint32_t> counts(frame_count);
        std::set<frame_number> tables;
        const auto count_of = [&](frame_number f) -> std::uint32_t& { return counts[f - ram.frames().begin]; };
        ++count_of(kernel_root);
        for (const auto& s : spaces) {
            const frame_number root{s->root()};
            ++count_of(root);
            audit(root, format::levels - 1, count_of, tables);
        }
        std::uint64_t used = 0;
        for (std::size_t i = 0; i < frame_count; ++i) {
            used += counts[i] != 0 ? std::uint64_t{1} << records[i].order : 0;
            require(counts[i] == 0 || frame_source.references(ram.frames().begin + i) == counts[i],
                    "a count is not that of the entries");
        }
        require(used + frame_source.free_frames() == frame_count, "a frame is neither used nor free");
    }
    template <class CountOf>
    void audit(frame_number at, unsigned level, CountOf& count_of, std::set<frame_number>& tables)
    {
        if (!tables.insert(at).second)
            return;
        const bool is_root = level == format::levels - 1;
        const entry* first = table(at);
        unsigned used = 0;
        for (unsigned i = 0; i < hal::entries_per_table<format> / (is_root ? 2 : 1); ++i) {
            const entry e = first[i];
            if (e == 0)
                continue;
            ++used;
            const frame_number below{format::address(e, level)};
            require(ram.contains(below.address()), "an entry leads nowhere");
            const auto counted = frame_source.block_of(below);
            ++count_of(counted);
            require(!format::writable(e) || frame_source.references(counted) == 1,
                    "a way to write leads to what is counted more than once");
            const bool is_table = format::is_table(e, level);
            require(is_table || (format::attributes(e, level).software & mm::changing_leaf) == 0,
                    "a page is left as if a fault changed it");
            if (is_table)
                audit(below, level - 1, count_of, tables);
        }
        require(frame_source.info(at).table.entries == used, "a table's entries are miscounted");
    }
};

} // namespace explored_test
