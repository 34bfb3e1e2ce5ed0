// Signals as POSIX defines them, with Linux's numbers: sets, what a signal carries, what a process wants done about
// one, and the queue of those that wait for delivery. Plain data; signals.hpp sends and delivers.

#pragma once

#include <cstdint>

#include <exo/base/address.hpp>
#include <exo/base/result.hpp>
#include <exo/base/static_vector.hpp>
#include <exo/proc/errors.hpp>
#include <exo/proc/process_id.hpp>

namespace exo::proc {

enum class signal : std::uint8_t {
    none = 0,
    sighup = 1,
    sigint = 2,
    sigquit = 3,
    sigill = 4,
    sigtrap = 5,
    sigabrt = 6,
    sigbus = 7,
    sigfpe = 8,
    sigkill = 9,
    sigusr1 = 10,
    sigsegv = 11,
    sigusr2 = 12,
    sigpipe = 13,
    sigalrm = 14,
    sigterm = 15,
    sigstkflt = 16,
    sigchld = 17,
    sigcont = 18,
    sigstop = 19,
    sigtstp = 20,
    sigttin = 21,
    sigttou = 22,
    sigurg = 23,
    sigxcpu = 24,
    sigxfsz = 25,
    sigvtalrm = 26,
    sigprof = 27,
    sigwinch = 28,
    sigio = 29,
    sigpwr = 30,
    sigsys = 31,
    first_real_time = 32,
    last = 64,
};

class signal_set {
public:
    constexpr signal_set() = default;
    constexpr explicit signal_set(std::uint64_t bits) : bits_{bits} {}
    template <class... Signals>
    [[nodiscard]] static constexpr signal_set of(Signals... signals)
    {
        return signal_set{(bit(signals) | ...)};
    }

    // Bit n - 1 stands for signal n, as in Linux's sigset_t.
    [[nodiscard]] constexpr std::uint64_t bits() const { return bits_; }
    [[nodiscard]] constexpr bool empty() const { return bits_ == 0; }
    [[nodiscard]] constexpr bool contains(signal s) const { return (bits_ & bit(s)) != 0; }
    constexpr void add(signal s) { bits_ |= bit(s); }
    constexpr void remove(signal s) { bits_ &= ~bit(s); }
    // The lowest-numbered one, or none.
    [[nodiscard]] constexpr signal first() const
    {
        return bits_ == 0 ? signal::none : static_cast<signal>(__builtin_ctzll(bits_) + 1);
    }

    friend constexpr signal_set operator|(signal_set a, signal_set b) { return signal_set{a.bits_ | b.bits_}; }
    friend constexpr signal_set operator&(signal_set a, signal_set b) { return signal_set{a.bits_ & b.bits_}; }
    friend constexpr signal_set operator-(signal_set a, signal_set b) { return signal_set{a.bits_ & ~b.bits_}; }
    friend constexpr bool operator==(signal_set, signal_set) = default;

private:
    static constexpr std::uint64_t bit(signal s) { return std::uint64_t{1} << (static_cast<unsigned>(s) - 1); }

    std::uint64_t bits_{};
};

inline constexpr signal_set unblockable_signals = signal_set::of(signal::sigkill, signal::sigstop);
inline constexpr signal_set stop_signals =
    signal_set::of(signal::sigstop, signal::sigtstp, signal::sigttin, signal::sigttou);
inline constexpr signal_set ignored_by_default =
    signal_set::of(signal::sigchld, signal::sigcont, signal::sigurg, signal::sigwinch);
// Raised by the thread's own instructions; delivered before all others.
inline constexpr signal_set synchronous_signals = signal_set::of(
    signal::sigsegv, signal::sigbus, signal::sigill, signal::sigtrap, signal::sigfpe, signal::sigsys);

// si_code values (asm-generic/siginfo.h).
namespace signal_code {
inline constexpr std::int32_t user = 0;      // kill
inline constexpr std::int32_t kernel = 0x80; // the kernel, for no finer reason
inline constexpr std::int32_t queue = -1;    // sigqueue
inline constexpr std::int32_t timer = -2;
inline constexpr std::int32_t thread = -6; // tgkill
inline constexpr std::int32_t map_error = 1, access_error = 2;                    // SIGSEGV
inline constexpr std::int32_t alignment = 1, no_address = 2;                      // SIGBUS
inline constexpr std::int32_t integer_divide = 1, integer_overflow = 2;           // SIGFPE
inline constexpr std::int32_t float_divide = 3, float_overflow = 4, float_underflow = 5, float_inexact = 6,
                              float_invalid = 7;                                  // SIGFPE
inline constexpr std::int32_t illegal_operand = 2;                                // SIGILL
inline constexpr std::int32_t trace = 2;                                          // SIGTRAP
inline constexpr std::int32_t exited = 1, killed = 2, stopped = 5, continued = 6; // SIGCHLD
} // namespace signal_code

// What a signal carries. Which members mean something follows from number and code.
struct signal_info {
    signal number{};
    std::int32_t code{};
    process_id sender{};
    std::uint32_t user{};
    std::int32_t status{};   // SIGCHLD: exit code or signal
    std::uint64_t value{};   // sigqueue: the value; faults: the address
};

// What a process wants done about a signal.
struct signal_action {
    static constexpr std::uint64_t default_handler = 0;
    static constexpr std::uint64_t ignore_handler = 1;

