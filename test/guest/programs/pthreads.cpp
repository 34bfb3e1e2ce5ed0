// What POSIX says of each means by which threads wait for each other, and of how threads end: mutexes of every kind,
// reader-writer and spin locks, conditions, barriers, semaphores, cancellation, keys, detached threads; within a
// process and between processes. Prints the same on every run: nothing here depends on how long something takes.

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

namespace {

void show(const char* what, long outcome) { printf("%s: %ld\n", what, outcome); }
int error_of(int outcome) { return outcome == -1 ? errno : outcome; }
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
// What body() returns, in another thread.
template <class Body>
int elsewhere(Body body)
{
    int outcome = 0;
    auto keeps = [&] { outcome = body(); };
    pthread_join(start(keeps), nullptr);
    return outcome;
}
template <class Act>
pid_t start_child(Act act)
{
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        act();
        fflush(stdout);
        _exit(0);
    }
    return child;
}
unsigned status_of(pid_t child)
{
    int status = -1;
    waitpid(child, &status, 0);
    return static_cast<unsigned>(status);
}
template <class Shared>
Shared* share()
{
    static_assert(sizeof(Shared) <= 4096);
    return static_cast<Shared*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
}
timespec from_now(clockid_t clock, long milliseconds)
{
    timespec t{};
    clock_gettime(clock, &t);
    t.tv_nsec += milliseconds * 1'000'000;
    t.tv_sec += t.tv_nsec / 1'000'000'000;
    t.tv_nsec %= 1'000'000'000;
    return t;
}
bool has_come(clockid_t clock, const timespec& t)
{
    timespec now{};
    clock_gettime(clock, &now);
    return now.tv_sec > t.tv_sec || (now.tv_sec == t.tv_sec && now.tv_nsec >= t.tv_nsec);
}
const timespec nonsense{0, 1'000'000'000};

int id_of_thread() { return static_cast<int>(syscall(SYS_gettid)); }
// Until the thread waits for something.
void wait_for_sleep_of(const char* task)
{
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%s/stat", task);
    for (char state = 0; state != 'S'; sched_yield()) {
        FILE* file = fopen(path, "r");
        if (!file || !fgets(line, sizeof line, file))
            strcpy(line, ") S");
        state = *(strrchr(line, ')') + 2);
        if (file)
            fclose(file);
    }
}
void wait_for_sleep_of_thread(int id)
{
    char task[32];
    snprintf(task, sizeof task, "self/task/%d", id);
    wait_for_sleep_of(task);
}
void wait_for_sleep_of_process(pid_t id)
{
    char task[32];
    snprintf(task, sizeof task, "%d", id);
    wait_for_sleep_of(task);
}
long threads_of_process()
{
    FILE* file = fopen("/proc/self/status", "r");
    char line[256];
    long count = -1;
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, "Threads:", 8) == 0)
            count = atol(line + 8);
    if (file)
        fclose(file);
    return count;
}

