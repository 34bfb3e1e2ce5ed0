// A hog beside processes that do no harm: it takes all the memory there is, and they must not notice. Arguments: how
// many of them, and how many pages each of them has.

#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

constexpr size_t page = 4096;

char* map(size_t pages)
{
    return static_cast<char*>(
        mmap(nullptr, pages * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
}

// Until the pipe is closed: checks what it has, and has a little more from time to time.
[[noreturn]] void live(int stop, int index, size_t pages)
{
    char* const own = map(2 * pages);
    size_t held = pages;
    const auto value = [index](size_t i) { return static_cast<char>(index * 31 + static_cast<int>(i) + 1); };
    for (size_t i = 0; i < held; ++i)
        own[i * page] = value(i);
    for (char c; read(stop, &c, 1) < 0;) {
        if (held < 2 * pages) {
            own[held * page] = value(held);
            ++held;
        }
        for (size_t i = 0; i < held; ++i)
            if (own[i * page] != value(i))
                _exit(1);
        usleep(1000);
    }
    _exit(0);
}

} // namespace

int main(int argc, char** argv)
{
    const int innocent = argc > 1 ? atoi(argv[1]) : 4;
    const size_t pages = argc > 2 ? static_cast<size_t>(atoi(argv[2])) : 256;
    int stop[2];
    if (pipe2(stop, O_NONBLOCK) != 0)
        return 2;
    pid_t children[64];
    for (int i = 0; i < innocent; ++i) {
        children[i] = fork();
        if (children[i] == 0) {
            close(stop[1]);
            live(stop[0], i, pages);
        }
    }
    int status = 0;
    for (int round = 0; round < 3; ++round) {
        const pid_t hog = fork();
        if (hog == 0) {
            close(stop[1]);
            char* const all = map(size_t{1} << 20);
            for (size_t i = 0;; ++i)
                all[i * page] = 1;
        }
        if (hog < 0) {
            perror("fork");
            return 2;
        }
        waitpid(hog, &status, 0);
        printf("hog %d: signal %d\n", static_cast<int>(hog), WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    }
    close(stop[1]);
    int unharmed = 0;
    for (int i = 0; i < innocent; ++i)
        unharmed += waitpid(children[i], &status, 0) == children[i] && status == 0;
    printf("%d of %d unharmed\n", unharmed, innocent);
    return 0;
}
