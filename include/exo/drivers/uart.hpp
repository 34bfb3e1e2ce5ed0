// 16550 serial port (PC16550D datasheet): polled output that works in every context, input by interrupt.
//
// write() waits for the transmitter a bounded time per byte, then drops the byte: a port that is absent or stuck does
// not stop the kernel.

#pragma once

#include <cstdint>
#include <string_view>

#include <exo/hal/console_sink.hpp>
#include <exo/hal/register_access.hpp>

namespace exo::drivers {

template <hal::RegisterAccess Registers>
class uart {
public:
    explicit uart(Registers registers) : registers_{registers} {}

    // 115200 baud, 8 data bits, no parity, one stop bit, FIFOs on, no interrupts.
    void initialize() noexcept
    {
        registers_.write8(interrupt_enable, 0);
        registers_.write8(line_control, divisor_latch);
        registers_.write8(data, 1);
        registers_.write8(interrupt_enable, 0);
        registers_.write8(line_control, eight_bits);
        registers_.write8(fifo_control, fifo_enable | fifo_clear);
        registers_.write8(modem_control, ready | interrupt_line);
    }

    void write(std::string_view text) noexcept
    {
        for (const char c : text) {
            if (transmitter_becomes_empty())
                registers_.write8(data, static_cast<std::uint8_t>(c));
        }
    }

    void enable_receive_interrupt() noexcept { registers_.write8(interrupt_enable, receive_interrupt); }

    // Everything that has arrived, up to `size` bytes; how many. Clears the interrupt when it takes all.
    [[nodiscard]] std::size_t read(char* into, std::size_t size) noexcept
    {
        std::size_t count = 0;
        while (count < size) {
            const std::uint8_t status = registers_.read8(line_status);
            // All ones: no such port.
            if (status == 0xff || !(status & data_ready))
                break;
            into[count++] = static_cast<char>(registers_.read8(data));
        }
        return count;
    }

private:
    static constexpr std::uint32_t data = 0, interrupt_enable = 1, fifo_control = 2, line_control = 3,
                                   modem_control = 4, line_status = 5;
    static constexpr std::uint8_t divisor_latch = 0x80, eight_bits = 0x03;
    static constexpr std::uint8_t fifo_enable = 0x01, fifo_clear = 0x06;
    static constexpr std::uint8_t ready = 0x03, interrupt_line = 0x08; // OUT2 gates the interrupt on a PC
    static constexpr std::uint8_t receive_interrupt = 0x01;
    static constexpr std::uint8_t data_ready = 0x01, transmitter_empty = 0x20;
    static constexpr unsigned patience = 100'000;

    [[nodiscard]] bool transmitter_becomes_empty() noexcept
    {
        for (unsigned attempt = 0; attempt < patience; ++attempt)
            if (registers_.read8(line_status) & transmitter_empty)
                return true;
        return false;
    }

    [[no_unique_address]] Registers registers_;
};

} // namespace exo::drivers
