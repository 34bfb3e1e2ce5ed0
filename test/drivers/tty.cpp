#include <doctest/doctest.h>

#include <cstring>
#include <deque>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include <exo/drivers/tty.hpp>
#include <exo/fs/devfs/devfs.hpp>
#include <exo/fs/vfs.hpp>
#include <fs/world.hpp>

using namespace exo;
using namespace exo::drivers;

namespace {

// One thread. When it parks, the next thing of a script happens; with nothing left, time goes on to the deadline.
class scripted_parker final : public sync::any_parker {
public:
    thread current() const noexcept override { return const_cast<scripted_parker*>(this); }
    void park(instant deadline) noexcept override
    {
        if (!script.empty()) {
            auto next = std::move(script.front());
            script.pop_front();
            next();
            return;
        }
        EXO_CHECK(deadline != instant::never()); // it would sleep for ever
        time = deadline;
    }
    void unpark(const thread&) noexcept override {}
    bool interrupted() const noexcept override { return signalled; }
    instant now() const noexcept override { return time; }
    state save_and_disable() noexcept override { return std::exchange(off, 1u); }
    void restore(const state& saved) noexcept override { off = saved; }
    bool enabled() noexcept override { return off == 0; }

    std::deque<std::function<void()>> script;
    instant time{};
    bool signalled{};
    state off{};
};

struct screen final : transmitter {
    void transmit(std::span<const std::byte> bytes) noexcept override
    {
        text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    }
    std::string take() { return std::exchange(text, {}); }
    std::string text;
};

struct jobs_record final : terminal_jobs {
    identity caller() noexcept override { return me; }
    id session_of_group(id group) noexcept override { return group == 20 || group == 30 ? 20 : group == 99 ? 99 : 0; }
    void signal_group(id group, terminal_signal s) noexcept override { sent.emplace_back(group, s); }
    background signal_background(terminal_signal s) noexcept override
    {
        wanted = s;
        return answer;
    }
    identity me{.process = 20, .group = 20, .session = 20, .privileged = true};
    std::vector<std::pair<id, terminal_signal>> sent;
    background answer = background::signalled;
    terminal_signal wanted{};
};

struct process_memory final : fs::user_memory {
    result<> read(user_addr from, std::span<std::byte> into) override
    {
        if (from.value() + into.size() > sizeof(bytes))
            return fail(errors::bad_address, from.value());
        std::memcpy(into.data(), bytes + from.value(), into.size());
        return {};
    }
    result<> write(user_addr to, std::span<const std::byte> from) override
    {
        if (to.value() + from.size() > sizeof(bytes))
            return fail(errors::bad_address, to.value());
        std::memcpy(bytes + to.value(), from.data(), from.size());
        return {};
    }
    template <class T>
    T get()
    {
        T value;
        std::memcpy(&value, bytes, sizeof(T));
        return value;
    }
    template <class T>
    void set(const T& value)
    {
        std::memcpy(bytes, &value, sizeof(T));
    }
    std::byte bytes[64]{};
};

struct terminal {
    test::failing_heap heap;
    test::host_pages pages;
    test::settable_clock clock;
    scripted_parker parker;
    screen out;
    jobs_record jobs;
    terminal_list list{parker};
    tty device{parker, out, jobs, list, {5, 1}};
    controlling_terminal_device own{list, jobs, {5, 0}};
    fs::device_registry devices;
    mm::reclaimer reclaimer;
    fs::environment env{heap, parker, pages, reclaimer, clock, &devices};
    fs::vfs names{env};
    process_memory memory;
    ref<fs::file> opened;

