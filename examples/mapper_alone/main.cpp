// The mapper alone: page tables in an array, no heap, no records about frames, and a TLB that only counts.

#include <cstdio>
#include <cstdlib>

#include <exo/arch/x86_64/paging.hpp>
#include <exo/arch/x86_64/paging_entries.hpp>
#include <exo/base/errors.hpp>
#include <exo/mm/flush_batch.hpp>
#include <exo/mm/mapper.hpp>

namespace exo {
void panic(const char* message, const char* file, int line) noexcept
{
    std::fprintf(stderr, "%s:%d: %s\n", file, line, message);
    std::abort();
}
} // namespace exo

using namespace exo;

// RAM: physical address 0 is the first byte of an array.
struct ram {
    std::byte* bytes;
    std::byte* to_pointer(phys_addr a) const noexcept { return bytes + a.value(); }
    phys_addr to_physical(const void* p) const noexcept
    {
        return phys_addr{static_cast<std::uint64_t>(static_cast<const std::byte*>(p) - bytes)};
    }
};

struct stack_of_frames {
    frame_number free_frames[64];
    unsigned count = 0;
    result<frame_number> allocate(unsigned order) noexcept
    {
        if (order > 0 || count == 0)
            return fail(errors::out_of_memory);
        return free_frames[--count];
    }
    void free(frame_number f, unsigned) noexcept { free_frames[count++] = f; }
};

struct counting_tlb {
    int ranges = 0, everything = 0;
    void invalidate_page(virt_addr) noexcept { ++ranges; }
    void invalidate_range(const virt_range&, std::uint64_t) noexcept { ++ranges; }
    void invalidate_space(hal::address_space_id) noexcept { ++everything; }
    void invalidate_all() noexcept { ++everything; }
};

int main()
{
    using format = x86_64::paging_4_level;
    using retired = mm::retired_tables<format, ram, x86_64::paging_entries, stack_of_frames>;
    alignas(page_size) static std::byte array[64 * page_size];
    ram memory{array};
    stack_of_frames frames;
    for (std::uint64_t f = 0; f < 64; ++f)
        frames.free(frame_number{f}, 0);
    x86_64::paging_entries entries;
    counting_tlb tlb;
    mm::local_flusher flusher{tlb};
    mm::flush_batch<decltype(flusher), retired> batch{flusher, {memory, entries, frames}};
    mm::mapper<format, ram, x86_64::paging_entries, stack_of_frames> map{*mm::allocate_table(memory, frames), memory,
                                                                         entries, frames};
    const auto data = virt_range::of_size(virt_addr{0x1000'0000}, 5 << 20); // in 2 MiB and 4 KiB pages
    bool right = map.map_range(data, phys_addr{0x4000'0000}, {.access = mm::user_data}, batch).has_value();
    right &= map.translate(data.begin + 0x12'3456)->address == phys_addr{0x4012'3456};
    right &= map.map_page(data.begin, phys_addr{0}, {}, batch).error() == mm::already_mapped;
    right &= map.protect_range({data.begin, data.begin + page_size}, mm::user_read, batch).has_value();
    std::printf("first page: level %u, %u frames left\n", map.translate(data.begin)->level, frames.count);
    right &= map.unmap_range(data, batch).has_value() && map.translate(data.begin).error() == mm::not_mapped;
    map.clear(batch);
    batch.flush();
    std::printf("everything invalidated %d times, ranges %d times, %u frames left\n", tlb.everything, tlb.ranges,
                frames.count);
    return right && frames.count == 63 ? 0 : 1; // all but the root
}
