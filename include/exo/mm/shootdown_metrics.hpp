// What shoot-down counts, for each CPU.

#pragma once

#include <string_view>

#include <exo/mm/flush_batch.hpp>
#include <exo/trace/counter.hpp>
#include <exo/trace/registry.hpp>

namespace exo::mm {

struct shootdown_metrics {
    using counter = trace::counter<trace::recording>;

    counter flushes[flush_kind_count];
    counter calls;
    counter cpus_called;
    counter loads_keeping;
    counter loads_forgetting;
};

template <flush_kind Kind>
[[nodiscard]] constexpr trace::table_row<shootdown_metrics> counts_flushes(std::string_view name, std::string_view help)
{
    return {{name, help, trace::metric_kind::counter},
            [](const shootdown_metrics& m) noexcept { return m.flushes[static_cast<unsigned>(Kind)].value(); }};
}

inline constexpr trace::table_row<shootdown_metrics> shootdown_table[] = {
    counts_flushes<flush_kind::page>("exo_mm_flushes_page_total", "Changes after which one page was forgotten"),
    counts_flushes<flush_kind::range>("exo_mm_flushes_range_total", "Changes after which a few pages were"),
    counts_flushes<flush_kind::space>("exo_mm_flushes_space_total", "Changes after which a whole address space was"),
    counts_flushes<flush_kind::all>("exo_mm_flushes_all_total", "Changes after which everything was, global pages too"),
    trace::counts<&shootdown_metrics::calls, shootdown_metrics>("exo_mm_shootdowns_total",
                                                                "Changes, or ends, of spaces that interrupted CPUs"),
    trace::counts<&shootdown_metrics::cpus_called, shootdown_metrics>("exo_mm_shootdown_cpus_total",
                                                                      "CPUs that were interrupted for them"),
    trace::counts<&shootdown_metrics::loads_keeping, shootdown_metrics>(
        "exo_mm_space_loads_keeping_total", "Loads of an address space whose translations were remembered and right"),
    trace::counts<&shootdown_metrics::loads_forgetting, shootdown_metrics>("exo_mm_space_loads_forgetting_total",
                                                                           "Loads of an address space that were not"),
};

} // namespace exo::mm
