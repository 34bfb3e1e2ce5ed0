// Typed errors: what went wrong, about what, and what a caller can sensibly do next.
//
// Each failure that the library can report is one constant of type error_kind, declared by the room that reports it
// (base/errors.hpp holds those that every room shares). An error refers to its kind by address, so kinds compare in one
// instruction and need no central table; it is as cheap to return as two registers.

#pragma once

#include <cstdint>
#include <string_view>

#include <exo/base/posix.hpp>

namespace exo {

enum class severity : std::uint8_t {
    expected, // part of normal operation: end of a walk, would block
    caller,   // the request was wrong; the system is fine
    degraded, // the system works, but something was lost or is exhausted
    critical, // state that the kernel relies on is damaged
};

// What a caller can do about a failure. Each kind names its own; it is advice to code, not to people.
enum class recovery : std::uint8_t {
    retry,
    back_off,
    reclaim_memory,
    shrink_request,
    fix_input,
    kill_task,
    remount_read_only,
    give_up,
};

struct error_kind {
    std::string_view domain;
    std::string_view name;
    std::string_view message;
    posix errno_value;
    severity level;
    recovery hint;
    std::string_view subject; // what an error's context is, or nothing
    std::string_view advice;  // to people: what to do about this kind, or nothing

    error_kind(const error_kind&) = delete;
    error_kind& operator=(const error_kind&) = delete;
    consteval error_kind(std::string_view d, std::string_view n, std::string_view m, posix e, severity s, recovery r,
                         std::string_view what = {}, std::string_view how = {})
        : domain{d}, name{n}, message{m}, errno_value{e}, level{s}, hint{r}, subject{what}, advice{how}
    {
    }
};

class error {
public:
    // `context` says about what: an address, a block number, an id; its meaning belongs to the kind's comment.
    constexpr error(const error_kind& kind, std::uint64_t context = 0) : kind_{&kind}, context_{context} {}

    [[nodiscard]] constexpr const error_kind& kind() const { return *kind_; }
    [[nodiscard]] constexpr std::uint64_t context() const { return context_; }
    [[nodiscard]] constexpr posix errno_value() const { return kind_->errno_value; }

    friend constexpr bool operator==(error a, const error_kind& kind) { return a.kind_ == &kind; }
    friend constexpr bool operator==(error, error) = default;

private:
    const error_kind* kind_;
    std::uint64_t context_;
};

} // namespace exo
