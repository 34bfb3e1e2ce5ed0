// The tree of names: path walk, mounts, permissions, and tmpfs beneath.

#include "world.hpp"

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <thread>

#include <exo/fs/devfs/devfs.hpp>
#include <exo/fs/devfs/memory_devices.hpp>
#include <exo/fs/poll.hpp>
#include <exo/fs/tmpfs/tmpfs.hpp>

using namespace exo;
using namespace exo::fs;
using test::errno_of;

namespace {

struct tree_world : test::world {
    explicit tree_world(const tmpfs_options& options = {}) : names{env, 64}
    {
        auto system = tmpfs::create(env, options);
        REQUIRE(system);
        root_system = *system;
        REQUIRE(names.mount_root(*system, "none"));
        me = names.initial_context();
    }

    posix make(const char* path, std::string_view text = {})
    {
        auto f = names.open(me, path, {.write = true, .create = true, .exclusive = true, .permissions = 0644});
        if (!f)
            return f.error().errno_value();
        return errno_of(test::write_text(**f, text));
    }
    posix mkdir(const char* path) { return errno_of(names.make_directory(me, path, 0755)); }
    posix symlink(const char* target, const char* path) { return errno_of(names.make_symlink(me, target, path)); }
    posix unlink(const char* path) { return errno_of(names.unlink(me, path)); }
    posix rmdir(const char* path) { return errno_of(names.remove_directory(me, path)); }
    posix rename(const char* from, const char* to) { return errno_of(names.rename(me, from, to)); }
    posix stat(const char* path) { return errno_of(names.status(me, path)); }
    posix open(const char* path, const open_options& options = open_options::reading())
    {
        return errno_of(names.open(me, path, options));
    }
    std::string contents(const char* path)
    {
        auto f = names.open(me, path, open_options::reading());
        REQUIRE(f);
        auto text = test::read_all(**f);
        REQUIRE(text);
        return *text;
    }
    std::string path_of(const location& where)
    {
        char text[200];
        const auto length = names.path_of(me, where, text);
        return length ? std::string{text, *length} : "?";
    }
    void chdir(const char* path)
    {
        auto where = names.resolve(me, path);
        REQUIRE(where);
        me.working_directory = *where;
    }

    vfs names;
    ref<tmpfs> root_system;
    path_context me;
};

} // namespace

TEST_CASE("paths lead where POSIX says")
{
    tree_world w;
    REQUIRE(w.mkdir("/a") == posix::none);
    REQUIRE(w.mkdir("/a/b") == posix::none);
    REQUIRE(w.make("/a/b/f", "text") == posix::none);

    CHECK(w.contents("/a/b/f") == "text");
    CHECK(w.contents("//a///b//f") == "text");
    CHECK(w.contents("/a/./b/../b/f") == "text");
    CHECK(w.contents("/../../a/b/f") == "text");
    CHECK(w.contents("a/b/f") == "text");
    CHECK(w.stat("/a/b/") == posix::none);
    CHECK(w.stat("/a/b/f/") == posix::notdir);
    CHECK(w.stat("/a/b/f/.") == posix::notdir);
    CHECK(w.stat("/a/b/f/..") == posix::notdir);
    CHECK(w.stat("/a/x/f") == posix::noent);
    CHECK(w.stat("/a/x") == posix::noent);
    CHECK(w.stat("/a/x") == posix::noent); // remembered
    CHECK(w.stat("") == posix::noent);
    CHECK(w.stat("/") == posix::none);

    w.chdir("/a/b");
    CHECK(w.contents("f") == "text");
    CHECK(w.contents("../b/f") == "text");
    CHECK(w.contents("../../a/b/f") == "text");
    CHECK(w.path_of(w.me.working_directory) == "/a/b");
    CHECK(w.path_of(w.me.root) == "/");
    auto start = w.names.resolve(w.me, "/a");
    REQUIRE(start);
    CHECK(w.names.status(w.me, path{"b/f", &*start}));
    CHECK(w.names.status(w.me, path{"", &*start}, {.allow_empty = true}));
    auto file_start = w.names.resolve(w.me, "/a/b/f");
    CHECK(errno_of(w.names.status(w.me, path{"x", &*file_start})) == posix::notdir);

    const std::string name(255, 'n');
    CHECK(w.make(("/" + name).c_str()) == posix::none);
    CHECK(w.make(("/" + name + "n").c_str()) == posix::nametoolong);
    std::string deep = "/a/b";
    while (deep.size() + 2 <= longest_path)
        deep += "/.";
    CHECK(w.stat(deep.c_str()) == posix::none);
    CHECK(w.stat((deep + "/./.").c_str()) == posix::nametoolong);

    char text[3];
    CHECK(errno_of(w.names.path_of(w.me, *start, text)) == posix::none);
    CHECK(errno_of(w.names.path_of(w.me, w.me.working_directory, text)) == posix::range);
}

