// tmpfs: a file system in memory, with every operation that names and contents can have.
//
// Contents live in pages, which mappings share; a hole takes none. What it may hold is limited in pages; directories,
// names and links count for nothing, but come from the heap, which ends too. Access times are not kept (noatime).

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>

#include <exo/base/list.hpp>
#include <exo/base/tree.hpp>
#include <exo/fs/device_registry.hpp>
#include <exo/fs/environment.hpp>
#include <exo/fs/errors.hpp>
#include <exo/fs/file.hpp>
#include <exo/fs/file_system.hpp>
#include <exo/fs/inode.hpp>
#include <exo/fs/page_io.hpp>
#include <exo/fs/page_tree.hpp>
#include <exo/fs/pipe.hpp>
#include <exo/mm/object_mappings.hpp>
#include <exo/sync/mutex.hpp>
#include <exo/sync/spin_lock.hpp>

namespace exo::fs {

struct tmpfs_options {
    std::uint64_t page_limit = ~std::uint64_t{0};
    permission_bits root_permissions = 01777;
    std::string_view type_name = "tmpfs";
};

class tmpfs_node;
class tmpfs_directory;

class tmpfs final : public file_system {
public:
    static constexpr std::uint64_t magic = 0x01021994; // as statfs(2) names it

    tmpfs(environment& env, const tmpfs_options& options) : environment_{env}, options_{options} {}

    // Errors: out_of_memory.
    [[nodiscard]] static result<ref<tmpfs>> create(environment& env, const tmpfs_options& options = {});

    [[nodiscard]] std::string_view type_name() const noexcept override { return options_.type_name; }
    [[nodiscard]] result<ref<inode>> root() override;
    [[nodiscard]] result<file_system_status> status() override
    {
        const auto used = used_pages_.load(std::memory_order_relaxed);
        const auto limit = options_.page_limit == ~std::uint64_t{0} ? 0 : options_.page_limit;
        const auto left = limit > used ? limit - used : 0;
        return file_system_status{.type = magic,
                                  .block_size = page_size,
                                  .blocks = limit,
                                  .free_blocks = left,
                                  .available_blocks = left,
                                  .files = 0,
                                  .free_files = 0,
                                  .longest_name = longest_name};
    }
    [[nodiscard]] environment& context() const noexcept { return environment_; }
    [[nodiscard]] std::uint64_t used_pages() const noexcept { return used_pages_.load(std::memory_order_relaxed); }

private:
    friend class tmpfs_node;
    friend class tmpfs_directory;
    friend class tmpfs_file;

    ~tmpfs() override;
    template <class T>
    friend void exo::delete_object(allocator& from, T* object) noexcept;
    void last_reference() noexcept override { delete_object(environment_.heap, this); }

    [[nodiscard]] std::uint64_t next_number() noexcept { return numbers_.fetch_add(1, std::memory_order_relaxed); }
    // A zeroed page that counts. Errors: no_space, out_of_memory.
    [[nodiscard]] result<mm::page> allocate_page() noexcept
    {
        if (used_pages_.fetch_add(1, std::memory_order_relaxed) >= options_.page_limit) {
            give_back(1);
            return fail(errors::no_space);
        }
        auto p = environment_.allocate_page(mm::page_contents::zeroed);
        if (!p)
            give_back(1);
        return p;
    }
    void give_back(std::uint64_t pages) noexcept { used_pages_.fetch_sub(pages, std::memory_order_relaxed); }

