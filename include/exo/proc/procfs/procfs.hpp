// procfs: processes and the machine as files of text (Linux's proc(5)), as ps, top, free, mount and df read them.
//
// Of a System it uses, beside the components, memory_status(), processor_count(), processor(n), idle_time(n),
// turns(n), boot_options(), terminals() and metrics(). A file more is a row in one of the tables.

#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include <exo/base/allocator.hpp>
#include <exo/base/ref.hpp>
#include <exo/fs/file_system.hpp>
#include <exo/proc/process.hpp>
#include <exo/proc/process_table.hpp>
#include <exo/proc/procfs/process_files.hpp>
#include <exo/proc/procfs/system_files.hpp>
#include <exo/proc/procfs/text_file.hpp>
#include <exo/proc/thread.hpp>

namespace exo::proc {

template <class System>
class procfs final : public fs::file_system {
public:
    static constexpr std::uint64_t magic = 0x9fa0; // as statfs(2) names it

    procfs(System& system, fs::environment& env)
        : system_{system}, environment_{env}, device_{env.next_device.fetch_add(1, std::memory_order_relaxed)}
    {
    }

    // Errors: out_of_memory.
    [[nodiscard]] static result<ref<procfs>> create(System& system)
    {
        fs::environment& env = system.file_environment();
        auto made = new_object<procfs>(env.heap, system, env);
        return made ? result<ref<procfs>>{ref<procfs>::adopt(*made)} : fail(made.error());
    }

    [[nodiscard]] std::string_view type_name() const noexcept override { return "proc"; }
    [[nodiscard]] result<ref<fs::inode>> root() override;
    [[nodiscard]] result<fs::file_system_status> status() override
    {
        fs::file_system_status s;
        s.type = magic;
        s.block_size = page_size;
        s.longest_name = fs::longest_name;
        return s;
    }

private:
    using process_type = process<System>;

    // What a node is about: the machine, or a process, or one of its threads or descriptors.
    struct subject {
        procfs& owner;
        ref<process_type> about;
        int descriptor{-1};
        process_id thread{}; // 0: none in particular

        [[nodiscard]] System& system() const { return owner.system_; }
    };
    struct row {
        std::string_view name;
        fs::file_type type;
        fs::permission_bits permissions;
        // The text of a file, or the target of a link; null for a directory.
        result<> (*write)(const subject&, text_builder&);
    };
    class node;
    class text_node;
    class link_node;
    class directory;
    class root_directory;
    class process_directory;
    class descriptor_directory;
    class task_directory;

    template <auto Write>
    static constexpr row process_text(std::string_view name)
    {
        return {name, fs::file_type::regular, 0444,
                [](const subject& s, text_builder& out) { return Write(*s.about, out); }};
    }
    template <auto Write>
    static constexpr row thread_text(std::string_view name)
    {
        return {name, fs::file_type::regular, 0444,
                [](const subject& s, text_builder& out) { return Write(*s.about, s.thread, out); }};
    }
    template <auto Write>
    static constexpr row process_link(std::string_view name)
    {
        return {name, fs::file_type::symlink, 0777,
                [](const subject& s, text_builder& out) { return Write(*s.about, out); }};
    }
    template <auto Write>
    static constexpr row system_text(std::string_view name)
    {
        return {name, fs::file_type::regular, 0444,
                [](const subject& s, text_builder& out) { return Write(s.system(), out); }};
    }

