// devfs: the file system under /dev. Whoever adds a device names it here; directories for further mounts (pts, shm) can
// be made, as in any tmpfs, which it is beneath.

#pragma once

#include <string_view>
#include <utility>

#include <exo/fs/character_device.hpp>
#include <exo/fs/device_registry.hpp>
#include <exo/fs/environment.hpp>
#include <exo/fs/file_system.hpp>
#include <exo/fs/tmpfs/tmpfs.hpp>

namespace exo::fs {

class devfs final : public file_system {
public:
    devfs(environment& env, ref<tmpfs> names) : environment_{env}, names_{std::move(names)} {}

    // Errors: out_of_memory.
    [[nodiscard]] static result<ref<devfs>> create(environment& env)
    {
        auto names = EXO_TRY(tmpfs::create(env, {.root_permissions = 0755}));
        return ref<devfs>::adopt(EXO_TRY(new_object<devfs>(env.heap, env, std::move(names))));
    }

    // `device` is found under its number, unless it already is, and under `name`. Errors: exists, no_device (the
    // environment has no registry), out_of_memory.
    [[nodiscard]] result<> add(std::string_view name, character_device& device, permission_bits permissions)
    {
        if (!environment_.devices)
            return fail(errors::no_device);
        auto top = EXO_TRY(names_->root());
        auto guard = top->entries().lock(environment_.parker);
        if (top->lookup(name))
            return fail(errors::exists);
        if (environment_.devices->find(environment_.parker, device.number()) != &device)
            EXO_TRY(environment_.devices->add(environment_.parker, device));
        EXO_TRY(top->create(name, {.type = file_type::character_device,
                                   .permissions = permissions,
                                   .special = device.number()}));
        return {};
    }
    [[nodiscard]] result<> add_directory(std::string_view name, permission_bits permissions = 0755)
    {
        auto top = EXO_TRY(names_->root());
        auto guard = top->entries().lock(environment_.parker);
        if (top->lookup(name))
            return fail(errors::exists);
        EXO_TRY(top->create(name, {.type = file_type::directory, .permissions = permissions}));
        return {};
    }
    [[nodiscard]] result<> add_link(std::string_view name, std::string_view target)
    {
        auto top = EXO_TRY(names_->root());
        auto guard = top->entries().lock(environment_.parker);
        if (top->lookup(name))
            return fail(errors::exists);
        EXO_TRY(top->symlink(name, target, {.type = file_type::symlink, .permissions = 0777}));
        return {};
    }

    [[nodiscard]] std::string_view type_name() const noexcept override { return "devfs"; }
    [[nodiscard]] result<ref<inode>> root() override { return names_->root(); }
    [[nodiscard]] result<file_system_status> status() override { return names_->status(); }

private:
    void last_reference() noexcept override { delete_object(environment_.heap, this); }

    environment& environment_;
    ref<tmpfs> names_;
};

} // namespace exo::fs