    environment& environment_;
    const tmpfs_options options_;
    const std::uint32_t device_{environment_.next_device.fetch_add(1, std::memory_order_relaxed)};
    std::atomic<std::uint64_t> used_pages_{};
    std::atomic<std::uint64_t> numbers_{1};
    ref<tmpfs_directory> root_;
};

// What every kind of file has.
class tmpfs_node : public inode {
public:
    [[nodiscard]] result<file_status> status() override
    {
        auto guard = lock_.lock(system_.context().parker);
        return file_status{.device = system_.device_,
                           .inode = number(),
                           .type = type(),
                           .permissions = permissions(),
                           .links = links_.load(std::memory_order_relaxed),
                           .uid = uid(),
                           .gid = gid(),
                           .special = special_,
                           .size = size_,
                           .block_size = page_size,
                           .blocks = pages_held_ * (page_size / 512),
                           .accessed = accessed_,
                           .modified = modified_,
                           .changed = changed_};
    }
    [[nodiscard]] result<> change(const attribute_change& change) override
    {
        const auto now = system_.context().clock.now();
        auto guard = lock_.lock(system_.context().parker);
        apply(change);
        accessed_ = change.accessed.value_or(accessed_);
        modified_ = change.modified.value_or(modified_);
        changed_ = now;
        return {};
    }

protected:
    friend class tmpfs_directory;
    using lock_type = sync::spin_lock<sync::lock_rank::page_cache, sync::any_parker>;

    tmpfs_node(tmpfs& system, const new_inode& what)
        : inode{system.next_number(), what.type, what.permissions, what.uid, what.gid}, system_{system},
          special_{what.special}, accessed_{system.environment_.clock.now()}, modified_{accessed_}, changed_{accessed_}
    {
    }

    void count_link(int by) noexcept
    {
        const auto now = system_.context().clock.now();
        links_.fetch_add(static_cast<std::uint32_t>(by), std::memory_order_relaxed);
        auto guard = lock_.lock(system_.context().parker);
        changed_ = now;
    }
    void set_modified() noexcept
    {
        const auto now = system_.context().clock.now();
        auto guard = lock_.lock(system_.context().parker);
        modified_ = changed_ = now;
    }

    tmpfs& system_;
    const device_number special_;
    mutable lock_type lock_; // over what follows, and over the pages of a file
    std::uint64_t size_{};
    std::uint64_t pages_held_{};
    timestamp accessed_;
    timestamp modified_;
    timestamp changed_;
    std::atomic<std::uint32_t> links_{};
};

class tmpfs_file final : public tmpfs_node {
public:
    tmpfs_file(tmpfs& system, const new_inode& what) : tmpfs_node{system, what}, pages_{system.environment_.heap} {}
    ~tmpfs_file() override { (void)drop_pages(0, ~std::size_t{0}); }

    [[nodiscard]] result<std::size_t> read(std::uint64_t offset, output& into) override
    {
        return read_pages(
            offset, into,
            [this] {
                auto guard = lock_.lock(parker());
                return size_;
            },
            [this](std::uint64_t index) -> result<mm::page> { return find(index); });
    }
    [[nodiscard]] result<std::size_t> write(std::uint64_t offset, input& from) override
    {
        auto guard = writers_.lock(parker());
        return write_locked(offset, from);
    }
    [[nodiscard]] result<std::size_t> append(input& from, std::uint64_t& end_after) override
    {
        auto guard = writers_.lock(parker());
        const auto offset = size_;
        const auto count = EXO_TRY(write_locked(offset, from));
        end_after = offset + count;
        return count;
    }
    [[nodiscard]] result<> truncate(std::uint64_t size) override;

    [[nodiscard]] result<std::uint64_t> seek_data(std::uint64_t offset) override
    {
        auto guard = lock_.lock(parker());
        auto found = size_;
        pages_.for_each(offset / page_size, [&](std::uint64_t index, page_tree::word&) {
            found = index * page_size;
            return false;
        });
        if (offset >= size_ || found >= size_)
            return fail(errors::no_data);
        return found < offset ? offset : found;
    }
    [[nodiscard]] result<std::uint64_t> seek_hole(std::uint64_t offset) override
    {
        auto guard = lock_.lock(parker());
        if (offset >= size_)
            return fail(errors::no_data);
        auto expected = offset / page_size;
        pages_.for_each(expected,
                        [&](std::uint64_t index, page_tree::word&) { return index == expected && ++expected; });
        if (expected == offset / page_size)
            return offset;
        const auto found = expected * page_size;
        return found < size_ ? found : size_;
    }

