// The components of a kernel and their composition over one Platform: what proc and linux call a System. kernel.hpp
// adds what stands on top of it: processes, system calls, and the way up.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <type_traits>
#include <utility>
#include <string_view>

#include <exo/base/allocator.hpp>
#include <exo/base/check.hpp>
#include <exo/base/page.hpp>
#include <exo/base/random_generator.hpp>
#include <exo/base/time.hpp>
#include <exo/drivers/tty.hpp>
#include <exo/fs/device_registry.hpp>
#include <exo/fs/environment.hpp>
#include <exo/fs/timestamp.hpp>
#include <exo/fs/tmpfs/tmpfs.hpp>
#include <exo/fs/vfs.hpp>
#include <exo/hal/atomics.hpp>
#include <exo/kernel_log.hpp>
#include <exo/mm/address_space.hpp>
#include <exo/mm/frame_allocator.hpp>
#include <exo/mm/frame_pages.hpp>
#include <exo/mm/heap.hpp>
#include <exo/mm/memory_map.hpp>
#include <exo/mm/memory_system.hpp>
#include <exo/mm/shootdown.hpp>
#include <exo/platform.hpp>
#include <exo/proc/cpu_time.hpp>
#include <exo/proc/futex.hpp>
#include <exo/proc/inheriting_futex.hpp>
#include <exo/proc/memory_status.hpp>
#include <exo/proc/process_table.hpp>
#include <exo/proc/procfs/procfs.hpp>
#include <exo/proc/thread.hpp>
#include <exo/proc/wait_status.hpp>
#include <exo/sched/deadline_claims.hpp>
#include <exo/sched/policies/deadline.hpp>
#include <exo/sched/policies/fair.hpp>
#include <exo/sched/policies/fixed_priority.hpp>
#include <exo/sched/policies/throttled.hpp>
#include <exo/sched/run_queue.hpp>
#include <exo/sched/scheduler.hpp>
#include <exo/sched/watchdog.hpp>
#include <exo/sync/any_parker.hpp>
#include <exo/sync/spin_lock.hpp>
#include <exo/trace/event_ring.hpp>
#include <exo/trace/registry.hpp>

namespace exo {

// Civil time: what the platform knew at the clock's zero, and what has passed since.
template <hal::Clock Clock>
class wall_clock final : public fs::wall_clock {
public:
    wall_clock(const Clock& clock, std::int64_t base) : clock_{clock}, base_{base} {}

    [[nodiscard]] fs::timestamp now() const noexcept override
    {
        constexpr std::int64_t second = 1'000'000'000;
        const std::int64_t ns = base_ + static_cast<std::int64_t>(clock_.now().nanoseconds());
        return {ns / second, static_cast<std::uint32_t>(ns % second)};
    }

private:
    const Clock& clock_;
    std::int64_t base_;
};

// A platform may say how its kernel's heap finds misuse.
template <class P>
struct heap_policy_of {
    using type = mm::unchecked_heap;
};
template <class P>
    requires requires { typename P::heap_policy_type; }
struct heap_policy_of<P> {
    using type = typename P::heap_policy_type;
};

// And what memory management, where it waits for other CPUs, is written over.
template <class P>
struct atomics_of {
    using type = hal::standard_atomics;
};
template <class P>
    requires requires { typename P::atomics_type; }
struct atomics_of<P> {
    using type = typename P::atomics_type;
};

// Where it says nothing of which CPUs are near each other, all are alike.
template <class P>
struct topology_of {
    using type = hal::flat_topology<>;
    static type make(P& platform) { return type{platform.cpu().cpu_limit()}; }
};
template <class P>
    requires requires { typename P::topology_type; }
struct topology_of<P> {
    using type = typename P::topology_type;
    static const type& make(P& platform) { return platform.topology(); }
};

template <class P>
class kernel_system {
    // What a CPU does that has nothing to run.
    struct idle_type {
        kernel_system& system;

        void halt_until_interrupt() noexcept
        {
            system.leave_space();
            system.platform_.cpu_control().halt_until_interrupt();
        }
        template <class Done>
        void poll(Done&& done) noexcept requires hal::PollingIdle<typename P::cpu_control_type>
        {
            system.platform_.cpu_control().poll(done);
        }
    };
    // What the scheduler has done at its turning points.
    struct scheduler_hooks {
        kernel_system& system;

