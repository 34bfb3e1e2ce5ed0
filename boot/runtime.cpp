// What the compiler takes for granted of a C library, and the operators that a kernel must not use.
//
// The loops move eight bytes at a time: general registers are all there is in ring 0.

#include <cstddef>
#include <cstdint>
#include <new>

#include <exo/base/check.hpp>

namespace {

struct [[gnu::packed, gnu::may_alias]] unaligned_word {
    std::uint64_t value;
};
constexpr std::size_t word_bytes = sizeof(std::uint64_t);

void copy_word(unsigned char* to, const unsigned char* from)
{
    reinterpret_cast<unaligned_word*>(to)->value = reinterpret_cast<const unaligned_word*>(from)->value;
}

} // namespace

extern "C" {

[[gnu::hot]] void* memcpy(void* __restrict to, const void* __restrict from, std::size_t size)
{
    auto* t = static_cast<unsigned char*>(to);
    const auto* f = static_cast<const unsigned char*>(from);
    for (; size >= 4 * word_bytes; size -= 4 * word_bytes, t += 4 * word_bytes, f += 4 * word_bytes) {
        copy_word(t, f);
        copy_word(t + word_bytes, f + word_bytes);
        copy_word(t + 2 * word_bytes, f + 2 * word_bytes);
        copy_word(t + 3 * word_bytes, f + 3 * word_bytes);
    }
    for (; size >= word_bytes; size -= word_bytes, t += word_bytes, f += word_bytes)
        copy_word(t, f);
    while (size-- > 0)
        *t++ = *f++;
    return to;
}

void* memmove(void* to, const void* from, std::size_t size)
{
    auto* t = static_cast<unsigned char*>(to);
    const auto* f = static_cast<const unsigned char*>(from);
    if (reinterpret_cast<std::uintptr_t>(t) - reinterpret_cast<std::uintptr_t>(f) >= size) {
        // Forward: a word is read before anything that it overlaps is written.
        for (; size >= word_bytes; size -= word_bytes, t += word_bytes, f += word_bytes)
            copy_word(t, f);
        while (size-- > 0)
            *t++ = *f++;
    } else {
        for (; size >= word_bytes; size -= word_bytes)
            copy_word(t + size - word_bytes, f + size - word_bytes);
        while (size-- > 0)
            t[size] = f[size];
    }
    return to;
}

[[gnu::hot]] void* memset(void* to, int value, std::size_t size)
{
    auto* t = static_cast<unsigned char*>(to);
    const std::uint64_t word = 0x0101'0101'0101'0101 * static_cast<unsigned char>(value);
    for (; size >= 4 * word_bytes; size -= 4 * word_bytes, t += 4 * word_bytes) {
        auto* words = reinterpret_cast<unaligned_word*>(t);
        words[0].value = word;
        words[1].value = word;
        words[2].value = word;
        words[3].value = word;
    }
    while (size-- > 0)
        *t++ = static_cast<unsigned char>(value);
    return to;
}

int memcmp(const void* a, const void* b, std::size_t size)
{
    const auto* x = static_cast<const unsigned char*>(a);
    const auto* y = static_cast<const unsigned char*>(b);
    for (; size >= word_bytes; size -= word_bytes, x += word_bytes, y += word_bytes)
        if (reinterpret_cast<const unaligned_word*>(x)->value != reinterpret_cast<const unaligned_word*>(y)->value)
            break;
    for (; size > 0; --size, ++x, ++y)
        if (*x != *y)
            return *x < *y ? -1 : 1;
    return 0;
}

// What clang makes of a memcmp whose order nobody looks at.
int bcmp(const void* a, const void* b, std::size_t size) { return memcmp(a, b, size); }

void* memchr(const void* in, int value, std::size_t size)
{
    const auto* at = static_cast<const unsigned char*>(in);
    for (; size > 0; --size, ++at)
        if (*at == static_cast<unsigned char>(value))
            return const_cast<unsigned char*>(at);
    return nullptr;
}

std::size_t strlen(const char* text)
{
    std::size_t size = 0;
    while (text[size] != '\0')
        ++size;
    return size;
}

[[noreturn]] void __cxa_pure_virtual()
{
    EXO_PANIC("a pure virtual function was called");
}

} // extern "C"

// Virtual destructors refer to it; objects end through their allocators.
void operator delete(void*) noexcept
{
    EXO_PANIC("operator delete was called");
}
void operator delete(void*, std::size_t) noexcept
{
    EXO_PANIC("operator delete was called");
}
void operator delete(void*, std::size_t, std::align_val_t) noexcept
{
    EXO_PANIC("operator delete was called");
}

namespace std {

[[noreturn]] void __throw_bad_optional_access()
{
    EXO_PANIC("an empty optional was read");
}
[[noreturn]] void __throw_out_of_range_fmt(const char* message, ...)
{
    EXO_PANIC(message);
}
[[noreturn]] void __throw_length_error(const char* message)
{
    EXO_PANIC(message);
}
[[noreturn]] void __throw_logic_error(const char* message)
{
    EXO_PANIC(message);
}

} // namespace std
