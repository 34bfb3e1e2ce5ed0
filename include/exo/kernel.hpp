// A whole kernel: every room of the library over one Platform (platform.hpp says what that owes, and when it calls what
// stands here).
//
// A kernel ends as a machine does, by losing its power: it is not destroyed.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include <exo/base/address.hpp>
#include <exo/base/check.hpp>
#include <exo/base/result.hpp>
#include <exo/drivers/tty.hpp>
#include <exo/fs/devfs/devfs.hpp>
#include <exo/fs/devfs/memory_devices.hpp>
#include <exo/fs/ext2/ext2.hpp>
#include <exo/kernel_system.hpp>
#include <exo/linux/dispatcher.hpp>
#include <exo/linux/restartable_sequence.hpp>
#include <exo/linux/signal_frame.hpp>
#include <exo/mm/fault.hpp>
#include <exo/mm/heap_metrics.hpp>
#include <exo/mm/metrics.hpp>
#include <exo/proc/exec.hpp>
#include <exo/proc/fault.hpp>
#include <exo/proc/job_control.hpp>
#include <exo/proc/out_of_memory.hpp>
#include <exo/proc/procfs/procfs.hpp>
#include <exo/proc/signals.hpp>
#include <exo/sched/queue_metrics.hpp>
#include <exo/sync/held_locks.hpp>
#include <exo/sync/lock_counters.hpp>
#include <exo/sync/lock_observer.hpp>
#include <exo/trace/lock_metrics.hpp>

namespace exo {

template <class P>
class kernel : public kernel_system<P> {
public:
    using system_type = kernel_system<P>;
    using frame = typename system_type::frame;
    using thread_type = typename system_type::thread_type;
    using process_type = typename system_type::process_type;
    using processor_type = typename system_type::scheduler_type::processor;
    using cpu_record = typename system_type::cpu_record;

    explicit kernel(P& platform)
        : system_type{platform}, killer_{*this}, jobs_{*this}, console_output_{platform},
          console_{this->parker(), console_output_, jobs_, this->terminals(), console_number},
          controlling_terminal_{this->terminals(), jobs_, controlling_terminal_number}, random_source_{*this},
          memory_devices_{random_source_}, scheduler_metrics_{this->scheduler().make_metrics_source()},
          queue_metrics_{sched::queue_metrics<processor_type, typename system_type::real_time_type>::table,
                         this->scheduler().processors()[0], this->scheduler().processors().size()},
          time_metrics_{time_table, this->records_of_cpus()[0], this->records_of_cpus().size()},
          lock_metrics_{counters_of_cpu{platform}, platform.cpu().cpu_limit()},
          memory_metrics_{mm::make_metrics_source(this->memory())}, heap_metrics_{this->heap_behind()},
          shootdown_metrics_{this->memory().shootdown.make_metrics_source()}
    {
        this->metrics().add(scheduler_metrics_);
        this->metrics().add(queue_metrics_);
        this->metrics().add(time_metrics_);
        this->metrics().add(memory_metrics_);
        this->metrics().add(heap_metrics_);
        this->metrics().add(shootdown_metrics_);
        if constexpr (counts_locks)
            this->metrics().add(lock_metrics_);
    }

    // The boot CPU's idle thread from here on.
    [[noreturn]] void run()
    {
        this->platform().attach(*this);
        this->log().line("kernel entered; ", this->memory_status().free >> 10, " KiB of memory free");
        if (auto started = start_init(); !started)
            give_up("no memory for the first process", started.error());
        this->watch_this_cpu();
        this->scheduler().run();
    }

    // The idle thread of another CPU, which has interrupts on, from here on. After attach() has begun.
    [[noreturn]] void run_processor()
    {
        this->keep_deadlines_by_bandwidth();
        this->watch_this_cpu();
        this->scheduler().run();
    }

    // Entry points; see platform.hpp.