    // Linux's values.
    static constexpr std::uint64_t no_child_stop = 1, no_child_wait = 2, with_info = 4, has_restorer = 0x04000000,
                                   on_stack = 0x08000000, restart = 0x10000000, no_defer = 0x40000000,
                                   reset_handler = 0x80000000;

    user_addr handler{};
    std::uint64_t flags{};
    user_addr restorer{};
    signal_set mask{};

    [[nodiscard]] constexpr bool is_default() const { return handler.value() == default_handler; }
    [[nodiscard]] constexpr bool is_ignore() const { return handler.value() == ignore_handler; }
    [[nodiscard]] constexpr bool ignores(signal s) const
    {
        return is_ignore() || (is_default() && ignored_by_default.contains(s));
    }
};

class signal_actions {
public:
    [[nodiscard]] signal_action& operator[](signal s) { return actions_[static_cast<unsigned>(s) - 1]; }
    [[nodiscard]] const signal_action& operator[](signal s) const { return actions_[static_cast<unsigned>(s) - 1]; }

    // As execve wants it: handlers are gone, what is ignored stays ignored.
    void reset_handlers()
    {
        for (auto& a : actions_)
            a = a.is_ignore() ? signal_action{.handler = user_addr{signal_action::ignore_handler}} : signal_action{};
    }

private:
    signal_action actions_[static_cast<unsigned>(signal::last)];
};

// Signals that wait for delivery. A standard signal is pending once or not; a real-time signal queues, in order.
// Information is kept for a bounded number: a standard signal beyond it stays pending without, a real-time one is
// refused.
class pending_signals {
public:
    static constexpr std::size_t information_limit = 8;

    [[nodiscard]] signal_set set() const { return set_; }

    // Errors: signal_queue_full.
    result<> add(const signal_info& info)
    {
        const bool real_time = info.number >= signal::first_real_time;
        if (!real_time && set_.contains(info.number))
            return {};
        if (!queue_.try_push_back(info) && real_time)
            return fail(errors::signal_queue_full, information_limit);
        set_.add(info.number);
        return {};
    }

    // The first pending signal of `wanted` (synchronous ones first, then by number), taken off; number none if there is
    // no such signal.
    signal_info take(signal_set wanted)
    {
        const auto candidates = set_ & wanted;
        const auto synchronous = candidates & synchronous_signals;
        const signal s = synchronous.empty() ? candidates.first() : synchronous.first();
        if (s == signal::none)
            return {};
        signal_info taken{.number = s, .code = signal_code::user};
        bool found = false;
        bool more = false;
        static_vector<signal_info, information_limit> kept;
        for (const auto& info : queue_) {
            if (info.number == s && !found) {
                taken = info;
                found = true;
            } else {
                more = more || info.number == s;
                kept.push_back(info);
            }
        }
        queue_ = kept;
        if (!more)
            set_.remove(s);
        return taken;
    }

    void remove(signal_set unwanted)
    {
        static_vector<signal_info, information_limit> kept;
        for (const auto& info : queue_)
            if (!unwanted.contains(info.number))
                kept.push_back(info);
        queue_ = kept;
        set_ = set_ - unwanted;
    }

private:
    signal_set set_;
    static_vector<signal_info, information_limit> queue_;
};

} // namespace exo::proc