TEST_CASE("symbolic links are followed, 40 deep at most")
{
    tree_world w;
    REQUIRE(w.mkdir("/d") == posix::none);
    REQUIRE(w.make("/d/f", "x") == posix::none);
    CHECK(w.symlink("d/f", "/to_file") == posix::none);
    CHECK(w.symlink("/d", "/to_dir") == posix::none);
    CHECK(w.symlink("../to_dir/../d/f", "/d/around") == posix::none);
    CHECK(w.symlink("nowhere", "/dangling") == posix::none);
    CHECK(w.symlink("loop", "/loop") == posix::none);
    CHECK(w.symlink("", "/empty") == posix::noent);
    CHECK(w.symlink("x", "/loop") == posix::exist);

    CHECK(w.contents("/to_file") == "x");
    CHECK(w.contents("/to_dir/f") == "x");
    CHECK(w.contents("/to_dir//around") == "x");
    CHECK(w.contents("/d/around") == "x");
    CHECK(w.stat("/to_file/") == posix::notdir);
    CHECK(w.stat("/to_dir/") == posix::none);
    CHECK(w.stat("/dangling") == posix::noent);
    CHECK(w.stat("/loop") == posix::loop);
    CHECK(w.names.status(w.me, "/loop", {.follow = false})->type == file_type::symlink);
    CHECK(w.names.status(w.me, "/to_dir", {.follow = false})->type == file_type::symlink);
    CHECK(w.names.status(w.me, "/to_dir/", {.follow = false})->type == file_type::directory);
    CHECK(w.open("/to_file", {.read = true, .no_follow = true}) == posix::loop);
    CHECK(w.open("/to_dir/f", {.read = true, .no_follow = true}) == posix::none);
    CHECK(w.open("/to_file", {.no_follow = true, .path_only = true}) == posix::none);

    char target[10];
    CHECK(*w.names.read_link(w.me, "/d/around", target) == sizeof target);
    CHECK(std::string_view{target, 10} == "../to_dir/");
    CHECK(errno_of(w.names.read_link(w.me, "/d", target)) == posix::inval);

    // Creating through a dangling link makes its target, but not with O_EXCL.
    CHECK(w.make("/dangling", "y") == posix::exist);
    CHECK(w.open("/dangling", {.write = true, .create = true, .permissions = 0600}) == posix::none);
    CHECK(w.stat("/nowhere") == posix::none);

    REQUIRE(w.make("/l0", "end") == posix::none);
    for (int i = 1; i <= 41; ++i)
        REQUIRE(w.symlink(("l" + std::to_string(i - 1)).c_str(), ("/l" + std::to_string(i)).c_str()) == posix::none);
    CHECK(w.contents("/l40") == "end");
    CHECK(w.stat("/l41") == posix::loop);
}

TEST_CASE("names are made and taken away as POSIX says")
{
    tree_world w;
    REQUIRE(w.mkdir("/d/") == posix::none);
    CHECK(w.mkdir("/d") == posix::exist);
    CHECK(w.mkdir("/") == posix::exist);
    CHECK(w.mkdir("/d/.") == posix::exist);
    CHECK(w.mkdir("/x/y") == posix::noent);
    REQUIRE(w.make("/d/f") == posix::none);
    CHECK(w.make("/d/f") == posix::exist);
    CHECK(w.mkdir("/d/f/g") == posix::notdir);
    CHECK(w.open("/d/new/", {.write = true, .create = true}) == posix::isdir);
    CHECK(w.open("/d", {.write = true}) == posix::isdir);
    CHECK(w.open("/d", {.read = true, .create = true}) == posix::isdir);
    CHECK(w.open("/d", {.read = true, .directory = true}) == posix::none);
    CHECK(w.open("/d/f", {.read = true, .directory = true}) == posix::notdir);
    CHECK(w.open("/d/none") == posix::noent);

    CHECK(w.unlink("/d") == posix::isdir);
    CHECK(w.unlink("/d/f/") == posix::notdir);
    CHECK(w.unlink("/d/x") == posix::noent);
    CHECK(w.rmdir("/d") == posix::notempty);
    CHECK(w.rmdir("/d/f") == posix::notdir);
    CHECK(w.rmdir("/d/.") == posix::inval);
    CHECK(w.rmdir("/d/..") == posix::notempty);
    CHECK(w.rmdir("/") == posix::busy);

    CHECK(errno_of(w.names.link(w.me, "/d/f", "/hard")) == posix::none);
    CHECK(errno_of(w.names.link(w.me, "/d", "/hard2")) == posix::perm);
    CHECK(errno_of(w.names.link(w.me, "/d/f", "/d")) == posix::exist);
    CHECK(w.names.status(w.me, "/hard")->links == 2);
    CHECK(w.names.status(w.me, "/hard")->inode == w.names.status(w.me, "/d/f")->inode);
    CHECK(w.names.status(w.me, "/d")->links == 2);
    CHECK(w.names.status(w.me, "/")->links == 3);

    // What is open lives on without a name.
    auto held = w.names.open(w.me, "/d/f", {.read = true, .write = true});
    REQUIRE(held);
    CHECK(w.unlink("/d/f") == posix::none);
    CHECK(w.unlink("/hard") == posix::none);
    CHECK(test::write_text(**held, "still"));
    CHECK(*(*held)->seek(0, seek_from::start) == 0);
    CHECK(*test::read_all(**held) == "still");
    CHECK((*held)->node().status()->links == 0);

    // A working directory that is gone: it has no path, no entries, and nothing can be made in it.
    w.chdir("/d");
    CHECK(w.rmdir("/d") == posix::none);
    CHECK(w.path_of(w.me.working_directory) == "?");
    CHECK(w.make("g") == posix::noent);
    CHECK(w.mkdir("g") == posix::noent);
    CHECK(w.stat("..") == posix::none);
    CHECK(w.stat(".") == posix::none);
    CHECK(w.stat("/d") == posix::noent);
}

