// Virtio block device (virtio-v1.1, 5.2) as a hal::block_device: several requests at once, straight to and from the
// caller's memory, sleeping while the device works.
//
// A device that breaks the protocol, or leaves a request unanswered for too long, is stopped for good: so it cannot
// write into memory that has meanwhile become somebody else's. From then on every request is an io_error.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include <exo/base/allocator.hpp>
#include <exo/base/errors.hpp>
#include <exo/base/page.hpp>
#include <exo/base/time.hpp>
#include <exo/drivers/virtio.hpp>
#include <exo/hal/block_device.hpp>
#include <exo/hal/phys_access.hpp>
#include <exo/mm/page_supply.hpp>
#include <exo/sync/any_parker.hpp>
#include <exo/sync/spin_lock.hpp>
#include <exo/sync/wait_queue.hpp>

namespace exo::drivers {

template <hal::RegisterAccess Registers, hal::PhysAccess Phys>
class virtio_blk final : public hal::block_device {
public:
    static constexpr std::size_t sector_bytes = 512;

    // What an open device needs around itself; all of it outlives the device.
    struct environment {
        allocator& heap;
        mm::page_supply& pages;
        Phys& phys; // finds the physical address of callers' buffers
        sync::any_parker& parker;
        duration timeout = seconds(30);
    };

    // The device behind `registers` starts to work; its queue raises MSI-X vector `msix_vector`, whose handler calls
    // on_interrupt(). Errors: out_of_memory, virtio::not_agreed.
    [[nodiscard]] static result<owned<virtio_blk>> create(const environment& around,
                                                          virtio::transport<Registers> registers,
                                                          std::uint16_t msix_vector)
    {
        auto page = EXO_TRY(around.pages.allocate_page(mm::page_contents::zeroed));
        auto device = EXO_TRY(make_owned<virtio_blk>(around.heap, around, registers, std::move(page)));
        EXO_TRY(device->start(msix_vector));
        return device;
    }

    // Use create.
    virtio_blk(const environment& around, virtio::transport<Registers> registers, mm::page page)
        : around_{around}, registers_{registers}, page_{std::move(page)}, queue_{page_.data()}
    {
    }
    // No call of on_interrupt() is under way or comes later, and no request.
    ~virtio_blk() { registers_.stop(); }

    std::size_t sector_size() const noexcept override { return sector_bytes; }
    std::uint64_t sector_count() const noexcept override { return sectors_; }
    bool read_only() const noexcept override { return (features_ & feature_read_only) != 0; }

    result<> read(std::uint64_t sector, std::span<std::byte> into) override
    {
        EXO_TRY(check(sector, into.size()));
        return transfer(request_type::in, sector, into.data(), into.size());
    }
    result<> write(std::uint64_t sector, std::span<const std::byte> from) override
    {
        EXO_TRY(check(sector, from.size()));
        if (read_only())
            return fail(errors::not_permitted, sector);
        return transfer(request_type::out, sector, const_cast<std::byte*>(from.data()), from.size());
    }
    result<> flush() override
    {
        if (!(features_ & feature_flush))
            return {};
        return transfer(request_type::flush, 0, nullptr, 0);
    }

    // From the handler of the device's interrupt.
    void on_interrupt() noexcept
    {
        auto guard = lock_.lock(around_.parker);
        while (!stopped_.load(std::memory_order_relaxed)) {
            const auto finished = queue_.take();
            if (!finished) {
                stop();
                return;
            }
            if (!*finished)
                return;
            const std::uint32_t head = (*finished)->head;
            slot& s = slots_[head / slot_descriptors];
            if (head % slot_descriptors != 0 || s.state.load(std::memory_order_relaxed) != slot_state::offered) {
                stop();
                return;
            }
            s.state.store(slot_state::finished, std::memory_order_release);
            s.waiter.wake_all(around_.parker);
        }
    }

private:
    // A request is a chain: header, pieces of the caller's memory, status. Each slot owns the descriptors for one.
    static constexpr std::uint16_t slot_descriptors = 16;
    static constexpr std::uint16_t slot_count = 8;
    static constexpr std::uint16_t descriptors = slot_descriptors * slot_count;
    static constexpr std::size_t most_pieces = slot_descriptors - 2;