void mutexes()
{
    static const struct {
        const char* name;
        int type, protocol, shared;
    } kinds[] = {
        {"normal", PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE, PTHREAD_PROCESS_PRIVATE},
        {"recursive", PTHREAD_MUTEX_RECURSIVE, PTHREAD_PRIO_NONE, PTHREAD_PROCESS_PRIVATE},
        {"errorcheck", PTHREAD_MUTEX_ERRORCHECK, PTHREAD_PRIO_NONE, PTHREAD_PROCESS_PRIVATE},
        {"inheriting", PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_INHERIT, PTHREAD_PROCESS_PRIVATE},
        {"inheriting recursive", PTHREAD_MUTEX_RECURSIVE, PTHREAD_PRIO_INHERIT, PTHREAD_PROCESS_PRIVATE},
        {"inheriting errorcheck", PTHREAD_MUTEX_ERRORCHECK, PTHREAD_PRIO_INHERIT, PTHREAD_PROCESS_PRIVATE},
        {"shared", PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE, PTHREAD_PROCESS_SHARED},
        {"shared inheriting", PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_INHERIT, PTHREAD_PROCESS_SHARED},
    };
    for (const auto& kind : kinds) {
        printf("mutex: %s\n", kind.name);
        pthread_mutexattr_t attributes;
        pthread_mutexattr_init(&attributes);
        pthread_mutexattr_settype(&attributes, kind.type);
        pthread_mutexattr_setprotocol(&attributes, kind.protocol);
        pthread_mutexattr_setpshared(&attributes, kind.shared);
        pthread_mutex_t m;
        show("init", pthread_mutex_init(&m, &attributes));
        const timespec past{1, 0};
        const auto try_it = [&] { return pthread_mutex_trylock(&m); };
        const auto timed = [&] {
            const timespec soon = from_now(CLOCK_REALTIME, 20);
            const int outcome = pthread_mutex_timedlock(&m, &soon);
            return outcome == ETIMEDOUT && !has_come(CLOCK_REALTIME, soon) ? -1 : outcome;
        };

        show("try", try_it());
        show("another's try", elsewhere(try_it));
        show("another's, until long ago", elsewhere([&] { return pthread_mutex_timedlock(&m, &past); }));
        show("another's, for a while", elsewhere(timed));
        if (kind.protocol == PTHREAD_PRIO_NONE) // musl would wait for ever
            show("another's, until nonsense", elsewhere([&] { return pthread_mutex_timedlock(&m, &nonsense); }));
        int locked = 1;
        const auto again = [&](const char* what, int outcome) {
            locked += outcome == 0;
            show(what, outcome);
        };
        again("try again", try_it());
        again("again, for a while", timed());
        if (kind.type != PTHREAD_MUTEX_NORMAL) {
            again("again", pthread_mutex_lock(&m));
            show("another's unlock", elsewhere([&] { return pthread_mutex_unlock(&m); }));
        }
        for (; locked > 1; --locked)
            pthread_mutex_unlock(&m);
        show("another's try before the last unlock", elsewhere(try_it));
        show("unlock", pthread_mutex_unlock(&m));
        if (kind.type != PTHREAD_MUTEX_NORMAL)
            show("unlock once more", pthread_mutex_unlock(&m));
        show("another's until long ago, free",
             elsewhere([&] { return pthread_mutex_timedlock(&m, &past) + pthread_mutex_unlock(&m); }));

        // Whoever waits gets it when it is free, and not before.
        pthread_mutex_lock(&m);
        int id = 0;
        bool released = false, seen_released[2]{};
        auto waits = [&] {
            __atomic_store_n(&id, id_of_thread(), __ATOMIC_SEQ_CST);
            pthread_mutex_lock(&m);
            seen_released[0] = released;
            pthread_mutex_unlock(&m);
        };
        const auto wait_until_it_waits = [&] {
            while (__atomic_load_n(&id, __ATOMIC_SEQ_CST) == 0)
                sched_yield();
            wait_for_sleep_of_thread(id);
            id = 0;
        };
        const pthread_t one = start(waits);
        wait_until_it_waits();
        auto waits_for_a_time = [&] {
            const timespec far = from_now(CLOCK_REALTIME, 1'000'000);
            __atomic_store_n(&id, id_of_thread(), __ATOMIC_SEQ_CST);
            const int outcome = pthread_mutex_timedlock(&m, &far);
            seen_released[1] = outcome == 0 && released;
            pthread_mutex_unlock(&m);
        };
        const pthread_t two = start(waits_for_a_time);
        wait_until_it_waits();
        released = true;
        pthread_mutex_unlock(&m);
        pthread_join(one, nullptr), pthread_join(two, nullptr);
        printf("waited until it was free: %d %d\n", seen_released[0], seen_released[1]);
        show("destroy", pthread_mutex_destroy(&m));
    }
}

