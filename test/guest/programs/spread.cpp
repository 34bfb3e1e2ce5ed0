// Forks processes that compute on CPU 0, lets them go everywhere at once, and tells every 100 ms how many of them each
// CPU has, until each has as many as it should, give or take one. What is told begins with the time since the release,
// before it was read and after.
//
// Arguments: processes; seconds after which it fails.

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

namespace {

constexpr long most_processes = 256, most_cpus = 64;

void must(bool holds, const char* what)
{
    if (!holds) {
        perror(what);
        exit(1);
    }
}

void allow(pid_t process, long first, long count)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    for (long cpu = first; cpu < first + count; ++cpu)
        CPU_SET(static_cast<size_t>(cpu), &set);
    must(sched_setaffinity(process, sizeof set, &set) == 0, "sched_setaffinity");
}

double milliseconds_since(const timespec& start)
{
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<double>(now.tv_sec - start.tv_sec) * 1e3 +
           static_cast<double>(now.tv_nsec - start.tv_nsec) / 1e6;
}

void sleep_until(timespec at, long milliseconds)
{
    at.tv_nsec += milliseconds * 1'000'000;
    at.tv_sec += at.tv_nsec / 1'000'000'000;
    at.tv_nsec %= 1'000'000'000;
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, nullptr) == EINTR) {}
}

// The 39th field of /proc/PID/stat; the name ends with the last parenthesis.
long cpu_of(pid_t process)
{
    char path[32], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", process);
    FILE* file = fopen(path, "r");
    must(file != nullptr, path);
    const size_t size = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[size] = 0;
    const char* at = strrchr(text, ')');
    for (int field = 2; at && field < 39; ++field)
        at = strchr(at + 1, ' ');
    must(at != nullptr, "stat");
    return strtol(at, nullptr, 10);
}

} // namespace

int main(int argc, char** argv)
{
    if (argc != 3)
        return 2;
    const long count = atol(argv[1]), limit = atol(argv[2]), cpus = sysconf(_SC_NPROCESSORS_ONLN);
    if (count > most_processes || cpus > most_cpus)
        return 2;
    pid_t children[most_processes];
    int ready[2];
    must(pipe(ready) == 0, "pipe");
    allow(0, cpus > 1, 1);
    for (long i = 0; i < count; ++i) {
        children[i] = fork();
        must(children[i] >= 0, "fork");
        if (children[i] == 0) {
            allow(0, 0, 1);
            (void)!write(ready[1], "", 1);
            for (;;)
                asm volatile("");
        }
    }
    char byte;
    for (long i = 0; i < count; ++i)
        must(read(ready[0], &byte, 1) == 1, "read");
    for (long i = 0; i < count; ++i)
        must(cpu_of(children[i]) == 0, "a child is where it may not be");

    timespec start{};
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (long i = 0; i < count; ++i)
        allow(children[i], 0, cpus);
    bool even = false;
    for (long round = 1; !even && milliseconds_since(start) < static_cast<double>(limit) * 1e3; ++round) {
        sleep_until(start, round * 100);
        const double before = milliseconds_since(start);
        long on[most_cpus]{};
        for (long i = 0; i < count; ++i)
            ++on[cpu_of(children[i])];
        printf("%.0f to %.0f ms:", before, milliseconds_since(start));
        even = true;
        for (long cpu = 0; cpu < cpus; ++cpu) {
            printf(" %ld", on[cpu]);
            even = even && labs(on[cpu] * cpus - count) <= cpus;
        }
        printf("\n");
    }
    for (long i = 0; i < count; ++i)
        kill(children[i], SIGKILL);
    return even ? 0 : 1;
}
