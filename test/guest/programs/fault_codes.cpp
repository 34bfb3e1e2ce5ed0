// What the handler of a fault is told: signal, code and address, for each way to go wrong; and faults that use up the
// stack, handled on a stack of their own.

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

constexpr size_t page = 4096;

sigjmp_buf back;
siginfo_t told;
volatile bool on_alternate_stack;
char alternate[64 * 1024];

void note(int, siginfo_t* info, void*)
{
    char here;
    told = *info;
    on_alternate_stack = &here >= alternate && &here < alternate + sizeof alternate;
    siglongjmp(back, 1);
}

void* opaque(uint64_t address)
{
    asm volatile("" : "+r"(address));
    return reinterpret_cast<void*>(address);
}
uint64_t number(const void* p) { return reinterpret_cast<uint64_t>(p); }

char* map(int protection, int flags = MAP_PRIVATE | MAP_ANONYMOUS, int file = -1, size_t bytes = page)
{
    return static_cast<char*>(mmap(nullptr, bytes, protection, flags, file, 0));
}

const char* name_of(int signal_number, int code)
{
    if (signal_number == SIGSEGV)
        return code == SEGV_MAPERR ? "MAPERR" : code == SEGV_ACCERR ? "ACCERR" : code == SI_KERNEL ? "KERNEL" : "?";
    return code == BUS_ADRERR ? "ADRERR" : code == BUS_ADRALN ? "ADRALN" : "?";
}

// `at`: where the fault should be, to be told as a distance; 0: the address as it is.
template <class Act>
void attempt(const char* what, uint64_t at, Act act)
{
    memset(&told, 0, sizeof told);
    if (sigsetjmp(back, 1) == 0) {
        act();
        printf("%s: nothing\n", what);
        return;
    }
    printf("%s: signal %d %s at %s%lx\n", what, told.si_signo, name_of(told.si_signo, told.si_code), at ? "+" : "",
           static_cast<unsigned long>(number(told.si_addr) - at));
}

void load(uint64_t a) { (void)*static_cast<volatile char*>(opaque(a)); }
void store(uint64_t a) { *static_cast<volatile char*>(opaque(a)) = 1; }
void run(uint64_t a) { reinterpret_cast<void (*)()>(opaque(a))(); }

volatile uint64_t sink;
volatile bool forever = true;
[[gnu::noinline]] uint64_t recurse(uint64_t depth)
{
    volatile char frame[512];
    frame[0] = static_cast<char>(depth);
    return forever ? recurse(depth + 1) + static_cast<uint64_t>(frame[0]) : depth;
}

} // namespace

int main()
{
    stack_t other{};
    other.ss_sp = alternate;
    other.ss_size = sizeof alternate;
    sigaltstack(&other, nullptr);
    struct sigaction action{};
    action.sa_sigaction = note;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, nullptr);
    sigaction(SIGBUS, &action, nullptr);

    attempt("read null", 0, [] { load(0); });
    attempt("write near null", 0, [] { store(8); });
    attempt("jump to null", 0, [] { run(0); });
    attempt("read the kernel", 0, [] { load(0xffffffff80110000); });
    attempt("write all memory", 0, [] { store(0xffff800000001000); });
    attempt("jump to the kernel", 0, [] { run(0xffffffff80110000); });
    attempt("read what cannot be", 0, [] { load(0x8000000000000000); });

    char* data = map(PROT_READ | PROT_WRITE);
    data[0] = static_cast<char>(0xc3);
    attempt("execute data", number(data), [=] { run(number(data)); });
    unsigned char code = 0xc3;
    attempt("execute the stack", number(&code), [&code] { run(number(&code)); });
    char* both = map(PROT_READ | PROT_WRITE | PROT_EXEC);
    both[5] = static_cast<char>(0xc3);
    attempt("execute what may be written, as asked for", 0, [=] { run(number(both + 5)); });

    char* read_only = map(PROT_READ);
    attempt("write what may be read", number(read_only), [=] { store(number(read_only) + 7); });
    load(number(read_only));
    attempt("write it once it is there", number(read_only), [=] { store(number(read_only) + 7); });
    char* none = map(PROT_NONE);
    attempt("read what nobody may", number(none), [=] { load(number(none) + 1); });
    mprotect(data, page, PROT_NONE);
    attempt("read what nobody may any more", number(data), [=] { load(number(data) + 1); });
    munmap(data, page);
    attempt("read what is not there any more", number(data), [=] { load(number(data) + 1); });
    attempt("write own code", number(opaque(number(reinterpret_cast<void*>(&main)))),
            [] { store(number(reinterpret_cast<void*>(&main))); });

    const int file = open("/tmp/fault_codes", O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (write(file, "abc", 3) != 3)
        return 1;
    char* mapped = map(PROT_READ | PROT_WRITE, MAP_SHARED, file, 2 * page);
    attempt("read a file's end", 0, [=] { load(number(mapped) + page - 1); });
    attempt("read behind a file's end", number(mapped), [=] { load(number(mapped) + page); });
    attempt("write behind a file's end", number(mapped), [=] { store(number(mapped) + page + 9); });
    char* own = map(PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 2 * page);
    attempt("read behind its end, privately", number(own), [=] { load(number(own) + page); });
    unlink("/tmp/fault_codes");

    // The stack grows to its limit and not into what lies below.
    rlimit limit{};
    getrlimit(RLIMIT_STACK, &limit);
    limit.rlim_cur = 256 * 1024;
    setrlimit(RLIMIT_STACK, &limit);
    fflush(stdout);
    if (const pid_t child = fork(); child == 0) {
        for (int i = 0; i < 3; ++i) {
            memset(&told, 0, sizeof told);
            char here;
            if (sigsetjmp(back, 1) == 0)
                sink = recurse(0);
            const uint64_t depth = number(&here) - number(told.si_addr);
            printf("stack used up: signal %d %s, on %s, %s\n", told.si_signo, name_of(told.si_signo, told.si_code),
                   on_alternate_stack ? "the other stack" : "the same stack",
                   depth > 128 * 1024 && depth < 512 * 1024 ? "at its limit" : "elsewhere");
        }
        fflush(stdout);
        // Without a place for its handler's frame it ends.
        stack_t disabled{};
        disabled.ss_flags = SS_DISABLE;
        sigaltstack(&disabled, nullptr);
        sink = recurse(0);
        _exit(0);
    } else {
        int status = 0;
        waitpid(child, &status, 0);
        printf("and without another stack: signal %d\n", WTERMSIG(status));
    }
    return 0;
}
