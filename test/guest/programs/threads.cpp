// POSIX threads as the C library makes them: what they share and what each has, how they wait for each other, how they
// end, and what becomes of them with signals, fork, execve and the end of the process. Prints the same on every run.

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

namespace {

// Of linux/futex.h, which musl's compiler does not find.
constexpr int futex_wait = 0, futex_wake = 1, futex_requeue = 3, futex_cmp_requeue = 4, futex_wake_op = 5,
              futex_lock_pi = 6, futex_unlock_pi = 7, futex_trylock_pi = 8, futex_wait_bitset = 9,
              futex_wake_bitset = 10, futex_private = 128, futex_realtime = 256;
enum futex_modification { set, add, or_in, and_not, exclusive_or, nonsense, shifted = 8 };
enum futex_comparison { equal, unequal, less, at_most, more, at_least };

int id_of_thread() { return static_cast<int>(syscall(SYS_gettid)); }

void show(const char* what, long outcome)
{
    if (outcome == -1)
        printf("%s: error %d\n", what, errno);
    else
        printf("%s: %ld\n", what, outcome);
}
void nap(long milliseconds)
{
    const timespec t{milliseconds / 1000, milliseconds % 1000 * 1'000'000};
    nanosleep(&t, nullptr);
}
template <class Body>
pthread_t start(Body& body)
{
    pthread_t t;
    const int outcome = pthread_create(
        &t, nullptr,
        [](void* b) -> void* {
            (*static_cast<Body*>(b))();
            return nullptr;
        },
        &body);
    if (outcome != 0) {
        printf("pthread_create: %d\n", outcome);
        exit(1);
    }
    return t;
}
template <class Body>
void in_thread(Body body)
{
    pthread_join(start(body), nullptr);
}
template <class Act>
int in_child(Act act)
{
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        act();
        fflush(stdout);
        _exit(0);
    }
    int status = -1;
    waitpid(child, &status, 0);
    return status;
}
void raise_fault()
{
    *static_cast<volatile int*>(mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) = 1;
}
// The number that stands behind `name` in /proc/self/status.
long of_status(const char* name)
{
    FILE* file = fopen("/proc/self/status", "r");
    char line[256];
    long value = -1;
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, name, strlen(name)) == 0)
            value = atol(line + strlen(name) + 1);
    if (file)
        fclose(file);
    return value;
}

pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
pthread_barrier_t barrier;
pthread_rwlock_t rw = PTHREAD_RWLOCK_INITIALIZER;
long counter;
__thread long own_counter;

