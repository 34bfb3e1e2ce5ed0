// What the tests of processes share: calls by short names, and a kernel that runs one function as its first program.

#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include <exo/base/check.hpp>
#include <exo/base/posix.hpp>
#include <exo/linux/restartable_sequence.hpp>
#include <exo/linux/signal_calls.hpp>
#include <exo/proc/signal.hpp>
#include <exo/proc/wait_status.hpp>
#include <exo/sim/kernel.hpp>

// In kernel_instance.cpp.
extern template class exo::kernel_system<exo::sim::kernel_platform>;
extern template class exo::kernel<exo::sim::kernel_platform>;
extern template class exo::proc::out_of_memory_killer<exo::kernel_system<exo::sim::kernel_platform>>;

namespace world {

using exo::proc::signal;
using exo::proc::signal_action;
using exo::proc::wait_status;
using exo::sim::simulated_kernel;
using view = simulated_kernel::program;
using nr = exo::linux_abi::number;

constexpr std::int64_t minus(exo::posix e) { return -static_cast<std::int64_t>(e); }

struct reaped {
    std::int64_t id;
    int word;
};

inline reaped wait_for(view& self, std::int64_t which = -1, unsigned options = 0)
{
    const auto stack = self.frame.rsp;
    const auto at = self.allocate(8);
    const auto id = self.call(nr::wait4, which, at, options, 0);
    const reaped found{id, id > 0 ? self.load<int>(at) : 0};
    self.frame.rsp = stack;
    return found;
}

inline std::int64_t set_action(view& self, const simulated_kernel& machine, signal s, std::uint64_t handler,
                               std::uint64_t flags = 0, std::uint64_t mask = 0)
{
    const auto stack = self.frame.rsp;
    const auto at = self.allocate(sizeof(exo::linux_abi::action_record));
    self.store(at, exo::linux_abi::action_record{.handler = handler,
                                                 .flags = flags | signal_action::has_restorer,
                                                 .restorer = machine.restorer(),
                                                 .mask = mask});
    const auto outcome = self.call(nr::rt_sigaction, static_cast<int>(s), at, 0, 8);
    self.frame.rsp = stack;
    return outcome;
}

inline std::int64_t change_mask(view& self, int how, exo::proc::signal_set set)
{
    const auto stack = self.frame.rsp;
    const auto at = self.allocate(8);
    self.store(at, set.bits());
    const auto outcome = self.call(nr::rt_sigprocmask, how, at, 0, 8);
    self.frame.rsp = stack;
    return outcome;
}

inline std::int64_t sleep_for(view& self, std::int64_t nanoseconds)
{
    const auto stack = self.frame.rsp;
    const auto at = self.allocate(16);
    self.store(at, exo::linux_abi::time_record{nanoseconds / 1'000'000'000, nanoseconds % 1'000'000'000});
    const auto outcome = self.call(nr::nanosleep, at, 0);
    self.frame.rsp = stack;
    return outcome;
}

// CLONE_VM, FS, FILES, SIGHAND, THREAD and SYSVSEM; with TLS, and its number at the start and the end of the thread.
constexpr std::uint64_t thread_flags = 0x50f00, with_tls = 0x80000, tells_parent = 0x100000, clears_id = 0x200000,
                        tells_child = 0x1000000;

// Starts `function` as a thread on a stack of its own; r12 takes `argument` there. A word at `id`, if it is not 0,
// holds the thread's number as long as it lives. Returns the number.
inline std::int64_t spawn(view& self, std::uint64_t function, std::uint64_t id = 0, std::uint64_t argument = 0)
{
    constexpr std::uint64_t stack_size = 65536;
    const auto stack = self.call(nr::mmap, 0, stack_size, 3, 0x22, -1, 0);
    if (stack < 0)
        return stack;
    const auto saved = std::exchange(self.frame.r12, argument);
    const auto flags = thread_flags | (id != 0 ? tells_parent | clears_id : 0);
    const auto made = self.call_from(function, nr::clone, flags, stack + stack_size - 64, id, id, 0);
    self.frame.r12 = saved;
    return made;
}

[[noreturn]] inline void exit_thread(view& self, int code = 0)
{
    static_cast<void>(self.call(nr::exit, code));
    EXO_PANIC("exit returned");
}

// Waits until the kernel has cleared the word that holds a thread's number.
inline void join(view& self, std::uint64_t id)
{
    while (const auto living = self.load<std::uint32_t>(id))
        self.call(nr::futex, id, 0, living, 0);
}

inline std::string read_file(view& self, std::string_view path)
{
    const auto stack = self.frame.rsp;
    const auto file = self.call(nr::open, self.put(path), 0, 0);
    const auto at = self.allocate(4096);
    const auto size = file < 0 ? file : self.call(nr::read, file, at, 4096);
    std::string text;
    for (std::int64_t i = 0; i < size; ++i)
        text += self.load<char>(at + static_cast<std::uint64_t>(i));
    if (file >= 0)
        self.call(nr::close, file);
    self.frame.rsp = stack;
    return text;
}

inline std::int64_t execute(view& self, std::string_view path, std::initializer_list<std::string_view> arguments,
                            std::initializer_list<std::string_view> environment = {})
{
    const auto stack = self.frame.rsp;
    const auto name = self.put(path);
    const auto outcome = self.call(nr::execve, name, self.put_strings(arguments), self.put_strings(environment));
    self.frame.rsp = stack;
    return outcome;
}

// Of a program that has just started.
inline std::string argument(view& self, std::size_t i)
{
    return self.load_string(self.load<std::uint64_t>(self.frame.rsp + 8 + 8 * i));
}

inline std::uint64_t free_frames(simulated_kernel& machine) { return machine.kernel().frames().free_frames(); }

// Until it ends by itself: that it came to rest before would mean that somebody waits for ever.
template <class Function>
void run_to_end(simulated_kernel& machine, Function init)
{
    CHECK(machine.run(std::move(init)) == 0);
}

// The machine had nothing to object to.
// After a run: init ended with this status, -1 for none, and so none of its checks was left out by a signal that ended
// it.
inline void check_clean(simulated_kernel& machine, int status = 0)
{
    CHECK(machine.exit_status().value_or(-1) == status);
    for (const auto& violation : machine.platform().violations())
        FAIL_CHECK(violation);
}

} // namespace world
