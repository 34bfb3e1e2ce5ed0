// PhysAccess: from a physical address to memory that this code can touch.
//
// Laws: for every physical address of RAM that the model covers, to_pointer() is valid, and linear within a naturally
// aligned block of a page; to_physical() inverts it. Neither fails, sleeps or allocates.

#pragma once

#include <concepts>
#include <cstddef>

#include <exo/base/address.hpp>

namespace exo::hal {

template <class T>
concept PhysAccess = requires(const T& access, phys_addr a, const void* p) {
    { access.to_pointer(a) } noexcept -> std::same_as<std::byte*>;
    { access.to_physical(p) } noexcept -> std::same_as<phys_addr>;
};

} // namespace exo::hal
