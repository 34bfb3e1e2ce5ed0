// Says hello through stdio, with what the C library found in the arguments, the environment and the auxiliary vector.

#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>

static int zeroed[4096];
static int initialized = 42;
static thread_local int per_thread = 7;

int main(int argc, char** argv)
{
    for (int word : zeroed)
        if (word != 0)
            return 1;
    if (initialized != 42 || per_thread != 7 || getauxval(AT_PAGESZ) != 4096 || getauxval(AT_RANDOM) == 0)
        return 2;
    void* large = malloc(1 << 20);
    if (!large)
        return 3;
    free(large);
    const char* greeting = getenv("GREETING");
    printf("%s, %s! %.3f\n", greeting ? greeting : "hello", argc > 1 ? argv[1] : "world", 1.0 / 8);
    return 0;
}
