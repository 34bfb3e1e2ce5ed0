// A name in a directory: what paths are made of. Dentries form the tree that `..` and getcwd climb.
//
// The name and the parent of a dentry change only by rename, under the vfs's rename lock and its dentry cache's lock. A
// dentry without an inode is a name known not to exist.

#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>
#include <utility>

#include <exo/base/allocator.hpp>
#include <exo/base/list.hpp>
#include <exo/base/ref.hpp>
#include <exo/fs/inode.hpp>

namespace exo::fs {

class dentry final : public ref_counted {
public:
    // The root of a file system has no parent and no name.
    dentry(allocator& heap, ref<dentry> parent, owned_array<char> name, ref<inode> node)
        : heap_{heap}, parent_{std::move(parent)}, name_{std::move(name)}, node_{node.leak()}
    {
    }
    ~dentry() override
    {
        if (inode* const n = node())
            n->release();
    }

    [[nodiscard]] inode* node() const noexcept { return node_.load(std::memory_order_acquire); }
    [[nodiscard]] std::string_view name() const noexcept { return {name_.data(), name_.size()}; }
    // The name was taken away while somebody still refers to what it stood for.
    [[nodiscard]] bool removed() const noexcept { return removed_.load(std::memory_order_relaxed); }
    void mark_removed() noexcept { removed_.store(true, std::memory_order_relaxed); }

private:
    friend class dentry_cache;

    // Goes up in a loop: the tree may be deeper than the stack.
    void last_reference() noexcept override
    {
        for (dentry* d = this; d;) {
            dentry* const up = d->parent_.leak();
            delete_object(d->heap_, d);
            d = up && up->release_unended() ? up : nullptr;
        }
    }

    allocator& heap_;
    ref<dentry> parent_;
    owned_array<char> name_;
    std::atomic<inode*> node_; // one reference; set once, under the entries() lock of the directory
    std::uint32_t hash_{};
    std::atomic<bool> removed_{};
    bool cached_{};
    bool used_{}; // since the cache last looked for something to evict
    dentry* next_in_bucket_{};
    list_hook age_hook_;
};

} // namespace exo::fs
