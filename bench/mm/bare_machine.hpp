// The least that a mapper needs, for measuring what it costs itself: memory at physical offset 0, a stack of frames, and
// no TLB.

#pragma once

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <exo/arch/x86_64/paging.hpp>
#include <exo/arch/x86_64/paging_entries.hpp>
#include <exo/base/errors.hpp>
#include <exo/mm/flush_batch.hpp>
#include <exo/mm/mapper.hpp>

namespace bench {

using namespace exo;
using format = x86_64::paging_4_level;

struct identity {
    static std::byte* to_pointer(phys_addr a) noexcept { return reinterpret_cast<std::byte*>(a.value()); }
    static phys_addr to_physical(const void* p) noexcept { return phys_addr{reinterpret_cast<std::uint64_t>(p)}; }
};
static_assert(hal::PhysAccess<identity>);

// A stack of frames, all of them touched.
class frame_stack {
public:
    explicit frame_stack(std::size_t count)
    {
        memory_ = static_cast<std::byte*>(std::aligned_alloc(page_size, count * page_size));
        std::memset(memory_, 1, count * page_size);
        for (std::size_t i = count; i-- > 0;)
            free_.push_back(frame_number{identity::to_physical(memory_ + i * page_size)});
    }
    frame_stack(const frame_stack&) = delete;
    frame_stack& operator=(const frame_stack&) = delete;
    ~frame_stack() { std::free(memory_); }

    result<frame_number> allocate(unsigned) noexcept
    {
        if (free_.empty())
            return fail(errors::out_of_memory, page_size);
        const frame_number f = free_.back();
        free_.pop_back();
        return f;
    }
    void free(frame_number f, unsigned) noexcept { free_.push_back(f); }

private:
    std::byte* memory_;
    std::vector<frame_number> free_;
};
static_assert(hal::FrameSource<frame_stack>);

// There is no TLB to empty; what mapping and unmapping themselves cost is measured.
struct no_tlb {
    static void invalidate_page(virt_addr v) noexcept { benchmark::DoNotOptimize(v); }
    static void invalidate_range(const virt_range& r, std::uint64_t) noexcept { benchmark::DoNotOptimize(&r); }
    static void invalidate_space(hal::address_space_id id) noexcept { benchmark::DoNotOptimize(id); }
    static void invalidate_all() noexcept { benchmark::ClobberMemory(); }
};
static_assert(hal::Tlb<no_tlb>);

struct machine {
    using retired = mm::retired_tables<format, identity, x86_64::paging_entries, frame_stack>;

    explicit machine(std::size_t tables) : frames{tables} {}

    identity memory;
    x86_64::paging_entries entries;
    frame_stack frames;
    no_tlb tlb;
    mm::local_flusher<no_tlb> flusher{tlb};
    mm::flush_batch<mm::local_flusher<no_tlb>, retired> batch{flusher, retired{memory, entries, frames}};
    mm::mapper<format, identity, x86_64::paging_entries, frame_stack> mapper{*mm::allocate_table(memory, frames),
                                                                             memory, entries, frames};

    void clear()
    {
        mapper.clear(batch);
        batch.flush();
    }
};

} // namespace bench
