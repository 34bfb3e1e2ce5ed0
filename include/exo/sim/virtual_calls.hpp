// How virtual CPUs wait for each other: the Atomics whose pause() lets the others go on, and the Ipi over them. Who
// calls others goes on when they have served the call; until then any CPU may.

#pragma once

#include <atomic>
#include <vector>

#include <exo/base/check.hpp>
#include <exo/base/cpu_set.hpp>
#include <exo/hal/atomics.hpp>
#include <exo/hal/ipi.hpp>
#include <exo/sim/virtual_cpus.hpp>
#include <exo/sync/cross_calls.hpp>

namespace exo::sim {

struct virtual_atomics {
    template <class T>
    using atomic = std::atomic<T>;

    static void fence(std::memory_order order) noexcept { std::atomic_thread_fence(order); }
    static void pause() noexcept
    {
        if (virtual_cpus* const machine = virtual_cpus::here())
            machine->wait_for_others();
    }
    static void back_off(unsigned) noexcept {}
};
static_assert(hal::Atomics<virtual_atomics>);

class virtual_calls {
public:
    explicit virtual_calls(virtual_cpus& cpus)
        : cpus_{cpus}, processors_(cpus.cpu_limit()), calls_{processors_, *this, cpus}
    {
    }
    virtual_calls(const virtual_calls&) = delete;
    virtual_calls& operator=(const virtual_calls&) = delete;

    // hal::Ipi
    void call(const cpu_set& targets, void (*function)(void*) noexcept, void* argument) noexcept
    {
        EXO_CHECK(!cpus_.enabled()); // or the caller might be moved
        calls_.call(targets, function, argument);
    }
    // sync::Signal
    void signal(unsigned cpu) noexcept
    {
        cpus_.interrupt(cpu, [this] { calls_.serve(); });
    }

private:
    using calls_type = sync::cross_calls<virtual_calls, virtual_cpus, virtual_atomics>;

    virtual_cpus& cpus_;
    std::vector<calls_type::processor> processors_;
    calls_type calls_;
};
static_assert(hal::Ipi<virtual_calls>);

} // namespace exo::sim
