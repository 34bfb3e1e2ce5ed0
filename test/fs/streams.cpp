// What descriptors refer to: the table of them, pipes and FIFOs, waiting for several files.

#include "world.hpp"

#include <thread>
#include <utility>

#include <exo/fs/descriptor_table.hpp>
#include <exo/fs/pipe.hpp>
#include <exo/fs/poll.hpp>
#include <exo/fs/tmpfs/tmpfs.hpp>

namespace exo::fs {

using test::errno_of;
using test::read_text;
using test::write_text;

namespace {

struct piped : test::world {
    piped() : ends{*make_pipe(env, {})} {}
    pipe_ends ends;
};

} // namespace

TEST_CASE("descriptors are the lowest free, and share what they refer to")
{
    piped w;
    auto table = *descriptor_table::create(w.env, 100);
    for (int i = 0; i < 20; ++i)
        CHECK(*table->install(w.ends.reader, false) == i);
    CHECK(*table->close(3) == w.ends.reader);
    CHECK(*table->close(7) == w.ends.reader);
    CHECK(errno_of(table->close(7)) == posix::badf);
    CHECK(errno_of(table->get(7)) == posix::badf);
    CHECK(errno_of(table->get(-1)) == posix::badf);
    CHECK(errno_of(table->get(1'000'000)) == posix::badf);
    CHECK(*table->install(w.ends.writer, true) == 3);
    CHECK(*table->close_on_exec(3));
    CHECK(*table->duplicate(3) == 7);
    CHECK_FALSE(*table->close_on_exec(7));
    CHECK(*table->duplicate(3, true, 50) == 50);
    CHECK(*table->get(50) == w.ends.writer);
    CHECK(errno_of(table->duplicate(3, false, 100)) == posix::inval);
    CHECK(errno_of(table->duplicate(8000)) == posix::badf);

    CHECK(*table->duplicate_to(3, 99) == 99);
    CHECK(*table->duplicate_to(3, 0) == 0);
    CHECK(*table->get(0) == w.ends.writer);
    CHECK(*table->duplicate_to(3, 3) == 3);
    CHECK(*table->close_on_exec(3)); // dup2 onto itself changes nothing
    CHECK(errno_of(table->duplicate_to(3, 100)) == posix::badf);
    CHECK(errno_of(table->duplicate_to(44, 3)) == posix::badf);
    CHECK(*table->get(3) == w.ends.writer);
    CHECK(table->set_close_on_exec(5, true));
    CHECK(errno_of(table->set_close_on_exec(70, true)) == posix::badf);
    CHECK(table->next_open(51) == 99);
    CHECK(table->next_open(100) == -1);

    auto child = *table->copy();
    table->close_marked();
    CHECK(errno_of(table->get(3)) == posix::badf);
    CHECK(errno_of(table->get(5)) == posix::badf);
    CHECK(errno_of(table->get(50)) == posix::badf);
    CHECK(*child->get(3) == w.ends.writer);
    CHECK(*child->close_on_exec(5));

    table->set_limit(8);
    (void)table->install(w.ends.reader, false);
    (void)table->install(w.ends.reader, false);
    CHECK(errno_of(table->install(w.ends.reader, false)) == posix::mfile);
    CHECK(*child->install(w.ends.reader, false) == 20);
    table.reset();
    child.reset();
    CHECK(w.ends.reader->reference_count() == 1);
    CHECK(w.ends.writer->reference_count() == 1);
}

TEST_CASE("a failed allocation leaves a table of descriptors as it was")
{
    piped w;
    for (std::uint64_t n = 1; n < 5; ++n) {
        auto table = *descriptor_table::create(w.env);
        for (int i = 0; i < 16; ++i)
            REQUIRE(table->install(w.ends.reader, false));
        w.heap.seen = 0;
        w.heap.fail_at = 1;
        CHECK(errno_of(table->install(w.ends.writer, false)) == posix::nomem);
        w.heap.seen = 0;
        CHECK(errno_of(table->duplicate_to(1, 200)) == posix::nomem);
        w.heap.seen = 0;
        w.heap.fail_at = n;
        const bool copied = table->copy().has_value();
        CHECK(copied == (n > 2));
        w.heap.fail_at = 0;
        CHECK(*table->install(w.ends.writer, false) == 16);
    }
    CHECK(w.ends.writer->reference_count() == 1);
}

TEST_CASE("a pipe carries bytes in order, ends when the writers do, breaks when the readers do")
{
    piped w;
    auto& [reader, writer] = w.ends;
    CHECK(*write_text(*writer, "one ") == 4);
    CHECK(*write_text(*writer, "two") == 3);
    CHECK(*read_text(*reader, 2) == "on");
    CHECK(*read_text(*reader, 100) == "e two");
    CHECK(read_text(*reader, 0)->empty());
    CHECK(errno_of(read_text(*writer, 1)) == posix::badf);
    CHECK(errno_of(write_text(*reader, "x")) == posix::badf);
    CHECK(errno_of(reader->seek(0, seek_from::start)) == posix::spipe);
    CHECK(reader->node().type() == file_type::fifo);
    CHECK(reader->node().status()->inode == writer->node().status()->inode);

    CHECK(*write_text(*writer, "last") == 4);
    writer.reset();
    CHECK(*read_text(*reader, 100) == "last");
    CHECK(read_text(*reader, 100)->empty());
    w.ends = *make_pipe(w.env, {});
    reader.reset();
    CHECK(errno_of(write_text(*writer, "x")) == posix::pipe);
    CHECK(*write_text(*writer, "") == 0);
}

TEST_CASE("a pipe holds 64 KiB; without waiting, it says so; small writes are never cut")
{
    piped w;
    auto& [reader, writer] = w.ends;
    writer->set_non_blocking(true);
    reader->set_non_blocking(true);
    CHECK(errno_of(read_text(*reader, 1)) == posix::again);
    const auto text = std::string(100'000, 'x');
    CHECK(*write_text(*writer, text) == pipe_capacity);
    CHECK(errno_of(write_text(*writer, "y")) == posix::again);
    CHECK((writer->poll(nullptr) & poll::out) == 0);
    CHECK((reader->poll(nullptr) & poll::in) != 0);
    CHECK(read_text(*reader, 4095)->size() == 4095);
    CHECK(errno_of(write_text(*writer, std::string(4096, 'z'))) == posix::again);
    CHECK((writer->poll(nullptr) & poll::out) == 0);
    CHECK(*write_text(*writer, std::string(4097, 'z')) == 4095); // a long one takes what there is
    CHECK(read_text(*reader, 70'000)->size() == pipe_capacity);
    CHECK((writer->poll(nullptr) & poll::out) != 0);
    CHECK(reader->poll(nullptr) == 0);
    writer.reset();
    CHECK(reader->poll(nullptr) == poll::hang_up);

    // Memory that runs short is an error before the first byte, and a short write after it.
    w.ends = *make_pipe(w.env, {});
    w.pages.limit = 1;
    CHECK(*write_text(*w.ends.writer, text) == 4096);
    CHECK(errno_of(write_text(*w.ends.writer, text)) == posix::nomem);
    CHECK(read_text(*w.ends.reader, 70'000)->size() == 4096);
    CHECK(*write_text(*w.ends.writer, "again") == 5);
}

TEST_CASE("threads at both ends of a pipe get all bytes, once, small writes whole")
{
    piped w;
    auto& [reader, writer] = w.ends;
    constexpr int writers = 3;
    constexpr int lines = 800;
    std::string all;
    {
        std::vector<std::jthread> threads;
        for (int t = 0; t < writers; ++t)
            threads.emplace_back([copy = writer, t] {
                for (int i = 0; i < lines; ++i) {
                    const std::string text(static_cast<std::size_t>(1 + i % 300), static_cast<char>('a' + t));
                    const auto line = text + '\n';
                    if (const auto done = write_text(*copy, line); !done || *done != line.size())
                        std::abort();
                }
            });
        writer.reset();
        for (;;) {
            const auto piece = read_text(*reader, 1000);
            REQUIRE(piece);
            if (piece->empty())
                break;
            all += *piece;
        }
    }
    std::size_t next[writers]{};
    for (std::size_t at = 0; at < all.size();) {
        const auto t = static_cast<std::size_t>(all[at] - 'a');
        REQUIRE(t < writers);
        const std::size_t length = 1 + next[t]++ % 300;
        REQUIRE(all.substr(at, length) == std::string(length, static_cast<char>('a' + t)));
        REQUIRE(all[at + length] == '\n');
        at += length + 1;
    }
    for (const auto n : next)
        CHECK(n == lines);
}

TEST_CASE("a signal ends a wait at a pipe, and so does the end of the other side")
{
    piped w;
    auto& [reader, writer] = w.ends;
    std::atomic<sync::thread_handle> waiting{};
    const auto in_thread = [&](auto action) {
        waiting = nullptr;
        return std::jthread{[&, action] {
            waiting = w.parker.current();
            action();
        }};
    };
    const auto thread_waiting = [&] {
        while (!waiting)
            std::this_thread::yield();
        return waiting.load();
    };
    posix got{};
    in_thread([&] { got = errno_of(read_text(*reader, 1)); }), w.parker.interrupt(thread_waiting());
    CHECK(got == posix::intr);
    REQUIRE(write_text(*writer, std::string(pipe_capacity, 'x')));
    in_thread([&] { got = errno_of(write_text(*writer, "y")); }), w.parker.interrupt(thread_waiting());
    CHECK(got == posix::intr);
    {
        auto blocked = in_thread([&] { got = errno_of(write_text(*writer, "y")); });
        (void)thread_waiting();
        reader.reset();
    }
    CHECK(got == posix::pipe);
}

TEST_CASE("poll wakes when any of several files becomes ready")
{
    test::world w;
    auto first = *make_pipe(w.env, {});
    auto second = *make_pipe(w.env, {});
    poll_events seen = 0;
    {
        const std::jthread waiter{[&] {
            poll_set set{w.heap, w.parker};
            const auto ready = [&](poll_table* table) {
                return (first.reader->poll(table) | second.reader->poll(table)) & poll::in;
            };
            seen = ready(&set);
            if (seen == 0 && set.wait([&] { return (seen = ready(nullptr)) != 0; }))
                seen |= poll::priority;
        }};
        REQUIRE(write_text(*second.writer, "x"));
    }
    CHECK((seen & poll::in) != 0);

    poll_set set{w.heap, w.parker};
    w.heap.fail_at = 1;
    (void)first.reader->poll(&set);
    w.heap.fail_at = 0;
    CHECK(errno_of(set.wait([] { return false; })) == posix::nomem);
    poll_set timed{w.heap, w.parker};
    (void)first.reader->poll(&timed);
    CHECK(errno_of(timed.wait([] { return false; }, instant{1})) == posix::timedout);
    posix interrupted{};
    std::jthread{[&] {
        poll_set nothing{w.heap, w.parker};
        w.parker.interrupt(w.parker.current());
        interrupted = errno_of(nothing.wait([] { return false; }));
        bool ready = false;
        CHECK(nothing.wait([&] { return std::exchange(ready, true); })); // it became ready before the interruption
    }}.join();
    CHECK(interrupted == posix::intr);
}

TEST_CASE("a FIFO brings together who opens its two ends")
{
    test::world w;
    vfs names{w.env};
    REQUIRE(names.mount_root(*tmpfs::create(w.env), "none"));
    const auto me = names.initial_context();
    REQUIRE(names.make_node(me, "/fifo", file_type::fifo, 0600));
    CHECK(errno_of(names.open(me, "/fifo", {.write = true, .non_blocking = true})) == posix::nxio);
    auto alone = names.open(me, "/fifo", {.read = true, .non_blocking = true});
    REQUIRE(alone);
    CHECK(read_text(**alone, 1)->empty());
    *alone = {};
    {
        const std::jthread other{[&] {
            auto writer = names.open(me, "/fifo", {.write = true});
            if (!writer || !write_text(**writer, "through"))
                std::abort();
        }};
        auto reader = names.open(me, "/fifo", open_options::reading());
        REQUIRE(reader);
        CHECK(*test::read_all(**reader) == "through");
    }
    auto both = names.open(me, "/fifo", {.read = true, .write = true});
    REQUIRE(both);
    CHECK(write_text(**both, "self"));
    CHECK(*read_text(**both, 10) == "self");
}

} // namespace exo::fs
