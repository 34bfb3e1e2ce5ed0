// The CPUs of observed_cpus.hpp, and the callbacks that g++ and clang emit calls of under -fsanitize=thread (LLVM,
// compiler-rt/include/sanitizer/tsan_interface.h and tsan_interface_atomic.h). Compiled without that flag.

#include <contention/observed_cpus.hpp>

#include <atomic>
#include <cstring>
#include <type_traits>
#include <utility>

#include <exo/base/check.hpp>
#include <exo/hal/cpu_local.hpp>
#include <exo/hal/interrupt_control.hpp>
#include <exo/hal/parker.hpp>
#include <exo/sim/context.hpp>
#include <exo/sync/cross_calls.hpp>

namespace contention {

static_assert(exo::hal::CpuLocal<observed_cpus>);
static_assert(exo::hal::InterruptControl<observed_cpus>);
static_assert(exo::hal::Parker<observed_cpus>);
static_assert(exo::sync::Signal<observed_cpus>);

namespace {
constexpr std::size_t stack_bytes = std::size_t{256} << 10;
constexpr unsigned goes_on_for = 4; // atomic accesses, on average
} // namespace

struct observed_cpus::cpu_state {
    exo::sim::fibers::context context;
    exo::sim::fibers::context* host{}; // who called run
    std::unique_ptr<std::byte[]> stack = std::make_unique_for_overwrite<std::byte[]>(stack_bytes);
    observed_cpus* owner{};
    unsigned number{};
    bool enabled{true};
    bool signalled{};
    bool token{};
    bool done{true};
    const void* loaded_last{}; // what an atomic load read, with no access since
    bool waits{};              // it read that more than once
};

observed_cpus::observed_cpus(unsigned count, unsigned seed) : random_{seed}
{
    EXO_CHECK(count <= most_cpus);
    for (unsigned i = 0; i < count; ++i) {
        auto& c = *cpus_.emplace_back(std::make_unique<cpu_state>());
        c.owner = this;
        c.number = i;
    }
}
observed_cpus::~observed_cpus() { EXO_CHECK(!observing); }

void observed_cpus::forget_costs()
{
    lines.forget_costs();
    contended_ = 0;
}

void observed_cpus::run(std::function<void(unsigned)> work)
{
    work_ = std::move(work);
    exo::sim::fibers::context host;
    for (auto& c : cpus_) {
        c->host = &host;
        c->done = false;
        exo::sim::fibers{}.prepare(c->context, {c->stack.get(), stack_bytes}, &begin, &*c);
    }
    runs_ = true;
    running_ = 0;
    exo::sim::fibers{}.switch_to(host, cpus_[0]->context);
    runs_ = false;
    running_ = 0;
}

void observed_cpus::begin(void* argument) noexcept
{
    auto& c = *static_cast<cpu_state*>(argument);
    observed_cpus& all = *c.owner;
    observing = &all;
    all.work_(c.number);
    observing = nullptr;
    c.done = true;
    // It idles, and serves interrupts, until the last one is done.
    for (;;) {
        bool done = true;
        for (const auto& other : all.cpus_)
            done = done && other->done;
        if (done)
            exo::sim::fibers{}.switch_to(c.context, *c.host);
        all.let_another_go_on();
        all.interrupt();
    }
}

// Does what costs nothing.
template <class F>
void observed_cpus::unobserved(F&& f)
{
    auto* const before = std::exchange(observing, nullptr);
    f();
    observing = before;
}

void observed_cpus::let_another_go_on()
{
    const unsigned self = running_;
    const auto next = static_cast<unsigned>(random_() % cpus_.size());
    if (next == self)
        return;
    auto* const before = observing;
    running_ = next;
    exo::sim::fibers{}.switch_to(cpus_[self]->context, cpus_[next]->context);
    running_ = self;
    observing = before;
}

void observed_cpus::interrupt()
{
    cpu_state& c = state_here();
    while (c.enabled && std::exchange(c.signalled, false)) {
        c.enabled = false;
        auto* const before = std::exchange(observing, this);
        serve_();
        observing = before;
        c.enabled = true;
    }
}

auto observed_cpus::save_and_disable() noexcept -> state { return std::exchange(state_here().enabled, false); }
void observed_cpus::restore(const state& saved) noexcept
{
    EXO_CHECK(!state_here().enabled);
    state_here().enabled = saved != 0;
    if (runs_)
        interrupt();
}
bool observed_cpus::enabled() noexcept { return state_here().enabled; }

// Who asks for itself is about to wait.
auto observed_cpus::current() const noexcept -> thread
{
    ++contended_;
    return &state_here();
}
void observed_cpus::park(exo::instant deadline) noexcept
{
    EXO_CHECK(runs_ && deadline == exo::instant::never() && enabled());
    cpu_state& c = state_here();
    unobserved([&] {
        while (!c.token) {
            let_another_go_on();
            interrupt();
        }
    });
    c.token = false;
}
void observed_cpus::unpark(const thread& t) noexcept { static_cast<cpu_state*>(t)->token = true; }

void observed_cpus::signal(unsigned cpu) noexcept { cpus_[cpu]->signalled = true; }

void observed_cpus::plain(const void* at, std::size_t bytes, bool writes)
{
    cpu_state& c = state_here();
    const auto* const stack = c.stack.get();
    if (stack <= at && at < stack + stack_bytes && !writes)
        return; // its own, and in the way of telling who waits
    unobserved([&] { lines.access(running_, reinterpret_cast<std::uintptr_t>(at), bytes, writes); });
    c.loaded_last = nullptr;
}

void observed_cpus::atomic(const void* at, std::size_t bytes, bool writes)
{
    cpu_state& c = state_here();
    unobserved([&] {
        const bool again = !writes && c.loaded_last == at;
        if (again && !std::exchange(c.waits, true))
            ++contended_;
        if (again || random_() % goes_on_for == 0) {
            let_another_go_on();
            interrupt();
        }
        c.loaded_last = writes ? nullptr : at;
        c.waits = again;
        lines.access(running_, reinterpret_cast<std::uintptr_t>(at), bytes, writes);
    });
}

namespace {

void plain(const void* at, std::size_t bytes, bool writes)
{
    if (auto* cpus = observed_cpus::here())
        cpus->plain(at, bytes, writes);
}
// The accesses to be made go through the model first.
template <class T>
T* atomic(volatile void* at, bool writes)
{
    auto* const p = static_cast<T*>(const_cast<void*>(at));
    if (auto* cpus = observed_cpus::here())
        cpus->atomic(p, sizeof(T), writes);
    return p;
}
template <class T>
int compare_exchange(volatile void* at, T* expected, T desired)
{
    return __atomic_compare_exchange_n(atomic<T>(at, true), expected, desired, false, __ATOMIC_SEQ_CST,
                                       __ATOMIC_SEQ_CST);
}

} // namespace

} // namespace contention

