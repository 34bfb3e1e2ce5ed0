// x87, SSE and AVX state: how much memory it needs, what a fresh program starts with, and saving and restoring it
// (SDM volume 1, chapters 10 and 13).
//
// XSAVE where the CPU has it, with the components that fpu_layout names; FXSAVE otherwise.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <exo/arch/x86_64/cpuid.hpp>

namespace exo::x86_64 {

inline constexpr std::size_t fxsave_bytes = 512;
inline constexpr std::size_t fpu_alignment = 64;
inline constexpr std::uint32_t default_mxcsr = 0x1f80; // all SIMD exceptions masked, round to nearest
inline constexpr std::uint16_t default_x87_control = 0x37f;

struct fpu_layout {
    bool xsave{};
    std::uint64_t components{3}; // XCR0: x87 and SSE
    std::size_t bytes{fxsave_bytes};

    // AVX takes part when present; `xsave_bytes` for other components is left to CPUID leaf 0DH once XCR0 is set.
    [[nodiscard]] static constexpr fpu_layout for_cpu(const cpu_features& cpu)
    {
        constexpr std::uint64_t avx_component = 4;
        constexpr std::size_t header_bytes = 64;
        constexpr std::size_t avx_bytes = 256;
        fpu_layout layout;
        if (!cpu.xsave)
            return layout;
        layout.xsave = true;
        layout.bytes = fxsave_bytes + header_bytes;
        if (cpu.avx) {
            layout.components |= avx_component;
            layout.bytes += avx_bytes;
        }
        return layout;
    }

    // State of a program that has not touched the FPU. `area` has `bytes` bytes.
    constexpr void initialize(std::span<std::byte> area) const
    {
        for (std::byte& b : area)
            b = std::byte{};
        area[0] = static_cast<std::byte>(default_x87_control & 0xff);
        area[1] = static_cast<std::byte>(default_x87_control >> 8);
        area[24] = static_cast<std::byte>(default_mxcsr & 0xff);
        area[25] = static_cast<std::byte>(default_mxcsr >> 8);
        if (xsave)
            area[fxsave_bytes] = std::byte{3}; // XSTATE_BV: x87 and SSE come from the area, the rest is initial
    }

    // Whether loading the area, which a program may have written, raises no exception (SDM volume 1, 10.5.1.2 and
    // 13.8): no reserved bits of MXCSR and of the XSAVE header, no component that is not enabled.
    [[nodiscard]] constexpr bool is_loadable(std::span<const std::byte> area) const
    {
        constexpr std::size_t mxcsr_at = 24, header_words_at = fxsave_bytes;
        constexpr std::uint64_t mxcsr_defined = 0xffff;
        const auto word = [&](std::size_t at, unsigned size) {
            std::uint64_t value = 0;
            for (unsigned i = size; i-- > 0;)
                value = value << 8 | std::to_integer<std::uint64_t>(area[at + i]);
            return value;
        };
        if ((word(mxcsr_at, 4) & ~mxcsr_defined) != 0)
            return false;
        if (!xsave)
            return true;
        if ((word(header_words_at, 8) & ~components) != 0)
            return false;
        for (std::size_t at = header_words_at + 8; at < header_words_at + 64; at += 8)
            if (word(at, 8) != 0)
                return false;
        return true;
    }
};

#if defined(__x86_64__)

// `area` is aligned to fpu_alignment and as long as the layout says.
inline void save_fpu(const fpu_layout& layout, std::byte* area) noexcept
{
    if (layout.xsave)
        asm volatile("xsave64 (%0)"
                     :
                     : "r"(area), "a"(static_cast<std::uint32_t>(layout.components)), "d"(0)
                     : "memory");
    else
        asm volatile("fxsave64 (%0)" : : "r"(area) : "memory");
}

inline void restore_fpu(const fpu_layout& layout, const std::byte* area) noexcept
{
    if (layout.xsave)
        asm volatile("xrstor64 (%0)"
                     :
                     : "r"(area), "a"(static_cast<std::uint32_t>(layout.components)), "d"(0)
                     : "memory");
    else
        asm volatile("fxrstor64 (%0)" : : "r"(area) : "memory");
}

inline void write_xcr0(std::uint64_t components) noexcept
{
    asm volatile("xsetbv" : : "c"(0), "a"(static_cast<std::uint32_t>(components)), "d"(0) : "memory");
}

#endif

} // namespace exo::x86_64
