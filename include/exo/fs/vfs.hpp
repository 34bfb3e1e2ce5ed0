// The one tree of names that a kernel's processes see: mounts, path walk, and every operation that takes a path.
//
// Errors are those that POSIX names for the call; whatever cannot be done leaves everything as it was. All operations
// may be called from several threads at once, and may sleep.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>

#include <exo/base/list.hpp>
#include <exo/base/ref.hpp>
#include <exo/base/result.hpp>
#include <exo/fs/dentry_cache.hpp>
#include <exo/fs/environment.hpp>
#include <exo/fs/file.hpp>
#include <exo/fs/file_system.hpp>
#include <exo/fs/mount_table.hpp>
#include <exo/fs/open_options.hpp>
#include <exo/fs/path_context.hpp>
#include <exo/fs/path_walker.hpp>
#include <exo/sync/mutex.hpp>

namespace exo::fs {

// What becomes of the last component of a path.
struct walk_options {
    bool follow = true;      // a symbolic link there is followed
    bool allow_empty = false; // an empty path is the start itself (AT_EMPTY_PATH)
};

class vfs {
public:
    explicit vfs(environment& env, std::size_t remembered_names = 1024);
    vfs(const vfs&) = delete;
    vfs& operator=(const vfs&) = delete;
    ~vfs();

    // The first mount, at "/". Once.
    [[nodiscard]] result<> mount_root(ref<file_system> system, std::string_view source, mount_options options = {});
    // The root of all. Empty before mount_root.
    [[nodiscard]] location root();
    // The context of a process that has just come into being.
    [[nodiscard]] path_context initial_context();

    // `where` becomes the root of `system`. Errors: not_directory, not_permitted (only the privileged mount),
    // out_of_memory.
    [[nodiscard]] result<> mount(const path_context& context, const path& where, ref<file_system> system,
                                 std::string_view source, mount_options options = {});
    // `where` is the root of a mount. Errors: invalid_argument (it is not), busy (something in it is in use, or it is
    // the root of all), not_permitted.
    [[nodiscard]] result<> unmount(const path_context& context, const path& where);
    // Each mount in the order of mounting, with its path: what /proc/mounts lists. `visit(mount&, string_view path)`.
    // Errors: out_of_memory.
    template <class Visit>
    [[nodiscard]] result<> for_each_mount(Visit visit);

    // Where a path leads. The file exists. Errors: not_found, not_directory, access_denied, too_many_symlinks,
    // name_too_long.
    [[nodiscard]] result<location> resolve(const path_context& context, const path& p, walk_options options = {});

    [[nodiscard]] result<ref<file>> open(const path_context& context, const path& p, const open_options& options);

    [[nodiscard]] result<file_status> status(const path_context& context, const path& p, walk_options options = {});
    // access(2): `wanted` are bits of fs::access, 0 for mere existence. The context holds the real ids.
    [[nodiscard]] result<> check_access(const path_context& context, const path& p, unsigned wanted,
                                        walk_options options = {});
    [[nodiscard]] result<std::size_t> read_link(const path_context& context, const path& p, std::span<char> into);

    [[nodiscard]] result<> make_directory(const path_context& context, const path& p, permission_bits permissions);
    // mknod: anything but a directory and a symbolic link.
    [[nodiscard]] result<> make_node(const path_context& context, const path& p, file_type type,
                                     permission_bits permissions, device_number special = {});
    [[nodiscard]] result<> make_symlink(const path_context& context, std::string_view target, const path& p);
    // A further name for what `existing` leads to. Errors: cross_device, not_permitted (a directory).
    [[nodiscard]] result<> link(const path_context& context, const path& existing, const path& fresh,
                                walk_options options = {.follow = false});
    [[nodiscard]] result<> unlink(const path_context& context, const path& p);
    [[nodiscard]] result<> remove_directory(const path_context& context, const path& p);
    [[nodiscard]] result<> rename(const path_context& context, const path& from, const path& to,
                                  rename_options options = {});
    [[nodiscard]] result<> truncate(const path_context& context, const path& p, std::uint64_t size);

