// FrameSource: physical memory by naturally aligned blocks of 2^order frames.
//
// Laws (test/laws/frame_source_laws.hpp checks every model):
//  - allocate(order) returns a block aligned to its size that overlaps no other block in use, or out_of_memory, and
//    then nothing changed. Contents are indeterminate.
//  - free(f, order) takes back exactly a block that allocate(order) returned, once.
//  - Neither sleeps.

#pragma once

#include <concepts>

#include <exo/base/address.hpp>
#include <exo/base/result.hpp>

namespace exo::hal {

template <class T>
concept FrameSource = requires(T& frames, frame_number f, unsigned order) {
    { frames.allocate(order) } noexcept -> std::same_as<result<frame_number>>;
    { frames.free(f, order) } noexcept -> std::same_as<void>;
};

} // namespace exo::hal
