// A trace for ui.perfetto.dev and chrome://tracing, in the Trace Event Format (JSON): a track for each CPU, on it a
// slice for each turn of a thread and an instant for each wake-up, where the thread went on.

#pragma once

#include <cinttypes>
#include <cstdio>
#include <string>
#include <string_view>

#include <exo/base/time.hpp>

namespace sched_sim {

class trace {
public:
    // Into `file`, which outlives it.
    trace(std::FILE* file, unsigned cpus) : file_{file}
    {
        std::fputs("{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n"
                   "{\"ph\":\"M\",\"pid\":1,\"name\":\"process_name\",\"args\":{\"name\":\"CPUs\"}}",
                   file_);
        for (unsigned cpu = 0; cpu < cpus; ++cpu)
            std::fprintf(file_,
                         ",\n{\"ph\":\"M\",\"pid\":1,\"tid\":%u,\"name\":\"thread_name\","
                         "\"args\":{\"name\":\"CPU %u\"}}"
                         ",\n{\"ph\":\"M\",\"pid\":1,\"tid\":%u,\"name\":\"thread_sort_index\","
                         "\"args\":{\"sort_index\":%u}}",
                         cpu, cpu, cpu, cpu);
    }
    ~trace() { std::fputs("\n]}\n", file_); }
    trace(const trace&) = delete;
    trace& operator=(const trace&) = delete;

    // `name` is escaped().
    void slice(unsigned cpu, std::string_view name, exo::instant from, exo::instant to)
    {
        begin("X", cpu, name, from);
        const auto took = static_cast<std::uint64_t>((to - from).nanoseconds());
        std::fprintf(file_, ",\"dur\":%" PRIu64 ".%03u}", took / 1000, static_cast<unsigned>(took % 1000));
    }
    void wake_up(unsigned cpu, std::string_view name, exo::instant when)
    {
        begin("i", cpu, name, when);
        std::fputs(",\"s\":\"t\",\"cat\":\"wake-up\"}", file_);
    }

    // As it stands in a JSON string.
    [[nodiscard]] static std::string escaped(std::string_view name)
    {
        std::string result;
        for (const char c : name) {
            if (static_cast<unsigned char>(c) < ' ') {
                char code[7];
                std::snprintf(code, sizeof(code), "\\u%04x", static_cast<unsigned>(c));
                result += code;
                continue;
            }
            if (c == '"' || c == '\\')
                result += '\\';
            result += c;
        }
        return result;
    }

private:
    void begin(const char* phase, unsigned cpu, std::string_view name, exo::instant when)
    {
        const std::uint64_t ns = when.nanoseconds();
        std::fprintf(file_, ",\n{\"ph\":\"%s\",\"pid\":1,\"tid\":%u,\"name\":\"%.*s\",\"ts\":%" PRIu64 ".%03u", phase,
                     cpu, static_cast<int>(name.size()), name.data(), ns / 1000, static_cast<unsigned>(ns % 1000));
    }

    std::FILE* file_;
};

} // namespace sched_sim
