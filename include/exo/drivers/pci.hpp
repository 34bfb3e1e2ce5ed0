// PCI functions: finding them, their address windows and capabilities, and message-signalled interrupts (PCI Local Bus
// specification 3.0; PCI Express changes nothing here).
//
// The 256 bytes of configuration of one function are a RegisterAccess. Devices are not trusted: lists of capabilities
// are walked a bounded number of steps, and what does not fit its window is an error.

#pragma once

#include <concepts>
#include <cstdint>
#include <optional>

#include <exo/arch/x86_64/apic.hpp>
#include <exo/base/errors.hpp>
#include <exo/base/range.hpp>
#include <exo/base/result.hpp>
#include <exo/hal/register_access.hpp>

namespace exo::drivers::pci {

// Context: offset of the register in question.
inline constexpr error_kind malformed{"pci", "malformed", "the function's configuration contradicts itself", posix::io,
                                      severity::degraded, recovery::give_up};

struct address {
    std::uint8_t bus{};
    std::uint8_t device{};
    std::uint8_t function{};
};

// One function's configuration through the ports 0xcf8 and 0xcfc (3.2.2.3.2). Accesses are not atomic between CPUs: the
// kernel configures devices from one thread.
template <hal::RegisterAccess Ports>
class port_config {
public:
    port_config(Ports ports, address where)
        : ports_{ports}, select_{enable | std::uint32_t{where.bus} << 16 | std::uint32_t{where.device} << 11 |
                                 std::uint32_t{where.function} << 8}
    {
    }

    [[nodiscard]] std::uint8_t read8(std::uint32_t offset) noexcept { return ports_.read8(open(offset)); }
    [[nodiscard]] std::uint16_t read16(std::uint32_t offset) noexcept { return ports_.read16(open(offset)); }
    [[nodiscard]] std::uint32_t read32(std::uint32_t offset) noexcept { return ports_.read32(open(offset)); }
    void write8(std::uint32_t offset, std::uint8_t value) noexcept { ports_.write8(open(offset), value); }
    void write16(std::uint32_t offset, std::uint16_t value) noexcept { ports_.write16(open(offset), value); }
    void write32(std::uint32_t offset, std::uint32_t value) noexcept { ports_.write32(open(offset), value); }

private:
    static constexpr std::uint32_t enable = 1u << 31;
    static constexpr std::uint32_t address_port = 0xcf8, data_port = 0xcfc;

    [[nodiscard]] std::uint32_t open(std::uint32_t offset) noexcept
    {
        ports_.write32(address_port, select_ | (offset & 0xfc));
        return data_port + (offset & 3);
    }

    [[no_unique_address]] Ports ports_;
    std::uint32_t select_;
};

namespace config {
inline constexpr std::uint32_t vendor = 0x00, device = 0x02, command = 0x04, status = 0x06, subclass = 0x0a,
                               class_code = 0x0b, header_type = 0x0e, first_bar = 0x10, secondary_bus = 0x19,
                               capabilities = 0x34;
inline constexpr std::uint16_t command_memory = 1u << 1, command_bus_master = 1u << 2, command_no_intx = 1u << 10;
inline constexpr std::uint16_t status_capabilities = 1u << 4;
} // namespace config

inline constexpr std::uint8_t capability_vendor = 0x09, capability_msix = 0x11;

template <hal::RegisterAccess Config>
class function {
public:
    explicit function(Config config) : config_{config} {}

    [[nodiscard]] bool present() noexcept { return vendor() != 0xffff; }
    [[nodiscard]] std::uint16_t vendor() noexcept { return config_.read16(config::vendor); }
    [[nodiscard]] std::uint16_t device() noexcept { return config_.read16(config::device); }
    [[nodiscard]] bool is_multifunction() noexcept { return config_.read8(config::header_type) & 0x80; }
    [[nodiscard]] bool is_bridge() noexcept { return (config_.read8(config::header_type) & 0x7f) == 1; }
    [[nodiscard]] std::uint8_t secondary_bus() noexcept { return config_.read8(config::secondary_bus); }
    [[nodiscard]] Config& registers() noexcept { return config_; }

    // Lets the function answer in its memory windows and reach RAM, and turns its interrupt pin off.
    void enable() noexcept
    {
        config_.write16(config::command,
                        static_cast<std::uint16_t>(config_.read16(config::command) | config::command_memory |
                                                   config::command_bus_master | config::command_no_intx));
    }

    // Calls `visit(id, offset)` for each capability until it returns true; whether it did.
    template <std::predicate<std::uint8_t, std::uint32_t> Visit>
    bool find_capability(Visit visit)
    {
        constexpr unsigned most = 48; // as many as 192 bytes have room for
        if (!(config_.read16(config::status) & config::status_capabilities))
            return false;
        std::uint32_t at = config_.read8(config::capabilities) & 0xfc;
        for (unsigned i = 0; i < most && at >= 0x40; ++i) {
            if (visit(config_.read8(at), at))
                return true;
            at = config_.read8(at + 1) & 0xfc;
        }
        return false;
    }

    // The physical addresses of memory window `index` (0 to 5). Errors: malformed when there is no such window, or it
    // is one of ports.
    [[nodiscard]] result<phys_range> window(unsigned index)
    {
        if (!measured_)
            measure();
        if (index >= most_windows || windows_[index].size() == 0)
            return fail(malformed, config::first_bar + 4 * index);
        return windows_[index];
    }

