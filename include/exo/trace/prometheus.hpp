// A registry as Prometheus reads it (text exposition format 0.0.4).

#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <exo/trace/registry.hpp>

namespace exo::trace {

// sink(std::string_view) gets the text in pieces.
template <class Sink>
void write_prometheus(registry& metrics, Sink sink)
{
    metrics.for_each([&](const metric& m, std::uint64_t value) {
        char digits[20];
        std::size_t at = sizeof(digits);
        do {
            digits[--at] = static_cast<char>('0' + value % 10);
            value /= 10;
        } while (value != 0);

        for (const std::string_view piece :
             {std::string_view{"# HELP "}, m.name, std::string_view{" "}, m.help, std::string_view{"\n# TYPE "}, m.name,
              std::string_view{m.kind == metric_kind::counter ? " counter\n" : " gauge\n"}, m.name,
              std::string_view{" "}, std::string_view{digits + at, sizeof(digits) - at}, std::string_view{"\n"}})
            sink(piece);
    });
}

} // namespace exo::trace
