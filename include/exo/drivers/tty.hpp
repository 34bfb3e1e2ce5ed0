// A terminal: a character device with line editing, signals and job control (POSIX XBD 11), over anything that can
// transmit bytes.
//
// What the other side types comes in through receive(), also from an interrupt handler. Output leaves at once, in the
// context of the writer or, for echo, of receive(). Reads wait interruptibly; a wait that ends by a signal took
// nothing.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include <exo/drivers/line_discipline.hpp>
#include <exo/drivers/terminal_jobs.hpp>
#include <exo/drivers/termios.hpp>
#include <exo/fs/character_device.hpp>
#include <exo/sync/any_parker.hpp>
#include <exo/sync/mutex.hpp>
#include <exo/sync/spin_lock.hpp>
#include <exo/sync/wait_queue.hpp>

namespace exo::drivers {

class tty;

// Every terminal of a kernel: which one is the controlling terminal of a session.
class terminal_list {
public:
    explicit terminal_list(sync::any_parker& parker) : parker_{parker} {}

    // Null if the session has none.
    [[nodiscard]] tty* controlling(terminal_jobs::id session) noexcept;
    // The session's leader has ended: its terminal is free for another, and the foreground group is told.
    void session_ended(terminal_jobs::id session) noexcept;

private:
    friend class tty;
    void add(tty& t) noexcept;
    void remove(tty& t) noexcept;

    sync::any_parker& parker_;
    sync::spin_lock<sync::lock_rank::device, sync::any_parker> lock_;
    tty* first_{};
};

// Law of the transmitter: it delivers all bytes in order before it returns; any context, without sleeping
// (hal/console_sink.hpp).
class transmitter {
public:
    virtual void transmit(std::span<const std::byte> bytes) noexcept = 0;

protected:
    ~transmitter() = default;
};

class tty final : public fs::character_device {
public:
    using id = terminal_jobs::id;

    tty(sync::any_parker& parker, transmitter& out, terminal_jobs& jobs, terminal_list& list, fs::device_number number)
        : parker_{parker}, out_{out}, jobs_{jobs}, list_{list}, number_{number}
    {
        list_.add(*this);
    }
    tty(const tty&) = delete;
    tty& operator=(const tty&) = delete;
    ~tty() { list_.remove(*this); }

    // What arrived from the other side.
    void receive(std::span<const std::byte> bytes) noexcept;

    [[nodiscard]] termios settings() noexcept;
    void change_settings(const termios& t) noexcept;
    void set_window(window_size size) noexcept;

    // The session whose controlling terminal this is, and the group that may use it; 0: none.
    [[nodiscard]] id session() const noexcept { return session_.load(std::memory_order_relaxed); }
    [[nodiscard]] id foreground() const noexcept { return foreground_.load(std::memory_order_relaxed); }
    // Takes the terminal over for a session, its leader's group in the foreground.
    void give_to(id session, id group) noexcept;

    [[nodiscard]] fs::device_number number() const noexcept override { return number_; }
    [[nodiscard]] bool is_stream() const noexcept override { return true; }
    // Errors: interrupted, would_block, io_error (a background process that cannot be stopped), the output's.
    [[nodiscard]] result<std::size_t> read(fs::file& opened, fs::output& into) override;
    // Errors: likewise.
    [[nodiscard]] result<std::size_t> write(fs::file& opened, fs::input& from) override;
    // The requests of termios.hpp. Errors: not_terminal, also for job control on a terminal that is not the caller's.
    [[nodiscard]] result<std::uint64_t> control(fs::file& opened, std::uint64_t request, std::uint64_t argument,
                                                fs::user_memory& memory) override;
    [[nodiscard]] fs::poll_events poll(fs::file& opened, fs::poll_table* table) override;

private:
    friend class terminal_list;
    using lock_type = sync::spin_lock<sync::lock_rank::device, sync::any_parker>;