    [[nodiscard]] bool can_be_mapped() const noexcept override { return true; }
    [[nodiscard]] result<frame_number> get_page(std::uint64_t index, bool for_write) override
    {
        auto p = EXO_TRY(ensure(index, extent::within_size));
        if (for_write)
            set_modified();
        return p.leak();
    }
    [[nodiscard]] std::size_t get_present_pages(std::uint64_t first, std::span<mm::object_page> into) override
    {
        std::size_t count = 0;
        auto guard = lock_.lock(parker());
        pages_.for_each(first, [&](std::uint64_t index, page_tree::word& w) {
            if (index - first >= into.size() || index >= pages_for(size_))
                return false;
            into[count++] = {index, share(w).leak()};
            return true;
        });
        return count;
    }
    [[nodiscard]] mm::object_mappings* mappings() noexcept override { return &mappings_; }
    [[nodiscard]] result<ref<file>> open(environment& env, const location& where, const open_options& options) override
    {
        return open_plain(env, where, *this, options);
    }

private:
    static constexpr std::uint64_t largest = ~std::uint64_t{0} >> 1;
    static constexpr std::size_t batch = 64; // pages dropped in one critical section

    void last_reference() noexcept override { delete_object(system_.context().heap, this); }
    [[nodiscard]] sync::any_parker& parker() const { return system_.context().parker; }
    [[nodiscard]] mm::page_supply& supply() const { return system_.context().pages; }

    [[nodiscard]] mm::page share(page_tree::word w) const
    {
        const auto frame = supply().frame_of(reinterpret_cast<std::byte*>(w));
        supply().acquire(frame);
        return mm::page::adopt(supply(), frame);
    }
    // Nothing for a hole.
    [[nodiscard]] mm::page find(std::uint64_t index) const
    {
        auto guard = lock_.lock(parker());
        return find_locked(index);
    }
    [[nodiscard]] mm::page find_locked(std::uint64_t index) const
    {
        const page_tree::word* const w = pages_.find(index);
        return w && *w != 0 ? share(*w) : mm::page{};
    }
    enum class extent { unbounded, within_size };
    // Errors: no_space, out_of_memory; mm::beyond_end for a page that is not within the size, and was to be.
    [[nodiscard]] result<mm::page> ensure(std::uint64_t index, extent where)
    {
        const auto is_beyond = [&] { return where == extent::within_size && index >= pages_for(size_); };
        {
            auto guard = lock_.lock(parker());
            if (is_beyond())
                return fail(mm::beyond_end, index);
            if (auto there = find_locked(index))
                return there;
        }
        auto fresh = EXO_TRY(system_.allocate_page());
        auto guard = lock_.lock(parker());
        auto w = is_beyond() ? fail(mm::beyond_end, index) : pages_.make(index);
        if (!w || **w != 0) {
            system_.give_back(1);
            return w ? result<mm::page>{share(**w)} : fail(w.error());
        }
        **w = reinterpret_cast<page_tree::word>(fresh.data());
        (void)fresh.share().leak();
        ++pages_held_;
        return fresh;
    }

    // With writers_ held.
    [[nodiscard]] result<std::size_t> write_locked(std::uint64_t offset, input& from)
    {
        if (from.remaining() != 0 && offset >= largest)
            return fail(errors::file_too_large, offset);
        std::size_t total = 0;
        while (from.remaining() != 0 && offset < largest) {
            const auto in_page = static_cast<std::size_t>(offset % page_size);
            std::size_t count = page_size - in_page;
            count = count < from.remaining() ? count : from.remaining();
            count = count < largest - offset ? count : static_cast<std::size_t>(largest - offset);
            auto p = ensure(offset / page_size, extent::unbounded);
            if (!p)
                return total != 0 ? result<std::size_t>{total} : fail(p.error());
            const auto given = from.get({p->data() + in_page, count});
            const auto stored = given.value_or(0);
            // What a source that failed left behind the end would show when the file grows.
            if (stored < count && offset + count > size_) {
                const auto kept = offset + stored > size_ ? stored : static_cast<std::size_t>(size_ - offset);
                std::memset(p->data() + in_page + kept, 0, count - kept);
            }
            if (stored == 0 && offset / page_size >= pages_for(size_))
                drop_pages(offset / page_size, 1);
            offset += stored;
            total += stored;
            grow_to(offset, stored != 0);
            if (!given)
                return total != 0 ? result<std::size_t>{total} : given;
            if (stored < count)
                break;
        }
        return total;
    }
    void grow_to(std::uint64_t end, bool wrote) noexcept
    {
        if (!wrote)
            return;
        const auto now = system_.context().clock.now();
        auto guard = lock_.lock(parker());
        size_ = end > size_ ? end : size_;
        modified_ = changed_ = now;
    }