    [[nodiscard]] static std::span<const row> process_rows()
    {
        static constexpr row rows[] = {
            process_text<write_process_command_line<System>>("cmdline"),
            thread_text<write_name<System>>("comm"),
            process_link<write_process_directory<System>>("cwd"),
            process_link<write_process_executable<System>>("exe"),
            {"fd", fs::file_type::directory, 0500, nullptr},
            process_text<write_process_maps<System>>("maps"),
            system_text<write_mounts<System>>("mounts"),
            process_link<write_process_root<System>>("root"),
            thread_text<write_scheduling<System>>("sched"),
            process_text<write_process_memory_usage<System>>("smaps"),
            process_text<write_process_memory_sum<System>>("smaps_rollup"),
            thread_text<write_stat<System>>("stat"),
            process_text<write_process_statm<System>>("statm"),
            thread_text<write_status<System>>("status"),
            {"task", fs::file_type::directory, 0555, nullptr},
        };
        return rows;
    }
    // Of one thread: the same, but for its own threads.
    [[nodiscard]] static std::span<const row> thread_rows() { return process_rows().first(process_rows().size() - 1); }
    [[nodiscard]] static std::span<const row> system_rows()
    {
        static constexpr row rows[] = {
            system_text<write_command_line<System>>("cmdline"),
            system_text<write_processors<System>>("cpuinfo"),
            {"exo", fs::file_type::directory, 0555, nullptr},
            system_text<write_file_systems<System>>("filesystems"),
            {"loadavg", fs::file_type::regular, 0444,
             [](const subject& s, text_builder& out) { return s.owner.write_load_average(out); }},
            system_text<write_memory_information<System>>("meminfo"),
            {"mounts", fs::file_type::symlink, 0777,
             [](const subject&, text_builder& out) { return out.put("self/mounts").status(); }},
            {"self", fs::file_type::symlink, 0777,
             [](const subject& s, text_builder& out) { return s.owner.write_caller(out); }},
            system_text<write_statistics<System>>("stat"),
            {"thread-self", fs::file_type::symlink, 0777,
             [](const subject& s, text_builder& out) { return s.owner.write_calling_thread(out); }},
            system_text<write_uptime<System>>("uptime"),
            system_text<write_version<System>>("version"),
        };
        return rows;
    }
    [[nodiscard]] static std::span<const row> own_rows()
    {
        static constexpr row rows[] = {system_text<write_metrics<System>>("metrics"), system_text<write_trace<System>>("trace")};
        return rows;
    }
    [[nodiscard]] static row descriptor_row()
    {
        return {{}, fs::file_type::symlink, 0700,
                [](const subject& s, text_builder& out) { return write_descriptor(*s.about, s.descriptor, out); }};
    }

    // Numbers of nodes: those of a process begin at its own number's.
    static constexpr std::uint64_t root_number = 1;
    static constexpr std::uint64_t system_numbers = 2;
    static constexpr std::uint64_t own_numbers = 0x100;
    static constexpr std::uint64_t descriptor_numbers = 0x1000;
    static constexpr std::uint64_t thread_numbers = 0x4000'0000, numbers_of_thread = 0x40;
    [[nodiscard]] static std::uint64_t process_number(const process_type& p)
    {
        return static_cast<std::uint64_t>(p.id()) << 32;
    }

    [[nodiscard]] result<ref<fs::inode>> make(const row& what, std::uint64_t number, const subject& about);
    // The decimal number that `text` is, or -1.
    [[nodiscard]] static std::int32_t to_number(std::string_view text)
    {
        if (text.empty() || text.size() > 9 || (text.size() > 1 && text.front() == '0'))
            return -1;
        std::int32_t value = 0;
        for (const char c : text) {
            if (c < '0' || c > '9')
                return -1;
            value = value * 10 + (c - '0');
        }
        return value;
    }

    // Errors: fs::errors::not_found, for a thread of the kernel's own.
    [[nodiscard]] result<const thread<System>*> calling_thread()
    {
        const auto* caller = static_cast<const thread<System>*>(system_.scheduler().current()->owner);
        return caller ? result<const thread<System>*>{caller} : fail(fs::errors::not_found);
    }
    [[nodiscard]] result<> write_caller(text_builder& out)
    {
        return out.put(EXO_TRY(calling_thread())->process().id()).status();
    }
    [[nodiscard]] result<> write_calling_thread(text_builder& out)
    {
        const auto* const caller = EXO_TRY(calling_thread());
        return out.put(caller->process().id(), "/task/", caller->id()).status();
    }
    [[nodiscard]] result<> write_load_average(text_builder& out)
    {
        auto guard = load_lock_.lock(environment_.parker);
        return write_load(system_, load_, out);
    }

