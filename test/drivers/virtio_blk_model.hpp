// A virtio block device on a simulated PCI bus, as the specification describes it: it walks the descriptors that the
// driver laid out, in a thread of its own, checks them, and can be told to misbehave.

#pragma once

#include <atomic>
#include <bit>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <exo/base/address.hpp>
#include <exo/base/range.hpp>
#include <exo/base/result.hpp>
#include <exo/drivers/pci.hpp>
#include <exo/drivers/virtio.hpp>
#include <exo/hal/phys_access.hpp>
#include <exo/hal/register_access.hpp>
#include <exo/mm/page_supply.hpp>

namespace exo::test {

// Physical memory in which no two neighbouring pages are neighbours. A page gets its physical address when asked for.
class scattered_memory {
public:
    [[nodiscard]] phys_addr to_physical(const void* p) const noexcept
    {
        const std::lock_guard guard{mutex_};
        const auto at = reinterpret_cast<std::uintptr_t>(p);
        auto [entry, fresh] = frame_of_.try_emplace(at / page_size, 0);
        if (fresh) {
            entry->second = 1000 + 2 * frame_of_.size();
            page_of_[entry->second] = at / page_size;
        }
        return phys_addr{entry->second * page_size + at % page_size};
    }
    [[nodiscard]] std::byte* to_pointer(phys_addr a) const noexcept
    {
        const std::lock_guard guard{mutex_};
        const auto found = page_of_.find(a.value() / page_size);
        if (found == page_of_.end())
            return nullptr;
        return reinterpret_cast<std::byte*>(found->second * page_size + a.value() % page_size);
    }

private:
    mutable std::mutex mutex_;
    mutable std::map<std::uint64_t, std::uint64_t> frame_of_, page_of_;
};
static_assert(hal::PhysAccess<scattered_memory>);

class test_pages final : public mm::page_supply {
public:
    explicit test_pages(scattered_memory& memory) : memory_{memory} {}
    ~test_pages() { CHECK(live == 0); }

    std::byte* data(frame_number f) const noexcept override { return memory_.to_pointer(f.address()); }
    frame_number frame_of(const std::byte* data) const noexcept override
    {
        return frame_number{memory_.to_physical(data)};
    }
    void acquire(frame_number) noexcept override {}
    void release(frame_number f) noexcept override
    {
        --live;
        ::operator delete(data(f), std::align_val_t{page_size});
    }
    std::uint32_t references(frame_number) const noexcept override { return 1; }

    bool exhausted{};
    int live{};

private:
    result<frame_number> allocate(mm::page_contents) noexcept override
    {
        if (exhausted)
            return fail(errors::out_of_memory, page_size);
        ++live;
        void* page = ::operator new(page_size, std::align_val_t{page_size});
        std::memset(page, 0, page_size);
        return frame_of(static_cast<std::byte*>(page));
    }

    scattered_memory& memory_;
};

enum class misbehaviour {
    none,
    silent,               // answers nothing
    fails,                // status: I/O error
    unsupported,          // status: unsupported
    claims_too_much,      // a used index far ahead
    unknown_descriptor,   // a used element beyond the queue
    inside_of_chain,      // a used element that is not the head of a chain
    answers_twice,
    idle_slot, // the head of a chain that was not offered
};

struct virtio_blk_options {
    std::uint64_t features = drivers::virtio::feature_version_1 | 1u << 9 | 1u << 28; // flush, and one unknown
    std::uint16_t queue_size = 256;
    std::uint32_t size_max = 0;     // 0: not offered
    std::uint32_t segments_max = 0; // 0: not offered
    bool accepts_features = true;
    bool accepts_vector = true;
    bool modern = true;
    std::uint16_t notify_offset = 1;
};

class virtio_blk_model {
public:
    static constexpr std::uint64_t registers_base = 0xfe00'0000, table_base = 0xfd00'0000;
    static constexpr std::uint32_t notify_multiplier = 4;

    using options = virtio_blk_options;
    static constexpr std::uint64_t feature_read_only = 1u << 5, feature_flush = 1u << 9;
    static constexpr std::uint64_t usual_features = options{}.features;

