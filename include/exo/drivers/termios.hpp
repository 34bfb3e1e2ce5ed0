// The settings of a terminal and the requests that change them, as POSIX termios names them and with Linux's values on
// x86-64 (asm-generic/termbits.h, ioctls.h).

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace exo::drivers {

namespace input_flag {
inline constexpr std::uint32_t strip = 0x20, newline_to_return = 0x40, ignore_return = 0x80, return_to_newline = 0x100,
                               flow_control = 0x400, any_restarts = 0x800, bell_when_full = 0x2000, utf8 = 0x4000;
} // namespace input_flag

namespace output_flag {
inline constexpr std::uint32_t process = 0x1, newline_to_return_newline = 0x4, return_to_newline = 0x8,
                               no_return_at_column_0 = 0x10, newline_returns = 0x20, expand_tabs = 0x1800;
} // namespace output_flag

namespace local_flag {
inline constexpr std::uint32_t signals = 0x1, canonical = 0x2, echo = 0x8, echo_erase = 0x10, echo_kill = 0x20,
                               echo_newline = 0x40, no_flush = 0x80, stop_background = 0x100, echo_control = 0x200,
                               echo_kill_erase = 0x800, extended = 0x8000;
} // namespace local_flag

// Index into termios::control.
enum class control_character : std::uint8_t {
    interrupt,
    quit,
    erase,
    kill,
    end_of_file,
    time,
    minimum,
    swtc,
    start,
    stop,
    suspend,
    end_of_line,
    reprint,
    discard,
    word_erase,
    literal_next,
    end_of_line2,
};

// struct termios2 of the kernel; struct termios is the same without the two speeds.
struct termios {
    std::uint32_t input = input_flag::return_to_newline | input_flag::flow_control;
    std::uint32_t output = output_flag::process | output_flag::newline_to_return_newline;
    std::uint32_t hardware = 0x1cb2; // 115200 baud, 8 bits, receiver on, no modem
    std::uint32_t local = local_flag::signals | local_flag::canonical | local_flag::echo | local_flag::echo_erase |
                          local_flag::echo_kill | local_flag::echo_control | local_flag::echo_kill_erase |
                          local_flag::extended;
    std::uint8_t discipline = 0;
    std::array<std::uint8_t, 19> control = {3,  28, 127, 21, 4,  0,  1, 0, 17, 19,
                                            26, 0,  18,  15, 23, 22, 0, 0, 0};
    std::uint32_t input_speed = 115200;
    std::uint32_t output_speed = 115200;

    [[nodiscard]] constexpr std::uint8_t operator[](control_character c) const
    {
        return control[static_cast<std::size_t>(c)];
    }
    [[nodiscard]] constexpr bool has_input(std::uint32_t flag) const { return (input & flag) != 0; }
    [[nodiscard]] constexpr bool has_output(std::uint32_t flag) const { return (output & flag) != 0; }
    [[nodiscard]] constexpr bool has_local(std::uint32_t flag) const { return (local & flag) != 0; }
    friend constexpr bool operator==(const termios&, const termios&) = default;
};
static_assert(sizeof(termios) == 44 && offsetof(termios, input_speed) == 36);
inline constexpr std::size_t short_termios_size = offsetof(termios, input_speed);

struct window_size {
    std::uint16_t rows{};
    std::uint16_t columns{};
    std::uint16_t width{};  // in pixels
    std::uint16_t height{};
    friend constexpr bool operator==(window_size, window_size) = default;
};

namespace terminal_request {
inline constexpr std::uint64_t get = 0x5401, set = 0x5402, set_wait = 0x5403, set_flush = 0x5404, send_break = 0x5409,
                               flow = 0x540a, flush = 0x540b, exclusive = 0x540c, shared = 0x540d,
                               set_controlling = 0x540e, get_group = 0x540f, set_group = 0x5410,
                               output_queued = 0x5411, get_window = 0x5413, set_window = 0x5414, input_queued = 0x541b,
                               give_up_controlling = 0x5422, set_discipline = 0x5423, get_discipline = 0x5424,
                               send_break_posix = 0x5425, get_session = 0x5429, get2 = 0x802c542a, set2 = 0x402c542b,
                               set2_wait = 0x402c542c, set2_flush = 0x402c542d;
} // namespace terminal_request

} // namespace exo::drivers
