// A whole kernel: every room of the library over one Platform (platform.hpp says what that owes, and when it calls what
// stands here).

#pragma once

#include <cstdint>
#include <span>

#include <exo/base/address.hpp>
#include <exo/mm/fault.hpp>
#include <exo/platform.hpp>
#include <exo/proc/fault.hpp>

namespace exo {

template <class Platform>
class kernel {
public:
    using frame = typename Platform::user_mode_type::frame;

    explicit kernel(Platform& platform);

    // The boot CPU's idle thread from here on.
    [[noreturn]] void run();

    // Entry points; see platform.hpp.
    void on_system_call(frame& f);
    void on_page_fault(frame& f, virt_addr at, mm::access how);
    [[nodiscard]] bool resolve_fault(virt_addr at, mm::access how);
    void on_exception(frame& f, proc::fault what);
    void on_return_to_user(frame& f);
    [[nodiscard]] bool return_work_pending() noexcept;
    void on_timer() noexcept;
    void preempt_if_needed() noexcept;
    void on_console_input(std::span<const std::byte> bytes) noexcept;
};

} // namespace exo
