// Having other CPUs do something now, and waiting for it or not: an Ipi (hal/ipi.hpp) on top of a way to interrupt a
// CPU.
//
// Each CPU has a record of the call that it makes, one at most at a time, a set of the CPUs whose calls it has to
// serve, and an inbox for calls that nobody waits for, whose records their callers keep. Nothing is allocated, and
// nobody takes a lock: a call costs one locked instruction for each CPU to make, and two for that one to serve.

#pragma once

#include <cstdint>
#include <span>

#include <exo/base/check.hpp>
#include <exo/base/cpu_set.hpp>
#include <exo/hal/atomics.hpp>
#include <exo/hal/cpu_local.hpp>
#include <exo/hal/ipi.hpp>
#include <exo/sync/atomic_cpu_set.hpp>
#include <exo/sync/inbox.hpp>

namespace exo::sync {

// Law of a Signal: signal(cpu) makes that CPU call serve() soon, with interrupts off, once it has them on; what the
// caller wrote before is visible there.
template <class T>
concept Signal = requires(T& signaller, unsigned cpu) {
    { signaller.signal(cpu) } noexcept -> std::same_as<void>;
};

template <class Signal, hal::CpuLocal Cpu, hal::Atomics Atomics = hal::standard_atomics>
class cross_calls {
public:
    // A call that nobody waits for. It lives, and is not posted again, until its function has begun.
    class posted {
    public:
        using function = void (*)(posted&) noexcept;
        explicit posted(function f) noexcept : function_{f} {}

    private:
        friend cross_calls;
        const function function_;
        basic_inbox_hook<Atomics> hook_;
    };

    class alignas(64) processor {
        friend cross_calls;
        void (*function_)(void*) noexcept {};
        void* argument_{};
        typename Atomics::template atomic<std::uint64_t> left_{}; // CPUs that have not finished this one's call
        alignas(64) atomic_cpu_set<cpu_set, Atomics> callers_;
        inbox<posted, &posted::hook_, Atomics> posted_;
    };

    // There is a processor for each CPU. They outlive the object.
    cross_calls(std::span<processor> processors, Signal& signaller, const Cpu& cpu)
        : processors_{processors}, signaller_{signaller}, cpu_{cpu}
    {
        static_assert(sync::Signal<Signal>);
    }
    cross_calls(const cross_calls&) = delete;
    cross_calls& operator=(const cross_calls&) = delete;

    // hal::Ipi
    void call(const cpu_set& targets, void (*function)(void*) noexcept, void* argument) noexcept
    {
        const unsigned self = cpu_.current_cpu();
        cpu_set others = targets;
        others.remove(self);
        processor& here = processors_[self];
        EXO_CHECK(here.left_.load(std::memory_order_relaxed) == 0); // calls do not nest
        here.function_ = function;
        here.argument_ = argument;
        here.left_.store(others.size(), std::memory_order_relaxed);
        others.for_each([&](unsigned cpu) {
            processors_[cpu].callers_.add(self);
            signaller_.signal(cpu);
        });
        while (here.left_.load(std::memory_order_acquire) != 0) {
            serve(); // two that call each other have interrupts off
            Atomics::pause();
        }
    }

    // `call` runs on that CPU, which may be the calling one, once and soon, as the function of a call() does; what was
    // posted to one CPU before runs before. With interrupts off.
    void post(unsigned cpu, posted& call) noexcept
    {
        if (processors_[cpu].posted_.push(call).was_empty)
            signaller_.signal(cpu);
    }

    // Runs what is called for here. With interrupts off.
    [[gnu::hot]] void serve() noexcept
    {
        processor& here = processors_[cpu_.current_cpu()];
        here.posted_.drain([](posted& call) { call.function_(call); });
        const cpu_set callers = here.callers_.take();
        callers.for_each([&](unsigned cpu) {
            processor& caller = processors_[cpu];
            caller.function_(caller.argument_);
            caller.left_.fetch_sub(1, std::memory_order_acq_rel);
        });
    }

private:
    std::span<processor> processors_;
    Signal& signaller_;
    const Cpu& cpu_;
};

} // namespace exo::sync
