// Processes on all CPUs that fork, execute, map, protect, write, pipe, signal, migrate and run threads for some time,
// in an order that a seed gives. What is wrong is told, with status 1; a wake-up that is lost ends in the time-out of
// whoever runs this.
//
// Arguments: seconds, seed, processes (default: two for each CPU).

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

namespace {

constexpr size_t page = 4096;
const char* self;
unsigned long seed;
uint64_t state;
uint64_t until; // on the monotonic clock, in nanoseconds
long cpus;
sigjmp_buf back;
volatile sig_atomic_t queued;

struct shared_number {
    uint64_t value;

    uint64_t load() const { return __atomic_load_n(&value, __ATOMIC_SEQ_CST); }
    void store(uint64_t n) { __atomic_store_n(&value, n, __ATOMIC_SEQ_CST); }
    void add(uint64_t n) { __atomic_fetch_add(&value, n, __ATOMIC_SEQ_CST); }
    // Makes it no less than n.
    void raise(uint64_t n)
    {
        uint64_t seen = load();
        while (seen < n && !__atomic_compare_exchange_n(&value, &seen, n, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
        }
    }
};

// What the processes have in common.
struct common {
    shared_number sum;    // of what was added
    shared_number added;  // by each, as it counted itself
    shared_number latest; // reading of the clock, on any CPU
    shared_number rounds;
};
common* shared;

[[noreturn]] void wrong(const char* what, long a = 0, long b = 0)
{
    printf("WRONG: seed %lu, process %d: %s (%ld, %ld, errno %d)\n", seed, getpid(), what, a, b, errno);
    fflush(stdout);
    _exit(1);
}
void must(bool holds, const char* what, long a = 0, long b = 0)
{
    if (!holds)
        wrong(what, a, b);
}

uint64_t next()
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

uint64_t now()
{
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<uint64_t>(t.tv_sec) * 1000000000 + static_cast<uint64_t>(t.tv_nsec);
}

void wait_for(pid_t child, int expected)
{
    int status = 0;
    pid_t got;
    while ((got = waitpid(child, &status, 0)) < 0 && errno == EINTR) {
    }
    must(got == child, "another child, or none", got, child);
    must(status == expected, "status of a child", status, expected);
}

uint64_t* map_pages(size_t pages, int flags = MAP_PRIVATE)
{
    void* at = mmap(nullptr, pages * page, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
    must(at != MAP_FAILED, "mmap", static_cast<long>(pages));
    return static_cast<uint64_t*>(at);
}
void fill(uint64_t* at, size_t pages, uint64_t stamp)
{
    for (size_t i = 0; i < pages; ++i)
        at[i * page / 8 + stamp % 512] = stamp + i;
}
void verify(const uint64_t* at, size_t pages, uint64_t stamp)
{
    for (size_t i = 0; i < pages; ++i)
        must(at[i * page / 8 + stamp % 512] == stamp + i, "contents of a page", static_cast<long>(i),
             static_cast<long>(at[i * page / 8 + stamp % 512]));
}

// Each of two has its own after a fork.
void forks()
{
    const size_t pages = 1 + next() % 64;
    const uint64_t stamp = next();
    uint64_t* at = map_pages(pages);
    fill(at, pages, stamp);
    const pid_t child = fork();
    must(child >= 0, "fork");
    if (child == 0) {
        verify(at, pages, stamp);
        fill(at, pages, stamp * 3);
        verify(at, pages, stamp * 3);
        const pid_t grandchild = fork();
        must(grandchild >= 0, "fork");
        if (grandchild == 0) {
            verify(at, pages, stamp * 3);
            _exit(5);
        }
        munmap(at, pages * page);
        wait_for(grandchild, 5 << 8);
        _exit(static_cast<int>(stamp & 0x7f));
    }
    verify(at, pages, stamp);
    fill(at, pages, stamp * 5);
    wait_for(child, static_cast<int>(stamp & 0x7f) << 8);
    verify(at, pages, stamp * 5);
    munmap(at, pages * page);
}

void executes()
{
    const int code = static_cast<int>(next() % 100);
    const pid_t child = next() % 2 ? fork() : vfork();
    must(child >= 0, "fork");
    if (child == 0) {
        char text[16];
        snprintf(text, sizeof text, "%d", code);
        char* const arguments[] = {const_cast<char*>(self), const_cast<char*>("exit"), text, nullptr};
        execv(self, arguments);
        _exit(111);
    }
    wait_for(child, code << 8);
}

// What may not be written stays as it is, and what is gone is gone.
void protects()
{
    const size_t pages = 2 + next() % 100;
    const uint64_t stamp = next();
    uint64_t* volatile at = map_pages(pages);
    fill(at, pages, stamp);
    must(mprotect(at, pages * page, PROT_READ) == 0, "mprotect");
    verify(at, pages, stamp);
    volatile bool stopped = false;
    if (sigsetjmp(back, 1) == 0)
        *static_cast<volatile uint64_t*>(at + (next() % pages) * page / 8) = 1;
    else
        stopped = true;
    must(stopped, "a page that may not be written was");
    must(mprotect(at + page / 8, page, PROT_READ | PROT_WRITE) == 0, "mprotect");
    at[page / 8 + stamp % 512] = stamp + 1;
    verify(at, pages, stamp);
    munmap(at, pages * page);
    stopped = false;
    if (sigsetjmp(back, 1) == 0)
        (void)*static_cast<volatile uint64_t*>(at);
    else
        stopped = true;
    must(stopped, "a page that is unmapped was read");
}

// Two that wait for each other many times, wherever they run.
void pipes()
{
    int there[2], here[2];
    must(pipe(there) == 0 && pipe(here) == 0, "pipe");
    const unsigned rounds = 1 + next() % 100;
    const pid_t child = fork();
    must(child >= 0, "fork");
    const auto pass = [](int from, int to, uint64_t add) {
        uint64_t value = 0;
        ssize_t got;
        while ((got = read(from, &value, sizeof value)) < 0 && errno == EINTR) {
        }
        must(got == sizeof value, "read from a pipe", got);
        value += add;
        must(write(to, &value, sizeof value) == sizeof value, "write to a pipe");
    };
    if (child == 0) {
        for (unsigned i = 0; i < rounds; ++i)
            pass(there[0], here[1], 7);
        _exit(0);
    }
    uint64_t value = 0;
    must(write(there[1], &value, sizeof value) == sizeof value, "write to a pipe");
    for (unsigned i = 1; i < rounds; ++i)
        pass(here[0], there[1], 1);
    must(read(here[0], &value, sizeof value) == sizeof value, "read from a pipe");
    must(value == uint64_t{rounds} * 8 - 1, "what went round", static_cast<long>(value), rounds);
    wait_for(child, 0);
    const int all[] = {there[0], there[1], here[0], here[1]};
    for (const int fd : all)
        close(fd);
}

void queue_to(pid_t target)
{
    while (sigqueue(target, SIGRTMIN, sigval{}) != 0) {
        must(errno == EAGAIN, "sigqueue"); // too many wait already
        usleep(100);
    }
}

// One that gets signals ends whatever it is at.
void signals()
{
    sigset_t set, before;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, &before);
    const int count = static_cast<int>(1 + next() % 20);
    const bool spins = next() % 2;
    const pid_t child = fork();
    must(child >= 0, "fork");
    if (child == 0) {
        queued = 0;
        sigprocmask(SIG_UNBLOCK, &set, nullptr);
        kill(getppid(), SIGUSR1);
        if (spins) {
            while (queued < count) {
            }
        } else {
            sigprocmask(SIG_BLOCK, &set, nullptr);
            while (queued < count)
                sigsuspend(&before);
        }
        for (;;)
            pause(); // until it is ended
    }
    const timespec limit{60, 0};
    int got;
    while ((got = sigtimedwait(&set, nullptr, &limit)) < 0 && errno == EINTR) {
    }
    must(got == SIGUSR1, "no signal from a child", got);
    for (int i = 0; i < count; ++i)
        queue_to(child);
    if (!spins)
        usleep(static_cast<useconds_t>(next() % 2000));
    must(kill(child, SIGKILL) == 0, "kill");
    wait_for(child, SIGKILL);
    sigprocmask(SIG_SETMASK, &before, nullptr);
}

// Queued signals come all, to one that runs, sleeps, or is in between.
void counted_signals()
{
    const int count = static_cast<int>(1 + next() % 20);
    const bool spins = next() % 2;
    sigset_t set, before;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, &before);
    const pid_t child = fork();
    must(child >= 0, "fork");
    if (child == 0) {
        queued = 0;
        sigset_t open = before;
        sigdelset(&open, SIGRTMIN);
        if (spins) {
            sigprocmask(SIG_SETMASK, &open, nullptr);
            while (queued < count) {
            }
        } else {
            while (queued < count)
                sigsuspend(&open);
        }
        _exit(queued == count ? 0 : 3);
    }
    for (int i = 0; i < count; ++i)
        queue_to(child);
    wait_for(child, 0);
    sigprocmask(SIG_SETMASK, &before, nullptr);
}

// After the call a process runs where it may.
void migrates()
{
    cpu_set_t one, all;
    must(sched_getaffinity(0, sizeof all, &all) == 0, "sched_getaffinity");
    for (int i = 0; i < 8; ++i) {
        const int cpu = static_cast<int>(next() % static_cast<unsigned long>(cpus));
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        must(sched_setaffinity(0, sizeof one, &one) == 0, "sched_setaffinity", cpu);
        must(sched_getcpu() == cpu, "runs where it may not", sched_getcpu(), cpu);
    }
    must(sched_setaffinity(0, sizeof all, &all) == 0, "sched_setaffinity");
}

// The clock never goes back, whichever CPU is asked.
void clocks()
{
    for (int i = 0; i < 200; ++i) {
        const uint64_t before = shared->latest.load();
        const uint64_t t = now();
        must(t >= before, "the clock went back", static_cast<long>(t), static_cast<long>(before));
        shared->latest.raise(t);
    }
}

uint64_t added;
void adds()
{
    for (int i = 0; i < 1000; ++i) {
        shared->sum.add(1);
        ++added;
    }
}

// A thread writes to a page that another takes the right to write away from, and gives it back, all the time: between
// the two nothing is written.
struct freeze {
    volatile uint64_t* at;
    shared_number frozen, over;
};
__thread const freeze* writes_in;

void freezes()
{
    freeze f{.at = map_pages(1), .frozen = {}, .over = {}};
    pthread_t writer;
    must(pthread_create(
             &writer, nullptr,
             [](void* argument) -> void* {
                 const freeze& mine = *static_cast<const freeze*>(argument);
                 writes_in = &mine;
                 while (mine.over.load() == 0)
                     *mine.at = *mine.at + 1;
                 writes_in = nullptr;
                 return nullptr;
             },
             &f) == 0,
         "pthread_create");
    void* const page_of_it = const_cast<uint64_t*>(f.at);
    for (int i = 0; i < 100 && now() < until; ++i) {
        const uint64_t before = *f.at;
        for (int tries = 0; *f.at == before && tries < 100; ++tries)
            sched_yield();
        f.frozen.store(1);
        must(mprotect(page_of_it, page, PROT_READ) == 0, "mprotect");
        const uint64_t written = *f.at;
        for (int reads = 0; reads < 100; ++reads)
            must(*f.at == written, "a page that must not be written was", static_cast<long>(*f.at),
                 static_cast<long>(written));
        must(mprotect(page_of_it, page, PROT_READ | PROT_WRITE) == 0, "mprotect");
        f.frozen.store(0);
    }
    f.over.store(1);
    must(pthread_join(writer, nullptr) == 0, "pthread_join");
    munmap(page_of_it, page);
}
void on_fault(int)
{
    if (!writes_in)
        siglongjmp(back, 1);
    while (writes_in->frozen.load() != 0) // then it is tried again
        sched_yield();
}

// Threads read pages that another drops and fills anew all the time. A page has zeros or what was written since: what
// was written before it was dropped, or anybody else's, was read through a translation that should have been forgotten.
struct race {
    static constexpr size_t pages = 16;
    static constexpr uint64_t mine = 0x5ac3;