    [[gnu::hot]] void on_system_call(frame& f)
    {
        this->keep_memory_free();
        calls_.on_system_call(this->current_thread(), f);
    }
    void on_page_fault(frame&, virt_addr at, mm::access how)
    {
        thread_type& t = this->current_thread();
        if (const auto handled = handle_fault(t, at, how); !handled)
            proc::raise_fault(t, signal_for(handled.error(), at));
    }
    [[nodiscard]] bool resolve_fault(virt_addr at, mm::access how)
    {
        thread_type* t = system_type::thread_of(*this->scheduler().current());
        return t && t->space() && !t->present_memory_only && handle_fault(*t, at, how);
    }
    void on_exception(frame& f, proc::fault what)
    {
        proc::raise_fault(this->current_thread(), proc::signal_of_fault(what, f.rip));
    }
    [[gnu::hot]] void on_return_to_user(frame& f)
    {
        thread_type& t = this->current_thread();
        if constexpr (sync::locks_are_checked)
            EXO_CHECK(!t.task.locks.lowest());
        if (t.task.interrupt_pending.load(std::memory_order_acquire) || t.restart != proc::restart_kind::none ||
            t.blocked_is_temporary) [[unlikely]]
            linux_abi::deliver_signals(t, f);
        if (t.displaced.load(std::memory_order_relaxed)) [[unlikely]]
            linux_abi::resume_sequence(t, f);
    }
    [[nodiscard, gnu::hot]] bool return_work_pending() noexcept
    {
        const thread_type& t = this->current_thread();
        return t.task.interrupt_pending.load(std::memory_order_acquire) || t.displaced.load(std::memory_order_relaxed);
    }
    void on_timer(proc::processor_mode interrupted) noexcept
    {
        this->record_of_this_cpu().interrupted = interrupted;
        this->scheduler().on_tick();
    }
    void on_kick() noexcept { this->scheduler().on_kick(); }
    void preempt_if_needed() noexcept { this->scheduler().preempt_if_needed(); }
    void on_console_input(std::span<const std::byte> bytes) noexcept { console_.receive(bytes); }

    [[nodiscard]] drivers::tty& console() { return console_; }

private:
    template <proc::processor_mode Mode>
    static constexpr trace::table_row<cpu_record> sampled_time(std::string_view name, std::string_view help)
    {
        return {{name, help, trace::metric_kind::counter}, [](const cpu_record& r) noexcept {
                    return static_cast<std::uint64_t>(r.time_split.sampled(Mode).nanoseconds());
                }};
    }
    static constexpr trace::table_row<cpu_record> time_table[] = {
        sampled_time<proc::processor_mode::user>("exo_sched_time_user_ns_total",
                                                 "Time that CPUs were in user mode, as sampled"),
        sampled_time<proc::processor_mode::kernel>("exo_sched_time_kernel_ns_total",
                                                   "Time that CPUs were in the kernel for a process, as sampled"),
    };

    // Where the build counts what locks cost, and the platform keeps the counters.
    static constexpr bool counts_locks =
        sync::locks_are_counted && requires(P& platform, unsigned cpu) { platform.lock_counters(cpu); };
    struct counters_of_cpu {
        P& platform;
        const sync::lock_counters& operator()(unsigned cpu) const noexcept { return *platform.lock_counters(cpu); }
    };
    struct no_lock_metrics {
        no_lock_metrics(counters_of_cpu, unsigned) {}
    };
    using lock_metrics_type = std::conditional_t<counts_locks, trace::lock_metrics<counters_of_cpu>, no_lock_metrics>;

    static constexpr fs::device_number console_number{5, 1};
    static constexpr fs::device_number controlling_terminal_number{5, 0};

