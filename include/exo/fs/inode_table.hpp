// The inodes of one file system that are in use, by number: so that one inode is one object. It keeps none alive.

#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include <exo/base/list.hpp>
#include <exo/base/ref.hpp>
#include <exo/sync/any_parker.hpp>
#include <exo/sync/spin_lock.hpp>

namespace exo::fs {

// `Node` is an inode with a list_hook named table_hook; its last_reference() calls remove() before it ends.
template <class Node>
class inode_table {
public:
    explicit inode_table(sync::any_parker& parker) : parker_{parker} {}

    // Null if nobody uses it.
    [[nodiscard]] ref<Node> find(std::uint64_t number) noexcept
    {
        auto guard = lock_.lock(parker_);
        return find_locked(number);
    }
    // `fresh`, or the object that another thread has brought in meanwhile.
    [[nodiscard]] ref<Node> insert(ref<Node> fresh) noexcept
    {
        auto guard = lock_.lock(parker_);
        auto known = find_locked(fresh->number());
        if (known) {
            guard.unlock();
            return known;
        }
        bucket(fresh->number()).push_front(*fresh);
        return fresh;
    }
    void remove(Node& node) noexcept
    {
        auto guard = lock_.lock(parker_);
        if (node.table_hook.linked())
            bucket(node.number()).erase(node);
    }

private:
    static constexpr std::size_t buckets = 128;
    using bucket_list = list<Node, &Node::table_hook>;

    [[nodiscard]] bucket_list& bucket(std::uint64_t number) noexcept { return table_[number % buckets]; }
    [[nodiscard]] ref<Node> find_locked(std::uint64_t number) noexcept
    {
        for (Node& n : bucket(number))
            if (n.number() == number && n.try_acquire())
                return ref<Node>::adopt(&n);
        return {};
    }

    sync::spin_lock<sync::lock_rank::inode_table, sync::any_parker> lock_;
    sync::any_parker& parker_;
    bucket_list table_[buckets];
};

} // namespace exo::fs