    // `size` bytes at `offset` of window `index`. Errors: malformed.
    [[nodiscard]] result<phys_range> part_of_window(unsigned index, std::uint32_t offset, std::uint32_t size)
    {
        const phys_range all = EXO_TRY(window(index));
        if (size == 0 || std::uint64_t{offset} + size > all.size())
            return fail(malformed, config::first_bar + 4 * index);
        return phys_range::of_size(all.begin + offset, size);
    }

private:
    static constexpr unsigned most_windows = 6, most_windows_of_bridge = 2;

    // All windows at once, and with decoding off: a hypervisor lays memory out anew each time that it is turned.
    void measure()
    {
        measured_ = true;
        const std::uint16_t command = config_.read16(config::command);
        config_.write16(config::command, static_cast<std::uint16_t>(command & ~config::command_memory));
        const unsigned count = is_bridge() ? most_windows_of_bridge : most_windows;
        for (unsigned index = 0; index < count;)
            index += measure(index, count);
        config_.write16(config::command, command);
    }
    // How many registers the window takes. One that makes no sense stays empty.
    [[nodiscard]] unsigned measure(unsigned index, unsigned count)
    {
        constexpr std::uint32_t is_port = 1, type_mask = 6, type_64_bits = 4, flags = 0xf;
        const std::uint32_t at = config::first_bar + 4 * index;
        const std::uint32_t low = config_.read32(at);
        const bool wide = (low & type_mask) == type_64_bits;
        if ((low & is_port) || (wide && index + 1 == count))
            return 1;
        std::uint64_t base = low & ~flags;
        config_.write32(at, ~std::uint32_t{0});
        std::uint64_t mask = config_.read32(at) & ~flags;
        config_.write32(at, low);
        if (wide) {
            const std::uint32_t high = config_.read32(at + 4);
            base |= std::uint64_t{high} << 32;
            config_.write32(at + 4, ~std::uint32_t{0});
            mask |= std::uint64_t{config_.read32(at + 4)} << 32;
            config_.write32(at + 4, high);
        } else if (mask != 0) {
            mask |= ~std::uint64_t{0} << 32;
        }
        const std::uint64_t size = ~mask + 1;
        if (mask != 0 && base != 0 && (size & (size - 1)) == 0 && base + size >= base)
            windows_[index] = phys_range::of_size(phys_addr{base}, size);
        return wide ? 2 : 1;
    }

    Config config_;
    phys_range windows_[most_windows]{};
    bool measured_{};
};

// Calls `visit(function, address)` for every function there is. `at(address)` gives its configuration.
template <class At, class Visit>
void enumerate(At at, Visit visit)
{
    constexpr unsigned buses = 256;
    bool to_scan[buses]{true}, scanned[buses]{};
    for (bool more = true; more;) {
        more = false;
        for (unsigned bus = 0; bus < buses; ++bus) {
            if (!to_scan[bus] || scanned[bus])
                continue;
            scanned[bus] = more = true;
            for (std::uint8_t device = 0; device < 32; ++device) {
                for (std::uint8_t number = 0; number < 8; ++number) {
                    const address where{static_cast<std::uint8_t>(bus), device, number};
                    function f{at(where)};
                    if (!f.present()) {
                        if (number == 0)
                            break;
                        continue;
                    }
                    if (f.is_bridge())
                        to_scan[f.secondary_bus()] = true;
                    visit(f, where);
                    if (number == 0 && !f.is_multifunction())
                        break;
                }
            }
        }
    }
}

// The MSI-X table of a function (6.8.2). `Registers` shows the table.
template <hal::RegisterAccess Registers>
class msix_table {
public:
    // Turns MSI-X on with every vector masked. `map(phys_range)` returns result<Registers>.
    // Errors: not_supported when the function has none, malformed, and those of `map`.
    template <hal::RegisterAccess Config, class Map>
    [[nodiscard]] static result<msix_table> open(function<Config>& f, Map map)
    {
        std::uint32_t capability = 0;
        if (!f.find_capability([&](std::uint8_t id, std::uint32_t at) {
                capability = at;
                return id == capability_msix;
            }))
            return fail(errors::not_supported);
        const std::uint16_t control = f.registers().read16(capability + 2);
        const std::uint32_t place = f.registers().read32(capability + 4);
        const unsigned vectors = (control & 0x7ffu) + 1;
        const phys_range where = EXO_TRY(f.part_of_window(place & 7, place & ~7u, vectors * entry_bytes));
        msix_table table{EXO_TRY(map(where)), vectors};
        for (unsigned v = 0; v < vectors; ++v)
            table.registers_.write32(v * entry_bytes + 12, masked);
        constexpr std::uint16_t enable = 1u << 15, mask_all = 1u << 14;
        f.registers().write16(capability + 2, static_cast<std::uint16_t>((control | enable) & ~mask_all));
        return table;
    }

    [[nodiscard]] unsigned size() const { return vectors_; }

    // Errors: invalid_argument when there is no such vector.
    [[nodiscard]] result<> route(unsigned vector, const x86_64::message_signalled_interrupt& message) noexcept
    {
        if (vector >= vectors_)
            return fail(errors::invalid_argument, vector);
        const std::uint32_t at = vector * entry_bytes;
        registers_.write32(at, static_cast<std::uint32_t>(message.address));
        registers_.write32(at + 4, static_cast<std::uint32_t>(message.address >> 32));
        registers_.write32(at + 8, message.data);
        registers_.write32(at + 12, 0);
        return {};
    }

private:
    static constexpr std::uint32_t entry_bytes = 16, masked = 1;

    msix_table(Registers registers, unsigned vectors) : registers_{registers}, vectors_{vectors} {}

    Registers registers_;
    unsigned vectors_;
};

} // namespace exo::drivers::pci
