// Where the trace goes: a file, which outlives it.

#pragma once

#include <cstdio>
#include <string_view>

#include <exo/trace/event_writer.hpp>

namespace sched_sim {

struct file_output {
    std::FILE* file;
    void operator()(std::string_view text) const { std::fwrite(text.data(), 1, text.size(), file); }
};
using trace = exo::trace::event_writer<file_output>;

} // namespace sched_sim
