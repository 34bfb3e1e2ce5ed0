// The order in which locks are taken. A thread that holds a lock takes only locks of a lower rank: then no cycle, and
// no deadlock, can form. Every lock names its rank in its type.

#pragma once

#include <cstdint>

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
    page,
    inode,
    inode_parent, // a directory, while its child's is taken
    rename,
    mounts,
    regions,
    out_of_memory,
    file_content, // one writer of a file at a time; held while user memory is copied, so a fault may be taken
    file_position,
};

} // namespace exo::sync
