// QEMU's firmware configuration device (QEMU docs/specs/fw_cfg): named files that the host hands to the guest. The
// device copies them to where they are wanted; byte by byte through its data port would take an exit each.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include <exo/base/endian.hpp>
#include <exo/hal/phys_access.hpp>
#include <exo/hal/register_access.hpp>

namespace exo::drivers {

// `Ports` starts at port 0x510. `Phys` finds the physical address of callers' buffers, each in one piece, and of this
// thread's stack.
template <hal::RegisterAccess Ports, hal::PhysAccess Phys>
class fw_cfg {
public:
    struct file {
        std::uint16_t selector{};
        std::uint32_t size{};
    };

    fw_cfg(Ports ports, Phys phys) : ports_{ports}, phys_{phys} {}

    // Whether the device is there, and copies: QEMU's does since version 2.5.
    [[nodiscard]] bool present() noexcept
    {
        constexpr std::uint8_t copies = 2;
        ports_.write16(selector, signature_item);
        for (const char c : std::string_view{"QEMU"})
            if (ports_.read8(data) != static_cast<std::uint8_t>(c))
                return false;
        ports_.write16(selector, features_item);
        return (ports_.read8(data) & copies) != 0;
    }

    [[nodiscard]] std::optional<file> find(std::string_view name) noexcept
    {
        constexpr std::uint32_t most_files = 1024;
        struct alignas(64) entry { // so that it does not cross a page of the stack
            be32 size;
            be16 selector;
            be16 reserved;
            char name[56];
        } e;
        be32 count;
        if (name.size() >= sizeof e.name || !copy(select | directory_item << 16, &count, sizeof count))
            return {};
        for (std::uint32_t i = 0; i < count && i < most_files && copy(0, &e, sizeof e); ++i)
            if (std::string_view{e.name, name.size()} == name && e.name[name.size()] == '\0')
                return file{e.selector, e.size};
        return {};
    }

    // The first bytes of the file, as many as fit; those. None if the device fails.
    std::span<char> read(const file& f, std::span<char> into) noexcept
    {
        const std::uint32_t size = f.size < into.size() ? f.size : static_cast<std::uint32_t>(into.size());
        return into.first(copy(select | std::uint32_t{f.selector} << 16, into.data(), size) ? size : 0);
    }

    // Has the device write all of `over`, at most 4 GiB, as it writes a file's bytes: what it writes is of no interest.
    // Whether it did.
    [[nodiscard]] bool overwrite(std::span<std::byte> over) noexcept
    {
        // Behind the end of an item zeros are read.
        return copy(select | signature_item << 16, over.data(), static_cast<std::uint32_t>(over.size()));
    }

private:
    static constexpr std::uint32_t selector = 0, data = 1, command_high = 4, command_low = 8;
    static constexpr std::uint32_t failed = 1, read_item = 2, select = 8; // of a command
    static constexpr std::uint32_t signature_item = 0x0000, features_item = 0x0001, directory_item = 0x0019;

    // From where the last copy ended, unless `control` selects an item. Whether the device did it.
    [[nodiscard]] bool copy(std::uint32_t control, void* to, std::uint32_t bytes) noexcept
    {
        constexpr unsigned patience = 1'000'000;
        struct alignas(16) {
            be32 control;
            be32 bytes;
            be64 to;
        } command{control | read_item, bytes, phys_.to_physical(to).value()};
        const std::uint64_t at = phys_.to_physical(&command).value();
        ports_.write32(command_high, __builtin_bswap32(static_cast<std::uint32_t>(at >> 32)));
        ports_.write32(command_low, __builtin_bswap32(static_cast<std::uint32_t>(at))); // the device starts
        // The device clears the command, all but the bit that says that it failed.
        const auto left = [&] { return std::atomic_ref{command.control}.load(std::memory_order_acquire).value(); };
        for (unsigned i = 0; i < patience && (left() & ~failed) != 0; ++i) {
        }
        return left() == 0;
    }

    [[no_unique_address]] Ports ports_;
    [[no_unique_address]] Phys phys_;
};

} // namespace exo::drivers