    // At most `most` pages from `first` on; how many.
    void set_size(std::uint64_t size) noexcept
    {
        auto guard = lock_.lock(parker());
        size_ = size;
    }
    std::size_t drop_pages(std::uint64_t first, std::size_t most) noexcept
    {
        std::size_t dropped = 0;
        {
            auto guard = lock_.lock(parker());
            pages_.for_each(first, [&](std::uint64_t, page_tree::word& w) {
                supply().release(supply().frame_of(reinterpret_cast<std::byte*>(w)));
                w = 0;
                return ++dropped < most;
            });
            pages_held_ -= dropped;
        }
        system_.give_back(dropped);
        return dropped;
    }

    sync::mutex<sync::lock_rank::file_content> writers_; // size_ grows or shrinks under it only
    page_tree pages_;
    mm::object_mappings mappings_;
};

inline result<> tmpfs_file::truncate(std::uint64_t size)
{
    if (size > largest)
        return fail(errors::file_too_large, size);
    auto guard = writers_.lock(parker());
    const auto before = size_;
    set_size(size);
    if (pages_for(size) < pages_for(before))
        if (const auto forgotten = mappings_.forget_from(parker(), pages_for(size)); !forgotten) {
            set_size(before);
            return forgotten;
        }
    {
        auto data = lock_.lock(parker());
        // What is cut off in the last page that stays must read as zero if the file grows again.
        const bool cuts_a_page = size < before && size % page_size != 0;
        const page_tree::word* const w = cuts_a_page ? pages_.find(size / page_size) : nullptr;
        if (w && *w != 0) {
            const auto kept = static_cast<std::size_t>(size % page_size);
            std::memset(reinterpret_cast<std::byte*>(*w) + kept, 0, page_size - kept);
        }
    }
    while (drop_pages(pages_for(size), batch) == batch) {}
    set_modified();
    return {};
}

class tmpfs_symlink final : public tmpfs_node {
public:
    tmpfs_symlink(tmpfs& system, const new_inode& what, owned_array<char> target)
        : tmpfs_node{system, what}, target_{std::move(target)}
    {
        size_ = target_.size();
    }
    [[nodiscard]] result<std::size_t> read_link(std::span<char> into) override
    {
        const auto count = target_.size() < into.size() ? target_.size() : into.size();
        if (count != 0)
            std::memcpy(into.data(), target_.data(), count);
        return target_.size();
    }
    [[nodiscard]] result<ref<file>> open(environment&, const location&, const open_options&) override
    {
        return fail(errors::too_many_symlinks);
    }

private:
    void last_reference() noexcept override { delete_object(system_.context().heap, this); }

    const owned_array<char> target_;
};

// Devices, FIFOs, sockets: only their name is here.
class tmpfs_special final : public tmpfs_node {
public:
    tmpfs_special(tmpfs& system, const new_inode& what) : tmpfs_node{system, what} {}

    [[nodiscard]] result<ref<file>> open(environment& env, const location& where, const open_options& options) override
    {
        if (type() != file_type::fifo)
            return open_device(env, where, *this, special_, options);
        return EXO_TRY(fifo_.bytes(env))->open_fifo(where, *this, options);
    }

private:
    void last_reference() noexcept override { delete_object(system_.context().heap, this); }

    fifo fifo_;
};

class tmpfs_directory final : public tmpfs_node {
public:
    tmpfs_directory(tmpfs& system, const new_inode& what, std::uint64_t parent)
        : tmpfs_node{system, what}, parent_{parent ? parent : number()}
    {
        links_.store(1, std::memory_order_relaxed); // its own "."
    }
    ~tmpfs_directory() override
    {
        while (entry* e = by_name_.first())
            erase(*e);
    }

