// Text out in every context: COM1 is the console, COM2 the kernel log.

#pragma once

#include <cstdint>
#include <string_view>

#include <exo/arch/x86_64/register_access.hpp>
#include <exo/base/number_text.hpp>
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

// One line, or part of one, of the kernel log.
template <class... Text>
void log(const Text&... text)
{
    log_sink sink;
    (sink.write(std::string_view{text}), ...);
}

} // namespace exo::boot
