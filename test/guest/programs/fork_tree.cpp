// A tree of processes that write over memory they share by copy-on-write: each checks every byte that it should see.
// Beside it lies memory that they share on purpose, to which each adds its number.
//
// Arguments: depth, children per node, pages, and the distance of one page from the next, in pages: with a large one,
// each is below page tables of its own. Memory that a process writes is stamped with its own number; what it has not
// written still shows the ancestor that did.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

uint32_t* area;
uint32_t* shared;
uint32_t* expected;
size_t pages;
size_t distance;
constexpr size_t words = 4096 / sizeof(uint32_t);

uint32_t* page_of(uint32_t* of, size_t page) { return of + page * distance * words; }

uint32_t next(uint32_t& state)
{
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

void stamp(uint32_t id)
{
    uint32_t state = id * 2654435761u + 1;
    for (size_t i = 0; i < pages / 2; ++i) {
        const size_t page = next(state) % pages;
        expected[page] = id;
        for (size_t w = 0; w < words; ++w)
            page_of(area, page)[w] = id ^ static_cast<uint32_t>(page * words + w);
    }
}

bool intact()
{
    for (size_t page = 0; page < pages; ++page)
        for (size_t w = 0; w < words; ++w)
            if (page_of(area, page)[w] != (expected[page] ^ static_cast<uint32_t>(page * words + w)))
                return false;
    return true;
}

int node(uint32_t id, int depth, int children)
{
    stamp(id);
    for (size_t page = 0; page < pages; ++page)
        __atomic_fetch_add(page_of(shared, page), id, __ATOMIC_RELAXED);
    int failures = 0;
    if (depth > 0) {
        pid_t pids[16];
        for (int c = 0; c < children; ++c) {
            pids[c] = fork();
            if (pids[c] < 0)
                return 2;
            if (pids[c] == 0)
                _exit(node(id * 16 + static_cast<uint32_t>(c) + 1, depth - 1, children));
            stamp(id + 0x10000000u * static_cast<uint32_t>(c + 1));
        }
        for (int c = 0; c < children; ++c) {
            int status = 0;
            if (waitpid(pids[c], &status, 0) != pids[c] || status != 0)
                ++failures;
        }
    }
    return !intact() || failures ? 1 : 0;
}

// What all nodes of the tree add together.
uint32_t sum_of(uint32_t id, int depth, int children)
{
    uint32_t sum = id;
    for (int c = 0; depth > 0 && c < children; ++c)
        sum += sum_of(id * 16 + static_cast<uint32_t>(c) + 1, depth - 1, children);
    return sum;
}

uint32_t* map(int kind)
{
    void* at = mmap(nullptr, pages * distance * 4096, PROT_READ | PROT_WRITE, kind | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                    0);
    return at == MAP_FAILED ? nullptr : static_cast<uint32_t*>(at);
}

} // namespace

int main(int argc, char** argv)
{
    const int depth = argc > 1 ? atoi(argv[1]) : 3;
    const int children = argc > 2 ? atoi(argv[2]) : 3;
    pages = argc > 3 ? static_cast<size_t>(atoi(argv[3])) : 64;
    distance = argc > 4 ? static_cast<size_t>(atoi(argv[4])) : 1;
    area = map(MAP_PRIVATE);
    shared = map(MAP_SHARED);
    expected = static_cast<uint32_t*>(calloc(pages, sizeof(uint32_t)));
    if (!area || !shared || !expected)
        return 3;
    for (size_t i = 0; i < pages * words; ++i)
        page_of(area, i / words)[i % words] = static_cast<uint32_t>(i);
    int result = node(1, depth, children);
    for (size_t page = 0; page < pages; ++page)
        if (*page_of(shared, page) != sum_of(1, depth, children))
            result = 1;
    printf("fork tree: %s\n", result == 0 ? "every byte as written" : "WRONG");
    return result;
}
