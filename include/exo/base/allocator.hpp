// Where memory for objects comes from: an interface, because one kernel passes the same heap to many rooms, and a test
// passes one that fails on demand.
//
// new_object and delete_object are what the library uses instead of operator new: they may fail, and they never throw.

#pragma once

#include <cstddef>
#include <new>
#include <span>
#include <utility>

#include <exo/base/errors.hpp>
#include <exo/base/result.hpp>

namespace exo {

class allocator {
public:
    // At least `bytes` bytes aligned to `alignment` (a power of two), or nullptr. Contents are indeterminate.
    [[nodiscard]] virtual void* allocate(std::size_t bytes, std::size_t alignment) noexcept = 0;
    // `bytes` and `alignment` are those given to allocate.
    virtual void deallocate(void* memory, std::size_t bytes, std::size_t alignment) noexcept = 0;

protected:
    ~allocator() = default;
};

// Errors: out_of_memory.
template <class T, class... Args>
[[nodiscard]] result<T*> new_object(allocator& from, Args&&... args)
{
    void* memory = from.allocate(sizeof(T), alignof(T));
    if (!memory) [[unlikely]]
        return fail(errors::out_of_memory, sizeof(T));
    return ::new (memory) T(std::forward<Args>(args)...);
}

// `object` was made by new_object<T> for exactly this T.
template <class T>
void delete_object(allocator& from, T* object) noexcept
{
    object->~T();
    from.deallocate(object, sizeof(T), alignof(T));
}

// Sole owner of an object made by new_object.
template <class T>
class owned {
public:
    owned() = default;
    owned(allocator& from, T* object) : from_{&from}, object_{object} {}
    owned(owned&& other) noexcept : from_{other.from_}, object_{std::exchange(other.object_, nullptr)} {}
    owned& operator=(owned&& other) noexcept
    {
        if (this != &other) {
            reset();
            from_ = other.from_;
            object_ = std::exchange(other.object_, nullptr);
        }
        return *this;
    }
    ~owned() { reset(); }

    void reset() noexcept
    {
        if (object_)
            delete_object(*from_, std::exchange(object_, nullptr));
    }
    [[nodiscard]] T* release() noexcept { return std::exchange(object_, nullptr); }

    [[nodiscard]] T* get() const { return object_; }
    T& operator*() const { return *object_; }
    T* operator->() const { return object_; }
    explicit operator bool() const { return object_ != nullptr; }

private:
    allocator* from_{};
    T* object_{};
};

// Errors: out_of_memory.
template <class T, class... Args>
[[nodiscard]] result<owned<T>> make_owned(allocator& from, Args&&... args)
{
    return owned<T>{from, EXO_TRY(new_object<T>(from, std::forward<Args>(args)...))};
}

// Sole owner of `size` value-initialized Ts; the length is fixed at creation.
template <class T>
class owned_array {
public:
    owned_array() = default;
    owned_array(owned_array&& other) noexcept
        : from_{other.from_}, data_{std::exchange(other.data_, nullptr)}, size_{std::exchange(other.size_, 0)}
    {
    }
    owned_array& operator=(owned_array&& other) noexcept
    {
        if (this != &other) {
            reset();
            from_ = other.from_;
            data_ = std::exchange(other.data_, nullptr);
            size_ = std::exchange(other.size_, 0);
        }
        return *this;
    }
    ~owned_array() { reset(); }

    // Errors: out_of_memory.
    [[nodiscard]] static result<owned_array> create(allocator& from, std::size_t size)
    {
        owned_array array;
        if (size == 0)
            return array;
        std::size_t bytes = 0;
        if (__builtin_mul_overflow(size, sizeof(T), &bytes))
            return fail(errors::out_of_memory, size);
        void* memory = from.allocate(bytes, alignof(T));
        if (!memory) [[unlikely]]
            return fail(errors::out_of_memory, bytes);
        array.from_ = &from;
        array.data_ = static_cast<T*>(memory);
        array.size_ = size;
        for (std::size_t i = 0; i < size; ++i)
            ::new (static_cast<void*>(array.data_ + i)) T();
        return array;
    }

    void reset() noexcept
    {
        if (!data_)
            return;
        for (std::size_t i = size_; i-- > 0;)
            data_[i].~T();
        from_->deallocate(data_, size_ * sizeof(T), alignof(T));
        data_ = nullptr;
        size_ = 0;
    }

    [[nodiscard]] std::size_t size() const { return size_; }
    [[nodiscard]] bool empty() const { return size_ == 0; }
    [[nodiscard]] T* data() const { return data_; }
    [[nodiscard]] T* begin() const { return data_; }
    [[nodiscard]] T* end() const { return data_ + size_; }
    T& operator[](std::size_t i) const { return data_[i]; }
    operator std::span<T>() const { return {data_, size_}; }

private:
    allocator* from_{};
    T* data_{};
    std::size_t size_{};
};

} // namespace exo
