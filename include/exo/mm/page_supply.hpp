// Where rooms that keep data in whole pages (page cache, tmpfs) get them: an interface, because one kernel hands the
// same supply to many file systems, and a test hands over one that runs dry.
//
// A page is one frame with a count of references. Whoever holds one may read it; a mapping in an address space holds
// one of its own, so a page that a cache has dropped lives on until the last mapping is gone.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include <exo/base/address.hpp>
#include <exo/base/page.hpp>
#include <exo/base/result.hpp>

namespace exo::mm {

enum class page_contents : std::uint8_t { indeterminate, zeroed };

class page;

class page_supply {
public:
    // A page that only the caller refers to. Errors: out_of_memory.
    [[nodiscard]] result<page> allocate_page(page_contents contents = page_contents::zeroed) noexcept;

    // The memory of a page that somebody refers to, and back.
    [[nodiscard]] virtual std::byte* data(frame_number f) const noexcept = 0;
    [[nodiscard]] virtual frame_number frame_of(const std::byte* data) const noexcept = 0;

    // One more reference to a page that the caller refers to already; one less.
    virtual void acquire(frame_number f) noexcept = 0;
    virtual void release(frame_number f) noexcept = 0;
    // A snapshot: 1 says that nobody else, no mapping either, refers to the page, provided that the caller keeps
    // others from asking it for a reference.
    [[nodiscard]] virtual std::uint32_t references(frame_number f) const noexcept = 0;

protected:
    ~page_supply() = default;

    // A frame with one reference. Errors: out_of_memory.
    [[nodiscard]] virtual result<frame_number> allocate(page_contents contents) noexcept = 0;
};

// One reference to a page.
class page {
public:
    page() = default;
    // Takes over a reference that the caller owns.
    [[nodiscard]] static page adopt(page_supply& supply, frame_number f) { return page{supply, supply.data(f)}; }

    page(page&& other) noexcept : supply_{other.supply_}, data_{std::exchange(other.data_, nullptr)} {}
    page& operator=(page&& other) noexcept
    {
        if (this != &other) {
            reset();
            supply_ = other.supply_;
            data_ = std::exchange(other.data_, nullptr);
        }
        return *this;
    }
    ~page() { reset(); }

    void reset() noexcept
    {
        if (auto* data = std::exchange(data_, nullptr))
            supply_->release(supply_->frame_of(data));
    }

    // Another reference, which the caller of frame() hands to a mapping, for instance.
    [[nodiscard]] page share() const
    {
        supply_->acquire(frame());
        return page{*supply_, data_};
    }
    // Gives the reference to the caller, who releases it later.
    [[nodiscard]] frame_number leak() noexcept
    {
        const auto f = frame();
        data_ = nullptr;
        return f;
    }

    [[nodiscard]] std::byte* data() const { return data_; }
    [[nodiscard]] std::span<std::byte, page_size> bytes() const
    {
        return std::span<std::byte, page_size>{data_, page_size};
    }
    [[nodiscard]] frame_number frame() const { return supply_->frame_of(data_); }
    explicit operator bool() const { return data_ != nullptr; }

private:
    page(page_supply& supply, std::byte* data) : supply_{&supply}, data_{data} {}

    page_supply* supply_{};
    std::byte* data_{};
};

inline result<page> page_supply::allocate_page(page_contents contents) noexcept
{
    return page::adopt(*this, EXO_TRY(allocate(contents)));
}

} // namespace exo::mm