using contention::atomic;
using contention::plain;

extern "C" {

// NOLINTBEGIN: the names are the compilers'.
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void** at, void*) { plain(at, sizeof *at, true); }
void __tsan_vptr_read(void** at) { plain(at, sizeof *at, false); }
void __tsan_read_range(void* at, unsigned long bytes) { plain(at, bytes, false); }
void __tsan_write_range(void* at, unsigned long bytes) { plain(at, bytes, true); }

#define EXO_PLAIN(bytes)                                                                                               \
    void __tsan_read##bytes(void* at) { plain(at, bytes, false); }                                                     \
    void __tsan_write##bytes(void* at) { plain(at, bytes, true); }                                                     \
    void __tsan_unaligned_read##bytes(void* at) { plain(at, bytes, false); }                                           \
    void __tsan_unaligned_write##bytes(void* at) { plain(at, bytes, true); }                                           \
    void __tsan_read_write##bytes(void* at) { plain(at, bytes, true); }                                                \
    void __tsan_unaligned_read_write##bytes(void* at) { plain(at, bytes, true); }
EXO_PLAIN(1)
EXO_PLAIN(2)
EXO_PLAIN(4)
EXO_PLAIN(8)
EXO_PLAIN(16)

#define EXO_CHANGE(bits, T, name)                                                                                      \
    T __tsan_atomic##bits##_##name(volatile T* at, T value, int)                                                       \
    {                                                                                                                  \
        return __atomic_##name(atomic<T>(at, true), value, __ATOMIC_SEQ_CST);                                          \
    }
