// Handlers, masks, restarts and waits, as a shell and its children use them.

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

namespace {

volatile sig_atomic_t caught;
volatile sig_atomic_t caught_code;
void* volatile caught_address;

void note(int number, siginfo_t* info, void*)
{
    caught = number;
    caught_code = info->si_code;
    caught_address = info->si_addr;
}

void install(int number, int flags)
{
    struct sigaction action {};
    action.sa_sigaction = note;
    action.sa_flags = SA_SIGINFO | flags;
    sigaction(number, &action, nullptr);
}

// SIGCHLD may interrupt the wait, on Linux also when it tells of the child that is waited for.
int wait_for(pid_t child, int options = 0)
{
    int status = 0;
    while (waitpid(child, &status, options) == -1 && errno == EINTR) {
    }
    return status;
}

void check(const char* what, bool holds) { printf("%s: %s\n", what, holds ? "yes" : "NO"); }

} // namespace

int main()
{
    install(SIGUSR1, 0);
    kill(getpid(), SIGUSR1);
    check("a handler runs before kill returns to its caller", caught == SIGUSR1);

    caught = 0;
    sigset_t set, old, pending;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, &old);
    kill(getpid(), SIGUSR1);
    sigpending(&pending);
    check("a blocked signal stays pending", caught == 0 && sigismember(&pending, SIGUSR1));
    sigprocmask(SIG_SETMASK, &old, nullptr);
    check("and arrives when unblocked", caught == SIGUSR1);

    double before = 0.5;
    asm volatile("" : "+x"(before));
    kill(getpid(), SIGUSR1);
    asm volatile("" : "+x"(before));
    check("floating point registers survive a handler", before == 0.5);

    int ends[2];
    if (pipe(ends) != 0)
        return 1;
    const pid_t parent = getpid();
    install(SIGUSR2, 0);
    pid_t child = fork();
    if (child == 0) {
        const timespec pause{0, 20'000'000};
        for (;;) { // the first may come before the parent reads
            nanosleep(&pause, nullptr);
            kill(parent, SIGUSR2);
        }
    }
    char byte = 0;
    errno = 0;
    check("a read without SA_RESTART is interrupted", read(ends[0], &byte, 1) == -1 && errno == EINTR);
    kill(child, SIGKILL);
    wait_for(child);

    install(SIGUSR2, SA_RESTART);
    child = fork();
    if (child == 0) {
        const timespec pause{0, 20'000'000};
        nanosleep(&pause, nullptr);
        kill(parent, SIGUSR2);
        nanosleep(&pause, nullptr);
        if (write(ends[1], "x", 1) != 1)
            _exit(1);
        _exit(0);
    }
    check("one with SA_RESTART goes on", read(ends[0], &byte, 1) == 1 && byte == 'x');
    wait_for(child);

    install(SIGCHLD, 0);
    caught = 0;
    child = fork();
    if (child == 0)
        _exit(5);
    int status = wait_for(child);
    check("SIGCHLD tells of the child's end", caught == SIGCHLD && caught_code == CLD_EXITED);
    check("wait reports its status", WIFEXITED(status) && WEXITSTATUS(status) == 5);

    signal(SIGPIPE, SIG_IGN);
    close(ends[0]);
    errno = 0;
    check("writing to a pipe without readers is EPIPE", write(ends[1], "x", 1) == -1 && errno == EPIPE);

    child = fork();
    if (child == 0) {
        signal(SIGPIPE, SIG_DFL);
        (void)!write(ends[1], "x", 1);
        _exit(0);
    }
    status = wait_for(child);
    check("and SIGPIPE ends who does not ignore it", WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE);

    child = fork();
    if (child == 0) {
        raise(SIGSTOP);
        _exit(6);
    }
    status = wait_for(child, WUNTRACED);
    check("a stopped child is reported", WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    kill(child, SIGCONT);
    status = wait_for(child);
    check("and goes on with SIGCONT", WIFEXITED(status) && WEXITSTATUS(status) == 6);

    install(SIGSEGV, SA_RESETHAND);
    child = fork();
    if (child == 0) {
        *reinterpret_cast<volatile int*>(0x123450) = 1;
        _exit(0);
    }
    status = wait_for(child);
    check("a fault with SA_RESETHAND ends at the second time", WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    return 0;
}