void waiting_for_each_other()
{
    pthread_barrier_init(&barrier, nullptr, 5);
    static int serial;
    auto counts = [] {
        for (int i = 0; i < 1000; ++i) {
            pthread_mutex_lock(&lock);
            const long seen = counter;
            if (i % 100 == 0)
                sched_yield();
            counter = seen + 1;
            ++own_counter;
            pthread_mutex_unlock(&lock);
        }
        if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
            __atomic_add_fetch(&serial, 1, __ATOMIC_RELAXED);
        if (own_counter != 1000)
            printf("own counter: %ld\n", own_counter);
    };
    pthread_t threads[4];
    for (auto& t : threads)
        t = start(counts);
    if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
        __atomic_add_fetch(&serial, 1, __ATOMIC_RELAXED);
    for (const auto t : threads)
        pthread_join(t, nullptr);
    printf("counted %ld, serial %d, own %ld\n", counter, serial, own_counter);

    // One after the other by a condition, and all at once by broadcast.
    static int turn, ready;
    auto takes_turns = [] {
        pthread_mutex_lock(&lock);
        const int mine = ready++;
        pthread_cond_broadcast(&changed);
        while (turn != mine)
            pthread_cond_wait(&changed, &lock);
        ++turn;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
    };
    for (auto& t : threads)
        t = start(takes_turns);
    for (const auto t : threads)
        pthread_join(t, nullptr);
    printf("turns %d\n", turn);

    static long protected_value, seen_by_readers;
    auto writes = [] {
        for (int i = 0; i < 100; ++i) {
            pthread_rwlock_wrlock(&rw);
            ++protected_value;
            pthread_rwlock_unlock(&rw);
        }
    };
    auto reads = [] {
        for (int i = 0; i < 100; ++i) {
            pthread_rwlock_rdlock(&rw);
            if (protected_value >= 0)
                __atomic_add_fetch(&seen_by_readers, 1, __ATOMIC_RELAXED);
            pthread_rwlock_unlock(&rw);
        }
    };
    threads[0] = start(writes), threads[1] = start(writes), threads[2] = start(reads), threads[3] = start(reads);
    for (const auto t : threads)
        pthread_join(t, nullptr);
    printf("written %ld, read %ld\n", protected_value, seen_by_readers);

    timespec soon{};
    clock_gettime(CLOCK_REALTIME, &soon);
    pthread_mutex_lock(&lock);
    in_thread([&] { printf("timed lock: %d\n", pthread_mutex_timedlock(&lock, &soon)); });
    printf("timed wait: %d\n", pthread_cond_timedwait(&changed, &lock, &soon));
    pthread_mutex_unlock(&lock);
    sem_t semaphore;
    sem_init(&semaphore, 0, 0);
    auto posts = [&] { sem_post(&semaphore); };
    const pthread_t poster = start(posts);
    show("sem_wait", sem_wait(&semaphore));
    pthread_join(poster, nullptr);
}

void inheriting_locks()
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    static pthread_mutex_t inheriting;
    static long protected_count;
    show("init", pthread_mutex_init(&inheriting, &attributes));
    static auto counts = [] {
        for (int i = 0; i < 300; ++i) {
            pthread_mutex_lock(&inheriting);
            const long seen = protected_count;
            if (i % 10 == 0)
                sched_yield();
            protected_count = seen + 1;
            pthread_mutex_unlock(&inheriting);
        }
    };
    pthread_t threads[4];
    for (auto& t : threads)
        t = start(counts);
    for (const auto t : threads)
        pthread_join(t, nullptr);
    printf("counted %ld\n", protected_count);
    auto dies = [] {
        pthread_mutex_lock(&inheriting);
        nap(50);
    };
    const pthread_t owner = start(dies);
    nap(20);
    printf("its owner ended: %d\n", pthread_mutex_lock(&inheriting) == EOWNERDEAD);
    pthread_mutex_consistent(&inheriting);
    show("unlock", pthread_mutex_unlock(&inheriting));
    pthread_join(owner, nullptr);
    in_thread([] { pthread_mutex_lock(&inheriting); });
    printf("before anybody waited: %d\n", pthread_mutex_lock(&inheriting) == EOWNERDEAD);
    pthread_mutex_consistent(&inheriting);
    pthread_mutex_unlock(&inheriting);
}

void destructors_and_cancellation()
{
    static pthread_key_t key;
    pthread_key_create(&key, [](void* value) { printf("destructor of %s\n", static_cast<const char*>(value)); });
    in_thread([] { pthread_setspecific(key, "a thread's value"); });
    in_thread([] {
        pthread_setspecific(key, "one that left by pthread_exit");
        pthread_exit(nullptr);
    });

    static sem_t waits;
    sem_init(&waits, 0, 0);
    const auto cancelled = [](void* (*body)(void*)) {
        pthread_t t;
        pthread_create(&t, nullptr, body, nullptr);
        sem_wait(&waits);
        nap(20);
        pthread_cancel(t);
        void* result = nullptr;
        pthread_join(t, &result);
        printf("cancelled: %d\n", result == PTHREAD_CANCELED);
    };
    cancelled([](void*) -> void* {
        sem_post(&waits);
        for (;;)
            pause();
    });
    cancelled([](void*) -> void* {
        static int ends[2];
        char byte;
        if (pipe(ends) == 0)
            sem_post(&waits);
        return read(ends[0], &byte, 1) == 0 ? nullptr : &ends;
    });
    cancelled([](void*) -> void* {
        pthread_mutex_lock(&lock);
        pthread_cleanup_push(
            [](void*) {
                puts("cleaned up");
                pthread_mutex_unlock(&lock);
            },
            nullptr);
        sem_post(&waits);
        for (;;)
            pthread_cond_wait(&changed, &lock);
        pthread_cleanup_pop(0);
        return nullptr;
    });
    printf("lock is free: %d\n", pthread_mutex_trylock(&lock) == 0);
    pthread_mutex_unlock(&lock);
}

