// The laws of hal/phys_access.hpp, for any model of PhysAccess.

#pragma once

#include <doctest/doctest.h>

#include <cstddef>

#include <exo/base/range.hpp>
#include <exo/hal/phys_access.hpp>

namespace laws {

// `frames` are RAM that nobody else uses.
void check_phys_access(const exo::hal::PhysAccess auto& memory, exo::frame_range frames)
{
    using namespace exo;
    for (frame_number f = frames.begin; f != frames.end; f = f + 1) {
        std::byte* page = memory.to_pointer(f.address());
        for (const std::size_t offset : {std::size_t{0}, std::size_t{1}, page_size / 2, page_size - 1}) {
            CHECK(memory.to_pointer(f.address() + offset) == page + offset);
            CHECK(memory.to_physical(page + offset) == f.address() + offset);
            page[offset] = static_cast<std::byte>(f.value() + offset);
        }
    }
    for (frame_number f = frames.begin; f != frames.end; f = f + 1)
        for (const std::size_t offset : {std::size_t{0}, std::size_t{1}, page_size / 2, page_size - 1})
            CHECK(*memory.to_pointer(f.address() + offset) == static_cast<std::byte>(f.value() + offset));
}

} // namespace laws
