// Calls of the mapper for valgrind to count the instructions of (count.sh): each function does one thing to every 4 KiB
// page of 64 MiB.

#include <cstdlib>

#include "../mm/bare_machine.hpp"

namespace exo {

void panic(const char*, const char*, int) noexcept { std::abort(); }

} // namespace exo

namespace {

using namespace bench;

constexpr auto pages = virt_range::of_size(virt_addr{0x4000'0000'0000}, 64 << 20);
constexpr phys_addr target{0x1'0000'0000};
constexpr mm::page_attributes attributes{.access = mm::kernel_data};

void require(bool holds)
{
    if (!holds)
        std::abort();
}

} // namespace

extern "C" {

[[gnu::noinline]] void map_page(machine& m)
{
    for (virt_addr v = pages.begin; v != pages.end; v += page_size)
        require(m.mapper.map_page(v, target + (v - pages.begin), attributes, m.batch).has_value());
}

[[gnu::noinline]] void map_range(machine& m)
{
    require(m.mapper.map_range(pages, target, attributes, m.batch, 0).has_value());
}

[[gnu::noinline]] void unmap_range(machine& m)
{
    require(m.mapper.unmap_range(pages, m.batch).has_value());
    m.batch.flush();
}

[[gnu::noinline]] void translate(machine& m)
{
    std::uint64_t sum = 0;
    for (virt_addr v = pages.begin; v != pages.end; v += page_size) {
        const auto found = m.mapper.translate(v);
        require(found.has_value());
        sum += found->address.value();
    }
    benchmark::DoNotOptimize(sum);
}

} // extern "C"

int main()
{
    machine m{64};
    map_page(m);
    translate(m);
    unmap_range(m);
    map_range(m);
    m.clear();
}