void robust_locks()
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    static pthread_mutex_t robust, second;
    pthread_mutex_init(&robust, &attributes);
    pthread_mutex_init(&second, &attributes);
    in_thread([] {
        pthread_mutex_lock(&robust);
        pthread_mutex_lock(&second);
    });
    printf("after its owner's end: %d\n", pthread_mutex_lock(&robust) == EOWNERDEAD);
    show("consistent", pthread_mutex_consistent(&robust));
    show("unlock", pthread_mutex_unlock(&robust));
    show("lock", pthread_mutex_lock(&robust));
    printf("the second: %d\n", pthread_mutex_trylock(&second) == EOWNERDEAD);
    pthread_mutex_unlock(&second);
    printf("not made consistent: %d\n", pthread_mutex_lock(&second) == ENOTRECOVERABLE);
    pthread_mutex_unlock(&robust);

    // One that already waits when the owner ends.
    static sem_t held;
    sem_init(&held, 0, 0);
    auto holds = [] {
        pthread_mutex_lock(&robust);
        sem_post(&held);
        nap(50);
    };
    const pthread_t holder = start(holds);
    sem_wait(&held);
    printf("while waiting: %d\n", pthread_mutex_lock(&robust) == EOWNERDEAD);
    pthread_mutex_consistent(&robust);
    pthread_mutex_unlock(&robust);
    pthread_join(holder, nullptr);

    // Between processes.
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    auto* shared =
        static_cast<pthread_mutex_t*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    pthread_mutex_init(shared, &attributes);
    in_child([&] {
        pthread_mutex_lock(shared);
        kill(getpid(), SIGKILL);
    });
    printf("after its process's end: %d\n", pthread_mutex_lock(shared) == EOWNERDEAD);
}

volatile sig_atomic_t handled_by, handled_times;

