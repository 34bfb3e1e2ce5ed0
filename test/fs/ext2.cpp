// ext2 against the real mke2fs: what it writes is read back; what is damaged is refused or read, never believed.

#include "world.hpp"

#include "image.hpp"
#include "laws/block_device_laws.hpp"

#include <functional>
#include <thread>

#include <exo/fs/ext2/ext2.hpp>
#include <exo/sim/ram_disk.hpp>

namespace exo::fs {

namespace host = std::filesystem;
using test::errno_of;

namespace {

struct mounted : test::world {
    explicit mounted(const std::vector<std::byte>& image, std::size_t sector_size = 512)
        : disk{image, sector_size}, names{env}
    {
    }
    result<> mount()
    {
        auto system = ext2::create(env, disk);
        if (!system)
            return fail(system.error());
        auto done = names.mount_root(*system, "disk");
        me = names.initial_context();
        return done;
    }
    result<std::string> contents(const std::string& path)
    {
        auto f = names.open(me, path.c_str(), open_options::reading());
        if (!f)
            return fail(f.error());
        return test::read_all(**f);
    }

    sim::ram_disk disk;
    vfs names;
    path_context me;
};

file_type type_of(host::file_type t)
{
    return t == host::file_type::directory ? file_type::directory
           : t == host::file_type::symlink ? file_type::symlink
           : t == host::file_type::fifo    ? file_type::fifo
                                           : file_type::regular;
}

// Everything below `at` is as on the host; how many files that were.
std::size_t compare(mounted& m, const host::path& tree, const std::string& at)
{
    std::size_t count = 0;
    auto d = m.names.open(m.me, at.empty() ? "/" : at.c_str(), open_options::reading());
    REQUIRE(d);
    auto entries = test::list_directory(**d);
    REQUIRE(entries);
    std::size_t expected_entries = at.empty() ? 1 : 0; // lost+found
    for (const auto& e : host::directory_iterator{tree}) {
        ++expected_entries;
        ++count;
        const auto name = e.path().filename().string();
        const auto path = at + "/" + name;
        CAPTURE(path);
        const auto listed = std::ranges::find(*entries, name, &test::listed::name);
        REQUIRE(listed != entries->end());
        struct ::stat expected {};
        REQUIRE(::lstat(e.path().c_str(), &expected) == 0);
        const auto got = m.names.status(m.me, path.c_str(), {.follow = false});
        REQUIRE(got);
        CHECK(got->type == type_of(e.symlink_status().type()));
        CHECK(listed->type == got->type);
        CHECK(listed->inode == got->inode);
        CHECK(got->permissions == (expected.st_mode & 07777));
        CHECK(got->links == expected.st_nlink);
        CHECK(got->uid == expected.st_uid);
        CHECK(got->modified.seconds == expected.st_mtim.tv_sec);
        if (got->type == file_type::regular) {
            REQUIRE(got->size == static_cast<std::uint64_t>(expected.st_size));
            // Of what is almost all hole, the ends.
            auto f = *m.names.open(m.me, path.c_str(), open_options::reading());
            std::ifstream on_host{e.path(), std::ios::binary};
            const std::uint64_t most = 7'000'000;
            for (std::uint64_t offset = got->size > most ? got->size - 200'000 : 0; offset < got->size;) {
                std::string a(60'001, '\0');
                std::string b(60'001, '\0');
                memory_output into{std::as_writable_bytes(std::span{a.data(), a.size()})};
                const auto read = f->read_at(offset, into);
                REQUIRE(read);
                REQUIRE(*read != 0);
                on_host.seekg(static_cast<std::streamoff>(offset));
                on_host.read(b.data(), static_cast<std::streamsize>(*read));
                REQUIRE(a == b);
                offset += *read;
            }
        } else if (got->type == file_type::symlink) {
            char text[300];
            const auto length = m.names.read_link(m.me, path.c_str(), text);
            REQUIRE(length);
            CHECK(std::string(text, *length) == host::read_symlink(e.path()).string());
        } else if (got->type == file_type::directory) {
            count += compare(m, e.path(), path);
        }
    }
    CHECK(entries->size() == expected_entries);
    return count;
}

// Everything that can be asked of a tree, not looking at the answers: of each file the beginning and the end.
void ask_everything(mounted& m, const location& at, int depth, int& budget)
{
    inode* const node = at.node();
    if (!node || --budget < 0)
        return;
    (void)node->status();
    char text[100];
    (void)node->read_link(text);
    if (node->type() == file_type::regular) {
        const auto size = node->status()->size;
        for (const std::uint64_t offset : {std::uint64_t{0}, size > 30'000 ? size - 30'000 : 0}) {
            std::vector<std::byte> buffer(60'000);
            memory_output into{buffer};
            (void)node->read(offset, into);
        }
        if (auto frame = node->get_page(0, false))
            m.pages.release(*frame);
    }
    if (!node->is_directory() || depth == 0)
        return;
    auto d = m.names.open(m.me, path{".", &at}, open_options::reading());
    if (!d)
        return;
    (void)m.names.status(m.me, path{"no such name", &at});
    const auto entries = test::list_directory(**d);
    if (!entries)
        return;
    for (const auto& e : *entries)
        if (auto child = m.names.resolve(m.me, path{e.name, &at}, {.follow = false}))
            ask_everything(m, *child, depth - 1, budget);
}
result<> mount_and_ask(mounted& m)
{
    if (auto done = m.mount(); !done)
        return done;
    int budget = 60;
    ask_everything(m, m.me.root, 4, budget);
    return {};
}

const std::vector<std::byte>& small_image()
{
    static const std::vector<std::byte> image = [] {
        const test::temporary_directory tree;
        test::make_small_tree(tree.path);
        return test::make_image(tree.path, "-b 1024 -N 32 -I 128", "128k");
    }();
    return image;
}

ext2_layout::superblock& superblock_of(std::span<std::byte> image)
{
    return *reinterpret_cast<ext2_layout::superblock*>(image.data() + ext2_layout::superblock_offset);
}

} // namespace

TEST_CASE("a RAM disk keeps the laws of block devices")
{
    sim::ram_disk small{64};
    test::world w;
    laws::check_block_device(small);
    sim::ram_disk large_sectors{64, 4096};
    laws::check_block_device(large_sectors);
    std::vector<std::byte> one(512);
    sim::ram_disk protected_disk{one, 512, true};
    CHECK(protected_disk.write(0, one).error() == errors::not_permitted);
    small.fail_request(2);
    CHECK(small.read(0, one));
    CHECK(small.read(0, one).error() == errors::io_error);
    CHECK(small.read(0, one));
}

TEST_CASE("what mke2fs writes is read back")
{
    const test::temporary_directory tree;
    test::make_tree(tree.path, false);
    struct variant {
        const char* options;
        bool hashed;
        std::size_t sector_size;
    };
    for (const auto& v : {variant{"-b 1024", false, 512}, variant{"-b 2048", true, 512},
                          variant{"-b 4096", true, 4096}, variant{"-b 1024 -O ^filetype,^resize_inode", true, 1024},
                          variant{"-b 4096 -r 0 -I 128 -O none", false, 512},
                          variant{"-b 2048 -I 128 -O ^sparse_super,^large_file,^resize_inode -g 2048", false, 512}}) {
        CAPTURE(v.options);
        mounted m{test::make_image(tree.path, v.options, "24M", v.hashed), v.sector_size};
        REQUIRE(m.mount());
        CHECK(compare(m, tree.path, "") > 730);
        CHECK(m.contents("/deep/d0/d1/d2/d3/d4/d5/d6/d7/d8/d9/d10/d11/bottom") == "bottom");
        CHECK(m.contents("/fast") == *m.contents("/dir/sub/f"));
        const auto status = m.names.root().on->system().status();
        REQUIRE(status);
        CHECK(status->free_blocks != 0);
        CHECK(status->free_blocks < status->blocks);

        // Once read, nothing is asked of the disk again.
        const auto before = m.disk.requests();
        CHECK(m.contents("/size300000")->size() == 300'000);
        CHECK(m.disk.requests() == before);
    }
}

TEST_CASE("triple indirect blocks and files beyond 4 GiB are read")
{
    const test::temporary_directory tree;
    test::make_tree(tree.path, true);
    for (const char* options : {"-b 1024", "-b 4096"}) {
        mounted m{test::make_image(tree.path, options, "24M")};
        REQUIRE(m.mount());
        compare(m, tree.path, "");
    }
}

TEST_CASE("an ext2 is not written")
{
    mounted m{small_image()};
    REQUIRE(m.mount());
    CHECK(errno_of(m.names.open(m.me, "/hello", {.write = true})) == posix::rofs);
    CHECK(errno_of(m.names.open(m.me, "/new", {.write = true, .create = true})) == posix::rofs);
    CHECK(errno_of(m.names.make_directory(m.me, "/new", 0755)) == posix::rofs);
    CHECK(errno_of(m.names.make_directory(m.me, "/dir", 0755)) == posix::exist);
    CHECK(errno_of(m.names.unlink(m.me, "/hello")) == posix::rofs);
    CHECK(errno_of(m.names.remove_directory(m.me, "/dir")) == posix::rofs);
    CHECK(errno_of(m.names.rename(m.me, "/hello", "/hi")) == posix::rofs);
    CHECK(errno_of(m.names.change_permissions(m.me, *m.names.resolve(m.me, "/hello"), 0)) == posix::rofs);
    CHECK(m.disk.writes() == 0);
    CHECK(*m.contents("/hello") == "hello from ext2\n");
}

TEST_CASE("a mapping and a read see the same page, zero behind the end")
{
    mounted m{small_image()};
    REQUIRE(m.mount());
    auto f = *m.names.open(m.me, "/hello", open_options::reading());
    REQUIRE(m.names.remember_path(m.me, *f));
    CHECK(f->name() == "/hello");
    mm::object_page present[4]{};
    const auto reads = m.disk.reads();
    CHECK(f->get_present_pages(0, present) == 0);
    CHECK(m.disk.reads() == reads);
    auto page = mm::page::adopt(m.pages, *f->get_page(0, false));
    CHECK(std::memcmp(page.data(), "hello from ext2\n", 16) == 0);
    for (std::size_t i = 16; i < page_size; ++i)
        REQUIRE(page.data()[i] == std::byte{0});
    page.data()[0] = std::byte{'H'};
    CHECK(*test::read_all(*f) == "Hello from ext2\n");
    CHECK(f->get_page(1, false).error() == mm::beyond_end);
    REQUIRE(f->get_present_pages(0, present) == 1);
    CHECK(present[0].index == 0);
    CHECK(present[0].frame == page.frame());
    m.pages.release(present[0].frame);
    CHECK(f->get_present_pages(1, present) == 0);
    CHECK(f->get_page(0, true).error() == mm::access_denied); // the file is not open for writing

    // Memory that runs short takes back what nobody uses, and leaves what is mapped.
    CHECK(m.pages.live > 1);
    m.env.reclaimer.reclaim(m.parker, 1000);
    CHECK(m.pages.live == 1);
    CHECK(*test::read_all(*f) == "");
    CHECK(*f->seek(0, seek_from::start) == 0);
    CHECK(*test::read_all(*f) == "Hello from ext2\n");
}

TEST_CASE("a tree larger than memory is read")
{
    const test::temporary_directory tree;
    test::make_tree(tree.path, false);
    mounted m{test::make_image(tree.path, "-b 1024", "24M")};
    m.pages.limit = 24;
    REQUIRE(m.mount());
    compare(m, tree.path, "");
    CHECK(m.pages.live <= 24);
}

TEST_CASE("what is wrong with a superblock is said by name")
{
    using namespace ext2_errors;
    const auto refusal = [](const std::function<void(ext2_layout::superblock&)>& damage) {
        auto image = small_image();
        damage(superblock_of(image));
        mounted m{image};
        const auto done = m.mount();
        REQUIRE_FALSE(done);
        return done.error();
    };
    CHECK(refusal([](auto& s) { s.magic = 0x1234; }) == error{no_magic, 0x1234});
    CHECK(refusal([](auto& s) { s.revision = 2; }) == unknown_revision);
    CHECK(refusal([](auto& s) { s.log_block_size = 3; }) == bad_block_size);
    CHECK(refusal([](auto& s) { s.log_block_size = ~0u; }) == bad_block_size);
    CHECK(refusal([](auto& s) { s.log_block_size = 1; }) == bad_first_block);
    CHECK(refusal([](auto& s) { s.first_data_block = 0; }) == bad_first_block);
    CHECK(refusal([](auto& s) { s.inode_size = 100; }) == bad_inode_size);
    CHECK(refusal([](auto& s) { s.inode_size = 0; }) == bad_inode_size);
    CHECK(refusal([](auto& s) { s.inode_size = 0x8000; }) == bad_inode_size);
    CHECK(refusal([](auto& s) { s.blocks_count = 1; }) == bad_block_count);
    CHECK(refusal([](auto& s) { s.blocks_count = 4000; }) == device_too_short);
    CHECK(refusal([](auto& s) { s.blocks_per_group = 0; }) == bad_group_size);
    CHECK(refusal([](auto& s) { s.blocks_per_group = 8193; }) == bad_group_size);
    CHECK(refusal([](auto& s) { s.inodes_per_group = 0; }) == bad_group_size);
    CHECK(refusal([](auto& s) { s.inodes_count = 1000; }) == bad_inode_count);
    CHECK(refusal([](auto& s) { s.inodes_count = 1; }) == bad_inode_count);
    for (std::uint32_t bit = 1; bit != 0; bit <<= 1) {
        if (bit == ext2_layout::incompatible::file_type)
            continue;
        const auto e = refusal([&](auto& s) { s.feature_incompatible = s.feature_incompatible | bit; });
        CHECK(e.kind().message.find("the file system needs") == 0);
        CHECK(e.context() == bit);
        CHECK(e.errno_value() == posix::inval);
    }
    CHECK(refusal([](auto& s) { s.feature_incompatible = 0x42; }) == has_extents);
    CHECK(refusal([](auto& s) { s.feature_incompatible = 0x6; }) == has_needs_recovery);

    for (const std::size_t size : {0u, 512u, 1024u, 1536u}) {
        mounted m{std::vector<std::byte>(size)};
        CHECK(m.mount().error() == too_small);
    }
    mounted blank{std::vector<std::byte>(100'000)};
    CHECK(blank.mount().error() == no_magic);
    mounted wide{small_image(), 2048};
    CHECK(wide.mount().error() == bad_sector_size);
    auto cut = small_image();
    cut.resize(cut.size() / 2);
    mounted half{cut};
    CHECK(half.mount().error() == device_too_short);
    // The root inode, first a file, then gone.
    for (const std::uint32_t mode : {0x81A4u, 0x0000u}) {
        auto image = small_image();
        const auto& table = *reinterpret_cast<ext2_layout::group_descriptor*>(image.data() + 2048);
        auto& root = *reinterpret_cast<ext2_layout::inode_record*>(image.data() + table.inode_table * 1024 + 128);
        root.mode = static_cast<std::uint16_t>(mode);
        mounted m{image};
        CHECK(m.mount().error() == (mode ? bad_root : bad_inode));
    }
}

TEST_CASE("damaged directories, inodes and block maps give errors of their own")
{
    using namespace ext2_layout;
    const auto damaged = [](const char* path, auto damage) {
        // Finds the inode's record by the number that a sound image tells.
        mounted sound{small_image()};
        REQUIRE(sound.mount());
        const auto number = sound.names.status(sound.me, path, {.follow = false})->inode;
        auto image = small_image();
        const auto& table = *reinterpret_cast<group_descriptor*>(image.data() + 2048);
        auto& record =
            *reinterpret_cast<inode_record*>(image.data() + table.inode_table * 1024 + (number - 1) * 128);
        damage(record, image);
        return image;
    };
    const auto error_of = [&](const char* path, auto damage) {
        mounted m{damaged(path, damage)};
        REQUIRE(m.mount());
        const auto f = m.contents(path);
        REQUIRE_FALSE(f);
        return f.error();
    };
    using image_type = std::vector<std::byte>;
    CHECK(error_of("/hello", [](inode_record& r, image_type&) { r.links_count = 0; }) == ext2_errors::bad_inode);
    CHECK(error_of("/hello", [](inode_record& r, image_type&) { r.mode = 0x3000; }) == ext2_errors::bad_inode);
    CHECK(error_of("/hello", [](inode_record& r, image_type&) { r.size_high = 0x80000000u; }) ==
          ext2_errors::bad_inode);
    CHECK(error_of("/hello", [](inode_record& r, image_type&) { r.blocks[0] = 1; }) == ext2_errors::bad_block_number);
    CHECK(error_of("/hello", [](inode_record& r, image_type&) { r.blocks[0] = 128; }) ==
          error{ext2_errors::bad_block_number, 128});
    CHECK(error_of("/dir/indirect", [](inode_record& r, image_type&) { r.blocks[12] = 0xFFFFFFFF; }) ==
          ext2_errors::bad_block_number);
    CHECK(error_of("/dir/indirect", [](inode_record& r, image_type& image) {
              reinterpret_cast<le32*>(image.data() + r.blocks[12] * 1024)[3] = 4'000'000;
          }) == error{ext2_errors::bad_block_number, 4'000'000});
    CHECK(error_of("/slow", [](inode_record& r, image_type&) { r.size = 4000; }) == ext2_errors::bad_symlink);
    CHECK(error_of("/fast", [](inode_record& r, image_type&) { r.size = 60; }) == ext2_errors::bad_symlink);

    const auto list_error = [&](auto damage) {
        mounted m{damaged("/dir", damage)};
        REQUIRE(m.mount());
        auto d = m.names.open(m.me, "/dir", open_options::reading());
        const auto entries = d ? test::list_directory(**d) : fail(d.error());
        REQUIRE_FALSE(entries);
        CHECK(m.names.status(m.me, "/dir/zzz").error().kind().domain == "ext2");
        CHECK(*m.contents("/hello") == "hello from ext2\n"); // others are not affected
        return entries.error();
    };
    const auto record = [](inode_record& r, image_type& image) {
        return reinterpret_cast<directory_record*>(image.data() + r.blocks[0] * 1024);
    };
    CHECK(list_error([](inode_record& r, image_type&) { r.size = 1000; }) == ext2_errors::bad_directory);
    CHECK(list_error([](inode_record& r, image_type&) { r.size = 0xFFFFFC00; }) == ext2_errors::bad_inode);
    CHECK(list_error([](inode_record& r, image_type&) { r.size = 2048; }) == ext2_errors::bad_directory);
    for (const unsigned length : {0u, 4u, 7u, 10u, 1026u, 0xFFFCu})
        CHECK(list_error([&](inode_record& r, image_type& i) {
                  record(r, i)->length = static_cast<std::uint16_t>(length);
              }) == ext2_errors::bad_directory);
    CHECK(list_error([&](inode_record& r, image_type& i) { record(r, i)->name_length = 0; }) ==
          ext2_errors::bad_directory);
    CHECK(list_error([&](inode_record& r, image_type& i) { record(r, i)->name_length = 200; }) ==
          ext2_errors::bad_directory);
    CHECK(list_error([&](inode_record& r, image_type& i) { record(r, i)->inode = 33; }) ==
          error{ext2_errors::bad_inode_number, 33});
    CHECK(list_error([&](inode_record& r, image_type& i) {
              reinterpret_cast<char*>(record(r, i) + 1)[0] = '/';
          }) == ext2_errors::bad_directory);

    // A directory that leads back to the root: paths end, so walks do.
    mounted m{damaged("/dir", [&](inode_record& r, image_type& image) {
        auto* at = image.data() + r.blocks[0] * 1024;
        while (std::memcmp(at + sizeof(directory_record), "sub", 3) != 0)
            at += reinterpret_cast<directory_record*>(at)->length;
        reinterpret_cast<directory_record*>(at)->inode = root_inode;
    })};
    REQUIRE(m.mount());
    CHECK(*m.contents("/dir/sub/dir/sub/dir/sub/hello") == "hello from ext2\n");
    CHECK(m.contents("/dir/sub/dir/../../indirect")->size() == 40'000);
    int budget = 500;
    ask_everything(m, m.me.root, 20, budget);
}

TEST_CASE("each byte of the structures, changed, gives an error or data")
{
    const auto& sound = small_image();
    // All but the contents of files, which nothing can be wrong with: superblock, descriptors, bitmaps, inodes, and
    // the blocks of directories, symbolic links and block maps.
    std::vector<std::pair<std::size_t, std::size_t>> places{{1024, 1024 + 264}, {2048, 2048 + 32}};
    {
        const auto& table = *reinterpret_cast<const ext2_layout::group_descriptor*>(sound.data() + 2048);
        const std::size_t inodes = table.inode_table * 1024;
        places.emplace_back(inodes + 128, inodes + 256);
        for (unsigned number = 11; number <= 18; ++number) {
            const auto& r =
                *reinterpret_cast<const ext2_layout::inode_record*>(sound.data() + inodes + (number - 1) * 128);
            if (r.links_count == 0)
                continue;
            places.emplace_back(inodes + (number - 1) * 128, inodes + number * 128);
            const auto type = r.mode & ext2_layout::mode::type_mask;
            if (type == ext2_layout::mode::directory)
                places.emplace_back(r.blocks[0] * 1024, r.blocks[0] * 1024 + 100);
            if (r.blocks[12] != 0 && type == ext2_layout::mode::regular)
                places.emplace_back(r.blocks[12] * 1024, r.blocks[12] * 1024 + 40);
        }
    }
#if defined(__SANITIZE_THREAD__)
    constexpr std::size_t step = 13; // one thread, and a slow one
#else
    constexpr std::size_t step = 1;
#endif
    std::size_t changes = 0;
    std::size_t refused = 0;
    auto image = sound;
    for (const auto& [begin, end] : places)
        for (std::size_t at = begin; at < end; at += step)
            for (const unsigned flip : {0x01u, 0x80u, 0xFFu}) {
                const auto was = image[at];
                image[at] = was ^ static_cast<std::byte>(flip);
                mounted m{image};
                ++changes;
                refused += !mount_and_ask(m);
                image[at] = was;
            }
    CHECK(changes > 3000 / step);
    CHECK(refused > 50 / step);
    CHECK(refused < changes / 2);
}

TEST_CASE("a device that fails any one request gives an error, and reads well afterwards")
{
    std::uint64_t failures = 0;
    for (std::uint64_t n = 1;; ++n) {
        mounted m{small_image()};
        m.disk.fail_request(n);
        auto done = m.mount();
        auto status = done ? m.names.status(m.me, "/fast") : fail(done.error());
        const auto first = status ? m.contents("/fast") : fail(status.error());
        // What came before the failure is not lost: the read ends there, the next one says why.
        const auto second = first ? m.contents("/dir/indirect") : fail(first.error());
        if (m.disk.requests() < n)
            break;
        ++failures;
        if (!second)
            CHECK(second.error() == errors::io_error);
        else
            CHECK(*second == test::pattern_text(40'000, 3));
        m.disk.heal();
        if (!done)
            REQUIRE(m.mount());
        CHECK(*m.contents("/fast") == test::pattern_text(3'000, 4));
        CHECK(*m.contents("/dir/indirect") == test::pattern_text(40'000, 3));
    }
    CHECK(failures > 10);
}

TEST_CASE("whichever allocation fails, ext2 says so and leaks nothing")
{
    for (const bool pages : {false, true}) {
        std::uint64_t failed = 0;
        for (std::uint64_t n = 1;; ++n) {
            mounted m{small_image()};
            (pages ? m.pages.fail_at : m.heap.fail_at) = n;
            auto done = m.mount();
            const auto text = done ? m.contents("/slow/../dir/sub/../../fast") : fail(done.error());
            const auto more = done ? m.contents("/dir/indirect") : fail(done.error());
            const bool reached = (pages ? m.pages.seen : m.heap.seen) >= n;
            m.heap.fail_at = m.pages.fail_at = 0;
            if (!reached)
                break;
            ++failed;
            if (!done) {
                CHECK(done.error() == errors::out_of_memory);
                REQUIRE(m.mount());
            }
            CHECK(m.contents("/dir/indirect")->size() == 40'000);
        }
        CHECK(failed > (pages ? 5u : 20u));
    }
}

TEST_CASE("threads that read the same files from a cold cache all read them right")
{
    mounted m{small_image()};
    REQUIRE(m.mount());
    std::atomic<int> wrong{};
    const auto indirect = test::pattern_text(40'000, 3);
    const auto direct = test::pattern_text(3'000, 4);
    {
        std::vector<std::jthread> threads;
        for (int t = 0; t < 3; ++t)
            threads.emplace_back([&] {
                for (int i = 0; i < 150; ++i) {
                    if (*m.contents("/dir/indirect") != indirect || *m.contents("/fast") != direct)
                        ++wrong;
                    m.env.reclaimer.reclaim(m.parker, 3);
                }
            });
    }
    CHECK(wrong == 0);
}

} // namespace exo::fs
