// The page supply over a frame allocator: pages are single frames, counted in their records.

#pragma once

#include <exo/base/errors.hpp>
#include <exo/hal/phys_access.hpp>
#include <exo/mm/page_supply.hpp>

namespace exo::mm {

// Frames is a frame_allocator.
template <class Frames, hal::PhysAccess Phys>
class frame_pages final : public page_supply {
public:
    frame_pages(Frames& frames, const Phys& phys) : frames_{frames}, phys_{phys} {}

    std::byte* data(frame_number f) const noexcept override { return phys_.to_pointer(f.address()); }
    frame_number frame_of(const std::byte* data) const noexcept override
    {
        return frame_number{phys_.to_physical(data)};
    }
    void acquire(frame_number f) noexcept override { frames_.acquire(f); }
    void release(frame_number f) noexcept override { frames_.release(f); }
    std::uint32_t references(frame_number f) const noexcept override { return frames_.references(f); }

private:
    result<frame_number> allocate(page_contents contents) noexcept override
    {
        const auto f = EXO_TRY(frames_.allocate(0));
        if (contents == page_contents::zeroed)
            __builtin_memset(data(f), 0, page_size);
        return f;
    }

    Frames& frames_;
    const Phys& phys_;
};

} // namespace exo::mm
