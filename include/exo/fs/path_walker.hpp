// One walk along a path (POSIX, Pathname Resolution): from a starting place, component by component, through symbolic
// links and over mounts.
//
// A walk stops before the last component, because what happens to that one is the operation's business: advance() gives
// its directory and name, child() what it stands for, follow() goes on behind a symbolic link. No walk leaves the
// context's root, follows more than 40 links, or takes more memory than their texts.

#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include <exo/base/allocator.hpp>
#include <exo/base/result.hpp>
#include <exo/fs/dentry_cache.hpp>
#include <exo/fs/environment.hpp>
#include <exo/fs/errors.hpp>
#include <exo/fs/mount_table.hpp>
#include <exo/fs/path_context.hpp>

namespace exo::fs {

// What a walk runs over.
struct name_space {
    environment& env;
    dentry_cache& names;
    mount_table& mounts;

    // Onto whatever is mounted at `at`.
    void cross_mounts(location& at)
    {
        while (ref<mount> m = mounts.covering(at)) {
            auto root = m->root();
            at = {std::move(m), std::move(root)};
        }
    }

    // What `name` stands for in `directory`, whose entries() the caller has locked: a dentry without an inode if
    // nothing. Errors: the file system's.
    [[nodiscard]] result<ref<dentry>> look_up_locked(dentry& directory, std::string_view name)
    {
        inode& node = *directory.node();
        const bool remember = !node.has_volatile_names() && !node.removed();
        if (remember)
            if (auto known = names.find(directory, name))
                return known;
        auto fresh = EXO_TRY(names.make(ref<dentry>{directory}, name, {}));
        if (!node.removed()) {
            auto found = node.lookup(name);
            if (found)
                names.set_node(*fresh, std::move(*found));
            else if (found.error() != errors::not_found)
                return fail(found.error());
        }
        if (remember)
            names.insert(*fresh);
        return fresh;
    }
    [[nodiscard]] result<ref<dentry>> look_up(dentry& directory, std::string_view name)
    {
        inode& node = *directory.node();
        if (!node.has_volatile_names())
            if (auto known = names.find(directory, name))
                return known;
        auto guard = node.entries().lock(env.parker);
        return look_up_locked(directory, name);
    }

    // The directory above `at`, not beyond `root`.
    [[nodiscard]] location parent_of(location at, const location& root)
    {
        for (;;) {
            if (at == root || !at.on)
                return at;
            if (at.entry != at.on->root())
                break;
            if (!at.on->covered())
                return at;
            at = location{at.on->covered()};
        }
        at.entry = names.parent_of(*at.entry);
        cross_mounts(at);
        return at;
    }
};

class path_walker {
public:
    enum class component : std::uint8_t {
        name,
        dot,
        dot_dot,
        none, // the path is a root: there is no last component
    };

    path_walker(name_space& space, const path_context& context, const path& p)
        : space_{space}, context_{context}, path_{p}, rest_{p.text}
    {
        at_ = p.text.starts_with('/') ? context.root : p.start ? *p.start : context.working_directory;
    }
    path_walker(const path_walker&) = delete;
    path_walker& operator=(const path_walker&) = delete;
    ~path_walker()
    {
        while (outer_)
            pop();
    }

    // To the last component of what is left of the path. Errors: not_found, not_directory, access_denied,
    // too_many_symlinks, name_too_long, and the file system's.
    [[nodiscard]] result<> advance()
    {
        if (path_.text.size() > longest_path)
            return fail(errors::name_too_long, path_.text.size());
        if (path_.text.empty())
            return fail(errors::not_found);
        for (;;) {
            skip_slashes();
            if (rest_.empty() && !outer_) {
                kind_ = component::none;
                return {};
            }
            if (rest_.empty()) {
                pop();
                continue;
            }
            EXO_TRY(check_searchable(at_));
            take_component();
            if (name_.size() > longest_name)
                return fail(errors::name_too_long, name_.size());
            if (is_last())
                return {};
            auto next = EXO_TRY(child());
            inode* node = next.node();
            if (!node)
                return fail(errors::not_found);
            if (node->type() == file_type::symlink)
                EXO_TRY(follow(next));
            else if (!node->is_directory())
                return fail(errors::not_directory);
            else
                at_ = std::move(next);
        }
    }

    // What advance() arrived at.
    [[nodiscard]] const location& directory() const noexcept { return at_; }
    [[nodiscard]] std::string_view name() const noexcept { return name_; }
    [[nodiscard]] component kind() const noexcept { return kind_; }
    // A slash behind the last component: it has to be a directory.
    [[nodiscard]] bool trailing_slash() const noexcept { return slash_; }

