// Reading a file through vfs and ext2 with a warm page cache, against memcpy of as many bytes; looking up names.

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include <stdlib.h>

#include <benchmark/benchmark.h>

#include <exo/fs/ext2/ext2.hpp>
#include <exo/fs/tmpfs/tmpfs.hpp>
#include <exo/fs/vfs.hpp>
#include <exo/sim/host_threads.hpp>
#include <exo/sim/ram_disk.hpp>

namespace exo::fs {
namespace {

struct plain_heap final : allocator {
    void* allocate(std::size_t bytes, std::size_t alignment) noexcept override
    {
        return ::operator new(bytes, std::align_val_t{alignment}, std::nothrow);
    }
    void deallocate(void* memory, std::size_t, std::size_t alignment) noexcept override
    {
        ::operator delete(memory, std::align_val_t{alignment});
    }
};

// Pages out of one block, with their counts beside them, as a kernel keeps them.
class page_block final : public mm::page_supply {
public:
    static constexpr std::size_t pages = 16384;

    page_block() : memory_{static_cast<std::byte*>(std::aligned_alloc(page_size, pages * page_size))}, counts_(pages)
    {
        std::memset(memory_, 1, pages * page_size);
        for (std::size_t i = pages; i-- > 0;)
            free_.push_back(i);
    }
    page_block(const page_block&) = delete;
    page_block& operator=(const page_block&) = delete;
    ~page_block() { std::free(memory_); }

    std::byte* data(frame_number f) const noexcept override { return memory_ + f.value() * page_size; }
    frame_number frame_of(const std::byte* p) const noexcept override
    {
        return frame_number{static_cast<std::uint64_t>(p - memory_) / page_size};
    }
    void acquire(frame_number f) noexcept override { counts_[f.value()].fetch_add(1, std::memory_order_relaxed); }
    void release(frame_number f) noexcept override
    {
        if (counts_[f.value()].fetch_sub(1, std::memory_order_acq_rel) == 1)
            free_.push_back(f.value());
    }
    std::uint32_t references(frame_number f) const noexcept override { return counts_[f.value()]; }

private:
    result<frame_number> allocate(mm::page_contents contents) noexcept override
    {
        if (free_.empty())
            return fail(errors::out_of_memory);
        const frame_number f{free_.back()};
        free_.pop_back();
        counts_[f.value()] = 1;
        if (contents == mm::page_contents::zeroed)
            std::memset(data(f), 0, page_size);
        return f;
    }

    std::byte* memory_;
    std::vector<std::atomic<std::uint32_t>> counts_;
    std::vector<std::uint64_t> free_;
};

struct no_clock final : wall_clock {
    timestamp now() const noexcept override { return {}; }
};

constexpr std::size_t file_size = 8 << 20;
constexpr int directory_entries = 10'000;

// An ext2 image of 4 KiB blocks with one file of 8 MiB, a path twelve deep and a directory of ten thousand.
std::vector<std::byte> make_image()
{
    namespace host = std::filesystem;
    std::string top = (host::temp_directory_path() / "exo-bench-XXXXXX").string();
    if (!::mkdtemp(top.data()))
        return {};
    const host::path tree = host::path{top} / "tree";
    host::path deep = tree;
    for (int i = 0; i < 11; ++i)
        deep /= "directory" + std::to_string(i);
    host::create_directories(deep);
    std::ofstream{deep / "file"};
    std::ofstream{tree / "large", std::ios::binary} << std::string(file_size, 'x');
    host::create_directories(tree / "many");
    for (int i = 0; i < directory_entries; ++i)
        std::ofstream{tree / "many" / std::to_string(i)};
    const auto image = host::path{top} / "image";
    const auto command = "PATH=$PATH:/usr/sbin:/sbin mke2fs -q -F -t ext2 -b 4096 -N 12000 -d '" + tree.string() +
                         "' '" + image.string() + "' 40M >/dev/null 2>&1";
    std::vector<std::byte> bytes;
    if (std::system(command.c_str()) == 0) {
        bytes.resize(host::file_size(image));
        std::ifstream{image, std::ios::binary}.read(reinterpret_cast<char*>(bytes.data()),
                                                    static_cast<std::streamsize>(bytes.size()));
    }
    host::remove_all(top);
    return bytes;
}

struct mounted {
    mounted() : disk{make_image()}
    {
        auto system = ext2::create(env, disk);
        ok = system && names.mount_root(*system, "image");
        me = names.initial_context();
    }
    plain_heap heap;
    page_block pages;
    sim::host_threads parker;
    mm::reclaimer reclaimer;
    no_clock clock;
    environment env{heap, parker, pages, reclaimer, clock};
    sim::ram_disk disk;
    vfs names{env, 20'000};
    path_context me;
    bool ok{};
};

mounted& world()
{
    static mounted w;
    return w;
}

void read_seq(benchmark::State& state, std::size_t size)
{
    auto f = world().names.open(world().me, "/large", open_options::reading());
    if (!world().ok || !f)
        return state.SkipWithError("no image: is mke2fs (package e2fsprogs) there?");
    std::vector<std::byte> buffer(size);
    std::uint64_t offset = 0;
    for (auto _ : state) {
        memory_output into{buffer};
        const auto count = (*f)->read_at(offset, into);
        if (!count || *count != size)
            return state.SkipWithError("the read failed");
        offset = (offset + size) % file_size;
        benchmark::ClobberMemory();
    }
    state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * size));
    state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()));
}
BENCHMARK_CAPTURE(read_seq, 4, 4 << 10)->Name("fs/ext2/read_seq/4KiB");
BENCHMARK_CAPTURE(read_seq, 64, 64 << 10)->Name("fs/ext2/read_seq/64KiB");
BENCHMARK_CAPTURE(read_seq, 1024, 1 << 20)->Name("fs/ext2/read_seq/1MiB");

