// The calls that change a program's memory, rightly used and not: what each returns, and what is in memory afterwards.

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

namespace {

constexpr size_t page = 4096;

void show(const char* what, long outcome, bool address = false)
{
    if (outcome == -1)
        printf("%s: error %d\n", what, errno);
    else if (address)
        printf("%s: fine\n", what);
    else
        printf("%s: %ld\n", what, outcome);
}
void show(const char* what, const void* outcome) { show(what, reinterpret_cast<long>(outcome), true); }

sigjmp_buf back;
volatile bool expected;
void jump_back(int number)
{
    if (!expected)
        _exit(number);
    siglongjmp(back, number);
}

// The first byte at `at`, or the signal that reading it raises.
void peek(const char* what, const void* at)
{
    const int number = sigsetjmp(back, 1);
    expected = number == 0;
    if (number == 0)
        printf("%s: %d\n", what, *static_cast<const volatile unsigned char*>(at));
    else
        printf("%s: signal %d\n", what, number);
    expected = false;
}
void poke(const char* what, void* at, unsigned char value)
{
    const int number = sigsetjmp(back, 1);
    expected = number == 0;
    if (number == 0)
        *static_cast<volatile unsigned char*>(at) = value;
    else
        printf("%s: signal %d\n", what, number);
    expected = false;
}

char* map(size_t pages, int flags = MAP_PRIVATE | MAP_ANONYMOUS, int fd = -1, int protection = PROT_READ | PROT_WRITE)
{
    void* at = mmap(nullptr, pages * page, protection, flags, fd, 0);
    if (at == MAP_FAILED) {
        printf("mmap: error %d\n", errno);
        exit(1);
    }
    return static_cast<char*>(at);
}
// With room around it.
char* map_alone(size_t pages)
{
    char* at = map(pages + 64, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, PROT_NONE);
    munmap(at, (pages + 64) * page);
    return static_cast<char*>(
        mmap(at + 32 * page, pages * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
}
void number(char* at, size_t pages)
{
    for (size_t i = 0; i < pages; ++i)
        at[i * page] = static_cast<char>(i + 1);
}
void contents(const char* what, const char* at, size_t pages)
{
    printf("%s:", what);
    for (size_t i = 0; i < pages; ++i)
        printf(" %d", at[i * page]);
    printf("\n");
}
void in_child(void (*act)())
{
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        act();
        fflush(stdout);
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (status != 0)
        printf("child: %x\n", static_cast<unsigned>(status));
}

int temporary(size_t pages)
{
    int fd = open("/tmp/memory_calls", O_RDWR | O_CREAT | O_TRUNC, 0600);
    for (size_t i = 0; i < pages; ++i) {
        char block[page];
        memset(block, static_cast<int>('a' + i), page);
        if (write(fd, block, page) != page)
            printf("write: error %d\n", errno);
    }
    unlink("/tmp/memory_calls");
    return fd;
}

void remap()
{
    printf("- mremap\n");
    char* a = map_alone(4);
    number(a, 4);
    printf("shrink: %d\n", mremap(a, 4 * page, 2 * page, 0) == a);
    peek("cut off", a + 2 * page);
    printf("grow: %d\n", mremap(a, 2 * page, 5 * page, 0) == a);
    contents("grown", a, 5);
    printf("same: %d\n", mremap(a, 5 * page, 5 * page, 0) == a);
    printf("smaller by bytes: %d\n", mremap(a, 5 * page, 4 * page + 1, 0) == a);
    a[4 * page] = 5;
    void* blocks = mmap(a + 5 * page, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    printf("block: %d\n", blocks == a + 5 * page);
    show("grow against it", mremap(a, 5 * page, 6 * page, 0));
    char* b = static_cast<char*>(mremap(a, 5 * page, 7 * page, MREMAP_MAYMOVE));
    printf("moved: %d\n", b != a);
    contents("moved", b, 7);
    peek("left", a);
    peek("the block stays", a + 5 * page);

    show("unaligned", mremap(b + 1, page, page, 0));
    show("to nothing", mremap(b, page, 0, 0));
    show("unknown flag", mremap(b, page, page, 8));
    show("not mapped", mremap(a, page, 2 * page, MREMAP_MAYMOVE));
    show("not mapped, smaller", mremap(a, 2 * page, page, MREMAP_MAYMOVE));
    show("beyond its end", mremap(b, 20 * page, 30 * page, MREMAP_MAYMOVE));
    show("fixed without may move", mremap(b, page, page, MREMAP_FIXED, a));
    show("fixed, unaligned", mremap(b, page, page, MREMAP_FIXED | MREMAP_MAYMOVE, a + 1));
    show("fixed, overlapping", mremap(b, 2 * page, 2 * page, MREMAP_FIXED | MREMAP_MAYMOVE, b + page));
    show("fixed, in the kernel",
         mremap(b, page, page, MREMAP_FIXED | MREMAP_MAYMOVE, reinterpret_cast<void*>(0xffff800000000000)));
    show("nothing of private memory", mremap(b, 0, page, MREMAP_MAYMOVE));

    char* c = map(4);
    number(c, 4);
    printf("fixed: %d\n", mremap(b, 2 * page, 3 * page, MREMAP_FIXED | MREMAP_MAYMOVE, c + page) == c + page);
    contents("around", c, 4);
    peek("source", b);
    contents("rest of it", b + 2 * page, 3);
    printf("fixed and smaller: %d\n", mremap(b + 2 * page, 3 * page, page, MREMAP_FIXED | MREMAP_MAYMOVE, c) == c);
    contents("around", c, 4);
    peek("cut", b + 3 * page);

    c = map_alone(4);
    number(c, 4);
    char* d = static_cast<char*>(mremap(c, 2 * page, 2 * page, MREMAP_MAYMOVE | MREMAP_DONTUNMAP));
    printf("leaves its place: %d\n", d != c && d != MAP_FAILED);
    contents("the old one", c, 4);
    contents("the new one", d, 2);
    show("and may not grow", mremap(c, page, 2 * page, MREMAP_MAYMOVE | MREMAP_DONTUNMAP));
    show("nor stay", mremap(c, page, page, MREMAP_DONTUNMAP));
    constexpr int leaves = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
    char* place = map_alone(4);
    printf("leaves it for a place: %d\n", mremap(c + 2 * page, page, page, leaves, place + page) == place + page);
    contents("there", place, 4);
    contents("left", c, 4);
    show("and is not larger there", mremap(c, page, 2 * page, leaves, place));
    show("nor smaller", mremap(c, 2 * page, page, leaves, place));
    show("nor unaligned", mremap(c, page, page, leaves, place + 1));
    show("nor where it was", mremap(c, 2 * page, 2 * page, leaves, c + page));
    show("nor there already", mremap(c, page, page, leaves, c));
    show("nor in the kernel", mremap(c, page, page, leaves, reinterpret_cast<void*>(0xffff800000000000)));
    munmap(c, page);
    show("nor is it nothing", mremap(c, page, page, leaves, place));
    contents("still there", place, 4);

    char* shared = map(3, MAP_SHARED | MAP_ANONYMOUS);
    number(shared, 3);
    char* twice = static_cast<char*>(mremap(shared + page, 0, 2 * page, MREMAP_MAYMOVE));
    contents("twice", twice, 2);
    twice[page] = 77;
    contents("the first", shared, 3);
    show("nothing in place", mremap(shared, 0, page, 0));
    char* longer = static_cast<char*>(mremap(shared, 3 * page, 5 * page, MREMAP_MAYMOVE));
    contents("longer", longer, 3);
    peek("behind the object", longer + 3 * page);

    const int fd = temporary(3);
    char* file = map(2, MAP_SHARED, fd);
    file[page] = 'X';
    char* more = static_cast<char*>(mremap(file, 2 * page, 4 * page, MREMAP_MAYMOVE));
    contents("file", more, 3);
    peek("behind the file", more + 3 * page);
    close(fd);

    in_child([] {
        constexpr size_t pages = 2048;
        char* large = map(pages);
        for (size_t i = 0; i < pages; ++i)
            large[i * page] = static_cast<char>(i % 100);
        const pid_t other = fork();
        if (other == 0) {
            usleep(20000);
            for (size_t i = 0; i < pages; ++i)
                if (large[i * page] != static_cast<char>(i % 100))
                    _exit(1);
            _exit(0);
        }
        char* guard = static_cast<char*>(
            mmap(large + pages * page, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
        char* moved = static_cast<char*>(mremap(large, pages * page, 2 * pages * page, MREMAP_MAYMOVE));
        bool right = moved != large || guard == MAP_FAILED;
        for (size_t i = 0; i < pages; ++i)
            right = right && moved[i * page] == static_cast<char>(i % 100);
        for (size_t i = 0; i < pages; i += 3)
            moved[i * page] = 1;
        int status = 1;
        waitpid(other, &status, 0);
        printf("large, forked: %d %d\n", right, status);
    });
}

void advise()
{
    printf("- madvise\n");
    char* a = map_alone(8);
    number(a, 8);
    show("don't need", madvise(a + page, 2 * page, MADV_DONTNEED));
    contents("after", a, 8);
    munmap(a + 4 * page, page);
    show("don't need, with a hole", madvise(a + 3 * page, 3 * page, MADV_DONTNEED));
    contents("before it", a, 4);
    contents("behind it", a + 5 * page, 3);
    show("free", madvise(a + 6 * page, page, MADV_FREE));
    printf("freed: %d\n", a[6 * page] == 7 || a[6 * page] == 0);
    a[6 * page] = 9;
    contents("written", a + 6 * page, 1);
    show("empty", madvise(a, 0, MADV_DONTNEED));
    show("unaligned", madvise(a + 1, page, MADV_DONTNEED));
    show("unknown", madvise(a, page, 77));
    show("unknown, empty", madvise(a, 0, 77));
    show("wraps around", madvise(a, static_cast<size_t>(-1), MADV_DONTNEED));
    show("in the kernel", madvise(reinterpret_cast<void*>(0xffff800000000000), page, MADV_DONTNEED));
    show("normal", madvise(a, page, MADV_NORMAL));
    show("random", madvise(a, page, MADV_RANDOM));
    show("sequential", madvise(a, page, MADV_SEQUENTIAL));
    show("will need", madvise(a, page, MADV_WILLNEED) == 0 || errno == EBADF ? 0 : -1);
    show("huge page", madvise(a, page, MADV_HUGEPAGE));
    show("no huge page", madvise(a, page, MADV_NOHUGEPAGE));
    show("don't dump", madvise(a, page, MADV_DONTDUMP));
    show("dump", madvise(a, page, MADV_DODUMP));
    show("over a hole", madvise(a, 8 * page, MADV_DONTDUMP));

    const int fd = temporary(4);
    char* file = map(4, MAP_SHARED, fd);
    show("will need a file", madvise(file, 4 * page, MADV_WILLNEED));
    file[0] = 'X';
    show("don't need a file", madvise(file, 4 * page, MADV_DONTNEED));
    contents("which keeps", file, 4);
    show("free a file", madvise(file, page, MADV_FREE));
    show("wipe a file", madvise(file, page, MADV_WIPEONFORK));
    char* copy = map(4, MAP_PRIVATE, fd);
    copy[page] = 'Y';
    show("don't need a copy", madvise(copy, 4 * page, MADV_DONTNEED));
    contents("is the file", copy, 4);
    show("free a copy", madvise(copy, page, MADV_FREE));
    close(fd);

    static char* inherited;
    inherited = map_alone(4);
    number(inherited, 4);
    show("don't fork", madvise(inherited + page, page, MADV_DONTFORK));
    show("wipe on fork", madvise(inherited + 2 * page, page, MADV_WIPEONFORK));
    in_child([] {
        peek("0", inherited);
        peek("1", inherited + page);
        peek("2", inherited + 2 * page);
        peek("3", inherited + 3 * page);
    });
    contents("parent", inherited, 4);
    show("do fork", madvise(inherited + page, page, MADV_DOFORK));
    show("keep on fork", madvise(inherited + 2 * page, page, MADV_KEEPONFORK));
    in_child([] { contents("all", inherited, 4); });

    char* populated = map(2);
    constexpr int populate_read = 22, populate_write = 23;
    show("populate for reading", madvise(populated, 2 * page, populate_read));
    show("populate for writing", madvise(populated, 2 * page, populate_write));
    mprotect(populated, page, PROT_READ);
    show("populate what may not be written", madvise(populated, page, populate_write));
    munmap(populated, page);
    show("populate what is not there", madvise(populated, page, populate_read));
}

void resident(const char* what, char* at, size_t pages)
{
    unsigned char vector[16]{};
    if (mincore(at, pages * page, vector) != 0) {
        show(what, -1);
        return;
    }
    printf("%s:", what);
    for (size_t i = 0; i < pages; ++i)
        printf(" %d", vector[i] & 1);
    printf("\n");
}

void residency()
{
    printf("- mincore\n");
    char* a = map_alone(4);
    a[page] = 1;
    a[3 * page] = 1;
    resident("anonymous", a, 4);
    madvise(a + 3 * page, page, MADV_DONTNEED);
    resident("dropped", a, 4);
    munmap(a + 2 * page, page);
    resident("hole", a, 4);
    unsigned char vector[4]{};
    show("unaligned", mincore(a + 1, page, vector));
    show("empty", mincore(a, 0, vector));
    show("part of a page", mincore(a, 1, vector));
    show("nowhere to put it", syscall(SYS_mincore, a, page, 8));
    show("in the kernel", syscall(SYS_mincore, 0xffff800000000000, page, vector));
    const int fd = temporary(2);
    if (ftruncate(fd, 4 * page) != 0)
        return;
    resident("file", map(4, MAP_SHARED, fd), 4);
    close(fd);
    char* shared = map(3, MAP_SHARED | MAP_ANONYMOUS);
    static char* in_other;
    in_other = shared;
    in_child([] { in_other[2 * page] = 1; });
    resident("shared", shared, 3);
}

void synchronize()
{
    printf("- msync\n");
    const int fd = temporary(3);
    char* file = map(3, MAP_SHARED, fd);
    memcpy(file + page, "written", 7);
    show("synchronous", msync(file, 3 * page, MS_SYNC));
    show("asynchronous", msync(file, 3 * page, MS_ASYNC));
    show("invalidate", msync(file, 3 * page, MS_INVALIDATE));
    char text[8]{};
    show("read", pread(fd, text, 7, page));
    printf("%s\n", text);
    show("both", msync(file, page, MS_SYNC | MS_ASYNC));
    show("unknown", msync(file, page, 8));
    show("unaligned", msync(file + 1, page, MS_SYNC));
    show("empty", msync(file, 0, MS_SYNC));
    munmap(file + page, page);
    show("hole", msync(file, 3 * page, MS_SYNC));
    show("not mapped", msync(file + page, page, MS_ASYNC));
    show("wraps around", msync(file, static_cast<size_t>(-1), MS_SYNC));
    mlock(file, page);
    show("invalidate what is locked", msync(file, page, MS_INVALIDATE));
    close(fd);
}

void shrink()
{
    printf("- ftruncate\n");
    const int fd = temporary(6);
    char* shared = map(6, MAP_SHARED, fd);
    char* own = map(6, MAP_PRIVATE, fd);
    memset(shared, 'a', 6 * page);
    own[5 * page] = 'b';
    own[page] = 'b';
    static char *in_child_shared, *in_child_own;
    in_child_shared = shared;
    in_child_own = own;
    static int to_child[2], from_child[2];
    if (pipe(to_child) != 0 || pipe(from_child) != 0)
        return;
    fflush(stdout);
    if (fork() == 0) {
        char c = 0;
        peek("child's shared page", in_child_shared + 4 * page);
        fflush(stdout);
        if (write(from_child[1], &c, 1) != 1 || read(to_child[0], &c, 1) != 1)
            _exit(1);
        peek("child's shared page, gone", in_child_shared + 4 * page);
        peek("child's own page, gone", in_child_own + 5 * page);
        peek("child's own page, kept", in_child_own + page);
        fflush(stdout);
        _exit(0);
    }
    char c = 0;
    show("child is there", read(from_child[0], &c, 1));
    show("smaller", ftruncate(fd, 2 * page + 100));
    fflush(stdout);
    if (write(to_child[1], &c, 1) == 1)
        wait(nullptr);
    peek("kept", shared + page);
    peek("before the end", shared + 2 * page + 99);
    peek("behind the end, in its page", shared + 2 * page + 100);
    peek("gone", shared + 3 * page);
    poke("gone, to write", shared + 5 * page, 1);
    peek("own, kept", own + page);
    peek("own, gone", own + 5 * page);
    poke("own, gone, to write", own + 4 * page, 1);
    show("larger again", ftruncate(fd, 6 * page));
    peek("new", shared + 5 * page);
    peek("new, own", own + 5 * page);
    close(fd);
    const int again = open("/tmp/shrinks", O_RDWR | O_CREAT | O_TRUNC, 0600);
    show("file", write(again, "content", 7));
    char* mapped = map(1, MAP_SHARED, again);
    peek("mapped", mapped);
    close(open("/tmp/shrinks", O_RDWR | O_TRUNC));
    peek("opened to be empty", mapped);
    close(again);
    unlink("/tmp/shrinks");
}

long status_value(const char* name)
{
    FILE* status = fopen("/proc/self/status", "r");
    char line[256];
    long value = -1;
    while (status && fgets(line, sizeof line, status))
        if (strncmp(line, name, strlen(name)) == 0)
            sscanf(line + strlen(name), ": %ld", &value);
    if (status)
        fclose(status);
    return value;
}
void limit_locked(size_t pages)
{
    const rlimit limit{pages * page, pages * page};
    setrlimit(RLIMIT_MEMLOCK, &limit);
    if (setresuid(1000, 1000, 1000) != 0)
        printf("setresuid: error %d\n", errno);
}

void lock()
{
    printf("- mlock\n");
    char* a = map_alone(8);
    show("lock", mlock(a + 100, 2 * page));
    resident("three pages", a, 8);
    printf("locked: %ld\n", status_value("VmLck"));
    show("drop", madvise(a, page, MADV_DONTNEED));
    show("free", madvise(a, page, MADV_FREE));
    show("on fault", static_cast<int>(syscall(SYS_mlock2, a + 4 * page, 2 * page, 1)));
    resident("on fault", a, 8);
    printf("locked: %ld\n", status_value("VmLck"));
    show("unknown flag", syscall(SYS_mlock2, a, page, 2));
    in_child([] { printf("in a child: %ld\n", status_value("VmLck")); });
    show("unlock", munlock(a, 5 * page));
    printf("locked: %ld\n", status_value("VmLck"));
    show("empty", mlock(a, 0));
    munmap(a + 3 * page, page);
    show("hole", mlock(a, 5 * page));
    show("unlock a hole", munlock(a, 8 * page));
    show("wraps around", mlock(a, static_cast<size_t>(-1)));
    munlock(a, 3 * page);
    munlock(a + 4 * page, 4 * page);
    mprotect(a, page, PROT_NONE);
    show("no access", mlock(a, page));
    munlock(a, page);

    char* locked = map(3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED);
    resident("MAP_LOCKED", locked, 3);
    printf("locked: %ld\n", status_value("VmLck"));
    munmap(locked, 3 * page);
    printf("locked: %ld\n", status_value("VmLck"));

    in_child([] {
        show("none", mlockall(0));
        show("unknown", mlockall(8));
        show("on fault alone", mlockall(4));
        show("future", mlockall(MCL_FUTURE));
        char* b = map(3);
        resident("mapped", b, 3);
        printf("locked: %ld\n", status_value("VmLck"));
        show("all", mlockall(MCL_CURRENT));
        printf("all: %d\n", status_value("VmLck") > 12);
        char* c = map(2);
        resident("not in future", c, 2);
        show("unlock all", munlockall());
        printf("locked: %ld\n", status_value("VmLck"));
    });
    in_child([] {
        limit_locked(0);
        char* b = map(2);
        show("may not lock", mlock(b, page));
        show("nor lock all", mlockall(MCL_FUTURE));
        show("nor map locked", mmap(nullptr, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0));
        show("but unlock", munlock(b, page));
    });
    in_child([] {
        limit_locked(3);
        char* b = map_alone(8);
        show("three", mlock(b, 3 * page));
        show("one more", mlock(b + 3 * page, page));
        show("the same", mlock(b, 3 * page));
        show("map one more", mmap(nullptr, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0));
        show("grow", mremap(b, page, 2 * page, MREMAP_MAYMOVE));
        show("all", mlockall(MCL_CURRENT));
        show("two less", munlock(b, 2 * page));
        show("one more", mlock(b + 5 * page, page));
        printf("locked: %ld\n", status_value("VmLck"));
    });
}

void limits()
{
    printf("- limits\n");
    in_child([] {
        const rlimit limit{64ul << 20, 64ul << 20};
        setrlimit(RLIMIT_AS, &limit);
        show("too much", mmap(nullptr, 65ul << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        char* a = map(1024);
        show("grow too much", mremap(a, 1024 * page, 65ul << 20, MREMAP_MAYMOVE));
        void* end = sbrk(0);
        printf("brk: %d\n", sbrk(static_cast<intptr_t>(65ul << 20)) == reinterpret_cast<void*>(-1) && sbrk(0) == end);
    });
    in_child([] {
        const rlimit limit{16ul << 20, 16ul << 20};
        setrlimit(RLIMIT_DATA, &limit);
        show("too much data", mmap(nullptr, 17ul << 20, PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        void* only_read = mmap(nullptr, 17ul << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        show("only to read", only_read);
        show("all of it to write", mprotect(only_read, 17ul << 20, PROT_READ | PROT_WRITE));
        show("some of it", mprotect(only_read, 4ul << 20, PROT_READ | PROT_WRITE));
        show("shared", mmap(nullptr, 17ul << 20, PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    });
}

// Where a mapping goes: at `wished`, or elsewhere.
void place(const char* what, const void* wished, size_t pages, int flags = 0)
{
    const auto address = reinterpret_cast<uintptr_t>(wished);
    void* at =
        mmap(reinterpret_cast<void*>(address), pages * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    if (at == MAP_FAILED) {
        show(what, -1);
        return;
    }
    const auto base = reinterpret_cast<void*>(address & ~(page - 1));
    printf("%s: %s\n", what, at == base ? "there" : at == wished ? "unaligned" : "elsewhere");
    munmap(at, pages * page);
}

void places()
{
    printf("- places\n");
    char* a = map_alone(4);
    number(a, 4);
    munmap(a + page, 2 * page);
    place("free", a + page, 2);
    place("free, unaligned", a + page + 100, 2);
    place("free, the last byte", a + 3 * page - 1, 1);
    place("taken", a, 1);
    place("taken, unaligned", a + 100, 1);
    place("too little room", a + page, 3);
    place("begins before", a, 2);
    place("behind all memory", reinterpret_cast<void*>(0x7ffffffff000), 1);
    place("across its end", reinterpret_cast<void*>(0x7fffffffe000), 2);
    place("in the kernel", reinterpret_cast<void*>(0xffff800000000000), 1);
    contents("kept", a, 1);
    contents("kept", a + 3 * page, 1);

    constexpr int keeps = MAP_FIXED_NOREPLACE;
    place("no replacing: free", a + page, 2, keeps);
    place("no replacing: taken", a, 1, keeps);
    place("no replacing: ends in what is taken", a + 2 * page, 2, keeps);
    place("no replacing: begins in it", a, 2, keeps);
    place("no replacing: around it", a - page, 6, keeps);
    place("no replacing, fixed: taken", a, 1, keeps | MAP_FIXED);
    place("no replacing: unaligned", a + page + 1, 1, keeps);
    place("no replacing: in the kernel", reinterpret_cast<void*>(0xffff800000000000), 1, keeps);
    contents("kept", a, 1);
    contents("kept", a + 3 * page, 1);
    place("fixed, unaligned", a + 1, 1, MAP_FIXED);
    place("fixed, in the kernel", reinterpret_cast<void*>(0xffff800000000000), 1, MAP_FIXED);
    place("fixed, across the end", reinterpret_cast<void*>(0x7fffffffe000), 2, MAP_FIXED);
    place("fixed", a, 4, MAP_FIXED);
    peek("and gone", a);
    peek("and gone", a + 3 * page);

    a = map_alone(4);
    number(a, 4);
    show("unmap, unaligned", munmap(a + 1, page));
    show("unmap nothing", munmap(a, 0));
    show("unmap in the kernel", munmap(reinterpret_cast<void*>(0xffff800000000000), page));
    show("unmap across the end", munmap(reinterpret_cast<void*>(0x7fffffffe000), 2 * page));
    show("unmap around everything", munmap(a, static_cast<size_t>(-1)));
    contents("kept", a, 4);
    show("unmap a byte", munmap(a + page, 1));
    show("once more, and around", munmap(a, 3 * page));
    contents("kept", a + 3 * page, 1);
}

void program_break()
{
    printf("- brk\n");
    in_child([] {
        const auto end_after = [](unsigned long end) { return static_cast<unsigned long>(syscall(SYS_brk, end)); };
        const unsigned long before = (end_after(end_after(0) + page) | (page - 1)) + 1;
        const auto grown_by = [&](unsigned long end) { return static_cast<long>(end_after(end) - before); };
        auto* at = reinterpret_cast<char*>(before);
        printf("whole pages: %ld\n", grown_by(before));
        printf("grows: %ld\n", grown_by(before + 4 * page + 10));
        number(at, 4);
        poke("behind, in its page", at + 5 * page - 1, 9);
        peek("behind its page", at + 5 * page);
        contents("contents", at, 5);
        printf("shrinks: %ld\n", grown_by(before + page + 1));
        contents("kept", at, 2);
        peek("cut off", at + 2 * page);
        printf("grows again: %ld\n", grown_by(before + 5 * page));
        contents("new", at, 5);
        printf("in the kernel: %ld\n", grown_by(0xffff800000000000));
        printf("behind all memory: %ld\n", grown_by(0x7ffffffff001));
        printf("to its begin: %ld\n", grown_by(8));
        printf("one page from 0: %ld\n", grown_by(page));
        printf("everything: %ld\n", grown_by(~0ul));
        char* blocks =
            static_cast<char*>(mmap(at + 6 * page, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
        printf("block: %d\n", blocks == at + 6 * page);
        printf("up to it: %ld\n", grown_by(before + 6 * page));
        printf("into it: %ld\n", grown_by(before + 6 * page + 1));
        printf("over it: %ld\n", grown_by(before + 8 * page));
        munmap(at + page, page);
        peek("a hole", at + page);
        printf("below the hole: %ld\n", grown_by(before));
        printf("above it: %ld\n", grown_by(before + 3 * page));
        contents("all new", at, 3);
    });
}

void flags()
{
    printf("- mmap\n");
    char* low = map(4, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT);
    printf("low: %d\n", reinterpret_cast<uintptr_t>(low) + 4 * page <= 1ul << 31);
    show("stack", map(4, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE));
    resident("populated", map(3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE), 3);
    resident("or not", map(3, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE | MAP_NONBLOCK), 3);
    show("shared and growing", mmap(nullptr, page, PROT_READ, MAP_SHARED | MAP_ANONYMOUS | MAP_GROWSDOWN, -1, 0));
    show("no kind", mmap(nullptr, page, PROT_READ, MAP_ANONYMOUS, -1, 0));
    show("validated and anonymous", mmap(nullptr, page, PROT_READ, MAP_SHARED_VALIDATE | MAP_ANONYMOUS, -1, 0));
    const int fd = temporary(1);
    show("validated", mmap(nullptr, page, PROT_READ, MAP_SHARED_VALIDATE, fd, 0));
    show("validated, unknown flag", mmap(nullptr, page, PROT_READ, MAP_SHARED_VALIDATE | 0x200000, fd, 0));
    show("no file", mmap(nullptr, page, PROT_READ, MAP_PRIVATE, -1, 0));
    show("length 0", mmap(nullptr, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    show("offset", mmap(nullptr, page, PROT_READ, MAP_PRIVATE, fd, 5));
    show("much too long", mmap(nullptr, 1ul << 47, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    close(fd);

    const int zero = open("/dev/zero", O_RDWR);
    char* memory = map(3, MAP_PRIVATE, zero);
    memory[page] = 5;
    contents("zero", memory, 3);
    show("grows", mremap(memory, 3 * page, 5 * page, MREMAP_MAYMOVE));
    static char* shared;
    shared = map(2, MAP_SHARED, zero);
    in_child([] { shared[page] = 6; });
    contents("shared zero", shared, 2);
    close(zero);
    const int full = open("/dev/full", O_RDWR);
    show("full", mmap(nullptr, page, PROT_READ, MAP_PRIVATE, full, 0));
    close(full);

    char* grows = map(300, MAP_PRIVATE | MAP_ANONYMOUS, -1, PROT_NONE);
    munmap(grows, 300 * page);
    grows += 298 * page;
    show("grows down",
         mmap(grows, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED, -1, 0));
    poke("two pages below", grows - 2 * page, 3);
    peek("grown", grows - 2 * page);
    show("grows, protected from a page on", mprotect(grows, page, PROT_READ | PROT_GROWSDOWN));
    poke("and all below", grows - 2 * page, 4);
    poke("and itself", grows, 4);
    show("from below on", mprotect(grows - 4 * page, 3 * page, PROT_READ | PROT_WRITE | PROT_GROWSDOWN));
    poke("what is in it", grows - 2 * page, 5);
    poke("what is not", grows, 5);
    show("only below", mprotect(grows - 6 * page, page, PROT_READ | PROT_GROWSDOWN));
    show("nor does it grow up", mprotect(grows - 2 * page, page, PROT_READ | PROT_GROWSUP));
    show("nor both", mprotect(grows - 2 * page, page, PROT_READ | PROT_GROWSUP | PROT_GROWSDOWN));
    char* grows_not = map_alone(2);
    show("does not grow down", mprotect(grows_not, page, PROT_READ | PROT_GROWSDOWN));
    show("nor up", mprotect(grows_not, page, PROT_READ | PROT_GROWSUP));
    show("which does not matter to nothing", mprotect(grows_not, 0, PROT_READ | PROT_GROWSDOWN));
    show("but both do", mprotect(grows_not, 0, PROT_READ | PROT_GROWSUP | PROT_GROWSDOWN));
    poke("writable still", grows_not, 1);
    show("protect, unaligned", syscall(SYS_mprotect, grows_not + 1, page, PROT_READ)); // the library aligns it
    show("unknown protection", mprotect(grows_not, page, PROT_READ | 0x100));
    show("unknown protection of nothing", mprotect(grows_not, 0, PROT_READ | 0x100));
    show("over a hole", mprotect(grows_not, 3 * page, PROT_READ | PROT_WRITE));
    show("protect over the end", mprotect(reinterpret_cast<void*>(~(page - 1)), 2 * page, PROT_READ));
    show("protect in the kernel", mprotect(reinterpret_cast<void*>(0xffff800000000000), page, PROT_READ));
}

// What smaps says of the region at `at`: some of the amounts, and the flags that a program can set.
void usage(const char* what, const void* at, bool amounts = true)
{
    FILE* smaps = fopen("/proc/self/smaps", "r");
    char line[512];
    const char* const amount_names[] = {
        "Size:", "Rss:", "Pss:", "Shared_Dirty:", "Private_Dirty:", "Anonymous:", "Locked:"};
    bool here = false;
    printf("%s:", what);
    while (smaps && fgets(line, sizeof line, smaps)) {
        unsigned long begin = 0;
        unsigned long end = 0;
        if (sscanf(line, "%lx-%lx ", &begin, &end) == 2) {
            here = begin <= reinterpret_cast<uintptr_t>(at) && reinterpret_cast<uintptr_t>(at) < end;
        } else if (here && strncmp(line, "VmFlags:", 8) == 0) {
            for (const char* flag = strtok(line + 8, " \n"); flag; flag = strtok(nullptr, " \n"))
                if (strstr("rd wr ex sh mr mw me ms lo sr rr dc lf wf dd hg nh", flag))
                    printf(" %s", flag);
        } else if (here && amounts) {
            for (const char* name : amount_names)
                if (strncmp(line, name, strlen(name)) == 0)
                    printf(" %.*s", static_cast<int>(strcspn(line, "\n")), line);
        }
    }
    printf("\n");
    if (smaps)
        fclose(smaps);
}

void use()
{
    printf("- smaps\n");
    static char* a;
    a = map_alone(4);
    usage("untouched", a);
    a[0] = a[2 * page] = 1;
    usage("two pages", a);
    in_child([] {
        usage("shared by two", a);
        a[0] = 2;
        usage("one copied", a);
    });
    a[page] = a[3 * page] = 1;
    mlock(a, 4 * page);
    usage("locked", a);
    munlock(a, 4 * page);
    mprotect(a, 4 * page, PROT_READ);
    usage("read-only", a);
    mprotect(a, 4 * page, PROT_READ | PROT_WRITE);
    const int told[] = {MADV_SEQUENTIAL, MADV_RANDOM,   MADV_DONTFORK,  MADV_WIPEONFORK,
                        MADV_DONTDUMP,   MADV_HUGEPAGE, MADV_NOHUGEPAGE};
    for (const int advice : told) {
        if (advice == MADV_WIPEONFORK)
            madvise(a, 4 * page, MADV_DOFORK);
        madvise(a, 4 * page, advice);
        usage("advised", a, false);
    }
    const int fd = temporary(4);
    char* file = map(4, MAP_SHARED, fd);
    file[0] = 'X';
    usage("shared file", file, false);
    char* copy = map(4, MAP_PRIVATE, fd);
    copy[0] = 'Y';
    usage("private file", copy, false);
    close(fd);
    const int full = open("/bin/busybox", O_RDONLY);
    usage("read-only file", map(1, MAP_SHARED, full, PROT_READ), false);
    close(full);
}

} // namespace

int main()
{
    struct sigaction action {};
    action.sa_handler = jump_back;
    sigaction(SIGSEGV, &action, nullptr);
    sigaction(SIGBUS, &action, nullptr);
    remap();
    advise();
    residency();
    synchronize();
    shrink();
    lock();
    limits();
    places();
    program_break();
    flags();
    use();
    return 0;
}
