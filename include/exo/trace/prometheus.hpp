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
    std::string_view before;
    metrics.for_each([&](const metric& m, std::uint64_t value) {
        char digits[20];
        std::size_t at = sizeof(digits);
        do {
            digits[--at] = static_cast<char>('0' + value % 10);
            value /= 10;
        } while (value != 0);

        const auto put = [&](auto... pieces) { (sink(std::string_view{pieces}), ...); };
        if (m.name != before)
            put("# HELP ", m.name, " ", m.help, "\n# TYPE ", m.name,
                m.kind == metric_kind::counter ? " counter\n"
                : m.kind == metric_kind::gauge ? " gauge\n"
                                               : " histogram\n");
        before = m.name;
        put(m.name, m.sample, " ", std::string_view{digits + at, sizeof(digits) - at}, "\n");
    });
}

} // namespace exo::trace
