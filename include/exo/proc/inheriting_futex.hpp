// Futexes whose owner inherits the urgency of who waits for them (FUTEX_LOCK_PI and its like; Linux:
// Documentation/locking/pi-futex.rst). The word holds the number of the thread that has the lock.
//
// While nobody waits, the word is all there is, and programs take and release it by themselves. Who finds it taken
// marks it, which brings its owner here to let go, and waits for a lock of the kernel's that stands for it: that one
// goes from owner to owner, and the word follows. The kernel's lock is there as long as somebody waits. The word is the
// program's, and may hold anything at any time: what it says of its owner is believed once, when the kernel's lock is
// made.
//
// A few buckets serve all programs, and what a page of one comes from may be slow: whoever has a bucket looks at a word
// only if it is present. Else it lets go, brings the page in, and begins again.

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include <exo/base/address.hpp>
#include <exo/base/allocator.hpp>
#include <exo/base/check.hpp>
#include <exo/base/errors.hpp>
#include <exo/base/list.hpp>
#include <exo/base/result.hpp>
#include <exo/base/time.hpp>
#include <exo/proc/errors.hpp>
#include <exo/proc/futex.hpp>
#include <exo/proc/process.hpp>
#include <exo/proc/process_table.hpp>
#include <exo/proc/robust_list.hpp>
#include <exo/proc/thread.hpp>
#include <exo/proc/user_copy.hpp>
#include <exo/sched/errors.hpp>
#include <exo/sched/inheriting_mutex.hpp>
#include <exo/sync/lock_rank.hpp>

namespace exo::proc {

template <class System>
class inheriting_futex_table {
    using thread_type = thread<System>;

public:
    explicit inheriting_futex_table(System& system) : system_{system} {}

    // The calling thread has the lock from here on. Errors: sched::errors::would_deadlock (of itself), timed_out,
    // interrupted_to_restart, no_process (of the number in the word), bad_address, out_of_memory.
    [[nodiscard]] result<> lock(thread_type& t, user_addr word, futex_key key, instant deadline)
    {
        bucket& b = bucket_of(key);
        for (;;) {
            contended_futex* const f = EXO_TRY(take_or_wait(t, b, word, key, deadline));
            if (!f)
                return {};
            const auto acquired = f->lock.acquire(system_.scheduler(), deadline, true);
            result<bool> taken = true;
            if (acquired)
                taken = with_word(t, b, word, [&] { return become_owner(t, *f, word); });
            auto guard = enter(b);
            if (acquired && !taken)
                f->lock.release(system_.scheduler());
            --f->waiters;
            drop_if_unused(b, *f);
            if (!acquired)
                return fail(about(t, acquired.error()));
            if (EXO_TRY(std::move(taken)))
                return {};
        }
    }

    // Errors: sched::errors::would_deadlock, would_block, bad_address.
    [[nodiscard]] result<> try_lock(thread_type& t, user_addr word, futex_key key)
    {
        bucket& b = bucket_of(key);
        return with_word(t, b, word, [&]() -> result<> {
            for (;;) {
                const auto value = EXO_TRY(read(word));
                if ((value & futex_word::owner) == number(t))
                    return fail(sched::errors::would_deadlock, number(t));
                const contended_futex* const f = b.find(key);
                if ((value & futex_word::owner) != 0 || (f && f->lock.held()))
                    return fail(errors::would_block);
                if (EXO_TRY(exchange(word, value, number(t) | (value & futex_word::owner_died))))
                    return {};
            }
        });
    }

