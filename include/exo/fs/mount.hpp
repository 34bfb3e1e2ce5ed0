// A file system at a place in the tree, and a place in the tree: a mount together with a name in its file system.

#pragma once

#include <atomic>
#include <string_view>
#include <utility>

#include <exo/base/allocator.hpp>
#include <exo/base/list.hpp>
#include <exo/base/ref.hpp>
#include <exo/fs/dentry.hpp>
#include <exo/fs/file_system.hpp>

namespace exo::fs {

class mount;

struct mount_options {
    bool read_only = false;
    bool no_execute = false;
    bool no_set_id = false;
    bool no_devices = false;
};

// Where something is. The mount keeps the file system alive for as long as the entry refers to it.
struct location {
    ref<mount> on;
    ref<dentry> entry;

    [[nodiscard]] inode* node() const noexcept { return entry ? entry->node() : nullptr; }
    explicit operator bool() const noexcept { return static_cast<bool>(entry); }
    friend bool operator==(const location&, const location&) = default;
};

class mount final : public ref_counted {
public:
    mount(allocator& heap, ref<file_system> system, ref<dentry> root, location covered, owned_array<char> source,
          mount_options options)
        : heap_{heap}, system_{std::move(system)}, source_{std::move(source)}, options_{options},
          covered_{std::move(covered)}, root_{std::move(root)}
    {
    }

    [[nodiscard]] file_system& system() const noexcept { return *system_; }
    [[nodiscard]] const ref<dentry>& root() const noexcept { return root_; }
    // Where it is mounted; nothing for the root of all.
    [[nodiscard]] const location& covered() const noexcept { return covered_; }
    // What was mounted, as /proc/mounts shows it: "/dev/vda".
    [[nodiscard]] std::string_view source() const noexcept { return {source_.data(), source_.size()}; }
    [[nodiscard]] const mount_options& options() const noexcept { return options_; }
    [[nodiscard]] bool read_only() const noexcept { return options_.read_only || system_->read_only(); }

private:
    friend class mount_table;

    void last_reference() noexcept override { delete_object(heap_, this); }

    allocator& heap_;
    ref<file_system> system_;
    owned_array<char> source_;
    mount_options options_;
    location covered_;
    ref<dentry> root_;
    list_hook hook_;
};

} // namespace exo::fs
