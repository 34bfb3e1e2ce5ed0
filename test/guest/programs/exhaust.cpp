// Takes all the memory there is, in children: by touching anonymous memory, and by forking without end.

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

// Touches up to `bytes` of memory; the kernel may refuse the mapping or end the process, but nothing else.
[[noreturn]] void touch(size_t bytes)
{
    char* area = static_cast<char*>(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (area == MAP_FAILED)
        _exit(errno == ENOMEM ? 1 : 2);
    for (size_t at = 0; at < bytes; at += 4096)
        area[at] = 1;
    _exit(0);
}

bool acceptable(int status) { return WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) != 2; }

// Each child keeps 64 dirty pages and forks the next, until fork fails; the status travels back up.
int chain(int depth)
{
    static char pages[64 * 4096];
    memset(pages, depth, sizeof pages);
    if (depth > 2000)
        return 2;
    const pid_t child = fork();
    if (child < 0)
        return errno == ENOMEM || errno == EAGAIN ? 1 : 2;
    if (child == 0)
        _exit(chain(depth + 1));
    int status = 0;
    if (waitpid(child, &status, 0) != child)
        return 2;
    for (char byte : pages)
        if (byte != static_cast<char>(depth))
            return 2;
    return acceptable(status) ? 1 : 2;
}

} // namespace

int main()
{
    int status = 0;
    const pid_t toucher = fork();
    if (toucher == 0)
        touch(size_t{1} << 30);
    waitpid(toucher, &status, 0);
    if (!acceptable(status) || (WIFEXITED(status) && WEXITSTATUS(status) == 0)) {
        printf("touch: %x\n", status);
        return 1;
    }
    // All of the chain hold its writing end: those whose parent was killed end on their own, and reading ends with the
    // last.
    int alive[2];
    if (pipe(alive) != 0)
        return 1;
    const pid_t first = fork();
    if (first == 0)
        _exit(chain(0));
    close(alive[1]);
    waitpid(first, &status, 0);
    char byte;
    if (read(alive[0], &byte, 1) != 0)
        return 1;
    if (!acceptable(status)) {
        printf("fork: %x\n", status);
        return 1;
    }
    puts("fork: out of memory or killed");
    return 0;
}