    class console_transmitter final : public drivers::transmitter {
    public:
        explicit console_transmitter(P& platform) : platform_{platform} {}
        void transmit(std::span<const std::byte> bytes) noexcept override
        {
            platform_.console().write({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
        }

    private:
        P& platform_;
    };
    class random_source final : public fs::byte_source {
    public:
        explicit random_source(system_type& system) : system_{system} {}
        result<> fill(std::span<std::byte> into) noexcept override
        {
            system_.random(into);
            return {};
        }

    private:
        system_type& system_;
    };

    // Memory.

    [[nodiscard]] result<> handle_fault(thread_type& t, virt_addr at, mm::access how)
    {
        typename decltype(killer_)::shortage found;
        for (;;) {
            const auto outcome = t.space()->handle_fault(at, how);
            if (outcome)
                return {};
            if (outcome.error() != errors::out_of_memory || !killer_.make_room(t, found))
                return fail(outcome.error());
        }
    }
    [[nodiscard]] proc::signal_info signal_for(error e, virt_addr at)
    {
        using namespace proc;
        if (e == mm::no_region)
            return {.number = signal::sigsegv, .code = signal_code::map_error, .value = at.value()};
        if (e == mm::access_denied)
            return {.number = signal::sigsegv, .code = signal_code::access_error, .value = at.value()};
        if (e == exo::errors::out_of_memory)
            return {.number = signal::sigkill, .code = signal_code::kernel};
        return {.number = signal::sigbus, .code = signal_code::no_address, .value = at.value()};
    }

    // The way up.

    [[noreturn]] void give_up(std::string_view what, error e)
    {
        this->log().line(what, ": ", e.kind().message);
        panic_text_ << what << ": " << e.kind().message;
        EXO_PANIC(panic_text_.c_str());
    }

    [[nodiscard]] result<> start_init()
    {
        auto init = ref<process_type>::adopt(EXO_TRY(new_object<process_type>(this->heap(), *this)));
        process_type& p = *init;
        p.set_name("init");
        p.descriptors = EXO_TRY(fs::descriptor_table::create(this->file_environment()));
        thread_type* t = EXO_TRY(thread_type::create(p, &boot));
        {
            auto guard = this->processes().lock();
            EXO_TRY(this->processes().insert(guard, init));
            p.group = p.session = p.id();
            t->set_id(p.id());
            p.add(*t);
        }
        this->user_mode().reset(t->state);
        this->scheduler().start(t->task);
        return {};
    }
    static void boot(thread_type& t)
    {
        auto& self = static_cast<kernel&>(t.system());
        self.bring_up(t);
        thread_type::enter_user_mode(t);
    }

    void bring_up(thread_type& t)
    {
        if (auto started = this->platform().start_devices(*this); !started)
            give_up("cannot start the devices", started.error());
        this->stir_random();
        mount_root();
        t.process().paths = this->vfs().initial_context();
        t.process().paths.umask = 022;
        mount_others(t.process());

        const auto& options = this->boot_options();
        if (auto shell = execute_shell(t); shell)
            t.first_frame = *shell;
        else
            give_up("cannot start /bin/sh", shell.error());
        if (auto opened = open_standard_files(t.process(), options.command.has_value()); !opened)
            give_up("cannot open /dev/console", opened.error());
        if (options.marker) {
            this->platform().console().write(*options.marker);
            this->platform().console().write("\n");
        }
        const duration taken = this->now() - this->platform().entry_time();
        this->log().line("first user instruction after ", taken.nanoseconds() / 1000, " us");
    }

    [[nodiscard]] result<ref<fs::file_system>> find_root()
    {
        if constexpr (requires(P& p) { p.root_file_system(*this); })
            return this->platform().root_file_system(*this);
        else if (this->platform().disk_count() == 0)
            return fail(errors::no_device);
        else
            return open_disk(0);
    }
    [[nodiscard]] result<ref<fs::file_system>> open_disk(std::size_t index)
    {
        return ref<fs::file_system>{EXO_TRY(fs::ext2::create(this->file_environment(), this->platform().disk(index)))};
    }
    void mount_root()
    {
        auto root = find_root();
        if (!root)
            give_up("no root file system on disk 0", root.error());
        const auto type = (*root)->type_name();
        if (auto mounted = this->vfs().mount_root(std::move(*root), "/dev/vda"); !mounted)
            give_up("cannot mount the root file system", mounted.error());
        this->log().line("root file system: ", type);
    }

    // Mounts that the system can do without: where the directory is missing, so is the mount.
    void mount_others(process_type& p)
    {
        const auto mount = [&](std::string_view where, auto made, std::string_view source) {
            if (!made)
                return this->log().line("no file system for ", where, ": ", made.error().kind().message);
            const auto mounted = this->vfs().mount(p.paths, where, ref<fs::file_system>{std::move(*made)}, source);
            if (!mounted)
                this->log().line("cannot mount ", where, ": ", mounted.error().kind().message);
        };
        mount("/dev", make_devices(), "devtmpfs");
        mount("/proc", proc::procfs<system_type>::create(*this), "proc");
        mount("/tmp", this->create_tmpfs(01777), "tmpfs");
        if (this->platform().disk_count() < 2)
            return;
        mount("/mnt", this->create_tmpfs(0755), "tmpfs");
        for (std::size_t i = 1; i < this->platform().disk_count() && i <= 10; ++i) {
            const char digit = static_cast<char>('0' + i - 1);
            const char name[] = {'/', 'm', 'n', 't', '/', digit};
            const char source[] = {'/', 'd', 'e', 'v', '/', 'v', 'd', static_cast<char>('a' + i)};
            const std::string_view where{name, sizeof(name)};
            if (auto made = this->vfs().make_directory(p.paths, where, 0755); !made)
                this->log().line("cannot make ", where, ": ", made.error().kind().message);
            mount(where, open_disk(i), {source, sizeof(source)});
        }
    }
    [[nodiscard]] result<ref<fs::devfs>> make_devices()
    {
        auto devices = EXO_TRY(fs::devfs::create(this->file_environment()));
        EXO_TRY(memory_devices_.add_to(*devices));
        EXO_TRY(devices->add("console", console_, 0600));
        EXO_TRY(devices->add("tty", controlling_terminal_, 0666));
        EXO_TRY(devices->add_link("fd", "/proc/self/fd"));
        EXO_TRY(devices->add_link("stdin", "/proc/self/fd/0"));
        EXO_TRY(devices->add_link("stdout", "/proc/self/fd/1"));
        EXO_TRY(devices->add_link("stderr", "/proc/self/fd/2"));
        return devices;
    }

    // Of a command: no input, and output as it is written. Of an interactive shell: the console, as its own.
    [[nodiscard]] result<> open_standard_files(process_type& p, bool for_command)
    {
        const fs::open_options both{.read = true, .write = true};
        auto console = EXO_TRY(this->vfs().open(p.paths, "/dev/console", both));
        auto input = console;
        if (for_command) {
            input = EXO_TRY(this->vfs().open(p.paths, "/dev/null", both));
            auto settings = console_.settings();
            settings.output &= ~drivers::output_flag::process;
            console_.change_settings(settings);
        } else {
            console_.give_to(p.session, p.group);
        }
        static_cast<void>(EXO_TRY(p.files().install(input, false)));
        static_cast<void>(EXO_TRY(p.files().install(console, false)));
        static_cast<void>(EXO_TRY(p.files().install(console, false)));
        return {};
    }
    [[nodiscard]] result<frame> execute_shell(thread_type& t)
    {
        proc::string_list arguments{this->heap()};
        proc::string_list environment{this->heap()};
        EXO_TRY(arguments.append("/bin/sh"));
        if (const auto& command = this->boot_options().command) {
            EXO_TRY(arguments.append("-c"));
            EXO_TRY(arguments.append(*command));
        }
        for (const std::string_view setting : {"HOME=/", "TERM=linux", "PATH=/sbin:/usr/sbin:/bin:/usr/bin"})
            EXO_TRY(environment.append(setting));
        return proc::execute(t, fs::path{"/bin/sh"}, arguments, environment);
    }

    linux_abi::dispatcher<system_type> calls_;
    proc::out_of_memory_killer<system_type> killer_;
    proc::job_control<system_type> jobs_;
    console_transmitter console_output_;
    drivers::tty console_;
    drivers::controlling_terminal_device controlling_terminal_;
    random_source random_source_;
    fs::memory_devices memory_devices_;
    typename system_type::scheduler_type::metrics_source scheduler_metrics_;
    trace::table_source<processor_type> queue_metrics_;
    trace::table_source<cpu_record> time_metrics_;
    [[no_unique_address]] lock_metrics_type lock_metrics_;
    mm::metrics_source<typename system_type::memory_type> memory_metrics_;
    mm::heap_metrics<typename system_type::heap_type> heap_metrics_;
    typename system_type::shootdown_type::metrics_source shootdown_metrics_;
    log_line panic_text_;
};

} // namespace exo