void reader_writer_locks()
{
    static pthread_rwlock_t rw;
    pthread_rwlock_init(&rw, nullptr);
    static pthread_barrier_t both;
    pthread_barrier_init(&both, nullptr, 3);
    auto reads = [] {
        pthread_rwlock_rdlock(&rw);
        pthread_barrier_wait(&both); // passed only if two read at once
        pthread_barrier_wait(&both);
        pthread_rwlock_unlock(&rw);
    };
    const timespec past{1, 0};
    const auto timed = [](int (*lock)(pthread_rwlock_t*, const timespec*)) {
        const timespec soon = from_now(CLOCK_REALTIME, 20);
        const int outcome = lock(&rw, &soon);
        return outcome == ETIMEDOUT && !has_come(CLOCK_REALTIME, soon) ? -1 : outcome;
    };
    const auto timed_read = [&] { return timed([](auto* l, auto* t) { return pthread_rwlock_timedrdlock(l, t); }); };
    const auto timed_write = [&] { return timed([](auto* l, auto* t) { return pthread_rwlock_timedwrlock(l, t); }); };
    const pthread_t first = start(reads), second = start(reads);
    pthread_barrier_wait(&both);
    puts("two read at once");
    show("try to write", pthread_rwlock_trywrlock(&rw));
    show("write until long ago", pthread_rwlock_timedwrlock(&rw, &past));
    show("write for a while", timed_write());
    show("write until nonsense", pthread_rwlock_timedwrlock(&rw, &nonsense));
    show("try to read", pthread_rwlock_tryrdlock(&rw));
    show("unlock", pthread_rwlock_unlock(&rw));
    show("read until long ago", pthread_rwlock_timedrdlock(&rw, &past));
    show("unlock", pthread_rwlock_unlock(&rw));
    pthread_barrier_wait(&both);
    pthread_join(first, nullptr), pthread_join(second, nullptr);

    show("try to write", pthread_rwlock_trywrlock(&rw));
    show("another tries to write", elsewhere([] { return pthread_rwlock_trywrlock(&rw); }));
    show("another tries to read", elsewhere([] { return pthread_rwlock_tryrdlock(&rw); }));
    show("another reads for a while", elsewhere(timed_read));
    show("another reads until nonsense", elsewhere([] { return pthread_rwlock_timedrdlock(&rw, &nonsense); }));
    show("another writes for a while", elsewhere(timed_write));
    show("unlock", pthread_rwlock_unlock(&rw));
    show("another tries to write",
         elsewhere([] { return pthread_rwlock_trywrlock(&rw) + pthread_rwlock_unlock(&rw); }));

    static long left, right, readers, writers, violations;
    auto writes = [] {
        for (int i = 0; i < 200; ++i) {
            pthread_rwlock_wrlock(&rw);
            const bool alone = __atomic_add_fetch(&writers, 1, __ATOMIC_SEQ_CST) == 1 &&
                               __atomic_load_n(&readers, __ATOMIC_SEQ_CST) == 0;
            ++left;
            if (i % 10 == 0)
                sched_yield();
            ++right;
            __atomic_sub_fetch(&writers, 1, __ATOMIC_SEQ_CST);
            violations += !alone;
            pthread_rwlock_unlock(&rw);
        }
    };
    auto looks = [] {
        for (int i = 0; i < 200; ++i) {
            pthread_rwlock_rdlock(&rw);
            __atomic_add_fetch(&readers, 1, __ATOMIC_SEQ_CST);
            const long seen = __atomic_load_n(&left, __ATOMIC_RELAXED);
            if (i % 10 == 0)
                sched_yield();
            const bool alone = __atomic_load_n(&writers, __ATOMIC_SEQ_CST) == 0 && right == seen;
            __atomic_sub_fetch(&readers, 1, __ATOMIC_SEQ_CST);
            if (!alone)
                __atomic_add_fetch(&violations, 1, __ATOMIC_SEQ_CST);
            pthread_rwlock_unlock(&rw);
        }
    };
    pthread_t threads[5];
    for (int i = 0; i < 5; ++i)
        threads[i] = i < 2 ? start(writes) : start(looks);
    for (const auto t : threads)
        pthread_join(t, nullptr);
    printf("written %ld %ld, violations %ld\n", left, right, violations);
    show("destroy", pthread_rwlock_destroy(&rw));
}

