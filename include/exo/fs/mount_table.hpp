// Which mounts there are, and which of them covers a directory.
//
// The table has one reference to each mount; every other one is a file, a working directory or a walk inside it. So a
// mount is in use exactly if it has more, and stops being found in the same critical section that looks.

#pragma once

#include <cstddef>
#include <utility>

#include <exo/base/check.hpp>
#include <exo/base/list.hpp>
#include <exo/base/ref.hpp>
#include <exo/base/result.hpp>
#include <exo/fs/errors.hpp>
#include <exo/fs/mount.hpp>
#include <exo/sync/mutex.hpp>
#include <exo/sync/spin_lock.hpp>

namespace exo::fs {

class mount_table {
public:
    using change_lock = sync::mutex<sync::lock_rank::mounts>;

    explicit mount_table(sync::any_parker& parker) : parker_{parker} {}
    mount_table(const mount_table&) = delete;
    mount_table& operator=(const mount_table&) = delete;
    ~mount_table() { EXO_CHECK(mounts_.empty()); }

    // The last one mounted, taken off the table: it may lie in another. Null if there is none.
    [[nodiscard]] ref<mount> pop_last() noexcept
    {
        auto guard = lock_.lock(parker_);
        mount* const last = mounts_.back();
        if (last) {
            mounts_.erase(*last);
            uncover(*last);
        }
        return ref<mount>::adopt(last);
    }

    // Held by whoever adds, detaches or lists mounts.
    [[nodiscard]] change_lock& changes() noexcept { return changes_; }

    void add(ref<mount> m) noexcept
    {
        auto guard = lock_.lock(parker_);
        if (inode* covered = m->covered_.node())
            covered->covers().fetch_add(1, std::memory_order_relaxed);
        mounts_.push_back(*m.leak());
    }

    // Takes `m` off the table if only the table and the caller, with `own` references, refer to it. Errors: busy.
    [[nodiscard]] result<> detach(mount& m, std::uint32_t own) noexcept
    {
        {
            auto guard = lock_.lock(parker_);
            if (!m.covered_ || m.reference_count() != own + 1)
                return fail(errors::busy);
            mounts_.erase(m);
            uncover(m);
        }
        m.release();
        return {};
    }

    // The topmost mount over `at`, or null.
    [[nodiscard]] ref<mount> covering(const location& at) noexcept
    {
        if (at.node()->covers().load(std::memory_order_relaxed) == 0)
            return {};
        auto guard = lock_.lock(parker_);
        for (mount& m : mounts_)
            if (m.covered_.on == at.on && m.covered_.node() == at.node())
                return ref<mount>{m};
        return {};
    }

    [[nodiscard]] ref<mount> first() noexcept
    {
        auto guard = lock_.lock(parker_);
        return mounts_.empty() ? ref<mount>{} : ref<mount>{*mounts_.front()};
    }

    // In the order of mounting, with changes() held.
    template <class Visit>
    [[nodiscard]] result<> for_each(Visit visit)
    {
        for (mount& m : mounts_)
            EXO_TRY(visit(m));
        return {};
    }

private:
    static void uncover(mount& m) noexcept
    {
        if (inode* covered = m.covered_.node())
            covered->covers().fetch_sub(1, std::memory_order_relaxed);
    }

    list<mount, &mount::hook_> mounts_;
    sync::spin_lock<sync::lock_rank::mount_table, sync::any_parker> lock_;
    change_lock changes_;
    sync::any_parker& parker_;
};

} // namespace exo::fs