    void last_reference() noexcept override { delete_object(environment_.heap, this); }

    System& system_;
    fs::environment& environment_;
    std::uint64_t device_;
    sync::mutex<sync::lock_rank::inode> load_lock_;
    load_average load_;
};

template <class System>
class procfs<System>::node : public generated_node {
protected:
    node(const row& what, std::uint64_t number, const subject& about)
        : node{what, number, about, about.about ? owner_of(*about.about) : id_pair{}}
    {
    }
    ~node() override = default;

    [[nodiscard]] const subject& about() const { return about_; }
    [[nodiscard]] procfs& owner() const { return about_.owner; }
    [[nodiscard]] const row& what() const { return what_; }

private:
    struct id_pair {
        std::uint32_t uid{};
        std::uint32_t gid{};
    };
    node(const row& what, std::uint64_t number, const subject& about, id_pair ids)
        : generated_node{about.owner.environment_, about.owner.device_, number, what.type, what.permissions, ids.uid,
                         ids.gid},
          about_{about}, what_{what}
    {
    }
    static id_pair owner_of(process_type& p)
    {
        auto guard = p.lock();
        return {p.identity.user.effective, p.identity.group.effective};
    }

    subject about_;
    row what_;
};

template <class System>
class procfs<System>::text_node final : public node, public text_source {
public:
    text_node(const row& what, std::uint64_t number, const subject& about) : node{what, number, about} {}

    [[nodiscard]] result<> write_text(text_builder& out) override { return this->what().write(this->about(), out); }
    [[nodiscard]] result<ref<fs::file>> open(fs::environment& env, const fs::location& where,
                                             const fs::open_options& options) override
    {
        auto made = new_object<text_file>(env.heap, env, where, ref<fs::inode>{*this}, options, *this);
        return made ? result<ref<fs::file>>{ref<fs::file>::adopt(*made)} : fail(made.error());
    }

private:
    void last_reference() noexcept override { delete_object(this->environment().heap, this); }
};

template <class System>
class procfs<System>::link_node final : public node {
public:
    link_node(const row& what, std::uint64_t number, const subject& about) : node{what, number, about} {}

    [[nodiscard]] result<std::size_t> read_link(std::span<char> into) override
    {
        text_builder target{this->environment().heap};
        EXO_TRY(this->what().write(this->about(), target));
        const std::string_view text = target.text();
        std::memcpy(into.data(), text.data(), text.size() < into.size() ? text.size() : into.size());
        return text.size();
    }
    // A descriptor's leads to the open file, whether a path leads there or not.
    [[nodiscard]] result<bool> jump(fs::location& target) override
    {
        const subject& link = this->about();
        if (link.descriptor < 0)
            return false;
        const auto opened = EXO_TRY(find_descriptor(*link.about, link.descriptor));
        target = EXO_TRY(link.system().vfs().place_of(*opened));
        return true;
    }

private:
    void last_reference() noexcept override { delete_object(this->environment().heap, this); }
};

// Names from a table, and whatever else the kind of directory adds behind them.
template <class System>
class procfs<System>::directory : public node {
public:
    [[nodiscard]] result<ref<fs::inode>> lookup(std::string_view name) override
    {
        for (std::size_t i = 0; i < rows_.size(); ++i)
            if (rows_[i].name == name)
                return this->owner().make(rows_[i], first_number_ + i, this->about());
        return look_up_more(name);
    }
    [[nodiscard]] result<> read_directory(std::uint64_t position, fs::directory_sink& sink) override
    {
        const auto offer = [&sink](std::string_view name, std::uint64_t number, fs::file_type type,
                                   std::uint64_t next) {
            return sink.add({.name = name, .inode = number, .type = type, .next = next});
        };
        if (position == 0 && !offer(".", this->number(), fs::file_type::directory, ++position))
            return {};
        if (position == 1 && !offer("..", root_number, fs::file_type::directory, ++position))
            return {};
        for (; position < more_positions; ++position) {
            const auto i = static_cast<std::size_t>(position - 2);
            if (i >= rows_.size())
                break;
            if (!offer(rows_[i].name, first_number_ + i, rows_[i].type, position + 1))
                return {};
        }
        for (auto key = static_cast<std::int32_t>(position < more_positions ? 0 : position - more_positions);;) {
            std::uint64_t number = 0;
            fs::file_type type{};
            key = next_key(key, number, type);
            if (key < 0)
                return {};
            char digits[10];
            std::size_t at = sizeof(digits);
            for (auto rest = static_cast<std::uint32_t>(key); at == sizeof(digits) || rest != 0; rest /= 10)
                digits[--at] = static_cast<char>('0' + rest % 10);
            ++key;
            if (!offer({digits + at, sizeof(digits) - at}, number, type, more_positions + static_cast<unsigned>(key)))
                return {};
        }
    }

protected:
    directory(const row& what, std::uint64_t number, const subject& about, std::span<const row> rows,
              std::uint64_t first_number)
        : node{what, number, about}, rows_{rows}, first_number_{first_number}
    {
    }
    ~directory() override = default;

