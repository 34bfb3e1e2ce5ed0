#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <exo/linux/file_structures.hpp>
#include <exo/sim/kernel.hpp>

// Programs that make file calls on a whole kernel, and look at what came back as a program sees it.

using namespace exo;
using exo::linux_abi::number;
namespace abi = exo::linux_abi;

namespace {

using program = sim::simulated_kernel::program;

constexpr std::int64_t e(posix errno_value)
{
    return -static_cast<std::int64_t>(errno_value);
}
constexpr std::int32_t here = abi::at_flag::working_directory;
constexpr std::uint64_t nowhere = 0x10;               // not mapped
constexpr std::uint64_t kernel_half = ~std::uint64_t{0xfff};

// What a C library would make of the calls.
struct process {
    program& self;

    template <class... Args>
    std::int64_t operator()(number n, Args... arguments)
    {
        const std::uint64_t stack = self.frame.rsp;
        const std::array<std::uint64_t, 6> registers{pass(arguments)...};
        return invoke(n, registers, stack);
    }
    std::int64_t open(std::string_view path, std::uint32_t flags = 0, std::uint32_t mode = 0644)
    {
        return (*this)(number::openat, here, path, flags, mode);
    }
    std::int64_t write(std::int64_t descriptor, std::string_view text)
    {
        return (*this)(number::write, descriptor, text, text.size());
    }
    // What was read, or "-errno".
    std::string read(std::int64_t descriptor, std::size_t most = 4096)
    {
        const std::uint64_t stack = self.frame.rsp;
        const std::uint64_t buffer = self.allocate(most);
        const auto count = self.call(number::read, descriptor, buffer, most);
        std::string text;
        if (count < 0)
            text = std::to_string(count);
        for (std::int64_t i = 0; i < count; ++i)
            text += self.load<char>(buffer + static_cast<std::uint64_t>(i));
        self.frame.rsp = stack;
        return text;
    }
    std::string contents(std::string_view path)
    {
        const auto descriptor = open(path);
        if (descriptor < 0)
            return std::to_string(descriptor);
        std::string all;
        for (;;) {
            const std::string piece = read(descriptor, 1000);
            if (piece.empty())
                break;
            all += piece;
        }
        (*this)(number::close, descriptor);
        return all;
    }
    std::int64_t create(std::string_view path, std::string_view text)
    {
        namespace flag = abi::open_flag;
        const auto descriptor = open(path, flag::create | flag::write_only | flag::truncate);
        if (descriptor < 0)
            return descriptor;
        const auto written = write(descriptor, text);
        (*this)(number::close, descriptor);
        return written;
    }
    abi::stat status(std::string_view path, std::uint32_t flags = 0)
    {
        const std::uint64_t stack = self.frame.rsp;
        const std::uint64_t at = self.allocate(sizeof(abi::stat));
        abi::stat s{};
        if (self.call(number::newfstatat, here, self.put(path), at, flags) == 0)
            s = self.load<abi::stat>(at);
        self.frame.rsp = stack;
        return s;
    }
    std::string link(std::string_view path)
    {
        const std::uint64_t stack = self.frame.rsp;
        const std::uint64_t at = self.allocate(512);
        const auto length = self.call(number::readlink, self.put(path), at, 511);
        std::string text = length < 0 ? std::to_string(length) : std::string{};
        for (std::int64_t i = 0; i < length; ++i)
            text += self.load<char>(at + static_cast<std::uint64_t>(i));
        self.frame.rsp = stack;
        return text;
    }
    // Names with their types, by getdents64 with a buffer of `size`.
    std::map<std::string, unsigned> entries(std::string_view path, std::size_t size = 4096)
    {
        const auto descriptor = open(path, abi::open_flag::directory);
        const std::uint64_t stack = self.frame.rsp;
        const std::uint64_t buffer = self.allocate(size);
        std::map<std::string, unsigned> found;
        for (;;) {
            const auto length = self.call(number::getdents64, descriptor, buffer, size);
            CHECK(length >= 0);
            if (length <= 0)
                break;
            for (std::uint64_t at = buffer; at < buffer + static_cast<std::uint64_t>(length);) {
                const auto step = self.load<std::uint16_t>(at + 16);
                CHECK(step % 8 == 0);
                const std::string name = self.load_string(at + abi::directory_record_head);
                CHECK(found.emplace(name, self.load<std::uint8_t>(at + 18)).second);
                at += step;
            }
        }
        self.frame.rsp = stack;
        (*this)(number::close, descriptor);
        return found;
    }

private:
    // Out of line, as it is used a few hundred times.
    [[gnu::noinline]] std::int64_t invoke(number n, const std::array<std::uint64_t, 6>& r, std::uint64_t stack)
    {
        const auto outcome = self.call(n, r[0], r[1], r[2], r[3], r[4], r[5]);
        self.frame.rsp = stack;
        return outcome;
    }
    std::uint64_t pass(std::string_view text) { return self.put(text); }
    std::uint64_t pass(const char* text) { return self.put(text); }
    template <class T>
        requires std::is_integral_v<T>
    std::uint64_t pass(T value)
    {
        return static_cast<std::uint64_t>(static_cast<std::int64_t>(value));
    }
    std::uint64_t pass(std::uint64_t value) { return value; }
};

// Runs `body` as PID 1. It returns before the program exits, which would unwind nothing.
template <class Body>
void run_as_init(sim::simulated_kernel& k, Body body)
{
    bool done = false;
    const auto status = k.run([&](program& self) {
        body(process{self});
        done = true;
        self.exit(7);
    });
    CHECK(status.value_or(-1) == 7);
    CHECK(done);
    CHECK(k.platform().violations().empty());
}

template <class Body>
void on_a_kernel(Body body)
{
    sim::simulated_kernel k;
    run_as_init(k, [&](process p) { body(p, k); });
}

// Where a child that runs `body` starts.
template <class Body>
std::uint64_t add_child(sim::simulated_kernel& k, Body body)
{
    return k.add([body](program& self) {
        body(process{self});
        self.exit(0);
    });
}

std::vector<std::string> words(const std::string& text)
{
    std::istringstream in{text};
    std::vector<std::string> all;
    for (std::string w; in >> w;)
        all.push_back(w);
    return all;
}

constexpr number any_calls[] = {
    number::read,     number::write,    number::readv,      number::writev,     number::pread64,
    number::pwrite64, number::lseek,    number::sendfile,   number::getdents64, number::stat,
    number::fstat,    number::statx,    number::access,     number::readlink,   number::statfs,
    number::getcwd,   number::open,     number::openat,     number::close,      number::mkdir,
    number::unlink,   number::rmdir,    number::rename,     number::link,       number::symlink,
    number::chmod,    number::fchmod,   number::chown,      number::utimensat,  number::truncate,
    number::ftruncate, number::chdir,   number::fchdir,     number::dup,        number::dup2,
    number::dup3,     number::fcntl,    number::ioctl,      number::pipe2,      number::poll,
    number::select,   number::ppoll,    number::fadvise64,  number::fsync,      number::mount,
    number::umount2,  number::mknod,    number::renameat2,  number::newfstatat, number::faccessat2,
};

} // namespace

