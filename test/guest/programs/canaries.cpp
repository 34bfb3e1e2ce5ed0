// Processes that map, fill, fork, drop and unmap memory all the time, so that frames go from one to the other as fast
// as they can. Each fills what it has with a pattern of its own: a pattern of another, or anything in fresh memory but
// zeros, was seen through a translation that should have been forgotten, or in a frame that was not cleared. And what a
// process has unmapped it must not reach any more.
//
// Arguments: processes, steps, seed.

#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

constexpr size_t page = 4096, words = page / sizeof(uint64_t);
constexpr int most_areas = 12;

struct area {
    uint64_t* at;
    size_t pages;
    uint64_t stamp; // 0: not there
};

area areas[most_areas];
uint64_t owner, stamps;
uint32_t state;
sigjmp_buf back;
uint64_t* shared; // a page of counters

uint32_t next()
{
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

[[noreturn]] void wrong(const char* what, const void* at, uint64_t seen)
{
    printf("WRONG: process %lx: %s at %p: %lx\n", static_cast<unsigned long>(owner), what, at,
           static_cast<unsigned long>(seen));
    fflush(stdout);
    _exit(1);
}

uint64_t expected(const area& a, size_t word) { return a.stamp ^ word; }

// A few words of each page: the first, the last and one in between.
template <class Visit>
void for_some_words(const area& a, Visit visit)
{
    for (size_t p = 0; p < a.pages; ++p) {
        visit(p * words);
        visit(p * words + 1 + next() % (words - 2));
        visit((p + 1) * words - 1);
    }
}
void check(const area& a)
{
    const auto check_word = [&a](size_t word) {
        if (a.at[word] != expected(a, word))
            wrong("not what was written", a.at + word, a.at[word]);
    };
    for (size_t p = 0; p < a.pages; ++p) {
        check_word(p * words);
        check_word((p + 1) * words - 1);
    }
}
void check_zero(const area& a)
{
    for_some_words(a, [&](size_t word) {
        if (a.at[word] != 0)
            wrong("not zero", a.at + word, a.at[word]);
    });
}
void fill(area& a)
{
    a.stamp = owner << 40 | ++stamps << 16;
    for_some_words(a, [&](size_t word) { a.at[word] = expected(a, word); });
}

void fresh(area& a)
{
    a.pages = 1 + next() % 24;
    a.at = static_cast<uint64_t*>(
        mmap(nullptr, a.pages * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (a.at == MAP_FAILED)
        _exit(2);
    if (next() % 2 == 0)
        check_zero(a); // read first: may be a page that many share
    fill(a);
    check(a);
}
void drop(area& a)
{
    check(a);
    volatile uint64_t* const gone = a.at + next() % (a.pages * words);
    munmap(a.at, a.pages * page);
    a.stamp = 0;
    if (sigsetjmp(back, 1) == 0)
        wrong("still there", const_cast<uint64_t*>(gone), *gone);
}

void step()
{
    area& a = areas[next() % most_areas];
    if (a.stamp == 0)
        return fresh(a);
    check(a);
    switch (next() % 8) {
    case 0:
    case 1:
        return drop(a);
    case 2: // dropped pages are zero again
        madvise(a.at, a.pages * page, MADV_DONTNEED);
        check_zero(a);
        return fill(a);
    case 3:
        mprotect(a.at, a.pages * page, PROT_READ);
        check(a);
        if (sigsetjmp(back, 1) == 0) {
            *const_cast<volatile uint64_t*>(a.at) = 1;
            wrong("written", a.at, *a.at);
        }
        mprotect(a.at, a.pages * page, PROT_READ | PROT_WRITE);
        return check(a);
    case 4: { // a child sees the same, and changes it for itself
        const pid_t child = fork();
        if (child < 0)
            return;
        if (child == 0) {
            owner = owner << 8 | 0xf;
            for (area& one : areas)
                if (one.stamp != 0) {
                    check(one);
                    fill(one);
                }
            for (area& one : areas)
                if (one.stamp != 0)
                    drop(one);
            __atomic_fetch_add(shared, 1, __ATOMIC_RELAXED);
            _exit(0);
        }
        fill(a);
        int status = 0;
        if (waitpid(child, &status, 0) != child || status != 0)
            _exit(1);
        for (const area& one : areas)
            if (one.stamp != 0)
                check(one);
        __atomic_fetch_add(shared + 1, 1, __ATOMIC_RELAXED);
        return;
    }
    default:
        return fill(a);
    }
}

} // namespace

int main(int argc, char** argv)
{
    const int processes = argc > 1 ? atoi(argv[1]) : 4, steps = argc > 2 ? atoi(argv[2]) : 300;
    const auto seed = static_cast<uint32_t>(argc > 3 ? atoi(argv[3]) : 1);
    struct sigaction action{};
    action.sa_handler = [](int) { siglongjmp(back, 1); };
    action.sa_flags = SA_NODEFER;
    sigaction(SIGSEGV, &action, nullptr);
    shared = static_cast<uint64_t*>(mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    for (int i = 0; i < processes; ++i)
        if (fork() == 0) {
            owner = static_cast<uint64_t>(i) + 1;
            state = seed * 2654435761u + static_cast<uint32_t>(i) * 40503u + 1;
            for (int s = 0; s < steps; ++s)
                step();
            _exit(0);
        }
    bool good = true;
    for (int status; wait(&status) > 0;)
        good = good && status == 0;
    good = good && shared[0] == shared[1] && shared[0] != 0;
    puts(good ? "every byte its owner's" : "WRONG");
    return good ? 0 : 1;
}
