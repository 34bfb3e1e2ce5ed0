// The file layer of exo with ext2 and nothing else: lists the root of an image and prints one file of it.
// Usage: ext2_alone IMAGE PATH [COPY]; COPY is a file of the host that PATH should equal.
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <exo/fs/ext2/ext2.hpp>
#include <exo/fs/vfs.hpp>
void exo::panic(const char* message, const char*, int) noexcept { std::fputs(message, stderr), std::abort(); }
using namespace exo;

// What exo needs from its surroundings: memory, pages, a way to wait, the time, a disk.
struct heap final : allocator {
    void* allocate(std::size_t n, std::size_t a) noexcept override { return std::aligned_alloc(a, (n + a - 1) & -a); }
    void deallocate(void* memory, std::size_t, std::size_t) noexcept override { std::free(memory); }
};
struct page_pool final : mm::page_supply {
    std::map<std::uint64_t, std::uint32_t> counts;
    std::byte* data(frame_number f) const noexcept override { return std::bit_cast<std::byte*>(f.address().value()); }
    frame_number frame_of(const std::byte* p) const noexcept override
    { return frame_number{std::bit_cast<phys_addr>(p)}; }
    void acquire(frame_number f) noexcept override { ++counts[f.value()]; }
    void release(frame_number f) noexcept override { --counts[f.value()] == 0 ? std::free(data(f)) : void(); }
    std::uint32_t references(frame_number f) const noexcept override { return counts.find(f.value())->second; }
    result<frame_number> allocate(mm::page_contents) noexcept override
    {
        auto* memory = static_cast<std::byte*>(std::aligned_alloc(page_size, page_size));
        std::memset(memory, 0, page_size);
        return acquire(frame_of(memory)), frame_of(memory);
    }
};
struct one_thread final : sync::any_parker { // alone, it never has to wait
    thread current() const noexcept override { return nullptr; }
    void park(instant) noexcept override { EXO_PANIC("nobody will wake the only thread"); }
    void unpark(const thread&) noexcept override {}
    bool interrupted() const noexcept override { return false; }
    instant now() const noexcept override { return {}; }
    state save_and_disable() noexcept override { return 0; } // and nothing interrupts it
    void restore(const state&) noexcept override {}
    bool enabled() noexcept override { return true; }
};
struct no_clock final : fs::wall_clock { fs::timestamp now() const noexcept override { return {}; } };
struct image_file final : hal::block_device {
    const std::string bytes;
    explicit image_file(std::string b) : bytes{std::move(b)} {}
    std::size_t sector_size() const noexcept override { return 512; }
    std::uint64_t sector_count() const noexcept override { return bytes.size() / 512; }
    bool read_only() const noexcept override { return true; }
    result<> write(std::uint64_t s, std::span<const std::byte>) override { return fail(errors::not_permitted, s); }
    result<> flush() override { return {}; }
    result<> read(std::uint64_t s, std::span<std::byte> into) override
    { return std::memcpy(into.data(), bytes.data() + s * 512, into.size()), result<>{}; }
};
struct print_names final : fs::directory_sink {
    bool add(const fs::directory_entry& e) override { return std::printf("%s\n", std::string{e.name}.c_str()) > 0; }
};
std::string read_host(const char* p) { return {std::istreambuf_iterator<char>{std::ifstream{p}.rdbuf()}, {}}; }
int main(int argc, char** argv)
{
    heap memory; page_pool pages; one_thread parker; mm::reclaimer reclaimer; no_clock clock;
    fs::environment environment{memory, parker, pages, reclaimer, clock};
    image_file disk{argc > 2 ? read_host(argv[1]) : ""};
    fs::vfs names{environment};
    auto system = fs::ext2::create(environment, disk);
    if (!system || !names.mount_root(*system, "image"))
        return std::puts(system ? "no memory" : system.error().kind().message.data()), 1;
    const auto me = names.initial_context();
    auto top = names.open(me, "/", fs::open_options::reading());
    auto file = names.open(me, argv[2], fs::open_options::reading());
    std::string text(1 << 20, '\0');
    fs::memory_output into{std::as_writable_bytes(std::span{text})};
    print_names print;
    if (!top || !(*top)->read_directory(print) || !file || !(*file)->read(into))
        return 1;
    text.resize(text.size() - into.remaining());
    return std::printf("\n%s", text.c_str()) < 0 || (argc > 3 && text != read_host(argv[3]));
}
