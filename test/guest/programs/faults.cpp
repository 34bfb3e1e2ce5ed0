// Each misdeed in a child of its own: the parent reports the signal that ended it.

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

volatile uint64_t sink;

// The compiler must not know the address, or it warns of what is meant to happen here.
void* opaque(uint64_t address)
{
    asm volatile("" : "+r"(address));
    return reinterpret_cast<void*>(address);
}

void read_at(uint64_t address) { sink = *static_cast<volatile uint64_t*>(opaque(address)); }
void write_at(uint64_t address) { *static_cast<volatile uint64_t*>(opaque(address)) = 1; }

volatile bool forever = true;

[[gnu::noinline]] uint64_t recurse(uint64_t depth)
{
    volatile char frame[4096];
    frame[0] = static_cast<char>(depth);
    return forever ? recurse(depth + 1) + static_cast<uint64_t>(frame[0]) : depth;
}

void run_data()
{
    void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *static_cast<unsigned char*>(page) = 0xc3;
    reinterpret_cast<void (*)()>(page)();
}

const struct {
    const char* name;
    void (*act)();
} misdeeds[] = {
    {"read null", [] { read_at(0); }},
    {"write null", [] { write_at(8); }},
    {"read kernel image", [] { read_at(0xffffffff80200000); }},
    {"write kernel image", [] { write_at(0xffffffff80200000); }},
    {"read kernel half", [] { read_at(0xffff800000000000); }},
    {"read non-canonical", [] { read_at(0x8000000000000000); }},
    {"jump to kernel", [] { reinterpret_cast<void (*)()>(opaque(0xffffffff80200000))(); }},
    {"write own text", [] { write_at(reinterpret_cast<uint64_t>(&run_data)); }},
    {"execute data", run_data},
    {"divide by zero", [] { asm volatile("xor %%ecx, %%ecx; xor %%edx, %%edx; mov $1, %%eax; div %%ecx" ::: "eax", "ecx", "edx"); }},
    {"invalid instruction", [] { asm volatile("ud2"); }},
    {"privileged instruction", [] { asm volatile("hlt"); }},
    {"port access", [] { asm volatile("outb %%al, $0x80" ::: "memory"); }},
    {"breakpoint", [] { asm volatile("int3"); }},
    {"stack overflow", [] { sink = recurse(0); }},
    {"unmapped", [] {
         void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
         munmap(page, 4096);
         write_at(reinterpret_cast<uint64_t>(page));
     }},
    {"write after mprotect", [] {
         void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
         write_at(reinterpret_cast<uint64_t>(page));
         mprotect(page, 4096, PROT_READ);
         write_at(reinterpret_cast<uint64_t>(page));
     }},
    {"abort", [] { abort(); }},
    {"kill itself", [] { kill(getpid(), SIGKILL); }},
    {"exit 3", [] { _exit(3); }},
};

} // namespace

int main()
{
    for (const auto& misdeed : misdeeds) {
        fflush(stdout);
        const pid_t child = fork();
        if (child == 0) {
            misdeed.act();
            _exit(0);
        }
        int status = 0;
        if (waitpid(child, &status, 0) != child)
            return 1;
        if (WIFSIGNALED(status))
            printf("%s: signal %d\n", misdeed.name, WTERMSIG(status));
        else
            printf("%s: exit %d\n", misdeed.name, WEXITSTATUS(status));
    }
    return 0;
}
