// Strings packed one after the other, each with its terminating zero: arguments and environment on their way from one
// program to the next.

#pragma once

#include <cstddef>
#include <cstring>
#include <span>
#include <string_view>

#include <exo/base/allocator.hpp>
#include <exo/base/result.hpp>

namespace exo::proc {

class string_list {
public:
    explicit string_list(allocator& heap) : heap_{&heap} {}

    // Errors: out_of_memory, and then the list is as it was.
    [[nodiscard]] result<> append(std::string_view text)
    {
        EXO_TRY(reserve(text.size() + 1));
        if (!text.empty())
            std::memcpy(bytes_.data() + used_, text.data(), text.size());
        bytes_[used_ + text.size()] = '\0';
        used_ += text.size() + 1;
        ++count_;
        return {};
    }
    // All of `other` but its first `skipped` strings.
    [[nodiscard]] result<> append(const string_list& other, std::size_t skipped = 0)
    {
        std::size_t from = 0;
        for (std::size_t i = 0; i < skipped && from < other.used_; ++i)
            from += std::strlen(other.bytes_.data() + from) + 1;
        EXO_TRY(reserve(other.used_ - from));
        if (other.used_ != from)
            std::memcpy(bytes_.data() + used_, other.bytes_.data() + from, other.used_ - from);
        used_ += other.used_ - from;
        count_ += other.count_ > skipped ? other.count_ - skipped : 0;
        return {};
    }

    // Room for `bytes` more behind what is there, to be filled in and taken with commit. Errors: out_of_memory.
    [[nodiscard]] result<std::span<char>> room(std::size_t bytes)
    {
        EXO_TRY(reserve(bytes));
        return std::span<char>{bytes_.data() + used_, bytes};
    }
    // The first `bytes` of it are part of a string, which ends there if `complete`.
    void commit(std::size_t bytes, bool complete)
    {
        used_ += bytes;
        count_ += complete;
    }

    [[nodiscard]] std::size_t count() const { return count_; }
    [[nodiscard]] std::span<const char> bytes() const { return {bytes_.data(), used_}; }

private:
    result<> reserve(std::size_t more)
    {
        if (bytes_.size() - used_ >= more)
            return {};
        std::size_t size = bytes_.size() < 256 ? 256 : bytes_.size() * 2;
        while (size - used_ < more)
            size *= 2;
        auto larger = EXO_TRY(owned_array<char>::create(*heap_, size));
        if (used_ != 0)
            std::memcpy(larger.data(), bytes_.data(), used_);
        bytes_ = std::move(larger);
        return {};
    }

    allocator* heap_;
    owned_array<char> bytes_;
    std::size_t used_{};
    std::size_t count_{};
};

} // namespace exo::proc
