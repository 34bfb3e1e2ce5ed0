// Hardware traits at their simplest, for rooms that need no machine: memory from the host, one CPU or one per thread.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <thread>
#include <utility>
#include <vector>

#include <exo/base/check.hpp>
#include <exo/base/page.hpp>
#include <exo/hal/atomics.hpp>
#include <exo/hal/cpu_local.hpp>
#include <exo/hal/interrupt_control.hpp>
#include <exo/hal/phys_access.hpp>
#include <exo/mm/frame_allocator.hpp>

namespace plain {

inline thread_local unsigned cpu_of_thread = 0;
inline thread_local bool interrupts_of_thread = true;

struct interrupts {
    using state = bool;
    state save_and_disable() noexcept { return std::exchange(interrupts_of_thread, false); }
    void restore(const state& saved) noexcept
    {
        EXO_CHECK(!interrupts_of_thread);
        interrupts_of_thread = saved;
    }
    bool enabled() noexcept { return interrupts_of_thread; }
};
static_assert(exo::hal::InterruptControl<interrupts>);

// A thread that wants a CPU of its own says so in cpu_of_thread.
struct cpus {
    unsigned count = 1;
    unsigned current_cpu() const noexcept
    {
        EXO_CHECK(!interrupts_of_thread); // else the answer may be old
        return cpu_of_thread;
    }
    unsigned cpu_limit() const noexcept { return count; }
};
static_assert(exo::hal::CpuLocal<cpus>);

// For who asks with interrupts on: now and then the thread has been moved before it uses the answer.
struct moving_cpus : cpus {
    unsigned current_cpu() const noexcept
    {
        thread_local unsigned asked = 0;
        return ++asked % 8 == 0 ? (cpu_of_thread + 1) % count : cpu_of_thread;
    }
};
static_assert(exo::hal::CpuLocal<moving_cpus>);

// Frames first to first + count - 1 are memory of the host.
class memory {
public:
    memory(exo::frame_number first, std::size_t count)
        : first_{first}, bytes_{static_cast<std::byte*>(
                             std::aligned_alloc(block, (count * exo::page_size + block - 1) & ~(block - 1)))}
    {
        EXO_CHECK(bytes_ != nullptr);
        EXO_CHECK(first.value() % (block / exo::page_size) == 0); // so that what is aligned there is aligned here
    }
    memory(const memory&) = delete;
    memory& operator=(const memory&) = delete;
    ~memory() { std::free(bytes_); }

    std::byte* to_pointer(exo::phys_addr a) const noexcept { return bytes_ + (a - first_.address()); }
    exo::phys_addr to_physical(const void* p) const noexcept
    {
        return first_.address() + static_cast<std::uint64_t>(static_cast<const std::byte*>(p) - bytes_);
    }

private:
    static constexpr std::size_t block = exo::page_size << 10;
    exo::frame_number first_;
    std::byte* bytes_;
};
static_assert(exo::hal::PhysAccess<memory>);

// There may be more threads than CPUs of the host: who waits for another lets it run.
struct atomics : exo::hal::standard_atomics {
    static void pause() noexcept { std::this_thread::yield(); }
    static void back_off(unsigned) noexcept { pause(); }
};
using frame_allocator = exo::mm::frame_allocator<interrupts, moving_cpus, atomics>;

// A frame allocator with everything that it needs.
struct frames {
    explicit frames(std::size_t count, unsigned cpu_count = 1, exo::frame_number lowest = exo::frame_number{1024})
        : first{lowest}, cpu{cpu_count}, moving{{cpu_count}}, records(count), caches(cpu_count),
          allocator{interrupt_control, moving, first, records, caches}
    {
    }
    void add_all() { allocator.add(exo::phys_range::of_size(first.address(), records.size() * exo::page_size)); }

    exo::frame_number first;
    interrupts interrupt_control;
    cpus cpu;
    moving_cpus moving;
    std::vector<frame_allocator::frame_info> records;
    std::vector<frame_allocator::frame_cache> caches;
    frame_allocator allocator;
};

} // namespace plain
