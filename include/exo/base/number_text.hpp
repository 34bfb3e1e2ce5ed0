// Numbers as text that needs no memory: for reports where nothing else can be trusted any more.

#pragma once

#include <cstdint>
#include <string_view>

namespace exo {

// In hexadecimal with 16 digits.
class hexadecimal {
public:
    explicit constexpr hexadecimal(std::uint64_t value)
    {
        for (unsigned i = 0; i < sizeof text_; ++i)
            text_[i] = "0123456789abcdef"[value >> (60 - 4 * i) & 0xf];
    }
    constexpr operator std::string_view() const { return {text_, sizeof text_}; }

private:
    char text_[16];
};

class decimal {
public:
    explicit constexpr decimal(std::uint64_t value)
    {
        do
            text_[--begin_] = static_cast<char>('0' + value % 10);
        while ((value /= 10) != 0);
    }
    constexpr operator std::string_view() const { return {text_ + begin_, sizeof text_ - begin_}; }

private:
    char text_[20]{};
    unsigned begin_{sizeof text_};
};

} // namespace exo