    terminal()
    {
        auto made = fs::devfs::create(env);
        REQUIRE(made);
        REQUIRE((*made)->add("console", device, 0600));
        REQUIRE((*made)->add("tty", own, 0666));
        REQUIRE(names.mount_root(*made, "devfs"));
        opened = open("/console");
    }
    ref<fs::file> open(const char* path, bool non_blocking = false)
    {
        auto f = names.open(names.initial_context(), path, {.read = true, .write = true, .non_blocking = non_blocking});
        REQUIRE(f);
        return *f;
    }
    void type(std::string_view keys) { device.receive(test::bytes_of(keys)); }
    void later(std::string keys)
    {
        parker.script.push_back([this, keys = std::move(keys)] { type(keys); });
    }
    std::string read(std::size_t most = 1000)
    {
        auto text = test::read_text(*opened, most);
        return text ? *text : "!" + std::string(text.error().kind().name);
    }
    template <class Change>
    void set(Change change)
    {
        termios t = device.settings();
        change(t);
        device.change_settings(t);
    }
    void raw(std::uint8_t minimum, std::uint8_t time)
    {
        set([&](termios& t) {
            t.local &= ~(local_flag::canonical | local_flag::echo);
            t.control[static_cast<std::size_t>(control_character::minimum)] = minimum;
            t.control[static_cast<std::size_t>(control_character::time)] = time;
        });
    }
    posix control(std::uint64_t request, std::uint64_t argument = 0)
    {
        return test::errno_of(opened->control(request, argument, memory));
    }
};

} // namespace

TEST_CASE("a line is edited and echoed before anybody reads it")
{
    const auto edited = [](std::string_view keys, std::string_view line, std::string_view shown) {
        terminal t;
        t.type(keys);
        CHECK(t.read() == line);
        CHECK(t.out.text == shown);
    };
    edited("hello\r", "hello\n", "hello\r\n");
    edited("helpo\x7f\x7flo\n", "hello\n", "helpo\b \b\b \blo\r\n");
    edited("\x7f\x7f" "a\n", "a\n", "a\r\n");                                      // nothing left to erase
    edited("one two\x17" "2\n", "one 2\n", "one two\b \b\b \b\b \b2\r\n");         // Ctrl-W
    edited("one two  \x17" "2\n", "one 2\n", "one two  \b \b\b \b\b \b\b \b\b \b2\r\n");
    edited("bad\x15good\n", "good\n", "bad\b \b\b \b\b \bgood\r\n");               // Ctrl-U
    edited("a\x01\x7f" "b\n", "ab\n", "a^A\b \b\b \bb\r\n");                       // ^A is two columns wide
    edited("ab\t\x7f" "c\n", "abc\n", "ab\t\b\b\b\b\b\bc\r\n");                    // a tab to column 8
    edited("a\x16\x03" "b\n", "a\x03" "b\n", "a^\b^Cb\r\n");                       // Ctrl-V Ctrl-C
    edited("ab\x12" "c\n", "abc\n", "ab^R\r\nabc\r\n");                            // Ctrl-R
    edited("\n", "\n", "\r\n");
}

TEST_CASE("canonical reads give one line at a time, in pieces if they ask for less")
{
    terminal t;
    t.type("first\nsecond line\nthi");
    CHECK(t.read() == "first\n");
    CHECK(t.read(6) == "second");
    CHECK(t.read(100) == " line\n");
    t.later("rd");
    t.later("\n");
    CHECK(t.read() == "third\n");
    CHECK(t.parker.script.empty());
}

TEST_CASE("end of file ends a line without a newline, or the input")
{
    terminal t;
    t.type("part\x04");
    CHECK(t.read() == "part");
    t.type("\x04more\n");
    CHECK(t.read() == "");
    CHECK(t.read() == "more\n");
    t.later("\x04");
    CHECK(t.read() == "");
}

TEST_CASE("keys raise signals in the foreground group and discard what was typed")
{
    terminal t;
    t.device.give_to(20, 30);
    t.type("lost\nlost too\x03kept\n");
    REQUIRE(t.jobs.sent.size() == 1);
    CHECK(t.jobs.sent[0] == std::pair{30, terminal_signal::interrupt});
    CHECK(t.out.take() == "lost\r\nlost too^Ckept\r\n");
    t.jobs.me.group = 30;
    CHECK(t.read() == "kept\n");
    t.type("\x1c\x1a");
    REQUIRE(t.jobs.sent.size() == 3);
    CHECK(t.jobs.sent[1].second == terminal_signal::quit);
    CHECK(t.jobs.sent[2].second == terminal_signal::stop);
    t.set([](termios& s) { s.local |= local_flag::no_flush; });
    t.type("stays\x03\n");
    CHECK(t.read() == "stays\n");
    t.set([](termios& s) { s.local &= ~local_flag::signals; });
    t.type("\x03\n");
    CHECK(t.read() == "\x03\n");
    CHECK(t.jobs.sent.size() == 4);
}

