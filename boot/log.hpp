// Text out in every context: COM1 is the console, COM2 the kernel log.

#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>

#include <exo/arch/x86_64/instructions.hpp>
#include <exo/arch/x86_64/register_access.hpp>
#include <exo/arch/x86_64/registers.hpp>
#include <exo/base/number_text.hpp>
#include <exo/drivers/uart.hpp>

namespace exo::boot {

using serial_port = drivers::uart<x86_64::port_registers>;

inline constexpr std::uint16_t console_port = 0x3f8, log_port = 0x2f8;
inline constexpr std::uint8_t console_isa_interrupt = 4;

// A ConsoleSink that keeps nothing: the port is all the state there is.
struct console_sink {
    void write(std::string_view text) noexcept { serial_port{x86_64::port_registers{console_port}}.write(text); }
};

// While one lives, no other CPU writes to the log. Whoever has waited for longer than a line takes has the turn all the
// same: the other may have died in the middle.
class [[nodiscard]] log_turn {
public:
    log_turn() noexcept : interrupts_on_{(x86_64::read_flags() & x86_64::rflags::interrupt) != 0}
    {
        constexpr std::uint64_t patience = std::uint64_t{1} << 31; // of the time-stamp counter: about a second
        x86_64::disable_interrupts();
        const std::uint64_t since = x86_64::read_tsc();
        while (taken_.test_and_set(std::memory_order_acquire) && x86_64::read_tsc() - since < patience)
            __builtin_ia32_pause();
    }
    log_turn(const log_turn&) = delete;
    log_turn& operator=(const log_turn&) = delete;
    ~log_turn()
    {
        taken_.clear(std::memory_order_release);
        if (interrupts_on_)
            x86_64::enable_interrupts();
    }

private:
    static inline constinit std::atomic_flag taken_{};
    bool interrupts_on_;
};

struct log_sink {
    void write(std::string_view text) noexcept
    {
        const log_turn turn;
        serial_port{x86_64::port_registers{log_port}}.write(text);
    }
};

// One line, or part of one, of the kernel log.
template <class... Text>
void log(const Text&... text)
{
    const log_turn turn;
    serial_port port{x86_64::port_registers{log_port}};
    (port.write(std::string_view{text}), ...);
}

} // namespace exo::boot