    static constexpr std::uint64_t feature_size_max = 1u << 1, feature_segments_max = 1u << 2,
                                   feature_read_only = 1u << 5, feature_flush = 1u << 9;
    static constexpr std::uint32_t capacity_at = 0, size_max_at = 8, segments_max_at = 12;

    enum class request_type : std::uint32_t { in = 0, out = 1, flush = 4 };
    enum class slot_state : std::uint8_t { free, claimed, offered, finished };
    struct request_header {
        request_type type;
        std::uint32_t reserved;
        std::uint64_t sector;
    };
    struct slot {
        std::atomic<slot_state> state{slot_state::free};
        sync::wait_queue waiter;
    };

    using queue = virtio::split_queue<descriptors>;
    static constexpr std::size_t headers_at = (queue::bytes + 15) & ~std::size_t{15};
    static constexpr std::size_t statuses_at = headers_at + slot_count * sizeof(request_header);
    static_assert(statuses_at + slot_count <= page_size);

    result<> start(std::uint16_t msix_vector)
    {
        features_ = EXO_TRY(registers_.negotiate(virtio::feature_version_1, feature_size_max | feature_segments_max |
                                                                                feature_read_only | feature_flush));
        sectors_ = registers_.device_field64(capacity_at);
        if (features_ & feature_size_max)
            piece_bytes_ = registers_.device().read32(size_max_at);
        if (features_ & feature_segments_max)
            pieces_ = registers_.device().read32(segments_max_at);
        if (pieces_ > most_pieces || pieces_ == 0)
            pieces_ = most_pieces;
        // A sector may lie across the end of a page.
        if (pieces_ < 2 || piece_bytes_ < sector_bytes || registers_.queue_size(0) < descriptors)
            return fail(virtio::not_agreed, registers_.queue_size(0));
        const std::uint64_t at = page_.frame().address().value();
        EXO_TRY(
            registers_.enable_queue(0, descriptors, at, at + queue::available_at, at + queue::used_at, msix_vector));
        registers_.start();
        stopped_.store(false, std::memory_order_release);
        return {};
    }

    [[nodiscard]] result<> check(std::uint64_t sector, std::size_t bytes) const
    {
        if (bytes % sector_bytes != 0 || sector > sectors_ || bytes / sector_bytes > sectors_ - sector)
            return fail(errors::invalid_argument, sector);
        return {};
    }

    // In as many requests as it takes.
    result<> transfer(request_type type, std::uint64_t sector, std::byte* memory, std::size_t bytes)
    {
        do {
            if (type != request_type::flush && bytes == 0)
                return {};
            const std::uint16_t index = claim();
            const std::size_t part = describe(index, type, sector, memory, bytes);
            const auto done = run(index);
            give_back(index);
            if (!done)
                return fail(errors::io_error, sector);
            sector += part / sector_bytes;
            memory += part;
            bytes -= part;
        } while (bytes > 0);
        return {};
    }

    std::uint16_t claim()
    {
        std::uint16_t index = 0;
        free_slots_.wait(around_.parker, [&] {
            for (std::uint16_t i = 0; i < slot_count; ++i) {
                auto expected = slot_state::free;
                if (slots_[i].state.compare_exchange_strong(expected, slot_state::claimed, std::memory_order_acquire)) {
                    index = i;
                    return true;
                }
            }
            return false;
        });
        return index;
    }
    void give_back(std::uint16_t index)
    {
        slots_[index].state.store(slot_state::free, std::memory_order_release);
        free_slots_.wake_all(around_.parker); // one woken could be one that has just found another slot
    }

