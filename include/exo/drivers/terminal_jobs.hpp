// What a terminal has to know of processes (POSIX XBD 11.1): the room above supplies it, since terminals know none.

#pragma once

#include <cstdint>

#include <exo/drivers/line_discipline.hpp>

namespace exo::drivers {

class terminal_jobs {
public:
    using id = std::int32_t; // of a process, a process group or a session; 0: none

    struct identity {
        id process{};
        id group{};
        id session{};
        bool privileged{};

        [[nodiscard]] bool leads_session() const { return process != 0 && process == session; }
    };

    // Of the calling thread.
    [[nodiscard]] virtual identity caller() noexcept = 0;
    // The session that a group belongs to, or 0 if there is no such group.
    [[nodiscard]] virtual id session_of_group(id group) noexcept = 0;
    // To every member of the group. From any context, an interrupt handler included; no lock of the terminal is held.
    virtual void signal_group(id group, terminal_signal s) noexcept = 0;

    // The caller's background group wants what only the foreground may do.
    enum class background : std::uint8_t {
        ignored,   // the caller ignores or blocks `s`
        orphaned,  // nobody could continue the group, so it is not stopped
        signalled, // `s` was sent to the group
    };
    [[nodiscard]] virtual background signal_background(terminal_signal s) noexcept = 0;

protected:
    ~terminal_jobs() = default;
};

// For a terminal without job control.
class no_jobs final : public terminal_jobs {
public:
    [[nodiscard]] identity caller() noexcept override { return {}; }
    [[nodiscard]] id session_of_group(id) noexcept override { return 0; }
    void signal_group(id, terminal_signal) noexcept override {}
    [[nodiscard]] background signal_background(terminal_signal) noexcept override { return background::ignored; }
};

} // namespace exo::drivers
