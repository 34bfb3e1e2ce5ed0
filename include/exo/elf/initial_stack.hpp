// What a program finds on its stack when it starts (System V x86-64 psABI 3.4.1): from the stack pointer, which is
// 16-byte aligned, upward argc, the argument pointers, NULL, the environment pointers, NULL, the auxiliary vector;
// near the top the strings, argument strings first and without gaps, as /proc/PID/cmdline shows them.

#pragma once

#include <array>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>

#include <exo/base/errors.hpp>
#include <exo/base/range.hpp>
#include <exo/base/result.hpp>
#include <exo/elf/auxiliary.hpp>
#include <exo/elf/errors.hpp>

namespace exo::elf {

// Law of a StackTarget: write stores bytes at an address of the stack region, which it may have to populate.
template <class T>
concept StackTarget = requires(T& target, std::uint64_t address, std::span<const std::byte> bytes) {
    { target.write(address, bytes) } -> std::same_as<result<>>;
};

// Strings one after the other, each ended by its NUL.
struct packed_strings {
    std::span<const char> bytes{};
    std::size_t count{};
};

inline constexpr std::size_t longest_argument = 128 * 1024; // with its NUL, as Linux's MAX_ARG_STRLEN

struct stack_contents {
    packed_strings arguments{};
    packed_strings environment{};
    std::span<const aux_entry> auxiliary{};
    std::string_view executable_name{}; // AT_EXECFN
    std::string_view platform{"x86_64"};
    std::array<std::byte, 16> random{}; // AT_RANDOM
};

struct built_stack {
    std::uint64_t pointer{};
    range<std::uint64_t> arguments{}; // where the strings lie
    range<std::uint64_t> environment{};
    range<std::uint64_t> auxiliary{};
};

namespace detail {

// Writes 64-bit words upward through a buffer.
template <StackTarget Target>
class word_writer {
public:
    word_writer(Target& target, std::uint64_t at) : target_{target}, at_{at} {}

    [[nodiscard]] result<> put(std::uint64_t word)
    {
        buffer_[used_++] = word;
        return used_ == buffer_.size() ? flush() : result<>{};
    }
    [[nodiscard]] result<> flush()
    {
        const auto bytes = std::as_bytes(std::span{buffer_}.first(used_));
        used_ = 0;
        const std::uint64_t at = at_;
        at_ += bytes.size();
        return target_.write(at, bytes);
    }
    // Where the next word goes.
    [[nodiscard]] std::uint64_t position() const { return at_ + used_ * sizeof(std::uint64_t); }

private:
    Target& target_;
    std::uint64_t at_;
    std::array<std::uint64_t, 64> buffer_;
    std::size_t used_{};
};

// Pointers to `strings`, which lie from `at` on, and the NULL. Errors: arguments_too_large, the target's.
template <StackTarget Target>
[[nodiscard]] result<> put_pointers(word_writer<Target>& words, const packed_strings& strings, std::uint64_t at)
{
    std::size_t offset = 0;
    for (std::size_t i = 0; i < strings.count; ++i) {
        const auto rest = strings.bytes.subspan(offset);
        const void* nul = rest.empty() ? nullptr : std::memchr(rest.data(), 0, rest.size());
        if (!nul)
            return fail(exo::errors::invalid_argument, i);
        const auto length = static_cast<std::size_t>(static_cast<const char*>(nul) - rest.data()) + 1;
        if (length > longest_argument)
            return fail(arguments_too_large, length);
        EXO_TRY(words.put(at + offset));
        offset += length;
    }
    return words.put(0);
}

} // namespace detail

// Builds below `top`, using at most `limit` bytes. Errors: arguments_too_large; invalid_argument when a count promises
// more strings than there are; the target's. After an error the stack holds part of it: the caller drops the space.
template <StackTarget Target>
[[nodiscard]] result<built_stack> build_initial_stack(Target& target, std::uint64_t top, std::uint64_t limit,
                                                      const stack_contents& contents)
{
    const auto& arguments = contents.arguments;
    const auto& environment = contents.environment;

    // From the top: eight zero bytes, the program's name, environment, arguments; then platform and random bytes.
    const std::uint64_t strings = 8 + contents.executable_name.size() + 1 + environment.bytes.size() +
                                  arguments.bytes.size() + contents.platform.size() + 1 + contents.random.size() + 16;
    constexpr std::uint64_t own_entries = 4; // random, platform, executable name, null
    const std::uint64_t words = 1 + (arguments.count + 1) + (environment.count + 1) +
                                2 * (contents.auxiliary.size() + own_entries);
    const std::uint64_t needed = strings + words * sizeof(std::uint64_t) + 16;
    if (needed > limit || limit > top)
        return fail(arguments_too_large, needed);

    built_stack built;
    const std::uint64_t name = top - 8 - (contents.executable_name.size() + 1);
    built.environment = range<std::uint64_t>::of_size(name - environment.bytes.size(), environment.bytes.size());
    built.arguments =
        range<std::uint64_t>::of_size(built.environment.begin - arguments.bytes.size(), arguments.bytes.size());
    const std::uint64_t platform = built.arguments.begin - (contents.platform.size() + 1);
    const std::uint64_t random = (platform - contents.random.size()) & ~std::uint64_t{15};
    built.pointer = (random - words * sizeof(std::uint64_t)) & ~std::uint64_t{15};

    const auto put_string = [&target](std::uint64_t at, std::string_view text) -> result<> {
        EXO_TRY(target.write(at, std::as_bytes(std::span{text})));
        return target.write(at + text.size(), std::as_bytes(std::span{"", 1}));
    };
    EXO_TRY(put_string(name, contents.executable_name));
    EXO_TRY(target.write(built.environment.begin, std::as_bytes(environment.bytes)));
    EXO_TRY(target.write(built.arguments.begin, std::as_bytes(arguments.bytes)));
    EXO_TRY(put_string(platform, contents.platform));
    EXO_TRY(target.write(random, contents.random));

    detail::word_writer out{target, built.pointer};
    EXO_TRY(out.put(arguments.count));
    EXO_TRY(detail::put_pointers(out, arguments, built.arguments.begin));
    EXO_TRY(detail::put_pointers(out, environment, built.environment.begin));
    built.auxiliary.begin = out.position();
    const auto put_entry = [&out](aux key, std::uint64_t value) -> result<> {
        EXO_TRY(out.put(std::to_underlying(key)));
        return out.put(value);
    };
    for (const aux_entry& entry : contents.auxiliary)
        EXO_TRY(put_entry(entry.key, entry.value));
    EXO_TRY(put_entry(aux::random, random));
    EXO_TRY(put_entry(aux::executable_name, name));
    EXO_TRY(put_entry(aux::platform, platform));
    EXO_TRY(put_entry(aux::null, 0));
    built.auxiliary.end = out.position();
    EXO_TRY(out.flush());
    return built;
}

} // namespace exo::elf
