// What CPUs ran, as a trace that ui.perfetto.dev and chrome://tracing open: the Trace Event Format (JSON), with a track
// for each CPU.

#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <exo/base/time.hpp>

namespace exo::trace {

// put(std::string_view) takes the text, piece by piece.
template <class Put>
class event_writer {
public:
    event_writer(Put put, unsigned cpus) : put_{put}
    {
        put_("{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n"
             "{\"ph\":\"M\",\"pid\":1,\"name\":\"process_name\",\"args\":{\"name\":\"CPUs\"}}");
        for (unsigned cpu = 0; cpu < cpus; ++cpu) {
            put_(",\n{\"ph\":\"M\",\"pid\":1,\"tid\":");
            put_number(cpu);
            put_(",\"name\":\"thread_name\",\"args\":{\"name\":\"CPU ");
            put_number(cpu);
            put_("\"}},\n{\"ph\":\"M\",\"pid\":1,\"tid\":");
            put_number(cpu);
            put_(",\"name\":\"thread_sort_index\",\"args\":{\"sort_index\":");
            put_number(cpu);
            put_("}}");
        }
    }
    ~event_writer() { put_("\n]}\n"); }
    event_writer(const event_writer&) = delete;
    event_writer& operator=(const event_writer&) = delete;

    // A turn of a thread.
    void slice(unsigned cpu, std::string_view name, instant from, instant to)
    {
        begin("X", cpu, name, from);
        put_(",\"dur\":");
        put_microseconds(static_cast<std::uint64_t>((to - from).nanoseconds()));
        put_("}");
    }
    // A thread goes on, after a wait that ended at `when`.
    void wake_up(unsigned cpu, std::string_view name, instant when)
    {
        begin("i", cpu, name, when);
        put_(",\"s\":\"t\",\"cat\":\"wake-up\"}");
    }

private:
    void begin(std::string_view phase, unsigned cpu, std::string_view name, instant when)
    {
        put_(",\n{\"ph\":\"");
        put_(phase);
        put_("\",\"pid\":1,\"tid\":");
        put_number(cpu);
        put_(",\"name\":\"");
        put_escaped(name);
        put_("\",\"ts\":");
        put_microseconds(when.nanoseconds());
    }
    void put_microseconds(std::uint64_t ns)
    {
        put_number(ns / 1000);
        put_(".");
        put_number(ns % 1000, 3);
    }
    void put_number(std::uint64_t value, std::size_t width = 1)
    {
        char digits[20];
        std::size_t at = sizeof digits;
        do {
            digits[--at] = static_cast<char>('0' + value % 10);
            value /= 10;
        } while (value != 0 || sizeof digits - at < width);
        put_({digits + at, sizeof digits - at});
    }
    // As it stands in a JSON string; what is no ASCII becomes question marks, since it may be no UTF-8 either.
    void put_escaped(std::string_view name)
    {
        std::size_t plain = 0; // from where on nothing was put yet
        for (std::size_t i = 0; i < name.size(); ++i) {
            const char c = name[i];
            const bool special = c == '"' || c == '\\';
            if (c >= ' ' && c <= '~' && !special)
                continue;
            put_(name.substr(plain, i - plain));
            plain = i + 1;
            const char escaped[] = {'\\', c};
            put_(special ? std::string_view{escaped, 2} : std::string_view{"?"});
        }
        put_(name.substr(plain));
    }

    Put put_;
};

} // namespace exo::trace
