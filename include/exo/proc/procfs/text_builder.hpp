// Text that grows on the heap, for files whose contents are made up when they are read.

#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

#include <exo/base/allocator.hpp>
#include <exo/base/result.hpp>

namespace exo::proc {

// A number in hexadecimal with at least `width` digits.
struct hex {
    std::uint64_t value;
    unsigned width = 1;
};

// A number in decimal or a text, with blanks (or another filler) in front up to `width`.
struct right {
    std::uint64_t value;
    unsigned width;
    char filler = ' ';
};

class text_builder {
public:
    explicit text_builder(allocator& heap) : heap_{heap} {}

    // Appends strings, characters, integers, hex and right. What finds no memory is left out, and status() tells.
    template <class... Pieces>
    text_builder& put(const Pieces&... pieces)
    {
        (append(pieces), ...);
        return *this;
    }
    template <class... Pieces>
    text_builder& line(const Pieces&... pieces)
    {
        return put(pieces..., '\n');
    }
    // Blanks up to column `column` of the last line.
    void fill_to(std::size_t column)
    {
        while (size_ - line_start() < column && status())
            append(' ');
    }

    // Errors: out_of_memory.
    [[nodiscard]] result<> status() const
    {
        return complete_ ? result<>{} : fail(errors::out_of_memory, size_);
    }
    [[nodiscard]] std::string_view text() const { return {buffer_.data(), size_}; }
    void clear()
    {
        size_ = 0;
        complete_ = true;
    }

private:
    [[nodiscard]] std::size_t line_start() const
    {
        std::size_t at = size_;
        while (at > 0 && buffer_[at - 1] != '\n')
            --at;
        return at;
    }
    void append(std::string_view piece)
    {
        if (!reserve(piece.size()) || piece.empty())
            return;
        std::memcpy(buffer_.data() + size_, piece.data(), piece.size());
        size_ += piece.size();
    }
    void append(const char* piece) { append(std::string_view{piece}); }
    void append(char c) { append(std::string_view{&c, 1}); }
    void append(std::signed_integral auto value)
    {
        const auto wide = static_cast<std::int64_t>(value);
        if (wide < 0)
            append('-');
        digits(wide < 0 ? -static_cast<std::uint64_t>(wide) : static_cast<std::uint64_t>(wide), 10, 1, '0');
    }
    void append(std::unsigned_integral auto value) { digits(value, 10, 1, '0'); }
    void append(const hex& number) { digits(number.value, 16, number.width, '0'); }
    void append(const right& number) { digits(number.value, 10, number.width, number.filler); }
    void digits(std::uint64_t value, unsigned base, unsigned width, char filler)
    {
        char text[32];
        std::size_t at = sizeof(text);
        do {
            text[--at] = "0123456789abcdef"[value % base];
            value /= base;
        } while (value != 0);
        while (sizeof(text) - at < width && at > 0)
            text[--at] = filler;
        append(std::string_view{text + at, sizeof(text) - at});
    }
    [[nodiscard]] bool reserve(std::size_t more)
    {
        if (buffer_.size() - size_ >= more)
            return true;
        std::size_t size = buffer_.size() < 512 ? 512 : 2 * buffer_.size();
        while (size < size_ + more)
            size *= 2;
        auto larger = owned_array<char>::create(heap_, size);
        if (!larger) {
            complete_ = false;
            return false;
        }
        if (size_ != 0)
            std::memcpy(larger->data(), buffer_.data(), size_);
        buffer_ = std::move(*larger);
        return true;
    }

    allocator& heap_;
    owned_array<char> buffer_;
    std::size_t size_{};
    bool complete_{true};
};

} // namespace exo::proc
