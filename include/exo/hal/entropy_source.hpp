// EntropySource: bytes that nobody can predict.
//
// Laws: fill() writes every byte of the span, or fails with no_device and then the span must not be used.

#pragma once

#include <concepts>
#include <cstddef>
#include <span>

#include <exo/base/result.hpp>

namespace exo::hal {

template <class T>
concept EntropySource = requires(T& source, std::span<std::byte> into) {
    { source.fill(into) } noexcept -> std::same_as<result<>>;
};

} // namespace exo::hal