// What no read can beat: the same bytes, from as large a source, into the same buffer.
void copy(benchmark::State& state, std::size_t size)
{
    const std::vector<std::byte> source(file_size, std::byte{1});
    std::vector<std::byte> buffer(size);
    std::size_t offset = 0;
    for (auto _ : state) {
        std::memcpy(buffer.data(), source.data() + offset, size);
        offset = (offset + size) % file_size;
        benchmark::ClobberMemory();
    }
    state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * size));
    state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()));
}
BENCHMARK_CAPTURE(copy, 4, 4 << 10)->Name("fs/limit/memcpy/4KiB");
BENCHMARK_CAPTURE(copy, 64, 64 << 10)->Name("fs/limit/memcpy/64KiB");
BENCHMARK_CAPTURE(copy, 1024, 1 << 20)->Name("fs/limit/memcpy/1MiB");

void lookup_deep12(benchmark::State& state)
{
    std::string path;
    for (int i = 0; i < 11; ++i)
        path += "/directory" + std::to_string(i);
    path += "/file";
    for (auto _ : state) {
        auto found = world().names.resolve(world().me, fs::path{path});
        if (!found)
            return state.SkipWithError("not found");
        benchmark::DoNotOptimize(found);
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(lookup_deep12)->Name("fs/lookup/deep12");

void stat_random(benchmark::State& state)
{
    std::mt19937 random{1};
    std::vector<std::string> paths;
    for (int i = 0; i < directory_entries; ++i)
        paths.push_back("/many/" + std::to_string(random() % directory_entries));
    for (const auto& p : paths) // warm
        if (!world().names.status(world().me, fs::path{p}))
            return state.SkipWithError("not found");
    std::size_t i = 0;
    for (auto _ : state) {
        benchmark::DoNotOptimize(world().names.status(world().me, fs::path{paths[i]}));
        i = i + 1 == paths.size() ? 0 : i + 1;
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(stat_random)->Name("fs/stat/random10k");

void readdir(benchmark::State& state)
{
    struct count final : directory_sink {
        bool add(const directory_entry&) override
        {
            ++seen;
            return true;
        }
        std::int64_t seen{};
    } sink;
    auto f = world().names.open(world().me, "/many", open_options::reading());
    if (!f)
        return state.SkipWithError("not found");
    for (auto _ : state)
        if (!(*f)->seek(0, seek_from::start) || !(*f)->read_directory(sink))
            return state.SkipWithError("the directory cannot be read");
    state.SetItemsProcessed(sink.seen);
}
BENCHMARK(readdir)->Name("fs/readdir/10k");

void tmpfs_create_unlink(benchmark::State& state)
{
    static plain_heap heap;
    static page_block pages;
    static sim::host_threads parker;
    static mm::reclaimer reclaimer;
    static no_clock clock;
    environment env{heap, parker, pages, reclaimer, clock};
    vfs names{env};
    auto system = tmpfs::create(env);
    if (!system || !names.mount_root(*system, "none"))
        return state.SkipWithError("no memory");
    const auto me = names.initial_context();
    for (auto _ : state) {
        if (!names.open(me, "/file", {.write = true, .create = true, .exclusive = true, .permissions = 0600}) ||
            !names.unlink(me, "/file"))
            return state.SkipWithError("failed");
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(tmpfs_create_unlink)->Name("fs/tmpfs/create_unlink");

} // namespace
} // namespace exo::fs
