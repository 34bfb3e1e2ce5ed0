// How a process ended, or what else its parent may learn: the status word of wait(2), as Linux encodes it.

#pragma once

#include <cstdint>

#include <exo/proc/signal.hpp>

namespace exo::proc {

class wait_status {
public:
    constexpr wait_status() = default;
    [[nodiscard]] static constexpr wait_status exited(int code) { return wait_status{(code & 0xff) << 8}; }
    // Never with the flag that says that there is a core image (0x80): none is written.
    [[nodiscard]] static constexpr wait_status killed(signal by) { return wait_status{static_cast<int>(by)}; }
    [[nodiscard]] static constexpr wait_status stopped(signal by)
    {
        return wait_status{static_cast<int>(by) << 8 | 0x7f};
    }
    [[nodiscard]] static constexpr wait_status continued() { return wait_status{0xffff}; }

    [[nodiscard]] constexpr int word() const { return word_; }
    [[nodiscard]] constexpr bool was_killed() const { return (word_ & 0x7f) != 0 && (word_ & 0x7f) != 0x7f; }
    // The exit code, or the signal that killed or stopped.
    [[nodiscard]] constexpr int code() const { return was_killed() ? word_ & 0x7f : (word_ >> 8) & 0xff; }
    // What SIGCHLD and waitid say about it: si_code and si_status.
    struct child_record {
        std::int32_t code;
        std::int32_t status;
    };
    [[nodiscard]] constexpr child_record child_signal() const
    {
        if (*this == continued())
            return {signal_code::continued, static_cast<std::int32_t>(signal::sigcont)};
        if ((word_ & 0xff) == 0x7f)
            return {signal_code::stopped, code()};
        if (was_killed())
            return {signal_code::killed, code()};
        return {signal_code::exited, code()};
    }
    // As a shell reports it: 128 + signal for a process that was killed.
    [[nodiscard]] constexpr int shell_status() const { return was_killed() ? 128 + code() : code(); }

    friend constexpr bool operator==(wait_status, wait_status) = default;

private:
    constexpr explicit wait_status(int word) : word_{word} {}
    int word_{};
};

} // namespace exo::proc