        template <class Task>
        [[gnu::hot]] void switching(Task& previous, Task& next, const sched::turn_start& begins) noexcept
        {
            if (static_cast<sched::deadline::entity&>(previous).take_overrun_signal()) [[unlikely]] {
                thread_of(previous)->overran.store(true);
                previous.interrupt_pending.store(true);
                // It may be about to park, and have looked at that before.
                system.scheduler_.unpark(&previous);
            }
            system.record_turn(thread_of(next), begins);
            system.sample_from_now(thread_of(next), begins.at);
            system.switch_user_state(thread_of(previous), thread_of(next), system.scheduler_.idles(next));
        }
        template <class Task>
        void ended(Task& task) noexcept
        {
            thread_type::destroy(thread_of(task));
        }
        void kick(unsigned cpu) noexcept
        {
            if constexpr (requires { system.platform_.kick(cpu); })
                system.platform_.kick(cpu);
            else
                EXO_PANIC("another CPU was called, on a platform with one");
        }
    };

public:
    using platform_type = P;
    static constexpr bool can_interrogate = requires(P& platform) { platform.interrogate(0u); };
    using user_mode_type = typename P::user_mode_type;
    using frame = typename user_mode_type::frame;

    using frames_type = mm::frame_allocator<typename P::interrupts_type, typename P::cpu_type>;
    using heap_type = mm::heap<typename P::phys_type, frames_type, typename P::interrupts_type, typename P::cpu_type,
                               typename heap_policy_of<P>::type>;
    using shootdown_type =
        mm::shootdown<typename P::tlb_type, typename P::translation_root_type, typename P::ipi_type,
                      typename P::cpu_type, typename P::interrupts_type, typename atomics_of<P>::type>;
    using memory_type =
        mm::memory_system<typename P::format_type, typename P::phys_type, typename P::entries_type, frames_type,
                          shootdown_type>;
    using space_type = mm::address_space<memory_type>;

    using real_time_type = sched::throttled<sched::fixed_priority>;
    using policy_type = sched::run_queue<sched::deadline, real_time_type, sched::fair>;
    using scheduler_type = sched::scheduler<policy_type, typename topology_of<P>::type, typename P::context_type,
                                            typename P::interrupts_type, typename P::cpu_type, typename P::clock_type,
                                            typename P::timer_type, idle_type, scheduler_hooks>;
    struct stuck_report {
        kernel_system& system;
        void operator()(unsigned cpu) const noexcept
        {
            system.log_.line("CPU ", cpu, " takes no interrupts");
            if constexpr (can_interrogate)
                system.platform_.interrogate(cpu);
        }
    };
    using watchdog_type = sched::watchdog<scheduler_type, stuck_report>;
    using task_type = typename scheduler_type::task;
    // Unlocking lets a thread that was woken meanwhile run.
    using interrupts_type = scheduler_type;
    using deadline_claims_type = sched::deadline_claims<interrupts_type>;

    using log_type = kernel_log<std::remove_reference_t<decltype(std::declval<P&>().log())>, typename P::clock_type>;
    using thread_type = proc::thread<kernel_system>;
    using process_type = proc::process<kernel_system>;
    using process_table_type = proc::process_table<kernel_system>;

    // What a CPU ran from when on: a process, or nothing (id 0).
    struct turn {
        sched::turn_start start;
        proc::process_id id{};
        char name[sched::name_limit + 1]{}; // and zeros
    };
    using turn_ring = trace::event_ring<turn, 512>;

    // What is noted of a CPU. The timer samples what it does while it runs threads of processes.
    struct cpu_record : scheduler_type::timer {
        cpu_record() : scheduler_type::timer{&sample} {}

        proc::cpu_time_split time_split;
        proc::processor_mode interrupted{};
        bool is_sampling{};
        kernel_system* system{};
        turn_ring turns; // pages of it: what each switch reads is before it, side by side

    private:
        static instant sample(typename scheduler_type::timer& t, instant now) noexcept
        {
            auto& self = static_cast<cpu_record&>(t);
            thread_type* const running = thread_of(*self.system->scheduler_.current());
            self.is_sampling = running != nullptr;
            if (!running)
                return instant::never();
            running->time_split.sample(self.interrupted);
            self.time_split.sample(self.interrupted);
            return proc::cpu_time_split::next_sample(now);
        }
    };

    kernel_system(const kernel_system&) = delete;
    kernel_system& operator=(const kernel_system&) = delete;