TEST_CASE("files are opened, written, read back and positioned")
{
    on_a_kernel([](process& p, auto&) {
        using namespace abi::open_flag;
        CHECK(p.open("/tmp/none") == e(posix::noent));
        const auto f = p.open("/tmp/f", create | exclusive | read_write, 0640);
        REQUIRE(f == 3);
        CHECK(p.open("/tmp/f", create | exclusive) == e(posix::exist));
        CHECK(p.write(f, "hello, world") == 12);
        CHECK(p(number::lseek, f, 7, 0) == 7);
        CHECK(p.read(f) == "world");
        CHECK(p.read(f).empty());
        CHECK(p(number::lseek, f, -5, 2) == 7);
        CHECK(p(number::lseek, f, -100, 1) == e(posix::inval));
        CHECK(p(number::lseek, f, 0, 9) == e(posix::inval));
        CHECK(p(number::pwrite64, f, "J", 1, 0) == 1);
        CHECK(p(number::pwrite64, f, "J", 1, -1) == e(posix::inval));
        CHECK(p.contents("/tmp/f") == "Jello, world");
        CHECK(p(number::close, f) == 0);
        CHECK(p(number::close, f) == e(posix::badf));
        CHECK(p.read(f) == std::to_string(e(posix::badf)));

        const auto appended = p.open("/tmp/f", write_only | append);
        CHECK(p(number::lseek, appended, 0, 0) == 0);
        CHECK(p.write(appended, "!") == 1);
        CHECK(p.contents("/tmp/f") == "Jello, world!");
        CHECK(p.read(appended) == std::to_string(e(posix::badf))); // not open for that
        CHECK(p(number::ftruncate, appended, 5) == 0);
        CHECK(p.contents("/tmp/f") == "Jello");
        CHECK(p(number::ftruncate, appended, -1) == e(posix::inval));
        CHECK(p(number::truncate, "/tmp/f", 2) == 0);
        CHECK(p.contents("/tmp/f") == "Je");

        CHECK(p.open("/tmp", write_only) == e(posix::isdir));
        CHECK(p.open("/tmp/f", directory) == e(posix::notdir));
        CHECK(p.open("/tmp/f/x") == e(posix::notdir));
        CHECK(p.read(p.open("/tmp", directory)) == std::to_string(e(posix::isdir)));
        CHECK(p(number::symlink, "f", "/tmp/l") == 0);
        CHECK(p.open("/tmp/l", no_follow) == e(posix::loop));
        CHECK(p.contents("/tmp/l") == "Je");
        CHECK(p.open("/tmp/new", temporary | directory | read_write) == e(posix::opnotsupp));
        CHECK(p(number::creat, "/tmp/c", 0600) > 0);
        CHECK(p(number::lseek, 0, 0, 1) == e(posix::spipe)); // the terminal
    });
}

TEST_CASE("addresses are checked, and strings may end where memory ends")
{
    on_a_kernel([](process& p, auto&) {
        const auto f = p.open("/tmp/f", abi::open_flag::create | abi::open_flag::read_write);
        for (const std::uint64_t bad : {nowhere, kernel_half, ~std::uint64_t{0}, std::uint64_t{1} << 47}) {
            CHECK(p(number::openat, here, bad, 0) == e(posix::fault));
            CHECK(p(number::write, f, bad, 10) == e(posix::fault));
            CHECK(p(number::newfstatat, here, "/tmp", bad, 0) == e(posix::fault));
            CHECK(p(number::getcwd, bad, 100) == e(posix::fault));
            CHECK(p(number::pipe2, bad, 0) == e(posix::fault));
            CHECK(p(number::readv, f, bad, 1) == e(posix::fault));
            CHECK(p(number::poll, bad, 1, 0) == e(posix::fault));
        }
        CHECK(p(number::dup, f) == f + 1); // the pipes that could not be told are closed again
        CHECK(p.write(f, "0123456789") == 10);
        CHECK(p(number::pread64, f, nowhere, 4, 0) == e(posix::fault));
        CHECK(p(number::pread64, f, nowhere, 4, 100) == 0); // nothing to store

        // Two pages, of which the second goes away: what reaches into it is cut.
        const auto pages = static_cast<std::uint64_t>(p(number::mmap, 0, 2 * page_size, 3, 0x22, -1, 0));
        CHECK(p(number::munmap, pages + page_size, page_size) == 0);
        const std::uint64_t edge = pages + page_size;
        p.self.store(edge - 4, std::array<char, 4>{'/', 't', 'm', 'p'});
        CHECK(p(number::openat, here, edge - 4, 0) == e(posix::fault));
        p.self.store(edge - 5, std::array<char, 5>{'/', 't', 'm', 'p', 0});
        CHECK(p(number::openat, here, edge - 5, 0) > 0);
        CHECK(p(number::pread64, f, edge - 4, 10, 0) == 4);
        CHECK(p(number::write, f, edge - 4, 10) == 4);

        const std::string longest = "/tmp/" + std::string(4091, 'x');
        CHECK(p.open(longest) == e(posix::nametoolong));
        CHECK(p.open("/tmp/" + std::string(256, 'x')) == e(posix::nametoolong));
        CHECK(p.open("") == e(posix::noent));
        std::string slashes(4095, '/');
        CHECK(p.open(slashes) > 0);
    });
}

TEST_CASE("vectors are gathered and scattered as one transfer")
{
    on_a_kernel([](process& p, auto&) {
        program& self = p.self;
        const auto f = p.open("/tmp/v", abi::open_flag::create | abi::open_flag::read_write);
        const std::uint64_t one = self.put("one,");
        const std::uint64_t two = self.put("two,");
        const std::uint64_t vector = self.allocate(4 * sizeof(abi::io_vector));
        const auto set = [&](std::size_t i, std::uint64_t base, std::uint64_t length) {
            self.store(vector + i * sizeof(abi::io_vector), abi::io_vector{base, length});
        };
        set(0, one, 4);
        set(1, nowhere, 0); // never touched
        set(2, two, 4);
        set(3, one, 3);
        CHECK(p(number::writev, f, vector, 4) == 11);
        CHECK(p.contents("/tmp/v") == "one,two,one");

        const std::uint64_t buffer = self.allocate(32);
        set(0, buffer + 16, 2);
        set(1, buffer, 6);
        CHECK(p(number::lseek, f, 0, 0) == 0);
        CHECK(p(number::readv, f, vector, 2) == 8);
        CHECK(self.load<std::array<char, 2>>(buffer + 16) == std::array{'o', 'n'});
        CHECK(self.load<std::array<char, 6>>(buffer) == std::array{'e', ',', 't', 'w', 'o', ','});

        set(1, nowhere, 6); // the first piece is done, the second is not
        CHECK(p(number::preadv, f, vector, 2, 0) == 2);
        set(0, nowhere, 2);
        CHECK(p(number::preadv, f, vector, 2, 0) == e(posix::fault));
        CHECK(p(number::writev, f, vector, 1025) == e(posix::inval));
        set(0, one, ~std::uint64_t{0});
        CHECK(p(number::writev, f, vector, 1) == e(posix::inval));
        CHECK(p(number::writev, f, vector, 0) == 0);
        CHECK(p(number::pwritev, f, vector, 0, -1) == e(posix::inval));

        const std::uint64_t many = self.allocate(100 * sizeof(abi::io_vector));
        for (std::uint64_t i = 0; i < 100; ++i)
            self.store(many + i * sizeof(abi::io_vector), abi::io_vector{one, 4});
        CHECK(p(number::pwritev, f, many, 100, 0) == 400);
    });
}

