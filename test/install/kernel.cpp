// Compiles and links with the kernel's flags, and with nothing hosted.

#include <exo/base/address.hpp>
#include <exo/base/check.hpp>

namespace exo {

void panic(const char*, const char*, int) noexcept
{
    for (;;)
        asm volatile("hlt");
}

} // namespace exo

extern "C" void start()
{
    EXO_CHECK(exo::phys_addr{0x1fff}.align_down(exo::page_size) == exo::phys_addr{0x1000});
    EXO_PANIC("nothing more to do");
}
