// Tlb and TranslationRoot of x86-64, over the instructions that they are made of (Intel SDM 3A, 4.10.4; 2A, INVPCID):
// boot gives them the CPU's, tests a model of those.
//
// Address-space ids are PCIDs. They are used where the CPU has INVPCID too, which Intel's have since Haswell; with
// them, pages that all spaces share have to be global.

#pragma once

#include <concepts>
#include <cstdint>
#include <utility>

#include <exo/arch/x86_64/cpuid.hpp>
#include <exo/arch/x86_64/paging.hpp>
#include <exo/arch/x86_64/registers.hpp>
#include <exo/base/address.hpp>
#include <exo/base/range.hpp>
#include <exo/hal/tlb.hpp>
#include <exo/hal/translation_root.hpp>

namespace exo::x86_64 {

// CR3 with CR4.PCIDE set.
namespace cr3 {
inline constexpr std::uint64_t id_mask = 0xfff;
inline constexpr std::uint64_t keep = std::uint64_t{1} << 63; // what is remembered under the id; reads as 0
} // namespace cr3

enum class invpcid_type : std::uint64_t { address, id, all, all_but_global };

struct invpcid_descriptor {
    std::uint64_t id{}; // bits 63:12 are reserved
    std::uint64_t address{};
};
static_assert(sizeof(invpcid_descriptor) == 16);

// Whether CR4.PCIDE is to be set, which takes long mode and CR3[11:0] = 0.
[[nodiscard]] constexpr bool uses_ids(const cpu_features& cpu)
{
    return cpu.pcid && cpu.invpcid && cpu.global_pages;
}

// The features are those of the CPU that runs the call. write_cr4 and write_cr3 are the instructions, and nothing else.
template <class T>
concept PagingInstructions = requires(T& cpu, std::uint64_t value, invpcid_type type, const invpcid_descriptor& what) {
    { cpu.features() } noexcept -> std::same_as<const cpu_features&>;
    { cpu.read_cr3() } noexcept -> std::same_as<std::uint64_t>;
    { cpu.write_cr3(value) } noexcept -> std::same_as<void>;
    { cpu.read_cr4() } noexcept -> std::same_as<std::uint64_t>;
    { cpu.write_cr4(value) } noexcept -> std::same_as<void>;
    { cpu.invlpg(value) } noexcept -> std::same_as<void>;
    { cpu.invpcid(type, what) } noexcept -> std::same_as<void>;
};

template <PagingInstructions Cpu>
class tlb {
public:
    explicit tlb(Cpu cpu = {}) : cpu_{cpu} {}

    void invalidate_page(virt_addr a) noexcept { cpu_.invlpg(a.value()); }
    void invalidate_range(const virt_range& r, std::uint64_t step) noexcept
    {
        for (virt_addr a = r.begin; a != r.end; a += step)
            invalidate_page(a);
    }
    void invalidate_space(hal::address_space_id id) noexcept
    {
        if (uses_ids(cpu_.features()))
            cpu_.invpcid(invpcid_type::id, {.id = std::to_underlying(id)});
        else
            cpu_.write_cr3(cpu_.read_cr3());
    }
    // Without INVPCID: changing CR4.PGE forgets global pages too.
    void invalidate_all() noexcept
    {
        if (cpu_.features().invpcid) {
            cpu_.invpcid(invpcid_type::all, {});
        } else if (const std::uint64_t bits = cpu_.read_cr4(); bits & cr4::global_pages) {
            cpu_.write_cr4(bits & ~cr4::global_pages);
            cpu_.write_cr4(bits);
        } else {
            cpu_.write_cr3(cpu_.read_cr3());
        }
    }

private:
    [[no_unique_address]] Cpu cpu_;
};

template <PagingInstructions Cpu>
class page_table_root {
public:
    explicit page_table_root(Cpu cpu = {}) : cpu_{cpu} {}

    void load(const hal::translation_root& root, hal::remembered what) noexcept
    {
        std::uint64_t value = root.table.value() | std::to_underlying(root.id);
        if (what == hal::remembered::keep && uses_ids(cpu_.features()))
            value |= cr3::keep;
        cpu_.write_cr3(value);
    }
    [[nodiscard]] hal::translation_root current() const noexcept
    {
        const std::uint64_t value = cpu_.read_cr3();
        const auto id = uses_ids(cpu_.features()) ? value & cr3::id_mask : 0;
        return {phys_addr{value & paging_4_level::address_mask},
                hal::address_space_id{static_cast<std::uint16_t>(id)}};
    }
    [[nodiscard]] unsigned id_limit() const noexcept { return uses_ids(cpu_.features()) ? cr3::id_mask + 1 : 1; }

private:
    [[no_unique_address]] mutable Cpu cpu_;
};

} // namespace exo::x86_64
