// What stands between the keys that a person types and the bytes that a program reads, and back: POSIX General Terminal
// Interface (XBD 11) with the editing of Linux's n_tty.
//
// Pure logic: no lock, no waiting. Input bytes go in one at a time and are edited, echoed and turned into signals;
// read() hands out what the mode makes available. What is to be shown goes to an echo sink.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <exo/drivers/termios.hpp>

namespace exo::drivers {

// With the numbers that signals have on Linux.
enum class terminal_signal : std::uint8_t {
    none = 0,
    hang_up = 1,
    interrupt = 2,
    quit = 3,
    resume = 18,
    stop = 20,
    background_read = 21,
    background_write = 22,
    window_changed = 28,
};

// Collects what is to be transmitted, so that it leaves in few pieces. Transmit is callable with a span of bytes.
template <class Transmit>
class output_buffer {
public:
    explicit output_buffer(Transmit& transmit) : transmit_{transmit} {}
    output_buffer(const output_buffer&) = delete;
    output_buffer& operator=(const output_buffer&) = delete;
    ~output_buffer() { flush(); }

    void put(std::uint8_t c)
    {
        bytes_[used_++] = std::byte{c};
        if (used_ == sizeof(bytes_))
            flush();
    }
    void flush()
    {
        if (used_ != 0)
            transmit_(std::span<const std::byte>{bytes_, used_});
        used_ = 0;
    }

private:
    Transmit& transmit_;
    std::byte bytes_[128];
    std::size_t used_{};
};

class line_discipline {
public:
    static constexpr std::size_t capacity = 4096;

    [[nodiscard]] const termios& settings() const { return settings_; }
    // Bytes that wait stay; without canonical mode, all of them can be read at once.
    void change_settings(const termios& t)
    {
        if (t.has_local(local_flag::canonical) && !canonical())
            committed_ = end_;
        settings_ = t;
        literal_ = false;
        if (!settings_.has_input(input_flag::flow_control))
            stopped_ = false;
    }

    // One typed byte. The signal that the foreground group is to get, or none.
    template <class Transmit>
    terminal_signal type(std::uint8_t c, output_buffer<Transmit>& out);

    // Whether output is held back (Ctrl-S).
    [[nodiscard]] bool stopped() const { return stopped_; }
    void set_stopped(bool on) { stopped_ = on; }

    // Bytes that read() would hand out: in canonical mode those of complete lines, an end of file counted as one.
    [[nodiscard]] std::size_t available() const { return (canonical() ? committed_ : end_) - begin_; }
    // The same without the ends of file.
    [[nodiscard]] std::size_t readable_bytes() const;
    // Up to `into.size()` bytes, in canonical mode of one line. `line_ended` tells whether its end was reached: after
    // a line without a newline, an end of file.
    [[nodiscard]] std::size_t read(std::span<std::byte> into, bool& line_ended);
    void discard_input()
    {
        begin_ = committed_ = end_;
        literal_ = false;
    }

    // One byte of a program's output, processed.
    template <class Transmit>
    void show(std::uint8_t c, output_buffer<Transmit>& out);

private:
    static constexpr std::uint8_t bell = 7, backspace = 8, tab = 9, newline = 10, carriage_return = 13, del = 127;

    [[nodiscard]] bool canonical() const { return settings_.has_local(local_flag::canonical); }
    [[nodiscard]] bool local(std::uint32_t flag) const { return settings_.has_local(flag); }
    [[nodiscard]] bool is(std::uint8_t c, control_character which) const
    {
        return c == settings_[which] && c != 0; // 0 switches a control character off
    }
    [[nodiscard]] static bool is_control(std::uint8_t c) { return (c < 0x20 && c != tab) || c == del; }
    [[nodiscard]] bool continues_character(std::uint8_t c) const
    {
        return settings_.has_input(input_flag::utf8) && (c & 0xc0) == 0x80;
    }
    [[nodiscard]] std::uint8_t at(std::size_t position) const { return buffer_[position % capacity]; }
    [[nodiscard]] bool ends_line(std::size_t position) const
    {
        return (line_ends_[position % capacity / 64] >> (position % 64) & 1) != 0;
    }

    template <class Transmit>
    void append(std::uint8_t c, bool ends, output_buffer<Transmit>& out);
    template <class Transmit>
    void echo(std::uint8_t c, output_buffer<Transmit>& out);
    template <class Transmit>
    void erase_character(output_buffer<Transmit>& out);
    template <class Transmit>
    void edit_back(bool word, output_buffer<Transmit>& out);
    template <class Transmit>
    void kill_line(output_buffer<Transmit>& out);
    // How wide `c` is shown at `column`.
    [[nodiscard]] std::size_t width(std::uint8_t c, std::size_t column) const
    {
        if (c == tab)
            return 8 - column % 8;
        if (is_control(c))
            return local(local_flag::echo_control) ? 2 : 0;
        return continues_character(c) ? 0 : 1;
    }

