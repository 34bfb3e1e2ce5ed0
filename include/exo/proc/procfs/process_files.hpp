// The files of /proc/PID and /proc/PID/task/TID, in the formats of Linux's proc(5). Where a function takes the number
// of a thread, 0 means the process: its times are those of all threads together, the rest is its first thread's.

#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include <exo/base/page.hpp>
#include <exo/base/result.hpp>
#include <exo/drivers/tty.hpp>
#include <exo/fs/errors.hpp>
#include <exo/fs/vfs.hpp>
#include <exo/mm/protection.hpp>
#include <exo/mm/region.hpp>
#include <exo/mm/region_usage.hpp>
#include <exo/proc/process.hpp>
#include <exo/proc/process_table.hpp>
#include <exo/proc/process_usage.hpp>
#include <exo/proc/procfs/text_builder.hpp>
#include <exo/proc/scheduling.hpp>
#include <exo/proc/thread.hpp>
#include <exo/sched/task.hpp>

namespace exo::proc {

// What several of them tell, read in one go.
template <class System>
struct process_facts {
    process_id parent{};
    process_id group{};
    process_id session{};
    char name[sched::name_limit + 1]{};
    char state{};
    std::string_view state_name{};
    signal exit_signal{};
    int exit_word{};
    credentials identity{};
    signal_set pending{};
    signal_set thread_pending{};
    signal_set blocked{};
    signal_set ignored{};
    signal_set caught{};
    cpu_times times{};
    std::uint64_t voluntary_switches{};
    std::uint64_t involuntary_switches{};
    unsigned cpu{};
    scheduling_attributes scheduling{};
    typename System::scheduler_type::cpu_set cpus{};
    std::uint32_t threads{}; // the first among them, ended or not
    bool has_image{};
    fs::permission_bits umask{};
};

// Null if there is none. With the process's lock held.
template <class System>
[[nodiscard]] thread<System>* find_thread(process<System>& p, process_id id)
{
    for (thread<System>& t : p.threads)
        if (t.id() == id)
            return &t;
    return nullptr;
}

// Errors: no_process (the thread has ended).
template <class System>
[[nodiscard]] result<process_facts<System>> facts_of(process<System>& p, process_id of)
{
    process_facts<System> f;
    auto guard = p.system().processes().lock();
    f.parent = p.parent ? p.parent->id() : 0;
    f.group = p.group;
    f.session = p.session;
    f.exit_signal = p.exit_signal;
    const process_state state = p.state;
    if (state == process_state::zombie)
        f.exit_word = p.status.word();
    auto locked = p.lock();
    f.identity = p.identity;
    f.umask = p.paths.umask;
    f.pending = p.pending.set();
    const bool whole = of == 0;
    thread<System>* const t = whole || of == p.id() ? p.main_thread : find_thread(p, of);
    if (!t && !whole && of != p.id())
        return fail(errors::no_process, static_cast<std::uint64_t>(of));
    f.threads = p.thread_count() + (p.main_thread ? 0 : 1);
    f.has_image = p.has_image();
    if (whole) {
        const resource_usage used = usage_of(p);
        f.times = {used.user, used.system};
    } else if (t) {
        f.times = t->times();
    }
    const std::string_view name = t && !whole ? t->task.name() : p.name();
    for (std::size_t i = 0; i < name.size(); ++i)
        f.name[i] = name[i];
    for (unsigned n = 1; n <= static_cast<unsigned>(signal::last); ++n) {
        const auto s = static_cast<signal>(n);
        if (p.actions[s].is_ignore())
            f.ignored.add(s);
        else if (!p.actions[s].is_default())
            f.caught.add(s);
    }
    bool ready = false;
    if (t) {
        f.thread_pending = t->pending.set();
        f.blocked = t->blocked;
        f.voluntary_switches = t->task.voluntary_switches();
        f.involuntary_switches = t->task.involuntary_switches();
        f.cpu = t->task.cpu();
        f.scheduling = scheduling_of(*t);
        f.cpus = p.system().scheduler().affinity(t->task) & p.system().scheduler().all_cpus();
        ready = t->task.state() == sched::task_state::ready;
    }
    f.state = !t ? 'Z' : state == process_state::stopped ? 'T' : ready ? 'R' : 'S';
    f.state_name = f.state == 'Z' ? "zombie" : f.state == 'T' ? "stopped" : ready ? "running" : "sleeping";
    return f;
}

[[nodiscard]] constexpr std::uint64_t to_ticks(duration d)
{
    constexpr std::int64_t tick = 10'000'000; // 100 per second, as AT_CLKTCK tells programs
    return static_cast<std::uint64_t>(d.nanoseconds() / tick);
}

// As field 18 of /proc/PID/stat has it.
[[nodiscard]] inline int priority_of(const scheduling_attributes& s)
{
    return s.policy == scheduling_policy::deadline ? -101
           : is_real_time(s.policy)                ? -1 - static_cast<int>(s.priority)
                                                   : 20 + s.nice;
}

template <class System>
result<> write_stat(process<System>& p, process_id of, text_builder& out)
{
    const auto f = EXO_TRY(facts_of(p, of));
    const auto image = p.find_image();
    const auto memory = image ? image->space().statistics() : mm::space_statistics{};
    drivers::tty* const terminal = p.system().terminals().controlling(f.session);
    const fs::device_number number = terminal ? terminal->number() : fs::device_number{};
    const std::uint64_t start = to_ticks(p.started() - instant{});

    out.put(of == 0 ? p.id() : of, " (", f.name, ") ", f.state, ' ', f.parent, ' ', f.group, ' ', f.session, ' ',
            number.major << 8 | number.minor, ' ', terminal ? terminal->foreground() : -1);
    // flags; page faults of the process and of its children, without and with I/O.
    out.put(" 0 ", p.usage.minor_faults, ' ', p.children_usage.minor_faults, ' ', p.usage.major_faults, ' ',
            p.children_usage.major_faults);
    out.put(' ', to_ticks(f.times.user), ' ', to_ticks(f.times.system), ' ', to_ticks(p.children_usage.user), ' ',
            to_ticks(p.children_usage.system));
    // priority, nice, threads, an unused one; the start; memory.
    const auto& s = f.scheduling;
    out.put(' ', priority_of(s), ' ', s.nice, ' ', f.threads, " 0 ", start, ' ', memory.virtual_pages * page_size, ' ',
            memory.resident_pages, ' ', p.limits[resource::resident_set].soft);
    out.put(' ', image ? image->code.begin : 0, ' ', image ? image->code.end : 0, ' ', image ? image->stack_start : 0,
            " 0 0");
    // Old, narrow signal masks: status has the whole ones.
    out.put(' ', (f.pending | f.thread_pending).bits() & 0x7fffffff, ' ', f.blocked.bits() & 0x7fffffff, ' ',
            f.ignored.bits() & 0x7fffffff, ' ', f.caught.bits() & 0x7fffffff);
    // wait channel, two unused; exit signal, CPU, real-time priority, policy; delays and guest time.
    out.put(" 0 0 0 ", static_cast<unsigned>(f.exit_signal), ' ', f.cpu, ' ', s.priority, ' ',
            static_cast<unsigned>(s.policy), " 0 0 0");
    const auto put_range = [&out](const range<std::uint64_t>& r) { out.put(' ', r.begin, ' ', r.end); };
    const range<std::uint64_t> none{};
    put_range(image ? image->data : none);
    out.put(" 0"); // the start of brk
    put_range(image ? image->arguments : none);
    put_range(image ? image->environment : none);
    out.line(' ', f.exit_word);
    return out.status();
}

// /proc/PID/sched, in Linux's format: what its tools read of it, and what there is here.
template <class System>
result<> write_scheduling(process<System>& p, process_id of, text_builder& out)
{
    const auto f = EXO_TRY(facts_of(p, of));
    const auto& s = f.scheduling;
    const auto name = [&out](std::string_view text) {
        out.put(text);
        for (auto width = text.size(); width < 45; ++width)
            out.put(' ');
        out.put(':');
    };
    const auto number = [&](std::string_view text, std::uint64_t value) {
        name(text);
        out.line(right{value, 21});
    };
    const auto time = [&](std::string_view text, duration d) { // milliseconds
        const auto ns = static_cast<std::uint64_t>(d.nanoseconds());
        name(text);
        out.line(right{ns / 1'000'000, 14}, '.', right{ns % 1'000'000, 6, '0'});
    };
    out.line(f.name, " (", of == 0 ? p.id() : of, ", #threads: ", f.threads, ')');
    out.line("-------------------------------------------------------------------");
    time("se.sum_exec_runtime", f.times.user + f.times.system);
    number("nr_switches", f.voluntary_switches + f.involuntary_switches);
    number("nr_voluntary_switches", f.voluntary_switches);
    number("nr_involuntary_switches", f.involuntary_switches);
    if (is_fair(s.policy)) {
        const auto weight = sched::fair::weight_of(parameters_for<System>(s).template get<sched::fair>());
        number("se.load.weight", std::uint64_t{weight} << 10); // as Linux scales it
        time("se.slice", s.request);
    }
    number("policy", static_cast<std::uint64_t>(s.policy));
    if (s.policy != scheduling_policy::deadline) {
        number("prio", static_cast<std::uint64_t>(100 + priority_of(s)));
    } else {
        name("prio");
        out.line("                   -1");
        time("dl.runtime", s.deadline.runtime);
        time("dl.deadline", s.deadline.deadline);
        time("dl.period", s.deadline.interval());
    }
    return out.status();
}

template <class System>
result<> write_process_statm(process<System>& p, text_builder& out)
{
    const auto image = p.find_image();
    const auto memory = image ? image->space().statistics() : mm::space_statistics{};
    const std::uint64_t code = image ? pages_for(image->code.size()) : 0;
    out.line(memory.virtual_pages, ' ', memory.resident_pages, " 0 ", code, " 0 ", memory.virtual_pages - code, " 0");
    return out.status();
}

// As masks of 32 CPUs each, the last first; and as ranges.
template <class Set>
void put_cpus(text_builder& out, const Set& cpus, const Set& all)
{
    out.put("Cpus_allowed:\t");
    const unsigned count = all.size();
    for (unsigned group = (count + 31) / 32; group-- > 0;) {
        const auto bits = static_cast<std::uint32_t>(cpus.word(group / 2) >> group % 2 * 32);
        const unsigned here = count - group * 32 < 32 ? count - group * 32 : 32;
        out.put(hex{bits, (here + 3) / 4}, group != 0 ? "," : "");
    }
    out.put("\nCpus_allowed_list:\t");
    const char* separator = "";
    for (unsigned cpu = cpus.next(0); cpu != Set::limit;) {
        unsigned last = cpu;
        while (cpus.contains(last + 1))
            ++last;
        out.put(separator, cpu);
        if (last != cpu)
            out.put('-', last);
        separator = ",";
        cpu = cpus.next(last + 1);
    }
    out.put('\n');
}

template <class System>
result<> write_status(process<System>& p, process_id of, text_builder& out)
{
    const auto f = EXO_TRY(facts_of(p, of));
    const auto image = p.find_image();
    const id_set& user = f.identity.user;
    const id_set& group = f.identity.group;

    out.line("Name:\t", f.name);
    if (f.has_image)
        out.line("Umask:\t0", f.umask >> 6, f.umask >> 3 & 7, f.umask & 7);
    out.line("State:\t", f.state, " (", f.state_name, ')');
    out.line("Tgid:\t", p.id())
        .line("Ngid:\t0")
        .line("Pid:\t", of == 0 ? p.id() : of)
        .line("PPid:\t", f.parent)
        .line("TracerPid:\t0");
    out.line("Uid:\t", user.real, '\t', user.effective, '\t', user.saved, '\t', user.effective);
    out.line("Gid:\t", group.real, '\t', group.effective, '\t', group.saved, '\t', group.effective);
    out.line("FDSize:\t64").put("Groups:\t");
    for (const auto g : f.identity.groups)
        out.put(g, ' ');
    out.put('\n');
    if (image) {
        const auto memory = image->space().statistics();
        out.line("VmSize:\t", right{memory.virtual_pages * page_size / 1024, 8}, " kB");
        out.line("VmLck:\t", right{memory.locked_pages * page_size / 1024, 8}, " kB");
        out.line("VmRSS:\t", right{memory.resident_pages * page_size / 1024, 8}, " kB");
    }
    out.line("Threads:\t", f.threads);
    out.line("SigPnd:\t", hex{f.thread_pending.bits(), 16}).line("ShdPnd:\t", hex{f.pending.bits(), 16});
    out.line("SigBlk:\t", hex{f.blocked.bits(), 16}).line("SigIgn:\t", hex{f.ignored.bits(), 16});
    out.line("SigCgt:\t", hex{f.caught.bits(), 16});
    put_cpus(out, f.cpus, p.system().scheduler().all_cpus());
    out.line("voluntary_ctxt_switches:\t", f.voluntary_switches);
    out.line("nonvoluntary_ctxt_switches:\t", f.involuntary_switches);
    return out.status();
}

// What lies in [begin, end) of the space: as far as it can be read, and if `one_string`, with its first zero.
template <class Space>
void copy_text(Space& space, std::uint64_t begin, std::uint64_t end, bool one_string, text_builder& out)
{
    char piece[256];
    while (begin < end && out.status()) {
        // Within a page: what lies behind may have been unmapped.
        const std::uint64_t in_page = page_size - (begin & (page_size - 1));
        std::uint64_t size = end - begin < sizeof(piece) ? end - begin : sizeof(piece);
        size = size < in_page ? size : in_page;
        if (!space.read(virt_addr{begin}, std::as_writable_bytes(std::span{piece}.first(size))))
            return;
        const std::string_view text{piece, size};
        const auto zero = one_string ? text.find('\0') : text.npos;
        out.put(text.substr(0, zero == text.npos ? zero : zero + 1));
        if (zero != text.npos)
            return;
        begin += size;
    }
}

// The arguments as they are in the program's memory. One that wrote over the last zero has made a title of them, which
// may reach into its environment (setproctitle).
template <class System>
result<> write_process_command_line(process<System>& p, text_builder& out)
{
    const auto image = p.find_image();
    if (!image || image->arguments.empty())
        return {};
    const auto& arguments = image->arguments;
    auto& space = image->space();
    char last = '\0';
    const bool read = space.read(virt_addr{arguments.end - 1}, std::as_writable_bytes(std::span{&last, 1})).has_value();
    const bool title = read && last != '\0';
    copy_text(space, arguments.begin, title ? image->environment.end : arguments.end, title, out);
    return out.status();
}

template <class System>
result<> write_name(process<System>& p, process_id of, text_builder& out)
{
    return out.line(EXO_TRY(facts_of(p, of)).name).status();
}

inline constexpr std::size_t name_column = 73; // of maps and smaps

// The line of a region in maps, which is also the first in smaps.
template <class Image>
void write_region(const Image& image, const mm::region_info& r, text_builder& out)
{
    const auto flag = [&r](mm::protection right, char c) { return includes(r.access, right) ? c : '-'; };
    const mm::pager_identity identity = r.backing ? r.backing->identity() : mm::pager_identity{};
    out.put(hex{r.range.begin.value(), 8}, '-', hex{r.range.end.value(), 8}, ' ', flag(mm::protection::read, 'r'),
            flag(mm::protection::write, 'w'), flag(mm::protection::execute, 'x'),
            r.kind == mm::sharing::shared ? 's' : 'p', ' ', hex{r.backing ? r.offset : 0, 8}, ' ',
            hex{identity.device >> 8, 2}, ':', hex{identity.device & 0xff, 2}, ' ', identity.inode, ' ');
    const std::string_view name = r.heap                                           ? "[heap]"
                                  : r.range.contains(virt_addr{image.stack_start}) ? "[stack]"
                                  : r.backing                                      ? r.backing->name()
                                                                                   : std::string_view{};
    if (!name.empty())
        out.fill_to(name_column);
    out.line(name);
}

template <class System>
result<> write_process_maps(process<System>& p, text_builder& out)
{
    const auto image = p.find_image();
    if (!image)
        return {};
    image->space().for_each_region([&](const mm::region_info& r) {
        write_region(*image, r, out);
        return true;
    });
    return out.status();
}

inline void write_amount(std::string_view name, std::uint64_t bytes, text_builder& out)
{
    constexpr std::size_t value_column = 16;
    out.put(name, ':').fill_to(value_column);
    out.line(right{bytes / 1024, 8}, " kB");
}

inline void write_usage(const mm::region_usage& u, std::uint64_t locked, text_builder& out)
{
    write_amount("Rss", u.resident, out);
    write_amount("Pss", u.proportional, out);
    write_amount("Pss_Dirty", u.proportional_dirty, out);
    write_amount("Shared_Clean", u.shared_clean, out);
    write_amount("Shared_Dirty", u.shared_dirty, out);
    write_amount("Private_Clean", u.private_clean, out);
    write_amount("Private_Dirty", u.private_dirty, out);
    write_amount("Referenced", u.referenced, out);
    write_amount("Anonymous", u.anonymous, out);
    write_amount("LazyFree", 0, out);
    write_amount("AnonHugePages", u.large, out);
    constexpr const char* never[] = {"ShmemPmdMapped",  "FilePmdMapped", "Shared_Hugetlb",
                                     "Private_Hugetlb", "Swap",          "SwapPss"};
    for (const auto* name : never)
        write_amount(name, 0, out);
    write_amount("Locked", locked, out);
}

// What a region is, in Linux's two-letter words and their order.
inline void write_region_flags(const mm::region_info& r, text_builder& out)
{
    const bool shared = r.kind == mm::sharing::shared;
    const struct {
        bool set;
        const char* name;
    } flags[] = {
        {includes(r.access, mm::protection::read), "rd"},
        {includes(r.access, mm::protection::write), "wr"},
        {includes(r.access, mm::protection::execute), "ex"},
        {shared && r.may_be_written(), "sh"},
        {true, "mr"},
        {r.may_be_written(), "mw"},
        {r.may_execute, "me"},
        {shared, "ms"},
        {r.grows == mm::growth::down, "gd"},
        {r.locked != mm::locking::none, "lo"},
        {r.advice.order == mm::access_order::sequential, "sr"},
        {r.advice.order == mm::access_order::random, "rr"},
        {r.advice.fork == mm::at_fork::absent, "dc"},
        {r.locked == mm::locking::on_fault, "lf"},
        {r.advice.fork == mm::at_fork::empty, "wf"},
        {!r.advice.dumped, "dd"},
        {r.advice.large == mm::large_pages::wanted, "hg"},
        {r.advice.large == mm::large_pages::refused, "nh"},
    };
    out.put("VmFlags: ");
    for (const auto& flag : flags)
        if (flag.set)
            out.put(flag.name, ' ');
    out.put('\n');
}

template <class System>
result<> write_process_memory_usage(process<System>& p, text_builder& out)
{
    const auto image = p.find_image();
    if (!image)
        return {};
    image->space().for_each_region([&](const mm::region_info& r) {
        const auto usage = image->space().usage(r);
        write_region(*image, r, out);
        write_amount("Size", r.range.size(), out);
        write_amount("KernelPageSize", page_size, out);
        write_amount("MMUPageSize", page_size, out);
        write_usage(usage, r.locked == mm::locking::none ? 0 : usage.proportional, out);
        out.line("THPeligible:    ", r.is_anonymous() && r.advice.large != mm::large_pages::refused ? 1 : 0);
        write_region_flags(r, out);
        return out.status().has_value();
    });
    return out.status();
}

template <class System>
result<> write_process_memory_sum(process<System>& p, text_builder& out)
{
    const auto image = p.find_image();
    if (!image)
        return {};
    mm::region_usage sum;
    std::uint64_t locked = 0;
    virt_range all{};
    image->space().for_each_region([&](const mm::region_info& r) {
        const auto usage = image->space().usage(r);
        sum += usage;
        locked += r.locked == mm::locking::none ? 0 : usage.proportional;
        all = {all.empty() ? r.range.begin : all.begin, r.range.end};
        return true;
    });
    out.put(hex{all.begin.value(), 8}, '-', hex{all.end.value(), 8}, " ---p 00000000 00:00 0 ").fill_to(name_column);
    out.line("[rollup]");
    write_usage(sum, locked, out);
    return out.status();
}

// Where `where` can be found from the root of all. Errors: fs::errors::not_found for an empty one.
template <class System>
result<> write_place(System& system, const fs::location& where, text_builder& out)
{
    if (!where)
        return fail(fs::errors::not_found);
    auto text = EXO_TRY(owned_array<char>::create(system.heap(), fs::longest_path));
    const std::size_t length = EXO_TRY(
        system.vfs().path_of(system.vfs().initial_context(), where, std::span<char>{text.data(), text.size()}));
    return out.put(std::string_view{text.data(), length}).status();
}

template <class System>
result<> write_process_executable(process<System>& p, text_builder& out)
{
    const auto image = p.find_image();
    return write_place(p.system(), image && image->executable ? image->executable->where() : fs::location{}, out);
}

template <class System>
result<> write_process_directory(process<System>& p, text_builder& out)
{
    return write_place(p.system(), p.copy_paths().working_directory, out);
}

template <class System>
result<> write_process_root(process<System>& p, text_builder& out)
{
    return write_place(p.system(), p.copy_paths().root, out);
}

// Errors: fs::errors::not_found.
template <class System>
[[nodiscard]] result<ref<fs::file>> find_descriptor(process<System>& p, int descriptor)
{
    const auto descriptors = p.find_descriptors();
    if (descriptors)
        if (auto opened = descriptors->get(descriptor))
            return opened;
    return fail(fs::errors::not_found);
}

// What a descriptor stands for: the target of /proc/PID/fd/N. Errors: fs::errors::not_found.
template <class System>
result<> write_descriptor(process<System>& p, int descriptor, text_builder& out)
{
    const auto opened = EXO_TRY(find_descriptor(p, descriptor));
    if (opened->where())
        return write_place(p.system(), opened->where(), out);
    return out.put("pipe:[", opened->node().number(), ']').status();
}

} // namespace exo::proc