void conditions()
{
    static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
    static pthread_cond_t changed;
    static constexpr clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC};
    for (const clockid_t clock : clocks) {
        pthread_condattr_t attributes;
        pthread_condattr_init(&attributes);
        show("condition by clock", pthread_condattr_setclock(&attributes, clock));
        clockid_t kept = -1;
        pthread_condattr_getclock(&attributes, &kept);
        show("clock", kept);
        show("init", pthread_cond_init(&changed, &attributes));
        pthread_mutex_lock(&m);
        const timespec past{0, 1}, soon = from_now(clock, 20);
        show("wait until long ago", pthread_cond_timedwait(&changed, &m, &past));
        int outcome = 0;
        while ((outcome = pthread_cond_timedwait(&changed, &m, &soon)) == 0) {}
        show("wait for a while", outcome);
        show("it has come", has_come(clock, soon));
        show("wait until nonsense", pthread_cond_timedwait(&changed, &m, &nonsense));
        show("another's try of its mutex", elsewhere([] { return pthread_mutex_trylock(&m); }));

        // Each signal takes one of them out at least; who comes late waits.
        static int tokens, out, waiting;
        tokens = out = waiting = 0;
        auto waits = [] {
            pthread_mutex_lock(&m);
            ++waiting;
            while (tokens == 0)
                pthread_cond_wait(&changed, &m);
            --tokens, ++out, --waiting;
            pthread_mutex_unlock(&m);
        };
        pthread_t threads[6];
        for (auto& t : threads)
            t = start(waits);
        const auto yield_until = [&](const int& value, int wanted) {
            while (value != wanted) {
                pthread_mutex_unlock(&m);
                sched_yield();
                pthread_mutex_lock(&m);
            }
        };
        yield_until(waiting, 6);
        for (int i = 1; i <= 3; ++i) {
            ++tokens;
            pthread_cond_signal(&changed);
            yield_until(out, i);
        }
        printf("signalled: %d out, %d wait\n", out, waiting);
        tokens = 3;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&m);
        for (const auto t : threads)
            pthread_join(t, nullptr);
        printf("broadcast: %d out, %d wait\n", out, waiting);
        show("destroy", pthread_cond_destroy(&changed));
    }
}

void barriers()
{
    constexpr int members = 4, rounds = 200;
    static pthread_barrier_t barrier;
    static int serial, arrived, violations;
    show("barrier of none", pthread_barrier_init(&barrier, nullptr, 0));
    pthread_barrier_init(&barrier, nullptr, members);
    auto passes = [] {
        for (int round = 1; round <= rounds; ++round) {
            __atomic_add_fetch(&arrived, 1, __ATOMIC_SEQ_CST);
            const int outcome = pthread_barrier_wait(&barrier);
            if (outcome == PTHREAD_BARRIER_SERIAL_THREAD)
                __atomic_add_fetch(&serial, 1, __ATOMIC_SEQ_CST);
            const int seen = __atomic_load_n(&arrived, __ATOMIC_SEQ_CST);
            if (seen < members * round || seen > members * round + members - 1 ||
                (outcome != 0 && outcome != PTHREAD_BARRIER_SERIAL_THREAD))
                __atomic_add_fetch(&violations, 1, __ATOMIC_SEQ_CST);
        }
    };
    pthread_t threads[members];
    for (auto& t : threads)
        t = start(passes);
    for (const auto t : threads)
        pthread_join(t, nullptr);
    printf("rounds: serial %d, violations %d\n", serial, violations);
    show("destroy", pthread_barrier_destroy(&barrier));
}

void spin_locks()
{
    static pthread_spinlock_t spin;
    static long counter;
    show("spin lock", pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE));
    show("try", pthread_spin_trylock(&spin));
    show("another's try", elsewhere([] { return pthread_spin_trylock(&spin); }));
    show("unlock", pthread_spin_unlock(&spin));
    auto counts = [] {
        for (int i = 0; i < 2000; ++i) {
            pthread_spin_lock(&spin);
            const long seen = __atomic_load_n(&counter, __ATOMIC_RELAXED);
            if (i % 1000 == 500)
                sched_yield();
            __atomic_store_n(&counter, seen + 1, __ATOMIC_RELAXED);
            pthread_spin_unlock(&spin);
        }
    };
    pthread_t threads[3];
    for (auto& t : threads)
        t = start(counts);
    for (const auto t : threads)
        pthread_join(t, nullptr);
    printf("counted %ld\n", counter);
    show("destroy", pthread_spin_destroy(&spin));
}

