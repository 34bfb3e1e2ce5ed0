// What a program on the booted kernel pays for its system calls and faults, measured from user space: the same static
// binary runs on Linux for comparison. Prints a table, or Google Benchmark's JSON with --benchmark_format=json.
//
// Each case runs in batches until enough time has passed; its figure is the fastest batch, because noise only adds.

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <regex.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

namespace {

const char* self;
int zero, null, pipe_there[2], pipe_back[2];
long cpus;
char buffer[64 * 1024];
constexpr size_t page = 4096;

void must(bool holds, const char* what)
{
    if (!holds) {
        perror(what);
        exit(1);
    }
}

double now()
{
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

void wait_for(pid_t child)
{
    int status = 0;
    must(child > 0 && waitpid(child, &status, 0) == child && status == 0, "child");
}

char* anonymous(size_t bytes)
{
    void* area = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(area != MAP_FAILED, "mmap");
    return static_cast<char*>(area);
}
// The same in pages of 4 KiB, whatever the kernel would choose.
char* anonymous_small_pages(size_t bytes)
{
    char* area = anonymous(bytes);
    must(madvise(area, bytes, MADV_NOHUGEPAGE) == 0, "madvise");
    return area;
}

void touch(char* area, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += page)
        *static_cast<volatile char*>(area + at) = 1;
}

// A case reports how many nanoseconds `n` of its operations took, so that it can leave its preparation out.
template <class Operation>
double loop(long n, Operation operation)
{
    const double start = now();
    for (long i = 0; i < n; ++i)
        operation();
    return now() - start;
}

// QEMU's TLB has grown by then to hold what was touched, and takes a tenth of a second to shrink again; until it has,
// each flush of it costs by its size. So the first forks are not timed: for 256 MiB those of a quarter of a second.
double fork_call(long n, size_t bytes)
{
    const auto settling = static_cast<double>(bytes); // nanoseconds
    char* area = anonymous_small_pages(bytes);
    touch(area, bytes);
    const auto fork_once = [area] {
        *static_cast<volatile char*>(area) = 2;
        const double start = now();
        const pid_t child = fork();
        if (child == 0)
            _exit(0);
        const double took = now() - start;
        wait_for(child);
        return took;
    };
    for (const double end = now() + settling; now() < end;)
        fork_once();
    double total = 0;
    for (long i = 0; i < n; ++i)
        total += fork_once();
    munmap(area, bytes);
    return total;
}

double faults(long n, bool shared_by_fork)
{
    double total = 0;
    constexpr long pages = 256;
    for (long done = 0; done < n; done += pages) {
        char* area = anonymous_small_pages(pages * page);
        if (!shared_by_fork) {
            const double start = now();
            touch(area, pages * page);
            total += now() - start;
        } else {
            touch(area, pages * page);
            int hold[2];
            must(pipe(hold) == 0, "pipe");
            const pid_t child = fork();
            if (child == 0) {
                close(hold[1]);
                char byte;
                (void)!read(hold[0], &byte, 1);
                _exit(0);
            }
            const double start = now();
            touch(area, pages * page);
            total += now() - start;
            close(hold[0]);
            close(hold[1]);
            wait_for(child);
        }
        munmap(area, pages * page);
    }
    return total * static_cast<double>(n) / static_cast<double>((n + pages - 1) / pages * pages);
}

double pipe_round_trip(long n)
{
    const pid_t child = fork();
    char byte = 0;
    if (child == 0) {
        for (long i = 0; i < n; ++i)
            if (read(pipe_there[0], &byte, 1) != 1 || write(pipe_back[1], &byte, 1) != 1)
                _exit(1);
        _exit(0);
    }
    const double time = loop(n, [&] {
        must(write(pipe_there[1], &byte, 1) == 1 && read(pipe_back[0], &byte, 1) == 1, "pipe");
    });
    wait_for(child);
    return time;
}

// Two FIFO processes of one priority give way to each other, which makes each yield a switch; a pair is one of each.
double yield_pair(long n)
{
    const auto follow = [](int policy, int priority) {
        must(syscall(SYS_sched_setscheduler, 0, policy, &priority) == 0, "sched_setscheduler");
    };
    const auto yield = [n] { return loop(n, [] { sched_yield(); }); };
    follow(SCHED_FIFO, 1);
    const pid_t child = fork();
    if (child == 0) {
        yield();
        _exit(0);
    }
    const double time = yield();
    follow(SCHED_OTHER, 0);
    wait_for(child);
    return time;
}

void run_on(size_t first, size_t count)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    for (size_t cpu = first; cpu < first + count; ++cpu)
        CPU_SET(cpu, &set);
    must(sched_setaffinity(0, sizeof set, &set) == 0, "sched_setaffinity");
}

