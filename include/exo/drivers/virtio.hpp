// Virtio 1.1 over PCI (virtio-v1.1): the modern transport (4.1) and the split virtqueue (2.6).
//
// The device is not trusted: an index or a descriptor that it makes up is protocol_error, never an access outside of
// the queue.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include <exo/base/check.hpp>
#include <exo/base/errors.hpp>
#include <exo/base/result.hpp>
#include <exo/drivers/pci.hpp>
#include <exo/hal/register_access.hpp>

namespace exo::drivers::virtio {

inline constexpr std::uint16_t pci_vendor = 0x1af4;
inline constexpr std::uint16_t pci_modern_device = 0x1040; // plus the device type
inline constexpr std::uint16_t pci_transitional_block = 0x1001;
inline constexpr std::uint16_t block_type = 2;

// Context: what the device claimed.
inline constexpr error_kind protocol_error{"virtio",  "protocol_error",   "the device broke the virtio protocol",
                                           posix::io, severity::degraded, recovery::give_up};
// Context: the feature bits that it lacks, or the status that it took.
inline constexpr error_kind not_agreed{"virtio", "not_agreed", "the device does not offer what the driver needs",
                                       posix::nodev, severity::degraded, recovery::give_up};

namespace status {
inline constexpr std::uint8_t acknowledge = 1, driver = 2, driver_ok = 4, features_ok = 8, needs_reset = 64,
                              failed = 128;
} // namespace status

inline constexpr std::uint64_t feature_version_1 = std::uint64_t{1} << 32;

// The registers of one device, as four windows.
template <hal::RegisterAccess Registers>
class transport {
public:
    // `notify` is a window of `notify_bytes`.
    transport(Registers common, Registers notify, Registers device, std::uint32_t notify_multiplier,
              std::uint32_t notify_bytes)
        : common_{common}, notify_{notify}, device_{device}, notify_multiplier_{notify_multiplier},
          notify_bytes_{notify_bytes}
    {
    }

    // Finds the windows by the function's vendor capabilities. `map(phys_range)` returns result<Registers>.
    // Errors: not_agreed for a device without the modern interface, pci::malformed, and those of `map`.
    template <hal::RegisterAccess Config, class Map>
    [[nodiscard]] static result<transport> open(pci::function<Config>& f, Map map)
    {
        enum : std::uint8_t { common_type = 1, notify_type = 2, device_type = 4, types = 5 };
        std::uint32_t found[types]{};
        f.find_capability([&](std::uint8_t id, std::uint32_t at) {
            const std::uint8_t type = f.registers().read8(at + 3);
            if (id == pci::capability_vendor && type < types && found[type] == 0)
                found[type] = at;
            return false;
        });
        const auto window = [&](std::uint8_t type, std::uint32_t least_bytes) -> result<phys_range> {
            const std::uint32_t at = found[type];
            const std::uint32_t bytes = at == 0 ? 0 : f.registers().read32(at + 12);
            if (bytes < least_bytes)
                return fail(not_agreed, type);
            return f.part_of_window(f.registers().read8(at + 4), f.registers().read32(at + 8), bytes);
        };
        const phys_range common = EXO_TRY(window(common_type, common_bytes));
        const phys_range notify = EXO_TRY(window(notify_type, sizeof(std::uint16_t)));
        const phys_range device = EXO_TRY(window(device_type, sizeof(std::uint64_t)));
        const Registers common_registers = EXO_TRY(map(common));
        const Registers notify_registers = EXO_TRY(map(notify));
        const Registers device_registers = EXO_TRY(map(device));
        return transport{common_registers, notify_registers, device_registers,
                         f.registers().read32(found[notify_type] + 16), static_cast<std::uint32_t>(notify.size())};
    }

