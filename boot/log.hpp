// Text out in every context: COM1 is the console, COM2 the kernel log.

#pragma once

#include <cstdint>
#include <string_view>

#include <exo/arch/x86_64/register_access.hpp>
#include <exo/drivers/uart.hpp>

namespace exo::boot {

using serial_port = drivers::uart<x86_64::port_registers>;

inline constexpr std::uint16_t console_port = 0x3f8, log_port = 0x2f8;
inline constexpr std::uint8_t console_isa_interrupt = 4;

// A ConsoleSink that keeps nothing: the port is all the state there is.
template <std::uint16_t Port>
struct serial_sink {
    void write(std::string_view text) noexcept { serial_port{x86_64::port_registers{Port}}.write(text); }
};
using console_sink = serial_sink<console_port>;
using log_sink = serial_sink<log_port>;

// A number in hexadecimal with 16 digits.
struct hexadecimal {
    explicit constexpr hexadecimal(std::uint64_t value)
    {
        for (unsigned i = 0; i < sizeof text; ++i)
            text[i] = "0123456789abcdef"[value >> (60 - 4 * i) & 0xf];
    }
    constexpr operator std::string_view() const { return {text, sizeof text}; }

    char text[16];
};

// A number in decimal.
class decimal {
public:
    explicit constexpr decimal(std::uint64_t value)
    {
        do
            text_[--begin_] = static_cast<char>('0' + value % 10);
        while ((value /= 10) != 0);
    }
    constexpr operator std::string_view() const { return {text_ + begin_, sizeof text_ - begin_}; }

private:
    char text_[20]{};
    unsigned begin_{sizeof text_};
};

// One line, or part of one, of the kernel log.
template <class... Text>
void log(const Text&... text)
{
    log_sink sink;
    (sink.write(std::string_view{text}), ...);
}

} // namespace exo::boot
