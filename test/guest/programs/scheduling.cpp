// The scheduling calls, rightly used and not. With arguments, as util-linux's chrt and POSIX's nice, which
// busybox-static lacks: `scheduling POLICY PRIORITY PROGRAM [ARGUMENT...]` runs the program so, where a priority of
// normal ones is a nice value.

#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

constexpr int all_policies[] = {0, 1, 2, 3, 4, 5, 6, 8, -1}, priorities[] = {0, 1, 99, 100};

struct attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};
constexpr int deadline_policy = 6;
constexpr uint64_t ms = 1'000'000;

void show(const char* what, long outcome)
{
    if (outcome == -1)
        printf("%s: error %d\n", what, errno);
    else
        printf("%s: %ld\n", what, outcome);
}
// musl has the POSIX functions of these fail, since Linux's are of threads.
long set(pid_t id, int policy, int priority) { return syscall(SYS_sched_setscheduler, id, policy, &priority); }
long set(const attributes& a, unsigned flags = 0) { return syscall(SYS_sched_setattr, 0, &a, flags); }
attributes deadline(uint64_t runtime, uint64_t relative, uint64_t period, uint64_t flags = 0)
{
    return {48, deadline_policy, flags, 0, 0, runtime, relative, period};
}
void tell(const char* what)
{
    attributes a{};
    show("get", syscall(SYS_sched_getattr, 0, &a, sizeof a, 0));
    if (a.policy != deadline_policy)
        a.runtime = 0; // of normal ones it depends on the version
    printf("%s: policy %ld (%u) flags %lu nice %d priority %u runtime %lu deadline %lu period %lu; nice %d\n", what,
           syscall(SYS_sched_getscheduler, 0), a.policy, static_cast<unsigned long>(a.flags), a.nice, a.priority,
           static_cast<unsigned long>(a.runtime), static_cast<unsigned long>(a.deadline),
           static_cast<unsigned long>(a.period), getpriority(PRIO_PROCESS, 0));
    FILE* stat = fopen("/proc/self/stat", "r");
    char line[1024]{};
    if (!stat || !fgets(line, sizeof line, stat))
        return;
    fclose(stat);
    int field = 2;
    for (char* word = strtok(strrchr(line, ')') + 1, " "); word; word = strtok(nullptr, " "))
        if (++field == 18 || field == 19 || field == 40 || field == 41)
            printf("  field %d: %s\n", field, word);
}
template <class Act>
void in_child(Act act)
{
    fflush(stdout);
    if (const pid_t child = fork(); child == 0) {
        act();
        fflush(stdout);
        _exit(0);
    } else if (child < 0) {
        show("fork", child);
    } else {
        int status = 0;
        waitpid(child, &status, 0);
        if (status != 0)
            printf("child: %x\n", static_cast<unsigned>(status));
    }
}

void policies()
{
    tell("at first");
    for (const int policy : all_policies)
        for (const int priority : priorities) {
            printf("policy %d, priority %d; ", policy, priority);
            show("set", set(0, policy, priority));
        }
    set(0, SCHED_FIFO, 42);
    tell("fifo");
    int priority = 43;
    show("higher", syscall(SYS_sched_setparam, 0, &priority));
    tell("higher");
    priority = 0;
    show("as a normal one", syscall(SYS_sched_setparam, 0, &priority));
    show("round robin", set(0, SCHED_RR | 0x40000000, 5));
    tell("round robin");
    timespec turn{};
    show("interval", syscall(SYS_sched_rr_get_interval, 0, &turn));
    printf("%ld.%09ld\n", static_cast<long>(turn.tv_sec), turn.tv_nsec);
    in_child([] { tell("child"); });
    show("nice", setpriority(PRIO_PROCESS, 0, -5));
    tell("nice, and still round robin");
    show("batch", set(0, SCHED_BATCH, 0));
    tell("batch");
    in_child([] { tell("child"); });
    show("all again", set({48, 0, 8 | 16, 3, 0, 0, 0, 0}));
    tell("batch, as before");
    show("reset", set({48, SCHED_IDLE, 1, -3, 0, 0, 0, 0}));
    in_child([] { tell("child"); });
    show("normal", set({48, SCHED_OTHER, 0, 400, 0, 0, 0, 0}));
    tell("nicest");
    show("back", setpriority(PRIO_PROCESS, 0, 0));
    for (const int policy : all_policies)
        printf("policy %d: %d to %d\n", policy, static_cast<int>(syscall(SYS_sched_get_priority_min, policy)),
               static_cast<int>(syscall(SYS_sched_get_priority_max, policy)));
}

void deadlines()
{
    show("deadline", set(deadline(5 * ms, 20 * ms, 30 * ms, 1)));
    tell("deadline");
    in_child([] { tell("child"); });
    show("for good", set(deadline(5 * ms, 20 * ms, 0)));
    tell("for good");
    in_child([] { tell("no child"); });
    const struct {
        uint64_t runtime, relative, period;
    } wrong[] = {{0, 20 * ms, 0},     {1000, 20 * ms, 0},         {ms, 0, 0},
                 {2 * ms, ms, 0},     {ms, 3 * ms, 2 * ms},       {2000, 90'000, 90'000},
                 {ms, ms, 5000 * ms}, {ms, 2 * ms, ~uint64_t{0}}, {~uint64_t{0}, ms, ms}};
    for (const auto& w : wrong)
        show("wrong", set(deadline(w.runtime, w.relative, w.period)));
    uint64_t one = 0;
    show("no CPU", syscall(SYS_sched_setaffinity, 0, sizeof one, &one));
    show("normal", set(0, SCHED_OTHER, 0));
}