void semaphores()
{
    static sem_t s;
    show("semaphore of too much", error_of(sem_init(&s, 0, SEM_VALUE_MAX + 1U)));
    sem_init(&s, 0, 1);
    const timespec past{1, 0}, soon = from_now(CLOCK_REALTIME, 20);
    show("until long ago, while it can", error_of(sem_timedwait(&s, &past)));
    show("try", error_of(sem_trywait(&s)));
    show("until long ago", error_of(sem_timedwait(&s, &past)));
    show("for a while", error_of(sem_timedwait(&s, &soon)));
    show("it has come", has_come(CLOCK_REALTIME, soon));
    show("until nonsense", error_of(sem_timedwait(&s, &nonsense)));
    int value = -1;
    sem_post(&s), sem_post(&s);
    sem_getvalue(&s, &value);
    show("value", value);
    sem_destroy(&s);
    sem_init(&s, 0, SEM_VALUE_MAX);
    show("one too much", error_of(sem_post(&s)));
    sem_destroy(&s);

    // A buffer of three places.
    static sem_t free_places, full_places;
    static int buffer[3];
    static long sum;
    sem_init(&free_places, 0, 3), sem_init(&full_places, 0, 0);
    auto makes = [] {
        for (int i = 1; i <= 500; ++i) {
            sem_wait(&free_places);
            buffer[i % 3] = i;
            sem_post(&full_places);
        }
    };
    auto takes = [] {
        for (int i = 1; i <= 500; ++i) {
            sem_wait(&full_places);
            sum += buffer[i % 3] == i ? i : -1'000'000;
            sem_post(&free_places);
        }
    };
    const pthread_t maker = start(makes), taker = start(takes);
    pthread_join(maker, nullptr), pthread_join(taker, nullptr);
    printf("taken: %ld\n", sum);
}

int id_of_cancelled;
void tell_id() { __atomic_store_n(&id_of_cancelled, id_of_thread(), __ATOMIC_SEQ_CST); }
void cancel(const char* what, void* (*body)(void*), bool sleeps)
{
    puts(what);
    id_of_cancelled = 0;
    pthread_t t;
    pthread_create(&t, nullptr, body, nullptr);
    while (__atomic_load_n(&id_of_cancelled, __ATOMIC_SEQ_CST) == 0)
        sched_yield();
    if (sleeps)
        wait_for_sleep_of_thread(id_of_cancelled);
    const int outcome = pthread_cancel(t);
    void* result = nullptr;
    show("join", pthread_join(t, &result));
    show("cancel", outcome);
    show("cancelled", result == PTHREAD_CANCELED);
}
void say(void* what) { puts(static_cast<const char*>(what)); }
char outermost[] = "the outermost handler", middle[] = "the middle handler", innermost[] = "the innermost handler";
template <class Wait>
void wait_with_handlers(Wait wait)
{
    pthread_cleanup_push(say, outermost);
    pthread_cleanup_push(say, middle);
    pthread_cleanup_push(say, innermost);
    tell_id();
    wait();
    pthread_cleanup_pop(0);
    pthread_cleanup_pop(0);
    pthread_cleanup_pop(0);
    puts("went on");
}

pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t never = PTHREAD_COND_INITIALIZER;
int pipe_ends[2];
volatile unsigned long computed;