TEST_CASE("a read gives up for a signal, or at once when it must not wait")
{
    terminal t;
    t.parker.script.push_back([&] { t.parker.signalled = true; });
    CHECK(t.read() == "!interrupted");
    t.parker.signalled = false;
    t.type("unfinished");
    auto impatient = t.open("/console", true);
    CHECK(test::read_text(*impatient, 10).error() == errors::would_block);
    t.type("\n");
    CHECK(*test::read_text(*impatient, 100) == "unfinished\n");
}

TEST_CASE("without canonical mode, MIN and TIME decide when a read returns")
{
    terminal t;
    SUBCASE("MIN bytes, however long it takes")
    {
        t.raw(3, 0);
        t.later("a");
        t.later("b");
        t.later("cd");
        CHECK(t.read() == "abcd");
        t.type("xyz123");
        CHECK(t.read(2) == "xy");
        t.type("!");
        CHECK(t.read() == "z123!");
    }
    SUBCASE("whatever is there")
    {
        t.raw(0, 0);
        CHECK(t.read() == "");
        t.type("\r\x04\x7f");
        CHECK(t.read() == "\n\x04\x7f");
    }
    SUBCASE("the first byte within TIME")
    {
        t.raw(0, 5);
        CHECK(t.read() == "");
        CHECK(t.parker.time == instant{500'000'000});
        t.later("k");
        CHECK(t.read() == "k");
        CHECK(t.parker.time == instant{500'000'000});
    }
    SUBCASE("TIME between bytes, from the first on")
    {
        t.raw(10, 2);
        t.parker.script.push_back([&] { t.parker.time = instant{9'000'000'000}; });
        t.later("a");
        t.later("b");
        CHECK(t.read() == "ab");
        CHECK(t.parker.time == instant{9'200'000'000});
    }
    SUBCASE("nobody waits who does not want to")
    {
        t.raw(4, 0);
        auto impatient = t.open("/console", true);
        CHECK(test::read_text(*impatient, 10).error() == errors::would_block);
        t.type("ab");
        CHECK(*test::read_text(*impatient, 10) == "ab");
    }
    CHECK(t.out.text.empty());
}

TEST_CASE("changing the mode keeps what was typed")
{
    terminal t;
    t.type("abc");
    t.raw(1, 0);
    CHECK(t.read(1) == "a");
    t.set([](termios& s) { s.local |= local_flag::canonical; });
    CHECK(t.read() == "bc");
    t.parker.script.push_back([&] { t.raw(1, 0); });
    t.type("no newline");
    CHECK(t.read() == "no newline"); // the waiting reader sees the change
}

TEST_CASE("a line longer than the buffer keeps its end")
{
    terminal t;
    t.set([](termios& s) { s.local &= ~local_flag::echo; });
    t.type(std::string(10'000, 'x'));
    t.type("\n");
    const std::string line = t.read(20'000);
    CHECK(line.size() == line_discipline::capacity);
    CHECK(line.back() == '\n');
    CHECK(t.out.text.empty());
    t.set([](termios& s) { s.input |= input_flag::bell_when_full; });
    t.type(std::string(line_discipline::capacity, 'x'));
    CHECK(t.out.text == "\a");
}

TEST_CASE("output is processed as the settings say")
{
    terminal t;
    const auto shown = [&](std::uint32_t flags, std::string_view text) {
        t.set([&](termios& s) { s.output = flags; });
        REQUIRE(test::write_text(*t.opened, text));
        return t.out.take();
    };
    using namespace output_flag;
    CHECK(shown(process | newline_to_return_newline, "a\nb") == "a\r\nb");
    CHECK(shown(newline_to_return_newline, "a\nb") == "a\nb"); // not processed at all
    CHECK(shown(process, "a\nb\n\r") == "a\nb\n\r");
    CHECK(shown(process | return_to_newline, "a\rb") == "a\nb");
    CHECK(shown(process | no_return_at_column_0, "\r\rx\ry\n\r") == "\rx\ry\n\r");
    CHECK(shown(process | newline_returns | expand_tabs, "\nab\tc\t!") == "\nab      c       !");
    const std::string much(5'000, 'z');
    CHECK(shown(process, much) == much);
}

TEST_CASE("Ctrl-S holds output back until Ctrl-Q")
{
    terminal t;
    t.type("\x13");
    auto impatient = t.open("/console", true);
    CHECK(test::write_text(*impatient, "x").error() == errors::would_block);
    CHECK((t.opened->poll(nullptr) & fs::poll::out) == 0);
    t.later("\x11");
    CHECK(*test::write_text(*t.opened, "goes on") == 7);
    CHECK(t.out.text == "goes on");
    CHECK((t.opened->poll(nullptr) & fs::poll::out) != 0);
}

TEST_CASE("poll tells when a read would not wait")
{
    terminal t;
    const auto readable = [&] { return (t.opened->poll(nullptr) & fs::poll::in) != 0; };
    t.type("abc");
    CHECK(!readable());
    t.type("\n");
    CHECK(readable());
    t.read();
    t.raw(2, 0);
    t.type("a");
    CHECK(!readable());
    t.type("b");
    CHECK(readable());
}

TEST_CASE("settings, window and queues through control requests")
{
    terminal t;
    namespace requests = terminal_request;
    CHECK(t.control(requests::get) == posix::none);
    auto settings = t.memory.get<termios>();
    CHECK(settings.control[0] == 3);
    CHECK(settings.input_speed == 0); // beyond the short structure
    settings.local &= ~local_flag::echo;
    t.memory.set(settings);
    CHECK(t.control(requests::set_wait) == posix::none);
    CHECK(!t.device.settings().has_local(local_flag::echo));
    CHECK(t.device.settings().input_speed == 115200);
    t.type("x\nlost");
    CHECK(t.control(requests::input_queued) == posix::none);
    CHECK(t.memory.get<std::int32_t>() == 2);
    CHECK(t.control(requests::set_flush, 60) == posix::fault);
    t.memory.set(settings);
    CHECK(t.control(requests::set_flush) == posix::none);
    CHECK(t.control(requests::input_queued) == posix::none);
    CHECK(t.memory.get<std::int32_t>() == 0);

    t.device.give_to(20, 20);
    t.memory.set(window_size{24, 80, 0, 0});
    CHECK(t.control(requests::set_window) == posix::none);
    CHECK(t.control(requests::set_window) == posix::none); // no change, no signal
    CHECK(t.jobs.sent == std::vector{std::pair{20, terminal_signal::window_changed}});
    CHECK(t.control(requests::get_window, 8) == posix::none);
    CHECK(std::memcmp(t.memory.bytes, t.memory.bytes + 8, sizeof(window_size)) == 0);
    CHECK(t.control(0x1234) == posix::notty);
    CHECK(t.control(requests::flush, 3) == posix::inval);
}

TEST_CASE("a session leader takes a terminal, and gives the foreground to groups of its session only")
{
    terminal t;
    namespace requests = terminal_request;
    CHECK(t.control(requests::get_group) == posix::notty);
    CHECK(test::errno_of(t.names.open(t.names.initial_context(), "/tty", fs::open_options::reading())) == posix::nxio);
    t.jobs.me = {.process = 21, .group = 20, .session = 20, .privileged = true};
    CHECK(t.control(requests::set_controlling) == posix::perm); // not the leader
    t.jobs.me = {.process = 20, .group = 20, .session = 20, .privileged = false};
    CHECK(t.control(requests::set_controlling) == posix::none);
    CHECK(t.control(requests::set_controlling) == posix::none);
    CHECK(t.control(requests::get_session) == posix::none);
    CHECK(t.memory.get<std::int32_t>() == 20);

    auto same = t.open("/tty");
    t.type("by tty\n");
    CHECK(*test::read_text(*same, 100) == "by tty\n");

    t.memory.set(std::int32_t{30});
    CHECK(t.control(requests::set_group) == posix::none);
    CHECK(t.device.foreground() == 30);
    t.jobs.me.group = 30;
    for (const std::int32_t foreign : {99, 7}) {
        t.memory.set(foreign);
        CHECK(t.control(requests::set_group) == posix::perm);
    }
    t.memory.set(std::int32_t{-5});
    CHECK(t.control(requests::set_group) == posix::inval);

    t.jobs.me = {.process = 99, .group = 99, .session = 99, .privileged = false};
    CHECK(t.control(requests::set_controlling) == posix::perm); // taken
    CHECK(t.control(requests::get_group) == posix::notty);
    t.jobs.me.privileged = true;
    CHECK(t.control(requests::set_controlling, 1) == posix::none); // stolen
    CHECK(t.device.session() == 99);

    t.list.session_ended(99);
    CHECK(t.jobs.sent == std::vector{std::pair{99, terminal_signal::hang_up}, std::pair{99, terminal_signal::resume}});
    CHECK(t.device.session() == 0);
    t.list.session_ended(99);
    CHECK(t.jobs.sent.size() == 2);
}

TEST_CASE("a background group is stopped when it reads, and when it writes if the terminal says so")
{
    terminal t;
    t.device.give_to(20, 30);
    t.type("line\n");
    t.out.take();
    CHECK(t.read() == "!interrupted");
    CHECK(t.jobs.wanted == terminal_signal::background_read);
    t.jobs.answer = terminal_jobs::background::ignored;
    CHECK(t.read() == "!io_error");
    t.jobs.answer = terminal_jobs::background::orphaned;
    CHECK(t.read() == "!io_error");

    CHECK(*test::write_text(*t.opened, "fine") == 4);
    t.set([](termios& s) { s.local |= local_flag::stop_background; });
    CHECK(test::write_text(*t.opened, "x").error() == errors::io_error);
    t.jobs.answer = terminal_jobs::background::signalled;
    CHECK(test::write_text(*t.opened, "x").error() == errors::interrupted);
    CHECK(t.jobs.wanted == terminal_signal::background_write);
    t.jobs.answer = terminal_jobs::background::ignored;
    CHECK(*test::write_text(*t.opened, "x") == 1);
    CHECK(t.out.take() == "finex");
    CHECK(t.control(terminal_request::set) == posix::none);
    t.jobs.answer = terminal_jobs::background::signalled;
    CHECK(t.control(terminal_request::set) == posix::intr);
    t.jobs.me.group = 30;
    t.set([](termios& s) { s = {}; });
    CHECK(t.read() == "line\n");
}

TEST_CASE("random keys under random settings never leave the buffers")
{
    for (std::uint32_t seed = 0; seed < 40; ++seed) {
        std::mt19937 random{seed};
        terminal t;
        t.device.give_to(20, 20);
        auto impatient = t.open("/console", true);
        for (unsigned step = 0; step < 300; ++step) {
            switch (random() % 8) {
            case 0:
                t.set([&](termios& s) {
                    s.local = random() & 0xffff;
                    s.input = random() & 0xffff & ~input_flag::flow_control;
                    s.output = random() & 0x1fff;
                    s.control[random() % 19] = static_cast<std::uint8_t>(random() % 40);
                });
                break;
            case 1: t.set([](termios& s) { s = {}; }); break;
            case 2: (void)test::read_text(*impatient, random() % 600); break;
            case 3: (void)test::write_text(*impatient, std::string(random() % 50, static_cast<char>(random()))); break;
            default: {
                std::string keys(random() % 200, '\0');
                for (char& c : keys)
                    c = static_cast<char>(random() % 4 == 0 ? random() % 32 : random());
                t.type(keys);
            }
            }
        }
        CHECK(t.parker.off == 0);
    }
}