    [[nodiscard]] result<ref<inode>> lookup(std::string_view name) override
    {
        if (const entry* e = by_name_.find(name))
            return ref<inode>{*e->node};
        return fail(errors::not_found);
    }
    [[nodiscard]] result<ref<inode>> create(std::string_view name, const new_inode& what) override
    {
        switch (what.type) {
        case file_type::regular:
            return add<tmpfs_file>(name, what);
        case file_type::directory:
            return add<tmpfs_directory>(name, what, number());
        default:
            return add<tmpfs_special>(name, what);
        }
    }
    [[nodiscard]] result<ref<inode>> symlink(std::string_view name, std::string_view target,
                                             const new_inode& what) override
    {
        return add<tmpfs_symlink>(name, what, EXO_TRY(copy_of(target)));
    }
    [[nodiscard]] result<> link(std::string_view name, inode& target) override
    {
        auto& node = static_cast<tmpfs_node&>(target);
        if (node.links_.load(std::memory_order_relaxed) == 0)
            return fail(errors::not_found); // its last name went meanwhile
        insert(*EXO_TRY(make_entry(name, ref<tmpfs_node>{node})));
        node.count_link(+1);
        set_modified();
        return {};
    }
    [[nodiscard]] result<> unlink(std::string_view name, inode& target) override
    {
        forget(name, static_cast<tmpfs_node&>(target));
        return {};
    }
    [[nodiscard]] result<> remove_directory(std::string_view name, inode& target) override
    {
        auto& directory = static_cast<tmpfs_directory&>(target);
        if (!directory.by_name_.empty())
            return fail(errors::directory_not_empty);
        forget(name, directory);
        return {};
    }
    [[nodiscard]] result<> rename(std::string_view name, inode& source, inode& new_parent, std::string_view new_name,
                                  inode* target, rename_options options) override;

    [[nodiscard]] result<> read_directory(std::uint64_t position, directory_sink& sink) override
    {
        if (position == 0 && !sink.add({".", number(), type(), 1}))
            return {};
        if (position <= 1 && !sink.add({"..", parent_, type(), first_position}))
            return {};
        for (entry* e = by_position_.lower_bound(position); e; e = by_position_.next(*e))
            if (!sink.add({e->text(), e->node->number(), e->node->type(), e->position + 1}))
                return {};
        return {};
    }
    [[nodiscard]] result<ref<file>> open(environment& env, const location& where, const open_options& options) override
    {
        return open_plain(env, where, *this, options);
    }

private:
    friend class tmpfs;
    static constexpr std::uint64_t first_position = 2;

    struct entry {
        [[nodiscard]] std::string_view text() const { return {name.data(), name.size()}; }

        owned_array<char> name;
        ref<tmpfs_node> node;
        std::uint64_t position{};
        tree_hook name_hook;
        tree_hook position_hook;
    };

    void last_reference() noexcept override { delete_object(system_.context().heap, this); }
    [[nodiscard]] allocator& heap() const { return system_.context().heap; }

    [[nodiscard]] result<owned_array<char>> copy_of(std::string_view text)
    {
        auto copy = EXO_TRY(owned_array<char>::create(heap(), text.size()));
        for (std::size_t i = 0; i < text.size(); ++i)
            copy[i] = text[i];
        return copy;
    }
    [[nodiscard]] result<entry*> make_entry(std::string_view name, ref<tmpfs_node> node)
    {
        auto copy = EXO_TRY(copy_of(name));
        entry* const e = EXO_TRY(new_object<entry>(heap()));
        e->name = std::move(copy);
        e->node = std::move(node);
        return e;
    }
    // Behind everything that a reader has seen.
    void insert(entry& e)
    {
        e.position = next_position_++;
        by_name_.insert(e);
        by_position_.insert(e);
    }
    void take_out(entry& e)
    {
        by_name_.erase(e);
        by_position_.erase(e);
    }
    void erase(entry& e)
    {
        take_out(e);
        delete_object(heap(), &e);
    }

