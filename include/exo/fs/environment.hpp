// What every object of fs needs from the rest of the kernel. One per kernel; it outlives every inode and open file.

#pragma once

#include <atomic>
#include <cstdint>

#include <exo/base/allocator.hpp>
#include <exo/fs/page_reclaimer.hpp>
#include <exo/fs/timestamp.hpp>
#include <exo/mm/page_supply.hpp>
#include <exo/sync/any_parker.hpp>

namespace exo::fs {

class device_registry;

struct environment {
    allocator& heap;
    sync::any_parker& parker;
    mm::page_supply& pages;
    wall_clock& clock;
    // Null: device nodes cannot be opened.
    device_registry* devices = nullptr;
    // The page caches that can give memory back; the kernel's out-of-memory path calls reclaimer.reclaim().
    page_reclaimer reclaimer{};
    std::atomic<std::uint64_t> cached_pages{}; // in all of them
    // What stat calls the device of a file: each file system takes the next.
    std::atomic<std::uint32_t> next_device{1};
    // Of inodes that no file system numbers: pipes, sockets.
    std::atomic<std::uint64_t> next_anonymous_inode{1};
};

} // namespace exo::fs