    virtio_blk_model(const scattered_memory& memory, std::size_t sectors, options how = {})
        : memory_{memory}, how_{how}, contents(sectors * 512)
    {
        if (how_.size_max != 0)
            how_.features |= 1u << 1;
        if (how_.segments_max != 0)
            how_.features |= 1u << 2;
        fill_configuration();
        worker_ = std::thread{[this] { work(); }};
    }
    ~virtio_blk_model()
    {
        {
            const std::lock_guard guard{mutex_};
            ending_ = true;
        }
        wake_.notify_one();
        worker_.join();
    }

    // One access of `bytes` bytes to the function's configuration.
    std::uint32_t read_configuration(std::uint32_t offset, unsigned bytes)
    {
        REQUIRE(offset + bytes <= configuration_.size());
        std::uint32_t value = 0;
        std::memcpy(&value, configuration_.data() + offset, bytes);
        return value;
    }
    void write_configuration(std::uint32_t offset, unsigned bytes, std::uint32_t value)
    {
        REQUIRE(offset + bytes <= configuration_.size());
        if (offset >= 0x10 && offset < 0x28) {
            CHECK((read_configuration(4, 2) & 2) == 0); // moved only while it does not decode
            const std::uint32_t masks[] = {0, 0xffff'f000, 0, 0, 0xffff'c000, 0xffff'ffff};
            const std::uint32_t mask = masks[(offset - 0x10) / 4];
            value = (value & mask) | (read_configuration(offset, 4) & ~mask & 0xf);
        }
        if (offset == 4)
            decoding_turns += ((value ^ read_configuration(4, 2)) & 2) != 0;
        std::memcpy(configuration_.data() + offset, &value, bytes);
    }

    std::uint64_t read_memory(std::uint64_t address, unsigned bytes);
    void write_memory(std::uint64_t address, unsigned bytes, std::uint32_t value);

    // Called in the device's thread, for each interrupt that the MSI-X table lets through. The handler before is called
    // no more, and has returned.
    void on_interrupt(std::function<void()> handler)
    {
        std::unique_lock guard{mutex_};
        handler_ = std::move(handler);
        handled_.wait(guard, [&] { return !handling_; });
    }

    std::atomic<misbehaviour> next{misbehaviour::none}; // for the requests from now on
    std::atomic<unsigned> requests{}, flushes{}, pieces{}, largest_batch{};
    std::atomic<std::uint8_t> status{};
    unsigned decoding_turns{}; // how often the function began or ceased to decode its memory windows

private:
    using queue_entry = drivers::virtio::descriptor;

    void fill_configuration();
    void work();
    void serve();
    void answer(std::uint16_t head);
    std::uint8_t perform(std::uint16_t head, std::uint32_t& written, std::byte*& status_byte);
    template <class T>
    T* at(std::uint64_t physical)
    {
        std::byte* p = memory_.to_pointer(phys_addr{physical});
        REQUIRE(p != nullptr);
        return reinterpret_cast<T*>(p);
    }
    void complete(std::uint32_t head, std::uint32_t written);

    const scattered_memory& memory_;
    options how_;
    std::vector<std::byte> configuration_ = std::vector<std::byte>(256);
    std::uint32_t table_[4]{0, 0, 0, 1};

    std::uint32_t feature_word_{}, driver_word_{};
    std::uint64_t driver_features_{};
    std::uint16_t vector_ = 0xffff, size_{}, enabled_{};
    std::uint64_t rings_[3]{}; // descriptors, available, used
    std::uint16_t seen_{}, used_{};

    std::mutex mutex_;
    std::condition_variable wake_, handled_;
    bool rung_{}, ending_{}, handling_{};
    std::function<void()> handler_;
    std::thread worker_;

public:
    std::vector<std::byte> contents;
};

inline void virtio_blk_model::fill_configuration()
{
    const auto put = [&](std::uint32_t offset, unsigned bytes, std::uint32_t value) {
        std::memcpy(configuration_.data() + offset, &value, bytes);
    };
    put(0x00, 2, drivers::virtio::pci_vendor);
    put(0x02, 2, drivers::virtio::pci_modern_device + drivers::virtio::block_type);
    put(0x06, 2, 0x10);
    put(0x14, 4, table_base);
    put(0x20, 4, static_cast<std::uint32_t>(registers_base) | 4); // 64 bits wide
    put(0x34, 1, 0x40);
    // MSI-X with one vector, then the virtio windows: common, notify, ISR, device.
    put(0x40, 4, 0x11 | 0x50 << 8);
    put(0x44, 4, 1);
    const struct {
        std::uint8_t at, next, type;
        std::uint32_t offset, length;
    } windows[] = {{0x50, 0x64, 1, 0x0000, 0x1000}, {0x64, 0x78, 2, 0x3000, 0x1000}, {0x78, 0x88, 3, 0x1000, 0x1000},
                   {0x88, 0, 4, 0x2000, 0x1000}};
    for (const auto& w : windows) {
        put(w.at, 4, static_cast<std::uint32_t>(0x09 | w.next << 8 | 20 << 16 | (how_.modern ? w.type : 9) << 24));
        put(w.at + 4u, 4, 4);
        put(w.at + 8u, 4, w.offset);
        put(w.at + 12u, 4, w.length);
        if (w.type == 2)
            put(w.at + 16u, 4, notify_multiplier);
    }
}

inline std::uint64_t virtio_blk_model::read_memory(std::uint64_t address, unsigned bytes)
{
    const std::lock_guard guard{mutex_};
    if (address >= table_base && address < table_base + sizeof table_)
        return table_[(address - table_base) / 4];
    REQUIRE(address >= registers_base);
    const auto offset = address - registers_base;
    if (offset >= 0x2000 && offset < 0x3000) {
        const std::uint64_t sectors = contents.size() / 512;
        const std::uint32_t words[] = {static_cast<std::uint32_t>(sectors), static_cast<std::uint32_t>(sectors >> 32),
                                       how_.size_max, how_.segments_max};
        REQUIRE(offset - 0x2000 < sizeof words);
        return words[(offset - 0x2000) / 4];
    }
    switch (offset) {
    case 0x04:
        return static_cast<std::uint32_t>(how_.features >> 32 * feature_word_);
    case 0x14:
        return status;
    case 0x15:
        return 0;
    case 0x18:
        return size_ != 0 ? size_ : how_.queue_size;
    case 0x1a:
        return vector_;
    case 0x1e:
        return how_.notify_offset;
    default:
        FAIL("a register that the driver has no business with: ", offset, " of ", bytes);
        return 0;
    }
}

inline void virtio_blk_model::write_memory(std::uint64_t address, unsigned bytes, std::uint32_t value)
{
    std::unique_lock guard{mutex_};
    if (address >= table_base && address < table_base + sizeof table_) {
        table_[(address - table_base) / 4] = value;
        return;
    }
    REQUIRE(address >= registers_base);
    const auto offset = address - registers_base;
    const auto half = [&](std::uint64_t& whole, bool high) {
        whole =
            high ? (whole & 0xffff'ffff) | std::uint64_t{value} << 32 : (whole & ~std::uint64_t{0xffff'ffff}) | value;
    };
    if (offset == 0x3000 + std::uint64_t{how_.notify_offset} * notify_multiplier) {
        CHECK(bytes == 2);
        CHECK(value == 0);
        CHECK((status & drivers::virtio::status::driver_ok) != 0);
        rung_ = true;
        guard.unlock();
        wake_.notify_one();
        return;
    }
    switch (offset) {
    case 0x00:
        feature_word_ = value;
        break;
    case 0x08:
        driver_word_ = value;
        break;
    case 0x0c:
        half(driver_features_, driver_word_ == 1);
        break;
    case 0x10:
        CHECK(value == 0xffff);
        break;
    case 0x14:
        if (value == 0) {
            enabled_ = size_ = seen_ = used_ = 0;
            driver_features_ = 0;
        }
        if ((value & drivers::virtio::status::features_ok) && !how_.accepts_features)
            value &= ~std::uint32_t{drivers::virtio::status::features_ok};
        CHECK((driver_features_ & ~how_.features) == 0);
        status = static_cast<std::uint8_t>(value);
        break;
    case 0x16:
        CHECK(value == 0);
        break;
    case 0x18:
        CHECK(std::has_single_bit(value));
        size_ = static_cast<std::uint16_t>(value);
        break;
    case 0x1a:
        vector_ = how_.accepts_vector ? static_cast<std::uint16_t>(value) : 0xffff;
        break;
    case 0x1c:
        enabled_ = static_cast<std::uint16_t>(value);
        break;
    default:
        REQUIRE(offset >= 0x20);
        REQUIRE(offset < 0x38);
        half(rings_[(offset - 0x20) / 8], (offset & 4) != 0);
    }
}

inline void virtio_blk_model::work()
{
    std::unique_lock guard{mutex_};
    for (;;) {
        wake_.wait(guard, [&] { return rung_ || ending_; });
        if (ending_)
            return;
        rung_ = false;
        if (!enabled_ || next == misbehaviour::silent)
            continue;
        serve();
        if ((table_[3] & 1) != 0 || !handler_)
            continue;
        handling_ = true;
        const std::function<void()> handler = handler_;
        guard.unlock();
        handler();
        guard.lock();
        handling_ = false;
        handled_.notify_all();
    }
}

// Everything offered, the newest first: nothing says that a device keeps the order.
inline void virtio_blk_model::serve()
{
    auto* available = at<std::uint16_t>(rings_[1]);
    const std::uint16_t offered = std::atomic_ref{available[1]}.load(std::memory_order_acquire);
    const auto count = static_cast<std::uint16_t>(offered - seen_);
    REQUIRE(count <= size_);
    if (count > largest_batch)
        largest_batch = count;
    for (std::uint16_t i = count; i-- > 0;)
        answer(available[2 + static_cast<std::uint16_t>(seen_ + i) % size_]);
    seen_ = offered;
}

inline void virtio_blk_model::answer(std::uint16_t head)
{
    ++requests;
    std::uint32_t written = 0;
    std::byte* status_byte = nullptr;
    std::uint8_t outcome = perform(head, written, status_byte);
    const misbehaviour how = next;
    if (how == misbehaviour::fails)
        outcome = 1;
    else if (how == misbehaviour::unsupported)
        outcome = 2;
    *status_byte = static_cast<std::byte>(outcome);
    switch (how) {
    case misbehaviour::claims_too_much:
        used_ = static_cast<std::uint16_t>(used_ + 200);
        complete(head, written);
        break;
    case misbehaviour::unknown_descriptor:
        complete(size_ + 7u, written);
        break;
    case misbehaviour::inside_of_chain:
        complete(head + 1u, written);
        break;
    case misbehaviour::idle_slot:
        complete((head + 16u) % size_, written);
        break;
    case misbehaviour::answers_twice:
        complete(head, written);
        complete(head, written);
        break;
    default:
        complete(head, written);
    }
}

inline std::uint8_t virtio_blk_model::perform(std::uint16_t head, std::uint32_t& written, std::byte*& status_byte)
{
    using namespace drivers::virtio;
    const auto* table = at<const queue_entry>(rings_[0]);
    std::vector<queue_entry> chain;
    for (std::uint16_t i = head;;) {
        REQUIRE(i < size_);
        REQUIRE(chain.size() < size_);
        chain.push_back(table[i]);
        if (!(table[i].flags & descriptor_next))
            break;
        i = table[i].next;
    }
    REQUIRE(chain.size() >= 2);
    REQUIRE(chain.front().length == 16);
    REQUIRE((chain.front().flags & descriptor_device_writes) == 0);
    REQUIRE(chain.back().length == 1);
    REQUIRE((chain.back().flags & descriptor_device_writes) != 0);
    status_byte = at<std::byte>(chain.back().address);
    if (how_.segments_max != 0)
        CHECK(chain.size() - 2 <= how_.segments_max);

    struct {
        std::uint32_t type, reserved;
        std::uint64_t sector;
    } header;
    std::memcpy(&header, at<std::byte>(chain.front().address), sizeof header);
    if (header.type == 4) {
        ++flushes;
        return chain.size() == 2 ? 0 : 2;
    }
    const bool reading = header.type == 0;
    std::uint64_t offset = header.sector * 512, total = 0;
    for (std::size_t i = 1; i + 1 < chain.size(); ++i) {
        const queue_entry& piece = chain[i];
        CHECK(((piece.flags & descriptor_device_writes) != 0) == reading);
        CHECK(piece.length > 0);
        if (how_.size_max != 0)
            CHECK(piece.length <= how_.size_max);
        ++pieces;
        total += piece.length;
        REQUIRE(piece.length <= contents.size());
        REQUIRE(offset <= contents.size() - piece.length);
        // Page by page: what follows a page in physical memory is another one.
        for (std::uint32_t done = 0; done < piece.length;) {
            const std::uint64_t address = piece.address + done;
            const std::uint64_t room = page_size - address % page_size;
            const std::size_t part = piece.length - done < room ? piece.length - done : room;
            std::byte* memory = at<std::byte>(address);
            std::memcpy(reading ? memory : contents.data() + offset, reading ? contents.data() + offset : memory, part);
            done += static_cast<std::uint32_t>(part);
            offset += part;
        }
    }
    CHECK(total > 0);
    CHECK(total % 512 == 0);
    written = 1 + (reading ? static_cast<std::uint32_t>(total) : 0);
    return 0;
}

inline void virtio_blk_model::complete(std::uint32_t head, std::uint32_t written)
{
    auto* used = at<std::byte>(rings_[2]);
    const drivers::virtio::used_element element{head, written};
    std::memcpy(used + 4 + used_ % size_ * sizeof element, &element, sizeof element);
    ++used_;
    std::atomic_ref{*reinterpret_cast<std::uint16_t*>(used + 2)}.store(used_, std::memory_order_release);
}

// The model's registers and configuration as the driver sees them.
struct model_registers {
    virtio_blk_model* model{};
    std::uint64_t base{};

