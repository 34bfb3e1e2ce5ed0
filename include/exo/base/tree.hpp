// Intrusive balanced tree: elements in the order of a key that a projection reads from them. The links live in the
// elements, so nothing allocates and nothing fails.
//
// `Key` is a data member, a member function, or a function object of T; keys compare with <. Elements with equal keys
// stand in the order of insertion. A key does not change while its element is in a tree. An AVL tree (Adelson-Velsky
// and Landis 1962): insert, erase and searches take time logarithmic in the size, first() and last() constant time.
//
// A tree may be augmented (Cormen et al., Introduction to Algorithms, chapter 14): each element keeps a summary of what
// stands below it, and searches of the user's own descend by that. summarize(element, left, right) computes the summary
// of an element from itself and its children, which may be null, and tells whether it changed.

#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <type_traits>

#include <exo/base/check.hpp>

namespace exo {

class tree_hook {
public:
    tree_hook() = default;
    tree_hook(const tree_hook&) = delete;
    tree_hook& operator=(const tree_hook&) = delete;
    ~tree_hook() { EXO_CHECK(!linked()); }

    [[nodiscard]] bool linked() const { return height_ != 0; }

private:
    friend class tree_links;

    tree_hook* parent_{};
    tree_hook* left_{};
    tree_hook* right_{};
    std::uint8_t height_{}; // of the subtree whose root this is; 0 outside a tree
};

// The shape of a tree, whatever its elements are. A Summary keeps what elements know of their subtrees: update(hook)
// computes it anew from the children and tells whether it changed.
struct no_summary {
    static bool update(tree_hook&) { return false; }
};
class tree_links {
public:
    tree_links() = default;
    tree_links(const tree_links&) = delete;
    tree_links& operator=(const tree_links&) = delete;
    ~tree_links() { EXO_CHECK(root_ == nullptr); }

protected:
    static tree_hook* left(const tree_hook* at) { return at->left_; }
    static tree_hook* right(const tree_hook* at) { return at->right_; }

    static tree_hook* leftmost(tree_hook* at)
    {
        while (at && at->left_)
            at = at->left_;
        return at;
    }
    static tree_hook* rightmost(tree_hook* at)
    {
        while (at && at->right_)
            at = at->right_;
        return at;
    }
    static tree_hook* successor(tree_hook* at)
    {
        if (at->right_)
            return leftmost(at->right_);
        while (at->parent_ && at == at->parent_->right_)
            at = at->parent_;
        return at->parent_;
    }
    static tree_hook* predecessor(tree_hook* at)
    {
        if (at->left_)
            return rightmost(at->left_);
        while (at->parent_ && at == at->parent_->left_)
            at = at->parent_;
        return at->parent_;
    }

    // `hook` becomes the left or right child of `parent`, which has none there; the root when `parent` is null.
    template <class Summary = no_summary>
    [[gnu::hot]] void link(tree_hook& hook, tree_hook* parent, bool to_left)
    {
        EXO_CHECK(!hook.linked());
        hook.parent_ = parent;
        hook.height_ = 1;
        if (!parent) {
            root_ = first_ = last_ = &hook;
        } else if (to_left) {
            parent->left_ = &hook;
            if (parent == first_)
                first_ = &hook;
        } else {
            parent->right_ = &hook;
            if (parent == last_)
                last_ = &hook;
        }
        Summary::update(hook);
        rebalance<Summary>(parent);
    }

    template <class Summary = no_summary>
    [[gnu::hot]] void unlink(tree_hook& hook)
    {
        EXO_CHECK(hook.linked());
        if (first_ == &hook)
            first_ = successor(&hook);
        if (last_ == &hook)
            last_ = predecessor(&hook);

        tree_hook* lowest_changed = hook.parent_;
        tree_hook* heir = nullptr;
        if (hook.left_ && hook.right_) {
            heir = leftmost(hook.right_);
            lowest_changed = heir->parent_ == &hook ? heir : heir->parent_;
            replace(*heir, heir->right_);
            heir->height_ = hook.height_;
            adopt_left(*heir, hook.left_);
            adopt_right(*heir, hook.right_);
            replace(hook, heir);
        } else {
            replace(hook, hook.left_ ? hook.left_ : hook.right_);
        }
        hook.parent_ = hook.left_ = hook.right_ = nullptr;
        hook.height_ = 0;
        rebalance<Summary>(lowest_changed);
        if (heir) {
            // What is above it knows the summary of the one whose place it took.
            Summary::update(*heir);
            update_upward<Summary>(heir->parent_);
        }
    }

