// hal::Atomics whose every access is a step of the explorer's (sim/explorer.hpp). Outside of a run, and while a
// scenario is made or checked, they are plain variables.
//
// Orders mean what compilers for x86-64 make of them: sequentially consistent stores, read-modify-writes and fences are
// locked instructions, everything else is a plain access.

#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include <exo/hal/atomics.hpp>
#include <exo/sim/explorer.hpp>

namespace exo::sim {

// One variable that threads use at once, wherever it is kept.
template <class T>
    requires std::is_trivially_copyable_v<T> && (sizeof(T) <= sizeof(std::uint64_t))
class explored_access {
public:
    explored_access(T* value, explorer::location where) : value_{value}, where_{where} {}

    [[nodiscard]] T load() const noexcept
    {
        auto* e = explorer::here();
        return e ? from_bits(e->load(where_, value_, sizeof(T))) : *value_;
    }
    void store(T value, bool locked) const noexcept
    {
        if (auto* e = explorer::here())
            e->store(where_, value_, sizeof(T), to_bits(value), locked);
        else
            *value_ = value;
    }
    // change(old, value): whether to write, and what.
    template <class Change>
    T modify(Change change) const noexcept
    {
        const auto changed = [&](std::uint64_t bits) {
            T value{};
            const bool writes = change(from_bits(bits), value);
            return std::pair{writes, to_bits(value)};
        };
        if (auto* e = explorer::here())
            return from_bits(e->modify(where_, value_, sizeof(T), changed));
        const T old = *value_;
        if (const auto [writes, bits] = changed(to_bits(old)); writes)
            *value_ = from_bits(bits);
        return old;
    }
    T exchange(T value) const noexcept
    {
        return modify([&](T, T& next) {
            next = value;
            return true;
        });
    }
    bool compare_exchange(T& expected, T desired) const noexcept
    {
        const T old = modify([&](T current, T& next) {
            next = desired;
            return current == expected;
        });
        const bool done = old == expected;
        expected = old;
        return done;
    }

private:
    static std::uint64_t to_bits(T value) noexcept
    {
        std::uint64_t bits = 0;
        std::memcpy(&bits, &value, sizeof value);
        return bits;
    }
    static T from_bits(std::uint64_t bits) noexcept
    {
        T value;
        std::memcpy(&value, &bits, sizeof value);
        return value;
    }

    T* value_;
    explorer::location where_;
};

template <class T>
class explored_atomic {
public:
    explored_atomic() noexcept : explored_atomic{T{}} {}
    explored_atomic(T value) noexcept : value_{value}
    {
        if (auto* e = explorer::here())
            where_ = e->make_location();
    }
    explored_atomic(const explored_atomic&) = delete;
    explored_atomic& operator=(const explored_atomic&) = delete;
    ~explored_atomic()
    {
        if (auto* e = explorer::here())
            e->forget(where_);
    }

    [[nodiscard]] T load(std::memory_order = std::memory_order_seq_cst) const noexcept { return access().load(); }
    void store(T value, std::memory_order order = std::memory_order_seq_cst) noexcept
    {
        access().store(value, order == std::memory_order_seq_cst);
    }
    T exchange(T value, std::memory_order = std::memory_order_seq_cst) noexcept { return access().exchange(value); }
    bool compare_exchange_weak(T& expected, T desired, std::memory_order = std::memory_order_seq_cst,
                               std::memory_order = std::memory_order_seq_cst) noexcept
    {
        return access().compare_exchange(expected, desired);
    }
    bool compare_exchange_strong(T& expected, T desired, std::memory_order = std::memory_order_seq_cst,
                                 std::memory_order = std::memory_order_seq_cst) noexcept
    {
        return access().compare_exchange(expected, desired);
    }
    T fetch_add(T n, std::memory_order = std::memory_order_seq_cst) noexcept
    {
        return change([n](T old) { return static_cast<T>(old + n); });
    }
    T fetch_sub(T n, std::memory_order = std::memory_order_seq_cst) noexcept
    {
        return change([n](T old) { return static_cast<T>(old - n); });
    }
    T fetch_or(T n, std::memory_order = std::memory_order_seq_cst) noexcept
    {
        return change([n](T old) { return static_cast<T>(old | n); });
    }
    T fetch_and(T n, std::memory_order = std::memory_order_seq_cst) noexcept
    {
        return change([n](T old) { return static_cast<T>(old & n); });
    }

private:
    [[nodiscard]] explored_access<T> access() const noexcept { return {const_cast<T*>(&value_), where_}; }
    template <class F>
    T change(F next_of)
    {
        return access().modify([&](T old, T& next) {
            next = next_of(old);
            return true;
        });
    }

    T value_;
    explorer::location where_{explorer::location::none};
};

// The counterpart of std::atomic_ref, for memory that the explorer watches.
template <class T>
class explored_atomic_ref {
public:
    explicit explored_atomic_ref(T& object) noexcept
        : access_{&object, explorer::here() ? explorer::here()->location_of(&object) : explorer::location::none}
    {
    }

    [[nodiscard]] T load(std::memory_order = std::memory_order_seq_cst) const noexcept { return access_.load(); }
    void store(T value, std::memory_order order = std::memory_order_seq_cst) const noexcept
    {
        access_.store(value, order == std::memory_order_seq_cst);
    }
    T exchange(T value, std::memory_order) const noexcept { return access_.exchange(value); }
    bool compare_exchange_strong(T& expected, T desired, std::memory_order = std::memory_order_seq_cst) const noexcept
    {
        return access_.compare_exchange(expected, desired);
    }

private:
    explored_access<T> access_;
};

struct explored_atomics {
    template <class T>
    using atomic = explored_atomic<T>;

    static void fence(std::memory_order order) noexcept
    {
        if (auto* e = explorer::here(); e && order == std::memory_order_seq_cst)
            e->fence();
    }
    static void pause() noexcept
    {
        if (auto* e = explorer::here())
            e->pause();
    }
    static void back_off(unsigned) noexcept {}
};
static_assert(hal::Atomics<explored_atomics>);

} // namespace exo::sim
