// The ELF loader alone: this program loads itself a second time, into memory of its own, and compares its code.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <exo/elf/loader.hpp>

namespace exo {
void panic(const char* message, const char* file, int line) noexcept
{
    std::fprintf(stderr, "%s:%d: %s\n", file, line, message);
    std::abort();
}
} // namespace exo

// All that the loader asks of an address space. Here it is one block of memory that stands for addresses from 0 on.
struct arena {
    std::vector<std::byte> memory;
    const std::vector<std::byte>& file;

    exo::result<> map_file(std::uint64_t at, std::uint64_t length, exo::elf::permissions access, std::uint64_t offset)
    {
        if (exo::result<> cleared = map_anonymous(at, length, access); !cleared)
            return cleared;
        const std::size_t rest = file.size() - offset;
        std::memcpy(memory.data() + at, file.data() + offset, length < rest ? length : rest);
        std::printf("  %06lx..%06lx %c%c%c from file offset %lx\n", at, at + length, access.read ? 'r' : '-',
                    access.write ? 'w' : '-', access.execute ? 'x' : '-', offset);
        return {};
    }
    exo::result<> map_anonymous(std::uint64_t at, std::uint64_t length, exo::elf::permissions)
    {
        if (at + length > memory.size())
            return exo::fail(exo::elf::outside_address_space, at);
        std::memset(memory.data() + at, 0, length);
        return {};
    }
    exo::result<> zero(std::uint64_t at, std::uint64_t length) { return map_anonymous(at, length, {}); }
};

int answer() { return 42; }

int main()
{
    std::vector<std::byte> file;
    std::FILE* self = std::fopen("/proc/self/exe", "rb");
    for (int c = 0; self && (c = std::fgetc(self)) != EOF;)
        file.push_back(static_cast<std::byte>(c));

    exo::elf::memory_source source{file};
    exo::elf::print_findings complain{[](std::string_view what, std::uint64_t offset, std::uint64_t value) {
        std::printf("offset %lu: %.*s (%lu)\n", offset, static_cast<int>(what.size()), what.data(), value);
    }};
    const exo::elf::requirements here{exo::elf::machine::x86_64, 64 << 20};
    const auto program = exo::elf::parse<exo::elf::layout64>(source, here, complain);
    if (!program || !program->sound)
        return 1;
    arena target{std::vector<std::byte>(program->span.end), file};
    const auto loaded = exo::elf::load_segments(*program, 0, target);
    if (!loaded)
        return 1;

    // The running copy lies at its own bias; the distance between two functions tells where ours is.
    extern const std::byte running_start asm("_start");
    const auto distance = reinterpret_cast<const std::byte*>(&answer) - &running_start;
    const bool same = std::memcmp(target.memory.data() + loaded->entry + distance, &running_start + distance, 6) == 0;
    std::printf("entry %lx, code %s\n", loaded->entry, same ? "equal to what runs" : "DIFFERENT");
    return same && answer() == 42 ? 0 : 1;
}