    // From `at` upward, as far as it changes.
    template <class Summary>
    static void update_upward(tree_hook* at)
    {
        while (at && Summary::update(*at))
            at = at->parent_;
    }

    tree_hook* root_{};
    tree_hook* first_{};
    tree_hook* last_{};

private:
    static int height(const tree_hook* at) { return at ? at->height_ : 0; }
    static void measure(tree_hook& at)
    {
        const int l = height(at.left_);
        const int r = height(at.right_);
        at.height_ = static_cast<std::uint8_t>((l > r ? l : r) + 1);
    }

    static void adopt_left(tree_hook& parent, tree_hook* child)
    {
        parent.left_ = child;
        if (child)
            child->parent_ = &parent;
    }
    static void adopt_right(tree_hook& parent, tree_hook* child)
    {
        parent.right_ = child;
        if (child)
            child->parent_ = &parent;
    }
    // `other` (may be null) takes the place of `at` below its parent.
    void replace(tree_hook& at, tree_hook* other)
    {
        if (!at.parent_)
            root_ = other;
        else
            (at.parent_->left_ == &at ? at.parent_->left_ : at.parent_->right_) = other;
        if (other)
            other->parent_ = at.parent_;
    }

    // The left child takes the place of `at`, which becomes its right child.
    template <class Summary>
    tree_hook* rotate_right(tree_hook& at)
    {
        tree_hook& up = *at.left_;
        replace(at, &up);
        adopt_left(at, up.right_);
        adopt_right(up, &at);
        measure(at);
        measure(up);
        Summary::update(at);
        Summary::update(up);
        return &up;
    }
    template <class Summary>
    tree_hook* rotate_left(tree_hook& at)
    {
        tree_hook& up = *at.right_;
        replace(at, &up);
        adopt_right(at, up.left_);
        adopt_left(up, &at);
        measure(at);
        measure(up);
        Summary::update(at);
        Summary::update(up);
        return &up;
    }

    // Restores heights, balance and summaries from `at` upward, as far as they change.
    template <class Summary>
    [[gnu::hot]] void rebalance(tree_hook* at)
    {
        for (; at; at = at->parent_) {
            const auto before = at->height_;
            bool changed = !std::is_same_v<Summary, no_summary>;
            const int lean = height(at->left_) - height(at->right_);
            if (lean > 1) {
                if (height(at->left_->left_) < height(at->left_->right_))
                    rotate_left<Summary>(*at->left_);
                at = rotate_right<Summary>(*at);
            } else if (lean < -1) {
                if (height(at->right_->right_) < height(at->right_->left_))
                    rotate_right<Summary>(*at->right_);
                at = rotate_left<Summary>(*at);
            } else {
                measure(*at);
                changed = Summary::update(*at);
            }
            if (at->height_ == before && !changed)
                return;
        }
    }
};

template <class T, tree_hook T::*Hook, auto Key, auto summarize = nullptr>
class tree : private tree_links {
public:
    class iterator {
    public:
        using value_type = T;
        using difference_type = std::ptrdiff_t;
        using reference = T&;
        using pointer = T*;
        using iterator_category = std::forward_iterator_tag;

        iterator() = default;
        T& operator*() const { return *at_; }
        T* operator->() const { return at_; }
        iterator& operator++()
        {
            at_ = next(*at_);
            return *this;
        }
        iterator operator++(int)
        {
            iterator old = *this;
            ++*this;
            return old;
        }
        friend bool operator==(iterator, iterator) = default;

    private:
        friend class tree;
        explicit iterator(T* at) : at_{at} {}
        T* at_{};
    };