void errors()
{
    attributes a{};
    int priority = 1;
    char record[256]{};
    const auto get = [&](long id, void* to, unsigned size, unsigned flags) {
        return syscall(SYS_sched_getattr, id, to, size, flags);
    };
    show("get nobody's", get(99'999'999, &a, 48, 0));
    show("get of -1", get(-1, &a, 48, 0));
    show("get little", get(0, &a, 47, 0));
    show("get much", get(0, record, 256, 0));
    printf("size %d\n", *reinterpret_cast<int*>(record));
    show("get with flags", get(0, &a, 48, 1));
    show("get nowhere", get(0, nullptr, 48, 0));
    memset(record, 0, sizeof record);
    const auto set_record = [&](int size) {
        memcpy(record, &size, 4);
        return syscall(SYS_sched_setattr, 0, record, 0);
    };
    show("large, zero", set_record(256));
    record[200] = 1;
    show("large, not zero", set_record(256));
    memcpy(&priority, record, 4);
    printf("size %d\n", priority);
    show("large, part", set_record(200));
    show("small", set_record(47));
    show("huge", set_record(8192));
    show("no size", set_record(0));
    show("set with flags", set({48, 0, 0, 0, 0, 0, 0, 0}, 1));
    show("unknown flag", set({48, 0, 0x1000, 0, 0, 0, 0, 0}));
    priority = 1;
    show("set nobody's", syscall(SYS_sched_setscheduler, 99'999'999, SCHED_FIFO, &priority));
    show("set of -1", syscall(SYS_sched_setscheduler, -1, SCHED_FIFO, &priority));
    show("param of nobody", syscall(SYS_sched_getparam, 99'999'999, &priority));
    show("param to nowhere", syscall(SYS_sched_getparam, 0, nullptr));
    show("policy of nobody", syscall(SYS_sched_getscheduler, 99'999'999));
    show("policy of -1", syscall(SYS_sched_getscheduler, -1));
    show("interval of nobody", syscall(SYS_sched_rr_get_interval, 99'999'999, record));
    show("interval of -1", syscall(SYS_sched_rr_get_interval, -1, record));
    show("priority of what", syscall(SYS_setpriority, 3, 0, 0));
    show("priority of nobody", syscall(SYS_setpriority, PRIO_PROCESS, 99'999'999, 0));
    show("priority of no group", syscall(SYS_setpriority, PRIO_PGRP, 99'999'999, 0));
    show("priority of no user", syscall(SYS_setpriority, PRIO_USER, 99'999'999, 0));
    show("get of what", syscall(SYS_getpriority, 3, 0));
    show("get of nobody", syscall(SYS_getpriority, PRIO_PROCESS, 99'999'999));

    uint64_t cpus[16]{};
    show("affinity", syscall(SYS_sched_getaffinity, 0, sizeof cpus, cpus) >= 8);
    printf("the first CPU: %d\n", static_cast<int>(cpus[0] & 1));
    show("affinity, unaligned", syscall(SYS_sched_getaffinity, 0, 9, cpus));
    show("affinity, small", syscall(SYS_sched_getaffinity, 0, 0, cpus));
    show("affinity of nobody", syscall(SYS_sched_getaffinity, 99'999'999, sizeof cpus, cpus));
    cpus[0] = 1;
    show("the first", syscall(SYS_sched_setaffinity, 0, sizeof cpus, cpus));
    in_child([] {
        uint64_t mine[16]{};
        syscall(SYS_sched_getaffinity, 0, sizeof mine, mine);
        printf("child's: %lu\n", static_cast<unsigned long>(mine[0]));
    });
    cpus[0] = 0;
    show("none", syscall(SYS_sched_setaffinity, 0, sizeof cpus, cpus));
    show("of nobody", syscall(SYS_sched_setaffinity, 99'999'999, sizeof cpus, cpus));
}

void unprivileged()
{
    // To raise them takes CAP_SYS_RESOURCE, which root may lack where Linux runs.
    const rlimit none{0, 0};
    setrlimit(RLIMIT_NICE, &none);
    setrlimit(RLIMIT_RTPRIO, &none);
    const pid_t parent = getppid();
    show("user", syscall(SYS_setresuid, 1000, 1000, 1000));
    show("nicer", setpriority(PRIO_PROCESS, 0, 5));
    show("less nice", setpriority(PRIO_PROCESS, 0, 4));
    show("less nice by attributes", set({48, 0, 0, 4, 0, 0, 0, 0}));
    show("nicer by attributes", set({48, 0, 0, 6, 0, 0, 0, 0}));
    show("resets", set(0, SCHED_OTHER | 0x40000000, 0));
    show("does not", set(0, SCHED_OTHER, 0));
    show("real time", set(0, SCHED_FIFO, 1));
    show("deadline", set(deadline(ms, 10 * ms, 0)));
    show("idle", set(0, SCHED_IDLE, 0));
    show("normal", set(0, SCHED_OTHER, 0));
    show("another's", set(parent, SCHED_OTHER, 0));
    show("another's nice", setpriority(PRIO_PROCESS, static_cast<id_t>(parent), 10));
    uint64_t one = 1;
    show("another's CPUs", syscall(SYS_sched_setaffinity, parent, sizeof one, &one));
    show("another's policy", syscall(SYS_sched_getscheduler, parent));
}

} // namespace

int main(int argc, char** argv)
{
    if (argc > 3) {
        const int policy = atoi(argv[1]), priority = atoi(argv[2]);
        if (policy == SCHED_OTHER ? setpriority(PRIO_PROCESS, 0, priority) != 0 : set(0, policy, priority) != 0) {
            perror("scheduling");
            return 1;
        }
        execvp(argv[3], argv + 3);
        perror(argv[3]);
        return 127;
    }
    policies();
    deadlines();
    errors();
    in_child(unprivileged);
    return 0;
}
