// The two 8259A interrupt controllers of a PC, put out of the way: the I/O APIC takes their place.

#pragma once

#include <cstdint>

#include <exo/hal/register_access.hpp>

namespace exo::drivers {

// Moves the sixteen inputs to vectors from `first_vector` on, away from the exceptions (a spurious interrupt may still
// arrive), and masks them all. `ports` starts at port 0.
template <hal::RegisterAccess Ports>
void disable_pic(Ports ports, std::uint8_t first_vector) noexcept
{
    constexpr std::uint32_t controllers[] = {0x20, 0xa0};
    constexpr std::uint8_t initialize = 0x11, mode_8086 = 0x01, mask_all = 0xff;
    constexpr std::uint8_t cascade[] = {0x04, 0x02};
    for (unsigned i = 0; i < 2; ++i) {
        ports.write8(controllers[i], initialize);
        ports.write8(controllers[i] + 1, static_cast<std::uint8_t>(first_vector + 8 * i));
        ports.write8(controllers[i] + 1, cascade[i]);
        ports.write8(controllers[i] + 1, mode_8086);
        ports.write8(controllers[i] + 1, mask_all);
    }
}

} // namespace exo::drivers
