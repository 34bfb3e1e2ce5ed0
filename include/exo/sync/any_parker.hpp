// A Parker and an InterruptControl behind one interface, so that what sleeps (wait queues, mutexes, and through them
// the whole of fs) need not be a template over the scheduler. The calls that go through it are those about to sleep or
// wake.

#pragma once

#include <cstdint>

#include <exo/base/time.hpp>
#include <exo/hal/interrupt_control.hpp>
#include <exo/hal/parker.hpp>
#include <exo/sync/held_locks.hpp>
#include <exo/sync/lock_counters.hpp>

namespace exo::sync {

using thread_handle = void*;

class any_parker {
public:
    using thread = thread_handle;

    // The laws are those of hal/parker.hpp.
    [[nodiscard]] virtual thread current() const noexcept = 0;
    virtual void park(instant deadline) noexcept = 0;
    virtual void unpark(const thread& t) noexcept = 0;
    [[nodiscard]] virtual bool interrupted() const noexcept = 0;
    [[nodiscard]] virtual instant now() const noexcept = 0;

    // And those of hal/interrupt_control.hpp: an any_parker models both.
    using state = std::uint64_t;
    [[nodiscard]] virtual state save_and_disable() noexcept = 0;
    virtual void restore(const state& saved) noexcept = 0;
    [[nodiscard]] virtual bool enabled() noexcept = 0;

    // Null where nobody keeps them (held_locks.hpp, lock_counters.hpp).
    [[nodiscard]] virtual sync::held_locks* held_spin_locks() noexcept { return nullptr; }
    [[nodiscard]] virtual sync::held_locks* held_sleeping_locks() noexcept { return nullptr; }
    [[nodiscard]] virtual sync::lock_counters* lock_counters() noexcept { return nullptr; }

protected:
    ~any_parker() = default;
};
static_assert(hal::Parker<any_parker>);
static_assert(hal::InterruptControl<any_parker>);

template <hal::Parker P, hal::InterruptControl I>
    requires std::convertible_to<typename P::thread, thread_handle> &&
             std::convertible_to<typename I::state, std::uint64_t>
class parker_adapter final : public any_parker {
public:
    parker_adapter(P& parker, I& interrupts) : parker_{parker}, interrupts_{interrupts} {}

    [[gnu::hot]] thread current() const noexcept override { return parker_.current(); }
    [[gnu::hot]] void park(instant deadline) noexcept override { parker_.park(deadline); }
    [[gnu::hot]] void unpark(const thread& t) noexcept override { parker_.unpark(static_cast<typename P::thread>(t)); }
    [[gnu::hot]] bool interrupted() const noexcept override { return parker_.interrupted(); }
    instant now() const noexcept override { return parker_.now(); }
    [[gnu::hot]] state save_and_disable() noexcept override
    {
        return static_cast<state>(interrupts_.save_and_disable());
    }
    [[gnu::hot]] void restore(const state& saved) noexcept override
    {
        interrupts_.restore(static_cast<typename I::state>(saved));
    }
    bool enabled() noexcept override { return interrupts_.enabled(); }
    sync::held_locks* held_spin_locks() noexcept override { return sync::held_spin_locks(interrupts_); }
    sync::held_locks* held_sleeping_locks() noexcept override { return sync::held_sleeping_locks(parker_); }
    sync::lock_counters* lock_counters() noexcept override { return sync::lock_counters_of(interrupts_); }

private:
    P& parker_;
    I& interrupts_;
};

} // namespace exo::sync
