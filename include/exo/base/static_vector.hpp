// A vector with a fixed capacity and no allocation. Appending to a full one is refused, never undefined.

#pragma once

#include <cstddef>
#include <new>
#include <utility>

#include <exo/base/check.hpp>

namespace exo {

template <class T, std::size_t Capacity>
class static_vector {
public:
    static_vector() = default;
    static_vector(const static_vector& other)
    {
        for (const T& element : other)
            emplace_back(element);
    }
    static_vector& operator=(const static_vector& other)
    {
        if (this != &other) {
            clear();
            for (const T& element : other)
                emplace_back(element);
        }
        return *this;
    }
    ~static_vector() { clear(); }

    [[nodiscard]] static constexpr std::size_t capacity() { return Capacity; }
    [[nodiscard]] std::size_t size() const { return size_; }
    [[nodiscard]] bool empty() const { return size_ == 0; }
    [[nodiscard]] bool full() const { return size_ == Capacity; }

    // False, and nothing happens, when full.
    template <class... Args>
    [[nodiscard]] bool try_emplace_back(Args&&... args)
    {
        if (full())
            return false;
        ::new (static_cast<void*>(storage_ + size_ * sizeof(T))) T(std::forward<Args>(args)...);
        ++size_;
        return true;
    }
    [[nodiscard]] bool try_push_back(const T& value) { return try_emplace_back(value); }
    // The caller knows that there is room.
    template <class... Args>
    T& emplace_back(Args&&... args)
    {
        EXO_CHECK(try_emplace_back(std::forward<Args>(args)...));
        return back();
    }
    void push_back(const T& value) { emplace_back(value); }
    void pop_back()
    {
        EXO_CHECK(size_ > 0);
        data()[--size_].~T();
    }
    void clear()
    {
        while (size_ > 0)
            pop_back();
    }

    [[nodiscard]] T* data() { return std::launder(reinterpret_cast<T*>(storage_)); }
    [[nodiscard]] const T* data() const { return std::launder(reinterpret_cast<const T*>(storage_)); }
    T& operator[](std::size_t i)
    {
        EXO_CHECK(i < size_);
        return data()[i];
    }
    const T& operator[](std::size_t i) const
    {
        EXO_CHECK(i < size_);
        return data()[i];
    }
    T& back() { return (*this)[size_ - 1]; }
    const T& back() const { return (*this)[size_ - 1]; }
    T* begin() { return data(); }
    T* end() { return data() + size_; }
    const T* begin() const { return data(); }
    const T* end() const { return data() + size_; }

private:
    alignas(T) std::byte storage_[Capacity * sizeof(T)];
    std::size_t size_{};
};

} // namespace exo
