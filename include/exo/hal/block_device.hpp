// BlockDevice: numbered sectors that survive. An interface rather than a concept, because one kernel mounts many kinds.
//
// Laws (test/laws/block_device_laws.hpp checks every model):
//  - The device has sector_count() sectors of sector_size() bytes (a power of two, at least 512).
//  - read fills `into` with the sectors from `sector` on; write stores `from` there. Lengths are whole sectors. A read
//    after a completed write of the same sectors returns what was written.
//  - A request that touches a sector at or beyond sector_count(), or whose length is not whole sectors, is
//    invalid_argument; a write to a read-only device not_permitted; a transfer that the device fails io_error with the
//    first sector as context. Nothing is half reported: after an error the contents of `into` are indeterminate.
//  - flush returns once every completed write would survive a loss of power.
//  - Calls may sleep; several threads may call at once.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <exo/base/result.hpp>

namespace exo::hal {

class block_device {
public:
    [[nodiscard]] virtual std::size_t sector_size() const noexcept = 0;
    [[nodiscard]] virtual std::uint64_t sector_count() const noexcept = 0;
    [[nodiscard]] virtual bool read_only() const noexcept = 0;
    [[nodiscard]] virtual result<> read(std::uint64_t sector, std::span<std::byte> into) = 0;
    [[nodiscard]] virtual result<> write(std::uint64_t sector, std::span<const std::byte> from) = 0;
    [[nodiscard]] virtual result<> flush() = 0;

protected:
    ~block_device() = default;
};

} // namespace exo::hal