    [[nodiscard]] lock_type::guard lock() noexcept { return lock_.lock(parker_); }
    // The caller may do `wanted` to the terminal now, or learns why not.
    [[nodiscard]] result<> check_foreground(terminal_signal wanted);
    // Returns when a read of `size` bytes is to take what there is. Errors: interrupted, would_block.
    [[nodiscard]] result<> wait_for_input(bool non_blocking, std::size_t size);
    // What one read takes: in canonical mode at most a line. `complete` tells that it is not to wait for more.
    [[nodiscard]] result<std::size_t> take_input(fs::output& into, bool& complete);
    [[nodiscard]] result<> set_settings(std::uint64_t argument, std::size_t size, bool discards, fs::user_memory&);
    [[nodiscard]] result<> take_control(bool steal);
    [[nodiscard]] result<> set_foreground(id group);
    void release_session() noexcept;
    void discard_input() noexcept;
    void set_stopped(bool on) noexcept;
    // The typed bytes that a read has to wait for at least.
    [[nodiscard]] static std::size_t minimum(const termios& t)
    {
        return t.has_local(local_flag::canonical) ? 1 : t[control_character::minimum];
    }
    // Whether this is the controlling terminal of the caller.
    [[nodiscard]] bool controls_caller() noexcept
    {
        const id s = jobs_.caller().session;
        return s != 0 && session() == s;
    }

    sync::any_parker& parker_;
    transmitter& out_;
    terminal_jobs& jobs_;
    terminal_list& list_;
    fs::device_number number_;
    tty* next_{};

    lock_type lock_;
    // Under lock_.
    line_discipline line_;
    window_size window_{};

    // Changed under lock_.
    std::atomic<id> session_{};
    std::atomic<id> foreground_{};

    sync::mutex<sync::lock_rank::file_content> reading_; // one line to one reader
    sync::wait_queue input_events_;
    sync::wait_queue output_events_; // output goes on after a stop
};

// /dev/tty: the controlling terminal of whoever opens it.
class controlling_terminal_device final : public fs::character_device {
public:
    controlling_terminal_device(terminal_list& list, terminal_jobs& jobs, fs::device_number number)
        : list_{list}, jobs_{jobs}, number_{number}
    {
    }

