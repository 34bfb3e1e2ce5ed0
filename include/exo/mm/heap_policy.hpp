// What a heap does to find misuse: nothing, or what follows.
//
// A checked object is followed by a red zone, and the size that was asked for; what is free is filled with a pattern.
// Of a large object the heap keeps the size elsewhere, and its red zone is what its frames have left: perhaps nothing.
// Found are, at the latest when the object is freed or its memory handed out again: writes beyond the end, writes after
// a free, a second free, a free with another size, and a free of what is no object. Each ends in a panic that names the
// object. An object starts as the pattern, so that nobody takes what is indeterminate for zeros.

#pragma once

#include <cstddef>
#include <cstdint>

#include <exo/base/check.hpp>

namespace exo::mm {

struct unchecked_heap {
    static constexpr bool checked = false;
    static constexpr std::size_t red_zone = 0;
};

class checked_heap {
public:
    static constexpr bool checked = true;
    static constexpr std::size_t red_zone = 16; // the least; it lasts to the end of the size class

    // `memory` has `size` bytes, of which the user gets `bytes`.
    static void hand_out(void* memory, std::size_t bytes, std::size_t size) noexcept
    {
        auto* at = static_cast<unsigned char*>(memory);
        if (!filled(at, freed, size)) [[unlikely]]
            report("was written to after it was freed", memory, size);
        __builtin_memset(at + bytes, beyond, size - bytes - sizeof(std::uint64_t));
        const auto mark = mark_of(bytes);
        __builtin_memcpy(at + size - sizeof mark, &mark, sizeof mark);
    }
    static void take_back(void* memory, std::size_t bytes, std::size_t size) noexcept
    {
        auto* at = static_cast<unsigned char*>(memory);
        std::uint64_t mark = 0;
        __builtin_memcpy(&mark, at + size - sizeof mark, sizeof mark);
        const auto allocated = static_cast<std::uint32_t>(mark);
        if (mark != mark_of(allocated) || allocated > size - red_zone ||
            !filled(at + allocated, beyond, size - allocated - sizeof mark)) [[unlikely]]
            report("was written to beyond its end", memory, bytes);
        if (allocated != bytes) [[unlikely]]
            report("is freed with another size than it was allocated with", memory, bytes);
        release(memory, size);
    }
    // The same for a large object, of which the heap knows that it is one, and its size.
    static void hand_out_large(void* memory, std::size_t bytes, std::size_t size) noexcept
    {
        __builtin_memset(memory, freed, bytes);
        __builtin_memset(static_cast<unsigned char*>(memory) + bytes, beyond, size - bytes);
    }
    static void take_back_large(void* memory, std::size_t bytes, std::size_t size) noexcept
    {
        if (!filled(static_cast<unsigned char*>(memory) + bytes, beyond, size - bytes)) [[unlikely]]
            report("was written to beyond its end", memory, bytes);
        release(memory, size);
    }
    // Memory that holds no object.
    static void release(void* memory, std::size_t size) noexcept { __builtin_memset(memory, freed, size); }

    [[noreturn, gnu::cold, gnu::noinline]] static void report(const char* what, const void* object,
                                                              std::size_t bytes) noexcept
    {
        char text[160];
        char* end = text;
        const auto put = [&](const char* words) {
            while (*words)
                *end++ = *words++;
        };
        const auto put_number = [&](std::uint64_t value, unsigned base) {
            char digits[20];
            unsigned count = 0;
            do {
                digits[count++] = "0123456789abcdef"[value % base];
            } while ((value /= base) != 0);
            while (count > 0)
                *end++ = digits[--count];
        };
        put("heap: the object at 0x");
        put_number(reinterpret_cast<std::uintptr_t>(object), 16);
        put(" of ");
        put_number(bytes, 10);
        put(" bytes ");
        put(what);
        *end = '\0';
        EXO_PANIC(text);
    }

private:
    static constexpr unsigned char freed = 0xdf;
    static constexpr unsigned char beyond = 0xbe;

    // Ends a red zone: a size, and its complement.
    [[nodiscard]] static std::uint64_t mark_of(std::size_t bytes) noexcept
    {
        return (~std::uint64_t{bytes} << 32) | static_cast<std::uint32_t>(bytes);
    }
    [[nodiscard]] static bool filled(const unsigned char* at, unsigned char with, std::size_t bytes) noexcept
    {
        return bytes == 0 || (at[0] == with && __builtin_memcmp(at, at + 1, bytes - 1) == 0);
    }
};

} // namespace exo::mm