void cancellation()
{
    if (pipe(pipe_ends) != 0)
        puts("no pipe");
    const auto read_nothing = [](void*) -> void* {
        wait_with_handlers([] {
            char byte;
            if (read(pipe_ends[0], &byte, 1) != 0)
                puts("read");
        });
        return nullptr;
    };
    cancel("at read", read_nothing, true);
    cancel(
        "at nanosleep",
        [](void*) -> void* {
            wait_with_handlers([] {
                const timespec long_time{1'000'000, 0};
                nanosleep(&long_time, nullptr);
            });
            return nullptr;
        },
        true);
    cancel(
        "at sem_wait",
        [](void*) -> void* {
            wait_with_handlers([] {
                static sem_t s;
                sem_init(&s, 0, 0);
                sem_wait(&s);
            });
            return nullptr;
        },
        true);
    cancel(
        "at pause",
        [](void*) -> void* {
            wait_with_handlers([] { pause(); });
            return nullptr;
        },
        true);
    const auto wait_for_change = [](void*) -> void* {
        pthread_mutex_lock(&lock);
        pthread_cleanup_push(
            [](void*) {
                show("it has the mutex again", pthread_mutex_trylock(&lock) == EBUSY);
                pthread_mutex_unlock(&lock);
            },
            nullptr);
        wait_with_handlers([] {
            for (;;)
                pthread_cond_wait(&never, &lock);
        });
        pthread_cleanup_pop(0);
        return nullptr;
    };
    cancel("at pthread_cond_wait", wait_for_change, true);
    show("the mutex is free", pthread_mutex_trylock(&lock));
    pthread_mutex_unlock(&lock);
    cancel(
        "at pthread_cond_timedwait",
        [](void*) -> void* {
            pthread_mutex_lock(&lock);
            pthread_cleanup_push([](void*) { pthread_mutex_unlock(&lock); }, nullptr);
            wait_with_handlers([] {
                const timespec far = from_now(CLOCK_REALTIME, 1'000'000'000);
                for (;;)
                    pthread_cond_timedwait(&never, &lock, &far);
            });
            pthread_cleanup_pop(0);
            return nullptr;
        },
        true);
    show("the mutex is free", pthread_mutex_trylock(&lock));
    pthread_mutex_unlock(&lock);

    // Where a thread computes it is cancelled at once if it is asynchronous; else at a point of cancellation.
    cancel(
        "asynchronously",
        [](void*) -> void* {
            pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, nullptr);
            tell_id();
            for (;;)
                computed = computed + 1;
        },
        false);
    cancel(
        "disabled, and enabled",
        [](void*) -> void* {
            pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, nullptr);
            tell_id();
            static sem_t s;
            sem_init(&s, 0, 0);
            const timespec soon = from_now(CLOCK_REALTIME, 20);
            sem_timedwait(&s, &soon);
            pthread_testcancel();
            puts("is not cancelled");
            pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, nullptr);
            for (;;)
                pthread_testcancel();
        },
        true);
    cancel(
        "that has handlers and leaves by itself",
        [](void*) -> void* {
            pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, nullptr);
            wait_with_handlers([] { pthread_exit(outermost); });
            return nullptr;
        },
        false);

    // A mutex is no point of cancellation.
    pthread_mutex_lock(&lock);
    id_of_cancelled = 0;
    auto locks = [] {
        tell_id();
        pthread_mutex_lock(&lock);
        puts("has locked");
        pthread_mutex_unlock(&lock);
        pthread_testcancel();
        puts("was not cancelled");
    };
    const pthread_t t = start(locks);
    while (__atomic_load_n(&id_of_cancelled, __ATOMIC_SEQ_CST) == 0)
        sched_yield();
    wait_for_sleep_of_thread(id_of_cancelled);
    pthread_cancel(t);
    pthread_mutex_unlock(&lock);
    void* result = nullptr;
    pthread_join(t, &result);
    show("cancelled", result == PTHREAD_CANCELED);
}

void once_and_keys()
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    static int initialized, seen;
    auto uses = [] {
        pthread_once(&once, [] {
            for (int i = 0; i < 10; ++i)
                sched_yield();
            ++initialized;
        });
        __atomic_add_fetch(&seen, initialized, __ATOMIC_SEQ_CST);
    };
    pthread_t threads[4];
    for (auto& t : threads)
        t = start(uses);
    for (const auto t : threads)
        pthread_join(t, nullptr);
    printf("once: %d, seen by %d\n", initialized, seen);

    static pthread_once_t cancelled_once = PTHREAD_ONCE_INIT;
    static bool waits_in_it = true;
    static const auto begin = [] {
        puts("begins");
        tell_id();
        while (waits_in_it)
            pause();
        puts("and ends");
    };
    cancel(
        "in pthread_once",
        [](void*) -> void* {
            pthread_once(&cancelled_once, begin);
            return nullptr;
        },
        true);
    waits_in_it = false;
    pthread_once(&cancelled_once, begin);
    pthread_once(&cancelled_once, begin);

    // A destructor that sets the value anew is called again, a few times at most.
    static pthread_key_t again, other, deleted;
    static int rounds, of_other, of_deleted;
    pthread_key_create(&again, [](void* value) {
        ++rounds;
        pthread_setspecific(again, value);
        if (rounds == 2)
            pthread_setspecific(other, value);
    });
    pthread_key_create(&other, [](void*) { ++of_other; });
    pthread_key_create(&deleted, [](void*) { ++of_deleted; });
    elsewhere([] {
        pthread_setspecific(again, &again);
        pthread_setspecific(deleted, &again);
        return pthread_key_delete(deleted);
    });
    printf("destructors: as often as may be %d, other %d, deleted %d\n", rounds == PTHREAD_DESTRUCTOR_ITERATIONS,
           of_other, of_deleted);
    show("its value here", pthread_getspecific(again) == nullptr);
    rounds = 0;
    cancel(
        "with a value",
        [](void*) -> void* {
            pthread_setspecific(other, &again);
            tell_id();
            for (;;)
                pause();
        },
        true);
    show("destructors", of_other);
}