    // Errors: sched::errors::not_owner, invalid_argument (the kernel knows another owner), bad_address.
    [[nodiscard]] result<> unlock(thread_type& t, user_addr word, futex_key key)
    {
        bucket& b = bucket_of(key);
        std::optional<std::uint32_t> said; // in the word, of an heir that has given up its wait since
        return with_word(t, b, word, [&]() -> result<> {
            for (;;) {
                const auto value = EXO_TRY(read(word));
                if (said ? value != *said : (value & futex_word::owner) != number(t))
                    return said ? fail(errors::invalid_argument, value)
                                : fail(sched::errors::not_owner, value & futex_word::owner);
                contended_futex* f = b.find(key);
                if (f && f->owner && f->owner != &t)
                    return fail(errors::invalid_argument, value);
                if (f && !f->owner)
                    f = nullptr; // it has been taken without the kernel; who waits there will see
                // Nobody finds it free while somebody waits. Who is about to give up its wait comes by here first.
                auto* const next = f ? f->lock.next(system_.scheduler()) : nullptr;
                auto* const heir = next ? static_cast<thread_type*>(next->owner) : nullptr;
                const std::uint32_t left = heir ? number(*heir) | futex_word::waiters : 0;
                if (!EXO_TRY(exchange(word, value, left)))
                    continue;
                if (!f)
                    return {};
                if (!heir) {
                    f->lock.release(system_.scheduler()); // who comes now finds that nobody has said so
                } else if (!f->lock.release_to(system_.scheduler(), next)) {
                    said = left;
                    continue;
                }
                --t.inheriting_futexes;
                f->owner = heir;
                if (heir)
                    ++heir->inheriting_futexes;
                return {};
            }
        });
    }

    // By release_futexes: the thread ends with what it has.
    void release_all(thread_type& t)
    {
        {
            auto guard = t.process().lock();
            t.futexes_released = true; // and gets no more
        }
        for (bucket& b : buckets_) {
            if (t.inheriting_futexes == 0)
                return;
            auto guard = enter(b);
            for (contended_futex& f : b.futexes)
                if (f.owner == &t) {
                    --t.inheriting_futexes;
                    f.owner = nullptr;
                    f.owner_died = true;
                    f.lock.release(system_.scheduler());
                }
        }
    }

    // Whether anybody waits: a snapshot, for checks.
    [[nodiscard]] bool any()
    {
        for (bucket& b : buckets_)
            if (auto guard = enter(b); !b.futexes.empty())
                return true;
        return false;
    }

private:
    using mutex_type = sched::inheriting_mutex<typename System::scheduler_type, sync::lock_rank::futexes>;

    // One that somebody waits for; under its bucket's lock.
    struct contended_futex {
        futex_key key{};
        mutex_type lock{};
        thread_type* owner{};    // which counts it; null if it has ended, or nobody has it
        std::uint32_t waiters{}; // or on their way back
        bool owner_died{};       // as the next one will find in the word
        list_hook hook{};
    };
    struct bucket {
        mutex_type mutex; // whoever has it is as urgent as who waits for it
        list<contended_futex, &contended_futex::hook> futexes;

        contended_futex* find(futex_key key)
        {
            for (contended_futex& f : futexes)
                if (f.key == key)
                    return &f;
            return nullptr;
        }
    };
    static constexpr std::size_t bucket_count = 16;

    bucket& bucket_of(const futex_key& key) { return buckets_[futex_hash(key) % bucket_count]; }
    [[nodiscard]] typename mutex_type::guard enter(bucket& b)
    {
        auto taken = b.mutex.lock(system_.scheduler());
        EXO_CHECK(taken.has_value()); // who has it waits for no other
        return std::move(*taken);
    }
    static std::uint32_t number(const thread_type& t) { return static_cast<std::uint32_t>(t.id()); }

    // Has step() look at the word and change it, under the bucket's lock; again from the start when that did not reach
    // it but the page could be brought in.
    template <class Step>
    [[nodiscard]] auto with_word(thread_type& t, bucket& b, user_addr word, Step step) -> decltype(step())
    {
        for (;;) {
            {
                auto guard = enter(b);
                const present_memory_only present{t};
                auto done = step();
                if (done || done.error() != errors::bad_address)
                    return done;
            }
            (void)EXO_TRY(compare_exchange_user(system_, word, 0, 0));
        }
    }
    [[nodiscard]] result<std::uint32_t> read(user_addr word)
    {
        std::uint32_t value = 0;
        if (copy_from_user(system_, reinterpret_cast<std::byte*>(&value), word, sizeof value) != sizeof value)
            return fail(errors::bad_address, word.value());
        return value;
    }
    // An error of the wait of `t`, as its caller is told.
    static error about(const thread_type& t, error e)
    {
        if (e == sched::errors::would_deadlock)
            return {sched::errors::would_deadlock, number(t)};
        return e == errors::interrupted ? error{errors::interrupted_to_restart} : e;
    }
    // False if the word holds something else.
    [[nodiscard]] result<bool> exchange(user_addr word, std::uint32_t expected, std::uint32_t desired)
    {
        return EXO_TRY(compare_exchange_user(system_, word, expected, desired)) == expected;
    }

