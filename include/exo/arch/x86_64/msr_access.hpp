// MsrAccess: the model-specific registers of the CPU that runs the call. Boot gives drivers the CPU's, tests a model.
//
// Laws:
//  - read and write are RDMSR and WRMSR of a register that is there, in program order, and nothing else.
//  - A write need not wait for earlier stores, nor for earlier accesses to memory-mapped registers (SDM volume 3,
//    11.12.3 and 11.5.4.1): where it has to, fence() stands between them.

#pragma once

#include <concepts>
#include <cstdint>

namespace exo::x86_64 {

template <class T>
concept MsrAccess = requires(T& msrs, std::uint32_t number, std::uint64_t value)
{
    {
        msrs.read(number)
    }
    noexcept->std::same_as<std::uint64_t>;
    {
        msrs.write(number, value)
    }
    noexcept->std::same_as<void>;
    {
        msrs.fence()
    }
    noexcept->std::same_as<void>;
};

} // namespace exo::x86_64
