// What forgetting translations costs, instruction by instruction, and what it costs to walk for them again: the figures
// behind mm::invalidation::page_limit. A kernel of its own, on the start code of examples/minimal_kernel; prints on
// COM1, in cycles of the time-stamp counter, the best of many rounds. What QEMU's TCG prints is the cost of TCG's own
// TLB, not of any silicon's.

#include <exo/arch/x86_64/cpuid.hpp>
#include <exo/arch/x86_64/instructions.hpp>
#include <exo/arch/x86_64/paging.hpp>
#include <exo/arch/x86_64/register_access.hpp>
#include <exo/arch/x86_64/registers.hpp>
#include <exo/arch/x86_64/tlb.hpp>
#include <exo/base/check.hpp>
#include <exo/drivers/uart.hpp>

using namespace exo;
using namespace exo::x86_64;

namespace {

constexpr unsigned most_pages = 1024;
constexpr std::uint64_t window = std::uint64_t{1} << 30;
constexpr unsigned rounds = 200;

alignas(page_size) constinit std::uint64_t parent[512];
alignas(page_size) constinit std::uint64_t tables[most_pages / 512][512];
alignas(page_size) constinit std::byte target[page_size];

void print(const char* text)
{
    for (; *text != '\0'; ++text)
        drivers::uart{port_registers{0x3f8}}.write({text, 1});
}
void print(std::uint64_t n)
{
    char digits[21]{};
    char* at = digits + 20;
    do
        *--at = static_cast<char>('0' + n % 10);
    while ((n /= 10) != 0);
    print(at);
}

[[noreturn]] void leave(bool good)
{
    out32(0xf4, good ? 0x10 : 0x11);
    for (;;)
        halt();
}

// Every page shows the same frame, so that what is measured is translation, not memory.
void map_window()
{
    for (unsigned i = 0; i < most_pages; ++i)
        tables[i / 512][i % 512] =
            paging_4_level::leaf(phys_addr{reinterpret_cast<std::uint64_t>(target)}, 0,
                                 {.access = hal::protection::read});
    for (unsigned i = 0; i < most_pages / 512; ++i)
        parent[i] = paging_4_level::table(phys_addr{reinterpret_cast<std::uint64_t>(tables[i])});
    const auto* root = reinterpret_cast<const std::uint64_t*>(read_cr3());
    auto* second = reinterpret_cast<std::uint64_t*>(root[0] & paging_4_level::address_mask);
    second[window >> 30] = paging_4_level::table(phys_addr{reinterpret_cast<std::uint64_t>(parent)});
}

void touch(unsigned pages)
{
    for (unsigned i = 0; i < pages; ++i)
        (void)*reinterpret_cast<const volatile std::byte*>(window + i * page_size);
}

// The least that `work` took after `before`, in cycles.
template <class Before, class Work>
std::uint64_t best(Before before, Work work)
{
    std::uint64_t least = ~std::uint64_t{0};
    for (unsigned i = 0; i < rounds; ++i) {
        before();
        const std::uint64_t start = read_tsc();
        work();
        const std::uint64_t took = read_tsc() - start;
        least = took < least ? took : least;
    }
    return least;
}

void row(const char* what, std::uint64_t cycles)
{
    print(what);
    print(cycles);
    print("\n");
}

} // namespace

void exo::panic(const char* message, const char*, int) noexcept
{
    print(message);
    leave(false);
}

extern "C" void* memset(void* to, int value, std::size_t size)
{
    void* at = to;
    asm volatile("rep stosb" : "+D"(at), "+c"(size) : "a"(value) : "memory");
    return to;
}

extern "C" void kernel_main(const std::byte*)
{
    const auto features = cpu_features::read(x86_64::cpuid);
    map_window();
    const auto warm = [] { touch(most_pages); };
    const auto invlpg = [](unsigned pages) {
        for (unsigned i = 0; i < pages; ++i)
            invalidate_page(window + i * page_size);
    };
    const auto reload = [] { write_cr3(read_cr3()); };

    const std::uint64_t page = best(warm, [&] { invlpg(64); }) / 64;
    const std::uint64_t space = best(warm, reload);
    row("INVLPG, a page            ", page);
    row("MOV to CR3                ", space);
    if (features.global_pages) {
        write_cr4(read_cr4() | cr4::global_pages);
        row("CR4.PGE off and on        ", best(warm, [] {
                write_cr4(read_cr4() & ~cr4::global_pages);
                write_cr4(read_cr4() | cr4::global_pages);
            }));
    }
    if (features.invpcid)
        row("INVPCID, all              ", best(warm, [] { invalidate(invpcid_type::all, {}); }));
    if (uses_ids(features)) {
        write_cr4(read_cr4() | cr4::pcid);
        row("INVPCID, the id           ", best(warm, [] { invalidate(invpcid_type::id, {}); }));
        row("MOV to CR3, keeping       ", best(warm, [] { write_cr3(read_cr3() | cr3::keep); }));
    }
    // As many single invalidations cost what the reload and the pages that it took from the others cost.
    for (const unsigned pages : {16u, 64u, 256u, 1024u}) {
        const std::uint64_t hits = best(warm, [&] { touch(pages); });
        const std::uint64_t walks = best([&] { warm(); reload(); }, [&] { touch(pages); });
        const std::uint64_t again = walks > hits ? walks - hits : 0;
        print(pages);
        row(" pages in use: walks again, altogether ", again);
        row("                pages to break even     ", (space + again) / page);
    }
    leave(true);
}