void signals()
{
    struct sigaction action {};
    action.sa_handler = [](int) {
        handled_by = id_of_thread();
        handled_times = handled_times + 1;
    };
    sigaction(SIGUSR1, &action, nullptr);
    static volatile int stop, id;
    auto waits = [] {
        id = id_of_thread();
        while (!stop)
            nap(5);
    };
    const pthread_t t = start(waits);
    while (id == 0)
        nap(1);
    const auto tell = [](const char* what) {
        nap(30);
        printf("%s: by the %s, times %d\n", what,
               handled_by == getpid() ? "first"
               : handled_by == id     ? "second"
                                      : "nobody",
               static_cast<int>(handled_times));
    };
    kill(getpid(), SIGUSR1);
    tell("to the process");
    pthread_kill(t, SIGUSR1);
    tell("to the second");
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    kill(getpid(), SIGUSR1);
    tell("to the process, blocked by the first");
    syscall(SYS_tgkill, getpid(), getpid(), SIGUSR1);
    tell("to the first, which blocks it");
    pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
    tell("unblocked");
    stop = 1;
    pthread_join(t, nullptr);
    sigaddset(&set, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    in_thread([&] { // which inherits the mask
        alarm(1);
        int taken = 0;
        sigwait(&set, &taken);
        printf("sigwait: %d\n", taken == SIGALRM);
    });
    pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
    show("tgkill of nobody", syscall(SYS_tgkill, getpid(), 32000, 0));
    show("tgkill with another's group", syscall(SYS_tgkill, 1, getpid(), 0));
    show("tkill of 0", syscall(SYS_tkill, 0, 0));
}

void processes(const char* program)
{
    static volatile int stop;
    stop = 0;
    auto waits = [] {
        while (!stop)
            nap(5);
    };
    const pthread_t t = start(waits);
    printf("threads: %ld\n", of_status("Threads:"));
    printf("fork: %x\n", static_cast<unsigned>(in_child([] {
               printf("child's threads: %ld, first: %d\n", of_status("Threads:"), id_of_thread() == getpid());
               in_thread([] { puts("a thread of the child's"); });
           })));
    in_thread([] {
        printf("fork in a thread: %x\n", static_cast<unsigned>(in_child([] {
                   printf("child's threads: %ld, first: %d\n", of_status("Threads:"), id_of_thread() == getpid());
               })));
    });
    stop = 1;
    pthread_join(t, nullptr);

    static const char* path;
    path = program;
    printf("execve in a thread: %x\n", static_cast<unsigned>(in_child([] {
               auto sleeps = [] { nap(100'000); };
               start(sleeps);
               auto executes = [] {
                   char id[16];
                   snprintf(id, sizeof id, "%d", getpid());
                   execl(path, path, "executed", id, nullptr);
               };
               pthread_join(start(executes), nullptr);
           })));
    const auto sleepers = [] {
        static auto sleeps = [] { nap(100'000); };
        static auto blocks = [] { pthread_mutex_lock(&lock), pthread_mutex_lock(&lock); };
        start(sleeps), start(sleeps), start(blocks);
        nap(20);
    };
    printf("exit_group: %x\n", static_cast<unsigned>(in_child([&] {
               sleepers();
               exit(7);
           })));
    printf("exit_group in a thread: %x\n", static_cast<unsigned>(in_child([&] {
               sleepers();
               in_thread([] { _exit(8); });
           })));
    printf("fault in a thread: %x\n", static_cast<unsigned>(in_child([&] {
                                                                sleepers();
                                                                in_thread([] { raise_fault(); });
                                                            }) &
                                                            0x7f));
    printf("the first ends: %x\n", static_cast<unsigned>(in_child([&] {
               static auto lasts = [] {
                   nap(50);
                   printf("State of the first: %d\n", of_status("Pid:") == getpid());
                   fflush(stdout);
                   syscall(SYS_exit, 9);
               };
               start(lasts);
               syscall(SYS_exit, 5);
           })));

    fflush(stdout);
    const pid_t stopped = fork();
    if (stopped == 0) {
        sleepers();
        pause();
    }
    nap(50);
    int status = 0;
    kill(stopped, SIGSTOP);
    waitpid(stopped, &status, WUNTRACED);
    printf("stopped: %x\n", static_cast<unsigned>(status));
    kill(stopped, SIGCONT);
    waitpid(stopped, &status, WCONTINUED);
    printf("continued: %x\n", static_cast<unsigned>(status));
    kill(stopped, SIGTERM);
    waitpid(stopped, &status, 0);
    printf("ended: %x\n", static_cast<unsigned>(status));

    printf("setuid in a thread: %x\n", static_cast<unsigned>(in_child([] {
               static volatile int seen, done;
               auto watches = [] {
                   while (!done)
                       nap(1);
                   seen = static_cast<int>(getuid());
               };
               const pthread_t watcher = start(watches);
               in_thread([] { show("setgid", setgid(1000)), show("setuid", setuid(1000)); });
               done = 1;
               pthread_join(watcher, nullptr);
               printf("uid %d, elsewhere %d, gid %d, again %d\n", static_cast<int>(getuid()), seen,
                      static_cast<int>(getgid()), setuid(0));
           })));
    rlimit few{1, 1};
    printf("RLIMIT_NPROC: %x\n", static_cast<unsigned>(in_child([&] {
               setrlimit(RLIMIT_NPROC, &few);
               show("setuid", setuid(1001));
               pthread_t one;
               const auto nothing = [](void*) -> void* { return nullptr; };
               printf("pthread_create: %d\n", pthread_create(&one, nullptr, nothing, nullptr) == EAGAIN);
           })));
}

void names_and_schedules()
{
    static sem_t named, told;
    sem_init(&named, 0, 0), sem_init(&told, 0, 0);
    static int id;
    auto worker = [] {
        pthread_setname_np(pthread_self(), "worker");
        id = id_of_thread();
        setpriority(PRIO_PROCESS, 0, 5);
        sem_post(&named);
        sem_wait(&told);
    };
    const pthread_t t = start(worker);
    sem_wait(&named);
    const auto show_file = [](const char* format, int of) {
        char path[64], line[256]{};
        snprintf(path, sizeof path, format, getpid(), of);
        FILE* file = fopen(path, "r");
        if (!file || !fgets(line, sizeof line, file))
            strcpy(line, "none\n");
        if (file)
            fclose(file);
        printf("%s: %s", format, line);
    };
    show_file("/proc/%d/task/%d/comm", id);
    show_file("/proc/%d/comm", 0);
    show_file("/proc/%d/task/1234567/comm", 0);
    printf("nice %d, of the first %d\n", getpriority(PRIO_PROCESS, static_cast<id_t>(id)),
           getpriority(PRIO_PROCESS, 0));
    show("policy", sched_getscheduler(id));
    show("getpgid", getpgid(id) == getpgid(0));
    sem_post(&told);
    pthread_join(t, nullptr);
    while (syscall(SYS_sched_getscheduler, id) == 0) // it is joined before it has quite ended
        nap(1);
    show("of one that has ended", syscall(SYS_sched_getscheduler, id));
    rusage all{}, one{};
    in_thread([] {
        const clock_t begin = clock();
        while (clock() - begin < CLOCKS_PER_SEC / 10) {}
    });
    getrusage(RUSAGE_SELF, &all);
    getrusage(1 /* RUSAGE_THREAD */, &one);
    const auto microseconds = [](const rusage& r) {
        return (r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1'000'000 + r.ru_utime.tv_usec + r.ru_stime.tv_usec;
    };
    printf("the process used what its threads did: %d\n", microseconds(all) - microseconds(one) >= 90'000);
}

long gs()
{
    long value;
    asm volatile("movq %%gs:0, %0" : "=r"(value));
    return value;
}
long base_of_gs()
{
    constexpr int get_gs = 0x1004;
    long value = -1;
    syscall(SYS_arch_prctl, get_gs, &value);
    return value;
}

// Where GS leads is each thread's own, through switches, signals, forks and execve, and nowhere before it is set.
void bases_of_gs(const char* self)
{
    static constexpr int set_gs = 0x1001;
    printf("GS at first: %ld\n", base_of_gs());
    static long places[2]{7, 8};
    static volatile int right[2];
    const auto worker = [](int which) {
        syscall(SYS_arch_prctl, set_gs, &places[which]);
        for (int i = 0; i < 300; ++i) {
            right[which] = right[which] + (gs() == 7 + which && base_of_gs() == reinterpret_cast<long>(&places[which]));
            sched_yield();
        }
    };
    auto first = [worker] { worker(0); };
    auto second = [worker] { worker(1); };
    const pthread_t a = start(first), b = start(second);
    pthread_join(a, nullptr), pthread_join(b, nullptr);
    printf("GS of two threads: %d %d, here %ld\n", right[0], right[1], base_of_gs());
    printf("GS beside them: signal %d\n", WTERMSIG(in_child([] { printf("leads to %ld\n", gs()); })));
    syscall(SYS_arch_prctl, set_gs, &places[1]);
    printf("GS in a child: %x\n", static_cast<unsigned>(in_child([] { printf("child: %ld\n", gs()); })));
    in_thread([] { printf("GS in a thread that is made: %d\n", base_of_gs() == reinterpret_cast<long>(&places[1])); });
    printf("GS in a program that is executed: signal %d\n", WTERMSIG(in_child([self] {
               execl(self, self, "gs", nullptr);
           })));
    show("GS in the kernel's half", syscall(SYS_arch_prctl, set_gs, 0xffff'8000'0000'0000));
    printf("GS stays: %ld\n", gs());
}

void raw_calls()
{
    static uint32_t word[4];
    const auto futex = [](uint32_t* at, int operation, uint32_t value, void* timeout = nullptr,
                          uint32_t* second = nullptr, uint32_t third = 0) {
        return syscall(SYS_futex, at, operation, value, timeout, second, third);
    };
    const auto number = [](long n) { return reinterpret_cast<void*>(n); };
    timespec bad{0, -1}, past{0, 1};
    auto* const nowhere = reinterpret_cast<uint32_t*>(0x1000);
    show("wait for another value", futex(word, futex_wait, 1));
    show("wait at an odd place", futex(reinterpret_cast<uint32_t*>(1), futex_wait, 1));
    show("wait nowhere", futex(nowhere, futex_wait, 1));
    show("wait with a bad time", futex(word, futex_wait, 0, &bad));
    show("wait for a nanosecond", futex(word, futex_wait, 0, &past));
    show("wait for no bits", futex(word, futex_wait_bitset, 0, nullptr, nullptr, 0));
    show("wait until long ago", futex(word, futex_wait_bitset, 0, &past, nullptr, 1));
    show("the same by the wall clock", futex(word, futex_wait_bitset | futex_realtime, 0, &past, nullptr, 1));
    show("wake nobody", futex(word, futex_wake, 10));
    show("wake no bits", futex(word, futex_wake_bitset, 10, nullptr, nullptr, 0));
    show("wake nowhere", futex(nowhere, futex_wake, 1));
    show("wake nowhere in private", futex(nowhere, futex_wake | futex_private, 1));
    show("requeue nobody", futex(word, futex_requeue, 1, number(1), word + 1));
    show("requeue less than none", futex(word, futex_requeue, 1, number(-1), word + 1));
    show("requeue of another value", futex(word, futex_cmp_requeue, 1, number(1), word + 1, 5));
    show("requeue of this value", futex(word, futex_cmp_requeue, 1, number(1), word + 1, 0));
    show("an operation that there is not", futex(word, 77, 1));
    const auto modify = [&](const char* what, int operation, int operand, int comparison, int compared) {
        word[1] = 12;
        show(what, futex(word, futex_wake_op, 1, number(1), word + 1,
                         static_cast<uint32_t>(operation << 28 | comparison << 24 | (operand & 0xfff) << 12 |
                                               (compared & 0xfff))));
        printf("  is %d\n", static_cast<int>(word[1]));
    };
    modify("set", set, 7, equal, 12);
    modify("add", add, -3, unequal, 12);
    modify("or", or_in, 3, less, 12);
    modify("andn", and_not, 4, at_most, 12);
    modify("xor", exclusive_or, 5, more, -1);
    modify("or a bit", or_in | shifted, 4, at_least, 12);
    modify("nonsense", nonsense, 4, at_least, 12);

    // Two wait for one word; one is woken, the other moved and woken there.
    static int woken;
    auto waits = [] {
        syscall(SYS_futex, word + 2, futex_wait | futex_private, 0, nullptr, nullptr, 0);
        __atomic_add_fetch(&woken, 1, __ATOMIC_SEQ_CST);
    };
    const pthread_t one = start(waits), two = start(waits);
    nap(50);
    show("requeue", futex(word + 2, futex_cmp_requeue | futex_private, 1, number(1), word + 3, 0));
    nap(30);
    printf("woken: %d\n", __atomic_load_n(&woken, __ATOMIC_SEQ_CST));
    show("wake where nobody is left", futex(word + 2, futex_wake | futex_private, 5));
    show("wake where it was moved", futex(word + 3, futex_wake | futex_private, 5));
    pthread_join(one, nullptr), pthread_join(two, nullptr);

    // Locks with an owner, by hand.
    const auto own = static_cast<uint32_t>(id_of_thread());
    word[0] = 0;
    show("lock", futex(word, futex_lock_pi, 0));
    printf("  is mine: %d\n", word[0] == own);
    show("lock again", futex(word, futex_lock_pi, 0));
    show("try again", futex(word, futex_trylock_pi, 0));
    show("unlock", futex(word, futex_unlock_pi, 0));
    printf("  is %u\n", word[0]);
    show("unlock again", futex(word, futex_unlock_pi, 0));
    show("try", futex(word, futex_trylock_pi, 0));
    in_thread([&] {
        show("lock until long ago", futex(word, futex_lock_pi, 0, &past));
        show("try another's", futex(word, futex_trylock_pi, 0));
        show("unlock another's", futex(word, futex_unlock_pi, 0));
        printf("  is the other's: %d\n", (word[0] & 0x3fffffff) == own);
    });
    show("unlock", futex(word, futex_unlock_pi, 0));
    printf("  is %u\n", word[0]);
    word[0] = 32000;
    show("lock nobody's", futex(word, futex_lock_pi, 0));
    word[0] = 0;
    show("lock nowhere", futex(nowhere, futex_lock_pi, 0));
    show("lock by another clock", futex(word, futex_lock_pi | futex_realtime, 0));

    const auto clone_with = [](unsigned long flags, unsigned long tls = 0) {
        return syscall(SYS_clone, flags, nullptr, nullptr, nullptr, tls);
    };
    show("a thread without its memory", clone_with(CLONE_THREAD));
    show("a thread without its handlers", clone_with(CLONE_THREAD | CLONE_VM));
    show("handlers without memory", clone_with(CLONE_SIGHAND));
    constexpr unsigned long thread = CLONE_THREAD | CLONE_VM | CLONE_SIGHAND | CLONE_FS | CLONE_FILES;
    show("TLS in the kernel", clone_with(thread | CLONE_SETTLS, 0xffff'8000'0000'0000));
    struct {
        uint64_t flags, pidfd, child, parent, signal, stack, size, tls;
    } arguments{thread, 0, 0, 0, SIGCHLD, 0, 0, 0};
    show("a thread that sends a signal", syscall(SYS_clone3, &arguments, sizeof arguments));
    void* head = nullptr;
    size_t size = 0;
    show("a robust list of another size", syscall(SYS_set_robust_list, &head, 23));
    show("the robust list of nobody", syscall(SYS_get_robust_list, 32000, &head, &size));
    show("the robust list", syscall(SYS_get_robust_list, 0, &head, &size));
    printf("size %zu\n", size);
}

} // namespace

int main(int count, char** arguments)
{
    if (count == 3 && strcmp(arguments[1], "executed") == 0) {
        printf("executed: same process %d, first %d, threads %ld\n", atoi(arguments[2]) == getpid(),
               id_of_thread() == getpid(), of_status("Threads:"));
        return 6;
    }
    if (count == 2 && strcmp(arguments[1], "gs") == 0) {
        printf("executed: GS at first %ld\n", base_of_gs());
        fflush(stdout);
        printf("executed: GS leads to %ld\n", gs());
        return 0;
    }
    setvbuf(stdout, nullptr, _IOFBF, 1 << 16);
    waiting_for_each_other();
    destructors_and_cancellation();
    robust_locks();
    inheriting_locks();
    signals();
    processes(arguments[0]);
    names_and_schedules();
    bases_of_gs(arguments[0]);
    raw_calls();
}
