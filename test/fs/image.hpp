// A directory tree on the host with something of everything, and ext2 images that the real mke2fs makes of it.

#pragma once

#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <doctest/doctest.h>

namespace exo::test {

// A directory that is gone with the object.
class temporary_directory {
public:
    temporary_directory()
    {
        std::string pattern = (std::filesystem::temp_directory_path() / "exo-fs-XXXXXX").string();
        REQUIRE(::mkdtemp(pattern.data()));
        path = pattern;
    }
    temporary_directory(const temporary_directory&) = delete;
    temporary_directory& operator=(const temporary_directory&) = delete;
    ~temporary_directory() { std::filesystem::remove_all(path); }
    std::filesystem::path path;
};

inline std::string pattern_text(std::size_t size, unsigned seed)
{
    std::mt19937 random{seed};
    std::string text(size, '\0');
    for (auto& c : text)
        c = static_cast<char>(random());
    return text;
}

inline void write_host_file(const std::filesystem::path& p, const std::string& text, std::uint64_t at = 0)
{
    std::ofstream{p, std::ios::binary | std::ios::app}.flush();
    std::fstream f{p, std::ios::binary | std::ios::in | std::ios::out};
    f.seekp(static_cast<std::streamoff>(at));
    f.write(text.data(), static_cast<std::streamsize>(text.size()));
    REQUIRE(f.good());
}

// Little enough to damage each byte of.
inline void make_small_tree(const std::filesystem::path& top)
{
    namespace host = std::filesystem;
    host::create_directories(top / "dir/sub");
    write_host_file(top / "hello", "hello from ext2\n");
    write_host_file(top / "dir/indirect", pattern_text(40'000, 3));
    write_host_file(top / "dir/sub/f", pattern_text(3'000, 4));
    host::create_symlink("dir/sub/f", top / "fast");
    host::create_symlink(std::string(90, 'd') + "/x", top / "slow");
}

inline void make_tree(const std::filesystem::path& top, bool triple_indirect)
{
    namespace host = std::filesystem;
    make_small_tree(top);
    for (const std::size_t size : {0u, 1u, 1023u, 1024u, 4095u, 4096u, 4097u, 12'288u, 12'289u, 300'000u})
        write_host_file(top / ("size" + std::to_string(size)), pattern_text(size, static_cast<unsigned>(size)));
    // Holes at the front, in the middle and at the end, in single and double indirect blocks.
    write_host_file(top / "sparse", pattern_text(5'000, 5), 50'000);
    write_host_file(top / "sparse", pattern_text(5'000, 6), 5'000'000);
    host::resize_file(top / "sparse", 6'000'001);
    if (triple_indirect) {
        write_host_file(top / "triple", pattern_text(9'000, 7), 80'000'000);
        write_host_file(top / "over4g", pattern_text(100, 8), 5'000'000'000);
    }
    host::create_directories(top / "many");
    for (int i = 0; i < 700; ++i)
        write_host_file(top / "many" / ("a rather long name for an entry " + std::to_string(i)), std::to_string(i));
    host::remove(top / "many" / "a rather long name for an entry 3");
    auto deep = top / "deep";
    for (int i = 0; i < 12; ++i)
        deep /= "d" + std::to_string(i);
    host::create_directories(deep);
    write_host_file(deep / "bottom", "bottom");
    write_host_file(top / std::string(255, 'n'), "long");
    host::create_symlink(std::string(59, 's'), top / "link59");
    host::create_symlink(std::string(60, 's'), top / "link60");
    host::create_hard_link(top / "hello", top / "dir/again");
    host::permissions(top / "hello", host::perms{04751});
    REQUIRE(::mkfifo((top / "fifo").c_str(), 0600) == 0);
}

inline std::vector<std::byte> read_host_file(const std::filesystem::path& p)
{
    std::ifstream f{p, std::ios::binary};
    std::vector<std::byte> bytes(std::filesystem::file_size(p));
    f.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    REQUIRE(f.good());
    return bytes;
}

// `options` are mke2fs's own; `blocks` with its unit: "2M".
inline std::vector<std::byte> make_image(const std::filesystem::path& tree, const std::string& options,
                                         const std::string& size, bool hash_directories = false)
{
    const temporary_directory scratch;
    const auto image = scratch.path / "image";
    const std::string path = "PATH=\"$PATH:/usr/sbin:/sbin\" ";
    const auto command = path + "mke2fs -q -F -t ext2 " + options + " -d '" + tree.string() + "' '" + image.string() +
                         "' " + size + " >/dev/null 2>&1";
    REQUIRE_MESSAGE(std::system(command.c_str()) == 0, command);
    if (hash_directories) {
        const auto status = std::system((path + "e2fsck -fyD '" + image.string() + "' >/dev/null 2>&1").c_str());
        REQUIRE(WEXITSTATUS(status) <= 1);
    }
    return read_host_file(image);
}

} // namespace exo::test