TEST_CASE("rename is atomic and refuses what would break the tree")
{
    tree_world w;
    for (const char* d : {"/a", "/a/b", "/a/b/c", "/e", "/full"})
        REQUIRE(w.mkdir(d) == posix::none);
    REQUIRE(w.make("/f", "f") == posix::none);
    REQUIRE(w.make("/g", "g") == posix::none);
    REQUIRE(w.make("/full/x", "x") == posix::none);

    CHECK(w.rename("/a", "/a/b/c/d") == posix::inval);
    CHECK(w.rename("/a", "/a") == posix::none);
    CHECK(w.rename("/a/b/c", "/a") == posix::notempty);
    CHECK(w.rename("/f", "/a") == posix::isdir);
    CHECK(w.rename("/a", "/f") == posix::notdir);
    CHECK(w.rename("/e", "/full") == posix::notempty);
    CHECK(w.rename("/none", "/x") == posix::noent);
    CHECK(w.rename("/f/", "/x") == posix::notdir);
    CHECK(w.rename("/f", "/x/") == posix::notdir);
    CHECK(w.rename("/a/.", "/x") == posix::busy);

    CHECK(w.rename("/f", "/g") == posix::none);
    CHECK(w.contents("/g") == "f");
    CHECK(w.stat("/f") == posix::noent);
    CHECK(w.rename("/a/b", "/e") == posix::none);
    CHECK(w.stat("/e/c") == posix::none);
    CHECK(w.names.status(w.me, "/a")->links == 2);
    CHECK(w.names.status(w.me, "/e")->links == 3);
    CHECK(w.names.status(w.me, "/")->links == 5);
    w.chdir("/e/c");
    CHECK(w.rename("/e", "/full/moved") == posix::none);
    CHECK(w.path_of(w.me.working_directory) == "/full/moved/c");
    CHECK(w.contents("../../x") == "x");

    CHECK(errno_of(w.names.rename(w.me, "/g", "/full/x", {.no_replace = true})) == posix::exist);
    CHECK(errno_of(w.names.rename(w.me, "/g", "/new", {.no_replace = true})) == posix::none);
    CHECK(errno_of(w.names.rename(w.me, "/new", "/a/none", {.exchange = true})) == posix::noent);
    CHECK(errno_of(w.names.rename(w.me, "/full/moved", "/new", {.exchange = true})) == posix::none);
    CHECK(w.contents("/full/moved") == "f");
    CHECK(w.path_of(w.me.working_directory) == "/new/c");
    CHECK(w.names.status(w.me, "/full")->links == 2);
    REQUIRE(errno_of(w.names.link(w.me, "/full/x", "/hard")) == posix::none);
    CHECK(w.rename("/full/x", "/hard") == posix::none);
    CHECK(w.stat("/full/x") == posix::none);
}

TEST_CASE("mounts nest, hide what they cover, and are busy while in use")
{
    tree_world w;
    REQUIRE(w.mkdir("/mnt") == posix::none);
    REQUIRE(w.make("/mnt/under", "u") == posix::none);
    auto first = tmpfs::create(w.env);
    auto second = tmpfs::create(w.env);
    REQUIRE(w.names.mount(w.me, "/mnt", *first, "one"));
    CHECK(w.stat("/mnt/under") == posix::noent);
    REQUIRE(w.mkdir("/mnt/inner") == posix::none);
    REQUIRE(w.names.mount(w.me, "/mnt/inner", *second, "two"));
    REQUIRE(w.make("/mnt/inner/f", "inner") == posix::none);
    CHECK(w.contents("/mnt/inner/../inner/f") == "inner");
    CHECK(w.names.status(w.me, "/mnt/inner/..")->inode == w.names.status(w.me, "/mnt")->inode);
    CHECK(w.names.status(w.me, "/mnt/..")->device == w.names.status(w.me, "/")->device);

    std::string mounts;
    REQUIRE(w.names.for_each_mount([&](mount& m, std::string_view at) {
        mounts += std::string{m.source()} + ' ' + std::string{at} + ' ' + std::string{m.system().type_name()} + '\n';
    }));
    CHECK(mounts == "none / tmpfs\none /mnt tmpfs\ntwo /mnt/inner tmpfs\n");

    REQUIRE(w.make("/f", "f") == posix::none);
    CHECK(w.rename("/f", "/mnt/f") == posix::xdev);
    CHECK(errno_of(w.names.link(w.me, "/f", "/mnt/f")) == posix::xdev);
    CHECK(w.rename("/mnt/inner", "/mnt/x") == posix::busy);
    CHECK(w.rmdir("/mnt/inner") == posix::busy);
    CHECK(errno_of(w.names.unmount(w.me, "/mnt")) == posix::busy);
    CHECK(errno_of(w.names.unmount(w.me, "/f")) == posix::inval);
    CHECK(errno_of(w.names.unmount(w.me, "/")) == posix::busy);

    {
        auto held = w.names.open(w.me, "/mnt/inner/f", open_options::reading());
        CHECK(errno_of(w.names.unmount(w.me, "/mnt/inner")) == posix::busy);
    }
    w.chdir("/mnt/inner");
    CHECK(errno_of(w.names.unmount(w.me, "/mnt/inner")) == posix::busy);
    CHECK(w.path_of(w.me.working_directory) == "/mnt/inner");
    w.chdir("/");
    CHECK(errno_of(w.names.unmount(w.me, "/mnt/inner")) == posix::none);
    CHECK(w.stat("/mnt/inner/f") == posix::noent);
    REQUIRE(w.names.mount(w.me, "/mnt/inner", *second, "again", {.read_only = true}));
    CHECK(w.contents("/mnt/inner/f") == "inner");
    CHECK(w.make("/mnt/inner/g") == posix::rofs);
    CHECK(w.open("/mnt/inner/f", {.write = true}) == posix::rofs);
    CHECK(w.unlink("/mnt/inner/f") == posix::rofs);
    CHECK(w.mkdir("/mnt/inner/f") == posix::exist);
    CHECK(errno_of(w.names.truncate(w.me, "/mnt/inner/f", 0)) == posix::rofs);
    CHECK(errno_of(w.names.check_access(w.me, "/mnt/inner/f", access::write)) == posix::rofs);

    // One over another, at the same place.
    auto third = tmpfs::create(w.env);
    REQUIRE(w.names.mount(w.me, "/mnt/inner", *third, "over"));
    CHECK(w.stat("/mnt/inner/f") == posix::noent);
    CHECK(errno_of(w.names.unmount(w.me, "/mnt/inner")) == posix::none);
    CHECK(w.contents("/mnt/inner/f") == "inner");
    CHECK(errno_of(w.names.mount(w.me, "/f", *third, "x")) == posix::notdir);
    w.me.who.uid = 1000;
    CHECK(errno_of(w.names.mount(w.me, "/mnt", *third, "x")) == posix::perm);
    CHECK(errno_of(w.names.unmount(w.me, "/mnt")) == posix::perm);
}