    // Steps 1 to 6 of 3.1.1: reset, and agree on `required` and as many of `wanted` as offered. The features agreed on.
    // Errors: not_agreed.
    [[nodiscard]] result<std::uint64_t> negotiate(std::uint64_t required, std::uint64_t wanted) noexcept
    {
        stop();
        set_status(status::acknowledge);
        set_status(status::acknowledge | status::driver);
        const std::uint64_t offered = read_features();
        if ((offered & required) != required) {
            set_status(status::failed);
            return fail(not_agreed, required & ~offered);
        }
        const std::uint64_t agreed = required | (offered & wanted);
        write_features(agreed);
        set_status(status::acknowledge | status::driver | status::features_ok);
        if (!(get_status() & status::features_ok)) {
            set_status(status::failed);
            return fail(not_agreed, get_status());
        }
        return agreed;
    }
    void start() noexcept
    {
        set_status(status::acknowledge | status::driver | status::features_ok | status::driver_ok);
    }
    // The device forgets everything; afterwards it touches no memory.
    void stop() noexcept
    {
        constexpr unsigned patience = 1'000'000;
        set_status(0);
        for (unsigned i = 0; i < patience && get_status() != 0; ++i) {
        }
    }

    // How many descriptors queue `index` can have; 0: no such queue.
    [[nodiscard]] std::uint16_t queue_size(std::uint16_t index) noexcept
    {
        common_.write16(queue_select, index);
        return common_.read16(queue_size_at);
    }
    // Errors: not_agreed when the device has no resources for the interrupt vector, or no doorbell in its window.
    [[nodiscard]] result<> enable_queue(std::uint16_t index, std::uint16_t size, std::uint64_t descriptors,
                                        std::uint64_t available, std::uint64_t used, std::uint16_t msix_vector) noexcept
    {
        constexpr std::uint16_t no_vector = 0xffff;
        common_.write16(config_msix_vector, no_vector);
        common_.write16(queue_select, index);
        common_.write16(queue_size_at, size);
        common_.write16(queue_msix_vector, msix_vector);
        if (common_.read16(queue_msix_vector) != msix_vector)
            return fail(not_agreed, msix_vector);
        write64(queue_descriptors, descriptors);
        write64(queue_available, available);
        write64(queue_used, used);
        const std::uint64_t notify_at = std::uint64_t{common_.read16(queue_notify_offset)} * notify_multiplier_;
        if (notify_at + sizeof(std::uint16_t) > notify_bytes_)
            return fail(not_agreed, notify_at);
        notify_at_ = static_cast<std::uint32_t>(notify_at);
        common_.write16(queue_enable, 1);
        return {};
    }
    void notify(std::uint16_t index) noexcept { notify_.write16(notify_at_, index); }

    [[nodiscard]] std::uint8_t get_status() noexcept { return common_.read8(device_status); }
    [[nodiscard]] Registers& device() noexcept { return device_; }
    // A 64-bit field of the device's configuration that may change while it is read.
    [[nodiscard]] std::uint64_t device_field64(std::uint32_t offset) noexcept
    {
        constexpr unsigned patience = 16;
        std::uint64_t value = 0;
        for (unsigned i = 0; i < patience; ++i) {
            const std::uint8_t before = common_.read8(config_generation);
            value = device_.read32(offset) | std::uint64_t{device_.read32(offset + 4)} << 32;
            if (common_.read8(config_generation) == before)
                break;
        }
        return value;
    }

private:
    static constexpr std::uint32_t device_feature_select = 0x00, device_feature = 0x04, driver_feature_select = 0x08,
                                   driver_feature = 0x0c, config_msix_vector = 0x10, device_status = 0x14,
                                   config_generation = 0x15, queue_select = 0x16, queue_size_at = 0x18,
                                   queue_msix_vector = 0x1a, queue_enable = 0x1c, queue_notify_offset = 0x1e,
                                   queue_descriptors = 0x20, queue_available = 0x28, queue_used = 0x30,
                                   common_bytes = 0x38;

