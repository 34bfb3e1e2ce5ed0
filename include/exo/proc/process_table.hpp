// Every process and thread of a kernel, by number, and the lock under which their tree, groups and sessions change.
//
// The table holds a reference to each process in it; the first thread of each has its number, which stays with the
// process. Numbers are handed out in turn, and none that still names a process, a thread, a group or a session.
// Functions that take a guard are called with the table locked, and their pointers are good until it is unlocked.

#pragma once

#include <cstddef>
#include <utility>

#include <exo/base/ref.hpp>
#include <exo/base/result.hpp>
#include <exo/base/tree.hpp>
#include <exo/proc/process.hpp>
#include <exo/proc/thread.hpp>
#include <exo/sched/errors.hpp>
#include <exo/sync/lock_rank.hpp>
#include <exo/sync/spin_lock.hpp>

namespace exo::proc {

template <class System>
class process_table {
public:
    using process_type = process<System>;
    using thread_type = thread<System>;
    using lock_type = sync::spin_lock<sync::lock_rank::process_table, typename System::interrupts_type>;
    using guard = typename lock_type::guard;

    explicit process_table(System& system) : system_{system} {}

    [[nodiscard]] guard lock() { return lock_.lock(system_.interrupts()); }

    // Gives `p` a number of its own and takes over the reference. Errors: sched::errors::too_many_threads, and then
    // nothing changed.
    [[nodiscard]] result<> insert(guard&, ref<process_type>& p)
    {
        p->id_ = EXO_TRY(find_unused());
        processes_.insert(*p);
        static_cast<void>(p.leak());
        ++size_;
        return {};
    }
    // The same for a thread of a process that has one already.
    [[nodiscard]] result<> insert(guard&, thread_type& t)
    {
        t.set_id(EXO_TRY(find_unused()));
        threads_.insert(t);
        ++size_;
        return {};
    }
    void remove(guard&, thread_type& t)
    {
        threads_.erase(t);
        --size_;
    }
    // The reference that the table had.
    [[nodiscard]] ref<process_type> remove(guard&, process_type& p)
    {
        processes_.erase(p);
        --size_;
        return ref<process_type>::adopt(&p);
    }

    // Zombies are found too. Null if there is none.
    [[nodiscard]] process_type* find(guard&, process_id id) const { return processes_.find(id); }
    [[nodiscard]] ref<process_type> find(process_id id)
    {
        auto locked = lock();
        process_type* p = processes_.find(id);
        return p ? ref<process_type>{*p} : nullptr;
    }
    // The first process whose number is at least `id`, or null: for listing while processes come and go.
    [[nodiscard]] ref<process_type> find_from(process_id id)
    {
        auto locked = lock();
        process_type* p = processes_.lower_bound(id);
        return p ? ref<process_type>{*p} : nullptr;
    }
    // Null for one that has ended.
    [[nodiscard]] thread_type* find_thread(guard& locked, process_id id) const
    {
        const process_type* p = find(locked, id);
        return p ? p->main_thread : threads_.find(id);
    }
    // The process that has the thread `id`, or had, and then has its number.
    [[nodiscard]] process_type* find_owner(guard& locked, process_id id) const
    {
        if (process_type* p = find(locked, id))
            return p;
        const thread_type* t = threads_.find(id);
        return t ? &t->process() : nullptr;
    }
    [[nodiscard]] ref<process_type> find_owner(process_id id)
    {
        auto locked = lock();
        process_type* p = find_owner(locked, id);
        return p ? ref<process_type>{*p} : nullptr;
    }
    [[nodiscard]] process_type& init(guard&) const { return *processes_.first(); }

    // By ascending number; `visit` must not change the table.
    template <class Visit>
    void for_each(guard&, Visit visit) const
    {
        for (auto& p : processes_)
            visit(p);
    }
    // The members of a process group, zombies among them.
    template <class Visit>
    void for_each_in_group(guard&, process_id group, Visit visit) const
    {
        for (auto& p : processes_)
            if (p.group == group)
                visit(p);
    }

    // Of processes, and of their threads beyond the first.
    [[nodiscard]] std::size_t size()
    {
        auto locked = lock();
        return size_;
    }
    // Of their threads, zombies counting as one.
    [[nodiscard]] std::size_t count_of_user(std::uint32_t user)
    {
        auto locked = lock();
        std::size_t count = 0;
        for (auto& p : processes_)
            if (p.user_ids().real == user)
                count += p.thread_count() == 0 ? 1 : p.thread_count();
        return count;
    }
    // The number handed out last (/proc/loadavg).
    [[nodiscard]] process_id last_id()
    {
        auto locked = lock();
        return next_ == init_id + 1 ? process_id_limit - 1 : next_ - 1;
    }

private:
    [[nodiscard]] result<process_id> find_unused()
    {
        for (process_id tried = 1; tried < process_id_limit; ++tried) {
            const process_id candidate = next_;
            next_ = next_ + 1 < process_id_limit ? next_ + 1 : init_id + 1;
            if (!in_use(candidate))
                return candidate;
        }
        return fail(sched::errors::too_many_threads, process_id_limit);
    }
    [[nodiscard]] bool in_use(process_id id) const
    {
        if (threads_.find(id))
            return true;
        for (const auto& p : processes_)
            if (p.id_ == id || p.group == id || p.session == id)
                return true;
        return false;
    }

    System& system_;
    lock_type lock_;
    tree<process_type, &process_type::table_hook, &process_type::id> processes_;
    tree<thread_type, &thread_type::table_hook, &thread_type::id> threads_; // but the first of each process
    process_id next_{init_id};
    std::size_t size_{};
};

} // namespace exo::proc