    [[nodiscard]] P& platform() { return platform_; }
    [[nodiscard]] frames_type& frames() { return frames_; }
    [[nodiscard]] allocator& heap() { return heap_for_use_; }
    // Behind what a platform puts before it.
    [[nodiscard]] const heap_type& heap_behind() const { return heap_; }
    [[nodiscard]] sync::any_parker& parker() { return parker_; }
    [[nodiscard]] interrupts_type& interrupts() { return scheduler_; }
    [[nodiscard]] user_mode_type& user_mode() { return platform_.user_mode(); }
    [[nodiscard]] memory_type& memory() { return memory_; }
    [[nodiscard]] mm::page_supply& pages() { return pages_; }
    [[nodiscard]] scheduler_type& scheduler() { return scheduler_; }
    [[nodiscard]] deadline_claims_type& deadline_claims() { return deadline_claims_; }
    // After a change of claims. On several CPUs it never changes.
    void keep_deadlines_by_bandwidth()
    {
        scheduler_.visit_queue([keep = deadline_claims_.by_bandwidth()](policy_type& queue) {
            queue.template get<sched::deadline>().keep_deadlines(keep);
        });
    }
    // By each CPU, as it begins to run threads.
    void watch_this_cpu()
    {
        if constexpr (can_interrogate)
            if (processor_count() > 1)
                watchdog_.watch(platform_.cpu().current_cpu());
    }
    [[nodiscard]] fs::environment& file_environment() { return file_environment_; }
    [[nodiscard]] fs::device_registry& devices() { return devices_; }
    [[nodiscard]] fs::vfs& vfs() { return vfs_; }
    [[nodiscard]] proc::futex_table& futexes() { return futexes_; }
    [[nodiscard]] proc::inheriting_futex_table<kernel_system>& inheriting_futexes() { return inheriting_futexes_; }
    [[nodiscard]] process_table_type& processes() { return processes_; }
    [[nodiscard]] drivers::terminal_list& terminals() { return terminals_; }
    [[nodiscard]] trace::registry& metrics() { return metrics_; }
    [[nodiscard]] log_type& log() { return log_; }
    [[nodiscard]] instant now() const { return platform_.clock().now(); }
    [[nodiscard]] const fs::wall_clock& wall_clock() const { return wall_clock_; }
    [[nodiscard]] const exo::boot_options& boot_options() const { return platform_.options(); }
    [[nodiscard]] unsigned processor_count() const { return platform_.cpu().cpu_limit(); }
    [[nodiscard]] processor_description processor(unsigned n) const { return platform_.processor(n); }
    [[nodiscard]] duration idle_time(unsigned cpu) const { return early_.processors[cpu].idle_time(); }
    // Gives the calling thread, which is `self`, a name that the trace has from now on.
    void rename(thread_type& self, std::string_view name) noexcept
    {
        const auto saved = scheduler_.save_and_disable();
        self.task.set_name(name);
        record_turn(&self, {.at = now(), .woken = instant::never()});
        scheduler_.restore(saved);
    }
    // The last that a CPU ran, for /proc/exo/trace.
    [[nodiscard]] const turn_ring& turns(unsigned cpu) const { return early_.records_of_cpus[cpu].turns; }
    // Since boot. With the process table locked.
    [[nodiscard]] proc::cpu_times times(unsigned cpu)
    {
        const duration up = now() - instant{}, idle = idle_time(cpu);
        return early_.records_of_cpus[cpu].time_split.divide(up > idle ? up - idle : duration{});
    }

    // What mount(2) calls `type`. Errors: no_device, out_of_memory.
    [[nodiscard]] result<ref<fs::file_system>> create_file_system(std::string_view type, std::string_view /*source*/)
    {
        if (type == "tmpfs")
            return create_tmpfs(01777);
        if (type == "proc")
            return proc::procfs<kernel_system>::create(*this);
        return fail(errors::no_device);
    }

    // It may hold half of the memory, as on Linux. Errors: out_of_memory.
    [[nodiscard]] result<ref<fs::tmpfs>> create_tmpfs(fs::permission_bits root_permissions)
    {
        return fs::tmpfs::create(file_environment_,
                                 {.page_limit = frames_.total_frames() / 2, .root_permissions = root_permissions});
    }

    void random(std::span<std::byte> into)
    {
        auto guard = random_lock_.lock(platform_.interrupts());
        random_.fill(into);
    }
    // From whatever source there is, and the moment, which is at least not known long before.
    void stir_random()
    {
        std::byte fresh[32]{};
        const bool filled = platform_.entropy().fill(fresh).has_value();
        const std::uint64_t moment = platform_.clock().now().nanoseconds();
        auto guard = random_lock_.lock(platform_.interrupts());
        if (filled)
            random_.mix(fresh);
        random_.mix(std::as_bytes(std::span{&moment, 1}));
    }

