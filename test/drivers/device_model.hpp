// Registers that are what a model of a device makes of reads and writes.

#pragma once

#include <cstdint>

#include <exo/hal/register_access.hpp>

namespace device_model {

struct device {
    virtual ~device() = default;
    virtual std::uint32_t read(std::uint32_t offset, unsigned bytes) = 0;
    virtual void write(std::uint32_t offset, unsigned bytes, std::uint32_t value) = 0;
};
// The handle that drivers copy.
struct registers {
    device* model;

    std::uint8_t read8(std::uint32_t o) noexcept { return static_cast<std::uint8_t>(model->read(o, 1)); }
    std::uint16_t read16(std::uint32_t o) noexcept { return static_cast<std::uint16_t>(model->read(o, 2)); }
    std::uint32_t read32(std::uint32_t o) noexcept { return model->read(o, 4); }
    void write8(std::uint32_t o, std::uint8_t v) noexcept { model->write(o, 1, v); }
    void write16(std::uint32_t o, std::uint16_t v) noexcept { model->write(o, 2, v); }
    void write32(std::uint32_t o, std::uint32_t v) noexcept { model->write(o, 4, v); }
};
static_assert(exo::hal::RegisterAccess<registers>);

} // namespace device_model
