// The files of /proc that tell about the whole machine, in the formats of Linux's proc(5).

#pragma once

#include <cstdint>
#include <string_view>

#include <exo/base/result.hpp>
#include <exo/fs/vfs.hpp>
#include <exo/proc/memory_status.hpp>
#include <exo/proc/process_table.hpp>
#include <exo/proc/procfs/load_average.hpp>
#include <exo/proc/procfs/process_files.hpp>
#include <exo/proc/procfs/text_builder.hpp>
#include <exo/proc/system_name.hpp>
#include <exo/trace/event_writer.hpp>
#include <exo/trace/prometheus.hpp>

namespace exo::proc {

// Idle time of all CPUs since boot.
template <class System>
[[nodiscard]] duration idle_time(System& system)
{
    duration sum{};
    for (unsigned cpu = 0; cpu < system.processor_count(); ++cpu)
        sum += system.idle_time(cpu);
    return sum;
}

template <class System>
[[nodiscard]] duration busy_time(System& system)
{
    const duration all = (system.now() - instant{}) * system.processor_count();
    const duration idle = idle_time(system);
    return all > idle ? all - idle : duration{};
}

// Threads that run or wait for a CPU.
template <class System>
[[nodiscard]] std::uint64_t running_threads(System& system)
{
    std::uint64_t running = 0;
    auto guard = system.processes().lock();
    system.processes().for_each(guard, [&running](process<System>& p) {
        auto locked = p.lock();
        for (const thread<System>& t : p.threads)
            running += t.task.state() == sched::task_state::ready;
    });
    return running;
}

template <class System>
result<> write_memory_information(System& system, text_builder& out)
{
    const memory_status m = system.memory_status();
    const auto row = [&out](std::string_view name, std::uint64_t bytes) {
        out.put(name, ':');
        const std::size_t width = name.size() + 1 < 16 ? 24 - (name.size() + 1) : 8;
        out.line(right{bytes / 1024, static_cast<unsigned>(width)}, " kB");
    };
    row("MemTotal", m.total);
    row("MemFree", m.free);
    row("MemAvailable", m.free + m.page_cache);
    row("Buffers", 0);
    row("Cached", m.page_cache);
    row("SwapCached", 0);
    row("SwapTotal", 0);
    row("SwapFree", 0);
    row("Slab", m.heap);
    row("KernelStack", m.stacks);
    row("PageTables", m.page_tables);
    // What Linux has no line for: the kernel image, the frame records, and all that the kernel keeps for itself.
    row("KernelImage", m.image);
    row("KernelFrames", m.frame_records);
    row("KernelOwn", m.kernel());
    return out.status();
}

template <class System>
result<> write_processors(System& system, text_builder& out)
{
    for (unsigned cpu = 0; cpu < system.processor_count(); ++cpu) {
        const auto d = system.processor(cpu);
        out.line("processor\t: ", cpu);
        out.line("vendor_id\t: ", d.vendor);
        out.line("cpu family\t: ", d.family);
        out.line("model\t\t: ", d.model);
        out.line("model name\t: ", d.model_name);
        out.line("stepping\t: ", d.stepping);
        out.line("cpu MHz\t\t: ", d.hertz / 1'000'000, '.', right{d.hertz / 1'000 % 1'000, 3, '0'});
        out.line("flags\t\t: ", d.flags);
        out.put('\n');
    }
    return out.status();
}

template <class System>
result<> write_statistics(System& system, text_builder& out)
{
    const auto cpu_line = [&out](const cpu_times& busy, duration idle) {
        out.line(' ', to_ticks(busy.user), " 0 ", to_ticks(busy.system), ' ', to_ticks(idle), " 0 0 0 0 0 0");
    };
    const auto times_of = [&system](unsigned cpu) {
        auto guard = system.processes().lock();
        return system.times(cpu);
    };
    cpu_times all;
    for (unsigned cpu = 0; cpu < system.processor_count(); ++cpu) {
        const cpu_times busy = times_of(cpu);
        all.user += busy.user;
        all.system += busy.system;
    }
    out.put("cpu ");
    cpu_line(all, idle_time(system));
    for (unsigned cpu = 0; cpu < system.processor_count(); ++cpu) {
        out.put("cpu", cpu);
        cpu_line(times_of(cpu), system.idle_time(cpu));
    }
    out.line("intr 0").line("ctxt ", system.metrics().value("exo_sched_switches_total").value_or(0));
    const fs::timestamp now = system.wall_clock().now();
    out.line("btime ", now.seconds - (system.now() - instant{}).nanoseconds() / 1'000'000'000);
    out.line("processes ", system.processes().last_id());
    out.line("procs_running ", running_threads(system)).line("procs_blocked 0");
    return out.status();
}

// /proc/exo/trace: which processes the CPUs ran lately, and when they were woken, for ui.perfetto.dev.
template <class System>
result<> write_trace(System& system, text_builder& out)
{
    const auto put = [&out](std::string_view text) { out.put(text); };
    {
        trace::event_writer events{put, system.processor_count()};
        text_builder name{system.heap()};
        for (unsigned cpu = 0; cpu < system.processor_count(); ++cpu) {
            typename System::turn last{};
            const auto end_at = [&](instant when) {
                if (last.id == 0)
                    return;
                name.clear();
                name.put(static_cast<const char*>(last.name), '/', last.id);
                if (last.start.woken != instant::never())
                    events.wake_up(cpu, name.text(), last.start.woken);
                events.slice(cpu, name.text(), last.start.at, when);
            };
            const bool still_runs = system.turns(cpu).for_each([&](const typename System::turn& next, bool follows) {
                if (follows)
                    end_at(next.start.at);
                last = next;
            });
            if (still_runs)
                end_at(system.now());
        }
    }
    return out.status();
}

template <class System>
result<> write_uptime(System& system, text_builder& out)
{
    const auto seconds = [&out](duration d) {
        const auto hundredths = static_cast<std::uint64_t>(d.nanoseconds() / 10'000'000);
        out.put(hundredths / 100, '.', right{hundredths % 100, 2, '0'});
    };
    seconds(system.now() - instant{});
    out.put(' ');
    seconds(idle_time(system));
    return out.line().status();
}

template <class System>
result<> write_load(System& system, load_average& load, text_builder& out)
{
    load.update(system.now(), busy_time(system));
    for (unsigned i = 0; i < 3; ++i)
        out.put(load.hundredths(i) / 100, '.', right{load.hundredths(i) % 100, 2, '0'}, ' ');
    out.line(running_threads(system), '/', system.processes().size(), ' ', system.processes().last_id());
    return out.status();
}

template <class System>
result<> write_version(System& /*system*/, text_builder& out)
{
    return out.line(system_name::system, " version ", system_name::release, " (exo) ", system_name::version).status();
}

template <class System>
result<> write_command_line(System& system, text_builder& out)
{
    return out.line(system.boot_options().command_line).status();
}

template <class System>
result<> write_file_systems(System&, text_builder& out)
{
    for (const std::string_view name : {"proc", "tmpfs", "devfs"})
        out.line("nodev\t", name);
    return out.line("\text2").status();
}

template <class System>
result<> write_mounts(System& system, text_builder& out)
{
    // Blanks in names would end them.
    const auto escaped = [&out](std::string_view text) {
        for (const char c : text) {
            const auto byte = static_cast<unsigned char>(c);
            if (c == ' ' || c == '\t' || c == '\n' || c == '\\')
                out.put('\\', byte >> 6, byte >> 3 & 7, byte & 7);
            else
                out.put(c);
        }
    };
    EXO_TRY(system.vfs().for_each_mount([&](const fs::mount& m, std::string_view path) {
        const fs::mount_options& o = m.options();
        escaped(m.source());
        out.put(' ');
        escaped(path);
        out.line(' ', m.system().type_name(), ' ', m.read_only() ? "ro" : "rw", o.no_set_id ? ",nosuid" : "",
                 o.no_devices ? ",nodev" : "", o.no_execute ? ",noexec" : "", ",relatime 0 0");
    }));
    return out.status();
}

template <class System>
result<> write_metrics(System& system, text_builder& out)
{
    trace::write_prometheus(system.metrics(), [&out](std::string_view piece) { out.put(piece); });
    return out.status();
}

} // namespace exo::proc