    [[nodiscard]] result<std::span<std::byte>> allocate_stack()
    {
        const auto stack = memory_.reclaimer.retry(parker_, [this] { return platform_.allocate_stack(); });
        if (stack)
            stack_bytes_.fetch_add(stack->size(), std::memory_order_relaxed);
        return stack;
    }
    void free_stack(std::span<std::byte> stack) noexcept
    {
        stack_bytes_.fetch_sub(stack.size(), std::memory_order_relaxed);
        platform_.free_stack(stack);
    }

    // The thread of a process that runs the call.
    [[nodiscard]] thread_type& current_thread() noexcept { return *thread_of(*scheduler_.current()); }

    [[nodiscard]] proc::memory_status memory_status()
    {
        return {.total = frames_.total_frames() * page_size + platform_.image_bytes() + metadata_bytes_,
                .free = frames_.free_frames() * page_size,
                .page_cache = file_environment_.cached_pages.load(std::memory_order_relaxed) * page_size,
                .image = platform_.image_bytes(),
                .frame_records = metadata_bytes_,
                .heap = heap_.frames_held() * page_size,
                .stacks = stack_bytes_.load(std::memory_order_relaxed),
                .page_tables = memory_.counted(&mm::memory_counters::tables) * page_size};
    }
    // Clean pages of files make room before memory runs out. From threads, with no lock held.
    void keep_memory_free()
    {
        if (frames_.below(mm::watermark::low)) [[unlikely]]
            static_cast<void>(memory_.reclaimer.reclaim(parker_, frames_.mark(mm::watermark::low)));
    }

    void session_ended(proc::process_id session) { terminals_.session_ended(session); }
    [[noreturn]] void init_exited(proc::wait_status status)
    {
        log_.line("init exited with status ", status.shell_status());
        platform_.power_off(static_cast<std::uint8_t>(status.shell_status()));
        __builtin_unreachable();
    }

protected:
    explicit kernel_system(P& platform)
        : platform_{platform}, log_{platform.log(), platform.clock()}, early_{platform},
          frames_{platform.interrupts(), platform.cpu(), early_.first, early_.records, early_.frame_caches},
          heap_{platform.phys(), give(frames_, early_.left), platform.interrupts(), platform.cpu(),
                early_.heap_caches},
          heap_for_use_{filtered(platform, heap_)}, hooks_{*this}, topology_{topology_of<P>::make(platform)},
          scheduler_{early_.processors, topology_, platform.context(), platform.interrupts(), platform.cpu(),
                     platform.clock(), platform.timer(), idle_, hooks_},
          watchdog_{early_.watched, scheduler_, {*this}}, parker_{scheduler_, scheduler_}, pages_{frames_, platform.phys()},
          shootdown_{platform.tlb(),        platform.translation_root(), platform.ipi(), platform.cpu(),
                     platform.interrupts(), early_.translations,         platform.kernel_root().address()},
          memory_{{.phys = platform.phys(),
                   .entries = platform.entries(),
                   .frames = frames_,
                   .shootdown = shootdown_,
                   .heap = heap_for_use_,
                   .parker = parker_,
                   .counters = early_.counters,
                   .kernel_root = platform.kernel_root().address()}},
          wall_clock_{platform.clock(), platform.wall_clock_base()},
          file_environment_{.heap = heap_for_use_,
                            .parker = parker_,
                            .pages = pages_,
                            .reclaimer = memory_.reclaimer,
                            .clock = wall_clock_,
                            .devices = &devices_},
          deadline_claims_{heap_for_use_, scheduler_, platform.cpu().cpu_limit()}, vfs_{file_environment_},
          terminals_{parker_}, processes_{*this}, inheriting_futexes_{*this}, metadata_bytes_{early_.bytes}
    {
        for (cpu_record& r : early_.records_of_cpus)
            r.system = this;
        stir_random();
    }

    [[nodiscard]] cpu_record& record_of_this_cpu() noexcept
    {
        return early_.records_of_cpus[platform_.cpu().current_cpu()];
    }
    [[nodiscard]] std::span<const cpu_record> records_of_cpus() const noexcept { return early_.records_of_cpus; }

