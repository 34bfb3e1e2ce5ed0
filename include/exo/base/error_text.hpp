// An error as a line of text that needs no memory: "domain/name: message (subject 42); advice".

#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <exo/base/error.hpp>
#include <exo/base/number_text.hpp>

namespace exo {

// Cut where the buffer ends. The context is shown where its kind names it, as a signed number.
class error_text {
public:
    explicit constexpr error_text(error e)
    {
        const error_kind& kind = e.kind();
        append(kind.domain);
        append("/");
        append(kind.name);
        append(": ");
        append(kind.message);
        if (!kind.subject.empty()) {
            const bool negative = static_cast<std::int64_t>(e.context()) < 0;
            append(" (");
            append(kind.subject);
            append(negative ? " -" : " ");
            append(decimal{negative ? -e.context() : e.context()});
            append(")");
        }
        if (!kind.advice.empty()) {
            append("; ");
            append(kind.advice);
        }
    }
    constexpr operator std::string_view() const { return {text_, length_}; }

private:
    constexpr void append(std::string_view text)
    {
        for (const char c : text)
            if (length_ < sizeof text_)
                text_[length_++] = c;
    }

    char text_[256]{};
    std::size_t length_{};
};

} // namespace exo
