// The ways into the kernel and out of it, with registers, flags and frames as awkward as a program can make them. Each
// in a child of its own; the parent reports how it ended.

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

namespace {

constexpr uint64_t non_canonical = 0x8000'0000'0000'0000, kernel_half = 0xffff'8000'0000'0000;
constexpr uint64_t trap_flag = 0x100, direction_flag = 0x400, alignment_flag = 0x40000;

volatile sig_atomic_t traps;
void count_trap(int, siginfo_t*, void*) { traps = traps + 1; }

void on(int number, void (*handler)(int, siginfo_t*, void*))
{
    struct sigaction action{};
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO;
    sigaction(number, &action, nullptr);
}

int get_parent() { return static_cast<int>(getppid()); }

// What a handler makes of the frame to which it returns.
template <class Change>
void return_with(Change)
{
    on(SIGUSR1, [](int, siginfo_t*, void* context) {
        Change{}(static_cast<ucontext_t*>(context)->uc_mcontext.gregs);
    });
    raise(SIGUSR1);
}

// SYSCALL as the last instruction of the highest page that can be mapped.
void system_call_at_the_end()
{
    constexpr int access = PROT_READ | PROT_WRITE | PROT_EXEC, how = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    void* page = MAP_FAILED;
    for (uint64_t at = 0x7fff'ffff'e000; page == MAP_FAILED; at -= 4096)
        page = mmap(reinterpret_cast<void*>(at), 4096, access, how, -1, 0);
    auto* code = static_cast<unsigned char*>(page) + 4094;
    code[0] = 0x0f;
    code[1] = 0x05;
    asm volatile("call *%0" : : "r"(code), "a"(39) : "rcx", "r11", "memory"); // getpid; then there is no more
}

const struct {
    const char* name;
    int (*act)();
} hazards[] = {
    {"single steps over a system call", [] {
         on(SIGTRAP, count_trap);
         int pid = 0;
         asm volatile("pushfq; orq %1, (%%rsp); popfq; movl $39, %%eax; syscall; pushfq; andq %2, (%%rsp); popfq"
                      : "=&a"(pid)
                      : "i"(trap_flag), "i"(~static_cast<int>(trap_flag))
                      : "rcx", "r11", "memory", "cc");
         return pid == getpid() ? static_cast<int>(traps) : 100;
     }},
    {"INT3, continued", [] {
         on(SIGTRAP, count_trap);
         asm volatile("int3");
         return static_cast<int>(traps);
     }},
    {"INT of an exception's vector", [] {
         asm volatile("int $14");
         return 0;
     }},
    {"INT of a device's vector", [] {
         asm volatile("int $0x30");
         return 0;
     }},
    {"segment registers", [] {
         asm volatile("mov %0, %%ds; mov %0, %%es; mov %0, %%gs" : : "r"(0x2b) : "memory");
         int sum = 0;
         for (int i = 0; i < 100; ++i)
             sum += get_parent() != 0;
         asm volatile("mov %0, %%ds; mov %0, %%es; mov %0, %%gs" : : "r"(0) : "memory");
         return sum + (getppid() != 0);
     }},
    {"a segment of the kernel's", [] {
         asm volatile("mov %0, %%ds" : : "r"(0x18));
         return 0;
     }},
    {"direction flag across a system call", [] {
         uint64_t flags = 0;
         int pid = 0;
         asm volatile("std; movl $39, %%eax; syscall; pushfq; popq %1; cld"
                      : "=&a"(pid), "=r"(flags)
                      :
                      : "rcx", "r11", "memory", "cc");
         return pid == getpid() && (flags & direction_flag) != 0 ? 3 : 4;
     }},
    {"direction flag in a handler", [] {
         on(SIGTRAP, [](int, siginfo_t*, void*) {
             uint64_t flags;
             asm volatile("pushfq; popq %0" : "=r"(flags));
             traps = (flags & direction_flag) != 0 ? 5 : 6;
         });
         asm volatile("std; int3; cld" ::: "cc", "memory");
         return static_cast<int>(traps);
     }},
    {"alignment flag across a system call", [] {
         uint64_t flags = 0;
         int pid = 0;
         asm volatile("pushfq; orq %2, (%%rsp); popfq; movl $39, %%eax; syscall; pushfq; popq %1; pushfq; "
                      "andq %3, (%%rsp); popfq"
                      : "=&a"(pid), "=r"(flags)
                      : "i"(alignment_flag), "i"(~static_cast<int>(alignment_flag))
                      : "rcx", "r11", "memory", "cc");
         return pid == getpid() && (flags & alignment_flag) != 0 ? 3 : 4;
     }},
    {"a system call on a stack that cannot be", [] {
         const pid_t child = fork();
         if (child == 0) {
             uint64_t pid = 0;
             asm volatile("movq %%rsp, %%rbx; movq %1, %%rsp; syscall; movq %%rbx, %%rsp"
                          : "=a"(pid)
                          : "r"(non_canonical + 8), "a"(39)
                          : "rbx", "rcx", "r11", "memory");
             _exit(pid == static_cast<uint64_t>(getpid()) ? 7 : 8);
         }
         int status = 0;
         waitpid(child, &status, 0);
         // It depends on the CPU whether the way back to such a stack is a general protection fault of the program's.
         const bool refused = WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
         return refused || (WIFEXITED(status) && WEXITSTATUS(status) == 7) ? 7 : 8;
     }},
    {"a fault on a stack that cannot be", [] {
         asm volatile("movq %0, %%rsp; ud2" : : "r"(non_canonical + 8));
         return 0;
     }},
    {"a fault on a stack of the kernel's", [] {
         asm volatile("movq %0, %%rsp; pushq $1" : : "r"(kernel_half + 0x10000));
         return 0;
     }},
    {"jump to where no address can be", [] {
         asm volatile("jmp *%0" : : "r"(non_canonical));
         return 0;
     }},
    {"a system call that returns to the end of user memory", [] {
         system_call_at_the_end();
         return 0;
     }},
    {"mapping the last page below the hole", [] {
         constexpr int how = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
         return mmap(reinterpret_cast<void*>(0x7fff'ffff'f000), 4096, PROT_READ, how, -1, 0) == MAP_FAILED ? 9 : 10;
     }},
    {"handler returns to no canonical address", [] {
         return_with([](greg_t* r) { r[REG_RIP] = static_cast<greg_t>(non_canonical); });
         return 0;
     }},
    {"handler returns to the kernel", [] {
         return_with([](greg_t* r) { r[REG_RIP] = static_cast<greg_t>(kernel_half); });
         return 0;
     }},
    {"handler returns with all flags", [] {
         return_with([](greg_t* r) { r[REG_EFL] = 0x3f7000 | 0x202; }); // IOPL, NT, RF, VM, VIF, VIP
         uint64_t flags;
         asm volatile("pushfq; popq %0" : "=r"(flags));
         return (flags & 0x1b7000) == 0 ? 11 : 12;
     }},
    {"handler returns to a bad FPU state", [] {
         on(SIGUSR1, [](int, siginfo_t*, void* context) {
             auto* state = static_cast<ucontext_t*>(context)->uc_mcontext.fpregs;
             state->mxcsr = ~0u;
         });
         raise(SIGUSR1);
         return 14;
     }},
    {"handler's frame where nothing is", [] {
         on(SIGUSR1, count_trap);
         asm volatile("movq %0, %%rsp; movl $39, %%eax; syscall; movl %%eax, %%edi; movl $10, %%esi; movl $62, %%eax; "
                      "syscall; ud2"
                      :
                      : "r"(kernel_half)
                      : "memory");
         return 0;
     }},
    {"vector registers across a system call and a switch", [] {
         uint64_t in[2] = {0x0123456789abcdef, 0xfedcba9876543210}, out[2] = {};
         int ends[2];
         char c;
         if (pipe(ends) != 0 || fork() == 0) {
             uint64_t other[2] = {1, 2};
             asm volatile("movdqu %0, %%xmm7" : : "m"(other));
             _exit(write(ends[1], "x", 1) == 1 ? 0 : 1);
         }
         long got;
         asm volatile("movdqu %2, %%xmm7; xorl %%eax, %%eax; syscall; movdqu %%xmm7, %1"
                      : "=&a"(got), "=m"(out)
                      : "m"(in), "D"(ends[0]), "S"(&c), "d"(1)
                      : "rcx", "r11", "xmm7", "memory");
         return got == 1 && memcmp(in, out, sizeof in) == 0 ? 15 : 16;
     }},
};

} // namespace

int main()
{
    for (const auto& hazard : hazards) {
        fflush(stdout);
        const pid_t child = fork();
        if (child == 0)
            _exit(hazard.act());
        int status = 0;
        if (waitpid(child, &status, 0) != child)
            return 1;
        if (WIFSIGNALED(status))
            printf("%s: signal %d\n", hazard.name, WTERMSIG(status));
        else
            printf("%s: exit %d\n", hazard.name, WEXITSTATUS(status));
    }
    return 0;
}