    uint64_t* at;
    uint64_t owner;
    shared_number dropped, over; // the latest round that is gone
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
    int readers{};

    uint64_t stamp(uint64_t round) const { return mine << 48 | owner << 24 | round; }
    static void* read(void* argument)
    {
        race& r = *static_cast<race*>(argument);
        pthread_mutex_lock(&r.lock);
        ++r.readers;
        pthread_cond_broadcast(&r.changed);
        pthread_mutex_unlock(&r.lock);
        size_t word = 0;
        for (size_t i = 0; r.over.load() == 0; i = (i + 7) % pages) {
            const uint64_t gone = r.dropped.load();
            const uint64_t seen = *static_cast<volatile uint64_t*>(r.at + i * page / 8);
            must(seen == 0 || seen >> 24 == r.stamp(0) >> 24, "somebody else's memory", static_cast<long>(seen));
            must(seen == 0 || (seen & 0xffffff) > gone, "a page that was dropped", static_cast<long>(seen),
                 static_cast<long>(gone));
            word = word % 511 + 1; // nobody writes these
            const uint64_t other = *static_cast<volatile uint64_t*>(r.at + i * page / 8 + word);
            must(other == 0, "somebody else's memory behind", static_cast<long>(other), static_cast<long>(word));
        }
        return nullptr;
    }
};
void races()
{
    race r{.at = map_pages(race::pages), .owner = static_cast<uint64_t>(getpid()), .dropped = {}, .over = {}};
    madvise(r.at, race::pages * page, MADV_NOHUGEPAGE);
    pthread_t threads[3];
    const int count = 1 + static_cast<int>(next() % 3);
    for (int i = 0; i < count; ++i)
        must(pthread_create(&threads[i], nullptr, &race::read, &r) == 0, "pthread_create");
    pthread_mutex_lock(&r.lock);
    while (r.readers < count)
        pthread_cond_wait(&r.changed, &r.lock);
    pthread_mutex_unlock(&r.lock);
    for (uint64_t round = 1; round <= 200 && now() < until; ++round) {
        for (size_t i = 0; i < race::pages; ++i)
            r.at[i * page / 8] = r.stamp(round);
        if (round % 3 == 0) {
            const pid_t child = fork(); // whose pages those are, too
            must(child >= 0, "fork");
            if (child == 0)
                _exit(0);
            wait_for(child, 0);
        }
        if (round % 2 == 0)
            must(madvise(r.at, race::pages * page, MADV_DONTNEED) == 0, "madvise");
        else // unmaps, and maps anew
            must(mmap(r.at, race::pages * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
                      0) == r.at,
                 "mmap over");
        r.dropped.store(round);
    }
    r.over.store(1);
    for (int i = 0; i < count; ++i)
        must(pthread_join(threads[i], nullptr) == 0, "pthread_join");
    munmap(r.at, race::pages * page);
}

[[noreturn]] void work()
{
    void (*const steps[])() = {forks,    executes, protects, pipes,   signals, counted_signals,
                               migrates, clocks,   adds,     freezes, races};
    uint64_t rounds = 0;
    for (; now() < until; ++rounds)
        steps[next() % (sizeof steps / sizeof steps[0])]();
    shared->rounds.add(rounds);
    must(waitpid(-1, nullptr, WNOHANG) < 0 && errno == ECHILD, "a child is left");
    shared->added.add(added);
    _exit(0);
}

} // namespace

