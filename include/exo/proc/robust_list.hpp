// What a thread leaves behind in the memory that it shares, when it ends or executes: the locks that it holds, which it
// has named in a list (set_robust_list(2); Linux: Documentation/locking/robust-futex-ABI.rst), and the word that says
// that it lives (set_tid_address(2)).
//
// The list is the program's, which may have made anything of it: it is followed a bounded way, and what cannot be
// reached or does not say that it is this thread's is left alone.

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include <exo/base/address.hpp>
#include <exo/proc/futex.hpp>
#include <exo/proc/process.hpp>
#include <exo/proc/thread.hpp>
#include <exo/proc/user_copy.hpp>

namespace exo::proc {

// What is in the word of a lock that such a list names, or that is taken by FUTEX_LOCK_PI.
namespace futex_word {
inline constexpr std::uint32_t waiters = 0x80000000, owner_died = 0x40000000, owner = 0x3fffffff;
} // namespace futex_word

struct robust_list_head {
    std::uint64_t first;   // of links, each the address of the next; the last is that of the head. Bit 0: a lock by
                           // FUTEX_LOCK_PI
    std::int64_t offset;   // from a link to its lock's word
    std::uint64_t pending; // a link that is about to come or go
};

template <class System>
class futex_release {
public:
    explicit futex_release(thread<System>& t) : thread_{t} {}

    void walk(user_addr head)
    {
        constexpr unsigned most_locks = 2048;
        const auto list = read<robust_list_head>(head);
        if (!list)
            return;
        std::uint64_t link = list->first;
        for (unsigned i = 0; i < most_locks && address(link) != head; ++i) {
            // First: once it is let go, the lock may be gone with its link.
            const auto next = read<std::uint64_t>(address(link));
            if (address(link) != address(list->pending) && !give_up(link, list->offset, false))
                return;
            if (!next)
                return;
            link = *next;
        }
        if (address(list->pending).value() != 0)
            (void)give_up(list->pending, list->offset, true);
    }
    void wake_one(user_addr word)
    {
        System& system = thread_.system();
        if (const auto key = futex_key_of(thread_.process().image().space(), word, false))
            system.futexes().wake(system.parker(), *key, ~std::uint32_t{0}, 1);
    }

private:
    static user_addr address(std::uint64_t link) { return user_addr{link & ~std::uint64_t{1}}; }

    template <class T>
    [[nodiscard]] std::optional<T> read(user_addr from)
    {
        T value{};
        if (copy_from_user(thread_.system(), reinterpret_cast<std::byte*>(&value), from, sizeof value) != sizeof value)
            return std::nullopt;
        return value;
    }
    // False: the list is not to be trusted any further.
    [[nodiscard]] bool give_up(std::uint64_t link, std::int64_t offset, bool pending)
    {
        const bool inheriting = (link & 1) != 0;
        const user_addr word{address(link).value() + static_cast<std::uint64_t>(offset)};
        if (!word.is_aligned(sizeof(std::uint32_t)))
            return false;
        auto found = read<std::uint32_t>(word);
        if (!found)
            return false;
        for (;;) {
            const std::uint32_t owner = *found & futex_word::owner;
            // It was let go of, but perhaps nobody told yet.
            if (pending && !inheriting && owner == 0) {
                wake_one(word);
                return true;
            }
            if (owner != static_cast<std::uint32_t>(thread_.id()))
                return true;
            const auto seen = compare_exchange_user(thread_.system(), word, *found,
                                                    (*found & futex_word::waiters) | futex_word::owner_died);
            if (!seen)
                return false;
            if (*seen == *found)
                break;
            found = *seen;
        }
        if (!inheriting && (*found & futex_word::waiters) != 0)
            wake_one(word);
        return true;
    }

    thread<System>& thread_;
};

// By the thread itself, while its memory is still there.
template <class System>
void release_futexes(thread<System>& t)
{
    futex_release<System> release{t};
    const user_addr list = std::exchange(t.robust_list, {});
    const user_addr id = std::exchange(t.clear_id_at_exit, {});
    if (list.value() != 0)
        release.walk(list);
    t.system().inheriting_futexes().release_all(t);
    // Nobody else looks at the memory of the last thread.
    if (id.value() != 0 && (!t.process().has_one_thread() || t.process().image().is_shared())) {
        constexpr std::uint32_t none = 0;
        (void)copy_to_user(t.system(), id, reinterpret_cast<const std::byte*>(&none), sizeof none);
        release.wake_one(id);
    }
}

} // namespace exo::proc
