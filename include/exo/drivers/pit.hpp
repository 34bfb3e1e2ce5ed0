// Channel 2 of the 8254 timer (Intel 8254 datasheet): a known span of time to measure other clocks against.

#pragma once

#include <cstdint>

#include <exo/base/time.hpp>
#include <exo/hal/register_access.hpp>

namespace exo::drivers {

// `Ports` starts at port 0.
template <hal::RegisterAccess Ports>
class pit {
public:
    static constexpr std::uint64_t hertz = 1'193'182;
    static constexpr std::uint16_t longest = 0xffff;

    explicit pit(Ports ports) : ports_{ports} {}

    // At most a second.
    [[nodiscard]] static constexpr std::uint64_t ticks_in(duration span)
    {
        return static_cast<std::uint64_t>(span.nanoseconds()) * hertz / 1'000'000'000;
    }
    [[nodiscard]] static constexpr duration span_of(std::uint16_t ticks)
    {
        return duration{ticks * std::int64_t{1'000'000'000} / static_cast<std::int64_t>(hertz)};
    }

    // The channel starts to count down from 2^16 - 1 at `hertz`.
    void start() noexcept
    {
        const auto control = static_cast<std::uint8_t>(ports_.read8(control_port) & ~(gate | speaker));
        ports_.write8(control_port, control);
        ports_.write8(mode_port, channel_2_one_shot);
        ports_.write8(channel_port, longest & 0xff);
        ports_.write8(channel_port, longest >> 8);
        ports_.write8(control_port, control | gate);
    }
    // Ticks since start().
    [[nodiscard]] std::uint16_t elapsed() noexcept
    {
        ports_.write8(mode_port, latch_channel_2);
        const std::uint8_t low = ports_.read8(channel_port);
        return static_cast<std::uint16_t>(longest - (low | ports_.read8(channel_port) << 8));
    }
    // Whether more ticks have passed than elapsed() can tell.
    [[nodiscard]] bool ran_out() noexcept { return (ports_.read8(control_port) & output) != 0; }

private:
    static constexpr std::uint32_t channel_port = 0x42, mode_port = 0x43, control_port = 0x61;
    static constexpr std::uint8_t gate = 1, speaker = 2, output = 0x20;
    static constexpr std::uint8_t channel_2_one_shot = 0xb0; // both bytes, mode 0: the output rises at zero
    static constexpr std::uint8_t latch_channel_2 = 0x80;

    [[no_unique_address]] Ports ports_;
};

} // namespace exo::drivers
