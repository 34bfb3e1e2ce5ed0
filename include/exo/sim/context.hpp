// hal::Context on the host: fibers, so that the scheduler that boots runs threads of a simulation too, many on one
// thread of the host. Known to AddressSanitizer and ThreadSanitizer.
//
// A context stays on the host thread that prepared or first left it. System V ABI for x86-64, 3.2.1: what a function
// preserves for its caller (rbx, rbp, r12 to r15, and the stack) is all that a switch has to save.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include <exo/base/check.hpp>
#include <exo/hal/context.hpp>

#if !defined(__x86_64__)
#error "sim::fibers switches stacks on x86-64 hosts only"
#endif

#if defined(__SANITIZE_ADDRESS__)
#define EXO_SIM_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EXO_SIM_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define EXO_SIM_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define EXO_SIM_TSAN 1
#endif
#endif

#if defined(EXO_SIM_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(EXO_SIM_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

namespace exo::sim {

class fibers {
public:
    class context {
    public:
        context() = default;
        context(const context&) = delete;
        context& operator=(const context&) = delete;
#if defined(EXO_SIM_TSAN)
        ~context()
        {
            if (made_fiber_)
                __tsan_destroy_fiber(made_fiber_);
        }
#endif

    private:
        friend fibers;
        void* stack_pointer_{};
        hal::context_entry entry_{};
        void* argument_{};
#if defined(EXO_SIM_ASAN)
        void* fake_stack_{};
        const void* stack_bottom_{};
        std::size_t stack_size_{};
#endif
#if defined(EXO_SIM_TSAN)
        void* fiber_{}; // where it was left: another's, when a context holds whatever ran at the time
        void* made_fiber_{};
#endif
    };

    void prepare(context& c, std::span<std::byte> stack, hal::context_entry entry, void* argument) noexcept
    {
        c.entry_ = entry;
        c.argument_ = argument;
        // What switch_stacks pops: r15, r14, r13, r12, rbx, rbp, and where to return to; above it an aligned end.
        const auto end = reinterpret_cast<std::uintptr_t>(stack.data() + stack.size()) & ~std::uintptr_t{15};
        void* const frame[] = {nullptr, nullptr, &c, reinterpret_cast<void*>(&begin), nullptr, nullptr,
                               reinterpret_cast<void*>(&first_frame)};
        const auto top = end - 16 - sizeof(frame);
        EXO_CHECK(top > reinterpret_cast<std::uintptr_t>(stack.data()));
#if defined(EXO_SIM_ASAN)
        __asan_unpoison_memory_region(stack.data(), stack.size()); // frames of the fiber that had it before
        c.stack_bottom_ = stack.data();
        c.stack_size_ = stack.size();
#endif
#if defined(EXO_SIM_TSAN)
        EXO_CHECK(!c.made_fiber_);
        c.fiber_ = c.made_fiber_ = __tsan_create_fiber(0);
#endif
        std::memset(reinterpret_cast<void*>(end - 16), 0, 16);
        std::memcpy(reinterpret_cast<void*>(top), frame, sizeof(frame));
        c.stack_pointer_ = reinterpret_cast<void*>(top);
    }

    // A switch to `to` is near: its topmost frames come into the cache meanwhile.
    static void prefetch(const context& to) noexcept
    {
        constexpr unsigned line = 64;
        constexpr unsigned lines = 8;
        for (unsigned i = 0; i < lines; ++i)
            __builtin_prefetch(static_cast<const std::byte*>(to.stack_pointer_) + i * line, 1);
    }

    void switch_to(context& from, context& to) noexcept
    {
#if defined(EXO_SIM_ASAN)
        left = &from;
        __sanitizer_start_switch_fiber(&from.fake_stack_, to.stack_bottom_, to.stack_size_);
#endif
#if defined(EXO_SIM_TSAN)
        from.fiber_ = __tsan_get_current_fiber();
        __tsan_switch_to_fiber(to.fiber_, 0);
#endif
        switch_stacks(&from.stack_pointer_, to.stack_pointer_);
        arrived(from);
    }

private:
    static void arrived([[maybe_unused]] context& here) noexcept
    {
#if defined(EXO_SIM_ASAN)
        // Also tells the bounds of the stack just left, which for a host thread's own nobody else knows.
        __sanitizer_finish_switch_fiber(here.fake_stack_, &left->stack_bottom_, &left->stack_size_);
#endif
    }

    [[noreturn]] static void begin(context* c) noexcept
    {
        arrived(*c);
        c->entry_(c->argument_);
        EXO_PANIC("the entry function of a context returned");
    }

    [[gnu::naked, gnu::noinline, gnu::no_sanitize_address, gnu::no_sanitize_thread]]
    static void switch_stacks([[maybe_unused]] void** save, [[maybe_unused]] void* load) noexcept
    {
        asm volatile("pushq %rbp\n\t"
                     "pushq %rbx\n\t"
                     "pushq %r12\n\t"
                     "pushq %r13\n\t"
                     "pushq %r14\n\t"
                     "pushq %r15\n\t"
                     "movq %rsp, (%rdi)\n\t"
                     "movq %rsi, %rsp\n\t"
                     "popq %r15\n\t"
                     "popq %r14\n\t"
                     "popq %r13\n\t"
                     "popq %r12\n\t"
                     "popq %rbx\n\t"
                     "popq %rbp\n\t"
                     "ret");
    }
    [[gnu::naked, gnu::noinline, gnu::no_sanitize_address, gnu::no_sanitize_thread]]
    static void first_frame() noexcept
    {
        asm volatile("movq %r13, %rdi\n\t"
                     "callq *%r12\n\t"
                     "ud2");
    }

#if defined(EXO_SIM_ASAN)
    static inline thread_local context* left = nullptr;
#endif
};
static_assert(hal::Context<fibers>);

} // namespace exo::sim
