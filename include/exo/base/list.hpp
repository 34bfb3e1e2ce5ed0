// Intrusive doubly linked list: the links live in the elements, so nothing allocates and nothing fails.
//
// An element is on at most one list per hook. Insertion checks that it is on none, a hook's destructor that it was
// taken off.

#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>

#include <exo/base/check.hpp>

namespace exo {

class list_hook {
public:
    list_hook() = default;
    list_hook(const list_hook&) = delete;
    list_hook& operator=(const list_hook&) = delete;
    ~list_hook() { EXO_CHECK(!linked()); }

    [[nodiscard]] bool linked() const { return next_ != nullptr; }

private:
    template <class T, list_hook T::*Hook>
    friend class list;
    template <class T, list_hook T::*Hook>
    friend class ring;

    list_hook* next_{};
    list_hook* previous_{};
};

template <class T, list_hook T::*Hook>
class ring;

template <class T, list_hook T::*Hook>
class list {
public:
    class iterator {
    public:
        using value_type = T;
        using difference_type = std::ptrdiff_t;
        using reference = T&;
        using pointer = T*;
        using iterator_category = std::forward_iterator_tag;

        iterator() = default;
        T& operator*() const { return owner(*at_); }
        T* operator->() const { return &owner(*at_); }
        iterator& operator++()
        {
            at_ = at_->next_;
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
        friend class list;
        explicit iterator(list_hook* at) : at_{at} {}
        list_hook* at_{};
    };

    list() { head_.next_ = head_.previous_ = &head_; }
    list(const list&) = delete;
    list& operator=(const list&) = delete;
    ~list()
    {
        EXO_CHECK(empty());
        head_.next_ = nullptr;
    }

    [[nodiscard]] bool empty() const { return head_.next_ == &head_; }
    [[nodiscard]] T* front() { return empty() ? nullptr : &owner(*head_.next_); }
    [[nodiscard]] T* back() { return empty() ? nullptr : &owner(*head_.previous_); }
    [[nodiscard]] const T* back() const { return empty() ? nullptr : &owner(*head_.previous_); }

    void push_front(T& element) { link(element.*Hook, head_); }
    void push_back(T& element) { link(element.*Hook, *head_.previous_); }

    // `element` is on this list.
    void erase(T& element)
    {
        EXO_CHECK((element.*Hook).linked());
        unlink(element.*Hook);
    }
    [[nodiscard]] T* pop_front()
    {
        T* element = front();
        if (element)
            erase(*element);
        return element;
    }

    // Moves every element of `other` to the end of this list, in order.
    void splice_back(list& other)
    {
        if (other.empty())
            return;
        list_hook* first = other.head_.next_;
        list_hook* last = other.head_.previous_;
        first->previous_ = head_.previous_;
        head_.previous_->next_ = first;
        last->next_ = &head_;
        head_.previous_ = last;
        other.head_.next_ = other.head_.previous_ = &other.head_;
    }

    // Erasing the element that an iterator stands on invalidates that iterator only.
    [[nodiscard]] iterator begin() { return iterator{head_.next_}; }
    [[nodiscard]] iterator end() { return iterator{&head_}; }

private:
    friend class ring<T, Hook>;

    static T& owner(list_hook& hook)
    {
        // The offset of the hook in T, folded to a constant; any address aligned for T does to measure it from.
        constexpr std::uintptr_t anywhere = alignof(T);
        const auto offset = reinterpret_cast<std::uintptr_t>(&(reinterpret_cast<T*>(anywhere)->*Hook)) - anywhere;
        return *reinterpret_cast<T*>(reinterpret_cast<char*>(&hook) - offset);
    }
    static void unlink(list_hook& hook)
    {
        hook.previous_->next_ = hook.next_;
        hook.next_->previous_ = hook.previous_;
        hook.next_ = hook.previous_ = nullptr;
    }
    static void link(list_hook& hook, list_hook& after)
    {
        EXO_CHECK(!hook.linked());
        hook.previous_ = &after;
        hook.next_ = after.next_;
        after.next_->previous_ = &hook;
        after.next_ = &hook;
    }

    list_hook head_;
};

} // namespace exo