    [[nodiscard]] fs::device_number number() const noexcept override { return number_; }
    [[nodiscard]] bool is_stream() const noexcept override { return true; }
    // Errors: fs::errors::no_data (ENXIO) without a controlling terminal.
    [[nodiscard]] result<ref<fs::file>> open(fs::environment& env, const fs::location& where, fs::inode& node,
                                             const fs::open_options& options) override
    {
        tty* terminal = list_.controlling(jobs_.caller().session);
        if (!terminal)
            return fail(fs::errors::no_data);
        return terminal->open(env, where, node, options);
    }

private:
    terminal_list& list_;
    terminal_jobs& jobs_;
    fs::device_number number_;
};

inline tty* terminal_list::controlling(terminal_jobs::id session) noexcept
{
    auto guard = lock_.lock(parker_);
    for (tty* t = first_; session != 0 && t; t = t->next_)
        if (t->session() == session)
            return t;
    return nullptr;
}

inline void terminal_list::session_ended(terminal_jobs::id session) noexcept
{
    if (tty* t = controlling(session))
        t->release_session();
}

inline void terminal_list::add(tty& t) noexcept
{
    auto guard = lock_.lock(parker_);
    t.next_ = first_;
    first_ = &t;
}

inline void terminal_list::remove(tty& t) noexcept
{
    auto guard = lock_.lock(parker_);
    tty** at = &first_;
    while (*at != &t)
        at = &(*at)->next_;
    *at = t.next_;
}

inline void tty::receive(std::span<const std::byte> bytes) noexcept
{
    auto send = [this](std::span<const std::byte> echoed) { out_.transmit(echoed); };
    while (!bytes.empty()) {
        auto raised = terminal_signal::none;
        {
            auto guard = lock();
            output_buffer out{send};
            while (raised == terminal_signal::none && !bytes.empty()) {
                raised = line_.type(std::to_integer<std::uint8_t>(bytes.front()), out);
                bytes = bytes.subspan(1);
            }
        }
        if (raised != terminal_signal::none && foreground() != 0)
            jobs_.signal_group(foreground(), raised);
    }
    input_events_.wake_all(parker_);
    output_events_.wake_all(parker_);
}

inline termios tty::settings() noexcept
{
    auto guard = lock();
    return line_.settings();
}

inline void tty::change_settings(const termios& t) noexcept
{
    {
        auto guard = lock();
        line_.change_settings(t);
    }
    input_events_.wake_all(parker_);
    output_events_.wake_all(parker_);
}

inline void tty::set_window(window_size size) noexcept
{
    {
        auto guard = lock();
        if (window_ == size)
            return;
        window_ = size;
    }
    if (foreground() != 0)
        jobs_.signal_group(foreground(), terminal_signal::window_changed);
}

inline void tty::give_to(id session, id group) noexcept
{
    auto guard = lock();
    session_.store(session, std::memory_order_relaxed);
    foreground_.store(group, std::memory_order_relaxed);
}

inline void tty::release_session() noexcept
{
    const id group = foreground();
    give_to(0, 0);
    if (group != 0) {
        jobs_.signal_group(group, terminal_signal::hang_up);
        jobs_.signal_group(group, terminal_signal::resume);
    }
}

inline void tty::discard_input() noexcept
{
    auto guard = lock();
    line_.discard_input();
}

inline void tty::set_stopped(bool on) noexcept
{
    {
        auto guard = lock();
        line_.set_stopped(on);
    }
    output_events_.wake_all(parker_);
}

inline result<> tty::check_foreground(terminal_signal wanted)
{
    const auto who = jobs_.caller();
    if (who.session == 0 || who.session != session() || foreground() == 0 || who.group == foreground())
        return {};
    switch (jobs_.signal_background(wanted)) {
    case terminal_jobs::background::ignored:
        return wanted == terminal_signal::background_read ? result<>{fail(errors::io_error)} : result<>{};
    case terminal_jobs::background::orphaned:
        return fail(errors::io_error);
    case terminal_jobs::background::signalled:
        break;
    }
    return fail(errors::interrupted);
}

// The four cases of MIN and TIME: POSIX XBD 11.1.7.
inline result<> tty::wait_for_input(bool non_blocking, std::size_t size)
{
    std::size_t ready = 0;
    const auto enough = [this, &ready, size] {
        auto guard = lock();
        ready = line_.available();
        const std::size_t least = minimum(line_.settings());
        return ready >= (least < size ? least : size) && (ready != 0 || least != 0);
    };
    if (enough())
        return {};
    const termios now = settings();
    const duration pause = milliseconds(100) * now[control_character::time];
    const bool timed = !now.has_local(local_flag::canonical) && pause > duration{};
    const bool polls = minimum(now) == 0;
    if (polls && !timed)
        return {};
    if (non_blocking)
        return ready != 0 ? result<>{} : fail(errors::would_block);

    const auto wait = [this](auto condition, instant deadline) -> result<> {
        const auto outcome = input_events_.wait_interruptible(parker_, condition, deadline);
        return !outcome && outcome.error() == errors::timed_out ? result<>{} : outcome;
    };
    const auto any = [&] { return enough() || ready != 0; };
    if (polls)
        return wait(any, parker_.now() + pause);
    if (!timed)
        return wait(enough, instant::never());
    // The time runs between bytes, from the first on.
    EXO_TRY(wait(any, instant::never()));
    for (;;) {
        const std::size_t before = ready;
        EXO_TRY(wait([&] { return enough() || ready != before; }, parker_.now() + pause));
        if (ready == before || enough())
            return {};
    }
}

inline result<std::size_t> tty::take_input(fs::output& into, bool& complete)
{
    std::size_t total = 0;
    complete = false;
    while (into.remaining() != 0 && !complete) {
        std::byte piece[128];
        const std::size_t wanted = into.remaining() < sizeof(piece) ? into.remaining() : sizeof(piece);
        std::size_t count = 0;
        {
            auto guard = lock();
            count = line_.read(std::span{piece}.first(wanted), complete);
        }
        if (count == 0)
            break;
        const std::size_t taken = EXO_TRY(into.put(std::span{piece}.first(count)));
        total += taken;
        if (taken < count)
            break;
    }
    complete = complete || total != 0;
    return total;
}

inline result<std::size_t> tty::read(fs::file& opened, fs::output& into)
{
    if (into.remaining() == 0)
        return std::size_t{0};
    for (;;) {
        EXO_TRY(check_foreground(terminal_signal::background_read));
        EXO_TRY(wait_for_input(opened.non_blocking(), into.remaining()));
        auto turn = reading_.lock(parker_);
        bool complete = false;
        const std::size_t count = EXO_TRY(take_input(into, complete));
        if (complete || minimum(settings()) == 0)
            return count;
    }
}

inline result<std::size_t> tty::write(fs::file& opened, fs::input& from)
{
    if (settings().has_local(local_flag::stop_background))
        EXO_TRY(check_foreground(terminal_signal::background_write));
    auto send = [this](std::span<const std::byte> processed) { out_.transmit(processed); };
    const auto flows = [this] {
        auto guard = lock();
        return !line_.stopped();
    };
    std::size_t total = 0;
    while (from.remaining() != 0) {
        if (!flows()) {
            const result<> resumed = opened.non_blocking() ? result<>{fail(errors::would_block)}
                                                           : output_events_.wait_interruptible(parker_, flows);
            if (!resumed)
                return total != 0 ? result<std::size_t>{total} : fail(resumed.error());
        }
        // Short pieces: interrupts are off while one goes out.
        std::byte piece[64];
        const auto got = from.get(piece);
        if (!got)
            return total != 0 ? result<std::size_t>{total} : fail(got.error());
        if (*got == 0)
            break;
        auto guard = lock();
        output_buffer out{send};
        for (const std::byte b : std::span{piece}.first(*got))
            line_.show(std::to_integer<std::uint8_t>(b), out);
        total += *got;
    }
    return total;
}

inline fs::poll_events tty::poll(fs::file&, fs::poll_table* table)
{
    if (table) {
        table->watch(input_events_);
        table->watch(output_events_);
    }
    auto guard = lock();
    const termios& t = line_.settings();
    const std::size_t least = t[control_character::time] != 0 || minimum(t) == 0 ? 1 : minimum(t);
    fs::poll_events ready = 0;
    if (line_.available() >= least)
        ready |= fs::poll::in | fs::poll::in_normal;
    if (!line_.stopped())
        ready |= fs::poll::out | fs::poll::out_normal;
    return ready;
}

inline result<> tty::set_settings(std::uint64_t argument, std::size_t size, bool discards, fs::user_memory& memory)
{
    EXO_TRY(check_foreground(terminal_signal::background_write));
    termios t = settings();
    EXO_TRY(memory.read(user_addr{argument}, std::as_writable_bytes(std::span{&t, 1}).first(size)));
    if (discards)
        discard_input();
    change_settings(t);
    return {};
}

// Errors: not_permitted.
inline result<> tty::take_control(bool steal)
{
    const auto who = jobs_.caller();
    if (who.leads_session() && session() == who.session)
        return {};
    if (!who.leads_session() || list_.controlling(who.session))
        return fail(errors::not_permitted);
    auto guard = lock();
    if (session() != 0 && !(steal && who.privileged))
        return fail(errors::not_permitted);
    session_.store(who.session, std::memory_order_relaxed);
    foreground_.store(who.group, std::memory_order_relaxed);
    return {};
}

// Errors: not_terminal, not_permitted (no group of this session), invalid_argument.
inline result<> tty::set_foreground(id group)
{
    EXO_TRY(check_foreground(terminal_signal::background_write));
    if (!controls_caller())
        return fail(fs::errors::not_terminal);
    if (group < 0)
        return fail(errors::invalid_argument);
    if (jobs_.session_of_group(group) != session())
        return fail(errors::not_permitted);
    auto guard = lock();
    foreground_.store(group, std::memory_order_relaxed);
    return {};
}

inline result<std::uint64_t> tty::control(fs::file&, std::uint64_t request, std::uint64_t argument,
                                          fs::user_memory& memory)
{
    namespace requests = terminal_request;
    const user_addr at{argument};
    switch (request) {
    case requests::get: {
        const termios t = settings();
        EXO_TRY(memory.write(at, std::as_bytes(std::span{&t, 1}).first(short_termios_size)));
        break;
    }
    case requests::get2:
        EXO_TRY(memory.write_object(at, settings()));
        break;
    case requests::set:
    case requests::set_wait:
    case requests::set_flush:
        EXO_TRY(set_settings(argument, short_termios_size, request == requests::set_flush, memory));
        break;
    case requests::set2:
    case requests::set2_wait:
    case requests::set2_flush:
        EXO_TRY(set_settings(argument, sizeof(termios), request == requests::set2_flush, memory));
        break;
    case requests::flow: // TCOOFF, TCOON; what the other side sends is not held back
        if (argument > 3)
            return fail(errors::invalid_argument, argument);
        if (argument < 2)
            set_stopped(argument == 0);
        break;
    case requests::flush: // TCIFLUSH, TCOFLUSH, TCIOFLUSH; output does not wait here
        if (argument > 2)
            return fail(errors::invalid_argument, argument);
        if (argument != 1)
            discard_input();
        break;
    case requests::send_break:
    case requests::send_break_posix:
    case requests::exclusive:
    case requests::shared:
        break;
    case requests::set_controlling:
        EXO_TRY(take_control(argument == 1));
        break;
    case requests::give_up_controlling:
        if (!controls_caller())
            return fail(fs::errors::not_terminal);
        if (jobs_.caller().leads_session())
            release_session();
        break;
    case requests::get_group:
        if (!controls_caller())
            return fail(fs::errors::not_terminal);
        EXO_TRY(memory.write_object(at, foreground()));
        break;
    case requests::set_group: {
        const id group = EXO_TRY(memory.read_object<id>(at));
        EXO_TRY(set_foreground(group));
        break;
    }
    case requests::get_session:
        if (!controls_caller())
            return fail(fs::errors::not_terminal);
        EXO_TRY(memory.write_object(at, session()));
        break;
    case requests::get_window: {
        auto guard = lock();
        const window_size size = window_;
        guard.unlock();
        EXO_TRY(memory.write_object(at, size));
        break;
    }
    case requests::set_window:
        set_window(EXO_TRY(memory.read_object<window_size>(at)));
        break;
    case requests::input_queued: {
        auto guard = lock();
        const auto count = static_cast<std::int32_t>(line_.readable_bytes());
        guard.unlock();
        EXO_TRY(memory.write_object(at, count));
        break;
    }
    case requests::output_queued:
    case requests::get_discipline:
        EXO_TRY(memory.write_object(at, std::int32_t{0}));
        break;
    case requests::set_discipline:
        if (EXO_TRY(memory.read_object<std::int32_t>(at)) != 0)
            return fail(errors::invalid_argument);
        break;
    default:
        return fail(fs::errors::not_terminal, request);
    }
    return std::uint64_t{0};
}

} // namespace exo::drivers
