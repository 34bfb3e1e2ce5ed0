// Where the bytes of a read go and those of a write come from: user memory, kernel memory, another file.
//
// Files hand over their data in pieces, straight from where it lies, so that it is copied once. A stream may sleep and
// may fault in user memory: no lock that a page fault could want is held across put or get.

#pragma once

#include <cstddef>
#include <cstring>
#include <span>

#include <exo/base/page.hpp>
#include <exo/base/result.hpp>

namespace exo::fs {

class output {
public:
    // How many bytes are still wanted.
    [[nodiscard]] virtual std::size_t remaining() const noexcept = 0;
    // Takes bytes from the front of `bytes`, and returns how many. Fewer than min(bytes.size(), remaining()) says that
    // it can take no more. Errors: the destination's own (bad_address), and then it took nothing.
    [[nodiscard]] virtual result<std::size_t> put(std::span<const std::byte> bytes) = 0;

protected:
    ~output() = default;
};

class input {
public:
    // How many bytes are still on offer.
    [[nodiscard]] virtual std::size_t remaining() const noexcept = 0;
    // Fills the front of `bytes`, and returns how much. Fewer than min(bytes.size(), remaining()) says that it can give
    // no more. Errors: the source's own (bad_address), and then it gave nothing.
    [[nodiscard]] virtual result<std::size_t> get(std::span<std::byte> bytes) = 0;

protected:
    ~input() = default;
};

class memory_output final : public output {
public:
    explicit memory_output(std::span<std::byte> into) : into_{into} {}

    [[nodiscard]] std::size_t remaining() const noexcept override { return into_.size(); }
    [[nodiscard]] result<std::size_t> put(std::span<const std::byte> bytes) override
    {
        const auto count = bytes.size() < into_.size() ? bytes.size() : into_.size();
        if (count != 0)
            std::memcpy(into_.data(), bytes.data(), count);
        into_ = into_.subspan(count);
        return count;
    }

private:
    std::span<std::byte> into_;
};

class memory_input final : public input {
public:
    explicit memory_input(std::span<const std::byte> from) : from_{from} {}

    [[nodiscard]] std::size_t remaining() const noexcept override { return from_.size(); }
    [[nodiscard]] result<std::size_t> get(std::span<std::byte> bytes) override
    {
        const auto count = bytes.size() < from_.size() ? bytes.size() : from_.size();
        if (count != 0)
            std::memcpy(bytes.data(), from_.data(), count);
        from_ = from_.subspan(count);
        return count;
    }

private:
    std::span<const std::byte> from_;
};

// What holes and /dev/zero read as.
inline constexpr std::byte zero_page[page_size]{};

} // namespace exo::fs
