// A disk in memory that fails on demand, and counts what it is asked.
//
// It checks every request as hal::block_device's laws say. fail_request(n) makes the n-th request from now on fail with
// io_error, fail_sector(s) every one that touches sector s.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include <exo/base/errors.hpp>
#include <exo/base/result.hpp>
#include <exo/hal/block_device.hpp>

namespace exo::sim {

class ram_disk final : public hal::block_device {
public:
    explicit ram_disk(std::uint64_t sectors, std::size_t sector_size = 512)
        : sector_size_{sector_size}, contents_(sectors * sector_size)
    {
    }
    // An image; what it lacks in whole sectors is zero.
    explicit ram_disk(std::vector<std::byte> image, std::size_t sector_size = 512, bool read_only = false)
        : sector_size_{sector_size}, read_only_{read_only}, contents_{std::move(image)}
    {
        contents_.resize((contents_.size() + sector_size - 1) / sector_size * sector_size);
    }

    [[nodiscard]] std::size_t sector_size() const noexcept override { return sector_size_; }
    [[nodiscard]] std::uint64_t sector_count() const noexcept override { return contents_.size() / sector_size_; }
    [[nodiscard]] bool read_only() const noexcept override { return read_only_; }

    [[nodiscard]] result<> read(std::uint64_t sector, std::span<std::byte> into) override
    {
        const std::lock_guard guard{mutex_};
        if (auto allowed = begin(sector, into.size()); !allowed) {
            std::ranges::fill(into, std::byte{0xDB}); // whoever uses it anyway is seen
            return allowed;
        }
        ++reads_;
        std::ranges::copy(std::span{contents_}.subspan(sector * sector_size_, into.size()), into.begin());
        return {};
    }
    [[nodiscard]] result<> write(std::uint64_t sector, std::span<const std::byte> from) override
    {
        const std::lock_guard guard{mutex_};
        if (read_only_)
            return fail(errors::not_permitted, sector);
        if (auto allowed = begin(sector, from.size()); !allowed)
            return allowed;
        ++writes_;
        std::ranges::copy(from, contents_.begin() + static_cast<std::ptrdiff_t>(sector * sector_size_));
        return {};
    }
    [[nodiscard]] result<> flush() override
    {
        const std::lock_guard guard{mutex_};
        if (count_request())
            return fail(errors::io_error);
        ++flushes_;
        return {};
    }

    // 1: the next one. 0: none.
    void fail_request(std::uint64_t n)
    {
        const std::lock_guard guard{mutex_};
        failing_request_ = n == 0 ? 0 : requests_ + n;
    }
    void fail_sector(std::uint64_t sector) { failing_sectors_.insert(sector); }
    void heal()
    {
        const std::lock_guard guard{mutex_};
        failing_request_ = 0;
        failing_sectors_.clear();
    }

    // Well-formed requests, those that failed included.
    [[nodiscard]] std::uint64_t requests() const { return requests_; }
    [[nodiscard]] std::uint64_t reads() const { return reads_; }
    [[nodiscard]] std::uint64_t writes() const { return writes_; }
    [[nodiscard]] std::uint64_t flushes() const { return flushes_; }
    // The disk itself, for tests that damage it.
    [[nodiscard]] std::span<std::byte> contents() { return contents_; }

private:
    bool count_request() { return ++requests_ == failing_request_; }

    result<> begin(std::uint64_t sector, std::size_t bytes)
    {
        const auto count = bytes / sector_size_;
        if (bytes % sector_size_ != 0 || sector > sector_count() || count > sector_count() - sector)
            return fail(errors::invalid_argument, sector);
        const bool fails = count_request();
        const auto bad = failing_sectors_.lower_bound(sector);
        if (fails || (bad != failing_sectors_.end() && *bad < sector + count))
            return fail(errors::io_error, sector);
        return {};
    }

    const std::size_t sector_size_;
    const bool read_only_{};
    std::vector<std::byte> contents_;
    std::mutex mutex_;
    std::uint64_t requests_{};
    std::uint64_t reads_{};
    std::uint64_t writes_{};
    std::uint64_t flushes_{};
    std::uint64_t failing_request_{};
    std::set<std::uint64_t> failing_sectors_;
};

} // namespace exo::sim