TEST_CASE("permissions, owners, the sticky bit and the umask hold")
{
    tree_world w;
    REQUIRE(w.mkdir("/d") == posix::none);
    REQUIRE(w.make("/d/f", "secret") == posix::none);
    auto chmod = [&](const char* p, permission_bits bits) {
        return errno_of(w.names.change_permissions(w.me, *w.names.resolve(w.me, p), bits));
    };
    auto chown = [&](const char* p, std::optional<std::uint32_t> uid, std::optional<std::uint32_t> gid) {
        return errno_of(w.names.change_owner(w.me, *w.names.resolve(w.me, p), uid, gid));
    };
    REQUIRE(chmod("/d/f", 0640) == posix::none);
    REQUIRE(chown("/d/f", 1, 2) == posix::none);
    const auto open_as = [&](std::uint32_t uid, std::uint32_t gid, open_options options) {
        w.me.who = {uid, gid};
        const auto e = w.open("/d/f", options);
        w.me.who = {};
        return e;
    };
    CHECK(open_as(1, 9, {.read = true, .write = true}) == posix::none);
    CHECK(open_as(5, 2, {.read = true}) == posix::none);
    CHECK(open_as(5, 2, {.write = true}) == posix::acces);
    CHECK(open_as(5, 2, {.read = true, .truncate = true}) == posix::acces);
    CHECK(open_as(5, 5, {.read = true}) == posix::acces);
    CHECK(open_as(5, 5, {.path_only = true}) == posix::none);
    const std::uint32_t groups[]{2, 7};
    w.me.who = {5, 5, groups};
    CHECK(w.open("/d/f") == posix::none);
    CHECK(chmod("/d/f", 0777) == posix::perm);
    CHECK(w.make("/d/g") == posix::acces);
    CHECK(w.unlink("/d/f") == posix::acces);
    w.me.who = {};
    CHECK(chmod("/d", 0700) == posix::none);
    CHECK(open_as(1, 2, {.read = true}) == posix::acces);
    w.me.who = {1, 2};
    CHECK(w.stat("/d/f") == posix::acces);
    CHECK(w.stat("/d/none") == posix::acces);
    w.me.who = {};
    CHECK(errno_of(w.names.check_access(w.me, "/d/f", access::execute)) == posix::acces);
    CHECK(errno_of(w.names.check_access(w.me, "/d/f", access::read | access::write)) == posix::none);
    CHECK(errno_of(w.names.check_access(w.me, "/d/f", 0)) == posix::none);

    // Sticky, as /tmp is.
    REQUIRE(w.mkdir("/tmp") == posix::none);
    REQUIRE(chmod("/tmp", 01777) == posix::none);
    w.me.who = {1, 1};
    w.me.umask = 022;
    REQUIRE(errno_of(w.names.open(w.me, "/tmp/mine", {.write = true, .create = true, .permissions = 0666})) ==
            posix::none);
    CHECK(w.names.status(w.me, "/tmp/mine")->permissions == 0644);
    CHECK(w.names.status(w.me, "/tmp/mine")->uid == 1);
    w.me.who = {2, 2};
    CHECK(w.unlink("/tmp/mine") == posix::perm);
    CHECK(w.rename("/tmp/mine", "/tmp/x") == posix::perm);
    w.me.who = {1, 1};
    CHECK(chown("/tmp/mine", 2, {}) == posix::perm);
    CHECK(chmod("/tmp/mine", 06755) == posix::none);
    CHECK(chown("/tmp/mine", {}, 1) == posix::none);
    CHECK(w.names.status(w.me, "/tmp/mine")->permissions == 0755);
    CHECK(w.unlink("/tmp/mine") == posix::none);

    // Set-gid directories hand their group down.
    w.me.who = {};
    REQUIRE(w.mkdir("/team") == posix::none);
    REQUIRE(chown("/team", {}, 50) == posix::none);
    REQUIRE(chmod("/team", 02777) == posix::none);
    w.me.who = {1, 1};
    REQUIRE(w.mkdir("/team/sub") == posix::none);
    CHECK(w.names.status(w.me, "/team/sub")->gid == 50);
    CHECK(w.names.status(w.me, "/team/sub")->permissions == 02755);

    // A file may be opened for what its creator asked, whatever its permissions say.
    auto odd = w.names.open(w.me, "/tmp/odd", {.read = true, .write = true, .create = true, .permissions = 0});
    REQUIRE(odd);
    CHECK(test::write_text(**odd, "x"));
}

