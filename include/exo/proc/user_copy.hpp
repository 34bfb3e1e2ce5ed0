// The kernel's way to user memory, the calling thread's: every access goes by here (hal/user_mode.hpp has the laws).
//
// An access may take the fault that brings a page in, from disk perhaps. So no lock is held that the fault may take,
// and none for which others should not have to wait that long; checked in debug builds. Who has to look at a word under
// such a lock looks at what is present only, and brings the page in when it has let go.

#pragma once

#include <cstddef>
#include <cstdint>

#include <exo/base/address.hpp>
#include <exo/base/check.hpp>
#include <exo/base/result.hpp>
#include <exo/sync/held_locks.hpp>
#include <exo/sync/lock_observer.hpp>

namespace exo::proc {

// While one lives, the calling thread's accesses to what is not present fail like those to what is not mapped.
template <class Thread>
class [[nodiscard]] present_memory_only {
public:
    explicit present_memory_only(Thread& t) : thread_{t}
    {
        EXO_CHECK(!t.present_memory_only);
        t.present_memory_only = true;
    }
    present_memory_only(const present_memory_only&) = delete;
    present_memory_only& operator=(const present_memory_only&) = delete;
    ~present_memory_only() { thread_.present_memory_only = false; }

private:
    Thread& thread_;
};

namespace detail {

template <class System>
void check_user_copy(System& system)
{
    if constexpr (sync::locks_are_checked)
        if (!system.current_thread().present_memory_only)
            sync::enforce(sync::misuse_by_copying_user_memory(system.scheduler()));
}

} // namespace detail

template <class System>
[[nodiscard]] std::size_t copy_from_user(System& system, std::byte* to, user_addr from, std::size_t size)
{
    detail::check_user_copy(system);
    return system.user_mode().copy_from_user(to, from, size);
}
template <class System>
[[nodiscard]] std::size_t copy_to_user(System& system, user_addr to, const std::byte* from, std::size_t size)
{
    detail::check_user_copy(system);
    return system.user_mode().copy_to_user(to, from, size);
}
template <class System>
[[nodiscard]] result<std::uint32_t> compare_exchange_user(System& system, user_addr at, std::uint32_t expected,
                                                          std::uint32_t desired)
{
    detail::check_user_copy(system);
    return system.user_mode().compare_exchange_user(at, expected, desired);
}

} // namespace exo::proc
