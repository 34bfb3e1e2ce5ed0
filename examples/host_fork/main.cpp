// Forks an address space in the simulated machine, lets both sides write, and shows who copied what.
//
// The templates are those that a kernel boots with; below them stand RAM, a CPU and its MMU in software. Every access
// goes through that MMU, which walks the page tables, faults, and would report any stale translation that was used.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <exo/arch/x86_64/paging.hpp>
#include <exo/mm/address_space.hpp>
#include <exo/mm/frame_allocator.hpp>
#include <exo/mm/heap.hpp>
#include <exo/mm/memory_system.hpp>
#include <exo/mm/shootdown.hpp>
#include <exo/sim/host_threads.hpp>
#include <exo/sim/machine.hpp>

namespace exo {

void panic(const char* message, const char* file, int line) noexcept
{
    std::fprintf(stderr, "%s:%d: check failed: %s\n", file, line, message);
    std::abort();
}

} // namespace exo

namespace {

using namespace exo;

using format = x86_64::paging_4_level;
using machine = sim::machine<format>;
using frames = mm::frame_allocator<sim::driven_cpus, sim::driven_cpus>;
using heap = mm::heap<sim::physical_memory, frames, sim::driven_cpus, sim::driven_cpus, mm::checked_heap>;
using shootdown = mm::shootdown<machine::paging_type, machine::paging_type, sim::driven_cpus, sim::driven_cpus, sim::driven_cpus>;
using memory_system = mm::memory_system<format, sim::physical_memory, machine::entries_type, frames, shootdown>;
using space = mm::address_space<memory_system>;

constexpr std::size_t frame_count = 8192;
constexpr std::uint64_t page_count = 4096; // 16 MiB of program memory
constexpr virt_addr start{0x4000'0000};

class host {
public:
    host()
    {
        machine_.paging.load({kernel_root_.address()}, hal::remembered::forget);
    }

    memory_system make_memory_system()
    {
        return memory_system{{.phys = machine_.memory,
                              .entries = machine_.entries,
                              .frames = frames_,
                              .shootdown = shootdown_,
                              .heap = heap_,
                              .parker = threads_,
                              .counters = counters_,
                              .kernel_root = kernel_root_.address()}};
    }

    // Makes `s` the space that the CPU translates with.
    void run(space& s)
    {
        const auto saved = machine_.cpus.save_and_disable();
        s.activate();
        machine_.cpus.restore(saved);
    }
    // What the program in the loaded space does; a fault enters the kernel, and the access is tried again.
    void store(space& s, virt_addr a, std::uint64_t value)
    {
        while (!machine_.store(a, value))
            EXO_CHECK(s.handle_fault(a, mm::access::write));
    }
    std::uint64_t load(space& s, virt_addr a)
    {
        for (;;) {
            if (const auto value = machine_.load<std::uint64_t>(a))
                return *value;
            EXO_CHECK(s.handle_fault(a, mm::access::read));
        }
    }

    [[nodiscard]] std::uint64_t frames_in_use() const { return frames_.total_frames() - frames_.free_frames(); }
    [[nodiscard]] bool clean() const { return machine_.unit.violations().empty(); }

private:
    frame_number make_kernel_root()
    {
        frames_.add({machine_.memory.frames().begin.address(), machine_.memory.frames().end.address()});
        const auto root = *frames_.allocate(0);
        std::memset(machine_.memory.to_pointer(root.address()), 0, page_size);
        return root;
    }

    machine machine_{frame_count};
    std::vector<mm::frame_info> records_{frame_count};
    std::vector<mm::frame_cache> frame_caches_{1};
    frames frames_{machine_.cpus, machine_.cpus, machine_.memory.frames().begin, records_, frame_caches_};
    std::vector<mm::heap_cache> heap_caches_{1};
    heap heap_{machine_.memory, frames_, machine_.cpus, machine_.cpus, heap_caches_};
    frame_number kernel_root_{make_kernel_root()};
    std::vector<shootdown::processor> translations_{1};
    std::vector<mm::memory_counters> counters_{1};
    shootdown shootdown_{machine_.paging, machine_.paging, machine_.cpus,         machine_.cpus,
                         machine_.cpus,   translations_,   kernel_root_.address()};
    sim::host_threads threads_;
};

bool all_right = true;

// One line of the table: what a step cost, beside what it has to cost.
template <class Step>
void report(const char* what, host& h, memory_system& memory, std::uint64_t pages, std::uint64_t tables, Step step)
{
    const auto pages_before = memory.faults(mm::fault_kind::copied);
    const auto tables_before = memory.counted(&mm::memory_counters::tables_unshared);
    const auto frames_before = h.frames_in_use();
    step();
    const auto pages_copied = memory.faults(mm::fault_kind::copied) - pages_before;
    const auto tables_copied = memory.counted(&mm::memory_counters::tables_unshared) - tables_before;
    const bool right = pages_copied == pages && tables_copied == tables;
    std::printf("%-52s %7llu %7llu %+7lld%s\n", what, static_cast<unsigned long long>(pages_copied),
                static_cast<unsigned long long>(tables_copied),
                static_cast<long long>(h.frames_in_use() - frames_before), right ? "" : "   <- wrong");
    all_right = all_right && right;
}

void check(bool condition, const char* what)
{
    if (!condition) {
        std::printf("wrong: %s\n", what);
        all_right = false;
    }
}

void tell_the_story(host& h)
{
    auto memory = h.make_memory_system();
    const auto at = [](std::uint64_t page) { return start + page * page_size; };
    auto parent =
        *space::create(memory, {virt_addr{0x10000}, virt_addr{0x7fff'0000'0000}, virt_addr{0x7fff'ffff'f000}});
    ref<space> child;

    std::printf("%-52s %7s %7s %7s\n", "", "pages", "tables", "frames");
    std::printf("%-52s %7s %7s %7s\n", "", "copied", "copied", "in use");
    report("the parent writes 4096 pages", h, memory, 0, 0, [&] {
        check(parent->map({.address = start, .length = page_count * page_size}).has_value(), "map");
        // Pages of 4 KiB, so that who copied what can be counted.
        const auto small_pages = [](mm::region_advice& advice) { advice.large = mm::large_pages::refused; };
        check(parent->advise(virt_range::of_size(start, page_count * page_size), small_pages).has_value(), "advise");
        h.run(*parent);
        for (std::uint64_t i = 0; i < page_count; ++i)
            h.store(*parent, at(i), i);
    });
    report("fork", h, memory, 0, 0, [&] { child = *parent->fork(); });
    report("the child reads all of them", h, memory, 0, 0, [&] {
        h.run(*child);
        for (std::uint64_t i = 0; i < page_count; ++i)
            check(h.load(*child, at(i)) == i, "the child sees what the parent wrote");
    });
    report("the child writes page 0", h, memory, 1, 3, [&] { h.store(*child, at(0), 1000); });
    report("the child writes page 1, below the same tables", h, memory, 1, 0, [&] { h.store(*child, at(1), 1001); });
    report("the child writes page 600, below another table", h, memory, 1, 1, [&] { h.store(*child, at(600), 1600); });
    report("the parent writes page 0: its own by now", h, memory, 0, 0, [&] {
        h.run(*parent);
        h.store(*parent, at(0), 2000);
    });
    report("the parent writes page 2", h, memory, 1, 0, [&] { h.store(*parent, at(2), 2002); });

    check(h.load(*parent, at(0)) == 2000 && h.load(*parent, at(1)) == 1 && h.load(*parent, at(600)) == 600,
          "the parent does not see the child's writes");
    h.run(*child);
    check(h.load(*child, at(0)) == 1000 && h.load(*child, at(2)) == 2 && h.load(*child, at(600)) == 1600,
          "the child does not see the parent's writes");
    report("the child exits", h, memory, 0, 0, [&] { child.reset(); });
    report("the parent exits", h, memory, 0, 0, [&] { parent.reset(); });
}

} // namespace

int main()
{
    host h;
    const auto before = h.frames_in_use();
    tell_the_story(h);
    // The heap keeps a few frames for the next object.
    check(h.frames_in_use() - before < 8, "every frame came back");
    check(h.clean(), "no stale translation was used");
    std::puts(all_right ? "Everything is as it should be." : "Something is wrong.");
    return all_right ? EXIT_SUCCESS : EXIT_FAILURE;
}
