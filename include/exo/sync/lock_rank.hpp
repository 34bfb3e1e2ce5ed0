// The order in which locks are taken. A thread that holds a lock takes only locks of a lower rank: then no cycle, and no
// deadlock, can form. Every lock names its rank in its type.

#pragma once

#include <cstdint>

namespace exo::sync {

enum class lock_rank : std::uint8_t {
    // Spinning; may be taken with any other held.
    console,
    frames,
    heap,
    wait_queue,
    timers,
    run_queue,
    device,
    page_table,
    address_space_cpus,
    descriptors,
    process,
    process_table,
    // Sleeping; never taken with a spinning one held.
    page,
    inode,
    inode_parent, // a directory, while its child's is taken
    rename,
    mounts,
    regions,
    exec,
};

} // namespace exo::sync
