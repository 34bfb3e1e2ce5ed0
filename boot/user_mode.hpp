// UserMode (hal/user_mode.hpp) on x86_64.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

#include <exo/arch/x86_64/fpu.hpp>
#include <exo/arch/x86_64/instructions.hpp>
#include <exo/arch/x86_64/registers.hpp>
#include <exo/arch/x86_64/trap_frame.hpp>
#include <exo/base/errors.hpp>
#include <exo/hal/user_mode.hpp>

#include "cpu.hpp"

extern "C" {
std::size_t exo_user_copy(void* to, const void* from, std::size_t bytes);
int exo_user_compare_exchange(std::uint32_t* at, std::uint32_t* expected, std::uint32_t desired);
[[noreturn]] void exo_enter_user(exo::x86_64::trap_frame* frame);
// traps.cpp: what is to be done before every return to user mode. Leaves interrupts off.
void exo_prepare_user_return(exo::x86_64::trap_frame* frame);
}

namespace exo::boot {

class ring3_mode {
public:
    using frame = x86_64::trap_frame;

    // The area is placed at the first multiple of 64 inside of the storage, anew in each copy.
    class state {
    public:
        state() = default;
        state(const state& other) { *this = other; }
        state& operator=(const state& other)
        {
            if (this != &other) {
                fs_base = other.fs_base;
                gs_base = other.gs_base;
                std::memcpy(area(), other.area(), most_bytes);
            }
            return *this;
        }

    private:
        friend class ring3_mode;
        static constexpr std::size_t most_bytes = x86_64::fxsave_bytes + 64 + 256;

        [[nodiscard]] std::byte* area() { return const_cast<std::byte*>(std::as_const(*this).area()); }
        [[nodiscard]] const std::byte* area() const
        {
            const auto at = reinterpret_cast<std::uintptr_t>(storage_);
            return storage_ + ((at + x86_64::fpu_alignment - 1) & ~(x86_64::fpu_alignment - 1)) - at;
        }

        std::byte storage_[most_bytes + x86_64::fpu_alignment]{};
        std::uint64_t fs_base{};
        std::uint64_t gs_base{};
    };

    // The last page of the lower half stays unused: so RIP after a SYSCALL is canonical (SDM volume 2, SYSRET).
    static constexpr user_addr limit{0x7fff'ffff'f000};

    // Once the features of the CPU are known.
    void initialize() noexcept
    {
        layout_ = x86_64::fpu_layout::for_cpu(features());
        if (layout_.xsave && layout_.components > 3)
            layout_.bytes = x86_64::cpuid(0xd, 0).ebx;
        EXO_CHECK(layout_.bytes <= state::most_bytes);
    }

    [[nodiscard]] frame start_frame(user_addr entry, user_addr stack) noexcept
    {
        frame f;
        f.rip = entry.value();
        f.rsp = stack.value();
        sanitize(f);
        return f;
    }

    void sanitize(frame& f) noexcept
    {
        f.cs = x86_64::selector::user_code;
        f.ss = x86_64::selector::user_data;
        f.rflags = (f.rflags & x86_64::rflags::user_settable) | x86_64::rflags::interrupt | x86_64::rflags::fixed;
        if (f.rip >= limit.value())
            f.rip = 0;
    }

    [[noreturn]] void enter(frame& f) noexcept
    {
        exo_prepare_user_return(&f);
        exo_enter_user(&f);
    }

    [[nodiscard]] user_addr user_limit() noexcept { return limit; }

