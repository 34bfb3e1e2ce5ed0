// The order in which locks are taken. A thread that holds a lock takes only locks of a lower rank: then no cycle, and
// no deadlock, can form. Every lock names its rank in its type.

#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace exo::sync {

enum class lock_rank : std::uint8_t {
    // Spinning; may be taken with any other held.
    console,
    scheduler,
    frames,
    heap,
    wait_queue,
    timers,
    device,
    object_mappings,
    page_cache,
    reclaimer,
    inode_table,
    dentries,
    mount_table,
    page_table,
    descriptors,
    admission,
    process,
    process_table,
    // Sleeping; never taken with a spinning one held.
    futexes, // of those that are inherited through; no fault is taken with it held
    page,
    inode,
    inode_parent, // a directory, while its child's is taken
    rename,
    mounts,
    regions,
    out_of_memory,
    // Held while user memory is copied, so a fault may be taken.
    file_content, // one writer of a file at a time
    file_position,
};

inline constexpr std::size_t lock_rank_count = static_cast<std::size_t>(lock_rank::file_position) + 1;

[[nodiscard]] constexpr bool sleeps(lock_rank rank)
{
    return rank >= lock_rank::futexes;
}

// A fault that brings in user memory may take all up to this one.
inline constexpr lock_rank highest_in_a_fault = lock_rank::out_of_memory;

[[nodiscard]] constexpr std::string_view name_of(lock_rank rank)
{
    switch (rank) {
        using enum lock_rank;
    case console: return "console";
    case scheduler: return "scheduler";
    case frames: return "frames";
    case heap: return "heap";
    case wait_queue: return "wait_queue";
    case timers: return "timers";
    case device: return "device";
    case object_mappings: return "object_mappings";
    case page_cache: return "page_cache";
    case reclaimer: return "reclaimer";
    case inode_table: return "inode_table";
    case dentries: return "dentries";
    case mount_table: return "mount_table";
    case page_table: return "page_table";
    case descriptors: return "descriptors";
    case admission: return "admission";
    case process: return "process";
    case process_table: return "process_table";
    case futexes: return "futexes";
    case page: return "page";
    case inode: return "inode";
    case inode_parent: return "inode_parent";
    case rename: return "rename";
    case mounts: return "mounts";
    case regions: return "regions";
    case out_of_memory: return "out_of_memory";
    case file_content: return "file_content";
    case file_position: return "file_position";
    }
    return {};
}

} // namespace exo::sync
