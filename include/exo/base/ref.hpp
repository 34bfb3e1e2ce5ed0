// Shared ownership by a count inside the object.
//
// An object starts with one reference, which ref::adopt takes over. The last release calls the object's own
// last_reference(), which decides how it ends (back to its allocator, into a cache): so a polymorphic object needs no
// knowledge of its heap in the pointer.

#pragma once

#include <atomic>
#include <concepts>
#include <cstdint>
#include <utility>

#include <exo/base/check.hpp>

namespace exo {

class ref_counted {
public:
    ref_counted(const ref_counted&) = delete;
    ref_counted& operator=(const ref_counted&) = delete;

    [[gnu::hot]] void acquire() const noexcept
    {
        const auto before = count_.fetch_add(1, std::memory_order_relaxed);
        EXO_CHECK(before != 0);
    }
    // For a table that keeps no reference of its own: false when the object is about to end already. The table's lock
    // keeps the object from being gone, because last_reference() takes it off the table under that lock.
    [[nodiscard]] bool try_acquire() const noexcept
    {
        auto before = count_.load(std::memory_order_relaxed);
        while (before != 0)
            if (count_.compare_exchange_weak(before, before + 1, std::memory_order_relaxed))
                return true;
        return false;
    }
    [[gnu::hot]] void release() const noexcept
    {
        const auto before = count_.fetch_sub(1, std::memory_order_acq_rel);
        EXO_CHECK(before != 0);
        if (before == 1)
            const_cast<ref_counted*>(this)->last_reference();
    }
    // The same, but true says that it was the last, and leaves ending the object to the caller: for chains of objects
    // that would otherwise end each other ever deeper on the stack.
    [[nodiscard]] bool release_unended() const noexcept
    {
        const auto before = count_.fetch_sub(1, std::memory_order_acq_rel);
        EXO_CHECK(before != 0);
        return before == 1;
    }
    // A snapshot: stable only while the caller excludes others.
    [[nodiscard]] std::uint32_t reference_count() const noexcept { return count_.load(std::memory_order_relaxed); }

protected:
    ref_counted() = default;
    virtual ~ref_counted() = default;

    // Ends the object; called once, when nothing refers to it.
    virtual void last_reference() noexcept = 0;

private:
    mutable std::atomic<std::uint32_t> count_{1};
};

template <class T>
class ref {
public:
    ref() = default;
    ref(std::nullptr_t) {}
    // Another reference to `object`.
    explicit ref(T& object) : object_{&object} { object.acquire(); }
    // Takes over a reference that the caller owns.
    [[nodiscard]] static ref adopt(T* object)
    {
        ref r;
        r.object_ = object;
        return r;
    }

    ref(const ref& other) : object_{other.object_}
    {
        if (object_)
            object_->acquire();
    }
    ref(ref&& other) noexcept : object_{std::exchange(other.object_, nullptr)} {}
    template <class U>
        requires std::convertible_to<U*, T*>
    ref(ref<U> other) noexcept : object_{other.leak()}
    {
    }
    ref& operator=(ref other) noexcept
    {
        std::swap(object_, other.object_);
        return *this;
    }
    ~ref()
    {
        if (object_)
            object_->release();
    }

    void reset() noexcept { *this = ref{}; }
    // Gives the reference to the caller, who releases it later.
    [[nodiscard]] T* leak() noexcept { return std::exchange(object_, nullptr); }

    [[nodiscard]] T* get() const { return object_; }
    T& operator*() const { return *object_; }
    T* operator->() const { return object_; }
    explicit operator bool() const { return object_ != nullptr; }
    friend bool operator==(const ref& a, const ref& b) { return a.object_ == b.object_; }

private:
    T* object_{};
};

} // namespace exo
