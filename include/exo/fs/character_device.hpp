// A device of bytes: a terminal, /dev/null. Registered in devfs by the composition; opened, it becomes a device_file.

#pragma once

#include <cstdint>
#include <utility>

#include <exo/base/list.hpp>
#include <exo/fs/errors.hpp>
#include <exo/fs/file.hpp>
#include <exo/fs/poll.hpp>
#include <exo/fs/status.hpp>

namespace exo::fs {

// `opened` is the open file through which it is used. Calls may come from several threads at once. A device outlives
// every open file on it.
class character_device {
public:
    [[nodiscard]] virtual device_number number() const noexcept = 0;

    // The file that opening the device gives: one on the device itself, unless overridden (/dev/tty, /dev/ptmx).
    [[nodiscard]] virtual result<ref<file>> open(environment& env, const location& where, inode& node,
                                                 const open_options& options);
    // Called when the last descriptor of a file on the device goes.
    virtual void closed(file& /*opened*/) noexcept {}

    [[nodiscard]] virtual result<std::size_t> read(file& /*opened*/, output&)
    {
        return fail(errors::invalid_argument);
    }
    [[nodiscard]] virtual result<std::size_t> write(file& /*opened*/, input&)
    {
        return fail(errors::invalid_argument);
    }
    [[nodiscard]] virtual result<std::uint64_t> control(file& /*opened*/, std::uint64_t /*request*/,
                                                        std::uint64_t /*argument*/, user_memory&)
    {
        return fail(errors::not_terminal);
    }
    [[nodiscard]] virtual poll_events poll(file& /*opened*/, poll_table*) { return poll::always_ready; }
    // Whether to map the device is to map anonymous memory.
    [[nodiscard]] virtual bool maps_memory() const noexcept { return false; }
    // Whether lseek fails: it does on a terminal, and does nothing on /dev/null.
    [[nodiscard]] virtual bool is_stream() const noexcept { return false; }

    list_hook registry_hook;

protected:
    ~character_device() = default;
};

class device_file final : public file {
public:
    device_file(environment& env, location where, ref<inode> node, const open_options& options,
                character_device& device)
        : file{env, std::move(where), std::move(node), options}, device_{device}
    {
    }

    [[nodiscard]] character_device* device() const noexcept override { return &device_; }
    [[nodiscard]] bool has_position() const noexcept override { return !device_.is_stream(); }
    [[nodiscard]] result<std::uint64_t> control(std::uint64_t request, std::uint64_t argument,
                                                user_memory& memory) override
    {
        return device_.control(*this, request, argument, memory);
    }
    [[nodiscard]] poll_events poll(poll_table* table) override { return device_.poll(*this, table); }
    [[nodiscard]] result<> sync() override { return fail(errors::invalid_argument); }

private:
    [[nodiscard]] result<std::size_t> do_read(std::uint64_t, output& into) override
    {
        return device_.read(*this, into);
    }
    [[nodiscard]] result<std::size_t> do_write(std::uint64_t, input& from) override
    {
        return device_.write(*this, from);
    }
    [[nodiscard]] result<std::size_t> do_append(input& from, std::uint64_t&) override
    {
        return device_.write(*this, from);
    }
    void last_reference() noexcept override
    {
        device_.closed(*this);
        delete_object(context().heap, this);
    }

    character_device& device_;
};

inline result<ref<file>> character_device::open(environment& env, const location& where, inode& node,
                                                const open_options& options)
{
    return ref<file>{ref<device_file>::adopt(EXO_TRY(
        new_object<device_file>(env.heap, env, where, ref<inode>{node}, options, *this)))};
}

} // namespace exo::fs
