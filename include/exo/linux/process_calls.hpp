// System calls about processes: their making and end, identity, groups, limits.

#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include <exo/base/allocator.hpp>
#include <exo/base/errors.hpp>
#include <exo/fs/errors.hpp>
#include <exo/fs/status.hpp>
#include <exo/linux/call.hpp>
#include <exo/linux/restartable_sequence.hpp>
#include <exo/linux/signal_frame.hpp>
#include <exo/linux/time_structures.hpp>
#include <exo/proc/credentials.hpp>
#include <exo/proc/errors.hpp>
#include <exo/proc/exec.hpp>
#include <exo/proc/exit.hpp>
#include <exo/proc/fork.hpp>
#include <exo/proc/groups.hpp>
#include <exo/proc/process_usage.hpp>
#include <exo/proc/resource.hpp>
#include <exo/proc/robust_list.hpp>
#include <exo/proc/spawn.hpp>
#include <exo/proc/string_list.hpp>
#include <exo/proc/user_copy.hpp>
#include <exo/proc/wait.hpp>

namespace exo::linux_abi {

// Making processes.

namespace clone_flag {
inline constexpr std::uint64_t exit_signal = 0xff, memory = 0x100, file_places = 0x200, descriptors = 0x400,
                               handlers = 0x800, parent_waits = 0x4000, same_parent = 0x8000, thread = 0x10000,
                               set_tls = 0x80000, set_parent_id = 0x100000, clear_child_id = 0x200000,
                               detached = 0x400000, set_child_id = 0x1000000, clear_handlers = 0x100000000;
inline constexpr std::uint64_t ignored = 0x40000 | detached | 0x800000; // SYSVSEM, DETACHED, UNTRACED
// What the threads of a process have in common here.
inline constexpr std::uint64_t common = memory | file_places | descriptors | handlers;
inline constexpr std::uint64_t known = exit_signal | memory | descriptors | parent_waits | set_tls | set_parent_id |
                                       clear_child_id | set_child_id | clear_handlers | ignored;
} // namespace clone_flag

struct clone_request {
    std::uint64_t flags{};
    std::uint64_t stack_pointer{}; // 0: the parent's
    user_addr parent_id{};
    user_addr child_id{};
    std::uint64_t tls{};
};

// Errors: invalid_argument, for what makes no sense together; unknown_call, for what is not there: places in the file
// system or signal handlers in common between processes, and threads that do not have all in common that they can.
[[nodiscard]] inline result<> check_clone_flags(std::uint64_t flags)
{
    namespace flag = clone_flag;
    const auto has = [flags](std::uint64_t bit) { return (flags & bit) != 0; };
    if ((has(flag::thread) && !has(flag::handlers)) || (has(flag::handlers) && !has(flag::memory)) ||
        (has(flag::handlers) && has(flag::clear_handlers)) ||
        (flags & flag::exit_signal) > static_cast<unsigned>(proc::signal::last))
        return fail(errors::invalid_argument, flags);
    const std::uint64_t known = has(flag::thread) ? flag::known | flag::common | flag::thread : flag::known;
    if ((flags & ~known) != 0 ||
        (has(flag::thread) && ((flags & flag::common) != flag::common || has(flag::parent_waits))))
        return fail(proc::errors::unknown_call, flags);
    return {};
}

template <class System>
result<std::int32_t> clone_process(call<System>& c, const clone_request& wanted)
{
    namespace flag = clone_flag;
    EXO_TRY(check_clone_flags(wanted.flags));
    const auto has = [&wanted](std::uint64_t bit) { return (wanted.flags & bit) != 0; };
    if (has(flag::set_tls) && wanted.tls >= c.system.user_mode().user_limit().value())
        return fail(errors::not_permitted, wanted.tls);

    auto frame = c.frame;
    frame.rax = 0;
    if (wanted.stack_pointer != 0)
        frame.rsp = wanted.stack_pointer;
    const user_addr clear_id_at_exit = has(flag::clear_child_id) ? wanted.child_id : user_addr{};
    if (has(flag::thread)) {
        const proc::spawn_request request{.tls = has(flag::set_tls) ? std::optional{wanted.tls} : std::nullopt,
                                          .clear_id_at_exit = clear_id_at_exit};
        return proc::spawn_thread(c.thread, frame, request, [&](proc::thread<System>& made) {
            // Who cannot be told does without, as on Linux.
            if (has(flag::set_parent_id))
                static_cast<void>(c.write_object(wanted.parent_id, made.id()));
            if (has(flag::set_child_id))
                static_cast<void>(c.write_object(wanted.child_id, made.id()));
        });
    }
    const proc::fork_request request{.share_image = has(flag::memory),
                                     .wait_for_release = has(flag::parent_waits),
                                     .share_descriptors = has(flag::descriptors),
                                     .reset_handlers = has(flag::clear_handlers),
                                     .exit_signal = static_cast<proc::signal>(wanted.flags & flag::exit_signal),
                                     .set_tls = has(flag::set_tls),
                                     .tls = wanted.tls,
                                     .clear_id_at_exit = clear_id_at_exit};
    return proc::fork_process(c.thread, frame, request, [&](proc::process<System>& child) {
        const proc::process_id id = child.id();
        // Who cannot be told does without, as on Linux.
        if (has(flag::set_parent_id))
            static_cast<void>(c.write_object(wanted.parent_id, id));
        if (has(flag::set_child_id))
            static_cast<void>(child.image().space().write(virt_addr{wanted.child_id.value()},
                                                          std::as_bytes(std::span{&id, 1})));
    });
}

template <class System>
result<std::int32_t> sys_fork(call<System>& c)
{
    return clone_process(c, {.flags = static_cast<std::uint64_t>(proc::signal::sigchld)});
}

template <class System>
result<std::int32_t> sys_vfork(call<System>& c)
{
    return clone_process(c, {.flags = clone_flag::memory | clone_flag::parent_waits |
                                      static_cast<std::uint64_t>(proc::signal::sigchld)});
}

template <class System>
result<std::int32_t> sys_clone(call<System>& c, std::uint64_t flags, std::uint64_t stack, user_addr parent_id,
                               user_addr child_id, std::uint64_t tls)
{
    return clone_process(c, {flags & 0xffffffff, stack, parent_id, child_id, tls});
}

struct clone_record { // struct clone_args, version 0
    std::uint64_t flags, pid_descriptor, child_id, parent_id, exit_signal, stack, stack_size, tls;
};

template <class System>
result<std::int32_t> sys_clone3(call<System>& c, user_addr arguments, std::uint64_t size)
{
    if (size < sizeof(clone_record))
        return fail(errors::invalid_argument, size);
    const auto record = EXO_TRY(c.template read_object<clone_record>(arguments));
    if ((record.flags & (clone_flag::exit_signal | clone_flag::detached)) != 0 ||
        (record.stack == 0) != (record.stack_size == 0) ||
        ((record.flags & (clone_flag::thread | clone_flag::same_parent)) != 0 && record.exit_signal != 0))
        return fail(errors::invalid_argument, record.flags);
    return clone_process(c, {record.flags | record.exit_signal, record.stack + record.stack_size,
                             user_addr{record.parent_id}, user_addr{record.child_id}, record.tls});
}

// Appends the strings that an array of pointers, ended by a null one, leads to. Errors: bad_address,
// arguments_too_long, out_of_memory.
template <class System>
[[nodiscard]] result<> read_strings(call<System>& c, user_addr array, proc::string_list& into)
{
    constexpr std::size_t most_bytes = 6 << 20; // of all strings: Linux's three quarters of 8 MiB
    constexpr std::size_t piece = 512;
    for (std::uint64_t i = 0; array.value() != 0; ++i) {
        const auto string = EXO_TRY(c.template read_object<std::uint64_t>(array + i * sizeof(std::uint64_t)));
        if (string == 0)
            break;
        std::size_t length = 0;
        for (bool complete = false; !complete;) {
            const std::size_t to_page_end = page_size - ((string + length) & (page_size - 1));
            const std::size_t wanted = to_page_end < piece ? to_page_end : piece;
            const auto room = EXO_TRY(into.room(wanted));
            const auto copied = proc::copy_from_user(c.system, reinterpret_cast<std::byte*>(room.data()),
                                                     user_addr{string} + length, wanted);
            const void* end = copied == 0 ? nullptr : std::memchr(room.data(), 0, copied);
            complete = end != nullptr;
            if (!complete && copied < wanted)
                return fail(errors::bad_address, string + length + copied);
            const std::size_t taken =
                complete ? static_cast<std::size_t>(static_cast<const char*>(end) - room.data()) + 1 : copied;
            into.commit(taken, complete);
            length += taken;
            if (length > elf::longest_argument || into.bytes().size() > most_bytes)
                return fail(proc::errors::arguments_too_long, into.bytes().size());
        }
    }
    return {};
}

template <class System>
result<void> execute_at(call<System>& c, const fs::location* start, user_addr path, user_addr arguments,
                        user_addr environment)
{
    auto text = EXO_TRY(owned_array<char>::create(c.system.heap(), fs::longest_path + 1));
    const auto name = EXO_TRY(c.read_string(path, std::span<char>{text}));
    proc::string_list argument_strings{c.system.heap()};
    proc::string_list environment_strings{c.system.heap()};
    EXO_TRY(read_strings(c, arguments, argument_strings));
    EXO_TRY(read_strings(c, environment, environment_strings));
    if (argument_strings.count() == 0)
        EXO_TRY(argument_strings.append("")); // as Linux does, so that argv[0] is always there
    c.frame = EXO_TRY(proc::execute(c.thread, fs::path{name, start}, argument_strings, environment_strings));
    return {};
}

template <class System>
result<void> sys_execve(call<System>& c, user_addr path, user_addr arguments, user_addr environment)
{
    return execute_at(c, nullptr, path, arguments, environment);
}

// The end of threads and processes.

template <class System>
result<void> sys_exit(call<System>& c, std::int32_t code)
{
    proc::exit_thread(c.thread, proc::wait_status::exited(code));
}

template <class System>
result<void> sys_exit_group(call<System>& c, std::int32_t code)
{
    proc::exit_process(c.thread, proc::wait_status::exited(code));
}

struct usage_record { // struct rusage
    microsecond_record user, system;
    std::int64_t most_resident, shared_text, data, stack, minor_faults, major_faults, swaps, blocks_in, blocks_out,
        messages_sent, messages_received, signals, voluntary_switches, involuntary_switches;
};
static_assert(sizeof(usage_record) == 144);

[[nodiscard]] inline usage_record to_record(const proc::resource_usage& usage)
{
    usage_record record{};
    record.user = to_microseconds(usage.user);
    record.system = to_microseconds(usage.system);
    record.minor_faults = static_cast<std::int64_t>(usage.minor_faults);
    record.major_faults = static_cast<std::int64_t>(usage.major_faults);
    record.voluntary_switches = static_cast<std::int64_t>(usage.voluntary_switches);
    record.involuntary_switches = static_cast<std::int64_t>(usage.involuntary_switches);
    return record;
}

namespace wait_flag {
inline constexpr std::uint32_t no_hang = 1, stopped = 2, ended = 4, continued = 8, leave = 0x1000000;
inline constexpr std::uint32_t thread_kinds = 0x20000000 | 0x40000000 | 0x80000000; // all wait for all
} // namespace wait_flag

template <class System>
result<std::int32_t> sys_wait4(call<System>& c, std::int32_t which, user_addr status, std::uint32_t options,
                               user_addr usage)
{
    using namespace wait_flag;
    if ((options & ~(no_hang | stopped | continued | thread_kinds)) != 0)
        return fail(errors::invalid_argument, options);
    if (which == INT32_MIN)
        return fail(proc::errors::no_process);
    const auto report = EXO_TRY(proc::wait_for_child(c.process, {.which = which,
                                                                 .stopped = (options & stopped) != 0,
                                                                 .continued = (options & continued) != 0,
                                                                 .no_hang = (options & no_hang) != 0}));
    if (report.id == 0)
        return 0;
    if (status.value() != 0)
        EXO_TRY(c.write_object(status, static_cast<std::int32_t>(report.status.word())));
    if (usage.value() != 0)
        EXO_TRY(c.write_object(usage, to_record(report.usage)));
    return report.id;
}

template <class System>
result<void> sys_waitid(call<System>& c, std::int32_t kind, std::int32_t id, user_addr info, std::uint32_t options,
                        user_addr usage)
{
    using namespace wait_flag;
    constexpr std::int32_t all = 0, process = 1, group = 2;
    if ((options & ~(no_hang | stopped | ended | continued | leave | thread_kinds)) != 0 ||
        (options & (stopped | ended | continued)) == 0 || kind < all || kind > group || (kind == process && id <= 0) ||
        (kind == group && id < 0))
        return fail(errors::invalid_argument, options);
    const auto report =
        EXO_TRY(proc::wait_for_child(c.process, {.which = kind == all ? -1 : kind == process ? id : -id,
                                                 .stopped = (options & stopped) != 0,
                                                 .continued = (options & continued) != 0,
                                                 .ended = (options & ended) != 0,
                                                 .no_hang = (options & no_hang) != 0,
                                                 .leave = (options & leave) != 0}));
    if (info.value() != 0) {
        proc::signal_info told{};
        if (report.id != 0) {
            const auto [code, status] = report.status.child_signal();
            told = {.number = proc::signal::sigchld, .code = code, .sender = report.id, .user = report.user,
                    .status = status};
        }
        EXO_TRY(c.write_object(info, to_record(told)));
    }
    if (usage.value() != 0 && report.id != 0)
        EXO_TRY(c.write_object(usage, to_record(report.usage)));
    return {};
}

// Identity.

template <class System>
result<std::int32_t> sys_getpid(call<System>& c)
{
    return c.process.id();
}

template <class System>
result<std::int32_t> sys_gettid(call<System>& c)
{
    return c.thread.id();
}

template <class System>
result<std::int32_t> sys_getppid(call<System>& c)
{
    auto guard = c.system.processes().lock();
    return c.process.parent ? c.process.parent->id() : 0;
}

// The member `Field` of the process that `id` names, by any of its threads, 0 being the caller. Errors: no_process.
template <auto Field, class System>
[[nodiscard]] result<std::int32_t> field_of(call<System>& c, std::int32_t id)
{
    auto guard = c.system.processes().lock();
    auto* target = id == 0 ? &c.process : c.system.processes().find_owner(guard, id);
    if (!target)
        return fail(proc::errors::no_process, static_cast<std::uint64_t>(id));
    return target->*Field;
}

template <class System>
result<std::int32_t> sys_getpgid(call<System>& c, std::int32_t id)
{
    return field_of<&proc::process<System>::group>(c, id);
}

template <class System>
result<std::int32_t> sys_getpgrp(call<System>& c)
{
    return field_of<&proc::process<System>::group>(c, 0);
}

template <class System>
result<std::int32_t> sys_getsid(call<System>& c, std::int32_t id)
{
    return field_of<&proc::process<System>::session>(c, id);
}

template <class System>
result<void> sys_setpgid(call<System>& c, std::int32_t id, std::int32_t group)
{
    return proc::set_group(c.process, id, group);
}

template <class System>
result<std::int32_t> sys_setsid(call<System>& c)
{
    return proc::start_session(c.process);
}

template <class System>
result<std::uint32_t> sys_getuid(call<System>& c)
{
    return c.identity().user.real;
}

template <class System>
result<std::uint32_t> sys_geteuid(call<System>& c)
{
    return c.identity().user.effective;
}

template <class System>
result<std::uint32_t> sys_getgid(call<System>& c)
{
    return c.identity().group.real;
}

template <class System>
result<std::uint32_t> sys_getegid(call<System>& c)
{
    return c.identity().group.effective;
}

// Applies `change` to the caller's identity, as a whole or not at all.
template <class System, class Change>
[[nodiscard]] result<> change_identity(call<System>& c, Change change)
{
    auto guard = c.process.lock();
    auto identity = c.process.identity;
    EXO_TRY(change(identity));
    c.process.identity = identity;
    c.process.publish_identity();
    return {};
}

template <class System>
result<void> sys_setuid(call<System>& c, std::uint32_t id)
{
    return change_identity(c, [id](auto& who) { return proc::set_id(who.user, id, who.privileged()); });
}

template <class System>
result<void> sys_setgid(call<System>& c, std::uint32_t id)
{
    return change_identity(c, [id](auto& who) { return proc::set_id(who.group, id, who.privileged()); });
}

template <class System>
result<void> sys_setresuid(call<System>& c, std::uint32_t real, std::uint32_t effective, std::uint32_t saved)
{
    return change_identity(
        c, [=](auto& who) { return proc::set_ids(who.user, real, effective, saved, who.privileged()); });
}

template <class System>
result<void> sys_setresgid(call<System>& c, std::uint32_t real, std::uint32_t effective, std::uint32_t saved)
{
    return change_identity(
        c, [=](auto& who) { return proc::set_ids(who.group, real, effective, saved, who.privileged()); });
}

// setreuid and setregid: the saved id follows the effective one if the real one changes, or the effective one becomes
// another than the real one was.
[[nodiscard]] inline result<> set_pair(proc::id_set& ids, std::uint32_t real, std::uint32_t effective, bool privileged)
{
    constexpr std::uint32_t keep = ~std::uint32_t{0};
    const auto before = ids;
    if (!privileged && real != keep && real != before.real && real != before.effective)
        return fail(errors::not_permitted);
    EXO_TRY(proc::set_ids(ids, real, effective, keep, privileged));
    if (real != keep || (effective != keep && effective != before.real))
        ids.saved = ids.effective;
    return {};
}

template <class System>
result<void> sys_setreuid(call<System>& c, std::uint32_t real, std::uint32_t effective)
{
    return change_identity(c, [=](auto& who) { return set_pair(who.user, real, effective, who.privileged()); });
}

template <class System>
result<void> sys_setregid(call<System>& c, std::uint32_t real, std::uint32_t effective)
{
    return change_identity(c, [=](auto& who) { return set_pair(who.group, real, effective, who.privileged()); });
}

template <class System>
[[nodiscard]] result<> write_ids(call<System>& c, const proc::id_set& ids, user_addr real, user_addr effective,
                                 user_addr saved)
{
    EXO_TRY(c.write_object(real, ids.real));
    EXO_TRY(c.write_object(effective, ids.effective));
    return c.write_object(saved, ids.saved);
}

template <class System>
result<void> sys_getresuid(call<System>& c, user_addr real, user_addr effective, user_addr saved)
{
    return write_ids(c, c.identity().user, real, effective, saved);
}

template <class System>
result<void> sys_getresgid(call<System>& c, user_addr real, user_addr effective, user_addr saved)
{
    return write_ids(c, c.identity().group, real, effective, saved);
}

template <class System>
result<std::uint64_t> sys_getgroups(call<System>& c, std::int32_t size, user_addr to)
{
    const std::span<const std::uint32_t> groups = c.identity().groups;
    if (size < 0 || (size != 0 && static_cast<std::size_t>(size) < groups.size()))
        return fail(errors::invalid_argument, static_cast<std::uint64_t>(size));
    if (size != 0)
        EXO_TRY(c.write(to, std::as_bytes(groups)));
    return groups.size();
}

template <class System>
result<void> sys_setgroups(call<System>& c, std::uint32_t size, user_addr from)
{
    if (!c.identity().privileged())
        return fail(errors::not_permitted);
    if (size > proc::credentials::group_limit)
        return fail(errors::invalid_argument, size);
    std::uint32_t groups[proc::credentials::group_limit];
    EXO_TRY(c.read(from, std::as_writable_bytes(std::span{groups}.first(size))));
    return change_identity(c, [&](auto& who) -> result<> {
        who.groups.clear();
        for (std::uint32_t i = 0; i < size; ++i)
            who.groups.push_back(groups[i]);
        return {};
    });
}

// What a thread registers about itself.

template <class System>
result<std::int32_t> sys_set_tid_address(call<System>& c, user_addr at)
{
    c.thread.clear_id_at_exit = at;
    return c.thread.id();
}

template <class System>
result<void> sys_set_robust_list(call<System>& c, user_addr head, std::uint64_t size)
{
    if (size != sizeof(proc::robust_list_head))
        return fail(errors::invalid_argument, size);
    auto guard = c.process.lock();
    c.thread.robust_list = head;
    return {};
}

template <class System>
result<void> sys_get_robust_list(call<System>& c, std::int32_t id, user_addr head, user_addr size)
{
    const proc::id_set caller = c.identity().user;
    const auto found = [&]() -> result<user_addr> {
        auto guard = c.system.processes().lock();
        auto* const t = id == 0 ? &c.thread : c.system.processes().find_thread(guard, id);
        if (!t)
            return fail(proc::errors::no_process, static_cast<std::uint64_t>(id));
        auto locked = t->process().lock();
        // Linux asks for what ptrace asks for.
        if (&t->process() != &c.process && caller.effective != 0 && t->process().identity.user.real != caller.real)
            return fail(errors::not_permitted, static_cast<std::uint64_t>(id));
        return t->robust_list;
    };
    const auto list = EXO_TRY(found());
    EXO_TRY(c.write_object(size, std::uint64_t{sizeof(proc::robust_list_head)}));
    return c.write_object(head, list.value());
}

template <class System>
result<void> sys_arch_prctl(call<System>& c, std::uint32_t operation, std::uint64_t value)
{
    constexpr std::uint32_t set_gs = 0x1001, set_fs = 0x1002, get_fs = 0x1003, get_gs = 0x1004;
    auto& mode = c.system.user_mode();
    const bool sets = operation == set_fs || operation == set_gs;
    const bool gs = operation == set_gs || operation == get_gs;
    if (!sets && operation != get_fs && operation != get_gs)
        return fail(errors::invalid_argument, operation);
    if (sets && value >= mode.user_limit().value())
        return fail(errors::not_permitted);
    auto& state = c.thread.state;
    const auto interrupts = c.system.interrupts().save_and_disable();
    mode.save(state);
    if (sets) {
        gs ? mode.set_gs_base(state, value) : mode.set_tls_base(state, value);
        mode.load(state);
    }
    const std::uint64_t base = gs ? mode.gs_base(state) : mode.tls_base(state);
    c.system.interrupts().restore(interrupts);
    return sets ? result<void>{} : c.write_object(user_addr{value}, base);
}

// Of the personalities there is Linux's own, with random placement or without.
template <class System>
result<std::uint32_t> sys_personality(call<System>& c, std::uint32_t wanted)
{
    constexpr std::uint32_t no_randomization = 0x0040000, only_ask = 0xffffffff;
    const std::uint32_t before = c.process.randomizes ? 0 : no_randomization;
    if (wanted == only_ask)
        return before;
    if ((wanted & ~no_randomization) != 0)
        return fail(errors::invalid_argument, wanted);
    c.process.randomizes = wanted == 0;
    return before;
}

template <class System>
result<std::uint64_t> sys_prctl(call<System>& c, std::int32_t operation, std::uint64_t value)
{
    constexpr std::int32_t get_dumpable = 3, set_dumpable = 4, set_name = 15, get_name = 16, set_no_new_rights = 38,
                           get_no_new_rights = 39;
    char name[proc::process<System>::name_limit + 1]{};
    switch (operation) {
    case get_dumpable:
        return std::uint64_t{1};
    case get_no_new_rights:
        return std::uint64_t{c.process.gains_no_rights};
    case set_dumpable:
        return value <= 1 ? result<std::uint64_t>{0} : fail(errors::invalid_argument, value);
    case set_no_new_rights:
        if (value != 1)
            return fail(errors::invalid_argument, value);
        c.process.gains_no_rights = true;
        return std::uint64_t{0};
    case set_name: {
        const auto read = c.read_string(user_addr{value}, std::span{name}.first(sizeof(name) - 1));
        if (!read && read.error() != fs::errors::name_too_long)
            return fail(read.error());
        const std::string_view text{name, read ? read->size() : sizeof(name) - 1};
        auto guard = c.process.lock();
        if (&c.thread == c.process.main_thread)
            c.process.set_name(text);
        c.system.rename(c.thread, text);
        return std::uint64_t{0};
    }
    case get_name: {
        const auto text = c.thread.task.name();
        for (std::size_t i = 0; i < text.size(); ++i)
            name[i] = text[i];
        EXO_TRY(c.write_object(user_addr{value}, name));
        return std::uint64_t{0};
    }
    default:
        return fail(errors::invalid_argument, static_cast<std::uint64_t>(operation));
    }
}

// Limits and usage.

template <class System>
[[nodiscard]] result<> change_limit(bool privileged, proc::process<System>& target, proc::resource which,
                                    const proc::resource_limit& next)
{
    constexpr std::uint64_t most_descriptors = 1 << 20; // fs.nr_open
    if (next.soft > next.hard)
        return fail(errors::invalid_argument, next.soft);
    if (next.hard > target.limits[which].hard && !privileged)
        return fail(errors::not_permitted);
    if (which == proc::resource::open_files) {
        if (next.hard > most_descriptors)
            return fail(errors::not_permitted);
        if (const auto files = target.find_descriptors())
            files->set_limit(next.soft);
    }
    if (which == proc::resource::stack)
        if (const auto image = target.find_image())
            image->space().limit_growth(next.soft);
    target.limits.set(which, next);
    return {};
}

template <class System>
result<void> sys_prlimit64(call<System>& c, std::int32_t id, std::uint32_t which, user_addr next, user_addr previous)
{
    if (which >= proc::resource_count)
        return fail(errors::invalid_argument, which);
    const auto target = id == 0 ? ref{c.process} : c.system.processes().find_owner(id);
    if (!target)
        return fail(proc::errors::no_process, static_cast<std::uint64_t>(id));
    const proc::id_set caller = c.identity().user;
    if (target.get() != &c.process && caller.effective != 0 && caller.real != target->user_ids().real)
        return fail(errors::not_permitted);
    const auto resource = static_cast<proc::resource>(which);
    const auto before = target->limits[resource];
    if (next.value() != 0) {
        const auto wanted = EXO_TRY(c.template read_object<proc::resource_limit>(next));
        EXO_TRY(change_limit(c.identity().privileged(), *target, resource, wanted));
    }
    return previous.value() == 0 ? result<void>{} : c.write_object(previous, before);
}

template <class System>
result<void> sys_getrlimit(call<System>& c, std::uint32_t which, user_addr to)
{
    return to.value() == 0 ? result<void>{fail(errors::bad_address)} : sys_prlimit64(c, 0, which, {}, to);
}

template <class System>
result<void> sys_setrlimit(call<System>& c, std::uint32_t which, user_addr from)
{
    return from.value() == 0 ? result<void>{fail(errors::bad_address)} : sys_prlimit64(c, 0, which, from, {});
}

template <class System>
result<void> sys_getrusage(call<System>& c, std::int32_t who, user_addr to)
{
    constexpr std::int32_t self = 0, children = -1, thread = 1;
    proc::resource_usage usage;
    if (who == children) {
        auto guard = c.system.processes().lock();
        usage = c.process.children_usage;
    } else if (who == self || who == thread) {
        auto guard = c.process.lock();
        usage = who == self ? proc::usage_of(c.process) : c.thread.usage();
    } else {
        return fail(errors::invalid_argument, static_cast<std::uint64_t>(who));
    }
    return c.write_object(to, to_record(usage));
}

template <class System, class Table>
constexpr void add_process_calls(Table& table)
{
    table.template set<sys_fork<System>>(number::fork);
    table.template set<sys_vfork<System>>(number::vfork);
    table.template set<sys_clone<System>>(number::clone);
    table.template set<sys_clone3<System>>(number::clone3);
    table.template set<sys_execve<System>>(number::execve);
    table.template set<sys_exit<System>>(number::exit);
    table.template set<sys_exit_group<System>>(number::exit_group);
    table.template set<sys_wait4<System>>(number::wait4);
    table.template set<sys_waitid<System>>(number::waitid);
    table.template set<sys_getpid<System>>(number::getpid);
    table.template set<sys_gettid<System>>(number::gettid);
    table.template set<sys_getppid<System>>(number::getppid);
    table.template set<sys_getpgid<System>>(number::getpgid);
    table.template set<sys_getpgrp<System>>(number::getpgrp);
    table.template set<sys_getsid<System>>(number::getsid);
    table.template set<sys_setpgid<System>>(number::setpgid);
    table.template set<sys_setsid<System>>(number::setsid);
    table.template set<sys_getuid<System>>(number::getuid);
    table.template set<sys_geteuid<System>>(number::geteuid);
    table.template set<sys_getgid<System>>(number::getgid);
    table.template set<sys_getegid<System>>(number::getegid);
    table.template set<sys_setuid<System>>(number::setuid);
    table.template set<sys_setgid<System>>(number::setgid);
    table.template set<sys_setreuid<System>>(number::setreuid);
    table.template set<sys_setregid<System>>(number::setregid);
    table.template set<sys_setresuid<System>>(number::setresuid);
    table.template set<sys_setresgid<System>>(number::setresgid);
    table.template set<sys_getresuid<System>>(number::getresuid);
    table.template set<sys_getresgid<System>>(number::getresgid);
    table.template set<sys_getgroups<System>>(number::getgroups);
    table.template set<sys_setgroups<System>>(number::setgroups);
    table.template set<sys_set_tid_address<System>>(number::set_tid_address);
    table.template set<sys_set_robust_list<System>>(number::set_robust_list);
    table.template set<sys_get_robust_list<System>>(number::get_robust_list);
    table.template set<sys_rseq<System>>(number::rseq);
    table.template set<sys_arch_prctl<System>>(number::arch_prctl);
    table.template set<sys_personality<System>>(number::personality);
    table.template set<sys_prctl<System>>(number::prctl);
    table.template set<sys_prlimit64<System>>(number::prlimit64);
    table.template set<sys_getrlimit<System>>(number::getrlimit);
    table.template set<sys_setrlimit<System>>(number::setrlimit);
    table.template set<sys_getrusage<System>>(number::getrusage);
}

} // namespace exo::linux_abi