    // Null for the idle threads, which are no process's.
    [[nodiscard]] static thread_type* thread_of(const sched::task_info<>& task)
    {
        return static_cast<thread_type*>(task.owner);
    }

private:
    // What is needed before there is an allocator, taken from the memory that then goes to it.
    struct early_memory {
        explicit early_memory(P& platform)
        {
            for (const phys_range& r : platform.usable_memory())
                EXO_CHECK(left.add(r));
            const phys_range extent = left.extent();
            first = frame_number{extent.begin};
            const unsigned cpus = platform.cpu().cpu_limit();
            records = take<mm::frame_info>(platform, pages_for(extent.size()));
            frame_caches = take<mm::frame_cache>(platform, cpus);
            heap_caches = take<mm::heap_cache>(platform, cpus);
            processors = take<typename scheduler_type::processor>(platform, cpus);
            translations = take<typename shootdown_type::processor>(platform, cpus);
            counters = take<mm::memory_counters>(platform, cpus);
            records_of_cpus = take<cpu_record>(platform, cpus);
            watched = take<typename watchdog_type::processor>(platform, cpus);
        }
        template <class T>
        std::span<T> take(P& platform, std::size_t count)
        {
            const std::uint64_t size = pages_for(count * sizeof(T)) * page_size;
            const auto at = left.take(size, page_size);
            if (!at)
                EXO_PANIC("not enough memory for the records of the frames");
            auto* objects = reinterpret_cast<T*>(platform.phys().to_pointer(*at));
            for (std::size_t i = 0; i < count; ++i)
                ::new (static_cast<void*>(objects + i)) T();
            bytes += size;
            return {objects, count};
        }

        mm::memory_map left;
        frame_number first;
        std::span<mm::frame_info> records;
        std::span<mm::frame_cache> frame_caches;
        std::span<mm::heap_cache> heap_caches;
        std::span<typename scheduler_type::processor> processors;
        std::span<typename shootdown_type::processor> translations;
        std::span<mm::memory_counters> counters;
        std::span<cpu_record> records_of_cpus;
        std::span<typename watchdog_type::processor> watched;
        std::uint64_t bytes{};
    };

    static frames_type& give(frames_type& frames, const mm::memory_map& memory)
    {
        for (const phys_range& r : memory.ranges())
            frames.add(r);
        return frames;
    }
    // A platform that fails allocations on purpose puts itself before the heap.
    static allocator& filtered(P& platform, allocator& heap)
    {
        if constexpr (requires { platform.filter_heap(heap); })
            return platform.filter_heap(heap);
        else
            return heap;
    }

    // With interrupts off; null: no thread of a process.
    void record_turn(const thread_type* next, const sched::turn_start& start) noexcept
    {
        turn begun{.start = start};
        if (next) {
            const std::string_view name = next->task.name();
            begun.id = next->id();
            for (std::size_t i = 0; i < name.size(); ++i)
                begun.name[i] = name[i];
        }
        record_of_this_cpu().turns.record(begun);
    }
    void sample_from_now(const thread_type* next, instant now) noexcept
    {
        cpu_record& here = record_of_this_cpu();
        if (!next || here.is_sampling)
            return;
        here.is_sampling = true;
        scheduler_.arm(here, proc::cpu_time_split::next_sample(now));
    }
    void switch_user_state(thread_type* previous, thread_type* next, bool idles) noexcept
    {
        auto& mode = platform_.user_mode();
        if (previous) {
            mode.save(previous->state);
            previous->note_displacement();
        }
        if (next) {
            mode.load(next->state);
            mode.set_kernel_stack(next->task.stack().data() + next->task.stack().size());
        }
        // A CPU without a thread of a process leaves the space, so that none has to interrupt it when the space
        // changes; an idle one may come back to the same space soon.
        if (space_type* const wanted = next ? next->space() : nullptr)
            wanted->activate();
        else if (idles)
            shootdown_.linger();
        else
            leave_space();
    }

    // Where there is no other CPU, none would interrupt this one.
    void leave_space() noexcept
    {
        if (processor_count() > 1)
            shootdown_.unload();
    }

    P& platform_;
    log_type log_;
    early_memory early_;
    frames_type frames_;
    heap_type heap_;
    allocator& heap_for_use_;
    idle_type idle_{*this};
    scheduler_hooks hooks_;
    decltype(topology_of<P>::make(std::declval<P&>())) topology_;
    scheduler_type scheduler_;
    watchdog_type watchdog_;
    sync::parker_adapter<scheduler_type, scheduler_type> parker_;
    mm::frame_pages<frames_type, typename P::phys_type> pages_;
    shootdown_type shootdown_;
    memory_type memory_;
    exo::wall_clock<typename P::clock_type> wall_clock_;
    fs::device_registry devices_;
    fs::environment file_environment_;
    deadline_claims_type deadline_claims_;
    fs::vfs vfs_;
    proc::futex_table futexes_;
    drivers::terminal_list terminals_;
    trace::registry metrics_;
    process_table_type processes_;
    proc::inheriting_futex_table<kernel_system> inheriting_futexes_;
    random_generator random_;
    sync::spin_lock<sync::lock_rank::console, typename P::interrupts_type> random_lock_;
    std::atomic<std::uint64_t> stack_bytes_{};
    std::uint64_t metadata_bytes_;
};

} // namespace exo
