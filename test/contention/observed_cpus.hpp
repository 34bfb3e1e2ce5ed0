// CPUs whose every load and store is seen: fibers of one host thread, whose code the compiler instruments
// (-fsanitize=thread), with callbacks of our own in place of the sanitizer's (instrumentation.cpp). Plain accesses are
// seen as well as atomic ones, in the templates as they are.
//
// Before each atomic access another CPU may go on, which a seed decides; a CPU that waits always lets another go on.
// Interrupts come when they are enabled. One object models CpuLocal, InterruptControl, Parker, and the Signal of
// sync::cross_calls. What hardware itself reads and writes (page walks, marks, interrupt controllers) is not counted,
// nor is any time.

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include <exo/base/time.hpp>
#include <exo/sync/any_parker.hpp>

#include <contention/cache_lines.hpp>

namespace contention {

class observed_cpus final : public exo::sync::any_parker {
public:
    observed_cpus(unsigned count, unsigned seed);
    observed_cpus(const observed_cpus&) = delete;
    observed_cpus& operator=(const observed_cpus&) = delete;
    ~observed_cpus();

    // Runs work(cpu) on every CPU at once, until all have returned.
    void run(std::function<void(unsigned)> work);
    // What a CPU does when another has signalled it.
    void connect(std::function<void()> serve) { serve_ = std::move(serve); }

    cache_lines lines;
    // Since the last call of forget_costs(): locks and gates that were found taken by who wanted to pass.
    [[nodiscard]] std::uint64_t contended() const { return contended_; }
    void forget_costs();

    // hal::CpuLocal; outside of run, CPU 0.
    [[nodiscard]] unsigned current_cpu() const noexcept { return running_; }
    [[nodiscard]] unsigned cpu_limit() const noexcept { return static_cast<unsigned>(cpus_.size()); }

    // hal::InterruptControl
    state save_and_disable() noexcept override;
    void restore(const state& saved) noexcept override;
    bool enabled() noexcept override;

    // hal::Parker
    thread current() const noexcept override;
    void park(exo::instant deadline) noexcept override;
    void unpark(const thread& t) noexcept override;
    bool interrupted() const noexcept override { return false; }
    exo::instant now() const noexcept override { return {}; }

    // sync::Signal
    void signal(unsigned cpu) noexcept;

    // For the callbacks.
    void plain(const void* at, std::size_t bytes, bool writes);
    void atomic(const void* at, std::size_t bytes, bool writes);
    [[nodiscard]] static observed_cpus* here() { return observing; }

private:
    struct cpu_state; // holds a context, which looks otherwise to instrumented code
    static void begin(void* argument) noexcept;
    [[nodiscard]] cpu_state& state_here() const noexcept { return *cpus_[running_]; }
    void let_another_go_on();
    void interrupt();
    template <class F>
    void unobserved(F&& f);

    std::vector<std::unique_ptr<cpu_state>> cpus_;
    std::function<void(unsigned)> work_;
    std::function<void()> serve_;
    std::mt19937 random_;
    unsigned running_{};
    bool runs_{};
    mutable std::uint64_t contended_{};
    static inline observed_cpus* observing = nullptr; // while instrumented code runs as one of the CPUs
};

} // namespace contention
