// Channel 2 of the 8254 timer (Intel 8254 datasheet): a known span of time to measure other clocks against.

#pragma once

#include <cstdint>

#include <exo/base/errors.hpp>
#include <exo/base/result.hpp>
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

    [[nodiscard]] static constexpr std::uint16_t ticks_in(duration span)
    {
        const std::uint64_t ticks = static_cast<std::uint64_t>(span.nanoseconds()) * hertz / 1'000'000'000;
        return ticks < longest ? static_cast<std::uint16_t>(ticks) : longest;
    }

    // Returns `ticks` / hertz seconds after it has started the channel. Errors: no_device when the channel stands still.
    [[nodiscard]] result<> wait(std::uint16_t ticks) noexcept
    {
        constexpr std::uint8_t gate = 1, speaker = 2, output = 0x20;
        constexpr std::uint8_t channel_2_one_shot = 0xb0; // both bytes, mode 0: the output rises at zero
        constexpr unsigned patience = 10'000'000;
        const auto control = static_cast<std::uint8_t>(ports_.read8(control_port) & ~(gate | speaker));
        ports_.write8(control_port, control);
        ports_.write8(mode_port, channel_2_one_shot);
        ports_.write8(channel_port, static_cast<std::uint8_t>(ticks & 0xff));
        ports_.write8(channel_port, static_cast<std::uint8_t>(ticks >> 8));
        ports_.write8(control_port, control | gate);
        for (unsigned i = 0; i < patience; ++i)
            if (ports_.read8(control_port) & output)
                return {};
        return fail(errors::no_device, channel_port);
    }

private:
    static constexpr std::uint32_t channel_port = 0x42, mode_port = 0x43, control_port = 0x61;

    [[no_unique_address]] Ports ports_;
};

} // namespace exo::drivers