    std::uint8_t read8(std::uint32_t o) noexcept { return static_cast<std::uint8_t>(model->read_memory(base + o, 1)); }
    std::uint16_t read16(std::uint32_t o) noexcept
    {
        return static_cast<std::uint16_t>(model->read_memory(base + o, 2));
    }
    std::uint32_t read32(std::uint32_t o) noexcept
    {
        return static_cast<std::uint32_t>(model->read_memory(base + o, 4));
    }
    void write8(std::uint32_t o, std::uint8_t v) noexcept { model->write_memory(base + o, 1, v); }
    void write16(std::uint32_t o, std::uint16_t v) noexcept { model->write_memory(base + o, 2, v); }
    void write32(std::uint32_t o, std::uint32_t v) noexcept { model->write_memory(base + o, 4, v); }
};
static_assert(hal::RegisterAccess<model_registers>);

struct model_configuration {
    virtio_blk_model* model{};

    std::uint8_t read8(std::uint32_t o) noexcept { return static_cast<std::uint8_t>(model->read_configuration(o, 1)); }
    std::uint16_t read16(std::uint32_t o) noexcept
    {
        return static_cast<std::uint16_t>(model->read_configuration(o, 2));
    }
    std::uint32_t read32(std::uint32_t o) noexcept { return model->read_configuration(o, 4); }
    void write8(std::uint32_t o, std::uint8_t v) noexcept { model->write_configuration(o, 1, v); }
    void write16(std::uint32_t o, std::uint16_t v) noexcept { model->write_configuration(o, 2, v); }
    void write32(std::uint32_t o, std::uint32_t v) noexcept { model->write_configuration(o, 4, v); }
};
static_assert(hal::RegisterAccess<model_configuration>);

} // namespace exo::test
