// Memory that the host maps with large pages where it can, as a kernel maps its own: what lies spread over it does not
// miss the TLB at every step.

#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>
#include <utility>
#include <vector>

#include <sys/mman.h>

namespace exo::sim {

// Elements that are made without a value are left uninitialized where their type allows it.
template <class T>
class large_page_allocator {
public:
    using value_type = T;

    large_page_allocator() = default;
    template <class U>
    large_page_allocator(const large_page_allocator<U>&) noexcept
    {
    }

    [[nodiscard]] T* allocate(std::size_t count)
    {
        const std::size_t bytes = (count * sizeof(T) + large_page - 1) & ~(large_page - 1);
        void* const memory = std::aligned_alloc(large_page, bytes);
        if (!memory)
            throw std::bad_alloc{};
        (void)madvise(memory, bytes, MADV_HUGEPAGE); // a wish
        return static_cast<T*>(memory);
    }
    void deallocate(T* memory, std::size_t) noexcept { std::free(memory); }

    template <class U, class... Args>
    void construct(U* at, Args&&... args)
    {
        if constexpr (sizeof...(Args) == 0)
            ::new (static_cast<void*>(at)) U;
        else
            ::new (static_cast<void*>(at)) U(std::forward<Args>(args)...);
    }
    friend bool operator==(const large_page_allocator&, const large_page_allocator&) { return true; }

private:
    static constexpr std::size_t large_page = std::size_t{2} << 20;
};

template <class T>
using large_page_vector = std::vector<T, large_page_allocator<T>>;

} // namespace exo::sim
