// The devices that need no hardware: null, zero, full, random and urandom, with the numbers that Linux gives them.

#pragma once

#include <cstddef>
#include <span>

#include <exo/fs/character_device.hpp>
#include <exo/fs/devfs/devfs.hpp>
#include <exo/fs/environment.hpp>
#include <exo/fs/stream.hpp>

namespace exo::fs {

// Where random bytes come from: the kernel's generator.
class byte_source {
public:
    // Every byte unpredictable. Errors: no_device, if there is nothing to draw from.
    [[nodiscard]] virtual result<> fill(std::span<std::byte> into) noexcept = 0;

protected:
    ~byte_source() = default;
};

// Takes everything that is written.
class sink_device : public character_device {
public:
    explicit sink_device(std::uint32_t minor) : number_{1, minor} {}

    [[nodiscard]] device_number number() const noexcept override { return number_; }
    [[nodiscard]] result<std::size_t> write(file&, input& from) override
    {
        std::byte scratch[256];
        std::size_t total = 0;
        while (from.remaining() != 0) {
            const auto given = from.get(scratch);
            if (!given)
                return total != 0 ? result<std::size_t>{total} : given;
            if (*given == 0)
                break;
            total += *given;
        }
        return total;
    }

protected:
    ~sink_device() = default;

private:
    const device_number number_;
};

class null_device final : public sink_device {
public:
    null_device() : sink_device{3} {}
    [[nodiscard]] result<std::size_t> read(file&, output&) override { return std::size_t{0}; }
    // Nobody reads what is written, so nobody has to fetch it.
    [[nodiscard]] result<std::size_t> write(file&, input& from) override { return from.remaining(); }
};

class zero_device : public sink_device {
public:
    zero_device() : zero_device{5} {}
    [[nodiscard]] result<std::size_t> read(file&, output& into) override
    {
        std::size_t total = 0;
        while (into.remaining() != 0) {
            const auto taken = into.put(zero_page);
            if (!taken)
                return total != 0 ? result<std::size_t>{total} : taken;
            if (*taken == 0)
                break;
            total += *taken;
        }
        return total;
    }
    [[nodiscard]] bool maps_memory() const noexcept override { return true; }

protected:
    explicit zero_device(std::uint32_t minor) : sink_device{minor} {}
};

// Zeros to read, and no room to write.
class full_device final : public zero_device {
public:
    full_device() : zero_device{7} {}
    [[nodiscard]] result<std::size_t> write(file&, input& from) override
    {
        return from.remaining() == 0 ? result<std::size_t>{std::size_t{0}} : fail(errors::no_space);
    }
    [[nodiscard]] bool maps_memory() const noexcept override { return false; }
};

class random_device final : public sink_device {
public:
    random_device(std::uint32_t minor, byte_source& source) : sink_device{minor}, source_{source} {}
    [[nodiscard]] result<std::size_t> read(file&, output& into) override
    {
        std::byte bytes[256];
        std::size_t total = 0;
        while (into.remaining() != 0) {
            const auto count = into.remaining() < sizeof bytes ? into.remaining() : sizeof bytes;
            auto taken = result<std::size_t>{std::size_t{0}};
            if (const auto filled = source_.fill({bytes, count}); !filled)
                taken = fail(filled.error());
            else
                taken = into.put({bytes, count});
            if (!taken)
                return total != 0 ? result<std::size_t>{total} : taken;
            total += *taken;
            if (*taken < count)
                break;
        }
        return total;
    }

private:
    byte_source& source_;
};

// All five, to be kept as long as the devfs that they are added to, and longer.
class memory_devices {
public:
    explicit memory_devices(byte_source& source) : random_{8, source}, urandom_{9, source} {}

    // Errors: those of devfs::add.
    [[nodiscard]] result<> add_to(devfs& names)
    {
        EXO_TRY(names.add("null", null_, 0666));
        EXO_TRY(names.add("zero", zero_, 0666));
        EXO_TRY(names.add("full", full_, 0666));
        EXO_TRY(names.add("random", random_, 0666));
        EXO_TRY(names.add("urandom", urandom_, 0666));
        return {};
    }

private:
    null_device null_;
    zero_device zero_;
    full_device full_;
    random_device random_;
    random_device urandom_;
};

} // namespace exo::fs