    void set_status(std::uint8_t value) noexcept { common_.write8(device_status, value); }
    [[nodiscard]] std::uint64_t read_features() noexcept
    {
        common_.write32(device_feature_select, 0);
        const std::uint64_t low = common_.read32(device_feature);
        common_.write32(device_feature_select, 1);
        return low | std::uint64_t{common_.read32(device_feature)} << 32;
    }
    void write_features(std::uint64_t features) noexcept
    {
        common_.write32(driver_feature_select, 0);
        common_.write32(driver_feature, static_cast<std::uint32_t>(features));
        common_.write32(driver_feature_select, 1);
        common_.write32(driver_feature, static_cast<std::uint32_t>(features >> 32));
    }
    void write64(std::uint32_t offset, std::uint64_t value) noexcept
    {
        common_.write32(offset, static_cast<std::uint32_t>(value));
        common_.write32(offset + 4, static_cast<std::uint32_t>(value >> 32));
    }

    Registers common_, notify_, device_;
    std::uint32_t notify_multiplier_;
    std::uint32_t notify_bytes_;
    std::uint32_t notify_at_{};
};

// Layouts of 2.6.5 to 2.6.8; little-endian, as is every CPU that exo runs on so far.
struct descriptor {
    std::uint64_t address;
    std::uint32_t length;
    std::uint16_t flags;
    std::uint16_t next;
};
inline constexpr std::uint16_t descriptor_next = 1, descriptor_device_writes = 2;

struct used_element {
    std::uint32_t head;
    std::uint32_t written;
};

// A split virtqueue of `Size` descriptors. Which descriptors are whose is the owner's business; one thread at a time.
template <std::uint16_t Size>
class split_queue {
    static_assert(Size != 0 && (Size & (Size - 1)) == 0);

public:
    static constexpr std::size_t available_at = Size * sizeof(descriptor);
    static constexpr std::size_t used_at = (available_at + 4 + 2 * Size + 2 + 3) & ~std::size_t{3};
    static constexpr std::size_t bytes = used_at + 4 + Size * sizeof(used_element) + 2;

    // `memory`: at least `bytes`, zeroed, aligned to 16, shared with the device.
    explicit split_queue(std::byte* memory) : memory_{memory} {}

    [[nodiscard]] descriptor& operator[](std::uint16_t index)
    {
        EXO_CHECK(index < Size);
        return reinterpret_cast<descriptor*>(memory_)[index];
    }

    // Hands the chain that starts at `head` to the device, which may start before anybody notifies it.
    void offer(std::uint16_t head)
    {
        auto* ring = reinterpret_cast<std::uint16_t*>(memory_ + available_at + 4);
        ring[offered_ % Size] = head;
        ++offered_;
        index(available_at + 2).store(offered_, std::memory_order_release);
        // The device looks at the ring before it looks for a notification, we the other way round.
        std::atomic_thread_fence(std::memory_order_seq_cst);
    }
    // Whether the device wants to be told of new chains.
    [[nodiscard]] bool wants_notification()
    {
        constexpr std::uint16_t no_notify = 1;
        return (index(used_at).load(std::memory_order_acquire) & no_notify) == 0;
    }

    // The next chain that the device has finished. Errors: protocol_error when it claims more than it was given, or a
    // descriptor that does not exist.
    [[nodiscard]] result<std::optional<used_element>> take()
    {
        const std::uint16_t claimed = index(used_at + 2).load(std::memory_order_acquire);
        const auto finished = static_cast<std::uint16_t>(claimed - taken_);
        if (finished == 0)
            return std::optional<used_element>{};
        if (finished > static_cast<std::uint16_t>(offered_ - taken_))
            return fail(protocol_error, claimed);
        const auto* ring = reinterpret_cast<const volatile used_element*>(memory_ + used_at + 4);
        const used_element element{ring[taken_ % Size].head, ring[taken_ % Size].written};
        if (element.head >= Size)
            return fail(protocol_error, element.head);
        ++taken_;
        return std::optional{element};
    }

private:
    [[nodiscard]] std::atomic_ref<std::uint16_t> index(std::size_t offset)
    {
        return std::atomic_ref{*reinterpret_cast<std::uint16_t*>(memory_ + offset)};
    }

    std::byte* memory_;
    std::uint16_t offered_{};
    std::uint16_t taken_{};
};

} // namespace exo::drivers::virtio
