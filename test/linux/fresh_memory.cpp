// What a program sees of memory that it did not write: zeros, wherever the memory comes from, although every frame was
// full of somebody else's bytes before.

#include "../proc/world.hpp"

#include <string_view>

using namespace exo;
using namespace world;

namespace {

constexpr std::uint64_t pattern = 0x5ec4'e75e'c4e7'5ec4;
constexpr std::uint64_t pages = 40;

std::uint64_t map(view& self, std::uint64_t length, unsigned flags, std::int64_t file = -1)
{
    return static_cast<std::uint64_t>(self.call(nr::mmap, 0, length, 3, flags, file, 0));
}
void check_zero(view& self, std::uint64_t begin, std::uint64_t end)
{
    bool zero = true;
    for (auto at = begin; at < end; at += 8)
        zero = zero && self.load<std::uint64_t>(at) == 0;
    CHECK(zero);
}

TEST_CASE("fresh memory is zero, wherever it comes from, and what follows a file's end is too")
{
    simulated_kernel machine{2048};
    const auto polluter = machine.add([&](view& self) {
        // All that is free, up to what the kernel itself needs.
        const auto own = map(self, 1700 * page_size, 0x22);
        for (std::uint64_t at = 0; at < 1700 * page_size; at += 512)
            for (std::uint64_t word = 0; word < 512; word += 64)
                self.store(own + at + word, pattern);
        self.exit(0);
    });
    const auto status = machine.run([&](view& self) {
        self.fork(polluter);
        CHECK(wait_for(self).word == 0);
        const auto check = [&](std::string_view what, std::uint64_t begin, std::uint64_t end) {
            CAPTURE(std::string{what});
            check_zero(self, begin, end);
        };

        const auto own = map(self, pages * page_size, 0x22);
        check("read", own, own + pages / 2 * page_size);
        for (auto i = pages / 2; i < pages; ++i)
            self.store(own + i * page_size + 8, pattern); // written first, beside what is looked at
        for (auto i = pages / 2; i < pages; ++i) {
            check("written", own + i * page_size, own + i * page_size + 8);
            check("written", own + i * page_size + 16, own + (i + 1) * page_size);
        }
        CHECK(self.call(nr::madvise, own, pages * page_size, 4) == 0);
        check("dropped", own, own + pages * page_size);
        const auto shared = map(self, pages * page_size, 0x21);
        check("shared", shared, shared + pages * page_size);
        const auto brk = static_cast<std::uint64_t>(self.call(nr::brk, 0));
        CHECK(self.call(nr::brk, brk + 4 * page_size) == static_cast<std::int64_t>(brk + 4 * page_size));
        check("heap", (brk + 7) & ~std::uint64_t{7}, brk + 4 * page_size);
        const auto stack = self.frame.rsp & ~(page_size - 1);
        check("stack", stack - 8 * page_size, stack - page_size);
        check("bss", machine.data_begin() + page_size, machine.data_begin() + 2 * page_size);

        // A file of three bytes: in its last page, behind its end, and after it has grown.
        const auto name = self.put("/tmp/short");
        const auto file = self.call(nr::open, name, 0x42, 0600);
        CHECK(self.call(nr::write, file, name, 3) == 3);
        const auto private_view = map(self, page_size, 2, file), shared_view = map(self, page_size, 1, file);
        check("behind the end of a file", private_view + 8, private_view + page_size);
        check("behind the end of a file", shared_view + 8, shared_view + page_size);
        CHECK(self.call(nr::ftruncate, file, 3 * page_size) == 0);
        const auto grown = map(self, 3 * page_size, 1, file);
        check("what a file grew by", grown + 8, grown + 3 * page_size);
        const auto into = map(self, 3 * page_size, 0x22);
        self.store(into + page_size, pattern);
        CHECK(self.call(nr::pread64, file, into, 3 * page_size, 0) == 3 * static_cast<std::int64_t>(page_size));
        check("a hole, read", into + 8, into + 3 * page_size);
        self.exit(3);
    });
    CHECK(status == 3);
    check_clean(machine, 3);
}

} // namespace
