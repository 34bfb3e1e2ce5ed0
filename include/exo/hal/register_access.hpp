// RegisterAccess: the registers of one device, by byte offset. Drivers are templates over it, so that the same code
// runs against hardware (ports, memory-mapped windows) and against device models on the host.
//
// Laws:
//  - Each call is exactly one access of the named width, in program order with the other calls on the same registers.
//  - Values have the byte order of the CPU; a model for a device of other order swaps.
//  - A write is not started before earlier stores to memory are visible to the device, so that ringing a doorbell after
//    filling a descriptor needs no barrier of its own.
//  - None fails, sleeps or allocates. An access outside of the window is a bug of the caller.

#pragma once

#include <concepts>
#include <cstdint>

namespace exo::hal {

template <class T>
concept RegisterAccess = requires(T& registers, std::uint32_t offset, std::uint8_t b, std::uint16_t w, std::uint32_t d)
{
    { registers.read8(offset) } noexcept -> std::same_as<std::uint8_t>;
    { registers.read16(offset) } noexcept -> std::same_as<std::uint16_t>;
    { registers.read32(offset) } noexcept -> std::same_as<std::uint32_t>;
    { registers.write8(offset, b) } noexcept -> std::same_as<void>;
    { registers.write16(offset, w) } noexcept -> std::same_as<void>;
    { registers.write32(offset, d) } noexcept -> std::same_as<void>;
};

} // namespace exo::hal
