// A process: what its threads have in common, and its place among other processes.
//
// Who may touch what: members of the group "tree" belong to the process table's lock; "threads" change under that lock
// and the process's own, so either keeps them as they are; everything else that is not atomic changes under the
// process's own lock. The process's own threads read image and descriptors without it, since these change only when one
// thread is left (execve, exit); identity and paths only while there is one (has_one_thread), else by a copy
// (proc/caller.hpp): one thread stays the only one until it makes another. A process is one object while anybody refers
// to it: the table does until it is reaped.

#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>
#include <utility>

#include <exo/base/allocator.hpp>
#include <exo/base/list.hpp>
#include <exo/base/ref.hpp>
#include <exo/base/time.hpp>
#include <exo/base/tree.hpp>
#include <exo/fs/descriptor_table.hpp>
#include <exo/fs/path_context.hpp>
#include <exo/proc/alarm.hpp>
#include <exo/proc/credentials.hpp>
#include <exo/proc/process_id.hpp>
#include <exo/proc/program_image.hpp>
#include <exo/proc/resource.hpp>
#include <exo/proc/signal.hpp>
#include <exo/proc/wait_status.hpp>
#include <exo/sync/lock_rank.hpp>
#include <exo/sync/spin_lock.hpp>
#include <exo/sync/wait_queue.hpp>

namespace exo::proc {

template <class System>
class thread;

enum class process_state : std::uint8_t {
    alive,
    stopped, // its threads wait on their way to user mode
    zombie,  // only the number and what wait4 reports are left
};

template <class System>
class process final : public ref_counted {
public:
    using lock_type = sync::spin_lock<sync::lock_rank::process, typename System::interrupts_type>;
    using image_type = program_image<System>;

    explicit process(System& s) : system_{s}, started_{s.now()} {}

    [[nodiscard]] System& system() const { return system_; }
    [[nodiscard]] process_id id() const { return id_; }
    [[nodiscard]] instant started() const { return started_; }
    [[nodiscard]] typename lock_type::guard lock() { return lock_.lock(system_.interrupts()); }

    // Tree.
    process* parent{};
    list_hook sibling_hook;
    list<process, &process::sibling_hook> children;
    tree_hook table_hook;
    process_id group{};
    process_id session{};
    std::atomic<process_state> state{process_state::alive};
    wait_status status{};     // what the parent learns next
    bool stop_reported{true}; // stopped or continued, and wait4 has told so
    bool continue_reported{true};
    bool has_executed{}; // setpgid refuses such a child
    signal exit_signal{signal::sigchld};
    resource_usage children_usage{}; // of the children that were waited for
    sync::wait_queue child_events;

    // Threads.
    list<thread<System>, &thread<System>::sibling_hook> threads;
    thread<System>* main_thread{}; // the one with the process's number; null once it has ended, others or not
    void add(thread<System>& t)
    {
        threads.push_back(t);
        if (t.id() == id_)
            main_thread = &t;
        thread_count_.fetch_add(1, std::memory_order_relaxed);
    }
    void remove(thread<System>& t)
    {
        threads.erase(t);
        if (main_thread == &t)
            main_thread = nullptr;
        thread_count_.fetch_sub(1, std::memory_order_release);
    }
    // A snapshot, but that there is one stays so for that one.
    [[nodiscard]] std::uint32_t thread_count() const noexcept { return thread_count_.load(std::memory_order_acquire); }
    [[nodiscard]] bool has_one_thread() const noexcept { return thread_count() == 1; }
    // Whom the process is, to those who mean no thread in particular; null when all have ended.
    [[nodiscard]] thread<System>* any_thread() { return main_thread ? main_thread : threads.front(); }
    bool ending{}; // all threads are on their way to their end
    wait_status end_status{};
    bool executing{};               // all but one, which is going to be another program
    sync::wait_queue thread_events; // one has ended
    resource_usage usage{};         // of those that have ended

