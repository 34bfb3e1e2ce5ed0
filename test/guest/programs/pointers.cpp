// Gives every system call that takes a pointer every kind of pointer that it must refuse.

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../linux/pointer_trials.hpp"

namespace {

using pointer_trials::what;

class process {
public:
    process()
    {
        file_ = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
        directory_ = open("/", O_RDONLY | O_DIRECTORY);
        if (ftruncate(file_, 4096) != 0 || pipe2(pipe_, O_NONBLOCK) != 0)
            _exit(3);
        const gid_t groups[] = {1, 2};
        setgroups(2, groups);
        sigset_t blocked;
        sigemptyset(&blocked);
        sigaddset(&blocked, SIGUSR1);
        sigprocmask(SIG_BLOCK, &blocked, nullptr);
    }
    ~process() { unlink(name); }

    long call(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
    {
        const long outcome = syscall(number, a, b, c, d, e, f);
        return outcome == -1 ? -errno : outcome;
    }
    unsigned char load(uint64_t at) { return *reinterpret_cast<volatile unsigned char*>(at); }
    void store(uint64_t at, unsigned char value) { *reinterpret_cast<volatile unsigned char*>(at) = value; }
    uint64_t value(what wanted)
    {
        switch (wanted) {
        case what::source: return static_cast<uint64_t>(pipe_[0]);
        case what::sink: return static_cast<uint64_t>(pipe_[1]);
        case what::file: return static_cast<uint64_t>(file_);
        case what::directory: return static_cast<uint64_t>(directory_);
        case what::name: return reinterpret_cast<uint64_t>(name);
        case what::fresh: return reinterpret_cast<uint64_t>("/tmp/pointers-none");
        case what::program: return reinterpret_cast<uint64_t>("/bin/true");
        case what::link: return reinterpret_cast<uint64_t>("/proc/self/exe");
        case what::root: return reinterpret_cast<uint64_t>("/");
        case what::scratch: return reinterpret_cast<uint64_t>(scratch_);
        case what::vector: return reinterpret_cast<uint64_t>(&vector_);
        case what::inner: return reinterpret_cast<uint64_t>(&inner_);
        case what::self: return static_cast<uint64_t>(getpid());
        case what::signals: return reinterpret_cast<uint64_t>(&signals_);
        default: return 0;
        }
    }
    void make_ready(unsigned flags)
    {
        char drained[65536];
        while (read(pipe_[0], drained, sizeof drained) > 0) {
        }
        if (write(pipe_[1], "12345678", 8) != 8)
            _exit(4);
        memset(scratch_, 0, sizeof scratch_);
        lseek(directory_, 0, SEEK_SET);
        while (waitpid(-1, nullptr, WNOHANG) > 0) {
        }
        if ((flags & pointer_trials::child) != 0) {
            const pid_t child = fork();
            if (child == 0)
                _exit(0);
            siginfo_t info;
            waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT);
        }
        if ((flags & pointer_trials::signal) != 0)
            raise(SIGUSR1);
    }
    void wrong(long number, int position, const char* name, uint64_t address, long outcome)
    {
        printf("call %ld, argument %d, %s (%lx): %ld\n", number, position, name, static_cast<unsigned long>(address),
               outcome);
    }

private:
    static constexpr const char* name = "/tmp/pointers";
    int file_;
    int directory_;
    int pipe_[2];
    alignas(4096) char scratch_[4096]{};
    iovec vector_{scratch_, 8};
    iovec inner_{};
    uint64_t signals_ = 1 << 9; // SIGUSR1
};

} // namespace

int main()
{
    process self;
    const int wrong = pointer_trials::run(self);
    printf("%s\n", wrong == 0 ? "every bad pointer was refused" : "WRONG");
    return wrong != 0;
}
