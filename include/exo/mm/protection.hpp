// The words for access rights and memory behaviour, as mm spells them.

#pragma once

#include <exo/hal/page_attributes.hpp>

namespace exo::mm {

using hal::memory_type;
using hal::page_attributes;
using hal::protection;

// Common rights.
inline constexpr protection kernel_read = protection::read;
inline constexpr protection kernel_data = protection::read | protection::write;
inline constexpr protection kernel_code = protection::read | protection::execute;
inline constexpr protection user_read = protection::user | protection::read;
inline constexpr protection user_data = user_read | protection::write;
inline constexpr protection user_code = user_read | protection::execute;

} // namespace exo::mm
