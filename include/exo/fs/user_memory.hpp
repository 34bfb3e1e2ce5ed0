// The caller's memory, as control requests (ioctl) see it: the argument may be an address whose shape only the device
// knows.

#pragma once

#include <cstddef>
#include <span>
#include <type_traits>

#include <exo/base/address.hpp>
#include <exo/base/result.hpp>

namespace exo::fs {

// Whether every byte of a T belongs to a member. Unions say so themselves.
template <class T>
inline constexpr bool has_no_gaps = std::has_unique_object_representations_v<T>;

class user_memory {
public:
    // Errors: bad_address.
    [[nodiscard]] virtual result<> read(user_addr from, std::span<std::byte> into) = 0;
    [[nodiscard]] virtual result<> write(user_addr to, std::span<const std::byte> from) = 0;

    template <class T>
        requires std::is_trivially_copyable_v<T>
    [[nodiscard]] result<T> read_object(user_addr from)
    {
        T object{};
        EXO_TRY(read(from, std::as_writable_bytes(std::span{&object, 1})));
        return object;
    }
    template <class T>
        requires std::is_trivially_copyable_v<T>
    [[nodiscard]] result<> write_object(user_addr to, const T& object)
    {
        static_assert(has_no_gaps<T>, "what lies between the members would be shown too");
        return write(to, std::as_bytes(std::span{&object, 1}));
    }

protected:
    ~user_memory() = default;
};

} // namespace exo::fs
