// Every system call that takes a pointer, with arguments that are good but for one pointer; and what to point it at
// instead. Plain C++, for the simulated kernel and for a program in the booted one alike.
//
// The kernel must refuse with EFAULT whatever it cannot read or write at the program's own request: its own memory,
// what is no address, what is not mapped or not accessible, and what begins in good memory but does not end there.

#pragma once

#include <errno.h>
#include <stdint.h>
#include <sys/syscall.h>

namespace pointer_trials {

// Arguments that are not numbers known beforehand.
enum class what : uint8_t {
    number,
    tested,    // the pointer that the trial is about
    source,    // the end of a pipe that holds eight bytes
    sink,      // its other end
    file,      // a file opened for reading and writing, 4096 bytes long
    directory, // the root, opened
    name,      // the name of that file
    fresh,     // a name that does not exist
    program,   // the name of a program
    link,      // the name of a symbolic link
    root,      // the root's name
    scratch,   // a page of zeros
    vector,    // an iovec of eight bytes of it
    inner,     // an iovec of eight bytes at the tested pointer
    self,      // the process's number
    signals,   // the address of a set that holds SIGUSR1
};

struct argument {
    constexpr argument(long n = 0) : value{n} {}
    constexpr argument(what w) : kind{w} {}

    what kind{what::number};
    long value{};
};

enum : unsigned {
    writes = 1,   // the kernel writes there; else it reads
    optional = 2, // null stands for nothing
    partial = 4,  // a transfer may also end where memory does
    child = 8,    // wants a child that has ended
    signal = 16,  // wants a pending signal
};

struct trial {
    long call;
    argument arguments[6];
    unsigned size; // bytes that the kernel reads or writes at least
    unsigned flags{};
    int also{}; // another error that is right for some of the pointers

