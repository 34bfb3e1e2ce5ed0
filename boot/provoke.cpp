#include "provoke.hpp"

#include <cstdint>

namespace exo::boot {
namespace {

[[gnu::noinline]] std::uint64_t use_up_stack(std::uint64_t depth)
{
    volatile std::uint64_t frame[64];
    frame[depth % 64] = depth;
    return depth == ~std::uint64_t{0} ? 0 : use_up_stack(depth + 1) + frame[depth % 64];
}

} // namespace

void provoke(const x86_64::trap_frame& wanted)
{
    auto* const at = reinterpret_cast<volatile std::uint64_t*>(wanted.rdi);
    switch (wanted.rax) {
    case 0:
        (void)*at;
        return;
    case 1:
        *at = 0;
        return;
    case 2:
        reinterpret_cast<void (*)()>(wanted.rdi)();
        return;
    case 3:
        (void)use_up_stack(0);
        return;
    default:
        return;
    }
}

} // namespace exo::boot