    // Signals.
    signal_actions actions{};
    [[nodiscard]] signal_action action(signal s)
    {
        auto guard = lock();
        return actions[s];
    }
    pending_signals pending{};
    bool stop_taken{};            // a stop signal, whose effect SIGCONT and SIGKILL can still prevent
    std::atomic<bool> stopping{}; // each thread stops on its way to user mode; ends by SIGCONT or SIGKILL
    signal stop_signal{};
    sync::wait_queue stop_events;
    std::atomic<bool> alarm_expired{}; // SIGALRM is due: timers cannot take the lock that posting takes
    alarm_timer<System> alarm{alarm_expired};

    // Image. Null when the process has ended, and for the kernel's own threads.
    [[nodiscard]] image_type& image() const { return *image_.image(); }
    [[nodiscard]] bool has_image() const { return static_cast<bool>(image_.image()); }
    // For others (procfs): a reference, or null.
    [[nodiscard]] ref<image_type> find_image()
    {
        auto guard = lock();
        return image_.image();
    }
    [[nodiscard]] bool runs_in(const image_type& image)
    {
        auto guard = lock();
        return image_.image().get() == &image;
    }
    // The memory of the previous one is given back before this returns, if no other process runs in it.
    void set_image(ref<image_type> next)
    {
        image_use<System> use{std::move(next)}; // ends after the guard
        auto guard = lock();
        std::swap(image_, use);
    }

    // Files. The descriptors are null once the process has ended.
    ref<fs::descriptor_table> descriptors;
    [[nodiscard]] fs::descriptor_table& files() const { return *descriptors; }
    fs::path_context paths;
    // For others (procfs): a reference, or null; and a copy.
    [[nodiscard]] ref<fs::descriptor_table> find_descriptors()
    {
        auto guard = lock();
        return descriptors;
    }
    [[nodiscard]] fs::path_context copy_paths()
    {
        auto guard = lock();
        return paths;
    }
    // Directories are let go without the lock: their file system may have work to do.
    void change_directory(fs::location to)
    {
        auto guard = lock();
        std::swap(paths.working_directory, to);
        guard.unlock();
    }
    void release_files()
    {
        fs::path_context old_paths;
        ref<fs::descriptor_table> old_descriptors;
        auto guard = lock();
        std::swap(paths, old_paths);
        std::swap(descriptors, old_descriptors);
        guard.unlock();
    }

    credentials identity{};
    void publish_identity() { paths.who = identity.for_files(); }
    [[nodiscard]] id_set user_ids()
    {
        auto guard = lock();
        return identity.user;
    }

    // execve places programs at random (not so with personality's ADDR_NO_RANDOMIZE); inherited.
    std::atomic<bool> randomizes{true};

    // execve gives no more rights than there are (PR_SET_NO_NEW_PRIVS); for good, and inherited.
    std::atomic<bool> gains_no_rights{};

    resource_limits limits{}; // read as they are

    // The name of the program, as PR_SET_NAME and /proc/PID/comm know it.
    static constexpr std::size_t name_limit = 15;
    [[nodiscard]] std::string_view name() const { return {name_, name_length_}; }
    void set_name(std::string_view name)
    {
        name_length_ = name.size() < name_limit ? name.size() : name_limit;
        for (std::size_t i = 0; i < name_length_; ++i)
            name_[i] = name[i];
    }

    // A parent in vfork waits until this is true: the child has an image of its own, or has ended.
    std::atomic<bool> image_released{};
    sync::wait_queue image_events;

private:
    template <class>
    friend class process_table;

    void last_reference() noexcept override { delete_object(system_.heap(), this); }

    System& system_;
    process_id id_{};
    instant started_;
    lock_type lock_;
    image_use<System> image_;
    std::atomic<std::uint32_t> thread_count_{};
    char name_[name_limit]{};
    std::size_t name_length_{};
};

} // namespace exo::proc
