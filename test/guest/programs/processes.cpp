// Many processes alive at once. Argument: how many. Each says that it is there and waits to be let go; all are counted,
// then all end, and nobody is left.

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char** argv)
{
    const int wanted = argc > 1 ? atoi(argv[1]) : 1000;
    int here[2], go[2];
    if (pipe(here) != 0 || pipe(go) != 0)
        return 2;
    int started = 0;
    while (started < wanted) {
        const pid_t child = fork();
        if (child < 0) {
            perror("fork");
            break;
        }
        if (child == 0) {
            close(go[1]);
            char c = 1;
            if (write(here[1], &c, 1) != 1 || read(go[0], &c, 1) != 0)
                _exit(1);
            _exit(started % 256);
        }
        ++started;
    }
    int alive = 0;
    for (char c; alive < started && read(here[0], &c, 1) == 1; ++alive) {
    }
    printf("%d alive\n", alive);
    close(go[1]);
    int ended = 0, statuses = 0;
    for (int status; wait(&status) > 0; ++ended)
        statuses += WIFEXITED(status) ? WEXITSTATUS(status) : 1000000;
    int expected = 0;
    for (int i = 0; i < started; ++i)
        expected += i % 256;
    printf("%d ended, statuses %s, then %s\n", ended, statuses == expected ? "right" : "WRONG",
           errno == ECHILD ? "none" : "WRONG");
    return 0;
}