    termios settings_{};
    // Positions only grow; the byte at one is in buffer_[position % capacity].
    std::size_t begin_{};     // the next byte to read
    std::size_t committed_{}; // the end of the last complete line
    std::size_t end_{};       // where the next typed byte goes
    std::uint8_t buffer_[capacity];
    std::uint64_t line_ends_[capacity / 64]{}; // a newline, or an end of file, which is stored as a 0
    bool literal_{};                           // the next byte is taken as it is (Ctrl-V)
    bool stopped_{};
    std::size_t column_{};     // of the terminal
    std::size_t line_column_{}; // where the line being typed began
};

template <class Transmit>
void line_discipline::show(std::uint8_t c, output_buffer<Transmit>& out)
{
    if (!settings_.has_output(output_flag::process)) {
        out.put(c);
        return;
    }
    switch (c) {
    case newline:
        if (settings_.has_output(output_flag::newline_to_return_newline)) {
            out.put(carriage_return);
            column_ = 0;
        } else if (settings_.has_output(output_flag::newline_returns)) {
            column_ = 0;
        }
        out.put(newline);
        break;
    case carriage_return:
        if (settings_.has_output(output_flag::no_return_at_column_0) && column_ == 0)
            break;
        column_ = 0;
        out.put(settings_.has_output(output_flag::return_to_newline) ? newline : carriage_return);
        break;
    case tab: {
        const std::size_t spaces = 8 - column_ % 8;
        column_ += spaces;
        if ((settings_.output & output_flag::expand_tabs) == output_flag::expand_tabs)
            for (std::size_t i = 0; i < spaces; ++i)
                out.put(' ');
        else
            out.put(tab);
        break;
    }
    case backspace:
        if (column_ > 0)
            --column_;
        out.put(c);
        break;
    default:
        if (!is_control(c) && !continues_character(c))
            ++column_;
        out.put(c);
        break;
    }
}

template <class Transmit>
void line_discipline::echo(std::uint8_t c, output_buffer<Transmit>& out)
{
    if (end_ == committed_)
        line_column_ = column_;
    if (is_control(c) && c != newline && local(local_flag::echo_control)) {
        show('^', out);
        show(c ^ 0x40, out);
    } else {
        show(c, out);
    }
}

// Full: without canonical mode the byte is lost; with it, one place is kept so that a line can still be ended.
template <class Transmit>
void line_discipline::append(std::uint8_t c, bool ends, output_buffer<Transmit>& out)
{
    const std::size_t used = end_ - begin_;
    if (used == capacity || (canonical() && !ends && used == capacity - 1)) {
        if (settings_.has_input(input_flag::bell_when_full))
            out.put(bell);
        return;
    }
    buffer_[end_ % capacity] = c;
    const std::uint64_t bit = std::uint64_t{1} << (end_ % 64);
    std::uint64_t& word = line_ends_[end_ % capacity / 64];
    word = ends ? word | bit : word & ~bit;
    ++end_;
    if (ends)
        committed_ = end_;
}

// Takes the last character, all of its bytes, off the line and off the screen.
template <class Transmit>
void line_discipline::erase_character(output_buffer<Transmit>& out)
{
    std::uint8_t c = at(--end_);
    while (continues_character(c) && end_ != committed_)
        c = at(--end_);
    if (!local(local_flag::echo))
        return;
    if (!local(local_flag::echo_erase)) {
        echo(settings_[control_character::erase], out);
        return;
    }
    std::size_t columns = 0;
    if (c == tab) {
        std::size_t column = line_column_;
        for (std::size_t i = committed_; i != end_; ++i)
            column += width(at(i), column);
        columns = width(tab, column);
        for (std::size_t i = 0; i < columns; ++i)
            show(backspace, out);
        return;
    }
    columns = width(c, column_);
    for (std::size_t i = 0; i < columns; ++i) {
        show(backspace, out);
        show(' ', out);
        show(backspace, out);
    }
}

template <class Transmit>
void line_discipline::edit_back(bool word, output_buffer<Transmit>& out)
{
    const auto is_word = [](std::uint8_t c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c >= 0x80;
    };
    bool seen = false;
    while (end_ != committed_) {
        const std::uint8_t c = at(end_ - 1);
        if (word) {
            if (is_word(c))
                seen = true;
            else if (seen)
                break;
        }
        erase_character(out);
        if (!word)
            break;
    }
}

template <class Transmit>
void line_discipline::kill_line(output_buffer<Transmit>& out)
{
    if (local(local_flag::echo) && local(local_flag::echo_kill) && local(local_flag::echo_kill_erase) &&
        local(local_flag::echo_erase)) {
        while (end_ != committed_)
            erase_character(out);
        return;
    }
    end_ = committed_;
    if (!local(local_flag::echo))
        return;
    echo(settings_[control_character::kill], out);
    if (local(local_flag::echo_kill))
        show(newline, out);
}

template <class Transmit>
terminal_signal line_discipline::type(std::uint8_t c, output_buffer<Transmit>& out)
{
    using enum control_character;
    const bool extended = local(local_flag::extended);
    if (settings_.has_input(input_flag::strip))
        c &= 0x7f;

    if (literal_) {
        literal_ = false;
        if (local(local_flag::echo))
            echo(c, out);
        append(c, false, out);
        return terminal_signal::none;
    }

    if (settings_.has_input(input_flag::flow_control)) {
        if (is(c, start) || is(c, stop)) {
            stopped_ = is(c, stop) && !(stopped_ && settings_[start] == settings_[stop]);
            return terminal_signal::none;
        }
        if (stopped_ && settings_.has_input(input_flag::any_restarts))
            stopped_ = false;
    }

    if (local(local_flag::signals)) {
        const auto raised = is(c, interrupt) ? terminal_signal::interrupt
                            : is(c, quit)    ? terminal_signal::quit
                            : is(c, suspend) ? terminal_signal::stop
                                             : terminal_signal::none;
        if (raised != terminal_signal::none) {
            if (!local(local_flag::no_flush))
                discard_input();
            if (local(local_flag::echo))
                echo(c, out);
            stopped_ = false;
            return raised;
        }
    }

    if (c == carriage_return) {
        if (settings_.has_input(input_flag::ignore_return))
            return terminal_signal::none;
        if (settings_.has_input(input_flag::return_to_newline))
            c = newline;
    } else if (c == newline && settings_.has_input(input_flag::newline_to_return)) {
        c = carriage_return;
    }

    if (canonical()) {
        if (is(c, erase)) {
            edit_back(false, out);
            return terminal_signal::none;
        }
        if (is(c, word_erase) && extended) {
            edit_back(true, out);
            return terminal_signal::none;
        }
        if (is(c, kill)) {
            kill_line(out);
            return terminal_signal::none;
        }
        if (is(c, literal_next) && extended) {
            literal_ = true;
            if (local(local_flag::echo) && local(local_flag::echo_control)) {
                show('^', out);
                show(backspace, out);
            }
            return terminal_signal::none;
        }
        if (is(c, reprint) && extended && local(local_flag::echo)) {
            echo(c, out);
            show(newline, out);
            for (std::size_t i = committed_; i != end_; ++i)
                echo(at(i), out);
            return terminal_signal::none;
        }
        if (is(c, end_of_file)) {
            append(0, true, out);
            return terminal_signal::none;
        }
        if (c == newline) {
            if (local(local_flag::echo) || local(local_flag::echo_newline))
                show(newline, out);
            append(newline, true, out);
            return terminal_signal::none;
        }
        if (is(c, end_of_line) || (is(c, end_of_line2) && extended)) {
            if (local(local_flag::echo))
                echo(c, out);
            append(c, true, out);
            return terminal_signal::none;
        }
    }

    if (local(local_flag::echo))
        echo(c, out);
    append(c, false, out);
    return terminal_signal::none;
}

inline std::size_t line_discipline::readable_bytes() const
{
    std::size_t bytes = available();
    if (canonical())
        for (std::size_t i = begin_; i != committed_; ++i)
            bytes -= ends_line(i) && at(i) == 0;
    return bytes;
}

inline std::size_t line_discipline::read(std::span<std::byte> into, bool& line_ended)
{
    const std::size_t ready = available();
    line_ended = false;
    std::size_t count = 0;
    for (std::size_t taken = 0; taken < ready && count < into.size() && !line_ended; ++taken) {
        const std::uint8_t c = at(begin_);
        line_ended = canonical() && ends_line(begin_);
        ++begin_;
        if (!(line_ended && c == 0))
            into[count++] = std::byte{c};
    }
    if (committed_ < begin_)
        committed_ = begin_;
    return count;
}

} // namespace exo::drivers
