// What CPUID says (SDM volume 2, CPUID), decoded from leaves that the caller read: the same code judges a recorded CPU.

#pragma once

#include <array>
#include <concepts>
#include <cstdint>
#include <string_view>

namespace exo::x86_64 {

struct cpuid_leaf {
    std::uint32_t eax{}, ebx{}, ecx{}, edx{};
};

struct cpu_features {
    bool nx{};
    bool gibibyte_pages{};
    bool syscall{};
    bool machine_check{};
    bool machine_check_banks{};
    bool global_pages{};
    bool fxsave{};
    bool xsave{};
    bool avx{};
    bool smep{};
    bool smap{};
    bool umip{};
    bool fsgsbase{};
    bool pcid{};
    bool invpcid{};
    bool x2apic{};
    bool tsc_deadline{};
    bool invariant_tsc{};
    bool rdrand{};
    bool rdseed{};
    bool hypervisor{};
    bool five_levels{};
    unsigned physical_address_bits{36};
    std::uint32_t xsave_area_bytes{}; // for everything that XCR0 can enable
    std::uint32_t signature{};        // family, model and stepping as leaf 1 gives them
    std::array<char, 12> vendor{};
    std::array<char, 48> brand{};

    // Whether the time-stamp counter goes on at one rate in every state of the CPU (SDM volume 3, 18.17.1). A virtual
    // machine's does, whether it says so or not, as long as it stays on its host.
    [[nodiscard]] constexpr bool constant_tsc() const { return invariant_tsc || hypervisor; }

    [[nodiscard]] constexpr std::string_view vendor_name() const { return {vendor.data(), vendor.size()}; }
    [[nodiscard]] constexpr std::string_view brand_name() const
    {
        std::string_view name{brand.data(), brand.size()};
        if (const auto end = name.find('\0'); end != name.npos)
            name = name.substr(0, end);
        return name;
    }
    [[nodiscard]] constexpr unsigned family() const
    {
        const unsigned base = signature >> 8 & 0xf;
        return base == 0xf ? base + (signature >> 20 & 0xff) : base;
    }
    [[nodiscard]] constexpr unsigned model() const
    {
        const unsigned base = signature >> 4 & 0xf;
        const unsigned f = signature >> 8 & 0xf;
        return f == 0xf || f == 6 ? base | (signature >> 12 & 0xf0) : base;
    }
    [[nodiscard]] constexpr unsigned stepping() const { return signature & 0xf; }

    // `leaf(function, index)` returns a cpuid_leaf.
    template <std::invocable<std::uint32_t, std::uint32_t> Leaf>
    [[nodiscard]] static constexpr cpu_features read(Leaf leaf)
    {
        const auto bit = [](std::uint32_t word, unsigned b) { return (word >> b & 1) != 0; };
        const auto put = [](char* at, std::uint32_t word) {
            for (unsigned i = 0; i < 4; ++i)
                at[i] = static_cast<char>(word >> 8 * i & 0xff);
        };
        cpu_features f;
        const cpuid_leaf zero = leaf(0, 0);
        put(f.vendor.data(), zero.ebx);
        put(f.vendor.data() + 4, zero.edx);
        put(f.vendor.data() + 8, zero.ecx);

        const cpuid_leaf one = leaf(1, 0);
        f.signature = one.eax;
        f.machine_check = bit(one.edx, 7);
        f.global_pages = bit(one.edx, 13);
        f.machine_check_banks = bit(one.edx, 14);
        f.fxsave = bit(one.edx, 24);
        f.pcid = bit(one.ecx, 17);
        f.x2apic = bit(one.ecx, 21);
        f.tsc_deadline = bit(one.ecx, 24);
        f.xsave = bit(one.ecx, 26);
        f.avx = bit(one.ecx, 28);
        f.rdrand = bit(one.ecx, 30);
        f.hypervisor = bit(one.ecx, 31);
        if (zero.eax >= 7) {
            const cpuid_leaf seven = leaf(7, 0);
            f.fsgsbase = bit(seven.ebx, 0);
            f.smep = bit(seven.ebx, 7);
            f.invpcid = bit(seven.ebx, 10);
            f.rdseed = bit(seven.ebx, 18);
            f.smap = bit(seven.ebx, 20);
            f.umip = bit(seven.ecx, 2);
            f.five_levels = bit(seven.ecx, 16);
        }
        if (f.xsave && zero.eax >= 0xd)
            f.xsave_area_bytes = leaf(0xd, 0).ecx;

        const std::uint32_t extended = leaf(0x80000000, 0).eax;
        if (extended >= 0x80000001) {
            const cpuid_leaf e1 = leaf(0x80000001, 0);
            f.syscall = bit(e1.edx, 11);
            f.nx = bit(e1.edx, 20);
            f.gibibyte_pages = bit(e1.edx, 26);
        }
        if (extended >= 0x80000004) {
            for (std::uint32_t i = 0; i < 3; ++i) {
                const cpuid_leaf part = leaf(0x80000002 + i, 0);
                put(f.brand.data() + 16 * i, part.eax);
                put(f.brand.data() + 16 * i + 4, part.ebx);
                put(f.brand.data() + 16 * i + 8, part.ecx);
                put(f.brand.data() + 16 * i + 12, part.edx);
            }
        }
        if (extended >= 0x80000007)
            f.invariant_tsc = bit(leaf(0x80000007, 0).edx, 8);
        if (extended >= 0x80000008)
            f.physical_address_bits = leaf(0x80000008, 0).eax & 0xff;
        return f;
    }
};

} // namespace exo::x86_64