TEST_CASE("files have positions, holes and ends")
{
    tree_world w;
    auto f = *w.names.open(w.me, "/f", {.read = true, .write = true, .create = true, .permissions = 0600});
    CHECK(*test::write_text(*f, "hello") == 5);
    CHECK(*f->seek(-2, seek_from::current) == 3);
    CHECK(*test::read_text(*f, 10) == "lo");
    CHECK(*test::read_text(*f, 10) == "");
    CHECK(*f->seek(10'000, seek_from::end) == 10'005);
    CHECK(*test::write_text(*f, "far") == 3);
    CHECK(f->node().status()->size == 10'008);
    CHECK(f->node().status()->blocks == 16);
    CHECK(errno_of(f->seek(-1, seek_from::start)) == posix::inval);
    CHECK(*f->seek(1, seek_from::data) == 1);
    CHECK(*f->seek(1, seek_from::hole) == 4096);
    CHECK(*f->seek(5000, seek_from::data) == 8192);
    CHECK(*f->seek(9000, seek_from::hole) == 10'008);
    CHECK(errno_of(f->seek(10'008, seek_from::data)) == posix::nxio);

    CHECK(f->truncate(4));
    CHECK(f->truncate(5000));
    std::string text(8, '?');
    memory_output into{std::as_writable_bytes(std::span{text.data(), text.size()})};
    CHECK(*f->read_at(0, into) == 8);
    CHECK(text == std::string("hell\0\0\0\0", 8));
    CHECK(*f->seek(0, seek_from::current) == 10'008);
    CHECK(f->truncate(0));
    CHECK(w.root_system->used_pages() == 0);

    f->set_appends(true);
    CHECK(*f->seek(0, seek_from::start) == 0);
    CHECK(*test::write_text(*f, "abc") == 3);
    CHECK(*f->seek(0, seek_from::start) == 0);
    CHECK(*test::write_text(*f, "def") == 3);
    CHECK(*f->seek(0, seek_from::current) == 6);
    CHECK(w.contents("/f") == "abcdef");
    memory_input from{test::bytes_of("XY")};
    CHECK(*f->write_at(1, from) == 2);
    CHECK(w.contents("/f") == "aXYdef");

    const auto read_only = *w.names.open(w.me, "/f", open_options::reading());
    CHECK(errno_of(test::write_text(*read_only, "x")) == posix::badf);
    CHECK(errno_of(read_only->truncate(0)) == posix::inval);
    const auto write_only = *w.names.open(w.me, "/f", {.write = true, .truncate = true});
    CHECK(errno_of(test::read_text(*write_only, 1)) == posix::badf);
    CHECK(w.contents("/f").empty());
    const auto handle = *w.names.open(w.me, "/f", {.path_only = true});
    CHECK(errno_of(test::read_text(*handle, 1)) == posix::badf);

    // A mapping sees what was written, writes what is read, and faults behind the end.
    REQUIRE(f->truncate(6000));
    auto frame = f->get_page(1, true);
    REQUIRE(frame);
    auto page = mm::page::adopt(w.pages, *frame);
    page.data()[100] = std::byte{'m'};
    CHECK(w.contents("/f")[4196] == 'm');
    CHECK(f->get_page(2, false).error() == mm::beyond_end);
    mm::object_page present[3]{};
    REQUIRE(f->get_present_pages(0, present) == 1); // page 0 has never been written since the file was empty
    CHECK(present[0].index == 1);
    CHECK(present[0].frame == page.frame());
    w.pages.release(present[0].frame);
    CHECK(f->get_present_pages(0, std::span{present}.first(1)) == 0);
    CHECK(errno_of(w.names.open(w.me, "/", open_options::reading()).value()->get_page(0, false)) == posix::nodev);
}

TEST_CASE("a directory is read to its end though entries come and go")
{
    tree_world w;
    REQUIRE(w.mkdir("/d") == posix::none);
    std::set<std::string> stays;
    for (int i = 0; i < 200; ++i) {
        const auto name = "/d/f" + std::to_string(i);
        REQUIRE(w.make(name.c_str()) == posix::none);
        if (i % 3 != 0)
            stays.insert("f" + std::to_string(i));
    }
    auto d = *w.names.open(w.me, "/d", open_options::reading());
    struct sink final : directory_sink {
        bool add(const directory_entry& e) override
        {
            if (room == 0)
                return false;
            --room;
            names.emplace_back(e.name);
            return true;
        }
        int room{};
        std::vector<std::string> names;
    } s;
    for (int round = 0; round < 100; ++round) {
        s.room = 3;
        REQUIRE(d->read_directory(s));
        if (round < 67)
            REQUIRE(w.unlink(("/d/f" + std::to_string(round * 3)).c_str()) == posix::none);
        if (round < 20)
            REQUIRE(w.make(("/d/new" + std::to_string(round)).c_str()) == posix::none);
    }
    std::multiset<std::string> seen(s.names.begin(), s.names.end());
    for (const auto& name : stays)
        CHECK(seen.count(name) == 1);
    for (const auto& name : seen)
        CHECK(seen.count(name) == 1);
    CHECK(s.names[0] == ".");
    CHECK(s.names[1] == "..");
    CHECK(*d->seek(0, seek_from::start) == 0);
    CHECK(test::list_directory(*d)->size() == 200 - 67 + 20);
}

TEST_CASE("tmpfs keeps to its limit, and gives back what is freed")
{
    tree_world w{{.page_limit = 4}};
    const std::string page(4096, 'p');
    REQUIRE(w.make("/a", page + page + page) == posix::none);
    auto b = *w.names.open(w.me, "/b", {.write = true, .create = true, .permissions = 0600});
    CHECK(*test::write_text(*b, page + page) == 4096); // what fits
    CHECK(errno_of(test::write_text(*b, page)) == posix::nospc);
    CHECK(w.root_system->status()->free_blocks == 0);
    CHECK(w.unlink("/a") == posix::none);
    CHECK(w.root_system->status()->free_blocks == 3);
    CHECK(*test::write_text(*b, page) == 4096);
}

TEST_CASE("A file in tmpfs whose mappings cannot forget its end keeps it, and a page is refused before it is forgotten")
{
    struct user final : mm::object_user {
        bool try_pin() noexcept override { return true; }
        void unpin() noexcept override {}
        result<> forget_pages(mm::object_mappings& object, std::uint64_t first) noexcept override
        {
            CHECK(first == 1);
            CHECK(of->get_page(1, false).error() == mm::beyond_end);
            if (std::exchange(fails, false))
                return fail(exo::errors::out_of_memory);
            object.seen(*parker, mapping);
            return {};
        }
        mm::object_mapping mapping;
        sync::any_parker* parker{};
        fs::file* of{};
        bool fails{true};
    } user;
    tree_world w{{}};
    const std::string text(3 * page_size, 't');
    REQUIRE(w.make("/a", text) == posix::none);
    auto a = *w.names.open(w.me, "/a", {.read = true, .write = true});
    user.parker = &w.parker;
    user.of = a.get();
    REQUIRE(a->mappings());
    a->mappings()->enter(w.parker, user.mapping, user);
    CHECK(errno_of(a->truncate(page_size - 10)) == posix::nomem);
    CHECK(*test::read_all(*a) == text);
    CHECK(a->truncate(page_size - 10));
    CHECK(a->truncate(2 * page_size)); // nothing to forget
    CHECK(*a->seek(0, seek_from::start) == 0);
    CHECK(*test::read_all(*a) == text.substr(0, page_size - 10) + std::string(page_size + 10, '\0'));
    a->mappings()->leave(w.parker, user.mapping);
}

TEST_CASE("A page that a mapping asked tmpfs for while the file became smaller is refused, and not kept")
{
    tree_world w{{}};
    REQUIRE(w.make("/a", "") == posix::none);
    auto a = *w.names.open(w.me, "/a", {.read = true, .write = true});
    REQUIRE(a->truncate(2 * page_size));
    w.pages.meanwhile = [&] { REQUIRE(a->truncate(page_size)); };
    CHECK(a->get_page(1, true).error() == mm::beyond_end);
    CHECK(w.names.status(w.me, "/a")->blocks == 0);
    const auto first = a->get_page(0, true);
    REQUIRE(first);
    w.pages.release(*first);
}

TEST_CASE("A write whose source cannot be read leaves no page behind the end, and what is there stays")
{
    struct unreadable final : fs::input {
        std::size_t remaining() const noexcept override { return 10; }
        result<std::size_t> get(std::span<std::byte>) override { return fail(exo::errors::bad_address); }
    } nothing;
    tree_world w{{.page_limit = 2}};
    REQUIRE(w.make("/a", "text") == posix::none);
    auto a = *w.names.open(w.me, "/a", {.read = true, .write = true});
    for (std::uint64_t page = 0; page < 4; ++page)
        CHECK(errno_of(a->write_at(page * page_size, nothing)) == posix::fault);
    const auto status = w.names.status(w.me, "/a");
    CHECK((status->size == 4 && status->blocks == 8));
    CHECK(*test::read_all(*a) == "text");
    CHECK(w.make("/b", "more") == posix::none);
}

// Operations at random against a plain model of a tree: the same answers, and the same tree at the end.
namespace {

struct model_node {
    bool directory{};
    std::string data;
    std::map<std::string, std::shared_ptr<model_node>> entries;
};
using model_ref = std::shared_ptr<model_node>;

struct model {
    model_ref root = std::make_shared<model_node>(model_node{.directory = true, .data = {}, .entries = {}});

    // Directory and last name; null if the way does not exist (error in `e`).
    model_ref parent(const std::vector<std::string>& p, posix& e)
    {
        model_ref at = root;
        for (std::size_t i = 0; i + 1 < p.size(); ++i) {
            if (!at->directory) {
                e = posix::notdir;
                return {};
            }
            const auto found = at->entries.find(p[i]);
            if (found == at->entries.end()) {
                e = posix::noent;
                return {};
            }
            at = found->second;
        }
        if (!at->directory) {
            e = posix::notdir;
            return {};
        }
        return at;
    }
    static bool contains(const model_ref& tree, const model_ref& node)
    {
        if (tree == node)
            return true;
        return std::ranges::any_of(tree->entries, [&](const auto& e) { return contains(e.second, node); });
    }
};

void compare(tree_world& w, const model_node& m, const std::string& at)
{
    if (!m.directory) {
        const auto f = w.names.open(w.me, at.c_str(), open_options::reading());
        REQUIRE(f);
        REQUIRE(*test::read_all(**f) == m.data);
        return;
    }
    const auto d = w.names.open(w.me, at.empty() ? "/" : at.c_str(), open_options::reading());
    REQUIRE(d);
    const auto entries = test::list_directory(**d);
    REQUIRE(entries);
    REQUIRE(entries->size() == m.entries.size());
    std::uint32_t subdirectories = 0;
    for (const auto& e : *entries) {
        const auto found = m.entries.find(e.name);
        REQUIRE(found != m.entries.end());
        REQUIRE((e.type == file_type::directory) == found->second->directory);
        subdirectories += found->second->directory;
        compare(w, *found->second, at + "/" + e.name);
    }
    REQUIRE(w.names.status(w.me, at.empty() ? "/" : at.c_str())->links == 2 + subdirectories);
}

} // namespace

TEST_CASE("random operations on tmpfs do what a plain model does")
{
    for (unsigned seed = 1; seed <= 12; ++seed) {
        CAPTURE(seed);
        tree_world w;
        model m;
        std::mt19937 random{seed};
        const auto pick = [&](unsigned n) { return static_cast<unsigned>(random() % n); };
        const auto some_path = [&] {
            std::vector<std::string> p;
            do
                p.push_back(std::string(1, static_cast<char>('a' + pick(4))));
            while (p.size() < 4 && pick(3) != 0);
            return p;
        };
        const auto text_of = [](const std::vector<std::string>& p) {
            std::string text;
            for (const auto& c : p)
                text += "/" + c;
            return text;
        };
        for (int step = 0; step < 1500; ++step) {
            const auto p = some_path();
            const auto text = text_of(p);
            posix expected = posix::none;
            posix got = posix::none;
            const auto parent = m.parent(p, expected);
            const auto name = p.back();
            const auto node = parent && parent->entries.contains(name) ? parent->entries[name] : model_ref{};
            const unsigned what = pick(8);
            CAPTURE(step);
            CAPTURE(text);
            CAPTURE(what);
            switch (what) {
            case 0:
                got = w.mkdir(text.c_str());
                if (parent && node)
                    expected = posix::exist;
                else if (parent)
                    parent->entries[name] = std::make_shared<model_node>(model_node{true, {}, {}});
                break;
            case 1:
                got = w.rmdir(text.c_str());
                if (parent)
                    expected = !node                      ? posix::noent
                               : !node->directory         ? posix::notdir
                               : !node->entries.empty()   ? posix::notempty
                                                          : posix::none;
                if (parent && expected == posix::none)
                    parent->entries.erase(name);
                break;
            case 2:
                got = w.unlink(text.c_str());
                if (parent)
                    expected = !node ? posix::noent : node->directory ? posix::isdir : posix::none;
                if (parent && expected == posix::none)
                    parent->entries.erase(name);
                break;
            case 3:
            case 4: { // write somewhere in a file that is made if need be
                const auto offset = pick(3) == 0 ? pick(20'000) : pick(100);
                const std::string data(pick(6000), static_cast<char>('A' + pick(26)));
                auto f = w.names.open(w.me, text.c_str(), {.write = true, .create = true, .permissions = 0600});
                got = errno_of(f);
                if (parent && node && node->directory)
                    expected = posix::isdir;
                if (f) {
                    memory_input from{test::bytes_of(data)};
                    REQUIRE(*(*f)->write_at(offset, from) == data.size());
                }
                if (parent && expected == posix::none) {
                    auto& file = parent->entries[name];
                    if (!file)
                        file = std::make_shared<model_node>();
                    if (!data.empty() && file->data.size() < offset + data.size())
                        file->data.resize(offset + data.size());
                    file->data.replace(data.empty() ? 0 : offset, data.size(), data);
                }
                break;
            }
            case 5: {
                const auto size = pick(12'000);
                got = errno_of(w.names.truncate(w.me, text.c_str(), size));
                if (parent)
                    expected = !node ? posix::noent : node->directory ? posix::isdir : posix::none;
                if (parent && expected == posix::none)
                    node->data.resize(size);
                break;
            }
            case 6: { // a further name
                const auto q = some_path();
                got = errno_of(w.names.link(w.me, text.c_str(), text_of(q).c_str()));
                if (parent && !node)
                    expected = posix::noent;
                if (expected == posix::none) {
                    const auto other = m.parent(q, expected);
                    if (other && other->entries.contains(q.back()))
                        expected = posix::exist;
                    else if (other && node->directory)
                        expected = posix::perm;
                    else if (other)
                        other->entries[q.back()] = node;
                }
                break;
            }
            default: {
                const auto q = some_path();
                CAPTURE(text_of(q));
                got = w.rename(text.c_str(), text_of(q).c_str());
                model_ref to;
                if (expected == posix::none)
                    to = m.parent(q, expected);
                if (expected != posix::none)
                    break;
                const auto target = to->entries.contains(q.back()) ? to->entries[q.back()] : model_ref{};
                if (!node)
                    expected = posix::noent;
                else if (node->directory && model::contains(node, to))
                    expected = posix::inval;
                else if (target && target->directory && model::contains(target, parent))
                    expected = posix::notempty;
                else if (target == node)
                    break;
                else if (target && node->directory && !target->directory)
                    expected = posix::notdir;
                else if (target && !node->directory && target->directory)
                    expected = posix::isdir;
                else if (target && target->directory && !target->entries.empty())
                    expected = posix::notempty;
                else {
                    to->entries[q.back()] = node;
                    parent->entries.erase(name);
                }
                break;
            }
            }
            REQUIRE(got == expected);
        }
        compare(w, *m.root, "");
    }
}

TEST_CASE("whichever allocation fails, nothing leaks and nothing is half done")
{
    // Each operation leaves the tree as it was, or does all of its work; then the tree still answers.
    for (const bool pages : {false, true}) {
        std::uint64_t failed = 0;
        for (std::uint64_t n = 1;; ++n) {
            tree_world w;
            REQUIRE(w.mkdir("/d") == posix::none);
            REQUIRE(w.make("/d/f", "old") == posix::none);
            (pages ? w.pages.fail_at : w.heap.fail_at) = n;
            (pages ? w.pages.seen : w.heap.seen) = 0;
            bool any = false;
            const auto tried = [&](posix e) {
                CHECK((e == posix::none || e == posix::nomem || any));
                any = any || e == posix::nomem;
            };
            tried(w.mkdir("/d/e"));
            tried(w.make("/d/e/new", std::string(10'000, 'x')));
            tried(w.symlink("f", "/d/s"));
            tried(w.stat("/d/s"));
            tried(errno_of(w.names.link(w.me, "/d/f", "/hard")));
            tried(w.rename("/d/e", "/e"));
            tried(w.unlink("/d/f"));
            if (auto system = tmpfs::create(w.env)) {
                tried(errno_of(w.names.mount(w.me, "/d", *system, "x")));
                if (!any)
                    tried(errno_of(w.names.unmount(w.me, "/d")));
            } else {
                any = true;
            }
            w.heap.fail_at = w.pages.fail_at = 0;
            CHECK(w.stat("/d") == posix::none);
            if (!any)
                break;
            ++failed;
        }
        CHECK(failed >= (pages ? 1u : 20u));
    }
}

TEST_CASE("devices are found by their number, and do what they are known for")
{
    struct counter final : byte_source {
        result<> fill(std::span<std::byte> into) noexcept override
        {
            for (auto& b : into)
                b = std::byte{++next};
            return {};
        }
        std::uint8_t next{};
    } source;
    memory_devices devices{source};
    tree_world w;
    REQUIRE(w.mkdir("/dev") == posix::none);
    auto dev = *devfs::create(w.env);
    REQUIRE(devices.add_to(*dev));
    CHECK(dev->add_directory("pts"));
    CHECK(dev->add_link("fd", "/proc/self/fd"));
    CHECK(errno_of(devices.add_to(*dev)) == posix::exist);
    REQUIRE(w.names.mount(w.me, "/dev", dev, "dev", {.read_only = true}));

    const auto open = [&](const char* p) { return *w.names.open(w.me, p, {.read = true, .write = true}); };
    CHECK(test::read_text(*open("/dev/null"), 5)->empty());
    CHECK(*test::write_text(*open("/dev/null"), "gone") == 4);
    CHECK(*test::read_text(*open("/dev/zero"), 10'000) == std::string(10'000, '\0'));
    CHECK(*test::write_text(*open("/dev/zero"), std::string(1000, 'x')) == 1000);
    CHECK(*test::read_text(*open("/dev/full"), 5) == std::string(5, '\0'));
    CHECK(errno_of(test::write_text(*open("/dev/full"), "x")) == posix::nospc);
    CHECK(*test::read_text(*open("/dev/urandom"), 3) == "\1\2\3");
    CHECK(test::read_text(*open("/dev/random"), 600)->size() == 600);
    CHECK(w.names.status(w.me, "/dev/null")->special == device_number{1, 3});
    CHECK(open("/dev/null")->device() != nullptr);
    CHECK(open("/dev/zero")->poll(nullptr) == poll::always_ready);
    CHECK(w.names.status(w.me, "/dev/fd", {.follow = false})->type == file_type::symlink);

    // Anywhere else a node finds its device too; without one it cannot be opened.
    CHECK(w.names.make_node(w.me, "/null", file_type::character_device, 0666, {1, 3}));
    CHECK(w.names.make_node(w.me, "/none", file_type::character_device, 0666, {99, 3}));
    CHECK(*test::write_text(*open("/null"), "gone") == 4);
    CHECK(w.open("/none") == posix::nxio);
    w.me.who.uid = 1;
    CHECK(errno_of(w.names.make_node(w.me, "/mine", file_type::character_device, 0666, {1, 3})) == posix::perm);
}

TEST_CASE("threads that make, move and remove names do not disturb each other")
{
    tree_world w;
    for (const char* d : {"/x", "/y", "/x/z", "/own0", "/own1", "/own2"})
        REQUIRE(w.mkdir(d) == posix::none);
    std::atomic<int> wrong{};
    {
        std::vector<std::jthread> threads;
        for (int t = 0; t < 3; ++t)
            threads.emplace_back([&w, &wrong, t] {
                std::mt19937 random{static_cast<unsigned>(t)};
                const char* places[]{"/x/", "/y/", "/x/z/"};
                const auto own = "/own" + std::to_string(t) + "/f";
                for (int i = 0; i < 1500; ++i) {
                    const auto p = std::string{places[random() % 3]} + static_cast<char>('a' + random() % 3);
                    const auto q = std::string{places[random() % 3]} + static_cast<char>('a' + random() % 3);
                    switch (random() % 7) {
                    case 0:
                        (void)w.mkdir(p.c_str());
                        break;
                    case 1:
                        (void)w.rename(p.c_str(), q.c_str());
                        break;
                    case 2:
                        (void)w.rmdir(p.c_str());
                        break;
                    case 3:
                        (void)w.unlink(p.c_str());
                        break;
                    case 4:
                        (void)errno_of(w.names.link(w.me, p.c_str(), q.c_str()));
                        break;
                    case 5: {
                        auto f = w.names.open(w.me, p.c_str(),
                                              {.write = true, .append = true, .create = true, .permissions = 0600});
                        if (f)
                            (void)test::write_text(**f, "data");
                        break;
                    }
                    default:
                        // What nobody else touches is always as expected.
                        if (w.make(own.c_str(), "own") != posix::none || w.contents(own.c_str()) != "own" ||
                            w.unlink(own.c_str()) != posix::none)
                            ++wrong;
                    }
                }
            });
    }
    CHECK(wrong == 0);
    for (const char* d : {"/own0", "/own1", "/own2"})
        CHECK(w.rmdir(d) == posix::none);
}
