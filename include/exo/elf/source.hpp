// Where the bytes of a program file come from.
//
// Laws of a ByteSource: read_at copies bytes from `offset` on and returns how many there were: fewer than asked for
// only at the end of the file. size() is the length of the file. A source whose file lies in memory anyway also offers
// view(), all of its bytes, and then the parser copies nothing.

#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include <exo/base/result.hpp>

namespace exo::elf {

template <class T>
concept ByteSource = requires(T& source, const T& constant, std::uint64_t offset, std::span<std::byte> into) {
    { source.read_at(offset, into) } -> std::same_as<result<std::size_t>>;
    { constant.size() } -> std::convertible_to<std::uint64_t>;
};

template <class T>
concept ViewableSource = ByteSource<T> && requires(const T& source) {
    { source.view() } -> std::same_as<std::span<const std::byte>>;
};

class memory_source {
public:
    explicit memory_source(std::span<const std::byte> bytes) : bytes_{bytes} {}

    [[nodiscard]] result<std::size_t> read_at(std::uint64_t offset, std::span<std::byte> into) const
    {
        if (offset >= bytes_.size())
            return std::size_t{0};
        const auto rest = bytes_.subspan(static_cast<std::size_t>(offset));
        const std::size_t n = into.size() < rest.size() ? into.size() : rest.size();
        if (n != 0)
            std::memcpy(into.data(), rest.data(), n);
        return n;
    }
    [[nodiscard]] std::uint64_t size() const { return bytes_.size(); }
    [[nodiscard]] std::span<const std::byte> view() const { return bytes_; }

private:
    std::span<const std::byte> bytes_;
};
static_assert(ViewableSource<memory_source>);

} // namespace exo::elf