// `time(other)` on CPU 0 while a thread of the same process runs other() on CPU 1.
template <class Other, class Time>
double beside(Other other, Time time)
{
    pthread_t thread;
    const auto start = [](void* argument) -> void* {
        run_on(1, 1);
        (*static_cast<Other*>(argument))();
        return nullptr;
    };
    must(pthread_create(&thread, nullptr, start, &other) == 0, "pthread_create");
    run_on(0, 1);
    const double taken = time();
    must(pthread_join(thread, nullptr) == 0, "pthread_join");
    run_on(0, static_cast<size_t>(cpus));
    return taken;
}

// Each of two threads on two CPUs waits for the other to wake it.
double futex_round_trip_between_cpus(long n)
{
    constexpr long wait_private = 128, wake_private = 129; // linux/futex.h
    static uint32_t turn;
    const auto wait_for_turn = [](uint32_t mine) {
        for (uint32_t seen; (seen = __atomic_load_n(&turn, __ATOMIC_ACQUIRE)) != mine;)
            syscall(SYS_futex, &turn, wait_private, seen, nullptr);
    };
    const auto give_turn = [](uint32_t whose) {
        __atomic_store_n(&turn, whose, __ATOMIC_RELEASE);
        syscall(SYS_futex, &turn, wake_private, 1);
    };
    const auto answer = [&] {
        for (long i = 0; i < n; ++i) {
            wait_for_turn(1);
            give_turn(0);
        }
    };
    return beside(answer, [&] {
        return loop(n, [&] {
            give_turn(1);
            wait_for_turn(0);
        });
    });
}

double pipe_round_trip_between_cpus(long n)
{
    const auto answer = [&] {
        char byte = 0;
        for (long i = 0; i < n; ++i)
            must(read(pipe_there[0], &byte, 1) == 1 && write(pipe_back[1], &byte, 1) == 1, "pipe");
    };
    return beside(answer, [&] {
        char byte = 0;
        return loop(n, [&] {
            must(write(pipe_there[1], &byte, 1) == 1 && read(pipe_back[0], &byte, 1) == 1, "pipe");
        });
    });
}

// While another CPU runs in the same memory, and may remember its translations.
template <class Operation>
double loop_beside_runner(long n, Operation operation)
{
    static bool runs, done;
    runs = done = false;
    const auto run = [] {
        __atomic_store_n(&runs, true, __ATOMIC_RELEASE);
        while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE)) {
        }
    };
    return beside(run, [&] {
        while (!__atomic_load_n(&runs, __ATOMIC_ACQUIRE))
            sched_yield();
        const double time = loop(n, operation);
        __atomic_store_n(&done, true, __ATOMIC_RELEASE);
        return time;
    });
}

