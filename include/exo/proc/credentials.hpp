// In whose name a process acts: real, effective and saved ids, and supplementary groups (POSIX, setuid and setgid).

#pragma once

#include <cstdint>

#include <exo/base/errors.hpp>
#include <exo/base/result.hpp>
#include <exo/base/static_vector.hpp>
#include <exo/fs/credentials.hpp>

namespace exo::proc {

struct id_set {
    std::uint32_t real{};
    std::uint32_t effective{};
    std::uint32_t saved{};

    [[nodiscard]] constexpr bool contains(std::uint32_t id) const
    {
        return id == real || id == effective || id == saved;
    }
};

struct credentials {
    static constexpr std::size_t group_limit = 32;

    id_set user{};
    id_set group{};
    static_vector<std::uint32_t, group_limit> groups{};

    [[nodiscard]] bool privileged() const { return user.effective == 0; }
    // What files see. The view of the groups lives as long as this object.
    [[nodiscard]] fs::credentials for_files() const
    {
        return {.uid = user.effective, .gid = group.effective, .groups = groups};
    }
};

// setuid and setgid: the privileged set all three, others switch the effective one between real and saved.
// Errors: not_permitted.
inline result<> set_id(id_set& ids, std::uint32_t id, bool privileged)
{
    if (privileged)
        ids = {id, id, id};
    else if (id == ids.real || id == ids.saved)
        ids.effective = id;
    else
        return fail(errors::not_permitted);
    return {};
}

// setresuid and setresgid; `keep` leaves an id as it is. Errors: not_permitted.
inline result<> set_ids(id_set& ids, std::uint32_t real, std::uint32_t effective, std::uint32_t saved, bool privileged)
{
    constexpr std::uint32_t keep = ~std::uint32_t{0};
    for (const auto id : {real, effective, saved})
        if (id != keep && !privileged && !ids.contains(id))
            return fail(errors::not_permitted);
    ids = {real == keep ? ids.real : real, effective == keep ? ids.effective : effective,
           saved == keep ? ids.saved : saved};
    return {};
}

} // namespace exo::proc
