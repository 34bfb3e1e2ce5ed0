// Makes a system call that exo does not have, twice, and one that does not exist.

#include <errno.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char* answer(long number)
{
    errno = 0;
    return syscall(number, 0, 0, 0, 0, 0, 0) == -1 && errno == ENOSYS ? "ENOSYS" : "something else";
}

int main()
{
    const char* first = answer(SYS_add_key);
    const char* second = answer(SYS_add_key);
    printf("%s %s %s\n", first, second, answer(100'000));
    return 0;
}