    // Null: it was free, and is the caller's. Else one that the caller is counted among the waiters of.
    [[nodiscard]] result<contended_futex*> take_or_wait(thread_type& t, bucket& b, user_addr word, futex_key key,
                                                        instant deadline)
    {
        for (;;) {
            contended_futex* f = nullptr;
            if (!EXO_TRY(with_word(t, b, word, [&] { return try_to_take(t, b, word, key, f); })))
                return f;
            if (system_.parker().interrupted())
                return fail(errors::interrupted_to_restart);
            if (deadline != instant::never() && system_.now() >= deadline)
                return fail(errors::timed_out);
            system_.parker().park(system_.now() + milliseconds(1));
        }
    }
    // Sets `f` if the caller is to wait there. True: its owner is ending, and about to say so in the word, or has its
    // number no more.
    [[nodiscard]] result<bool> try_to_take(thread_type& t, bucket& b, user_addr word, futex_key key,
                                           contended_futex*& f)
    {
        for (;;) {
            const auto value = EXO_TRY(read(word));
            const std::uint32_t owner = value & futex_word::owner;
            if (owner == number(t))
                return fail(sched::errors::would_deadlock, number(t));
            contended_futex* const found = b.find(key);
            if (found && found->lock.held()) {
                ++found->waiters;
                f = found;
                return false;
            }
            if (owner == 0) {
                if (EXO_TRY(exchange(word, value, number(t) | (value & futex_word::owner_died))))
                    return false;
                continue;
            }
            const std::uint32_t marked = value | futex_word::waiters;
            if (!EXO_TRY(exchange(word, value, marked)))
                continue;
            owned<contended_futex> made;
            if (!found) {
                made = EXO_TRY(make_owned<contended_futex>(system_.heap()));
                made->key = key;
            }
            contended_futex& wanted = found ? *found : *made;
            switch (give(wanted, static_cast<process_id>(owner))) {
            case finding::living:
                ++wanted.waiters;
                f = &wanted;
                if (made)
                    b.futexes.push_back(*made.release());
                return false;
            case finding::ending:
                return true;
            case finding::none:
                if (EXO_TRY(read(word)) == marked)
                    return fail(errors::no_process, owner);
            }
        }
    }
    void drop_if_unused(bucket& b, contended_futex& f)
    {
        if (f.waiters != 0)
            return;
        if (f.owner) {
            f.lock.take_away();
            --f.owner->inheriting_futexes;
        }
        b.futexes.erase(f);
        delete_object(system_.heap(), &f);
    }

    enum class finding : std::uint8_t { none, ending, living };
    // The lock is that thread's, if there is one and it still lets go of what it has.
    [[nodiscard]] finding give(contended_futex& f, process_id owner)
    {
        auto guard = system_.processes().lock();
        thread_type* const t = system_.processes().find_thread(guard, owner);
        if (!t)
            return finding::none;
        auto locked = t->process().lock();
        if (t->futexes_released)
            return finding::ending;
        if (f.lock.give(t->task)) { // else somebody who waited was faster, and will find that out
            ++t->inheriting_futexes;
            f.owner = t;
        }
        return finding::living;
    }
    // The calling thread, one of those that wait, has the kernel's lock; the word is to say so. False if it says that
    // another thread, which did not ask the kernel, has been faster. Keeps the lock if others wait.
    [[nodiscard]] result<bool> become_owner(thread_type& t, contended_futex& f, user_addr word)
    {
        if (f.owner == &t) // whoever let go has said so
            return true;
        for (;;) {
            const auto value = EXO_TRY(read(word));
            const bool taken = (value & futex_word::owner) == 0 || f.owner_died;
            const bool others = f.waiters > 1;
            const std::uint32_t died = f.owner_died ? futex_word::owner_died : value & futex_word::owner_died;
            if (taken && !EXO_TRY(exchange(word, value, number(t) | died | (others ? futex_word::waiters : 0))))
                continue;
            if (taken)
                f.owner_died = false;
            if (taken && others) {
                f.owner = &t;
                ++t.inheriting_futexes;
            } else {
                f.lock.release(system_.scheduler());
            }
            return taken;
        }
    }

    System& system_;
    bucket buckets_[bucket_count];
};

} // namespace exo::proc
