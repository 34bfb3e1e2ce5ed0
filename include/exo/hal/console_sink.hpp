// ConsoleSink: bytes out to a person or a log.
//
// Laws: write() delivers all bytes in order before it returns; it works in every context, a panic and an NMI included:
// it neither sleeps, locks, allocates nor fails.

#pragma once

#include <concepts>
#include <string_view>

namespace exo::hal {

template <class T>
concept ConsoleSink = requires(T& sink, std::string_view text) {
    { sink.write(text) } noexcept -> std::same_as<void>;
};

} // namespace exo::hal
