// What every object of fs needs from the rest of the kernel. One per kernel; it outlives every inode and open file.

#pragma once

#include <atomic>
#include <cstdint>

#include <exo/base/allocator.hpp>
#include <exo/base/result.hpp>
#include <exo/fs/timestamp.hpp>
#include <exo/mm/page_supply.hpp>
#include <exo/mm/reclaim.hpp>
#include <exo/sync/any_parker.hpp>

namespace exo::fs {

class device_registry;

struct environment {
    allocator& heap;
    sync::any_parker& parker;
    mm::page_supply& pages;
    mm::reclaimer& reclaimer; // every page cache registers
    wall_clock& clock;
    // Null: device nodes cannot be opened.
    device_registry* devices = nullptr;
    std::atomic<std::uint64_t> cached_pages{}; // in all of them
    // What stat calls the device of a file: each file system takes the next.
    std::atomic<std::uint32_t> next_device{1};
    // Of inodes that no file system numbers: pipes, sockets.
    std::atomic<std::uint64_t> next_anonymous_inode{1};

    // A page, if need be one that a cache gives up. From threads, with no spinning lock held. Errors: out_of_memory.
    [[nodiscard]] result<mm::page> allocate_page(mm::page_contents contents) noexcept
    {
        return reclaimer.retry(parker, [&] { return pages.allocate_page(contents); });
    }
};

} // namespace exo::fs
