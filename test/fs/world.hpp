// What file systems need from a kernel, on the host: pages and memory that run out on demand and know what leaked,
// threads that park, a clock that stands still until it is told.

#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#define DOCTEST_CONFIG_SUPER_FAST_ASSERTS
#include <doctest/doctest.h>

#include <exo/base/allocator.hpp>
#include <exo/fs/environment.hpp>
#include <exo/fs/device_registry.hpp>
#include <exo/fs/file.hpp>
#include <exo/fs/stream.hpp>
#include <exo/fs/vfs.hpp>
#include <exo/mm/page_supply.hpp>
#include <exo/sim/host_threads.hpp>

namespace exo::test {

// Fails the n-th allocation from now on, once; checks sizes, and that everything comes back.
class failing_heap final : public allocator {
public:
    ~failing_heap() { CHECK(live_bytes == 0); }
    void* allocate(std::size_t bytes, std::size_t alignment) noexcept override
    {
        if (fail_at != 0 && ++seen == fail_at)
            return nullptr;
        live_bytes += static_cast<std::int64_t>(bytes);
        return ::operator new(bytes, std::align_val_t{alignment}, std::nothrow);
    }
    void deallocate(void* memory, std::size_t bytes, std::size_t alignment) noexcept override
    {
        live_bytes -= static_cast<std::int64_t>(bytes);
        ::operator delete(memory, std::align_val_t{alignment});
    }
    std::atomic<std::int64_t> live_bytes{};
    std::uint64_t fail_at{};
    std::uint64_t seen{};
};

class host_pages final : public mm::page_supply {
public:
    ~host_pages() { CHECK(live == 0); }

    std::byte* data(frame_number f) const noexcept override
    {
        return reinterpret_cast<std::byte*>(f.value() << page_shift);
    }
    frame_number frame_of(const std::byte* at) const noexcept override
    {
        return frame_number{reinterpret_cast<std::uintptr_t>(at) >> page_shift};
    }
    void acquire(frame_number f) noexcept override { count_of(f).fetch_add(1); }
    void release(frame_number f) noexcept override
    {
        if (count_of(f).fetch_sub(1) != 1)
            return;
        const std::lock_guard guard{mutex_};
        counts_.erase(f.value());
        --live;
        std::free(data(f));
    }
    std::uint32_t references(frame_number f) const noexcept override { return count_of(f).load(); }

    std::uint64_t limit = ~std::uint64_t{0};
    std::atomic<std::uint64_t> live{};
    std::uint64_t fail_at{};
    std::uint64_t seen{};
    std::function<void()> meanwhile; // run once, by the next allocation

private:
    result<frame_number> allocate(mm::page_contents contents) noexcept override
    {
        if (meanwhile)
            std::exchange(meanwhile, {})();
        if ((fail_at != 0 && ++seen == fail_at) || live >= limit)
            return fail(errors::out_of_memory, page_size);
        auto* const memory = static_cast<std::byte*>(std::aligned_alloc(page_size, page_size));
        std::memset(memory, contents == mm::page_contents::zeroed ? 0 : 0xA5, page_size);
        const auto f = frame_of(memory);
        const std::lock_guard guard{mutex_};
        counts_[f.value()] = 1;
        ++live;
        return f;
    }
    std::atomic<std::uint32_t>& count_of(frame_number f) const
    {
        const std::lock_guard guard{mutex_};
        return counts_.at(f.value());
    }

    mutable std::mutex mutex_;
    mutable std::unordered_map<std::uint64_t, std::atomic<std::uint32_t>> counts_;
};

struct settable_clock final : fs::wall_clock {
    fs::timestamp now() const noexcept override { return {time.load(), 0}; }
    std::atomic<std::int64_t> time{1'000'000};
};

struct world {
    failing_heap heap;
    host_pages pages;
    sim::host_threads parker;
    settable_clock clock;
    fs::device_registry devices;
    mm::reclaimer reclaimer;
    fs::environment env{heap, parker, pages, reclaimer, clock, &devices};
};

inline std::span<const std::byte> bytes_of(std::string_view text)
{
    return std::as_bytes(std::span{text.data(), text.size()});
}

inline result<std::size_t> write_text(fs::file& f, std::string_view text)
{
    fs::memory_input from{bytes_of(text)};
    return f.write(from);
}

inline result<std::string> read_text(fs::file& f, std::size_t most)
{
    std::string text(most, '\0');
    fs::memory_output into{std::as_writable_bytes(std::span{text.data(), text.size()})};
    const auto count = f.read(into);
    if (!count)
        return fail(count.error());
    text.resize(*count);
    return text;
}

inline result<std::string> read_all(fs::file& f)
{
    std::string all;
    for (;;) {
        const auto piece = read_text(f, 50'000);
        if (!piece)
            return fail(piece.error());
        if (piece->empty())
            return all;
        all += *piece;
    }
}

struct listed {
    std::string name;
    std::uint64_t inode;
    fs::file_type type;
};

// All entries but "." and "..", read in pieces of `at_once`.
inline result<std::vector<listed>> list_directory(fs::file& f, std::size_t at_once = 7)
{
    struct sink final : fs::directory_sink {
        bool add(const fs::directory_entry& e) override
        {
            if (left == 0)
                return false;
            --left;
            ++seen;
            if (e.name != "." && e.name != "..")
                found.push_back({std::string{e.name}, e.inode, e.type});
            return true;
        }
        std::size_t left{};
        std::size_t seen{};
        std::vector<listed> found;
    } s;
    do {
        s.left = at_once;
        s.seen = 0;
        if (auto done = f.read_directory(s); !done)
            return fail(done.error());
    } while (s.seen != 0);
    return s.found;
}

inline posix errno_of(const auto& r)
{
    return r ? posix::none : r.error().errno_value();
}

} // namespace exo::test