TEST_CASE("stat tells a program what Linux would")
{
    on_a_kernel([](process& p, auto&) {
        program& self = p.self;
        CHECK(p(number::umask, 027) == 022);
        CHECK(p.create("/tmp/f", "12345") == 5);
        const abi::stat s = p.status("/tmp/f");
        CHECK(s.mode == (abi::mode_type::regular | 0640u));
        CHECK(s.size == 5);
        CHECK(s.links == 1);
        CHECK(s.inode != 0);
        CHECK(s.block_size == 4096);
        CHECK(s.modified.seconds >= 1'700'000'000);
        CHECK(p.status("/tmp").mode == (abi::mode_type::directory | 01777u));
        CHECK(p.status("/tmp").device != p.status("/").device);
        const abi::stat null = p.status("/dev/null");
        CHECK(null.mode == (abi::mode_type::character_device | 0666u));
        CHECK(null.special == 0x103);

        CHECK(p(number::symlink, "f", "/tmp/l") == 0);
        CHECK(p.status("/tmp/l").mode == s.mode);
        CHECK((p.status("/tmp/l", abi::at_flag::symlink_no_follow).mode & abi::mode_type::mask) ==
              abi::mode_type::symlink);
        CHECK(p.link("/tmp/l") == "f");
        CHECK(p.link("/tmp/f") == std::to_string(e(posix::inval)));

        const auto f = p.open("/tmp/f");
        const std::uint64_t at = self.allocate(256);
        CHECK(p(number::newfstatat, f, "", at, abi::at_flag::empty_path) == 0);
        CHECK(self.load<abi::stat>(at).inode == s.inode);
        CHECK(p(number::newfstatat, f, "", at, 0) == e(posix::noent));
        CHECK(p(number::newfstatat, f, "x", at, 0) == e(posix::notdir));
        CHECK(p(number::newfstatat, 99, "x", at, 0) == e(posix::badf));
        CHECK(p(number::newfstatat, 99, "/tmp", at, 0) == 0);
        CHECK(p(number::newfstatat, here, "/tmp", at, 0x80000) == e(posix::inval));
        CHECK(p(number::fstat, f, at) == 0);
        CHECK(self.load<abi::stat>(at).size == 5);
        CHECK(p(number::statx, here, "/tmp/f", 0, 0x7ff, at) == 0);
        const auto x = self.load<abi::statx>(at);
        CHECK(x.size == 5);
        CHECK(x.mode == s.mode);
        CHECK(x.inode == s.inode);

        CHECK(p(number::access, "/tmp/f", 4) == 0);
        CHECK(p(number::access, "/tmp/f", 1) == e(posix::acces)); // nobody may execute it, not even root
        CHECK(p(number::access, "/tmp/g", 0) == e(posix::noent));
        CHECK(p(number::faccessat2, here, "/tmp/f", 8, 0) == e(posix::inval));
        CHECK(p(number::chmod, "/tmp/f", 0755) == 0);
        CHECK(p(number::access, "/tmp/f", 1) == 0);
        CHECK(p(number::fchown, f, 12, 34) == 0);
        CHECK(p.status("/tmp/f").uid == 12);
        CHECK(p.status("/tmp/f").gid == 34);
        CHECK(p(number::chown, "/tmp/f", -1, 0) == 0);
        CHECK(p.status("/tmp/f").uid == 12);

        const std::uint64_t times = self.allocate(sizeof(abi::time_record) * 2);
        self.store(times, abi::time_record{1'000, 5});
        self.store(times + sizeof(abi::time_record), abi::time_record{0, 0x3ffffffe}); // stays
        CHECK(p(number::utimensat, here, "/tmp/f", times, 0) == 0);
        CHECK(p.status("/tmp/f").accessed.seconds == 1'000);
        CHECK(p.status("/tmp/f").modified.seconds == s.modified.seconds);
        self.store(times, abi::time_record{0, 1'000'000'000});
        CHECK(p(number::utimensat, here, "/tmp/f", times, 0) == e(posix::inval));
        CHECK(p(number::utimensat, f, std::uint64_t{0}, std::uint64_t{0}, 0) == 0);

        CHECK(p(number::statfs, "/tmp", at) == 0);
        CHECK(self.load<abi::statfs>(at).type == 0x01021994);
        CHECK(p(number::statfs, "/proc", at) == 0);
        CHECK(self.load<abi::statfs>(at).type == 0x9fa0);
        CHECK(p(number::fstatfs, f, at) == 0);
    });
}

TEST_CASE("names come, move and go")
{
    on_a_kernel([](process& p, auto&) {
        CHECK(p(number::mkdir, "/tmp/d", 0777) == 0);
        CHECK(p(number::mkdir, "/tmp/d", 0777) == e(posix::exist));
        CHECK(p.status("/tmp/d").mode == (abi::mode_type::directory | 0755u));
        CHECK(p.create("/tmp/d/a", "a") == 1);
        CHECK(p(number::link, "/tmp/d/a", "/tmp/d/b") == 0);
        CHECK(p.status("/tmp/d/b").links == 2);
        CHECK(p(number::rename, "/tmp/d/a", "/tmp/d/c") == 0);
        CHECK(p.status("/tmp/d/a").links == 0);
        CHECK(p.contents("/tmp/d/c") == "a");
        CHECK(p.create("/tmp/d/z", "z") == 1);
        CHECK(p(number::renameat2, here, "/tmp/d/z", here, "/tmp/d/c", 1) == e(posix::exist));
        CHECK(p(number::renameat2, here, "/tmp/d/z", here, "/tmp/d/c", 2) == 0);
        CHECK(p.contents("/tmp/d/c") == "z");
        CHECK(p(number::renameat2, here, "/tmp/d/z", here, "/tmp/d/c", 3) == e(posix::inval));
        CHECK(p(number::rename, "/tmp/d", "/tmp/d/below") == e(posix::inval));
        CHECK(p(number::rmdir, "/tmp/d") == e(posix::notempty));
        CHECK(p(number::unlink, "/tmp/d") == e(posix::isdir));
        CHECK(p(number::rmdir, "/tmp/d/c") == e(posix::notdir));
        const auto d = p.open("/tmp/d", abi::open_flag::directory);
        for (const char* name : {"b", "c", "z"})
            CHECK(p(number::unlinkat, d, name, 0) == 0);
        CHECK(p(number::unlinkat, d, "b", 0) == e(posix::noent));
        CHECK(p(number::unlinkat, here, "/tmp/d", 0x200) == 0);
        CHECK(p(number::mkdirat, d, "late", 0777) == e(posix::noent)); // the directory is gone
        CHECK(p(number::mknod, "/tmp/fifo", abi::mode_type::fifo | 0600u, 0) == 0);
        CHECK((p.status("/tmp/fifo").mode & abi::mode_type::mask) == abi::mode_type::fifo);
        CHECK(p(number::mknod, "/tmp/dir", abi::mode_type::directory | 0600u, 0) == e(posix::perm));
        CHECK(p(number::symlink, "", "/tmp/l") == e(posix::noent));
        CHECK(p(number::rename, "/tmp/fifo", "/proc/x") == e(posix::xdev));
        CHECK(p(number::unlink, "/proc/version") == e(posix::perm));
    });
}

TEST_CASE("a directory is listed completely, whatever the buffer")
{
    on_a_kernel([](process& p, auto&) {
        std::set<std::string> made;
        for (int i = 0; i < 300; ++i) {
            const std::string name = "file" + std::string(static_cast<std::size_t>(i % 40), '.') + std::to_string(i);
            made.insert(name);
            CHECK(p.create("/tmp/" + name, "") == 0);
        }
        for (const std::size_t size : {80u, 500u, 4096u, 32768u}) {
            auto found = p.entries("/tmp", size);
            CHECK(found.at(".") == 4);
            CHECK(found.at("..") == 4);
            CHECK(found.size() == made.size() + 2);
            for (const auto& name : made)
                CHECK(found.at(name) == 8);
        }
        const auto d = p.open("/tmp", abi::open_flag::directory);
        const std::uint64_t buffer = p.self.allocate(64);
        CHECK(p(number::getdents64, d, buffer, 23) == e(posix::inval));
        CHECK(p(number::getdents64, d, nowhere, 100) == e(posix::fault));
        CHECK(p(number::getdents64, p.open("/dev/null"), buffer, 64) == e(posix::notdir));
    });
}

TEST_CASE("the working directory is where relative paths start")
{
    on_a_kernel([](process& p, auto&) {
        const std::uint64_t buffer = p.self.allocate(64);
        const auto where = [&] {
            const auto length = p(number::getcwd, buffer, 64);
            return length < 0 ? std::to_string(length) : p.self.load_string(buffer);
        };
        CHECK(where() == "/");
        CHECK(p(number::mkdir, "/tmp/d", 0755) == 0);
        CHECK(p(number::chdir, "/tmp/d") == 0);
        CHECK(where() == "/tmp/d");
        CHECK(p(number::getcwd, buffer, 7) == 7);
        CHECK(p(number::getcwd, buffer, 6) == e(posix::range));
        CHECK(p.create("f", "relative") == 8);
        CHECK(p.contents("/tmp/d/f") == "relative");
        CHECK(p(number::chdir, "f") == e(posix::notdir));
        CHECK(p(number::chdir, "..") == 0);
        CHECK(where() == "/tmp");
        CHECK(p(number::fchdir, p.open("d")) == 0);
        CHECK(where() == "/tmp/d");
        CHECK(p(number::fchdir, p.open("f")) == e(posix::notdir));
        CHECK(p(number::unlink, "f") == 0);
        CHECK(p(number::rmdir, "/tmp/d") == 0);
        CHECK(where() == std::to_string(e(posix::noent)));
        CHECK(p(number::chdir, "/tmp") == 0);
        CHECK(p(number::chroot, ".") == 0);
        CHECK(p(number::chdir, "/../..") == 0);
        CHECK(where() == "/");
        CHECK(p.open("/bin") == e(posix::noent));
    });
}

TEST_CASE("descriptors are duplicated, marked and limited")
{
    on_a_kernel([](process& p, auto&) {
        using namespace abi::open_flag;
        const auto f = p.open("/tmp/f", create | read_write);
        CHECK(p(number::dup, f) == f + 1);
        CHECK(p(number::dup2, f, 9) == 9);
        CHECK(p(number::dup2, f, f) == f);
        CHECK(p(number::dup2, 50, 50) == e(posix::badf));
        CHECK(p(number::dup2, f, 5000) == e(posix::badf));
        CHECK(p(number::dup3, f, f, 0) == e(posix::inval));
        CHECK(p(number::dup3, f, 10, close_on_exec) == 10);
        CHECK(p(number::dup3, f, 10, 1) == e(posix::inval));
        CHECK(p(number::fcntl, 10, 1, 0) == 1);
        CHECK(p(number::fcntl, 9, 1, 0) == 0);
        CHECK(p(number::fcntl, 9, 2, 1) == 0);
        CHECK(p(number::fcntl, 9, 1, 0) == 1);
        CHECK(p(number::fcntl, f, 0, 20) == 20);
        CHECK(p(number::fcntl, f, 1030, 20) == 21);
        CHECK(p(number::fcntl, 21, 1, 0) == 1);
        CHECK(p(number::fcntl, f, 0, 5000) == e(posix::inval));
        CHECK((p(number::fcntl, f, 3, 0) & ~large_file) == read_write);
        CHECK(p(number::fcntl, f, 4, append | non_blocking) == 0);
        CHECK((p(number::fcntl, 9, 3, 0) & ~large_file) == (read_write | append | non_blocking));
        CHECK(p(number::fcntl, f, 77, 0) == e(posix::inval));
        CHECK(p(number::fcntl, 99, 77, 0) == e(posix::badf));
        // The offset is the open file's, not the descriptor's.
        CHECK(p.write(f, "abc") == 3);
        CHECK(p(number::lseek, 9, 0, 1) == 3);
        CHECK(p(number::ioctl, f, 0x5401, p.self.allocate(64)) == e(posix::notty));
        const std::uint64_t word = p.self.allocate(8);
        CHECK(p(number::lseek, f, 1, 0) == 1);
        CHECK(p(number::ioctl, f, 0x541b, word) == 0);
        CHECK(p.self.load<std::int32_t>(word) == 2);
        CHECK(p(number::ioctl, f, 0x5451, 0) == 0);
        CHECK(p(number::fcntl, f, 1, 0) == 1);
        std::int64_t last = 0;
        while ((last = p(number::dup, f)) >= 0) {
        }
        CHECK(last == e(posix::mfile));

        const auto handle = p(number::close, 9) == 0 ? p.open("/tmp/f", path) : -1;
        CHECK(handle == 9);
        CHECK(p.read(handle) == std::to_string(e(posix::badf)));
        CHECK(p(number::fchmod, handle, 0700) == e(posix::badf));
        CHECK(p(number::fcntl, handle, 3, 0) == path);
    });
}

TEST_CASE("bytes go through pipes, and poll and select see them")
{
    on_a_kernel([](process& p, auto&) {
        program& self = p.self;
        const std::uint64_t ends = self.allocate(8);
        REQUIRE(p(number::pipe2, ends, abi::open_flag::non_blocking) == 0);
        const auto in = self.load<std::int32_t>(ends);
        const auto out = self.load<std::int32_t>(ends + 4);
        CHECK(p(number::pipe2, ends, 1) == e(posix::inval));
        CHECK(p.read(in) == std::to_string(e(posix::again)));

        const std::uint64_t records = self.allocate(3 * sizeof(abi::poll_record));
        const auto poll = [&](std::int32_t timeout) {
            self.store(records, abi::poll_record{in, 1, 0});
            self.store(records + 8, abi::poll_record{out, 4, 0});
            self.store(records + 16, abi::poll_record{-1, 1, 77});
            return p(number::poll, records, 3, timeout);
        };
        const auto ready = [&](std::uint64_t i) { return self.load<abi::poll_record>(records + 8 * i).ready; };
        CHECK(poll(0) == 1);
        CHECK(ready(0) == 0);
        CHECK(ready(1) == 4);
        CHECK(ready(2) == 0);
        CHECK(p.write(out, "data") == 4);
        CHECK(poll(-1) == 2);
        CHECK(ready(0) == 1);

        const std::uint64_t sets = self.allocate(3 * 128);
        const std::uint64_t limit = self.allocate(16);
        for (std::uint64_t i = 0; i < 3 * 128; i += 8)
            self.store(sets + i, std::uint64_t{0});
        self.store(sets, (std::uint64_t{1} << in) | 2);
        self.store(sets + 128, std::uint64_t{1} << out);
        CHECK(p(number::select, out + 1, sets, sets + 128, sets + 256, std::uint64_t{0}) == 2);
        CHECK(self.load<std::uint64_t>(sets) == std::uint64_t{1} << in);
        CHECK(self.load<std::uint64_t>(sets + 128) == std::uint64_t{1} << out);
        CHECK(p.read(in) == "data");
        self.store(limit, abi::microsecond_record{1, 500'000});
        CHECK(p(number::select, in + 1, sets, std::uint64_t{0}, std::uint64_t{0}, limit) == 0);
        CHECK(self.load<std::uint64_t>(sets) == 0);
        CHECK(self.load<abi::microsecond_record>(limit).seconds == 0);
        CHECK(self.load<abi::microsecond_record>(limit).microseconds == 0);
        self.store(sets, std::uint64_t{1} << 40);
        CHECK(p(number::select, 64, sets, std::uint64_t{0}, std::uint64_t{0}, limit) == e(posix::badf));

        self.store(records, abi::poll_record{77, 1, 0});
        CHECK(p(number::poll, records, 1, -1) == 1);
        CHECK(ready(0) == 0x20);
        self.store(records, abi::poll_record{in, 1, 0});
        self.store(limit, abi::time_record{2, 0});
        CHECK(p(number::ppoll, records, 1, limit, std::uint64_t{0}, 8) == 0);
        CHECK(self.load<abi::time_record>(limit).seconds == 0);
        self.store(limit, abi::time_record{0, -1});
        CHECK(p(number::ppoll, records, 1, limit, std::uint64_t{0}, 8) == e(posix::inval));
        CHECK(p(number::poll, records, 100'000, 0) == e(posix::inval));

        // Full, and then without a reader.
        std::int64_t held = 0;
        const std::string block(4096, 'x');
        for (std::int64_t n = 0; (n = p.write(out, block)) > 0;)
            held += n;
        CHECK(held == 65536);
        CHECK(p(number::rt_sigaction, 13, [&] {
                  const std::uint64_t action = self.allocate(32);
                  for (std::uint64_t i = 0; i < 32; i += 8)
                      self.store(action + i, std::uint64_t{i == 0}); // SIG_IGN
                  return action;
              }(), std::uint64_t{0}, 8) == 0);
        CHECK(p(number::close, in) == 0);
        CHECK(p.write(out, "x") == e(posix::pipe));
    });
}

TEST_CASE("writing to a pipe without readers kills by SIGPIPE")
{
    sim::simulated_kernel k;
    const auto child = add_child(k, [](process p) {
        const std::uint64_t ends = p.self.allocate(8);
        CHECK(p(number::pipe, ends) == 0);
        CHECK(p(number::close, p.self.load<std::int32_t>(ends)) == 0);
        (void)p.write(p.self.load<std::int32_t>(ends + 4), "x");
    });
    run_as_init(k, [&](process p) {
        program& self = p.self;
        CHECK(self.fork(child) > 0);
        const std::uint64_t word = self.allocate(8);
        CHECK(self.call(number::wait4, -1, word, 0, 0) > 0);
        CHECK((self.load<std::int32_t>(word) & 0x7f) == 13);
    });
}

TEST_CASE("a reader of a pipe waits for the writer in another process")
{
    sim::simulated_kernel k;
    const auto child = add_child(k, [](process p) {
        p.self.spend(milliseconds(20));
        CHECK(p.write(4, "late") == 4);
    });
    run_as_init(k, [&](process p) {
        program& self = p.self;
        const std::uint64_t ends = self.allocate(8);
        CHECK(p(number::pipe, ends) == 0);
        CHECK(self.load<std::int32_t>(ends) == 3);
        CHECK(self.fork(child) > 0);
        const std::uint64_t records = self.allocate(8);
        self.store(records, abi::poll_record{3, 1, 0});
        CHECK(p(number::poll, records, 1, -1) == 1);
        CHECK(p.read(3) == "late");
        CHECK(p(number::close, 4) == 0);
        CHECK(p.read(3).empty()); // the child has ended
    });
}

TEST_CASE("sendfile moves a file's bytes to any descriptor")
{
    on_a_kernel([](process& p, auto&) {
        std::string text;
        for (int i = 0; i < 3000; ++i)
            text += std::to_string(i);
        CHECK(p.create("/tmp/from", text) == static_cast<std::int64_t>(text.size()));
        const auto from = p.open("/tmp/from");
        const auto to = p.open("/tmp/to", abi::open_flag::create | abi::open_flag::read_write);
        CHECK(p(number::sendfile, to, from, std::uint64_t{0}, 5) == 5);
        CHECK(p(number::sendfile, to, from, std::uint64_t{0}, 1 << 20) == static_cast<std::int64_t>(text.size()) - 5);
        CHECK(p(number::sendfile, to, from, std::uint64_t{0}, 100) == 0);
        CHECK(p.contents("/tmp/to") == text);
        const std::uint64_t offset = p.self.allocate(8);
        p.self.store(offset, std::int64_t{100});
        CHECK(p(number::sendfile, to, from, offset, 10) == 10);
        CHECK(p.self.load<std::int64_t>(offset) == 110);
        CHECK(p.contents("/tmp/to") == text + text.substr(100, 10));
        CHECK(p(number::sendfile, from, to, std::uint64_t{0}, 10) == e(posix::badf));
        CHECK(p(number::pipe, offset) == 0);
        const auto pipe = p.self.load<std::int32_t>(offset);
        CHECK(p(number::sendfile, to, pipe, std::uint64_t{0}, 10) == e(posix::inval));
        CHECK(p(number::lseek, from, 0, 0) == 0);
        CHECK(p(number::sendfile, pipe + 1, from, std::uint64_t{0}, 10) == 10);
        CHECK(p.read(pipe) == text.substr(0, 10));
    });
}

TEST_CASE("there are no sockets, and calls say so")
{
    on_a_kernel([](process& p, auto&) {
        CHECK(p(number::socket, 1, 1, 0) == e(posix::afnosupport));
        CHECK(p(number::getpeername, 0, 0, 0) == e(posix::notsock));
        CHECK(p(number::connect, 77, 0, 0) == e(posix::badf));
    });
}

TEST_CASE("file systems are mounted and unmounted")
{
    on_a_kernel([](process& p, auto&) {
        CHECK(p(number::mkdir, "/tmp/m", 0755) == 0);
        CHECK(p(number::mount, "none", "/tmp/m", "tmpfs", 0, 0) == 0);
        CHECK(p.create("/tmp/m/f", "on top") == 6);
        CHECK(p.contents("/proc/mounts").find("none /tmp/m tmpfs rw,relatime 0 0\n") != std::string::npos);
        const auto f = p.open("/tmp/m/f");
        CHECK(p(number::umount2, "/tmp/m", 0) == e(posix::busy));
        CHECK(p(number::close, f) == 0);
        CHECK(p(number::umount2, "/tmp/m", 0) == 0);
        CHECK(p(number::umount2, "/tmp/m", 0) == e(posix::inval));
        CHECK(p.open("/tmp/m/f") == e(posix::noent));
        CHECK(p(number::mount, "none", "/tmp/m", "nofs", 0, 0) == e(posix::nodev));
        CHECK(p(number::mount, "none", "/tmp/m", "tmpfs", 1, 0) == 0);
        CHECK(p.create("/tmp/m/f", "") == e(posix::rofs));
        CHECK(p(number::sync) == 0);
    });
}

TEST_CASE("the terminal answers as one")
{
    on_a_kernel([](process& p, auto& k) {
        const std::uint64_t at = p.self.allocate(64);
        CHECK(p(number::ioctl, 0, 0x5401, at) == 0);
        CHECK(p.write(1, "to the screen\n") == 14);
        CHECK(k.platform().console().text().find("to the screen\r\n") != std::string::npos);
        CHECK(p(number::ioctl, 0, 0x540f, at) == 0);
        CHECK(p.self.template load<std::int32_t>(at) == 1);
        const auto tty = p.open("/dev/tty", abi::open_flag::read_write);
        CHECK(tty >= 0);
        CHECK(p.write(tty, "x") == 1);
    });
}

TEST_CASE("/proc shows the machine")
{
    on_a_kernel([](process& p, auto&) {
        const auto has = [&](std::string_view path, std::string_view text) {
            const std::string all = p.contents(path);
            CHECK_MESSAGE(all.find(text) != std::string::npos, std::string(path), " holds no ", std::string(text),
                          ":\n", all);
        };
        for (const char* line : {"MemTotal: ", "MemFree: ", "MemAvailable: ", "Cached: ", "KernelOwn: "})
            has("/proc/meminfo", line);
        has("/proc/cpuinfo", "processor\t: 0\nvendor_id\t: exo\n");
        has("/proc/filesystems", "nodev\tproc\n");
        has("/proc/version", "Linux version 6.1.0-exo (exo) #1 exo\n");
        has("/proc/mounts", "proc /proc proc rw,relatime 0 0\n");
        has("/proc/stat", "cpu  ");
        has("/proc/stat", "\ncpu0 ");
        has("/proc/stat", "\nprocs_running 1\n");
        has("/proc/exo/metrics", "# TYPE exo_sched_switches_total counter\n");
        has("/proc/exo/metrics", "\nexo_mm_heap_objects{bytes=\"64\"} ");
        CHECK(words(p.contents("/proc/uptime")).size() == 2);
        CHECK(words(p.contents("/proc/loadavg")).size() == 5);
        CHECK(p.open("/proc/nothing") == e(posix::noent));
        const auto names = p.entries("/proc", 200);
        for (const char* name : {"1", "self", "meminfo", "exo", "mounts"})
            CHECK(names.contains(name));
        CHECK(names.at("1") == 4);
        CHECK(names.at("self") == 10);
        CHECK(names.at("stat") == 8);
    });
}

TEST_CASE("the trace has a program under the name it took while it ran, and before that under the other")
{
    on_a_kernel([](process& p, auto&) {
        constexpr std::uint64_t set_name = 15;
        const auto shown = [&](std::string_view name) {
            return p.contents("/proc/exo/trace").find(name) != std::string::npos;
        };
        CHECK(shown("\"sh/1\""));
        CHECK(!shown("\"renamed/1\""));
        CHECK(p(number::prctl, set_name, p.self.put("renamed")) == 0);
        CHECK(shown("\"sh/1\""));
        CHECK(shown("\"renamed/1\""));
    });
}

TEST_CASE("/proc shows processes, and forgets them when they are gone")
{
    sim::simulated_kernel k;
    const auto child = add_child(k, [](process p) {
        CHECK(p.link("/proc/self") == "2");
        CHECK(p.read(3, 1) == "x"); // waits for the parent
    });
    run_as_init(k, [&](process p) {
        program& self = p.self;
        const std::uint64_t ends = self.allocate(8);
        CHECK(p(number::pipe, ends) == 0);
        CHECK(self.fork(child) == 2);
        CHECK(p.link("/proc/self") == "1");
        CHECK(p.contents("/proc/self/comm") == "sh\n");
        CHECK(p.contents("/proc/self/cmdline") == std::string("/bin/sh\0", 8));
        CHECK(p.link("/proc/self/exe") == "/bin/sh");
        CHECK(p.link("/proc/self/cwd") == "/");
        CHECK(p.link("/proc/self/root") == "/");
        CHECK(p.link("/proc/2/fd/0") == "/dev/console");
        CHECK(p.link("/proc/2/fd/3").starts_with("pipe:["));
        CHECK(p.link("/proc/2/fd/9") == std::to_string(e(posix::noent)));
        const auto open = p.entries("/proc/2/fd", 64);
        CHECK(open.size() == 2 + 5);
        CHECK(open.at("4") == 10);

        const auto fields = words(p.contents("/proc/2/stat"));
        REQUIRE(fields.size() == 52);
        CHECK(fields[0] == "2");
        CHECK(fields[1] == "(sh)");
        CHECK(fields[3] == "1"); // parent
        CHECK(fields[4] == "1"); // group
        CHECK(fields[5] == "1"); // session
        CHECK(fields[6] == std::to_string(5 << 8 | 1));
        CHECK(fields[7] == "1");
        CHECK(std::stoull(fields[22]) > 0);
        CHECK(words(p.contents("/proc/1/stat"))[2] == "R");
        self.spend(milliseconds(50));
        CHECK(words(p.contents("/proc/2/stat"))[2] == "S");
        CHECK(words(p.contents("/proc/2/statm")).size() == 7);
        const std::string about = p.contents("/proc/2/status");
        CHECK(about.starts_with("Name:\tsh\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t2\n"));
        CHECK(about.find("\nUid:\t0\t0\t0\t0\n") != std::string::npos);
        CHECK(about.find("\nVmRSS:\t") != std::string::npos);
        const std::string maps = p.contents("/proc/2/maps");
        CHECK(maps.find(" r-xp ") != std::string::npos);
        CHECK(maps.find("/bin/sh\n") != std::string::npos);
        CHECK(maps.find("[stack]\n") != std::string::npos);
        std::istringstream lines{maps};
        for (std::string line; std::getline(lines, line);)
            CHECK((line.size() == 73 - 1 || line.find_last_of("/[") >= 73 || line.back() == ' '));

        const auto held = p.open("/proc/2/status");
        CHECK(p.write(4, "x") == 1);
        CHECK(self.call(number::wait4, 2, 0, 0, 0) == 2);
        CHECK(p.open("/proc/2/status") == e(posix::noent));
        CHECK(p.read(held).find("State:\tZ") != std::string::npos);
        CHECK(!p.entries("/proc").contains("2"));
    });
}

TEST_CASE("calls with any arguments leave the kernel in order")
{
    for (std::uint32_t seed = 0; seed < 8; ++seed) {
        on_a_kernel([seed](process& p, auto&) {
            std::mt19937 random{seed};
            program& self = p.self;
            const std::uint64_t paths[] = {self.put("/tmp"),  self.put("/tmp/a"),       self.put("b"),
                                           self.put("/proc"), self.put("/dev/null"),    self.put("/proc/self/maps"),
                                           self.put(""),      self.put("/proc/self/fd")};
            const std::uint64_t room = self.allocate(4096);
            for (int d = 0; d < 3; ++d)
                CHECK(p(number::dup2, p.open("/dev/null", abi::open_flag::read_write), d) == d);
            for (unsigned step = 0; step < 1500; ++step) {
                const auto argument = [&]() -> std::uint64_t {
                    switch (random() % 8) {
                    case 0: return paths[random() % std::size(paths)];
                    case 1: return room + random() % 4096;
                    case 2: return random() % 12;
                    case 3: return nowhere;
                    case 4: return std::uint64_t{random()} << 32 | random();
                    case 5: return static_cast<std::uint64_t>(here);
                    case 6: return 1u << random() % 23;
                    default: return random() % 4096;
                    }
                };
                number n = any_calls[random() % std::size(any_calls)];
                std::uint64_t a[6];
                for (auto& value : a)
                    value = argument();
                // What would rightly wait for ever, or fill memory.
                if (n == number::poll)
                    a[2] = random() % 3;
                if (n == number::ppoll || n == number::select)
                    a[n == number::ppoll ? 2 : 4] = room;
                if (n == number::truncate || n == number::ftruncate)
                    a[1] %= 100'000;
                if (n == number::pwrite64)
                    a[3] %= 100'000;
                if (n == number::pipe2)
                    a[1] |= abi::open_flag::non_blocking;
                if (n == number::mknod || n == number::ioctl)
                    a[1] &= ~std::uint64_t{0170000} | 0100000;
                self.store(room, abi::time_record{0, 1'000});
                (void)self.call(n, a[0], a[1], a[2], a[3], a[4], a[5]);
            }
        });
    }
}

TEST_CASE("file calls that run out of memory fail with ENOMEM, and lose nothing")
{
    sim::simulated_kernel k;
    run_as_init(k, [&](process p) {
        program& self = p.self;
        const std::uint64_t buffer = self.allocate(512);
        const std::uint64_t vector = self.allocate(20 * sizeof(abi::io_vector));
        for (std::uint64_t i = 0; i < 20; ++i)
            self.store(vector + i * sizeof(abi::io_vector), abi::io_vector{buffer, 8});
        const std::uint64_t records = self.allocate(20 * sizeof(abi::poll_record));
        for (std::uint64_t i = 0; i < 20; ++i)
            self.store(records + i * sizeof(abi::poll_record), abi::poll_record{0, 4, 0});

        const auto everything = [&] {
            std::vector<std::int64_t> outcomes;
            const auto note = [&](std::int64_t outcome) { outcomes.push_back(outcome < 0 ? outcome : 0); };
            note(p(number::mkdir, "/tmp/d", 0755));
            note(p.create("/tmp/d/file with a name of some length", "contents"));
            note(p(number::symlink, "file with a name of some length", "/tmp/d/l"));
            note(p(number::link, "/tmp/d/file with a name of some length", "/tmp/d/m"));
            note(p(number::readlink, "/tmp/d/l", buffer, 100));
            note(p(number::getcwd, buffer, 100));
            const auto f = p.open("/tmp/d/l", abi::open_flag::read_write);
            note(f);
            note(p(number::writev, f, vector, 20));
            note(p(number::pipe2, buffer, 0));
            if (outcomes.back() == 0) {
                p(number::close, self.load<std::int32_t>(buffer));
                p(number::close, self.load<std::int32_t>(buffer + 4));
            }
            note(p(number::poll, records, 20, 0));
            note(p(number::mount, "none", "/tmp/d", "tmpfs", 0, 0));
            if (outcomes.back() == 0)
                note(p(number::umount2, "/tmp/d", 0));
            const auto d = p.open("/proc/self/fd", abi::open_flag::directory);
            note(d);
            if (d >= 0) {
                note(p(number::getdents64, d, buffer, 512));
                p(number::close, d);
            }
            note(p.link("/proc/self/exe") == std::to_string(e(posix::nomem)) ? e(posix::nomem) : 0);
            for (const char* file : {"/proc/self/maps", "/proc/meminfo", "/proc/exo/metrics", "/proc/mounts"}) {
                const auto opened = p.open(file);
                note(opened);
                if (opened >= 0) {
                    note(p(number::read, opened, buffer, 512));
                    p(number::close, opened);
                }
            }
            if (f >= 0)
                p(number::close, f);
            for (const char* name : {"/tmp/d/file with a name of some length", "/tmp/d/l", "/tmp/d/m"})
                p(number::unlink, name);
            p(number::rmdir, "/tmp/d");
            return outcomes;
        };

        auto& faults = k.platform().faults;
        const auto whole = everything();
        for (const auto outcome : whole)
            CHECK(outcome == 0);
        std::uint64_t failures = 0;
        for (std::uint64_t n = 1;; ++n) {
            faults.fail_nth(n);
            const auto outcomes = everything();
            const bool failed = faults.failed();
            faults.fail_nth(0);
            // What could not clean up after itself.
            for (const char* name : {"/tmp/d/file with a name of some length", "/tmp/d/l", "/tmp/d/m"})
                p(number::unlink, name);
            p(number::umount2, "/tmp/d", 0);
            p(number::rmdir, "/tmp/d");
            for (const auto outcome : outcomes)
                failures += outcome == e(posix::nomem);
            if (!failed)
                break;
            CHECK(n < 1000);
        }
        CHECK(failures > 20);
        CHECK(everything() == whole);
        CHECK(p.entries("/tmp").size() == 2);
        // The descriptors are back too.
        CHECK(p(number::dup, 0) == 3);
    });
}

TEST_CASE("a file that is open for reading only cannot be written through a shared mapping")
{
    on_a_kernel([](process p, auto&) {
        CHECK(p.create("/tmp/file", std::string(4096, 'x')) == 4096);
        const auto file = p.open("/tmp/file");
        const auto map = [&](int access, int flags) { return p(number::mmap, 0, 4096, access, flags, file, 0); };
        constexpr int shared = 1, private_copy = 2;
        CHECK(map(3, shared) == e(posix::acces));
        const auto seen = map(1, shared);
        REQUIRE(seen > 0);
        CHECK(p(number::mprotect, seen, 4096, 3) == e(posix::acces));
        CHECK(p(number::mprotect, seen, 4096, 5) == 0);
        CHECK(map(3, private_copy) > 0);
        for (const char* name : {"/dev/full", "/proc/uptime"}) // have no pages
            CHECK(p(number::mmap, 0, 4096, 1, private_copy, p.open(name), 0) == e(posix::nodev));
        const auto own = map(1, private_copy);
        CHECK(p(number::mprotect, own, 4096, 3) == 0);
        p.self.store(static_cast<std::uint64_t>(own), 'y');
        CHECK(p.self.load<char>(static_cast<std::uint64_t>(seen)) == 'x');
    });
}

TEST_CASE("a file on a mount without execution cannot be made executable once it is mapped")
{
    on_a_kernel([](process p, auto&) {
        constexpr int shared = 1, private_copy = 2;
        constexpr std::uint64_t no_execute = 8;
        CHECK(p(number::mkdir, "/tmp/m", 0755) == 0);
        CHECK(p(number::mount, "none", "/tmp/m", "tmpfs", no_execute, 0) == 0);
        const auto map_file = [&](std::string_view name, int access, int flags) {
            p.create(name, std::string(3 * 4096, 'x'));
            return p(number::mmap, 0, 3 * 4096, access, flags, p.open(name, abi::open_flag::read_write), 0);
        };
        // The flags of what is mapped at `at`, as smaps has them.
        const auto flags_of = [&](std::int64_t at) {
            std::ostringstream name;
            name << std::hex << at << '-';
            std::istringstream lines{p.contents("/proc/self/smaps")};
            std::string line;
            while (std::getline(lines, line) && !line.starts_with(name.str())) {}
            while (std::getline(lines, line) && !line.starts_with("VmFlags: ")) {}
            return line;
        };
        for (const int kind : {shared, private_copy}) {
            CAPTURE(kind);
            CHECK(map_file("/tmp/m/file", 5, kind) == e(posix::perm));
            const auto there = map_file("/tmp/m/file", 1, kind);
            REQUIRE(there > 0);
            CHECK(p(number::mprotect, there, 4096, 5) == e(posix::acces));
            CHECK(p(number::mprotect, there + 4096, 4096, 3) == 0);
            CHECK(p(number::mprotect, there + 4096, 4096, 7) == e(posix::acces));
            CHECK(flags_of(there) == (kind == shared ? "VmFlags: rd sh mr mw ms " : "VmFlags: rd mr mw "));
            const auto elsewhere = map_file("/tmp/file", 1, kind);
            CHECK(flags_of(elsewhere) == (kind == shared ? "VmFlags: rd sh mr mw me ms " : "VmFlags: rd mr mw me "));
            CHECK(p(number::mprotect, elsewhere, 4096, 5) == 0);
        }
        // Nor can memory that a device gives in its place.
        CHECK(p(number::mknod, "/tmp/m/zero", 020666, 0x105) == 0);
        for (const int kind : {shared, private_copy}) {
            CAPTURE(kind);
            for (const bool may : {false, true}) {
                const auto zero = p.open(may ? "/dev/zero" : "/tmp/m/zero", abi::open_flag::read_write);
                const auto there = p(number::mmap, 0, 4096, 3, kind, zero, 0);
                REQUIRE(there > 0);
                CHECK(p(number::mprotect, there, 4096, 5) == (may ? 0 : e(posix::acces)));
                const bool mapped = p(number::mmap, 0, 4096, 5, kind, zero, 0) > 0;
                CHECK(mapped == may);
            }
        }
        for (const char* name : {"/tmp/m/file", "/tmp/file"})
            CHECK(p(number::chmod, name, 0755) == 0);
        CHECK(p(number::execve, "/tmp/m/file", 0, 0) == e(posix::acces));
        CHECK(p(number::execve, "/tmp/file", 0, 0) == e(posix::noexec)); // which is no program
    });
}

TEST_CASE("/proc/PID/fd/N and /dev/stdin lead to the open file itself: a pipe, or one without a name")
{
    on_a_kernel([](process p, auto&) {
        program& self = p.self;
        const std::uint64_t ends = self.allocate(8);
        CHECK(p(number::pipe, ends) == 0);
        const auto source = self.load<int>(ends);
        const auto sink = self.load<int>(ends + 4);
        const auto name_of = [](std::int64_t d) { return "/proc/self/fd/" + std::to_string(d); };
        const auto again = p.open(name_of(source), abi::open_flag::write_only);
        REQUIRE(again >= 0);
        CHECK(p.write(again, "once more") == 9);
        CHECK(p.read(source) == "once more");
        CHECK(p.link(name_of(again)).starts_with("pipe:["));

        CHECK(p(number::dup2, source, 0) == 0);
        CHECK(p(number::dup2, sink, 1) == 1);
        CHECK(p.create("/dev/stdout", "through names") == 13);
        const auto input = p.open("/dev/stdin");
        REQUIRE(input >= 0);
        CHECK(p.read(input) == "through names");
        CHECK(p.open("/dev/stdin/x") == e(posix::notdir));
        CHECK(p.open(name_of(99)) == e(posix::noent));
        CHECK(p.open("/proc/self", abi::open_flag::create) == e(posix::isdir));

        // What has no place still has an owner and a mode.
        CHECK(p(number::fchownat, source, "", 5, 6, 0x1000) == 0);
        CHECK(p(number::fchmod, source, 0640) == 0);
        const std::uint64_t at = self.allocate(sizeof(abi::stat));
        CHECK(p(number::fstat, source, at) == 0);
        const auto s = self.load<abi::stat>(at);
        CHECK(s.uid == 5);
        CHECK((s.mode & 0777) == 0640);
        const auto place = p.open(name_of(source), abi::open_flag::path);
        CHECK(p(number::syncfs, place) <= 0);
        CHECK(p(number::fstatfs, place, self.allocate(256)) == 0);

        CHECK(p.create("/tmp/gone", "still here") == 10);
        const auto file = p.open("/tmp/gone");
        CHECK(p(number::unlink, "/tmp/gone") == 0);
        CHECK(p.contents(name_of(file)) == "still here");
    });
}

TEST_CASE("/proc/PID/cmdline is what the program has in its memory")
{
    on_a_kernel([](process p, auto&) {
        program& self = p.self;
        const auto first = self.load<std::uint64_t>(self.frame.rsp + 8); // argv[0]
        self.store(first + 1, 'f');
        CHECK(p.contents("/proc/self/cmdline") == std::string("/fin/sh\0", 8));
        // Over the end: a title, up to the first zero of the environment.
        self.store(first + 7, ' ');
        CHECK(p.contents("/proc/self/cmdline") == std::string("/fin/sh HOME=/\0", 15));
        CHECK(words(p.contents("/proc/self/stat")).at(47) == std::to_string(first));
    });
}
