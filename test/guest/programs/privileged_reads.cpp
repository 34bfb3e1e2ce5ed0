// Instructions that tell a program where the kernel keeps its tables, unless the processor forbids it (UMIP): each in a
// child of its own.

#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

const struct {
    const char* name;
    void (*act)();
} instructions[] = {
    {"SGDT", [] { char table[10]; asm volatile("sgdt %0" : "=m"(table)); }},
    {"SIDT", [] { char table[10]; asm volatile("sidt %0" : "=m"(table)); }},
    {"SLDT", [] { uint16_t selector; asm volatile("sldt %0" : "=m"(selector)); }},
    {"STR", [] { uint16_t selector; asm volatile("str %0" : "=m"(selector)); }},
    {"SMSW", [] { uint16_t word; asm volatile("smsw %0" : "=m"(word)); }},
};

} // namespace

int main()
{
    for (const auto& instruction : instructions) {
        const pid_t child = fork();
        if (child == 0) {
            instruction.act();
            _exit(0);
        }
        int status = 0;
        waitpid(child, &status, 0);
        printf("%s: %s %d\n", instruction.name, WIFSIGNALED(status) ? "signal" : "exit",
               WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    }
    return 0;
}