const struct {
    const char* name;
    double (*run)(long n);
    long cpus{1}; // that it needs
} cases[] = {
    {"guest/getppid", [](long n) { return loop(n, [] { syscall(SYS_getppid); }); }},
    {"guest/read_zero/1B", [](long n) { return loop(n, [] { (void)!read(zero, buffer, 1); }); }},
    {"guest/write_null/1B", [](long n) { return loop(n, [] { (void)!write(null, buffer, 1); }); }},
    {"guest/open_close", [](long n) { return loop(n, [] { close(open("/etc/os-release", O_RDONLY)); }); }},
    {"guest/stat", [](long n) {
         return loop(n, [] {
             struct stat st;
             stat("/etc/os-release", &st);
         });
     }},
    {"guest/create_unlink", [](long n) {
         return loop(n, [] {
             const int file = open("/tmp/bench", O_CREAT | O_WRONLY, 0600);
             must(file >= 0, "create");
             close(file);
             unlink("/tmp/bench");
         });
     }},
    {"guest/read_cached/4KiB", [](long n) {
         const int file = open("/bin/busybox", O_RDONLY);
         must(file >= 0 && pread(file, buffer, page, 0) == static_cast<ssize_t>(page), "read");
         const double time = loop(n, [&] { (void)!pread(file, buffer, page, 0); });
         close(file);
         return time;
     }},
    {"guest/readdir/bin", [](long n) {
         return loop(n, [] {
             DIR* folder = opendir("/bin");
             must(folder != nullptr, "opendir");
             while (readdir(folder)) {
             }
             closedir(folder);
         });
     }},
    {"guest/pipe_round_trip", pipe_round_trip},
    {"guest/pipe_transfer/64KiB", [](long n) {
         return loop(n, [] {
             must(write(pipe_there[1], buffer, sizeof buffer) == static_cast<ssize_t>(sizeof buffer), "write");
             for (size_t got = 0; got < sizeof buffer;) {
                 const ssize_t more = read(pipe_there[0], buffer, sizeof buffer);
                 must(more > 0, "read");
                 got += static_cast<size_t>(more);
             }
         });
     }},
    {"guest/sched_yield_pair", yield_pair},
    {"guest/signal_install", [](long n) { return loop(n, [] { signal(SIGUSR1, [](int) {}); }); }},
    {"guest/signal_deliver", [](long n) {
         signal(SIGUSR1, [](int) {});
         const pid_t me = getpid();
         return loop(n, [me] { kill(me, SIGUSR1); });
     }},
    {"guest/fork_exit_wait", [](long n) {
         return loop(n, [] {
             const pid_t child = fork();
             if (child == 0)
                 _exit(0);
             wait_for(child);
         });
     }},
    {"guest/fork_execve_wait", [](long n) {
         return loop(n, [] {
             const pid_t child = fork();
             if (child == 0) {
                 execl(self, self, "--exit", nullptr);
                 _exit(1);
             }
             wait_for(child);
         });
     }},
    {"guest/vfork_execve_wait", [](long n) {
         return loop(n, [] {
             const pid_t child = vfork();
             if (child == 0) {
                 execl(self, self, "--exit", nullptr);
                 _exit(1);
             }
             wait_for(child);
         });
     }},
    {"guest/fork_call/64KiB", [](long n) { return fork_call(n, 64 * 1024); }},
    {"guest/fork_call/64MiB", [](long n) { return fork_call(n, 64 << 20); }},
    {"guest/fork_call/256MiB", [](long n) { return fork_call(n, 256 << 20); }},
    {"guest/anonymous_fault", [](long n) { return faults(n, false); }},
    {"guest/copy_on_write_fault", [](long n) { return faults(n, true); }},
    {"guest/mmap_munmap/4KiB", [](long n) { return loop(n, [] { munmap(anonymous(page), page); }); }},
    {"guest/mmap_touch_munmap/1MiB", [](long n) {
         return loop(n, [] {
             char* area = anonymous(1 << 20);
             touch(area, 1 << 20);
             munmap(area, 1 << 20);
         });
     }},
    // The CPU goes idle, and comes back to 64 pages of the program.
    {"guest/sleep_20us_touch/256KiB", [](long n) {
         char* area = anonymous(64 * page);
         touch(area, 64 * page);
         const double time = loop(n, [&] {
             const timespec moment{.tv_sec = 0, .tv_nsec = 20'000};
             nanosleep(&moment, nullptr);
             touch(area, 64 * page);
         });
         munmap(area, 64 * page);
         return time;
     }},
    {"guest/mprotect_toggle", [](long n) {
         char* area = anonymous(page);
         touch(area, page);
         const double time = loop(n, [area] {
             mprotect(area, page, PROT_READ);
             mprotect(area, page, PROT_READ | PROT_WRITE);
         });
         munmap(area, page);
         return time / 2;
     }},
    {"guest/futex_round_trip/2cpus", futex_round_trip_between_cpus, 2},
    {"guest/pipe_round_trip/2cpus", pipe_round_trip_between_cpus, 2},
    // Of one page, which has to be shot down.
    {"guest/mprotect_touch/2cpus",
     [](long n) {
         char* area = anonymous(page);
         const double time = loop_beside_runner(n, [area] {
             mprotect(area, page, PROT_READ | PROT_WRITE);
             touch(area, page);
             mprotect(area, page, PROT_READ);
         });
         munmap(area, page);
         return time;
     },
     2},
    {"guest/mmap_touch_munmap/4KiB/2cpus",
     [](long n) {
         return loop_beside_runner(n, [] {
             char* area = anonymous(page);
             touch(area, page);
             munmap(area, page);
         });
     },
     2},
};

struct figure {
    double nanoseconds;
    long iterations;
};

figure measure(double (*run)(long))
{
    constexpr double batch = 10e6, budget = 200e6;
    long n = 1;
    double time = run(n);
    while (time < batch && n < 1'000'000) {
        n *= time * 8 < batch ? 8 : 2;
        time = run(n);
    }
    double best = time / static_cast<double>(n), spent = time;
    long total = n;
    for (int i = 0; i < 3 || spent < budget; ++i) {
        time = run(n);
        spent += time;
        total += n;
        if (time / static_cast<double>(n) < best)
            best = time / static_cast<double>(n);
    }
    return {best, total};
}

} // namespace

