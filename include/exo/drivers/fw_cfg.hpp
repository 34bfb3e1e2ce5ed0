// QEMU's firmware configuration device (QEMU docs/specs/fw_cfg): named files that the host hands to the guest, read
// through its two ports.

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include <exo/hal/register_access.hpp>

namespace exo::drivers {

// `Ports` starts at port 0x510.
template <hal::RegisterAccess Ports>
class fw_cfg {
public:
    struct file {
        std::uint16_t selector{};
        std::uint32_t size{};
    };

    explicit fw_cfg(Ports ports) : ports_{ports} {}

    [[nodiscard]] bool present() noexcept
    {
        select(signature_item);
        for (const char c : std::string_view{"QEMU"})
            if (ports_.read8(data) != static_cast<std::uint8_t>(c))
                return false;
        return true;
    }

    [[nodiscard]] std::optional<file> find(std::string_view name) noexcept
    {
        constexpr std::uint32_t most_files = 1024;
        constexpr std::size_t name_bytes = 56;
        select(directory_item);
        const std::uint32_t count = big_endian<std::uint32_t>();
        for (std::uint32_t i = 0; i < count && i < most_files; ++i) {
            file f;
            f.size = big_endian<std::uint32_t>();
            f.selector = big_endian<std::uint16_t>();
            (void)big_endian<std::uint16_t>();
            bool same = name.size() < name_bytes;
            for (std::size_t c = 0; c < name_bytes; ++c) {
                const std::uint8_t at = ports_.read8(data);
                if (c <= name.size() && at != (c < name.size() ? static_cast<std::uint8_t>(name[c]) : 0))
                    same = false;
            }
            if (same)
                return f;
        }
        return {};
    }

    // The first bytes of the file, as many as fit; those.
    std::span<char> read(const file& f, std::span<char> into) noexcept
    {
        const std::size_t size = f.size < into.size() ? f.size : into.size();
        select(f.selector);
        for (std::size_t i = 0; i < size; ++i)
            into[i] = static_cast<char>(ports_.read8(data));
        return into.first(size);
    }

private:
    static constexpr std::uint32_t selector = 0, data = 1;
    static constexpr std::uint16_t signature_item = 0x0000, directory_item = 0x0019;

    void select(std::uint16_t item) noexcept { ports_.write16(selector, item); }
    template <class T>
    T big_endian() noexcept
    {
        T value = 0;
        for (std::size_t i = 0; i < sizeof(T); ++i)
            value = static_cast<T>(value << 8 | ports_.read8(data));
        return value;
    }

    [[no_unique_address]] Ports ports_;
};

} // namespace exo::drivers
