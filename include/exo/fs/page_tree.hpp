// Words by page number: where the pages of a file are kept. A radix tree of 64-way nodes, as high as the largest number
// asks for.
//
// A word of 0 means absent. Not locked: its owner does that. Allocation happens in make() only.

#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include <exo/base/allocator.hpp>
#include <exo/base/result.hpp>

namespace exo::fs {

class page_tree {
public:
    using word = std::uintptr_t;

    explicit page_tree(allocator& heap) : heap_{heap} {}
    page_tree(const page_tree&) = delete;
    page_tree& operator=(const page_tree&) = delete;
    ~page_tree() { destroy(root_, height_); }

    // Where the word of `index` stands, or null if there has never been one nearby.
    [[nodiscard]] word* find(std::uint64_t index) const noexcept
    {
        if (!covers(index))
            return nullptr;
        node* at = root_;
        for (unsigned level = height_; level > 1 && at; --level)
            at = child(*at, slot_of(index, level));
        return at ? &at->words[slot_of(index, 1)] : nullptr;
    }

    // The same, with room made for it. What was made stays if it is not used. Errors: out_of_memory.
    [[nodiscard]] result<word*> make(std::uint64_t index)
    {
        if (!root_) {
            root_ = EXO_TRY(new_object<node>(heap_));
            height_ = 1;
        }
        while (!covers(index)) {
            node* const higher = EXO_TRY(new_object<node>(heap_));
            higher->words[0] = reinterpret_cast<word>(root_);
            root_ = higher;
            ++height_;
        }
        node* at = root_;
        for (unsigned level = height_; level > 1; --level) {
            word& down = at->words[slot_of(index, level)];
            if (down == 0)
                down = reinterpret_cast<word>(EXO_TRY(new_object<node>(heap_)));
            at = reinterpret_cast<node*>(down);
        }
        return &at->words[slot_of(index, 1)];
    }

    // Calls `visit(index, word&)` for each word that is present, from `first` on, in order, until it returns false.
    template <class Visit>
    void for_each(std::uint64_t first, Visit visit)
    {
        if (root_ && covers(first))
            walk(*root_, height_, 0, first, visit);
    }

private:
    static constexpr unsigned bits = 6;
    static constexpr std::size_t fan_out = std::size_t{1} << bits;

    struct node {
        word words[fan_out]{};
    };

    [[nodiscard]] bool covers(std::uint64_t index) const noexcept
    {
        const unsigned covered = height_ * bits;
        return height_ != 0 && (covered >= 64 || (index >> covered) == 0);
    }
    [[nodiscard]] static std::size_t slot_of(std::uint64_t index, unsigned level) noexcept
    {
        return static_cast<std::size_t>(index >> ((level - 1) * bits)) & (fan_out - 1);
    }
    [[nodiscard]] static node* child(const node& at, std::size_t slot) noexcept
    {
        return reinterpret_cast<node*>(at.words[slot]);
    }

    template <class Visit>
    static bool walk(node& at, unsigned level, std::uint64_t base, std::uint64_t first, Visit& visit)
    {
        for (std::size_t slot = 0; slot < fan_out; ++slot) {
            const std::uint64_t begin = base + (std::uint64_t{slot} << ((level - 1) * bits));
            const std::uint64_t last = begin + ((std::uint64_t{1} << ((level - 1) * bits)) - 1);
            if (last < first || at.words[slot] == 0)
                continue;
            const bool goes_on = level == 1 ? visit(begin, at.words[slot])
                                            : walk(*child(at, slot), level - 1, begin, first, visit);
            if (!goes_on)
                return false;
        }
        return true;
    }

    void destroy(node* at, unsigned level) noexcept
    {
        if (!at)
            return;
        for (std::size_t slot = 0; level > 1 && slot < fan_out; ++slot)
            destroy(child(*at, slot), level - 1);
        delete_object(heap_, at);
    }

    allocator& heap_;
    node* root_{};
    unsigned height_{};
};

} // namespace exo::fs