int main(int argc, char** argv)
{
    self = "/proc/self/exe";
    bool json = false;
    const char* filter = ".";
    for (int i = 1; i < argc; ++i) {
        if (!strcmp(argv[i], "--exit"))
            return 0;
        if (!strcmp(argv[i], "--benchmark_format=json"))
            json = true;
        else if (!strncmp(argv[i], "--benchmark_filter=", 19))
            filter = argv[i] + 19;
        else {
            fprintf(stderr, "usage: %s [--benchmark_filter=RE] [--benchmark_format=json]\n", argv[0]);
            return 2;
        }
    }
    regex_t expression;
    if (regcomp(&expression, filter, REG_EXTENDED | REG_NOSUB) != 0) {
        fprintf(stderr, "the filter is no regular expression: %s\n", filter);
        return 2;
    }
    cpus = sysconf(_SC_NPROCESSORS_ONLN);
    zero = open("/dev/zero", O_RDONLY);
    null = open("/dev/null", O_WRONLY);
    must(zero >= 0 && null >= 0 && pipe(pipe_there) == 0 && pipe(pipe_back) == 0, "setup");

    if (json)
        printf("{\n  \"context\": {\n    \"executable\": \"%s\",\n    \"num_cpus\": %ld,\n"
               "    \"library_build_type\": \"release\"\n  },\n  \"benchmarks\": [",
               argv[0], cpus);
    bool first = true;
    for (const auto& c : cases) {
        if (regexec(&expression, c.name, 0, nullptr, 0) != 0 || cpus < c.cpus)
            continue;
        fflush(stdout);
        const figure f = measure(c.run);
        if (json)
            printf("%s\n    {\n      \"name\": \"%s\",\n      \"run_name\": \"%s\",\n      \"run_type\": \"iteration\",\n"
                   "      \"repetitions\": 1,\n      \"repetition_index\": 0,\n      \"threads\": 1,\n"
                   "      \"iterations\": %ld,\n      \"real_time\": %.17g,\n      \"cpu_time\": %.17g,\n"
                   "      \"time_unit\": \"ns\",\n      \"items_per_second\": %.17g\n    }",
                   first ? "" : ",", c.name, c.name, f.iterations, f.nanoseconds, f.nanoseconds, 1e9 / f.nanoseconds);
        else
            printf("%-32s %12.1f ns\n", c.name, f.nanoseconds);
        first = false;
    }
    if (json)
        printf("\n  ]\n}\n");
    return 0;
}
