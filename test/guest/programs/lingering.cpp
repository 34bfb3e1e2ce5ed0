// Two threads, on CPUs 0 and 1, and what the kernel counts meanwhile: how often CPUs load the space while the two wake
// each other in turn, and how many CPUs are called while one unmaps pages and the other sleeps.

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

namespace {

constexpr int turns = 1000, unmaps = 20;

void must(bool holds, const char* what)
{
    if (!holds) {
        perror(what);
        exit(1);
    }
}

void stay_on(unsigned long cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    must(sched_setaffinity(0, sizeof set, &set) == 0, "sched_setaffinity");
}
void nap(long milliseconds)
{
    const timespec t{0, milliseconds * 1'000'000};
    nanosleep(&t, nullptr);
}

// The sum of the kernel's counters whose names begin so.
long counted(const char* name)
{
    FILE* all = fopen("/proc/exo/metrics", "r");
    must(all, "/proc/exo/metrics");
    char line[512];
    long sum = 0;
    bool found = false;
    while (fgets(line, sizeof line, all))
        if (strncmp(line, name, strlen(name)) == 0) {
            found = true;
            sum += atol(strrchr(line, ' '));
        }
    fclose(all);
    must(found, name);
    return sum;
}

int to_other[2], from_other[2];
int sleeps;

void pass(int from, int to)
{
    char c;
    must(read(from, &c, 1) == 1 && write(to, &c, 1) == 1, "a pipe");
}

void* on_cpu_1(void*)
{
    stay_on(1);
    for (int i = 0; i < turns; ++i)
        pass(to_other[0], from_other[1]);
    for (int i = 0; i < unmaps; ++i) {
        __atomic_store_n(&sleeps, i + 1, __ATOMIC_RELEASE);
        nap(20);
    }
    return nullptr;
}

} // namespace

int main()
{
    must(pipe(to_other) == 0 && pipe(from_other) == 0, "pipe");
    stay_on(0);
    pthread_t other;
    must(pthread_create(&other, nullptr, on_cpu_1, nullptr) == 0, "pthread_create");

    long before = counted("exo_mm_space_loads_");
    for (int i = 0; i < turns; ++i) {
        must(write(to_other[1], "", 1) == 1, "a pipe");
        char c;
        must(read(from_other[0], &c, 1) == 1, "a pipe");
    }
    printf("loads %ld\n", counted("exo_mm_space_loads_") - before);

    before = counted("exo_mm_shootdown_cpus_total");
    for (int i = 0; i < unmaps; ++i) {
        while (__atomic_load_n(&sleeps, __ATOMIC_ACQUIRE) <= i)
            sched_yield();
        nap(5);
        char* page = static_cast<char*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        must(page != MAP_FAILED, "mmap");
        *page = 1;
        must(munmap(page, 4096) == 0, "munmap");
    }
    printf("calls %ld\n", counted("exo_mm_shootdown_cpus_total") - before);
    must(pthread_join(other, nullptr) == 0, "pthread_join");
}
