// What a system call is given, and how a function becomes an entry of the table.
//
// A call is a function template over System, `result<T> sys_name(call<System>&, Args...)`. Its parameters are integers,
// enumerations, and user_addr; the registers are cut to their sizes as the C ABI cuts them. T is void (the program gets
// 0) or an integer.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include <exo/base/address.hpp>
#include <exo/base/result.hpp>
#include <exo/fs/errors.hpp>
#include <exo/fs/path_context.hpp>
#include <exo/fs/stream.hpp>
#include <exo/fs/user_memory.hpp>
#include <exo/linux/numbers.hpp>
#include <exo/proc/caller.hpp>
#include <exo/proc/credentials.hpp>
#include <exo/proc/process.hpp>
#include <exo/proc/thread.hpp>
#include <exo/proc/user_copy.hpp>

namespace exo::linux_abi {

template <class System>
class call final : public fs::user_memory {
public:
    using frame_type = typename System::frame;

    call(proc::thread<System>& t, frame_type& f)
        : system{t.system()}, thread{t}, process{t.process()}, frame{f}, caller_{process}
    {
    }

    System& system;
    proc::thread<System>& thread;
    proc::process<System>& process;
    // The registers of the program, which the result is going to be written to.
    frame_type& frame;

    [[nodiscard]] const proc::credentials& identity() { return caller_.identity(); }
    [[nodiscard]] const fs::path_context& paths() { return caller_.paths(); }

    // Errors: bad_address; some of the bytes may have been copied.
    [[nodiscard]] result<> read(user_addr from, std::span<std::byte> into) override
    {
        const auto copied = proc::copy_from_user(system, into.data(), from, into.size());
        if (copied != into.size())
            return fail(errors::bad_address, from.value() + copied);
        return {};
    }
    [[nodiscard]] result<> write(user_addr to, std::span<const std::byte> from) override
    {
        const auto copied = proc::copy_to_user(system, to, from.data(), from.size());
        if (copied != from.size())
            return fail(errors::bad_address, to.value() + copied);
        return {};
    }

    // A string with its terminating zero, which is not part of the view. `buffer` holds the zero too. Errors:
    // bad_address, fs::errors::name_too_long.
    [[nodiscard]] result<std::string_view> read_string(user_addr from, std::span<char> buffer)
    {
        std::size_t length = 0;
        while (length < buffer.size()) {
            // Up to the end of the page at most: what lies behind the string need not be accessible.
            const std::size_t to_page_end = page_size - ((from.value() + length) & (page_size - 1));
            const std::size_t wanted = to_page_end < 128 ? to_page_end : 128;
            const std::size_t piece = wanted < buffer.size() - length ? wanted : buffer.size() - length;
            auto* into = reinterpret_cast<std::byte*>(buffer.data() + length);
            const auto copied = proc::copy_from_user(system, into, from + length, piece);
            for (std::size_t i = 0; i < copied; ++i)
                if (buffer[length + i] == '\0')
                    return std::string_view{buffer.data(), length + i};
            if (copied < piece)
                return fail(errors::bad_address, from.value() + length + copied);
            length += piece;
        }
        return fail(fs::errors::name_too_long, length);
    }

private:
    proc::caller<System> caller_;
};

// The caller's memory as the two ends of a file transfer.
template <class System>
class user_output final : public fs::output {
public:
    user_output(call<System>& c, user_addr to, std::size_t size) : call_{c}, to_{to}, size_{size} {}

    [[nodiscard, gnu::hot]] std::size_t remaining() const noexcept override { return size_; }
    [[nodiscard, gnu::hot]] result<std::size_t> put(std::span<const std::byte> bytes) override
    {
        const auto wanted = bytes.size() < size_ ? bytes.size() : size_;
        const auto copied = proc::copy_to_user(call_.system, to_, bytes.data(), wanted);
        if (copied == 0 && wanted != 0)
            return fail(errors::bad_address, to_.value());
        to_ += copied;
        size_ -= copied;
        return copied;
    }

private:
    call<System>& call_;
    user_addr to_;
    std::size_t size_;
};

template <class System>
class user_input final : public fs::input {
public:
    user_input(call<System>& c, user_addr from, std::size_t size) : call_{c}, from_{from}, size_{size} {}

    [[nodiscard, gnu::hot]] std::size_t remaining() const noexcept override { return size_; }
    [[nodiscard, gnu::hot]] result<std::size_t> get(std::span<std::byte> bytes) override
    {
        const auto wanted = bytes.size() < size_ ? bytes.size() : size_;
        const auto copied = proc::copy_from_user(call_.system, bytes.data(), from_, wanted);
        if (copied == 0 && wanted != 0)
            return fail(errors::bad_address, from_.value());
        from_ += copied;
        size_ -= copied;
        return copied;
    }

private:
    call<System>& call_;
    user_addr from_;
    std::size_t size_;
};

using registers = std::uint64_t[6];

template <class System>
using call_handler = result<std::uint64_t> (*)(call<System>&, const registers&);

namespace detail {

template <class T>
constexpr T argument(std::uint64_t value)
{
    if constexpr (std::is_same_v<T, user_addr>)
        return user_addr{value};
    else
        return static_cast<T>(value);
}

template <class System, class R, class... Args, std::size_t... I>
result<std::uint64_t> invoke(result<R> (*function)(call<System>&, Args...), call<System>& c, const registers& r,
                             std::index_sequence<I...>)
{
    static_assert(sizeof...(Args) <= 6);
    auto outcome = function(c, argument<Args>(r[I])...);
    if (!outcome)
        return fail(outcome.error());
    if constexpr (std::is_void_v<R>)
        return 0;
    else
        return static_cast<std::uint64_t>(*outcome);
}

template <class System, class R, class... Args>
constexpr std::size_t arity(result<R> (*)(call<System>&, Args...))
{
    return sizeof...(Args);
}

} // namespace detail

template <class System>
class call_table {
public:
    // table.template set<sys_read<System>>(number::read);
    template <auto Function>
    constexpr void set(number n)
    {
        handlers_[static_cast<std::size_t>(n)] = [](call<System>& c, const registers& r) {
            return detail::invoke(Function, c, r, std::make_index_sequence<detail::arity(Function)>{});
        };
    }

    // Null for a number without a call.
    [[nodiscard]] constexpr call_handler<System> find(std::uint64_t n) const
    {
        return n < number_limit ? handlers_[n] : nullptr;
    }

private:
    call_handler<System> handlers_[number_limit]{};
};

} // namespace exo::linux_abi