    [[nodiscard]] constexpr int position() const
    {
        for (int i = 0; i < 6; ++i)
            if (arguments[i].kind == what::tested || arguments[i].kind == what::inner)
                return i;
        return -1;
    }
};

inline constexpr long here = -100, user_signal = 10; // AT_FDCWD, SIGUSR1
inline constexpr auto T = what::tested;
inline constexpr unsigned string = 8; // of a string, that is, more than the last four bytes of a page

inline constexpr trial trials[] = {
    // Transfers.
    {SYS_read, {what::source, T, 8}, 8, writes | partial},
    {SYS_write, {what::sink, T, 8}, 8, partial},
    {SYS_readv, {what::source, T, 1}, 16},
    {SYS_readv, {what::source, what::inner, 1}, 8, writes | partial},
    {SYS_writev, {what::sink, T, 1}, 16},
    {SYS_writev, {what::sink, what::inner, 1}, 8, partial},
    {SYS_pread64, {what::file, T, 8, 0}, 8, writes | partial},
    {SYS_pwrite64, {what::file, T, 8, 0}, 8, partial},
    {SYS_preadv, {what::file, T, 1, 0}, 16},
    {SYS_preadv, {what::file, what::inner, 1, 0}, 8, writes | partial},
    {SYS_pwritev, {what::file, T, 1, 0}, 16},
    {SYS_pwritev, {what::file, what::inner, 1, 0}, 8, partial},
    {SYS_sendfile, {what::sink, what::file, T, 4}, 8, writes | optional},
    {SYS_getdents64, {what::directory, T, 512}, 24, writes | partial, EINVAL},
    // Names.
    {SYS_open, {T, 0}, string},
    {SYS_openat, {here, T, 0}, string},
    {SYS_creat, {T, 0600}, string},
    {SYS_mkdir, {T, 0700}, string},
    {SYS_mkdirat, {here, T, 0700}, string},
    {SYS_mknod, {T, 0010600}, string},
    {SYS_mknodat, {here, T, 0010600}, string},
    {SYS_unlink, {T}, string},
    {SYS_unlinkat, {here, T, 0}, string},
    {SYS_rmdir, {T}, string},
    {SYS_rename, {T, what::fresh}, string},
    {SYS_rename, {what::name, T}, string},
    {SYS_renameat, {here, T, here, what::fresh}, string},
    {SYS_renameat, {here, what::name, here, T}, string},
    {SYS_renameat2, {here, T, here, what::fresh, 0}, string},
    {SYS_renameat2, {here, what::name, here, T, 0}, string},
    {SYS_link, {T, what::fresh}, string},
    {SYS_link, {what::name, T}, string},
    {SYS_linkat, {here, T, here, what::fresh, 0}, string},
    {SYS_linkat, {here, what::name, here, T, 0}, string},
    {SYS_symlink, {T, what::fresh}, string},
    {SYS_symlink, {what::name, T}, string},
    {SYS_symlinkat, {T, here, what::fresh}, string},
    {SYS_symlinkat, {what::name, here, T}, string},
    {SYS_chmod, {T, 0600}, string},
    {SYS_fchmodat, {here, T, 0600}, string},
    {SYS_chown, {T, 0, 0}, string},
    {SYS_lchown, {T, 0, 0}, string},
    {SYS_fchownat, {here, T, 0, 0, 0}, string},
    {SYS_utimensat, {here, T, 0, 0}, string, optional},
    {SYS_utimensat, {here, what::name, T, 0}, 32, optional},
    {SYS_utimes, {T, 0}, string, optional},
    {SYS_utimes, {what::name, T}, 32, optional},
    {SYS_truncate, {T, 4096}, string},
    {SYS_chdir, {T}, string},
    {SYS_chroot, {T}, string},
    {SYS_mount, {T, what::root, what::name, 0, 0}, string, optional},
    {SYS_mount, {what::name, T, what::name, 0, 0}, string},
    {SYS_mount, {what::name, what::root, T, 0, 0}, string, optional},
    {SYS_umount2, {T, 0}, string},
    {SYS_execve, {T, 0, 0}, string},
    {SYS_execve, {what::program, T, 0}, 8, optional},
    {SYS_execve, {what::program, 0, T}, 8, optional},
    // What there is to know of files.
    {SYS_stat, {T, what::scratch}, string},
    {SYS_stat, {what::name, T}, 144, writes},
    {SYS_lstat, {T, what::scratch}, string},
    {SYS_lstat, {what::name, T}, 144, writes},
    {SYS_fstat, {what::file, T}, 144, writes},
    {SYS_newfstatat, {here, T, what::scratch, 0}, string},
    {SYS_newfstatat, {here, what::name, T, 0}, 144, writes},
    {SYS_statx, {here, T, 0, 0x7ff, what::scratch}, string},
    {SYS_statx, {here, what::name, 0, 0x7ff, T}, 256, writes},
    {SYS_access, {T, 0}, string},
    {SYS_faccessat, {here, T, 0}, string},
    {SYS_faccessat2, {here, T, 0, 0}, string},
    {SYS_readlink, {T, what::scratch, 8}, string},
    {SYS_readlink, {what::link, T, 8}, 1, writes},
    {SYS_readlinkat, {here, T, what::scratch, 8}, string},
    {SYS_readlinkat, {here, what::link, T, 8}, 1, writes},
    {SYS_statfs, {T, what::scratch}, string},
    {SYS_statfs, {what::root, T}, 120, writes},
    {SYS_fstatfs, {what::file, T}, 120, writes},
    {SYS_getcwd, {T, 100}, 2, writes},
    // Descriptors.
    {SYS_pipe, {T}, 8, writes},
    {SYS_pipe2, {T, 0}, 8, writes},
    {SYS_ioctl, {what::file, 0x541b, T}, 4, writes}, // FIONREAD
    {SYS_ioctl, {what::source, 0x5421, T}, 4},       // FIONBIO
    {SYS_poll, {T, 1, 0}, 8, writes},
    {SYS_ppoll, {T, 1, what::scratch, 0, 8}, 8, writes},
    {SYS_ppoll, {0, 0, T, 0, 8}, 16, optional},
    {SYS_ppoll, {0, 0, what::scratch, T, 8}, 8, optional},
    {SYS_select, {1, T, 0, 0, what::scratch}, 8, writes | optional},
    {SYS_select, {1, 0, T, 0, what::scratch}, 8, writes | optional},
    {SYS_select, {1, 0, 0, T, what::scratch}, 8, writes | optional},
    {SYS_select, {1, what::scratch, 0, 0, T}, 16, optional},
    {SYS_pselect6, {1, T, 0, 0, what::scratch, 0}, 8, writes | optional},
    {SYS_pselect6, {1, 0, T, 0, what::scratch, 0}, 8, writes | optional},
    {SYS_pselect6, {1, 0, 0, T, what::scratch, 0}, 8, writes | optional},
    {SYS_pselect6, {1, what::scratch, 0, 0, T, 0}, 16, optional},
    {SYS_pselect6, {1, what::scratch, 0, 0, what::scratch, T}, 16, optional},
    // Processes.
    {SYS_clone3, {T, 88}, 64},
    {SYS_wait4, {-1, T, 0, 0}, 4, writes | optional | child},
    {SYS_wait4, {-1, 0, 0, T}, 144, writes | optional | child},
    {SYS_waitid, {0, 0, T, 4, 0}, 28, writes | optional | child},
    {SYS_waitid, {0, 0, 0, 4, T}, 144, writes | optional | child},
    {SYS_getresuid, {T, what::scratch, what::scratch}, 4, writes},
    {SYS_getresuid, {what::scratch, T, what::scratch}, 4, writes},
    {SYS_getresuid, {what::scratch, what::scratch, T}, 4, writes},
    {SYS_getresgid, {T, what::scratch, what::scratch}, 4, writes},
    {SYS_getresgid, {what::scratch, T, what::scratch}, 4, writes},
    {SYS_getresgid, {what::scratch, what::scratch, T}, 4, writes},
    {SYS_getgroups, {8, T}, 8, writes}, // there are two
    {SYS_setgroups, {2, T}, 8},
    {SYS_prlimit64, {0, 7, T, 0}, 16, optional},
    {SYS_prlimit64, {0, 7, 0, T}, 16, writes | optional},
    {SYS_getrlimit, {7, T}, 16, writes},
    {SYS_setrlimit, {7, T}, 16},
    {SYS_getrusage, {0, T}, 144, writes},
    {SYS_arch_prctl, {0x1003, T}, 8, writes}, // ARCH_GET_FS
    {SYS_arch_prctl, {0x1004, T}, 8, writes}, // ARCH_GET_GS
    {SYS_prctl, {15, T}, string},             // PR_SET_NAME
    {SYS_prctl, {16, T}, 16, writes},         // PR_GET_NAME
    // Signals.
    {SYS_rt_sigaction, {user_signal, T, 0, 8}, 32, optional},
    {SYS_rt_sigaction, {user_signal, 0, T, 8}, 32, writes | optional},
    {SYS_rt_sigprocmask, {0, T, 0, 8}, 8, optional},
    {SYS_rt_sigprocmask, {0, 0, T, 8}, 8, writes | optional},
    {SYS_rt_sigpending, {T, 8}, 8, writes},
    {SYS_rt_sigsuspend, {T, 8}, 8},
    {SYS_rt_sigtimedwait, {T, 0, what::scratch, 8}, 8},
    {SYS_rt_sigtimedwait, {what::scratch, 0, T, 8}, 16, optional},
    {SYS_rt_sigtimedwait, {what::signals, T, what::scratch, 8}, 128, writes | optional | signal},
    {SYS_rt_sigqueueinfo, {what::self, user_signal, T}, 48},
    {SYS_rt_tgsigqueueinfo, {what::self, what::self, user_signal, T}, 48},
    {SYS_sigaltstack, {T, 0}, 24, optional},
    {SYS_sigaltstack, {0, T}, 24, writes | optional},
    // Time.
    {SYS_nanosleep, {T, 0}, 16},
    {SYS_clock_nanosleep, {1, 0, T, 0}, 16},
    {SYS_clock_gettime, {1, T}, 16, writes},
    {SYS_clock_getres, {1, T}, 16, writes | optional},
    {SYS_gettimeofday, {T, 0}, 16, writes | optional},
    {SYS_gettimeofday, {0, T}, 8, writes | optional},
    {SYS_time, {T}, 8, writes | optional},
    {SYS_times, {T}, 32, writes | optional},
    {SYS_getitimer, {0, T}, 32, writes},
    {SYS_setitimer, {0, T, 0}, 32, optional},
    {SYS_setitimer, {0, what::scratch, T}, 32, writes | optional},
    // Memory.
    {SYS_mincore, {what::scratch, 4096, T}, 1, writes},
    // The system.
    {SYS_uname, {T}, 390, writes},
    {SYS_sysinfo, {T}, 112, writes},
    {SYS_getrandom, {T, 16, 0}, 16, writes | partial},
    {SYS_sched_getaffinity, {0, 8, T}, 8, writes},
    {SYS_sched_setaffinity, {0, 8, T}, 8, 0, EINVAL}, // of zeros
    {SYS_sched_setscheduler, {0, 0, T}, 4, 0, EINVAL},
    {SYS_sched_setparam, {0, T}, 4, 0, EINVAL},
    {SYS_sched_getparam, {0, T}, 4, writes, EINVAL},
    {SYS_sched_setattr, {0, T, 0}, 48, optional, E2BIG}, // null is EINVAL; of whatever size stands there
    {SYS_sched_getattr, {0, T, 48, 0}, 48, writes, EINVAL},
    {SYS_sched_rr_get_interval, {0, T}, 16, writes},
    {SYS_getcpu, {T, 0}, 4, writes | optional},
    {SYS_getcpu, {0, T}, 4, writes | optional},
    {SYS_futex, {T, 0, 0, what::scratch, 0, 0}, 4, 0, EINVAL}, // FUTEX_WAIT; of a word that is aligned
    {SYS_futex, {what::scratch, 0, 0, T, 0, 0}, 16, optional},
    {SYS_futex, {what::scratch, 5, 0, 0, T, 0}, 4, writes, EINVAL}, // FUTEX_WAKE_OP: writes 0
    {SYS_get_robust_list, {0, T, what::scratch}, 8, writes},
    {SYS_get_robust_list, {0, what::scratch, T}, 8, writes},
};

// Pointers that no call follows when it is made.
struct exemption {
    long call;
    int position;
    const char* why;
};
inline constexpr exemption exemptions[] = {
    {SYS_clone, 2, "the parent is told the child's number where it can be"},
    {SYS_clone, 3, "and the child"},
    {SYS_set_tid_address, 0, "is noted"},
    {SYS_set_robust_list, 0, "is noted"},
    {SYS_nanosleep, 1, "is written when a signal interrupts"},
    {SYS_clock_nanosleep, 3, "is written when a signal interrupts"},
    {SYS_rseq, 0, "is noted, and ends the program when it is not good on the way to user mode"},
};

// Ranges that are not the program's to change. Each call is given one in its first argument; the second is its length.
struct range_trial {
    long call;
    long rest[4];
};
inline constexpr range_trial range_trials[] = {
    {SYS_munmap, {}},
    {SYS_mprotect, {3}},
    {SYS_mmap, {3, 0x32, -1}}, // fixed, private, anonymous
    {SYS_mremap, {4096 * 4, 1}},
    {SYS_madvise, {4}},
    {SYS_msync, {4}},
    {SYS_mlock, {}},
    {SYS_mlock2, {1}}, // when touched
    {SYS_munlock, {}},
};

// Tries everything. Process has `call(number, six arguments)`, which returns a result or -errno; `load(address)` and
// `store(address, byte)`; `value(what)`, for those of the arguments that need preparation; `make_ready(flags)` before
// each trial; and `wrong(call, position, pointer's name, pointer, outcome)`.
template <class Process>
int run(Process& p)
{
    constexpr uint64_t page = 4096, limit = 0x7fff'ffff'f000;
    constexpr long none = 0, read = 1, both = 3, how = 0x22, fixed = 0x10;
    const auto map = [&](long access) {
        return static_cast<uint64_t>(p.call(SYS_mmap, 0, 2 * page, access, how, -1, 0));
    };
    const uint64_t unmapped = map(both) + page;
    p.call(SYS_munmap, unmapped, page, 0, 0, 0, 0); // and what is below it stays
    const uint64_t forbidden = map(none);
    const uint64_t read_only = map(read);
    p.call(SYS_mmap, limit - page, page, both, how | fixed, -1, 0);
    const auto fill = [&](uint64_t end) {
        for (uint64_t at = end - 512; at < end; ++at)
            p.store(at, 'a');
    };

    int wrong = 0;
    for (const trial& t : trials) {
        const uint64_t half = t.size / 2;
        const struct {
            const char* name;
            uint64_t address;
            uint64_t accessible; // bytes
        } pointers[] = {
            {"null", 0, 0},
            {"one", 1, 0},
            {"unmapped", unmapped, 0},
            {"forbidden", forbidden, 0},
            {"read-only", read_only, 0},
            {"into what is unmapped", unmapped - half, half},
            {"across the end of user memory", limit - half, half},
            {"at the end of user memory", limit, 0},
            {"above the lower half", 0x0000'8000'0000'0000, 0},
            {"below the upper half", 0xffff'7fff'ffff'f000, 0},
            {"not canonical", 0x8000'0000'0000'0000, 0},
            {"the kernel's memory", 0xffff'8000'0000'1000, 0},
            {"the kernel's code", 0xffff'ffff'8011'0000, 0},
            {"the kernel's data", 0xffff'ffff'8019'0000, 0},
            {"the last byte", ~uint64_t{0}, 0},
            {"across the end of everything", uint64_t{0} - (half + half % 2), 0},
        };
        for (const auto& pointer : pointers) {
            if ((pointer.address == 0 && (t.flags & optional) != 0) ||
                (pointer.address == read_only && (t.flags & writes) == 0) || (pointer.accessible == 0 && t.size == 1 &&
                 (pointer.address == unmapped - half || pointer.address == limit - half)))
                continue;
            fill(unmapped);
            fill(limit);
            p.make_ready(t.flags);
            const uint64_t vector = p.value(what::inner);
            for (int i = 0; i < 8; ++i) {
                p.store(vector + i, static_cast<unsigned char>(pointer.address >> 8 * i));
                p.store(vector + 8 + i, i == 0 ? 8 : 0);
            }
            uint64_t a[6];
            for (int i = 0; i < 6; ++i) {
                const auto& given = t.arguments[i];
                a[i] = given.kind == what::number ? static_cast<uint64_t>(given.value)
                       : given.kind == what::tested ? pointer.address
                                                    : p.value(given.kind);
            }
            const long outcome = p.call(t.call, a[0], a[1], a[2], a[3], a[4], a[5]);
            const bool in_part = (t.flags & partial) != 0 && outcome > 0 &&
                                 static_cast<uint64_t>(outcome) <= pointer.accessible;
            if (outcome != -EFAULT && !in_part && !(t.also != 0 && outcome == -t.also)) {
                ++wrong;
                p.wrong(t.call, t.position(), pointer.name, pointer.address, outcome);
            }
        }
    }
    for (uint64_t at = read_only; at < read_only + page; ++at)
        wrong += p.load(at) != 0;

    for (const range_trial& t : range_trials) {
        const struct {
            const char* name;
            uint64_t address;
        } ranges[] = {
            {"across the end of user memory", limit - page},
            {"at the end of user memory", limit},
            {"above the lower half", 0x0000'8000'0000'0000},
            {"below the upper half", 0xffff'7fff'ffff'f000},
            {"the kernel's memory", 0xffff'8000'0000'1000},
            {"the kernel's code", 0xffff'ffff'8011'0000},
            {"across the end of everything", uint64_t{0} - page},
        };
        for (const auto& range : ranges) {
            const auto& r = t.rest;
            p.store(limit - page, 'k');
            const long outcome = p.call(t.call, range.address, 2 * page, static_cast<uint64_t>(r[0]),
                                        static_cast<uint64_t>(r[1]), static_cast<uint64_t>(r[2]), 0);
            // Advice is for what is mapped, and then there is an error all the same.
            const bool kept = t.call == SYS_madvise || p.load(limit - page) == 'k';
            if (outcome >= 0 || outcome == -ENOSYS || !kept) {
                ++wrong;
                p.wrong(t.call, 0, range.name, range.address, outcome);
            }
        }
    }
    return wrong;
}

} // namespace pointer_trials