void ends(const char* program)
{
    static sem_t ended;
    sem_init(&ended, 0, 0);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    const auto posts = [](void*) -> void* {
        sem_post(&ended);
        return nullptr;
    };
    int made = 0;
    for (int i = 0; i < 50; ++i) {
        pthread_t t;
        made += pthread_create(&t, &attributes, posts, nullptr) == 0;
    }
    for (int i = 0; i < 10; ++i) {
        pthread_t t;
        made += pthread_create(&t, nullptr, posts, nullptr) == 0 && pthread_detach(t) == 0;
    }
    for (int i = 0; i < made; ++i)
        sem_wait(&ended);
    while (threads_of_process() != 1)
        sched_yield();
    printf("detached: %d, and all have ended\n", made);

    void* result = nullptr;
    pthread_t t;
    pthread_create(
        &t, nullptr, [](void*) -> void* { pthread_exit(outermost); }, nullptr);
    pthread_join(t, &result);
    show("result of pthread_exit", result == outermost);

    // musl's first thread leaves well only in a process that was not forked, so these execute this program anew.
    const auto execute = [program](const char* status) {
        return status_of(start_child([=] { execl(program, program, status, nullptr); }));
    };
    printf("the first leaves, the last returns: %x\n", execute("0"));
    printf("the first leaves, the last calls exit: %x\n", execute("3"));
}
// The other goes on, and the process ends with it.
[[noreturn]] void leave_first(int exit_status)
{
    static pthread_t first;
    first = pthread_self();
    static int status;
    status = exit_status;
    static auto goes_on = [] {
        void* result = nullptr;
        show("join the first", pthread_join(first, &result));
        show("its result", result == outermost);
        if (status != 0)
            exit(status);
    };
    start(goes_on);
    pthread_exit(outermost);
}

