// Where this program finds itself: code, heap, stack, a mapping, and the random bytes that it was given. With the
// argument `fixed` it asks for fixed places first, and starts anew.

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <unistd.h>

int main(int argc, char** argv)
{
    if (argc > 1 && strcmp(argv[1], "fixed") == 0) {
        personality(ADDR_NO_RANDOMIZE);
        execl("/proc/self/exe", argv[0], static_cast<char*>(nullptr));
        return 1;
    }
    uint64_t random[2];
    memcpy(random, reinterpret_cast<const void*>(getauxval(AT_RANDOM)), sizeof random);
    printf("%lx %p %p %p %lx%lx\n", static_cast<unsigned long>(getauxval(AT_ENTRY)), sbrk(0),
           static_cast<void*>(&random), mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
           static_cast<unsigned long>(random[0]), static_cast<unsigned long>(random[1]));
    return 0;
}