    // chmod, chown, utimensat. Times may be absent, and then stay.
    [[nodiscard]] result<> change_permissions(const path_context& context, const location& where,
                                              permission_bits permissions);
    [[nodiscard]] result<> change_owner(const path_context& context, const location& where,
                                        std::optional<std::uint32_t> uid, std::optional<std::uint32_t> gid);
    // `to_now`: both times to the present, which takes no more than permission to write.
    [[nodiscard]] result<> change_times(const path_context& context, const location& where,
                                        std::optional<timestamp> accessed, std::optional<timestamp> modified,
                                        bool to_now = false);

    // For chdir and fchdir: `where` is a directory that the caller may search. Errors: not_directory, access_denied.
    [[nodiscard]] result<> check_directory(const path_context& context, const location& where) const;
    // The path of `where` as seen from the context's root, and its length. Errors: does_not_fit, not_found if
    // its directory was removed.
    [[nodiscard]] result<std::size_t> path_of(const path_context& context, const location& where, std::span<char> into);
    // Of an open file, by which it can be opened anew; what has no name gets a place of its own. Errors: out_of_memory.
    [[nodiscard]] result<location> place_of(const file& opened);
    // Lets file.name() tell the path by which it can be found now: for mappings, as /proc/PID/maps shows them.
    [[nodiscard]] result<> remember_path(const path_context& context, file& opened);

    // Writes back every mounted file system; the first error, after trying all.
    [[nodiscard]] result<> sync();

    [[nodiscard]] environment& context() const noexcept { return environment_; }

private:
    using vfs_mount = fs::mount; // not to be mistaken for the operation
    using name_kind = path_walker::component;
    using entries_guard = inode::entries_lock::guard;

    // The last component of a path, about to be made or taken away: its directory, locked, and what it is now.
    struct place {
        location directory;
        std::string_view name; // lives in the walker's texts
        ref<dentry> entry;
    };

    [[nodiscard]] result<location> leads_to(const path_context& context, const path& p, walk_options options);
    [[nodiscard]] result<ref<dentry>> look_up_in(const place& at)
    {
        return space_.look_up_locked(*at.directory.entry, at.name);
    }
    // For a name that is to be made. Errors: exists, not_found (a slash behind a name that shall be no directory).
    [[nodiscard]] static result<> check_fresh(const path_walker& walk, bool directory);
    [[nodiscard]] result<> check_may_add(const path_context& context, const place& at) const;
    [[nodiscard]] result<> check_may_remove(const path_context& context, const place& at) const;
    // Makes one name: `make(directory inode, name)` returns the inode.
    template <class Make>
    [[nodiscard]] result<> make_name(const path_context& context, const path& p, bool directory, Make make);
    [[nodiscard]] result<ref<inode>> add(const place& at, auto make);
    [[nodiscard]] static new_inode describe(const path_context& context, const inode& directory, file_type type,
                                            permission_bits permissions, device_number special = {});
    [[nodiscard]] result<ref<file>> open_found(const path_context& context, const location& found,
                                               const open_options& options, bool created);
    [[nodiscard]] static result<> check_writable(const location& where)
    {
        return where.on && where.on->read_only() ? result<>{fail(errors::read_only)} : result<>{};
    }
    [[nodiscard]] bool is_below(const location& directory, const inode& ancestor);
    [[nodiscard]] result<std::size_t> path_from(const location& root, const location& where, std::span<char> into);
    [[nodiscard]] result<ref<vfs_mount>> prepare(ref<file_system> system, location covered, std::string_view source,
                                                 mount_options options);