#define EXO_ATOMIC(bits, T)                                                                                            \
    T __tsan_atomic##bits##_load(const volatile T* at, int)                                                            \
    {                                                                                                                  \
        return __atomic_load_n(atomic<T>(const_cast<volatile T*>(at), false), __ATOMIC_SEQ_CST);                       \
    }                                                                                                                  \
    void __tsan_atomic##bits##_store(volatile T* at, T value, int)                                                     \
    {                                                                                                                  \
        __atomic_store_n(atomic<T>(at, true), value, __ATOMIC_SEQ_CST);                                                \
    }                                                                                                                  \
    T __tsan_atomic##bits##_exchange(volatile T* at, T value, int)                                                     \
    {                                                                                                                  \
        return __atomic_exchange_n(atomic<T>(at, true), value, __ATOMIC_SEQ_CST);                                      \
    }                                                                                                                  \
    EXO_CHANGE(bits, T, fetch_add)                                                                                     \
    EXO_CHANGE(bits, T, fetch_sub)                                                                                     \
    EXO_CHANGE(bits, T, fetch_and)                                                                                     \
    EXO_CHANGE(bits, T, fetch_or)                                                                                      \
    EXO_CHANGE(bits, T, fetch_xor)                                                                                     \
    int __tsan_atomic##bits##_compare_exchange_strong(volatile T* at, T* expected, T desired, int, int)                \
    {                                                                                                                  \
        return contention::compare_exchange(at, expected, desired);                                                    \
    }                                                                                                                  \
    int __tsan_atomic##bits##_compare_exchange_weak(volatile T* at, T* expected, T desired, int, int)                  \
    {                                                                                                                  \
        return contention::compare_exchange(at, expected, desired);                                                    \
    }                                                                                                                  \
    T __tsan_atomic##bits##_compare_exchange_val(volatile T* at, T expected, T desired, int, int)                      \
    {                                                                                                                  \
        contention::compare_exchange(at, &expected, desired);                                                          \
        return expected;                                                                                               \
    }
EXO_ATOMIC(8, std::uint8_t)
EXO_ATOMIC(16, std::uint16_t)
EXO_ATOMIC(32, std::uint32_t)
EXO_ATOMIC(64, std::uint64_t)
void __tsan_atomic_thread_fence(int) {}
void __tsan_atomic_signal_fence(int) {}

// What the compilers leave to the library; the linker sends the calls here (--wrap), clang makes them itself.
void* __real_memset(void*, int, std::size_t);
void* __real_memcpy(void*, const void*, std::size_t);
void* __real_memmove(void*, const void*, std::size_t);
void* __wrap_memset(void* to, int value, std::size_t bytes)
{
    if (bytes != 0)
        plain(to, bytes, true);
    return __real_memset(to, value, bytes);
}
void* __wrap_memcpy(void* to, const void* from, std::size_t bytes)
{
    if (bytes != 0) {
        plain(from, bytes, false);
        plain(to, bytes, true);
    }
    return __real_memcpy(to, from, bytes);
}
void* __wrap_memmove(void* to, const void* from, std::size_t bytes)
{
    if (bytes != 0) {
        plain(from, bytes, false);
        plain(to, bytes, true);
    }
    return __real_memmove(to, from, bytes);
}
void* __tsan_memset(void* to, int value, std::size_t bytes) { return __wrap_memset(to, value, bytes); }
void* __tsan_memcpy(void* to, const void* from, std::size_t bytes) { return __wrap_memcpy(to, from, bytes); }
void* __tsan_memmove(void* to, const void* from, std::size_t bytes) { return __wrap_memmove(to, from, bytes); }
// NOLINTEND

} // extern "C"
