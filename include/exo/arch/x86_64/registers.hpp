// Numbers and bits of control registers and model-specific registers (SDM volume 3, 2.5, and volume 4).

#pragma once

#include <cstdint>

namespace exo::x86_64 {

namespace cr0 {
inline constexpr std::uint64_t monitor_coprocessor = 1u << 1;
inline constexpr std::uint64_t emulation = 1u << 2;
inline constexpr std::uint64_t task_switched = 1u << 3;
inline constexpr std::uint64_t numeric_error = 1u << 5;
inline constexpr std::uint64_t write_protect = 1u << 16;
} // namespace cr0

namespace cr4 {
inline constexpr std::uint64_t machine_check = 1u << 6;
inline constexpr std::uint64_t global_pages = 1u << 7;
inline constexpr std::uint64_t fxsave = 1u << 9;
inline constexpr std::uint64_t simd_exceptions = 1u << 10;
inline constexpr std::uint64_t umip = 1u << 11;
inline constexpr std::uint64_t fsgsbase = 1u << 16;
inline constexpr std::uint64_t pcid = 1u << 17;
inline constexpr std::uint64_t xsave = 1u << 18;
inline constexpr std::uint64_t smep = 1u << 20;
inline constexpr std::uint64_t smap = 1u << 21;
} // namespace cr4

namespace msr {
inline constexpr std::uint32_t apic_base = 0x1b;
inline constexpr std::uint32_t mcg_cap = 0x179;
inline constexpr std::uint32_t mcg_status = 0x17a;
inline constexpr std::uint32_t mcg_control = 0x17b;
inline constexpr std::uint32_t mc0_control = 0x400; // bank 0's; each further bank's are 4 higher
inline constexpr std::uint32_t mc0_status = 0x401;
inline constexpr std::uint32_t mc0_addr = 0x402;
inline constexpr std::uint32_t mc0_misc = 0x403;
inline constexpr std::uint32_t tsc_deadline = 0x6e0;
inline constexpr std::uint32_t efer = 0xc0000080;
inline constexpr std::uint32_t star = 0xc0000081;
inline constexpr std::uint32_t lstar = 0xc0000082;
inline constexpr std::uint32_t cstar = 0xc0000083;
inline constexpr std::uint32_t syscall_mask = 0xc0000084;
inline constexpr std::uint32_t fs_base = 0xc0000100;
inline constexpr std::uint32_t gs_base = 0xc0000101;
inline constexpr std::uint32_t kernel_gs_base = 0xc0000102;
} // namespace msr

namespace mcg_cap {
inline constexpr std::uint64_t banks = 0xff;
inline constexpr std::uint64_t has_control = 1u << 8;
} // namespace mcg_cap

namespace mcg_status {
inline constexpr std::uint64_t in_progress = 1u << 2;
} // namespace mcg_status

namespace mci_status {
inline constexpr std::uint64_t addr_valid = std::uint64_t{1} << 58;
inline constexpr std::uint64_t misc_valid = std::uint64_t{1} << 59;
inline constexpr std::uint64_t uncorrected = std::uint64_t{1} << 61;
inline constexpr std::uint64_t valid = std::uint64_t{1} << 63;
} // namespace mci_status

namespace efer {
inline constexpr std::uint64_t syscall = 1u << 0;
inline constexpr std::uint64_t long_mode = 1u << 8;
inline constexpr std::uint64_t no_execute = 1u << 11;
} // namespace efer

namespace apic_base_msr {
inline constexpr std::uint64_t x2apic = 1u << 10;
inline constexpr std::uint64_t enable = 1u << 11;
} // namespace apic_base_msr

} // namespace exo::x86_64