    // The tree does not own its elements: a const tree still hands them out as they are.
    [[nodiscard]] bool empty() const { return root_ == nullptr; }
    [[nodiscard]] T* first() const { return owner(first_); }
    [[nodiscard]] T* last() const { return owner(last_); }
    // The neighbour of an element that is in a tree, or null at the end.
    [[nodiscard]] static T* next(T& element) { return owner(successor(&(element.*Hook))); }
    [[nodiscard]] static T* previous(T& element) { return owner(predecessor(&(element.*Hook))); }

    // `element` is in no tree by this hook.
    [[gnu::hot]] void insert(T& element)
    {
        decltype(auto) added = key(element);
        tree_hook* parent = last_;
        bool to_left = false;
        // Many go behind all others: later deadlines, higher numbers.
        if (parent && added < key(*owner(parent))) {
            for (tree_hook* at = root_; at; at = to_left ? left(at) : right(at)) {
                parent = at;
                to_left = added < key(*owner(at));
            }
        }
        link<summary>(element.*Hook, parent, to_left);
    }
    // `element` is in this tree.
    void erase(T& element) { unlink<summary>(element.*Hook); }
    [[nodiscard]] T* pop_first()
    {
        T* element = first();
        if (element)
            erase(*element);
        return element;
    }

    // For searches by summary: what stands below an element, null where nothing does.
    [[nodiscard]] T* root() const { return owner(root_); }
    [[nodiscard]] static T* left_of(const T& element) { return owner(left(&(element.*Hook))); }
    [[nodiscard]] static T* right_of(const T& element) { return owner(right(&(element.*Hook))); }
    // What `element`, which is in a tree, adds to summaries has changed.
    static void resummarize(T& element) { update_upward<summary>(&(element.*Hook)); }

    // The first element whose key is not less than `k`, or null.
    template <class K>
    [[nodiscard]] T* lower_bound(const K& k) const
    {
        return bound([&](const T& element) { return !(key(element) < k); });
    }
    // The first element whose key is greater than `k`, or null.
    template <class K>
    [[nodiscard]] T* upper_bound(const K& k) const
    {
        return bound([&](const T& element) { return k < key(element); });
    }
    // The first element whose key equals `k`, or null.
    template <class K>
    [[nodiscard]] T* find(const K& k) const
    {
        T* element = lower_bound(k);
        return element && !(k < key(*element)) ? element : nullptr;
    }

    // Erasing the element that an iterator stands on invalidates that iterator only.
    [[nodiscard]] iterator begin() const { return iterator{first()}; }
    [[nodiscard]] iterator end() const { return iterator{}; }

private:
    struct summary_of_elements {
        static bool update(tree_hook& hook)
        {
            return summarize(*owner(&hook), owner(left(&hook)), owner(right(&hook)));
        }
    };
    using summary = std::conditional_t<std::is_null_pointer_v<decltype(summarize)>, no_summary, summary_of_elements>;

    static decltype(auto) key(const T& element)
    {
        if constexpr (std::is_member_function_pointer_v<decltype(Key)>)
            return (element.*Key)();
        else if constexpr (std::is_member_object_pointer_v<decltype(Key)>)
            return (element.*Key);
        else
            return Key(element);
    }

    // The first element for which `reached` holds; it holds for every element after one for which it does.
    template <class Reached>
    T* bound(Reached reached) const
    {
        tree_hook* found = nullptr;
        for (tree_hook* at = root_; at;) {
            if (reached(*owner(at))) {
                found = at;
                at = left(at);
            } else {
                at = right(at);
            }
        }
        return owner(found);
    }

    static T* owner(tree_hook* hook)
    {
        if (!hook)
            return nullptr;
        // The offset of the hook in T, folded to a constant; any address aligned for T does to measure it from.
        constexpr std::uintptr_t anywhere = alignof(T);
        const auto offset = reinterpret_cast<std::uintptr_t>(&(reinterpret_cast<T*>(anywhere)->*Hook)) - anywhere;
        return reinterpret_cast<T*>(reinterpret_cast<char*>(hook) - offset);
    }
};

} // namespace exo
