// In whose name, and from where, a thread acts during one call: the identity and the paths of its process, which other
// threads may change meanwhile.

#pragma once

#include <optional>

#include <exo/fs/path_context.hpp>
#include <exo/proc/credentials.hpp>
#include <exo/proc/process.hpp>

namespace exo::proc {

// A copy from the first use on. A process's only thread needs none: nobody else changes anything.
template <class System>
class caller {
public:
    // `p` is the calling thread's.
    explicit caller(process<System>& p) : process_{p} {}
    caller(const caller&) = delete;
    caller& operator=(const caller&) = delete;

    [[nodiscard]] const credentials& identity() { return looks_at_process() ? process_.identity : copy_->identity; }
    [[nodiscard]] const fs::path_context& paths() { return looks_at_process() ? process_.paths : copy_->paths; }

private:
    struct snapshot {
        credentials identity;
        fs::path_context paths;
    };

    [[nodiscard]] bool looks_at_process()
    {
        if (copy_)
            return false;
        if (process_.has_one_thread()) [[likely]]
            return true;
        copy_.emplace();
        auto guard = process_.lock();
        copy_->identity = process_.identity;
        copy_->paths = process_.paths;
        copy_->paths.who = copy_->identity.for_files();
        return false;
    }

    process<System>& process_;
    std::optional<snapshot> copy_;
};

} // namespace exo::proc