// Between processes.
void shared_barrier()
{
    constexpr int members = 4, rounds = 50;
    struct shared {
        pthread_barrier_t barrier;
        int serial, arrived, violations;
    };
    auto* const s = share<shared>();
    pthread_barrierattr_t attributes;
    pthread_barrierattr_init(&attributes);
    pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(&s->barrier, &attributes, members);
    const auto passes = [s] {
        for (int round = 1; round <= rounds; ++round) {
            __atomic_add_fetch(&s->arrived, 1, __ATOMIC_SEQ_CST);
            if (pthread_barrier_wait(&s->barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
                __atomic_add_fetch(&s->serial, 1, __ATOMIC_SEQ_CST);
            const int seen = __atomic_load_n(&s->arrived, __ATOMIC_SEQ_CST);
            if (seen < members * round || seen > members * round + members - 1)
                __atomic_add_fetch(&s->violations, 1, __ATOMIC_SEQ_CST);
        }
    };
    pid_t children[members - 1];
    for (auto& child : children)
        child = start_child(passes);
    passes();
    for (const auto child : children)
        status_of(child);
    printf("barrier of processes: serial %d, violations %d\n", s->serial, s->violations);
}

void shared_conversation()
{
    struct shared {
        pthread_mutex_t m;
        pthread_cond_t changed;
        pthread_rwlock_t rw;
        sem_t semaphore;
        int turn, turns;
    };
    auto* const s = share<shared>();
    pthread_mutexattr_t of_mutex;
    pthread_mutexattr_init(&of_mutex);
    pthread_mutexattr_setpshared(&of_mutex, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&s->m, &of_mutex);
    pthread_condattr_t of_condition;
    pthread_condattr_init(&of_condition);
    pthread_condattr_setpshared(&of_condition, PTHREAD_PROCESS_SHARED);
    pthread_cond_init(&s->changed, &of_condition);
    pthread_rwlockattr_t of_rw;
    pthread_rwlockattr_init(&of_rw);
    pthread_rwlockattr_setpshared(&of_rw, PTHREAD_PROCESS_SHARED);
    pthread_rwlock_init(&s->rw, &of_rw);
    sem_init(&s->semaphore, 1, 0);
    const auto speak = [s](int which) {
        for (int i = 0; i < 100; ++i) {
            pthread_mutex_lock(&s->m);
            while (s->turn != which)
                pthread_cond_wait(&s->changed, &s->m);
            s->turn = 1 - which;
            ++s->turns;
            pthread_cond_broadcast(&s->changed);
            pthread_mutex_unlock(&s->m);
        }
    };
    pthread_rwlock_wrlock(&s->rw);
    const pid_t child = start_child([&] {
        speak(1);
        show("the child's try to read", pthread_rwlock_tryrdlock(&s->rw));
        sem_post(&s->semaphore);
        show("the child reads", pthread_rwlock_rdlock(&s->rw));
    });
    speak(0);
    while (sem_wait(&s->semaphore) != 0) {}
    wait_for_sleep_of_process(child);
    pthread_rwlock_unlock(&s->rw);
    printf("it ended: %x\n", status_of(child));
    printf("turns %d\n", s->turns);
}

void shared_robust_mutexes()
{
    struct shared {
        pthread_mutex_t m;
        int held;
    };
    auto* const s = share<shared>();
    static constexpr int protocols[] = {PTHREAD_PRIO_NONE, PTHREAD_PRIO_INHERIT};
    for (const int protocol : protocols) {
        pthread_mutexattr_t attributes;
        pthread_mutexattr_init(&attributes);
        pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
        pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
        pthread_mutexattr_setprotocol(&attributes, protocol);
        show("robust, shared", pthread_mutex_init(&s->m, &attributes));
        s->held = 0;
        const pid_t owner = start_child([s] {
            pthread_mutex_lock(&s->m);
            __atomic_store_n(&s->held, 1, __ATOMIC_SEQ_CST);
            for (;;)
                pause();
        });
        while (__atomic_load_n(&s->held, __ATOMIC_SEQ_CST) == 0)
            sched_yield();
        show("try", pthread_mutex_trylock(&s->m));
        const pid_t waiter = start_child([s] {
            show("it waited", pthread_mutex_lock(&s->m) == EOWNERDEAD);
            show("consistent", pthread_mutex_consistent(&s->m));
            show("unlock", pthread_mutex_unlock(&s->m));
        });
        wait_for_sleep_of_process(waiter);
        kill(owner, SIGKILL);
        printf("the owner: %x\n", status_of(owner));
        printf("who waited: %x\n", status_of(waiter));
        show("lock afterwards", pthread_mutex_lock(&s->m));
        show("unlock", pthread_mutex_unlock(&s->m));
        show("consistent of one that is", pthread_mutex_consistent(&s->m));

        const pid_t another = start_child([s] {
            pthread_mutex_lock(&s->m);
            kill(getpid(), SIGKILL);
        });
        printf("another owner: %x\n", status_of(another));
        const timespec far = from_now(CLOCK_REALTIME, 1'000'000);
        show("timed lock", pthread_mutex_timedlock(&s->m, &far) == EOWNERDEAD);
        show("unlock, never consistent", pthread_mutex_unlock(&s->m));
        show("try", pthread_mutex_trylock(&s->m) == ENOTRECOVERABLE);
        show("destroy", pthread_mutex_destroy(&s->m));
    }
}

} // namespace

int main(int count, char** arguments)
{
    if (count == 2)
        leave_first(atoi(arguments[1]));
    setvbuf(stdout, nullptr, _IOFBF, 1 << 16);
    mutexes();
    reader_writer_locks();
    conditions();
    barriers();
    spin_locks();
    semaphores();
    cancellation();
    once_and_keys();
    ends(arguments[0]);
    shared_barrier();
    shared_conversation();
    shared_robust_mutexes();
}