    environment& environment_;
    dentry_cache names_;
    mount_table mounts_;
    name_space space_{environment_, names_, mounts_};
    sync::mutex<sync::lock_rank::rename> renames_;
};

inline vfs::vfs(environment& env, std::size_t remembered_names)
    : environment_{env}, names_{env.heap, env.parker, remembered_names}, mounts_{env.parker}
{
}

// Names go before the file systems that they belong to.
inline vfs::~vfs()
{
    ref<vfs_mount> last;
    do {
        names_.prune_all();
        last = mounts_.pop_last();
    } while (last);
}

inline result<ref<vfs::vfs_mount>> vfs::prepare(ref<file_system> system, location covered, std::string_view source,
                                                mount_options options)
{
    auto top = EXO_TRY(system->root());
    if (!top->is_directory())
        return fail(errors::not_directory);
    auto name = EXO_TRY(owned_array<char>::create(environment_.heap, source.size()));
    for (std::size_t i = 0; i < source.size(); ++i)
        name[i] = source[i];
    auto entry = EXO_TRY(names_.make({}, {}, std::move(top)));
    return ref<vfs_mount>::adopt(
        EXO_TRY(new_object<vfs_mount>(environment_.heap, environment_.heap, std::move(system), std::move(entry),
                                      std::move(covered), std::move(name), options)));
}

inline result<> vfs::mount_root(ref<file_system> system, std::string_view source, mount_options options)
{
    auto guard = mounts_.changes().lock(environment_.parker);
    if (mounts_.first())
        return fail(errors::busy);
    mounts_.add(EXO_TRY(prepare(std::move(system), {}, source, options)));
    return {};
}

inline location vfs::root()
{
    auto first = mounts_.first();
    if (!first)
        return {};
    auto entry = first->root();
    return {std::move(first), std::move(entry)};
}

inline path_context vfs::initial_context()
{
    return {.root = root(), .working_directory = root()};
}

inline result<> vfs::mount(const path_context& context, const path& where, ref<file_system> system,
                           std::string_view source, mount_options options)
{
    if (!context.who.privileged())
        return fail(errors::not_permitted);
    auto at = EXO_TRY(resolve(context, where));
    if (!at.node()->is_directory())
        return fail(errors::not_directory);
    auto guard = mounts_.changes().lock(environment_.parker);
    space_.cross_mounts(at); // another mount may have been faster
    mounts_.add(EXO_TRY(prepare(std::move(system), std::move(at), source, options)));
    return {};
}

inline result<> vfs::unmount(const path_context& context, const path& where)
{
    if (!context.who.privileged())
        return fail(errors::not_permitted);
    auto at = EXO_TRY(resolve(context, where));
    if (!at.on || at.entry != at.on->root())
        return fail(errors::invalid_argument);
    auto guard = mounts_.changes().lock(environment_.parker);
    at.entry.reset();
    auto going = std::move(at.on);
    EXO_TRY(going->system().sync());
    EXO_TRY(mounts_.detach(*going, 1));
    names_.prune_below(*going->root());
    names_.settle();
    return {};
}

template <class Visit>
result<> vfs::for_each_mount(Visit visit)
{
    auto text = EXO_TRY(owned_array<char>::create(environment_.heap, longest_path));
    const auto top = root();
    auto guard = mounts_.changes().lock(environment_.parker);
    return mounts_.for_each([&](vfs_mount& m) -> result<> {
        const location at{ref<vfs_mount>{m}, m.root()};
        const auto length = EXO_TRY(path_from(top, at, {text.data(), text.size()}));
        visit(m, std::string_view{text.data(), length});
        return {};
    });
}

inline result<location> vfs::leads_to(const path_context& context, const path& p, walk_options options)
{
    if (p.text.empty() && options.allow_empty)
        return p.start ? *p.start : context.working_directory;
    path_walker walk{space_, context, p};
    return walk.finish(options.follow);
}

inline result<location> vfs::resolve(const path_context& context, const path& p, walk_options options)
{
    auto found = EXO_TRY(leads_to(context, p, options));
    if (!found.node())
        return fail(errors::not_found);
    return found;
}

inline result<file_status> vfs::status(const path_context& context, const path& p, walk_options options)
{
    return EXO_TRY(resolve(context, p, options)).node()->status();
}

inline result<> vfs::check_access(const path_context& context, const path& p, unsigned wanted, walk_options options)
{
    const auto found = EXO_TRY(resolve(context, p, options));
    const inode& node = *found.node();
    if ((wanted & access::write) != 0 && node.has_contents())
        EXO_TRY(check_writable(found));
    return node.allows(context.who, wanted) ? result<>{} : fail(errors::access_denied);
}

inline result<std::size_t> vfs::read_link(const path_context& context, const path& p, std::span<char> into)
{
    const auto found = EXO_TRY(resolve(context, p, {.follow = false, .allow_empty = true}));
    if (found.node()->type() != file_type::symlink)
        return fail(errors::invalid_argument);
    const auto length = EXO_TRY(found.node()->read_link(into));
    return length < into.size() ? length : into.size();
}

// Opening

inline result<ref<file>> vfs::open(const path_context& context, const path& p, const open_options& options)
{
    path_walker walk{space_, context, p};
    for (;;) {
        EXO_TRY(walk.advance());
        if (options.create && walk.trailing_slash())
            return fail(errors::is_directory);
        auto found = EXO_TRY(walk.child());
        while (!found.node() && options.create) {
            place at{walk.directory(), walk.name(), {}};
            inode& directory = *at.directory.node();
            auto guard = directory.entries().lock(environment_.parker);
            at.entry = EXO_TRY(look_up_in(at));
            if (!at.entry->node()) {
                EXO_TRY(check_may_add(context, at));
                const auto what = describe(context, directory, file_type::regular, options.permissions);
                EXO_TRY(add(at, [&] { return directory.create(at.name, what); }));
                guard.unlock();
                return open_found(context, {at.directory.on, at.entry}, options, true);
            }
            // Somebody else was faster: what they made is opened, unless it is gone again.
            guard.unlock();
            found = EXO_TRY(walk.child());
        }
        if (!found.node())
            return fail(errors::not_found);
        if (options.create && options.exclusive)
            return fail(errors::exists);
        if (found.node()->type() == file_type::symlink) {
            if (!options.no_follow || walk.trailing_slash()) {
                EXO_TRY(walk.follow(found));
                continue;
            }
            if (!options.path_only)
                return fail(options.directory ? errors::not_directory : errors::too_many_symlinks);
        }
        if ((walk.trailing_slash() || options.directory) && !found.node()->is_directory())
            return fail(errors::not_directory);
        return open_found(context, found, options, false);
    }
}

inline result<ref<file>> vfs::open_found(const path_context& context, const location& found,
                                         const open_options& options, bool created)
{
    inode& node = *found.node();
    if (options.path_only)
        return open_plain(environment_, found, node, {.path_only = true});
    const bool changes = options.write || options.truncate;
    if (node.is_directory() && (changes || options.create))
        return fail(errors::is_directory);
    if (!created) {
        const unsigned wanted = (options.read ? access::read : 0u) | (changes ? access::write : 0u);
        if (!node.allows(context.who, wanted))
            return fail(errors::access_denied);
        if (changes && node.has_contents())
            EXO_TRY(check_writable(found));
        const bool is_device = node.type() == file_type::character_device || node.type() == file_type::block_device;
        if (is_device && found.on && found.on->options().no_devices)
            return fail(errors::access_denied);
    }
    auto opened = EXO_TRY(node.open(environment_, found, options));
    if (options.truncate && !created && node.type() == file_type::regular)
        EXO_TRY(node.truncate(0));
    return opened;
}

// Making names

inline result<> vfs::check_fresh(const path_walker& walk, bool directory)
{
    if (walk.kind() != name_kind::name)
        return fail(errors::exists);
    if (walk.trailing_slash() && !directory)
        return fail(errors::not_found);
    return {};
}

inline result<> vfs::check_may_add(const path_context& context, const place& at) const
{
    const inode& directory = *at.directory.node();
    if (directory.removed())
        return fail(errors::not_found);
    EXO_TRY(check_writable(at.directory));
    if (!directory.allows(context.who, access::write | access::execute))
        return fail(errors::access_denied);
    return {};
}

// In a sticky directory only the owner of the file or of the directory takes a name away.
inline result<> vfs::check_may_remove(const path_context& context, const place& at) const
{
    const inode& directory = *at.directory.node();
    EXO_TRY(check_writable(at.directory));
    if (!directory.allows(context.who, access::write | access::execute))
        return fail(errors::access_denied);
    if ((directory.permissions() & permission::sticky) != 0 && !context.who.owns(directory.uid()) &&
        !context.who.owns(at.entry->node()->uid()))
        return fail(errors::not_permitted);
    return {};
}

// In a set-gid directory, files belong to its group, and directories are set-gid themselves.
inline new_inode vfs::describe(const path_context& context, const inode& directory, file_type type,
                               permission_bits permissions, device_number special)
{
    const bool inherits = (directory.permissions() & permission::set_gid) != 0;
    auto bits = static_cast<permission_bits>(permissions & ~context.umask & permission::all);
    if (inherits && type == file_type::directory)
        bits = static_cast<permission_bits>(bits | permission::set_gid);
    return {.type = type,
            .permissions = bits,
            .uid = context.who.uid,
            .gid = inherits ? directory.gid() : context.who.gid,
            .special = special};
}

inline result<ref<inode>> vfs::add(const place& at, auto make)
{
    ref<inode> made = EXO_TRY(make());
    names_.set_node(*at.entry, made);
    return made;
}

template <class Make>
result<> vfs::make_name(const path_context& context, const path& p, bool directory, Make make)
{
    path_walker walk{space_, context, p};
    EXO_TRY(walk.advance());
    EXO_TRY(check_fresh(walk, true));
    place at{walk.directory(), walk.name(), {}};
    inode& parent = *at.directory.node();
    auto guard = parent.entries().lock(environment_.parker);
    at.entry = EXO_TRY(look_up_in(at));
    if (at.entry->node())
        return fail(errors::exists);
    EXO_TRY(check_fresh(walk, directory));
    EXO_TRY(check_may_add(context, at));
    EXO_TRY(add(at, [&] { return make(at.directory, at.name); }));
    return {};
}

inline result<> vfs::make_directory(const path_context& context, const path& p, permission_bits permissions)
{
    return make_name(context, p, true, [&](const location& directory, std::string_view name) {
        inode& parent = *directory.node();
        return parent.create(name, describe(context, parent, file_type::directory, permissions));
    });
}

inline result<> vfs::make_node(const path_context& context, const path& p, file_type type, permission_bits permissions,
                               device_number special)
{
    if (type == file_type::directory || type == file_type::symlink)
        return fail(errors::not_permitted);
    const bool is_device = type == file_type::character_device || type == file_type::block_device;
    if (is_device && !context.who.privileged())
        return fail(errors::not_permitted);
    return make_name(context, p, false, [&](const location& directory, std::string_view name) {
        inode& parent = *directory.node();
        return parent.create(name, describe(context, parent, type, permissions, special));
    });
}

inline result<> vfs::make_symlink(const path_context& context, std::string_view target, const path& p)
{
    if (target.empty())
        return fail(errors::not_found);
    if (target.size() > longest_path)
        return fail(errors::name_too_long, target.size());
    return make_name(context, p, false, [&](const location& directory, std::string_view name) {
        inode& parent = *directory.node();
        auto what = describe(context, parent, file_type::symlink, 0777);
        what.permissions = 0777;
        return parent.symlink(name, target, what);
    });
}

inline result<> vfs::link(const path_context& context, const path& existing, const path& fresh, walk_options options)
{
    const auto source = EXO_TRY(resolve(context, existing, options));
    return make_name(context, fresh, false,
                     [&](const location& directory, std::string_view name) -> result<ref<inode>> {
                         if (source.on != directory.on)
                             return fail(errors::cross_device);
                         if (source.node()->is_directory())
                             return fail(errors::not_permitted);
                         EXO_TRY(directory.node()->link(name, *source.node()));
                         return ref<inode>{*source.node()};
                     });
}

// Taking names away

inline result<> vfs::unlink(const path_context& context, const path& p)
{
    path_walker walk{space_, context, p};
    EXO_TRY(walk.advance());
    if (walk.kind() != name_kind::name)
        return fail(errors::is_directory);
    place at{walk.directory(), walk.name(), {}};
    inode& directory = *at.directory.node();
    auto guard = directory.entries().lock(environment_.parker);
    at.entry = EXO_TRY(look_up_in(at));
    inode* node = at.entry->node();
    if (!node)
        return fail(errors::not_found);
    if (walk.trailing_slash())
        return fail(node->is_directory() ? errors::is_directory : errors::not_directory);
    EXO_TRY(check_may_remove(context, at));
    if (node->is_directory())
        return fail(errors::is_directory);
    EXO_TRY(directory.unlink(at.name, *node));
    at.entry->mark_removed();
    names_.remove(*at.entry);
    guard.unlock();
    return {};
}

inline result<> vfs::remove_directory(const path_context& context, const path& p)
{
    path_walker walk{space_, context, p};
    EXO_TRY(walk.advance());
    if (walk.kind() != name_kind::name)
        return fail(walk.kind() == name_kind::dot       ? errors::invalid_argument
                    : walk.kind() == name_kind::dot_dot ? errors::directory_not_empty
                                                        : errors::busy);
    place at{walk.directory(), walk.name(), {}};
    inode& directory = *at.directory.node();
    auto guard = directory.entries().lock(environment_.parker);
    at.entry = EXO_TRY(look_up_in(at));
    inode* node = at.entry->node();
    if (!node)
        return fail(errors::not_found);
    EXO_TRY(check_may_remove(context, at));
    if (!node->is_directory())
        return fail(errors::not_directory);
    if (node->covers().load(std::memory_order_relaxed) != 0)
        return fail(errors::busy);
    {
        auto own = node->entries().lock_beside(environment_.parker);
        EXO_TRY(directory.remove_directory(at.name, *node));
        node->mark_removed();
    }
    at.entry->mark_removed();
    names_.remove(*at.entry);
    guard.unlock();
    names_.prune_below(*at.entry);
    return {};
}

// Whether `directory` lies in `ancestor`, or is it. Names do not move meanwhile: renames_ is held.
inline bool vfs::is_below(const location& directory, const inode& ancestor)
{
    for (auto at = directory.entry; at; at = names_.parent_of(*at))
        if (at->node() == &ancestor)
            return true;
    return false;
}

inline result<> vfs::rename(const path_context& context, const path& from, const path& to, rename_options options)
{
    if (options.no_replace && options.exchange)
        return fail(errors::invalid_argument);
    path_walker old_walk{space_, context, from};
    path_walker new_walk{space_, context, to};
    EXO_TRY(old_walk.advance());
    EXO_TRY(new_walk.advance());
    if (old_walk.directory().on != new_walk.directory().on)
        return fail(errors::cross_device);
    if (old_walk.kind() != name_kind::name || new_walk.kind() != name_kind::name)
        return fail(options.no_replace && new_walk.kind() != name_kind::name ? errors::exists : errors::busy);

    auto still = renames_.lock(environment_.parker);
    place old_place{old_walk.directory(), old_walk.name(), {}};
    place new_place{new_walk.directory(), new_walk.name(), {}};
    inode& old_parent = *old_place.directory.node();
    inode& new_parent = *new_place.directory.node();
    // A directory is locked before what lies in it; two that do not contain each other only here, one pair at a time.
    const bool new_first = &old_parent != &new_parent && is_below(old_place.directory, new_parent);
    std::optional<entries_guard> first{(new_first ? new_parent : old_parent).entries().lock(environment_.parker)};
    std::optional<entries_guard> second;
    if (&old_parent != &new_parent)
        second.emplace((new_first ? old_parent : new_parent).entries().lock_beside(environment_.parker));

    old_place.entry = EXO_TRY(look_up_in(old_place));
    new_place.entry = EXO_TRY(look_up_in(new_place));
    inode* const source = old_place.entry->node();
    inode* const target = new_place.entry->node();
    if (!source)
        return fail(errors::not_found);
    if (target && options.no_replace)
        return fail(errors::exists);
    if (!target && options.exchange)
        return fail(errors::not_found);
    if (!source->is_directory() && (old_walk.trailing_slash() || (!options.exchange && new_walk.trailing_slash())))
        return fail(errors::not_directory);
    if (source->is_directory() && is_below(new_place.directory, *source))
        return fail(errors::invalid_argument);
    if (target && target->is_directory() && is_below(old_place.directory, *target))
        return fail(options.exchange ? errors::invalid_argument : errors::directory_not_empty);
    EXO_TRY(check_may_remove(context, old_place));
    if (target)
        EXO_TRY(check_may_remove(context, new_place));
    else
        EXO_TRY(check_may_add(context, new_place));
    if (source == target)
        return {};
    if (target && !options.exchange) {
        if (source->is_directory() && !target->is_directory())
            return fail(errors::not_directory);
        if (!source->is_directory() && target->is_directory())
            return fail(errors::is_directory);
    }
    const auto covered = [](inode* node) { return node && node->covers().load(std::memory_order_relaxed) != 0; };
    if (covered(source) || covered(target))
        return fail(errors::busy);
    // Its ".." changes.
    if (source->is_directory() && &old_parent != &new_parent && !source->allows(context.who, access::write))
        return fail(errors::access_denied);

    // Whatever may fail comes before the file system is asked.
    auto new_name = EXO_TRY(names_.copy_of(new_place.name));
    auto old_name = EXO_TRY(names_.copy_of(old_place.name));
    auto new_directory = new_place.directory.entry;
    auto old_directory = old_place.directory.entry;
    std::optional<entries_guard> emptied;
    const bool replaces_directory = target && target->is_directory() && !options.exchange;
    if (replaces_directory)
        emptied.emplace(target->entries().lock_beside(environment_.parker));
    EXO_TRY(old_parent.rename(old_place.name, *source, new_parent, new_place.name, target, options));
    if (replaces_directory)
        target->mark_removed();
    names_.remove(*new_place.entry);
    names_.move(*old_place.entry, new_directory, new_name);
    if (options.exchange) {
        names_.move(*new_place.entry, old_directory, old_name);
        if (!new_parent.has_volatile_names())
            names_.insert(*new_place.entry);
    } else if (target) {
        new_place.entry->mark_removed();
    }
    emptied.reset();
    second.reset();
    first.reset();
    if (replaces_directory)
        names_.prune_below(*new_place.entry);
    return {};
}

// Changing what files are

inline result<> vfs::truncate(const path_context& context, const path& p, std::uint64_t size)
{
    const auto found = EXO_TRY(resolve(context, p));
    inode& node = *found.node();
    if (node.type() != file_type::regular)
        return fail(node.is_directory() ? errors::is_directory : errors::invalid_argument);
    EXO_TRY(check_writable(found));
    if (!node.allows(context.who, access::write))
        return fail(errors::access_denied);
    return node.truncate(size);
}

inline result<> vfs::change_permissions(const path_context& context, const location& where,
                                        permission_bits permissions)
{
    inode& node = *where.node();
    EXO_TRY(check_writable(where));
    if (!context.who.owns(node.uid()))
        return fail(errors::not_permitted);
    auto bits = static_cast<permission_bits>(permissions & permission::all);
    if (!context.who.privileged() && !context.who.in_group(node.gid()))
        bits = static_cast<permission_bits>(bits & ~permission::set_gid);
    return node.change({.permissions = bits});
}

inline result<> vfs::change_owner(const path_context& context, const location& where, std::optional<std::uint32_t> uid,
                                  std::optional<std::uint32_t> gid)
{
    inode& node = *where.node();
    EXO_TRY(check_writable(where));
    const bool keeps_owner = !uid || *uid == node.uid();
    const bool keeps_group = !gid || *gid == node.gid();
    if (!context.who.privileged() &&
        (!keeps_owner || context.who.uid != node.uid() || (!keeps_group && !context.who.in_group(*gid))))
        return fail(errors::not_permitted);
    attribute_change change{.uid = uid, .gid = gid};
    // A program that ran as its owner does not run as the next one unasked.
    if (!node.is_directory()) {
        auto lost = permission::set_uid;
        if ((node.permissions() & 0010) != 0)
            lost |= permission::set_gid;
        change.permissions = static_cast<permission_bits>(node.permissions() & ~lost);
    }
    return node.change(change);
}

inline result<> vfs::change_times(const path_context& context, const location& where, std::optional<timestamp> accessed,
                                  std::optional<timestamp> modified, bool to_now)
{
    inode& node = *where.node();
    EXO_TRY(check_writable(where));
    if (!context.who.owns(node.uid()) && !(to_now && node.allows(context.who, access::write)))
        return fail(to_now ? errors::access_denied : errors::not_permitted);
    if (to_now)
        accessed = modified = environment_.clock.now();
    return node.change({.accessed = accessed, .modified = modified});
}

// Where things are

inline result<> vfs::check_directory(const path_context& context, const location& where) const
{
    const inode* node = where.node();
    if (!node || !node->is_directory())
        return fail(errors::not_directory);
    return node->allows(context.who, access::execute) ? result<>{} : fail(errors::access_denied);
}

// Written from the end of the buffer to its front, then moved to the front.
inline result<std::size_t> vfs::path_from(const location& root, const location& where, std::span<char> into)
{
    auto still = renames_.lock(environment_.parker);
    char* const begin = into.data();
    char* const end = begin + into.size();
    char* at = end;
    location here = where;
    while (here != root) {
        if (!here.on || here.entry->removed())
            return fail(errors::not_found);
        if (here.entry == here.on->root()) {
            if (!here.on->covered())
                return fail(errors::not_found); // outside of the root that the caller sees
            here = location{here.on->covered()};
            continue;
        }
        if (!names_.prepend_name(*here.entry, begin, at) || at == begin)
            return fail(errors::does_not_fit);
        *--at = '/';
        here.entry = names_.parent_of(*here.entry);
    }
    if (at == end) {
        if (at == begin)
            return fail(errors::does_not_fit);
        *--at = '/';
    }
    const auto length = static_cast<std::size_t>(end - at);
    std::memmove(begin, at, length);
    return length;
}

inline result<std::size_t> vfs::path_of(const path_context& context, const location& where, std::span<char> into)
{
    return path_from(context.root, where, into);
}

inline result<location> vfs::place_of(const file& opened)
{
    if (opened.where())
        return opened.where();
    location nameless;
    nameless.entry = EXO_TRY(names_.make({}, {}, ref<inode>{opened.node()}));
    return nameless;
}

inline result<> vfs::remember_path(const path_context& context, file& opened)
{
    auto text = EXO_TRY(owned_array<char>::create(environment_.heap, longest_path));
    const auto length = EXO_TRY(path_of(context, opened.where(), {text.data(), text.size()}));
    opened.set_path(EXO_TRY(names_.copy_of({text.data(), length})));
    return {};
}

inline result<> vfs::sync()
{
    result<> outcome{};
    auto guard = mounts_.changes().lock(environment_.parker);
    (void)mounts_.for_each([&](vfs_mount& m) -> result<> {
        if (auto synced = m.system().sync(); !synced && outcome)
            outcome = synced;
        return {};
    });
    return outcome;
}

} // namespace exo::fs