    template <class Node, class... Args>
    result<ref<inode>> add(std::string_view name, const new_inode& what, Args&&... args)
    {
        auto node =
            ref<Node>::adopt(EXO_TRY(new_object<Node>(heap(), system_, what, std::forward<Args>(args)...)));
        insert(*EXO_TRY(make_entry(name, node)));
        node->count_link(+1);
        if (node->is_directory())
            count_link(+1);
        set_modified();
        return ref<inode>{std::move(node)};
    }
    void forget(std::string_view name, tmpfs_node& node)
    {
        const ref<tmpfs_node> still{node};
        erase(*by_name_.find(name));
        let_go(node);
        set_modified();
    }
    // One name of `node` in this directory is gone.
    void let_go(tmpfs_node& node)
    {
        node.count_link(node.is_directory() ? -2 : -1);
        if (node.is_directory())
            count_link(-1);
    }
    // A directory came from `other`.
    void move_in(tmpfs_node& node, tmpfs_directory& other)
    {
        if (!node.is_directory() || &other == this)
            return;
        static_cast<tmpfs_directory&>(node).parent_ = number();
        count_link(+1);
        other.count_link(-1);
    }

    tree<entry, &entry::name_hook, &entry::text> by_name_;
    tree<entry, &entry::position_hook, &entry::position> by_position_;
    std::uint64_t next_position_{first_position};
    std::atomic<std::uint64_t> parent_;
};

inline result<> tmpfs_directory::rename(std::string_view name, inode& source, inode& new_parent,
                                        std::string_view new_name, inode* target, rename_options options)
{
    auto& to = static_cast<tmpfs_directory&>(new_parent);
    auto& moved = static_cast<tmpfs_node&>(source);
    auto* const there = static_cast<tmpfs_node*>(target);
    if (there && !options.exchange && there->is_directory() &&
        !static_cast<tmpfs_directory*>(there)->by_name_.empty())
        return fail(errors::directory_not_empty);
    entry& old_entry = *by_name_.find(name);
    if (there) {
        entry& new_entry = *to.by_name_.find(new_name);
        std::swap(old_entry.node, new_entry.node);
        to.move_in(moved, *this);
        if (options.exchange) {
            move_in(*there, to);
            there->count_link(0);
        } else {
            const ref<tmpfs_node> still{*there};
            erase(old_entry);
            to.let_go(*there);
        }
    } else {
        auto copy = EXO_TRY(copy_of(new_name));
        take_out(old_entry);
        old_entry.name = std::move(copy);
        to.insert(old_entry);
        to.move_in(moved, *this);
    }
    moved.count_link(0);
    set_modified();
    if (&to != this)
        to.set_modified();
    return {};
}

inline result<ref<tmpfs>> tmpfs::create(environment& env, const tmpfs_options& options)
{
    auto system = ref<tmpfs>::adopt(EXO_TRY(new_object<tmpfs>(env.heap, env, options)));
    const new_inode top{.type = file_type::directory, .permissions = options.root_permissions};
    system->root_ = ref<tmpfs_directory>::adopt(
        EXO_TRY(new_object<tmpfs_directory>(env.heap, *system, top, std::uint64_t{0})));
    system->root_->count_link(+1);
    return system;
}

inline result<ref<inode>> tmpfs::root()
{
    return ref<inode>{root_};
}

// Takes the tree apart in a loop: it may be deeper than the stack.
inline tmpfs::~tmpfs()
{
    if (!root_)
        return;
    using entry = tmpfs_directory::entry;
    tree<entry, &entry::position_hook, &entry::position> rest;
    const auto take_all = [&rest](tmpfs_directory& directory) {
        while (entry* e = directory.by_name_.first()) {
            directory.take_out(*e);
            rest.insert(*e);
        }
    };
    take_all(*root_);
    while (entry* e = rest.pop_first()) {
        if (e->node->is_directory())
            take_all(static_cast<tmpfs_directory&>(*e->node));
        delete_object(environment_.heap, e);
    }
}

} // namespace exo::fs
