// Which device a device number stands for: how a device node, in devfs or on a disk, finds its device.

#pragma once

#include <exo/base/list.hpp>
#include <exo/fs/character_device.hpp>
#include <exo/sync/spin_lock.hpp>

namespace exo::fs {

class device_registry {
public:
    device_registry() = default;
    device_registry(const device_registry&) = delete;
    device_registry& operator=(const device_registry&) = delete;
    ~device_registry()
    {
        while (devices_.pop_front()) {
        }
    }

    // Errors: exists.
    [[nodiscard]] result<> add(sync::any_parker& parker, character_device& device)
    {
        auto guard = lock_.lock(parker);
        if (find_locked(device.number()))
            return fail(errors::exists);
        devices_.push_back(device);
        return {};
    }
    void remove(sync::any_parker& parker, character_device& device)
    {
        auto guard = lock_.lock(parker);
        devices_.erase(device);
    }
    [[nodiscard]] character_device* find(sync::any_parker& parker, device_number number)
    {
        auto guard = lock_.lock(parker);
        return find_locked(number);
    }

private:
    [[nodiscard]] character_device* find_locked(device_number number)
    {
        for (character_device& d : devices_)
            if (d.number() == number)
                return &d;
        return nullptr;
    }

    sync::spin_lock<sync::lock_rank::device, sync::any_parker> lock_;
    list<character_device, &character_device::registry_hook> devices_;
};

// Opens the node of a device. Errors: no_data if there is no such device (ENXIO).
[[nodiscard]] inline result<ref<file>> open_device(environment& env, const location& where, inode& node,
                                                   device_number special, const open_options& options)
{
    if (!env.devices || node.type() != file_type::character_device)
        return fail(errors::no_data);
    character_device* const device = env.devices->find(env.parker, special);
    if (!device)
        return fail(errors::no_data);
    return device->open(env, where, node, options);
}

} // namespace exo::fs