    // What the component stands for; a location without an inode if nothing. Errors: the file system's.
    [[nodiscard]] result<location> child()
    {
        switch (kind_) {
        case component::none:
        case component::dot:
            return at_;
        case component::dot_dot:
            return space_.parent_of(at_, context_.root);
        case component::name:
            break;
        }
        auto entry = EXO_TRY(space_.look_up(*at_.entry, name_));
        location found{at_.on, std::move(entry)};
        if (found.node())
            space_.cross_mounts(found);
        return found;
    }

    // Goes on behind the symbolic link `link`, which child() returned; advance() comes next.
    [[nodiscard]] result<> follow(const location& link)
    {
        if (++links_ > deepest_symlinks)
            return fail(errors::too_many_symlinks);
        inode& node = *link.node();
        auto text = EXO_TRY(owned_array<char>::create(space_.env.heap, 0));
        if (location target; EXO_TRY(node.jump(target))) {
            at_ = std::move(target);
        } else {
            text = EXO_TRY(read_target(node));
            if (text[0] == '/')
                at_ = context_.root;
        }
        while (outer_ && rest_.empty())
            pop();
        auto frame = EXO_TRY(new_object<outer>(space_.env.heap));
        frame->text = std::move(text_);
        frame->rest = rest_;
        frame->next = outer_;
        outer_ = frame;
        text_ = std::move(text);
        rest_ = {text_.data(), text_.size()};
        return {};
    }

    // To the very end. The file exists. Errors: as advance().
    [[nodiscard]] result<location> finish(bool follow_last)
    {
        for (;;) {
            EXO_TRY(advance());
            auto found = EXO_TRY(child());
            inode* node = found.node();
            if (!node)
                return fail(errors::not_found);
            if (node->type() == file_type::symlink && (follow_last || slash_)) {
                EXO_TRY(follow(found));
                continue;
            }
            if (slash_ && !node->is_directory())
                return fail(errors::not_directory);
            return found;
        }
    }

private:
    // What is left to walk once a link's text has been used up.
    struct outer {
        owned_array<char> text;
        std::string_view rest;
        outer* next{};
    };

    void pop()
    {
        outer* const frame = outer_;
        text_ = std::move(frame->text);
        rest_ = frame->rest;
        outer_ = frame->next;
        delete_object(space_.env.heap, frame);
    }

    void skip_slashes()
    {
        while (rest_.starts_with('/'))
            rest_.remove_prefix(1);
    }
    void take_component()
    {
        auto length = rest_.find('/');
        if (length == std::string_view::npos)
            length = rest_.size();
        name_ = rest_.substr(0, length);
        rest_.remove_prefix(length);
        kind_ = name_ == "." ? component::dot : name_ == ".." ? component::dot_dot : component::name;
    }
    [[nodiscard]] bool is_last()
    {
        slash_ = !rest_.empty();
        if (rest_.find_first_not_of('/') != std::string_view::npos)
            return false;
        for (const outer* o = outer_; o; o = o->next) {
            slash_ = slash_ || !o->rest.empty();
            if (o->rest.find_first_not_of('/') != std::string_view::npos)
                return false;
        }
        return true;
    }

    [[nodiscard]] result<> check_searchable(const location& at) const
    {
        if (!at.node() || !at.node()->is_directory())
            return fail(errors::not_directory);
        if (!at.node()->allows(context_.who, access::execute))
            return fail(errors::access_denied);
        return {};
    }

    // Errors: not_found for an empty link, name_too_long.
    [[nodiscard]] result<owned_array<char>> read_target(inode& node)
    {
        auto buffer = EXO_TRY(owned_array<char>::create(space_.env.heap, longest_path));
        const auto length = EXO_TRY(node.read_link({buffer.data(), buffer.size()}));
        if (length == 0)
            return fail(errors::not_found);
        if (length > buffer.size())
            return fail(errors::name_too_long, length);
        auto text = EXO_TRY(owned_array<char>::create(space_.env.heap, length));
        for (std::size_t i = 0; i < length; ++i)
            text[i] = buffer[i];
        return text;
    }

    name_space& space_;
    const path_context& context_;
    const path path_;
    location at_;
    owned_array<char> text_; // of the link that is being walked; empty for the path itself
    std::string_view rest_;
    std::string_view name_;
    component kind_{component::none};
    bool slash_{};
    unsigned links_{};
    outer* outer_{};
};

} // namespace exo::fs