    [[nodiscard]] virtual result<ref<fs::inode>> look_up_more(std::string_view) { return fail(fs::errors::not_found); }
    // The first numbered entry at or above `key`, or -1.
    [[nodiscard]] virtual std::int32_t next_key(std::int32_t /*key*/, std::uint64_t& /*number*/,
                                                fs::file_type& /*type*/)
    {
        return -1;
    }

private:
    static constexpr std::uint64_t more_positions = 64;

    std::span<const row> rows_;
    std::uint64_t first_number_;
};

template <class System>
class procfs<System>::root_directory final : public directory {
public:
    explicit root_directory(procfs& owner)
        : directory{{{}, fs::file_type::directory, 0555, nullptr}, root_number, {owner, {}}, system_rows(),
                    system_numbers}
    {
    }

private:
    [[nodiscard]] result<ref<fs::inode>> look_up_more(std::string_view name) override;
    [[nodiscard]] std::int32_t next_key(std::int32_t key, std::uint64_t& number, fs::file_type& type) override
    {
        const auto found = this->owner().system_.processes().find_from(key);
        if (!found)
            return -1;
        number = process_number(*found);
        type = fs::file_type::directory;
        return found->id();
    }
    void last_reference() noexcept override { delete_object(this->environment().heap, this); }
};

// /proc/PID and /proc/PID/task/TID, and /proc/exo, none of which has more than its table.
template <class System>
class procfs<System>::process_directory final : public directory {
public:
    process_directory(std::uint64_t number, const subject& about, std::span<const row> rows,
                      std::uint64_t first_number)
        : directory{{{}, fs::file_type::directory, 0555, nullptr}, number, about, rows, first_number}
    {
    }

private:
    void last_reference() noexcept override { delete_object(this->environment().heap, this); }
};

template <class System>
class procfs<System>::descriptor_directory final : public directory {
public:
    descriptor_directory(const row& what, std::uint64_t number, const subject& about)
        : directory{what, number, about, {}, 0}
    {
    }

private:
    [[nodiscard]] std::uint64_t number_of(std::int32_t descriptor) const
    {
        return process_number(*this->about().about) + descriptor_numbers + static_cast<std::uint64_t>(descriptor);
    }
    [[nodiscard]] result<ref<fs::inode>> look_up_more(std::string_view name) override
    {
        const std::int32_t descriptor = to_number(name);
        const auto descriptors = this->about().about->find_descriptors();
        if (descriptor < 0 || !descriptors || !descriptors->get(descriptor))
            return fail(fs::errors::not_found);
        subject one = this->about();
        one.descriptor = descriptor;
        return this->owner().make(descriptor_row(), number_of(descriptor), one);
    }
    [[nodiscard]] std::int32_t next_key(std::int32_t key, std::uint64_t& number, fs::file_type& type) override
    {
        const auto descriptors = this->about().about->find_descriptors();
        const std::int32_t found = descriptors ? descriptors->next_open(key) : -1;
        number = found < 0 ? 0 : number_of(found);
        type = fs::file_type::symlink;
        return found;
    }
    void last_reference() noexcept override { delete_object(this->environment().heap, this); }
};

template <class System>
class procfs<System>::task_directory final : public directory {
public:
    task_directory(const row& what, std::uint64_t number, const subject& about) : directory{what, number, about, {}, 0}
    {
    }

private:
    [[nodiscard]] std::uint64_t number_of(process_id thread) const
    {
        return process_number(*this->about().about) + thread_numbers +
               static_cast<std::uint64_t>(thread) * numbers_of_thread;
    }
    [[nodiscard]] result<ref<fs::inode>> look_up_more(std::string_view name) override
    {
        const std::int32_t id = to_number(name);
        std::uint64_t number = 0;
        fs::file_type type{};
        if (id <= 0 || next_key(id, number, type) != id)
            return fail(fs::errors::not_found);
        subject one = this->about();
        one.thread = id;
        auto made = new_object<process_directory>(this->environment().heap, number, one, thread_rows(), number + 1);
        return made ? result<ref<fs::inode>>{ref<fs::inode>::adopt(*made)} : fail(made.error());
    }
    [[nodiscard]] std::int32_t next_key(std::int32_t key, std::uint64_t& number, fs::file_type& type) override
    {
        process_type& p = *this->about().about;
        process_id found = key <= p.id() ? p.id() : -1; // which is there even when the thread has ended
        auto guard = p.lock();
        for (const thread<System>& t : p.threads)
            if (t.id() >= key && (found < 0 || t.id() < found))
                found = t.id();
        number = found < 0 ? 0 : number_of(found);
        type = fs::file_type::directory;
        return found;
    }
    void last_reference() noexcept override { delete_object(this->environment().heap, this); }
};

template <class System>
result<ref<fs::inode>> procfs<System>::root()
{
    auto made = new_object<root_directory>(environment_.heap, *this);
    return made ? result<ref<fs::inode>>{ref<fs::inode>::adopt(*made)} : fail(made.error());
}

template <class System>
result<ref<fs::inode>> procfs<System>::make(const row& what, std::uint64_t number, const subject& about)
{
    const auto adopt = [](auto made) {
        return made ? result<ref<fs::inode>>{ref<fs::inode>::adopt(*made)} : fail(made.error());
    };
    if (what.type == fs::file_type::regular)
        return adopt(new_object<text_node>(environment_.heap, what, number, about));
    if (what.type == fs::file_type::symlink)
        return adopt(new_object<link_node>(environment_.heap, what, number, about));
    if (about.about && what.name == "task")
        return adopt(new_object<task_directory>(environment_.heap, what, number, about));
    if (about.about)
        return adopt(new_object<descriptor_directory>(environment_.heap, what, number, about));
    return adopt(new_object<process_directory>(environment_.heap, number, about, own_rows(), own_numbers));
}

template <class System>
result<ref<fs::inode>> procfs<System>::root_directory::look_up_more(std::string_view name)
{
    procfs& owner = this->owner();
    const std::int32_t id = to_number(name);
    auto found = id > 0 ? owner.system_.processes().find(id) : nullptr;
    if (!found)
        return fail(fs::errors::not_found);
    const std::uint64_t number = process_number(*found);
    auto made = new_object<process_directory>(owner.environment_.heap, number, subject{owner, std::move(found)},
                                              process_rows(), number + 1);
    return made ? result<ref<fs::inode>>{ref<fs::inode>::adopt(*made)} : fail(made.error());
}

} // namespace exo::proc
