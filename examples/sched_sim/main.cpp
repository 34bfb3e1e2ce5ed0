// Runs a workload of rt-app's format (workload.hpp) on 1 to 1,024 simulated CPUs, in virtual time, and tells what each
// task got; with --trace, for ui.perfetto.dev, when and where.
//
//   sched_sim [--cpus N | --topology THREADS,CORES,PACKAGES,NODES] [--seed N] [--duration SECONDS] [--trace FILE]
//             [--progress] WORKLOAD.json

#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>

#include <unistd.h>

#include "report.hpp"

void exo::panic(const char* message, const char* file, int line) noexcept
{
    std::fprintf(stderr, "%s:%d: %s\n", file, line, message);
    std::abort();
}

namespace {

using namespace sched_sim;

struct options {
    std::string workload;
    std::string trace;
    simulation::topology_type::shape shape;
    unsigned seed{1};
    std::optional<exo::duration> length;
    bool progress{isatty(STDERR_FILENO) == 1};
};

template <class Number>
bool read_number(std::string_view text, Number& to)
{
    const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), to);
    return status == std::errc{} && end == text.data() + text.size();
}
bool read_shape(std::string_view text, simulation::topology_type::shape& to)
{
    unsigned total = 1;
    for (unsigned* number : {&to.threads, &to.cores, &to.packages, &to.nodes}) {
        const auto comma = std::min(text.find(','), text.size());
        if (!read_number(text.substr(0, comma), *number) || *number == 0 || *number > cpu_set::limit / total)
            return false;
        total *= *number;
        text.remove_prefix(std::min(comma + 1, text.size()));
    }
    return text.empty();
}
std::optional<options> read_options(int count, char** words)
{
    options result;
    for (int i = 1; i < count; ++i) {
        const std::string_view word = words[i];
        if (word == "--progress") {
            result.progress = true;
            continue;
        }
        if (!word.starts_with("--")) {
            if (!result.workload.empty())
                return std::nullopt;
            result.workload = word;
            continue;
        }
        if (++i == count)
            return std::nullopt;
        const std::string_view value = words[i];
        bool good = false;
        if (word == "--cpus") {
            result.shape = {};
            good = read_number(value, result.shape.cores) && result.shape.cores >= 1 &&
                   result.shape.cores <= cpu_set::limit;
        } else if (word == "--topology") {
            good = read_shape(value, result.shape);
        } else if (word == "--seed") {
            good = read_number(value, result.seed);
        } else if (word == "--duration") {
            double seconds = 0;
            good = read_number(value, seconds) && seconds > 0 && seconds <= 1e6;
            result.length = exo::nanoseconds(static_cast<std::int64_t>(seconds * 1e9));
        } else if (word == "--trace") {
            good = true;
            result.trace = value;
        }
        if (!good)
            return std::nullopt;
    }
    return result.workload.empty() ? std::nullopt : std::optional{result};
}

struct admitted_workload : workload {
    simulation::admittance admitted;
};
exo::result<admitted_workload> load(std::string_view text, const simulation::topology_type& topology)
{
    const json document = EXO_TRY(json::parse(text));
    workload work = EXO_TRY(workload_reader::read(document));
    const simulation::admittance admitted = EXO_TRY(simulation::check(work, topology));
    return admitted_workload{std::move(work), admitted};
}

// FILE:LINE: what is wrong, what to do about it, and the line itself.
void complain(const std::string& file, std::string_view text, exo::error e)
{
    for (std::uint64_t line = 1; line < e.context(); ++line)
        text.remove_prefix(std::min(text.find('\n'), text.size() - 1) + 1);
    text = text.substr(0, text.find('\n'));
    const exo::error_kind& kind = e.kind();
    std::fprintf(stderr, "%s:%llu: %.*s (%.*s): %.*s\n%.*s\n", file.c_str(),
                 static_cast<unsigned long long>(e.context()), static_cast<int>(kind.message.size()),
                 kind.message.data(), static_cast<int>(kind.name.size()), kind.name.data(),
                 static_cast<int>(kind.advice.size()), kind.advice.data(), static_cast<int>(text.size()), text.data());
}

} // namespace

int main(int count, char** words)
{
    const auto chosen = read_options(count, words);
    if (!chosen) {
        std::fprintf(stderr,
                     "usage: %s [--cpus N | --topology THREADS,CORES,PACKAGES,NODES] [--seed N] [--duration SECONDS]\n"
                     "       [--trace FILE] [--progress] WORKLOAD.json\n"
                     "at most %u CPUs in all\n",
                     words[0], cpu_set::limit);
        return 2;
    }
    std::ifstream file{chosen->workload};
    if (!file) {
        std::perror(chosen->workload.c_str());
        return EXIT_FAILURE;
    }
    const std::string text{std::istreambuf_iterator<char>{file}, {}};
    const simulation::topology_type topology{chosen->shape};
    const auto work = load(text, topology);
    if (!work) {
        complain(chosen->workload, text, work.error());
        return EXIT_FAILURE;
    }

    std::FILE* trace_file = nullptr;
    std::optional<trace> record;
    if (!chosen->trace.empty()) {
        trace_file = std::fopen(chosen->trace.c_str(), "w");
        if (!trace_file) {
            std::perror(chosen->trace.c_str());
            return EXIT_FAILURE;
        }
        record.emplace(sched_sim::file_output{trace_file}, topology.cpu_count());
    }

    const exo::duration length = chosen->length.value_or(work->length);
    // Its threads have no end of their own.
    static simulation& s = *new simulation{*work, work->admitted, topology, chosen->seed, record ? &*record : nullptr};
    const auto began = std::chrono::steady_clock::now();
    s.run(length, [&](exo::duration done) {
        if (chosen->progress)
            std::fprintf(stderr, "\r%5.1f %%", 100.0 * static_cast<double>(done.nanoseconds()) /
                                                   static_cast<double>(length.nanoseconds()));
    });
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    if (chosen->progress)
        std::fputs("\r100.0 %\n", stderr);

    if (record) {
        record.reset();
        const bool failed = std::ferror(trace_file) != 0;
        if (std::fclose(trace_file) != 0 || failed) {
            std::perror(chosen->trace.c_str());
            return EXIT_FAILURE;
        }
    }
    print_report(stdout, *work, s, length);
    const auto events = static_cast<double>(s.switches() + s.wake_ups());
    std::printf("%llu switches and %llu wake-ups in %.3f s: %.2f million events a second\n",
                static_cast<unsigned long long>(s.switches()), static_cast<unsigned long long>(s.wake_ups()),
                took.count(), events / took.count() / 1e6);
    return EXIT_SUCCESS;
}
