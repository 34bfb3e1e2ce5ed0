// result<T>: a value, or a typed error. Exceptions are off in the kernel, so whatever can fail returns one.

#pragma once

#include <expected>
#include <utility>

#include <exo/base/error.hpp>

namespace exo {

template <class T = void>
using result = std::expected<T, error>;

[[nodiscard]] constexpr std::unexpected<error> fail(const error_kind& kind, std::uint64_t context = 0)
{
    return std::unexpected<error>{error{kind, context}};
}

[[nodiscard]] constexpr std::unexpected<error> fail(error e) { return std::unexpected<error>{e}; }

} // namespace exo

// The value of `expression`, or returns its error from the enclosing function.
#define EXO_TRY(expression)                                                                                            \
    __extension__({                                                                                                    \
        auto exo_try_result = (expression);                                                                            \
        if (!exo_try_result) [[unlikely]]                                                                              \
            return ::exo::fail(exo_try_result.error());                                                                \
        *::std::move(exo_try_result);                                                                                  \
    })