    // Fills the slot's chain with as much of the memory as it has room for; how many bytes that is, whole sectors.
    std::size_t describe(std::uint16_t index, request_type type, std::uint64_t sector, std::byte* memory,
                         std::size_t bytes)
    {
        const auto first = static_cast<std::uint16_t>(index * slot_descriptors);
        const std::uint64_t page = page_.frame().address().value();
        *header_of(index) = {type, 0, sector};
        status_of(index).store(status_pending, std::memory_order_relaxed);
        queue_[first] = {page + headers_at + index * sizeof(request_header), sizeof(request_header),
                         virtio::descriptor_next, static_cast<std::uint16_t>(first + 1)};

        const std::uint16_t direction = type == request_type::in ? virtio::descriptor_device_writes : 0;
        std::size_t done = 0;
        std::uint16_t pieces = 0;
        while (done < bytes) {
            // Up to the end of the page; what is contiguous with the piece before joins it.
            const std::byte* at = memory + done;
            const std::size_t to_page_end = page_size - reinterpret_cast<std::uintptr_t>(at) % page_size;
            std::size_t length = bytes - done < to_page_end ? bytes - done : to_page_end;
            length = length < piece_bytes_ ? length : piece_bytes_;
            const std::uint64_t physical = around_.phys.to_physical(at).value();
            if (pieces > 0) {
                virtio::descriptor& last = queue_[static_cast<std::uint16_t>(first + pieces)];
                if (last.address + last.length == physical && last.length + length <= piece_bytes_) {
                    last.length += static_cast<std::uint32_t>(length);
                    done += length;
                    continue;
                }
            }
            if (pieces == pieces_)
                break;
            ++pieces;
            queue_[static_cast<std::uint16_t>(first + pieces)] = {
                physical, static_cast<std::uint32_t>(length),
                static_cast<std::uint16_t>(virtio::descriptor_next | direction),
                static_cast<std::uint16_t>(first + pieces + 1)};
            done += length;
        }
        // A request is whole sectors: what does not fill one goes to the next request.
        for (std::size_t excess = done % sector_bytes; excess > 0;) {
            virtio::descriptor& last = queue_[static_cast<std::uint16_t>(first + pieces)];
            const auto cut = static_cast<std::uint32_t>(excess < last.length ? excess : last.length);
            last.length -= cut;
            excess -= cut;
            done -= cut;
            if (last.length == 0)
                --pieces;
        }
        const auto last = static_cast<std::uint16_t>(first + pieces + 1);
        queue_[static_cast<std::uint16_t>(last - 1)].next = last;
        queue_[last] = {page + statuses_at + index, 1, virtio::descriptor_device_writes, 0};
        return done;
    }

    // Gives the slot's chain to the device and waits for it. Errors: io_error.
    result<> run(std::uint16_t index)
    {
        slot& s = slots_[index];
        {
            auto guard = lock_.lock(around_.parker);
            if (stopped_.load(std::memory_order_relaxed))
                return fail(errors::io_error);
            s.state.store(slot_state::offered, std::memory_order_relaxed);
            queue_.offer(static_cast<std::uint16_t>(index * slot_descriptors));
            if (queue_.wants_notification())
                registers_.notify(0);
        }
        const auto answered = [&] {
            return s.state.load(std::memory_order_acquire) == slot_state::finished ||
                   stopped_.load(std::memory_order_acquire);
        };
        if (!s.waiter.wait_until(around_.parker, answered, around_.parker.now() + around_.timeout)) {
            auto guard = lock_.lock(around_.parker);
            stop();
        }
        if (s.state.load(std::memory_order_acquire) != slot_state::finished ||
            status_of(index).load(std::memory_order_relaxed) != status_ok)
            return fail(errors::io_error);
        return {};
    }

    // The lock is held.
    void stop()
    {
        registers_.stop();
        stopped_.store(true, std::memory_order_release);
        for (slot& s : slots_)
            s.waiter.wake_all(around_.parker);
    }

    static constexpr std::uint8_t status_ok = 0, status_pending = 0xff;

    [[nodiscard]] request_header* header_of(std::uint16_t index)
    {
        return reinterpret_cast<request_header*>(page_.data() + headers_at) + index;
    }
    [[nodiscard]] std::atomic_ref<std::uint8_t> status_of(std::uint16_t index)
    {
        return std::atomic_ref{reinterpret_cast<std::uint8_t*>(page_.data() + statuses_at)[index]};
    }

    environment around_;
    virtio::transport<Registers> registers_;
    mm::page page_; // the queue, headers and statuses
    std::uint64_t features_{};
    std::uint64_t sectors_{};
    std::size_t pieces_{most_pieces};
    std::size_t piece_bytes_{1u << 20};

    sync::spin_lock<sync::lock_rank::device, sync::any_parker> lock_;
    queue queue_;
    std::atomic<bool> stopped_{true};
    slot slots_[slot_count];
    sync::wait_queue free_slots_;
};

} // namespace exo::drivers