    [[nodiscard]] std::size_t copy_from_user(std::byte* to, user_addr from, std::size_t size)
    {
        const std::size_t reachable = within(from, size);
        const user_access open;
        return reachable - exo_user_copy(to, reinterpret_cast<const void*>(from.value()), reachable);
    }
    [[nodiscard]] std::size_t copy_to_user(user_addr to, const std::byte* from, std::size_t size)
    {
        const std::size_t reachable = within(to, size);
        const user_access open;
        return reachable - exo_user_copy(reinterpret_cast<void*>(to.value()), from, reachable);
    }
    [[nodiscard]] result<std::uint32_t> compare_exchange_user(user_addr at, std::uint32_t expected,
                                                              std::uint32_t desired)
    {
        if (within(at, sizeof expected) < sizeof expected || !at.is_aligned(sizeof expected))
            return fail(errors::bad_address, at.value());
        const user_access open;
        if (exo_user_compare_exchange(reinterpret_cast<std::uint32_t*>(at.value()), &expected, desired) != 0)
            return fail(errors::bad_address, at.value());
        return expected;
    }

    void save(state& s) noexcept { x86_64::save_fpu(layout_, s.area()); }
    void load(const state& s) noexcept
    {
        x86_64::restore_fpu(layout_, s.area());
        x86_64::write_msr(x86_64::msr::fs_base, s.fs_base);
        if (cpu_block& cpu = this_cpu(); cpu.user_gs_base != s.gs_base) {
            x86_64::write_msr(x86_64::msr::kernel_gs_base, s.gs_base);
            cpu.user_gs_base = s.gs_base;
        }
    }
    void reset(state& s) noexcept
    {
        layout_.initialize({s.area(), layout_.bytes});
        s.fs_base = 0;
        s.gs_base = 0;
    }
    // The bases of FS and GS change through arch_prctl only (FSGSBASE is off), so the state always knows them.
    [[nodiscard]] std::uint64_t tls_base(const state& s) noexcept { return s.fs_base; }
    void set_tls_base(state& s, std::uint64_t base) noexcept { s.fs_base = base < limit.value() ? base : 0; }
    [[nodiscard]] std::uint64_t gs_base(const state& s) noexcept { return s.gs_base; }
    void set_gs_base(state& s, std::uint64_t base) noexcept { s.gs_base = base < limit.value() ? base : 0; }

    [[nodiscard]] std::span<const std::byte> fpu_image(const state& s) noexcept { return {s.area(), layout_.bytes}; }
    // An image of the legacy area alone is taken too: what it does not tell starts afresh.
    [[nodiscard]] result<> set_fpu_image(state& s, std::span<const std::byte> image) noexcept
    {
        if (image.size() < x86_64::fxsave_bytes)
            return fail(errors::invalid_argument, image.size());
        state taken = s;
        reset(taken);
        std::memcpy(taken.area(), image.data(), image.size() < layout_.bytes ? image.size() : layout_.bytes);
        if (!layout_.is_loadable({taken.area(), layout_.bytes}))
            return fail(errors::invalid_argument);
        std::memcpy(s.area(), taken.area(), layout_.bytes);
        return {};
    }

    void set_kernel_stack(std::byte* top) noexcept
    {
        cpu_block& cpu = this_cpu();
        cpu.kernel_stack = reinterpret_cast<std::uint64_t>(top);
        cpu.task.stack_of_ring[0] = cpu.kernel_stack;
    }

    // AT_HWCAP on x86-64 is EDX of CPUID leaf 1.
    [[nodiscard]] std::uint64_t hardware_capabilities() noexcept { return x86_64::cpuid(1).edx; }

private:
    // While one lives, SMAP lets the kernel reach user pages. A trap in between closes the door for its handler.
    class user_access {
    public:
        user_access() noexcept
        {
            if (features().smap)
                x86_64::permit_user_access();
        }
        user_access(const user_access&) = delete;
        ~user_access()
        {
            if (features().smap)
                x86_64::forbid_user_access();
        }
    };

    // How many of the `size` bytes from `at` on lie in the user half.
    [[nodiscard]] static std::size_t within(user_addr at, std::size_t size)
    {
        if (at >= limit)
            return 0;
        const std::uint64_t room = limit - at;
        return size < room ? size : room;
    }

    x86_64::fpu_layout layout_;
};
static_assert(hal::UserMode<ring3_mode>);

} // namespace exo::boot
