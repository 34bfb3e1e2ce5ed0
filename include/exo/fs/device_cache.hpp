// A block device's bytes in pages: where a file system reads its own structures, each of which lies within a page.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include <exo/base/page.hpp>
#include <exo/base/result.hpp>
#include <exo/fs/environment.hpp>
#include <exo/fs/page_cache.hpp>
#include <exo/hal/block_device.hpp>

namespace exo::fs {

class device_cache final : private page_source {
public:
    // The device's sectors are not larger than a page.
    device_cache(environment& env, hal::block_device& device) : device_{device}, pages_{env, *this} {}

    [[nodiscard]] hal::block_device& device() const noexcept { return device_; }
    [[nodiscard]] std::uint64_t size() const noexcept { return device_.sector_count() * device_.sector_size(); }

    // The bytes at `offset`; what lies behind the device's end reads as zero. Errors: io_error, out_of_memory.
    [[nodiscard]] result<> read(std::uint64_t offset, std::span<std::byte> into)
    {
        while (!into.empty()) {
            const auto in_page = static_cast<std::size_t>(offset % page_size);
            const auto count = into.size() < page_size - in_page ? into.size() : page_size - in_page;
            const auto p = EXO_TRY(pages_.get(offset / page_size));
            std::memcpy(into.data(), p.data() + in_page, count);
            into = into.subspan(count);
            offset += count;
        }
        return {};
    }
    template <class T>
    [[nodiscard]] result<T> read_object(std::uint64_t offset)
    {
        T object;
        EXO_TRY(read(offset, std::as_writable_bytes(std::span{&object, 1})));
        return object;
    }

private:
    [[nodiscard]] result<> read_page(std::uint64_t index, std::span<std::byte, page_size> into) override
    {
        const std::uint64_t per_page = page_size / device_.sector_size();
        const std::uint64_t first = index * per_page;
        const std::uint64_t left = first < device_.sector_count() ? device_.sector_count() - first : 0;
        const auto bytes = static_cast<std::size_t>(left < per_page ? left : per_page) * device_.sector_size();
        std::memset(into.data() + bytes, 0, page_size - bytes);
        return bytes == 0 ? result<>{} : device_.read(first, into.first(bytes));
    }

    hal::block_device& device_;
    page_cache pages_;
};

} // namespace exo::fs
