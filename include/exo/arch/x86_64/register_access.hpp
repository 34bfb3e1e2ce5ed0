// Registers of a PC: behind I/O ports, in memory that is mapped uncached, and a CPU's model-specific ones.

#pragma once

#include <cstdint>

#include <exo/arch/x86_64/instructions.hpp>
#include <exo/arch/x86_64/msr_access.hpp>
#include <exo/hal/register_access.hpp>

namespace exo::x86_64 {

struct port_registers {
    std::uint16_t base{};

    [[nodiscard]] std::uint8_t read8(std::uint32_t offset) noexcept { return in8(port(offset)); }
    [[nodiscard]] std::uint16_t read16(std::uint32_t offset) noexcept { return in16(port(offset)); }
    [[nodiscard]] std::uint32_t read32(std::uint32_t offset) noexcept { return in32(port(offset)); }
    void write8(std::uint32_t offset, std::uint8_t value) noexcept { out8(port(offset), value); }
    void write16(std::uint32_t offset, std::uint16_t value) noexcept { out16(port(offset), value); }
    void write32(std::uint32_t offset, std::uint32_t value) noexcept { out32(port(offset), value); }

private:
    [[nodiscard]] std::uint16_t port(std::uint32_t offset) const { return static_cast<std::uint16_t>(base + offset); }
};
static_assert(hal::RegisterAccess<port_registers>);

// Stores to write-back memory are visible before a later store to uncached memory (SDM volume 3, 8.2.2 and 11.3), so
// it takes only the compiler to be held back.
struct mmio_registers {
    std::byte* base{};

    [[nodiscard]] std::uint8_t read8(std::uint32_t offset) noexcept { return load<std::uint8_t>(offset); }
    [[nodiscard]] std::uint16_t read16(std::uint32_t offset) noexcept { return load<std::uint16_t>(offset); }
    [[nodiscard]] std::uint32_t read32(std::uint32_t offset) noexcept { return load<std::uint32_t>(offset); }
    void write8(std::uint32_t offset, std::uint8_t value) noexcept { store(offset, value); }
    void write16(std::uint32_t offset, std::uint16_t value) noexcept { store(offset, value); }
    void write32(std::uint32_t offset, std::uint32_t value) noexcept { store(offset, value); }

private:
    template <class T>
    T load(std::uint32_t offset) noexcept
    {
        T value = *reinterpret_cast<const volatile T*>(base + offset);
        asm volatile("" : : : "memory");
        return value;
    }
    template <class T>
    void store(std::uint32_t offset, T value) noexcept
    {
        asm volatile("" : : : "memory");
        *reinterpret_cast<volatile T*>(base + offset) = value;
        asm volatile("" : : : "memory");
    }
};
static_assert(hal::RegisterAccess<mmio_registers>);

struct processor_msrs {
    [[nodiscard]] std::uint64_t read(std::uint32_t number) noexcept { return read_msr(number); }
    void write(std::uint32_t number, std::uint64_t value) noexcept { write_msr(number, value); }
    void fence() noexcept { memory_and_load_fence(); }
};
static_assert(MsrAccess<processor_msrs>);

} // namespace exo::x86_64
