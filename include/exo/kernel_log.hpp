// The kernel log: lines with the time since boot, over a ConsoleSink. Works in every context.

#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include <exo/hal/clock.hpp>
#include <exo/hal/console_sink.hpp>

namespace exo {

// One line of text, cut where the buffer ends.
class log_line {
public:
    log_line& operator<<(std::string_view text)
    {
        for (const char c : text)
            if (length_ < sizeof(text_) - 1)
                text_[length_++] = c;
        return *this;
    }
    log_line& operator<<(std::integral auto value)
    {
        if constexpr (std::is_signed_v<decltype(value)>)
            if (value < 0)
                *this << "-";
        std::uint64_t rest = static_cast<std::uint64_t>(value);
        if constexpr (std::is_signed_v<decltype(value)>)
            rest = value < 0 ? -rest : rest;
        return number(rest, 1);
    }
    // At least `digits` of them.
    log_line& number(std::uint64_t value, unsigned digits)
    {
        char reversed[20];
        unsigned count = 0;
        do
            reversed[count++] = static_cast<char>('0' + value % 10);
        while ((value /= 10) != 0 || count < digits);
        while (count != 0)
            *this << std::string_view{&reversed[--count], 1};
        return *this;
    }

    [[nodiscard]] const char* c_str()
    {
        text_[length_] = '\0';
        return text_;
    }
    // With the terminating newline.
    [[nodiscard]] std::string_view finish()
    {
        text_[length_] = '\n';
        return {text_, length_ + 1};
    }

private:
    char text_[256];
    std::size_t length_{};
};

template <hal::ConsoleSink Sink, hal::Clock Clock>
class kernel_log {
public:
    kernel_log(Sink& sink, const Clock& clock) : sink_{sink}, clock_{clock} {}

    // log.line("mounted ", count, " disks")
    template <class... Parts>
    void line(const Parts&... parts) noexcept
    {
        const std::uint64_t us = clock_.now().nanoseconds() / 1000;
        log_line text;
        text << "[";
        text.number(us / 1'000'000, 4) << ".";
        text.number(us % 1'000'000, 6) << "] exo: ";
        (text << ... << parts);
        sink_.write(text.finish());
    }

private:
    Sink& sink_;
    const Clock& clock_;
};

} // namespace exo
