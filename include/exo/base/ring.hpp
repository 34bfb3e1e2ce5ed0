// Intrusive ring: elements in a circle, one of which is the first. For queues whose first element keeps becoming the
// last: nothing is written for that but which one is the first.
//
// Hooks and what is checked: as of list.hpp.

#pragma once

#include <exo/base/check.hpp>
#include <exo/base/list.hpp>

namespace exo {

template <class T, list_hook T::*Hook>
class ring {
public:
    ring() = default;
    ring(const ring&) = delete;
    ring& operator=(const ring&) = delete;
    ~ring() { EXO_CHECK(empty()); }

    [[nodiscard]] bool empty() const { return first_ == nullptr; }
    [[nodiscard]] T* front() { return first_; }
    [[nodiscard]] const T* back() const { return empty() ? nullptr : &owner(*(first_->*Hook).previous_); }

    void push_back(T& element)
    {
        list_hook& hook = element.*Hook;
        if (!empty())
            return links::link(hook, *(first_->*Hook).previous_);
        EXO_CHECK(!hook.linked());
        hook.next_ = hook.previous_ = &hook;
        first_ = &element;
    }
    void push_front(T& element)
    {
        push_back(element);
        first_ = &element;
    }
    // `position` is on this ring.
    void insert_after(T& position, T& element) { links::link(element.*Hook, position.*Hook); }

    // `element` is on this ring.
    void erase(T& element)
    {
        list_hook& hook = element.*Hook;
        EXO_CHECK(hook.linked());
        if (first_ == &element)
            first_ = hook.next_ == &hook ? nullptr : &owner(*hook.next_);
        links::unlink(hook);
    }

    // The first element becomes the last. The ring is not empty.
    void rotate()
    {
        EXO_CHECK(!empty());
        first_ = &owner(*(first_->*Hook).next_);
    }

    // Calls visitor(element) from the first to the last, until it returns false; whether it never did. No element is
    // taken off meanwhile.
    template <class Visitor>
    bool visit(Visitor&& visitor)
    {
        T* at = first_;
        if (at)
            do {
                if (!visitor(*at))
                    return false;
                at = &owner(*(at->*Hook).next_);
            } while (at != first_);
        return true;
    }

private:
    using links = list<T, Hook>;
    static T& owner(list_hook& hook) { return links::owner(hook); }

    T* first_{};
};

} // namespace exo