int main(int argc, char** argv)
{
    self = argv[0];
    if (argc == 3 && !strcmp(argv[1], "exit"))
        return atoi(argv[2]);
    const uint64_t seconds = argc > 1 ? strtoul(argv[1], nullptr, 10) : 5;
    seed = argc > 2 ? strtoul(argv[2], nullptr, 10) : 1;
    cpu_set_t all;
    sched_getaffinity(0, sizeof all, &all);
    cpus = CPU_COUNT(&all);
    const long processes = argc > 3 ? strtol(argv[3], nullptr, 10) : 2 * cpus;
    shared = reinterpret_cast<common*>(map_pages(1, MAP_SHARED));

    struct sigaction action{};
    action.sa_handler = on_fault;
    sigaction(SIGSEGV, &action, nullptr);
    action.sa_handler = [](int) { queued = queued + 1; };
    sigaction(SIGRTMIN, &action, nullptr);
    action.sa_handler = [](int) {};
    sigaction(SIGUSR1, &action, nullptr);

    until = now() + seconds * 1000000000;
    for (long i = 0; i < processes; ++i) {
        const pid_t child = fork();
        must(child >= 0, "fork");
        if (child == 0) {
            state = (seed * 0x9e3779b97f4a7c15 ^ static_cast<uint64_t>(i + 1) * 0xbf58476d1ce4e5b9) | 1;
            work();
        }
    }
    int failed = 0;
    for (long i = 0; i < processes; ++i) {
        int status = 0;
        must(wait(&status) > 0, "wait");
        failed += status != 0;
    }
    must(wait(nullptr) < 0 && errno == ECHILD, "a child is left");
    must(failed == 0, "processes failed", failed);
    must(shared->sum.load() == shared->added.load(), "additions are lost");
    printf("%ld processes on %ld CPUs, seed %lu: all right\n", processes, cpus, seed);
    fprintf(stderr, "%lu rounds\n", static_cast<unsigned long>(shared->rounds.load()));
}
