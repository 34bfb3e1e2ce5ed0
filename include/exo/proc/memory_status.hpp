// Where the machine's memory is, in bytes: what /proc/meminfo and sysinfo tell. Only the kernel's own part is broken
// down; page cache and user pages are the rest.

#pragma once

#include <cstdint>

namespace exo::proc {

struct memory_status {
    std::uint64_t total{}; // RAM that the kernel manages, its own image included
    std::uint64_t free{};
    std::uint64_t page_cache{}; // clean pages of files, which could be given back
    std::uint64_t image{};      // the kernel as loaded, and the tables made at boot
    std::uint64_t frame_records{};
    std::uint64_t heap{};
    std::uint64_t stacks{};
    std::uint64_t page_tables{};

    [[nodiscard]] std::uint64_t kernel() const { return image + frame_records + heap + stacks + page_tables; }
};

} // namespace exo::proc
