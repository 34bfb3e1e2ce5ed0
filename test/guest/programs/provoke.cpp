// Has a kernel that was started with `provoke` misbehave (boot/provoke.hpp): read, write or call an address, use up its
// stack, spin with interrupts off, or interrupt a CPU by an NMI. Arguments: the action; the address, or `data` or `code`
// for some of this program's own, or for how many cycles, or which CPU, in hexadecimal; and how often, once if left out.
// With the one argument `enter` it enters the kernel over and over, for something to be provoked on the way: GS leads
// to memory of its own.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

volatile uint64_t own_data = 5;
void own_code() { asm volatile(""); }

[[noreturn]] void enter_for_ever()
{
    constexpr int set_gs = 0x1001;
    static uint64_t where_gs_leads[64]; // zero where the kernel has the number of the CPU, which is another
    where_gs_leads[63] = 1;             // there when the kernel reads it
    syscall(SYS_arch_prctl, set_gs, where_gs_leads);
    puts("entering");
    for (;;)
        syscall(SYS_getppid);
}

} // namespace

int main(int argc, char** argv)
{
    if (argc == 2 && strcmp(argv[1], "enter") == 0)
        enter_for_ever();
    if (argc < 3)
        return 2;
    const char* const actions[] = {"read", "write", "call", "overflow", "spin", "nmi"};
    uint64_t action = 0;
    while (action < 6 && strcmp(argv[1], actions[action]) != 0)
        ++action;
    own_code(); // both are mapped by now
    own_data = own_data + 1;
    const uint64_t address = strcmp(argv[2], "data") == 0   ? reinterpret_cast<uint64_t>(&own_data)
                             : strcmp(argv[2], "code") == 0 ? reinterpret_cast<uint64_t>(&own_code)
                                                            : strtoull(argv[2], nullptr, 16);
    for (long left = argc > 3 ? atol(argv[3]) : 1; left > 0; --left)
        asm volatile("int $4" : : "a"(action), "D"(address) : "memory");
    puts("nothing stopped it");
    return 0;
}
